//! The host's side of a mount: where its path leads, and that no container has bent the way.
//!
//! A path of the host may lie in a directory that some container writes in. A link there may be of
//! that container's making, and is followed only as far as the container reaches itself: to what
//! lies in the same directory. What comes out is a path without links, and the mount is made by
//! opening it so: whatever is bent after the look is an error and not another directory.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use overlayfs::transfer;
use sys::fs::{Dir, Follow, Kind, errno};

use super::union::replace_branches;
use super::{MountKind, MountPoint, union_of};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::store::Container;
use crate::volume::{DriverMount, driver_mount, union_branches};

/// Links after which a path is taken for a loop; the kernel's own limit.
const LINK_LIMIT: usize = 40;

/// What becomes of a missing host path of `-v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    /// It is made.
    Make,
    /// It is left as it is: nothing is started.
    Leave,
}

/// The mounts of a container as its start makes them: sources without links, missing ones made
/// where they may be.
///
/// # Errors
/// Docker's text for a source that is missing or cannot be made; a link that leads out of what a
/// container can write.
pub(crate) fn settle_sources(
    engine: &Engine,
    container: &Container,
    missing: Missing,
) -> Result<Vec<MountPoint>> {
    let mut shared = Shared {
        engine,
        known: None,
    };
    let mut mounts = container.record.mounts.clone();
    if mounts.iter().any(|mount| mount.idmap.is_some()) {
        let user = engine.user_of(container)?;
        for mount in &mut mounts {
            mount.inside = Some(user);
        }
    }
    for mount in &mut mounts {
        match mount.kind {
            MountKind::Bind if missing == Missing::Leave && !Path::new(&mount.source).exists() => {}
            MountKind::Bind => {
                let path = settle(Path::new(&mount.source), mount.make_source, &mut shared)?;
                mount.source = path.display().to_string();
                mount.settled = true;
            }
            MountKind::Volume => volume(mount, &mut shared)?,
            MountKind::Union => branches(mount, &mut shared)?,
            MountKind::Tmpfs => {}
        }
    }
    Ok(mounts)
}

/// The branches of a union; none is made, for a branch that is missing is a mistake.
fn branches(mount: &mut MountPoint, shared: &mut Shared<'_>) -> Result<()> {
    let destination = mount.destination.clone();
    replace_branches(mount, |path| branch(path, &destination, shared))
}

fn branch(path: &Path, destination: &str, shared: &mut Shared<'_>) -> Result<PathBuf> {
    if path.symlink_metadata().is_err() {
        let path = path.display();
        let text = format!("cannot mount the union at {destination}: there is no branch {path}");
        let hint = format!("make it first with 'mkdir -p {path}', or leave it out");
        return Err(Error::invalid(text).hint(hint));
    }
    settle(path, false, shared)
}

/// A branch of a union at this place, without links, by the same rules.
///
/// # Errors
/// As [`settle_sources`].
pub(crate) fn settle_branch(engine: &Engine, path: &Path, destination: &str) -> Result<PathBuf> {
    let mut shared = Shared {
        engine,
        known: None,
    };
    branch(path, destination, &mut shared)
}

/// Docker's rule for a start: mounts travel to and from a container only where the host's own mount
/// lets them; anything else would be silence instead of what was asked for.
///
/// # Errors
/// `path /x is mounted on / but it is not a shared mount`.
pub(crate) fn check_travel(mounts: &[MountPoint]) -> Result<()> {
    for mount in mounts {
        let slave = match mount.propagation.trim_start_matches('r') {
            "shared" => false,
            "slave" => true,
            _ => continue,
        };
        let path = Path::new(&mount.source);
        let bare = path.strip_prefix("/").unwrap_or(path);
        let on = Dir::open("/")
            .and_then(|root| root.open_beneath(bare, Follow::Never, sys::fs::path_only()))
            .and_then(|source| sys::mount::MountedOn::of(&source))
            .map_err(|error| unreadable(path, error))?;
        if on.shared || (slave && on.slave) {
            continue;
        }
        let what = match slave {
            true => "a shared or slave mount",
            false => "a shared mount",
        };
        let (source, point) = (path.display(), on.point.display());
        let text = format!("path {source} is mounted on {point} but it is not {what}");
        let hint = format!("share it first with 'mount --make-shared {point}'");
        return Err(Error::invalid(text).hint(hint));
    }
    Ok(())
}

/// Opens a directory of the host that somebody else may write around, by the same rules.
///
/// # Errors
/// As [`settle_sources`].
pub(crate) fn open_source(engine: &Engine, path: &Path) -> Result<Dir> {
    let mut shared = Shared {
        engine,
        known: None,
    };
    let path = settle(path, false, &mut shared)?;
    let bare = path.strip_prefix("/").unwrap_or(&path);
    Dir::open("/")
        .and_then(|root| root.enter(bare, Follow::Never))
        .map_err(|error| unreadable(&path, error))
}

/// A volume whose content lies elsewhere, or of which only a part is wanted.
fn volume(mount: &mut MountPoint, shared: &mut Shared<'_>) -> Result<()> {
    if union_of(mount).is_some() {
        return branches(mount, shared);
    }
    let Some(options) = &mut mount.volume else {
        return Ok(());
    };
    if let Some(driver) = &mut options.driver_config {
        let device = match driver_mount(&driver.options) {
            Some(DriverMount::Bind { device, .. }) => Some(device.to_owned()),
            Some(DriverMount::FileSystem { .. }) | None => None,
        };
        if let Some(device) = device {
            let path = settle(Path::new(&device), false, shared)?;
            let path = path.display().to_string();
            driver.options.insert("device".to_owned(), path);
            mount.settled = true;
        }
    }
    if !options.subpath.is_empty() {
        let data = PathBuf::from(&mount.source);
        let fail = |error: sys::SysError| {
            let text = format!(
                "cannot look for {:?} in volume {:?}",
                options.subpath, mount.name
            );
            Error::system(text, error)
        };
        // Links lead where they lead from the volume's own top.
        let found = Dir::open(&data)
            .and_then(|root| transfer::look(&root, Path::new(&options.subpath), true))
            .map_err(fail)?
            .ok_or_else(|| {
                Error::invalid(format!(
                    "cannot access path {}: no such file or directory",
                    data.join(&options.subpath).display()
                ))
            })?;
        let inside = found.path.strip_prefix("/").unwrap_or(&found.path);
        mount.source = data.join(inside).display().to_string();
        mount.settled = true;
    }
    Ok(())
}

/// What containers can write of the host; looked up when a link is met.
struct Shared<'a> {
    engine: &'a Engine,
    known: Option<Vec<PathBuf>>,
}

impl Shared<'_> {
    /// The deepest shared directory that a place lies in.
    fn around(&mut self, place: &Path) -> Result<Option<PathBuf>> {
        if self.known.is_none() {
            self.known = Some(self.look_up()?);
        }
        let all = self.known.iter().flatten();
        Ok(all
            .filter(|shared| place.starts_with(shared))
            .max_by_key(|shared| shared.as_os_str().len())
            .cloned())
    }

    fn look_up(&self) -> Result<Vec<PathBuf>> {
        let mut all = Vec::new();
        for container in self.engine.store().load_all()? {
            all.extend(written_branches(&container.record.host.rootfs_union));
            let mounts = container.record.mounts.iter();
            for mount in mounts.filter(|mount| mount.writable) {
                let driver = mount.volume.iter().flat_map(|volume| &volume.driver_config);
                let device = driver
                    .filter_map(|driver| driver.options.get("device"))
                    .next();
                if let Some(union) = union_of(mount) {
                    all.extend(written_branches(&union));
                    continue;
                }
                let source = device.unwrap_or(&mount.source);
                // What is not there cannot be written in.
                if let Ok(source) = std::fs::canonicalize(source) {
                    all.push(source);
                }
            }
        }
        Ok(all)
    }
}

/// The branches of a union that a container can write in, as far as they are there.
fn written_branches(options: &str) -> Vec<PathBuf> {
    let branches = union_branches(options).into_iter();
    let written = branches.filter(|(_, writable)| *writable);
    written
        .filter_map(|(path, _)| std::fs::canonicalize(path).ok())
        .collect()
}

trait Around {
    fn around(&mut self, place: &Path) -> Result<Option<PathBuf>>;
}

impl Around for Shared<'_> {
    fn around(&mut self, place: &Path) -> Result<Option<PathBuf>> {
        Shared::around(self, place)
    }
}

/// The path without links; `make` makes what is missing of it, directories of root, 0755.
fn settle(path: &Path, make: bool, shared: &mut dyn Around) -> Result<PathBuf> {
    let root = Dir::open("/").map_err(|error| unreadable(path, error))?;
    let bare = path.strip_prefix("/").unwrap_or(path);
    match root.open_beneath(bare, Follow::Never, sys::fs::path_only()) {
        Ok(_) => return Ok(path.to_owned()),
        Err(error) if matches!(error.errno(), errno::ELOOP | errno::ENOENT) => {}
        Err(error) => return Err(unreadable(path, error)),
    }
    let mut walk = Walk {
        path,
        root: &root,
        done: PathBuf::new(),
        bounds: Vec::new(),
    };
    walk.go(make, shared)?;
    let whole = Path::new("/").join(&walk.done);
    walk.check(&whole)?;
    Ok(whole)
}

struct Walk<'a> {
    /// As the user gave it.
    path: &'a Path,
    root: &'a Dir,
    /// Without links, from the root.
    done: PathBuf,
    /// Links that were followed, and what they must not lead out of.
    bounds: Vec<(PathBuf, PathBuf)>,
}

impl Walk<'_> {
    fn go(&mut self, make: bool, shared: &mut dyn Around) -> Result<()> {
        let mut waiting = names(self.path);
        let mut links = 0;
        while let Some(name) = waiting.pop() {
            if name == ".." {
                self.done.pop();
                continue;
            }
            let place = Path::new("/").join(&self.done);
            let fail = |error| unreadable(self.path, error);
            let dir = self.root.enter(&self.done, Follow::Never).map_err(fail)?;
            match dir.find(&name).map_err(fail)? {
                None if make => {
                    self.check(&place.join(&name))?;
                    dir.make_dir(&name, 0o755)
                        .map_err(|error| self.unmade(error))?;
                    self.done.push(name);
                }
                None => return Err(missing(self.path)),
                Some(stat) if stat.kind == Kind::Symlink => {
                    links += 1;
                    if links > LINK_LIMIT {
                        let call = format!("open({:?})", self.path);
                        return Err(fail(sys::SysError::new(call, errno::ELOOP)));
                    }
                    if let Some(bound) = shared.around(&place)? {
                        self.bounds.push((place.join(&name), bound));
                    }
                    let target = PathBuf::from(dir.read_link(&name).map_err(fail)?);
                    if target.is_absolute() {
                        self.done = PathBuf::new();
                    }
                    waiting.extend(names(&target));
                }
                Some(_) => self.done.push(name),
            }
        }
        Ok(())
    }

    /// Refuses a path that a link of a container's may have led to.
    fn check(&self, whole: &Path) -> Result<()> {
        for (link, bound) in &self.bounds {
            if !whole.starts_with(bound) {
                let text = format!(
                    "error while mounting '{}': '{}' is a link out of '{}', which a container can \
                     write",
                    self.path.display(),
                    link.display(),
                    bound.display()
                );
                let hint =
                    "look who made the link; what it leads to can be mounted by its own path";
                return Err(Error::new(ErrorKind::Forbidden, text).hint(hint));
            }
        }
        Ok(())
    }

    fn unmade(&self, error: sys::SysError) -> Error {
        let path = self.path.display();
        Error::system(
            format!("error while creating mount source path '{path}'"),
            error,
        )
    }
}

/// The parts of a path, last first.
fn names(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn unreadable(path: &Path, error: sys::SysError) -> Error {
    Error::system(format!("cannot open the mount source {path:?}"), error)
}

fn missing(path: &Path) -> Error {
    Error::invalid(format!(
        "invalid mount config for type \"bind\": bind source path does not exist: {}",
        path.display()
    ))
    .hint(format!(
        "make it first with 'mkdir -p {}'; -v makes what is missing, --mount does not",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    struct Only(PathBuf);

    impl Around for Only {
        fn around(&mut self, place: &Path) -> Result<Option<PathBuf>> {
            Ok(place.starts_with(&self.0).then(|| self.0.clone()))
        }
    }

    #[test]
    fn links_in_a_container_s_hands_stay_in_its_reach() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        let at = |path: &str| top.join(path);
        fs::create_dir_all(at("shared/dir")).unwrap();
        fs::create_dir_all(at("mine/dir")).unwrap();
        for (link, target) in [
            ("shared/in", "dir"),
            ("shared/out", "../mine"),
            ("shared/abs", "/etc"),
            ("shared/back", "../mine/to-shared"),
            ("shared/loop", "loop"),
            ("mine/to-shared", "../shared/dir"),
            ("mine/twice", "../shared/in"),
            ("mine/etc", "/etc"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let mut shared = Only(at("shared"));
        for (path, leads_to) in [
            ("shared/dir", Some("shared/dir")),
            ("shared/in", Some("shared/dir")),
            ("shared/out", None),
            ("shared/out/dir", None),
            ("shared/abs", None),
            ("shared/abs/hostname", None),
            // Out and in again is in its reach in the end.
            ("shared/back", Some("shared/dir")),
            ("shared/loop", None),
            ("mine/to-shared", Some("shared/dir")),
            ("mine/twice", Some("shared/dir")),
        ] {
            let found = settle(&at(path), false, &mut shared).ok();
            assert_eq!(found, leads_to.map(at), "{path}");
        }
        // The user's own links lead anywhere.
        let etc = settle(&at("mine/etc"), false, &mut shared).unwrap();
        assert_eq!(etc, Path::new("/etc").canonicalize().unwrap());
        let error = settle(&at("shared/out"), false, &mut shared).unwrap_err();
        assert!(error.to_string().contains("is a link out of"), "{error}");
        assert_eq!(error.kind(), ErrorKind::Forbidden);
    }

    #[test]
    fn what_is_missing_is_made_where_it_may_be() {
        let place = tempfile::tempdir().unwrap();
        let top = place.path().canonicalize().unwrap();
        let at = |path: &str| top.join(path);
        fs::create_dir_all(at("shared")).unwrap();
        fs::create_dir_all(at("mine")).unwrap();
        symlink("../mine", at("shared/out")).unwrap();
        symlink("nothing", at("mine/dangling")).unwrap();
        let mut shared = Only(at("shared"));
        let mut make = |path: &str| settle(&at(path), true, &mut shared);
        assert_eq!(make("mine/a/b").unwrap(), at("mine/a/b"));
        assert_eq!(make("mine/dangling/x").unwrap(), at("mine/nothing/x"));
        assert!(at("mine/nothing/x").is_dir());
        make("shared/out/new").unwrap_err();
        assert!(!at("mine/new").exists());
        let error = settle(&at("none/x"), false, &mut shared).unwrap_err();
        assert!(error.to_string().contains("does not exist: /"), "{error}");
    }
}

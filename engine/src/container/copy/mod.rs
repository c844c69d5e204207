//! `cp`'s part in the container: looking at its files, taking them out, putting others in.
//!
//! A running container's files are seen by joining its mount namespace: as its processes see them.
//! Those of one that does not run are mounted aside, with its volumes and host paths, in a namespace
//! of a thread that ends with the call; meanwhile the container cannot be started. Either way the
//! container's root is held open and every path is resolved beneath it, so that nothing that its
//! processes do can lead the copy elsewhere.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use overlayfs::diff::Form;
use overlayfs::transfer::{self, Found, PutIn};
use overlayfs::unpack::UnpackError;
use sys::fs::{Dir, Kind, Stat};

use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::store::Container;

mod rights;
mod view;

/// Links after which a path is taken for a loop.
const LINK_LIMIT: usize = 40;

/// Where a path of a container ends after all links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    /// Without links, as far as it exists.
    pub path: PathBuf,
    /// What is there; `None` when nothing is.
    pub stat: Option<Stat>,
}

/// How files are put into a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// `-a`: they belong to the container's user, where it has one.
    pub archive: bool,
}

impl Engine {
    /// Looks at a path of a container; `follow` says whether a link at its end is followed.
    ///
    /// # Errors
    /// `Could not find the file /x in container X`; when the files cannot be reached.
    pub fn look_at_file(&self, container: &str, path: &str, follow: bool) -> Result<Found> {
        let (id, whole) = (self.resolve(container)?, absolute(path));
        self.with_files(&id, |_, root| {
            found(root, &whole, follow)?.ok_or_else(|| missing(&whole, container))
        })
    }

    /// Follows all links of a path of a container, also where they lead to nothing.
    ///
    /// # Errors
    /// When the files cannot be reached; links in a circle.
    pub fn evaluate_path(&self, container: &str, path: &str) -> Result<Evaluated> {
        let (id, whole) = (self.resolve(container)?, absolute(path));
        self.with_files(&id, |_, root| evaluate(root, &whole))
    }

    /// Writes a path of a container as an archive in this form.
    ///
    /// # Errors
    /// `Could not find the file /x in container X`; when it cannot be read or the output not be
    /// written.
    pub fn take_files(
        &self,
        (container, path): (&str, &str),
        follow: bool,
        form: Form<'_>,
        output: impl Write + Send,
    ) -> Result<()> {
        let (id, whole) = (self.resolve(container)?, absolute(path));
        self.with_files(&id, |container_now, root| {
            let found = found(root, &whole, follow)?;
            let found = found.ok_or_else(|| missing(&whole, container))?;
            let taken = transfer::take_out(root, &found.path, false, form, output);
            taken
                .map_err(|error| {
                    Error::system(format!("cannot copy {:?}", whole.display()), error)
                })?
                .ok_or_else(|| missing(&whole, container))?;
            self.note(container_now, "archive-path", &[("path", path)]);
            Ok(())
        })
    }

    /// Unpacks an archive into a directory of a container.
    ///
    /// # Errors
    /// Docker's texts: `Could not find the file /x in container X`, `extraction point is not a
    /// directory`, `container rootfs is marked read-only`, `mounted volume is marked read-only`,
    /// and those of files that would take a directory's place.
    pub fn put_files(
        &self,
        (container, directory): (&str, &str),
        archive: impl BufRead + Send,
        options: PutOptions,
    ) -> Result<()> {
        let (id, whole) = (self.resolve(container)?, absolute(directory));
        self.with_files(&id, |container_now, root| {
            let found = found(root, &whole, true)?.ok_or_else(|| missing(&whole, container))?;
            if found.stat.kind != Kind::Directory {
                return Err(Error::invalid("extraction point is not a directory"));
            }
            rights::check(&container_now.record, &found.path)?;
            let owner = match options.archive {
                true => owner(container_now, root)?,
                false => None,
            };
            let how = PutIn {
                owner,
                kinds_stay: true,
            };
            transfer::put_in(root, &found.path, archive, how).map_err(unpacked)?;
            self.note(container_now, "extract-to-dir", &[("path", directory)]);
            Ok(())
        })
    }
}

/// The path from the root, its end kept: a slash or a dot there says that it is a directory.
fn absolute(path: &str) -> PathBuf {
    PathBuf::from(format!("/{}", path.trim_start_matches('/')))
}

/// Whether a path says itself that it leads to a directory.
fn asserts_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}

fn found(root: &Dir, path: &Path, follow: bool) -> Result<Option<Found>> {
    let asserted = asserts_directory(path);
    let found =
        transfer::look(root, path, follow || asserted).map_err(|error| look_failed(path, error))?;
    match found {
        Some(found) if asserted && found.stat.kind != Kind::Directory => Err(Error::invalid(
            format!("lstat {}: not a directory", path.display()),
        )),
        other => Ok(other),
    }
}

fn look_failed(path: &Path, error: sys::SysError) -> Error {
    Error::system(format!("cannot look at {:?}", path.display()), error)
}

fn missing(path: &Path, container: &str) -> Error {
    Error::not_found(format!(
        "Could not find the file {} in container {container}",
        path.display()
    ))
}

fn evaluate(root: &Dir, path: &Path) -> Result<Evaluated> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        match found(root, &path, false)? {
            None => return Ok(Evaluated { path, stat: None }),
            Some(Found {
                link: Some(link),
                path: here,
                ..
            }) => {
                // An absolute target replaces all of it.
                path = here.parent().unwrap_or(Path::new("/")).join(link);
            }
            Some(found) => {
                return Ok(Evaluated {
                    path: found.path,
                    stat: Some(found.stat),
                });
            }
        }
    }
    Err(Error::invalid(format!(
        "too many links in {}",
        path.display()
    )))
}

/// The container's user, where it is not root by default.
fn owner(container: &Container, root: &Dir) -> Result<Option<(u32, u32)>> {
    let user = &container.record.config.user;
    if user.is_empty() {
        return Ok(None);
    }
    let request = runtime::UserRequest {
        user: user.clone(),
        groups: Vec::new(),
    };
    let passwd = text(root, "/etc/passwd")?;
    let identity = runtime::user::resolve(&request, &passwd, &text(root, "/etc/group")?)
        .map_err(|error| Error::invalid(error.to_string()))?;
    Ok(Some((identity.user, identity.group)))
}

/// A small file of the container; a missing one is empty.
fn text(root: &Dir, path: &str) -> Result<String> {
    use std::io::Read;
    const LARGEST: u64 = 16 << 20;
    let place = Path::new(path);
    let Some(found) = found(root, place, true)? else {
        return Ok(String::new());
    };
    if found.stat.kind != Kind::File {
        return Ok(String::new());
    }
    let parent = found.path.parent().unwrap_or(Path::new("/"));
    let name = found.path.file_name().unwrap_or_default();
    let bare = parent.strip_prefix("/").unwrap_or(parent);
    let file = root
        .enter(bare, sys::fs::Follow::Never)
        .and_then(|dir| dir.read(name))
        .map_err(|error| look_failed(place, error))?;
    let mut content = Vec::new();
    file.take(LARGEST)
        .read_to_end(&mut content)
        .map_err(|error| Error::file("read", place, error))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// A refusal of the archive in Docker's words.
fn unpacked(error: UnpackError) -> Error {
    match &error {
        UnpackError::OverDirectory(_) | UnpackError::OverOther(_) => {
            Error::new(ErrorKind::InvalidParameter, error.to_string())
        }
        UnpackError::Step { source, .. } if source.errno() == sys::fs::errno::ENOSPC => {
            Error::system("cannot copy into the container", error)
                .hint("free space where the container's files lie; what was copied so far is there")
        }
        UnpackError::Archive(_)
        | UnpackError::Outside(_)
        | UnpackError::BadName(_)
        | UnpackError::NoTarget { .. }
        | UnpackError::NoSpace { .. }
        | UnpackError::Step { .. } => Error::system("cannot copy into the container", error),
    }
}

impl Engine {
    /// As [`Engine::with_files`] of a name that was resolved already.
    fn with_files<T: Send>(
        &self,
        id: &ContainerId,
        work: impl FnOnce(&Container, &Dir) -> Result<T> + Send,
    ) -> Result<T> {
        view::with_files(self, id, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_are_followed_also_into_nothing() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        std::fs::create_dir_all(at("a/b")).unwrap();
        for (link, target) in [
            ("l", "/a/b"),
            ("a/up", "../new"),
            ("two", "a/up"),
            ("x", "x"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let root = Dir::open(place.path()).unwrap();
        let evaluate = |path: &str| evaluate(&root, Path::new(path));
        for (path, leads_to, exists) in [
            ("/l", "/a/b", true),
            ("/a", "/a", true),
            ("/", "/", true),
            ("/none", "/none", false),
            ("/a/up", "/a/../new", false),
            ("/two", "/a/../new", false),
        ] {
            let found = evaluate(path).unwrap();
            assert_eq!(found.path, Path::new(leads_to), "{path}");
            assert_eq!(found.stat.is_some(), exists, "{path}");
        }
        evaluate("/x").unwrap_err();
    }

    #[test]
    fn what_says_that_it_is_a_directory_must_be_one() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("f"), "").unwrap();
        let root = Dir::open(place.path()).unwrap();
        for path in ["/f/", "/f/."] {
            let error = found(&root, Path::new(path), false).unwrap_err();
            assert_eq!(error.to_string(), format!("lstat {path}: not a directory"));
        }
        assert!(found(&root, Path::new("/f"), false).unwrap().is_some());
        assert_eq!(absolute("a/."), Path::new("/a/."));
        assert_eq!(absolute("//a/").as_os_str(), "/a/");
    }
}

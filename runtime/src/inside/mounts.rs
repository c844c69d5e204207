//! The root file system and everything mounted in it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::mount::{Attributes, Filesystem, Propagation};
use sys::{SysError, SysResultExt};

use super::{Inside, InsideError, Outcome, beneath};
use crate::error::ReportKind;
use crate::mounts::{Mount, MountKind, RootPropagation, Source, is_replaceable};
use crate::request::Root;

pub(super) const PROC_MAGIC: i64 = 0x9fa0;

/// A file system that the parent has made for a step of the child's.
///
/// What needs a device or a server is not made by the child: it is in the container's cgroup, whose
/// device rules may be in force already, and in its network, which may not be there yet.
#[derive(Debug)]
pub(crate) struct Made<'a> {
    step: &'a Mount,
    mount: sys::Result<sys::mount::Detached>,
}

impl<'a> Made<'a> {
    /// Makes what the step mounts, if that is for the parent to do. A failure is the step's, and is
    /// told when the child comes to it.
    pub(crate) fn of(step: &'a Mount) -> Option<Self> {
        const OF_THE_KERNEL: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];
        match &step.kind {
            MountKind::New {
                filesystem,
                source,
                options,
            } if !OF_THE_KERNEL.contains(&filesystem.as_str()) => {
                let made = configure(filesystem, source, options);
                let mount = made.and_then(|made| made.mount(step.attributes));
                Some(Self { step, mount })
            }
            MountKind::New { .. } | MountKind::Bind { .. } | MountKind::Cgroup { .. } => None,
        }
    }
}

/// A file system with its options set, about to be mounted.
fn configure(kind: &str, source: &str, options: &[String]) -> sys::Result<Filesystem> {
    let filesystem = Filesystem::open(kind)?;
    filesystem.set("source", OsStr::new(source))?;
    for option in options {
        match option.split_once('=') {
            Some((key, value)) => filesystem.set(key, OsStr::new(value))?,
            // devpts has been so for every mount since Linux 4.7.
            None if option == "newinstance" => {}
            None => filesystem.flag(option)?,
        }
    }
    Ok(filesystem)
}

/// Whether a source is named by a descriptor of the monitor: `/proc/<pid>/fd/<n>`.
fn by_descriptor(source: &Source) -> bool {
    let mut parts = source.path.components().skip(1);
    parts.next().is_some_and(|part| part.as_os_str() == "proc")
        && parts.nth(1).is_some_and(|part| part.as_os_str() == "fd")
}

/// A source whose path was settled: should a link have come on the way since, it is refused.
fn open_unlinked(source: &Source) -> Result<sys::mount::Detached, InsideError> {
    let path = source.path.strip_prefix("/").unwrap_or(&source.path);
    let root = sys::fs::Dir::open("/")?;
    let found = root.open_beneath(path, sys::fs::Follow::Never, OFlags::PATH)?;
    Ok(sys::mount::bind_attached(found.as_fd(), source.recursive)?)
}

impl Inside<'_> {
    pub(super) fn open_sources(&mut self, sources: &[Source]) -> Outcome {
        for source in sources {
            if source.no_links {
                self.sources.push(Some(open_unlinked(source)?));
                continue;
            }
            let tree = match sys::mount::open_tree(&source.path, source.recursive) {
                // The caller's own detached mount, by its descriptor: nothing to copy it from.
                Err(error)
                    if error.errno() == Errno::INVAL.raw_os_error() && by_descriptor(source) =>
                {
                    sys::mount::take_detached(&source.path)?
                }
                other => other?,
            };
            self.sources.push(Some(tree));
        }
        Ok(())
    }

    /// The root is attached over a directory that surely exists, in this mount namespace alone.
    pub(super) fn mount_root(&mut self, root: &Root) -> Outcome {
        let (mount, place): (OwnedFd, &Path) = match root {
            Root::Overlay(overlay) => {
                let place = overlay
                    .upper
                    .as_deref()
                    .or(overlay.lowers.first().map(AsRef::as_ref));
                let place = place.ok_or_else(|| {
                    InsideError::text(ReportKind::Call, "an overlay needs a layer")
                })?;
                (overlay.mount(Attributes::default())?.into(), place)
            }
            Root::Directory(path) => (sys::mount::open_tree(path, true)?.into(), path),
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let target = rustix::fs::openat(CWD, place, flags, Mode::empty())
            .call(|| format!("open({place:?}, O_PATH)"))?;
        sys::mount::attach(&mount, target.as_fd())?;
        self.root = Some(mount);
        Ok(())
    }

    pub(super) fn mount(&mut self, mount: &Mount) -> Outcome {
        match &mount.kind {
            MountKind::New {
                filesystem,
                source,
                options,
            } => self
                .mount_new(mount, filesystem, source, options)
                .map_err(|error| error.within(|| mounting(filesystem, mount))),
            MountKind::Bind { index, .. } => self.bind(mount, *index),
            MountKind::Cgroup { unified, v1 } => self.mount_cgroup(mount, unified.as_deref(), v1),
        }
    }

    fn mount_new(
        &mut self,
        mount: &Mount,
        kind: &str,
        source: &str,
        options: &[String],
    ) -> Outcome {
        let is_kernel_view = kind == "proc" || kind == "sysfs";
        let (target, found) = self.target_directory(&mount.target, is_kernel_view)?;
        let new = match self.take_made(mount) {
            Some(made) => made?,
            None => {
                let filesystem = configure(kind, source, options)?;
                let has_mode = options.iter().any(|option| option.starts_with("mode="));
                if kind == "tmpfs" && found && !has_mode {
                    // A tmpfs over an existing directory takes its permissions.
                    let status = rustix::fs::fstat(&target).call(|| "fstat(target)")?;
                    let mode = format!("{:o}", status.st_mode & 0o7777);
                    filesystem.set("mode", OsStr::new(&mode))?;
                }
                filesystem.mount(mount.attributes)?
            }
        };
        sys::mount::attach(&new, target.as_fd())?;
        if mount.propagation != Propagation::Private {
            let none = Attributes::default();
            sys::mount::set_attributes(&new, false, none, none, Some(mount.propagation))?;
        }
        match (kind, mount.target.to_str()) {
            ("proc", Some("/proc")) => self.proc = Some(new.into()),
            ("devpts", _) => self.devpts = Some(new.into()),
            _ => {}
        }
        Ok(())
    }

    /// What the parent has made of this very step, or why it could not.
    fn take_made(&mut self, mount: &Mount) -> Option<sys::Result<sys::mount::Detached>> {
        let at = self
            .made
            .iter()
            .position(|made| std::ptr::eq(made.step, mount))?;
        Some(self.made.swap_remove(at).mount)
    }

    /// The target's directory, made if missing; and whether it was there.
    fn target_directory(
        &self,
        path: &Path,
        no_links: bool,
    ) -> Result<(OwnedFd, bool), InsideError> {
        let root = self.root()?;
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let opened = if no_links {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            beneath::open_with(root, path, flags | OFlags::NOFOLLOW, resolve)
        } else {
            beneath::open(root, path, flags)
        };
        match opened {
            Ok(target) => Ok((target, true)),
            Err(error) if error.errno() == Errno::NOENT.raw_os_error() => {
                Ok((beneath::directory(root, path)?, false))
            }
            Err(error) if no_links && is_link_error(&error) => Err(InsideError::text(
                ReportKind::Call,
                format!(
                    "{} of the image is not a directory: refused",
                    path.display()
                ),
            )),
            Err(error) => Err(error.into()),
        }
    }

    fn bind(&mut self, mount: &Mount, index: usize) -> Outcome {
        let source = self
            .sources
            .get_mut(index)
            .and_then(Option::take)
            .ok_or_else(|| InsideError::text(ReportKind::Call, "a bind mount without source"))?;
        let status = rustix::fs::fstat(source.as_fd()).call(|| "fstat(source)")?;
        let is_directory = FileType::from_raw_mode(status.st_mode) == FileType::Directory;
        let root = self.root()?;
        let target = if is_directory {
            beneath::directory(root, &mount.target)
        } else {
            beneath::file(root, &mount.target)
        };
        let target = target.map_err(|error| kind_error(error, mount))?;
        let found = rustix::fs::fstat(&target).call(|| "fstat(target)")?;
        if (FileType::from_raw_mode(found.st_mode) == FileType::Directory) != is_directory {
            let call = format!("move_mount({:?})", mount.target);
            return Err(kind_error(
                SysError::new(call, Errno::NOTDIR.raw_os_error()),
                mount,
            ));
        }
        self.refuse_proc(target.as_fd(), mount)?;
        sys::mount::set_attributes(
            &source,
            true,
            mount.attributes,
            mount.clear,
            Some(mount.propagation),
        )?;
        if mount.top != Attributes::default() {
            let none = Attributes::default();
            sys::mount::set_attributes(&source, false, mount.top, none, None)?;
        }
        show_owners(&source, mount)?;
        sys::mount::attach(&source, target.as_fd()).map_err(|error| kind_error(error, mount))
    }

    /// A symlink of the image or of another volume may have led here.
    fn refuse_proc(&self, target: BorrowedFd<'_>, mount: &Mount) -> Outcome {
        let found = rustix::fs::fstatfs(target).call(|| "fstatfs(target)")?;
        if found.f_type == PROC_MAGIC && !is_replaceable(&mount.target) {
            return Err(InsideError::text(
                ReportKind::Call,
                format!("{} leads into /proc: refused", mount.target.display()),
            ));
        }
        Ok(())
    }

    fn mount_cgroup(
        &mut self,
        mount: &Mount,
        unified: Option<&Path>,
        v1: &[(String, PathBuf)],
    ) -> Outcome {
        let (target, _) = self.target_directory(&mount.target, false)?;
        let show = |directory: &Path, target: BorrowedFd<'_>| -> Outcome {
            let tree = sys::mount::open_tree(directory, false)?;
            let private = Some(Propagation::Private);
            sys::mount::set_attributes(&tree, true, mount.attributes, mount.clear, private)?;
            Ok(sys::mount::attach(&tree, target)?)
        };
        if let Some(directory) = unified {
            return show(directory, target.as_fd());
        }
        let filesystem = Filesystem::open("tmpfs")?;
        filesystem.set("mode", OsStr::new("755"))?;
        let new = filesystem.mount(Attributes::default())?;
        for (names, _) in v1 {
            rustix::fs::mkdirat(&new, names, Mode::from_raw_mode(0o755))
                .call(|| format!("mkdirat({names:?})"))?;
            for name in names.split(',').filter(|name| *name != names) {
                rustix::fs::symlinkat(names, &new, name)
                    .call(|| format!("symlinkat({names:?}, {name:?})"))?;
            }
        }
        sys::mount::attach(&new, target.as_fd())?;
        for (names, directory) in v1 {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let below = rustix::fs::openat(&new, names, flags, Mode::empty())
                .call(|| format!("open({names:?})"))?;
            show(directory, below.as_fd())?;
        }
        let none = Attributes::default();
        Ok(sys::mount::set_attributes(
            &new,
            false,
            mount.attributes,
            none,
            None,
        )?)
    }

    pub(super) fn mask(&mut self, paths: &[PathBuf]) -> Outcome {
        let mut empty: Option<OwnedFd> = None;
        for path in paths {
            let Some(target) = self.existing(path)? else {
                continue;
            };
            let status = rustix::fs::fstat(&target).call(|| format!("fstat({path:?})"))?;
            let mask = if FileType::from_raw_mode(status.st_mode) == FileType::Directory {
                // One empty file system serves all.
                match &empty {
                    Some(empty) => sys::mount::bind_attached(empty.as_fd(), false)?,
                    None => {
                        let filesystem = Filesystem::open("tmpfs")?;
                        filesystem.set("nr_inodes", OsStr::new("1"))?;
                        let new = filesystem.mount(Attributes::READ_ONLY)?;
                        sys::mount::attach(&new, target.as_fd())?;
                        empty = Some(new.into());
                        continue;
                    }
                }
            } else {
                sys::mount::bind_attached(self.null()?, false)?
            };
            sys::mount::attach(&mask, target.as_fd())?;
        }
        Ok(())
    }

    pub(super) fn make_read_only(&mut self, paths: &[PathBuf]) -> Outcome {
        for path in paths {
            let Some(target) = self.existing(path)? else {
                continue;
            };
            let tree = sys::mount::bind_attached(target.as_fd(), true)?;
            let none = Attributes::default();
            sys::mount::set_attributes(&tree, true, Attributes::READ_ONLY, none, None)?;
            sys::mount::attach(&tree, target.as_fd())?;
        }
        Ok(())
    }

    /// A path that need not exist; its last part is taken as it is, be it a link.
    fn existing(&self, path: &Path) -> Result<Option<OwnedFd>, InsideError> {
        match beneath::open(self.root()?, path, OFlags::PATH) {
            Ok(target) => Ok(Some(target)),
            Err(error)
                if error.errno() == Errno::NOENT.raw_os_error()
                    || error.errno() == Errno::NOTDIR.raw_os_error() =>
            {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn root_read_only(&mut self) -> Outcome {
        let none = Attributes::default();
        let root = self.root()?;
        Ok(sys::mount::set_attributes(
            root,
            false,
            Attributes::READ_ONLY,
            none,
            None,
        )?)
    }

    pub(super) fn change_root(&mut self, root: Option<RootPropagation>) -> Outcome {
        let place = self.root()?;
        sys::mount::change_root(place)?;
        if let Some(root) = root {
            let (none, word) = (Attributes::default(), Some(root.propagation));
            sys::mount::set_attributes(place, root.recursive, none, none, word)?;
        }
        Ok(())
    }

    /// The init program lies on a read-only file system of its own: nobody inside can change it.
    pub(super) fn mount_init(&mut self) -> Outcome {
        let path = Path::new("/sbin/docker-init");
        let target = beneath::file(self.root()?, path)?;
        let filesystem = Filesystem::open("tmpfs")?;
        filesystem.set("mode", OsStr::new("755"))?;
        let new = filesystem.mount(Attributes::NO_SUID.with(Attributes::NO_DEV))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&new, "docker-init", flags, Mode::from_raw_mode(0o755))
            .call(|| "openat(\"docker-init\", O_CREAT)")?;
        let mut rest = sys::process::TRAMPOLINE;
        while !rest.is_empty() {
            let count = rustix::io::write(&file, rest).call(|| "write(\"docker-init\")")?;
            rest = &rest[count..];
        }
        drop(file);
        // Attached as a whole, then the one file is shown alone at the same place.
        let none = Attributes::default();
        sys::mount::set_attributes(&new, false, Attributes::READ_ONLY, none, None)?;
        let below = rustix::fs::openat(&new, "docker-init", OFlags::PATH, Mode::empty())
            .call(|| "open(\"docker-init\")")?;
        let shown = sys::mount::bind_attached(below.as_fd(), false)?;
        Ok(sys::mount::attach(&shown, target.as_fd())?)
    }

    pub(super) fn write_sysctls(&mut self, all: &[(String, String)]) -> Outcome {
        for (key, value) in all {
            let path = Path::new("sys").join(key.replace('.', "/"));
            let file = self.open_proc(&path, OFlags::WRONLY)?;
            rustix::io::write(&file, value.as_bytes())
                .call(|| format!("write(\"/proc/{}\", {value:?})", path.display()))?;
        }
        Ok(())
    }

    pub(super) fn set_score(&mut self, score: i32) -> Outcome {
        let file = self.open_proc(Path::new("self/oom_score_adj"), OFlags::WRONLY)?;
        rustix::io::write(&file, score.to_string().as_bytes())
            .call(|| format!("write(\"/proc/self/oom_score_adj\", \"{score}\")"))?;
        Ok(())
    }

    /// A file of the kernel's own /proc: through the descriptor of the mount just made, never
    /// through a path of the container.
    fn open_proc(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, InsideError> {
        let proc = match &self.proc {
            Some(proc) => proc.try_clone().call(|| "dup(proc)")?,
            None => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(CWD, "/proc", flags, Mode::empty()).call(|| "open(\"/proc\")")?
            }
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let file = beneath::open_with(proc.as_fd(), path, flags, resolve)?;
        let found = rustix::fs::fstatfs(&file).call(|| format!("fstatfs({path:?})"))?;
        if found.f_type == PROC_MAGIC {
            Ok(file)
        } else {
            let text = format!("{} is not of the kernel's /proc", path.display());
            Err(InsideError::text(ReportKind::Call, text))
        }
    }
}

/// Maps the owners of a source, where that was asked for; what cannot is told in plain words.
fn show_owners(source: &sys::mount::Detached, mount: &Mount) -> Outcome {
    let (
        Some(owners),
        MountKind::Bind {
            source: path,
            recursive,
            ..
        },
    ) = (&mount.owners, &mount.kind)
    else {
        return Ok(());
    };
    let mapped = sys::mount::set_owners(source, *recursive, &owners.users, &owners.groups);
    mapped.map_err(|error| {
        let cannot = [Errno::INVAL, Errno::NOSYS]
            .iter()
            .any(|errno| errno.raw_os_error() == error.errno());
        match cannot {
            true => InsideError::text(
                ReportKind::Call,
                format!(
                    "cannot show the files of {path:?} as another owner's: its file system, or one \
                     mounted below it, or this kernel has no idmapped mounts (they came with Linux \
                     5.12 for ext4, xfs and others, with 6.3 for tmpfs; overlayfs has none)"
                ),
            ),
            false => error.into(),
        }
    })
}

/// Docker's words.
fn mounting(source: &(impl std::fmt::Display + ?Sized), mount: &Mount) -> String {
    let target = mount.target.display();
    format!("error mounting \"{source}\" to rootfs at \"{target}\"")
}

fn is_link_error(error: &SysError) -> bool {
    [Errno::LOOP, Errno::NOTDIR]
        .iter()
        .any(|errno| errno.raw_os_error() == error.errno())
}

/// A file over a directory or the reverse gets its own kind: Docker explains it.
fn kind_error(error: SysError, mount: &Mount) -> InsideError {
    let is_kind = [Errno::NOTDIR, Errno::ISDIR]
        .iter()
        .any(|errno| errno.raw_os_error() == error.errno());
    if !is_kind {
        return error.into();
    }
    let MountKind::Bind { source, .. } = &mount.kind else {
        return error.into();
    };
    InsideError::Known {
        kind: ReportKind::MountKind,
        call: mounting(&source.display(), mount),
        errno: Errno::NOTDIR.raw_os_error(),
    }
}

//! A directory held open, and what can be done to the names in it.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    self as rfs, AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Timestamps,
};
use rustix::io::Errno;

use super::stat::{Entry, Kind, Node, Stat, Timestamp};
use crate::error::{Result, SysError, SysResultExt};

/// A directory held open, with the path it was found under for messages.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

/// How symbolic links in a path are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Any symbolic link is an error.
    Never,
    /// Links are followed as if the directory were the root of the file system.
    InRoot,
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Dir {
    /// Opens a directory of the host by its path.
    ///
    /// # Errors
    /// Those of open.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let fd =
            rfs::openat(CWD, &path, flags, Mode::empty()).call(|| format!("open({path:?})"))?;
        Ok(Self { fd, path })
    }

    /// Opens a directory of the host, after making it and its parents where they are missing.
    ///
    /// # Errors
    /// Those of mkdir and open.
    pub fn ensure(path: impl Into<PathBuf>, mode: u32) -> Result<Self> {
        let path = path.into();
        match Self::open(&path) {
            Err(error) if error.errno() == libc::ENOENT => {
                use std::os::unix::fs::DirBuilderExt;
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(mode)
                    .create(&path)
                    .call(|| format!("mkdir({path:?})"))?;
                Self::open(path)
            }
            other => other,
        }
    }

    /// Takes a descriptor of a directory, and the path to call it by.
    pub fn from_fd(fd: OwnedFd, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { fd, path }
    }

    /// The path this directory was found under; for messages, not for opening.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where this directory is beneath another at this moment, with no link on the way.
    ///
    /// # Errors
    /// Those of readlink; `EXDEV` where it is not beneath that one.
    pub fn path_beneath(&self, top: &Dir) -> Result<PathBuf> {
        let (own, top) = (self.real_path()?, top.real_path()?);
        own.strip_prefix(&top).map(Path::to_owned).map_err(|_| {
            let call = self.says("readlink", "", &format!("not beneath {top:?}"));
            SysError::new(call, libc::EXDEV)
        })
    }

    fn real_path(&self) -> Result<PathBuf> {
        let alias = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        rfs::readlink(&alias, Vec::new())
            .map(|path| OsString::from_vec(path.into_bytes()).into())
            .call(|| self.says("readlink", "", &alias))
    }

    /// A second descriptor of the same directory.
    ///
    /// # Errors
    /// Those of fcntl.
    pub fn duplicate(&self) -> Result<Self> {
        let fd = self
            .fd
            .try_clone()
            .call(|| self.says("fcntl", "", "F_DUPFD"))?;
        Ok(Self::from_fd(fd, &self.path))
    }

    /// Opens what a path beneath this directory leads to.
    ///
    /// # Errors
    /// Those of openat2: `EXDEV` or `ELOOP` where the path would leave the directory.
    pub fn open_beneath(
        &self,
        path: impl AsRef<Path>,
        follow: Follow,
        flags: OFlags,
    ) -> Result<OwnedFd> {
        let path = path.as_ref();
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let resolve = match follow {
            Follow::Never => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            Follow::InRoot => ResolveFlags::IN_ROOT,
        } | ResolveFlags::NO_MAGICLINKS;
        loop {
            let opened = rfs::openat2(
                &self.fd,
                path,
                flags | OFlags::CLOEXEC,
                Mode::empty(),
                resolve,
            );
            match opened {
                // A rename elsewhere raced with the resolution of "..": the kernel asks to retry.
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other.call(|| self.says("openat2", path, "")),
            }
        }
    }

    /// Opens what a path beneath this directory leads to for reading; a pipe does not block.
    ///
    /// # Errors
    /// As [`Dir::open_beneath`].
    pub fn open_file(&self, path: impl AsRef<Path>, follow: Follow) -> Result<File> {
        self.open_beneath(
            path,
            follow,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
        )
        .map(File::from)
    }

    /// Opens a directory beneath this one.
    ///
    /// # Errors
    /// As [`Dir::open_beneath`].
    pub fn enter(&self, path: impl AsRef<Path>, follow: Follow) -> Result<Self> {
        let path = path.as_ref();
        let fd = self.open_beneath(path, follow, OFlags::DIRECTORY | OFlags::RDONLY)?;
        Ok(Self::from_fd(
            fd,
            self.path.join(path.strip_prefix("/").unwrap_or(path)),
        ))
    }

    /// Opens a directory beneath this one and makes what is missing of the path, owner root.
    ///
    /// Links are followed as in a root; one that leads nowhere is an error. `made` hears of every
    /// directory that was made, by its path from here.
    ///
    /// # Errors
    /// Those of mkdirat and openat2.
    pub fn enter_or_make(
        &self,
        path: &Path,
        mode: u32,
        made: &mut dyn FnMut(&Path, &Dir) -> Result<()>,
    ) -> Result<Self> {
        match self.enter(path, Follow::InRoot) {
            Err(error) if error.errno() == libc::ENOENT => {}
            other => return other,
        }
        let mut so_far = PathBuf::new();
        let mut current = self.duplicate()?;
        for part in path.components() {
            let Component::Normal(name) = part else {
                continue;
            };
            let parent = so_far.clone();
            so_far.push(name);
            match self.enter(&so_far, Follow::InRoot) {
                Ok(dir) => current = dir,
                Err(error) if error.errno() == libc::ENOENT => {
                    current = self.enter(&parent, Follow::InRoot)?;
                    current.make_dir(name, mode)?;
                    current = current.enter(name, Follow::Never)?;
                    made(&so_far, &current)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(current)
    }

    /// Opens a regular file of this directory for reading, following no link.
    ///
    /// Nothing else is ever opened, not even for a moment: to open a device may set it to work.
    ///
    /// # Errors
    /// Those of openat; `EINVAL` for what is no regular file.
    pub fn read(&self, name: impl AsRef<Path>) -> Result<File> {
        let name = name.as_ref();
        let handle = self.handle(name)?;
        if Stat::of(&handle)?.kind != Kind::File {
            return Err(SysError::new(
                self.says("openat", name, "no regular file"),
                libc::EINVAL,
            ));
        }
        // The link in /proc is bound to the very file that was looked at. Some files of the kernel's
        // would wait for something to say.
        let alias = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        rfs::open(alias, flags, Mode::empty())
            .map(File::from)
            .call(|| self.says("openat", name, "O_RDONLY"))
    }

    /// Opens a name for nothing but its attributes, following no link.
    ///
    /// # Errors
    /// Those of openat.
    pub fn handle(&self, name: impl AsRef<Path>) -> Result<OwnedFd> {
        let name = self.leaf(name.as_ref(), "openat")?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rfs::openat(&self.fd, name, flags, Mode::empty())
            .call(|| self.says("openat", name, "O_PATH"))
    }

    /// Makes a file that did not exist.
    ///
    /// # Errors
    /// Those of openat; `EEXIST` where the name is taken, even by a link.
    pub fn create(&self, name: impl AsRef<Path>, mode: u32) -> Result<File> {
        let name = self.leaf(name.as_ref(), "openat")?;
        let flags =
            OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rfs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .map(File::from)
            .call(|| self.says("openat", name, "O_CREAT|O_EXCL"))
    }

    /// Makes a directory.
    ///
    /// # Errors
    /// Those of mkdirat.
    pub fn make_dir(&self, name: impl AsRef<Path>, mode: u32) -> Result<()> {
        let name = self.leaf(name.as_ref(), "mkdirat")?;
        rfs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode))
            .call(|| self.says("mkdirat", name, ""))
    }

    /// Makes a symbolic link.
    ///
    /// # Errors
    /// Those of symlinkat.
    pub fn make_symlink(&self, name: impl AsRef<Path>, target: &OsStr) -> Result<()> {
        let name = self.leaf(name.as_ref(), "symlinkat")?;
        rfs::symlinkat(target, &self.fd, name).call(|| self.says("symlinkat", name, ""))
    }

    /// Makes a special file.
    ///
    /// # Errors
    /// Those of mknodat.
    pub fn make_node(&self, name: impl AsRef<Path>, node: Node, mode: u32) -> Result<()> {
        let name = self.leaf(name.as_ref(), "mknodat")?;
        let (kind, device) = match node {
            Node::Fifo => (FileType::Fifo, 0),
            Node::Char(major, minor) => (FileType::CharacterDevice, rfs::makedev(major, minor)),
            Node::Block(major, minor) => (FileType::BlockDevice, rfs::makedev(major, minor)),
        };
        rfs::mknodat(&self.fd, name, kind, Mode::from_raw_mode(mode), device)
            .call(|| self.says("mknodat", name, ""))
    }

    /// Gives a file a second name; links themselves are linked, not followed.
    ///
    /// # Errors
    /// Those of linkat.
    pub fn link(&self, name: impl AsRef<Path>, to: &Dir, new_name: impl AsRef<Path>) -> Result<()> {
        let name = self.leaf(name.as_ref(), "linkat")?;
        let new_name = to.leaf(new_name.as_ref(), "linkat")?;
        rfs::linkat(&self.fd, name, &to.fd, new_name, AtFlags::empty())
            .call(|| to.says("linkat", new_name, ""))
    }

    /// Moves a name, replacing what has the new one.
    ///
    /// # Errors
    /// Those of renameat.
    pub fn rename(
        &self,
        name: impl AsRef<Path>,
        to: &Dir,
        new_name: impl AsRef<Path>,
    ) -> Result<()> {
        let name = self.leaf(name.as_ref(), "renameat")?;
        let new_name = to.leaf(new_name.as_ref(), "renameat")?;
        rfs::renameat(&self.fd, name, &to.fd, new_name).call(|| to.says("renameat", new_name, ""))
    }

    /// Moves a name to one that is free.
    ///
    /// # Errors
    /// Those of renameat2; `EEXIST` where the new name is taken.
    pub fn rename_new(
        &self,
        name: impl AsRef<Path>,
        to: &Dir,
        new_name: impl AsRef<Path>,
    ) -> Result<()> {
        let name = self.leaf(name.as_ref(), "renameat2")?;
        let new_name = to.leaf(new_name.as_ref(), "renameat2")?;
        rfs::renameat_with(&self.fd, name, &to.fd, new_name, RenameFlags::NOREPLACE)
            .call(|| to.says("renameat2", new_name, "RENAME_NOREPLACE"))
    }

    /// Removes a name that is no directory.
    ///
    /// # Errors
    /// Those of unlinkat.
    pub fn unlink(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = self.leaf(name.as_ref(), "unlinkat")?;
        rfs::unlinkat(&self.fd, name, AtFlags::empty()).call(|| self.says("unlinkat", name, ""))
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// Those of unlinkat.
    pub fn remove_dir(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = self.leaf(name.as_ref(), "unlinkat")?;
        rfs::unlinkat(&self.fd, name, AtFlags::REMOVEDIR)
            .call(|| self.says("unlinkat", name, "AT_REMOVEDIR"))
    }

    /// The attributes of a name, of a link itself.
    ///
    /// # Errors
    /// Those of fstatat.
    pub fn stat(&self, name: impl AsRef<Path>) -> Result<Stat> {
        let name = self.leaf(name.as_ref(), "newfstatat")?;
        rfs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW)
            .map(Stat::from)
            .call(|| self.says("newfstatat", name, ""))
    }

    /// The attributes of a name, `None` where there is none.
    ///
    /// # Errors
    /// Those of fstatat.
    pub fn find(&self, name: impl AsRef<Path>) -> Result<Option<Stat>> {
        match self.stat(name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if matches!(error.errno(), libc::ENOENT | libc::ENOTDIR) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The attributes of this directory.
    ///
    /// # Errors
    /// Those of fstat.
    pub fn stat_self(&self) -> Result<Stat> {
        rfs::fstat(&self.fd)
            .map(Stat::from)
            .call(|| self.says("fstat", "", ""))
    }

    /// Where a symbolic link leads.
    ///
    /// # Errors
    /// Those of readlinkat.
    pub fn read_link(&self, name: impl AsRef<Path>) -> Result<OsString> {
        let name = self.leaf(name.as_ref(), "readlinkat")?;
        rfs::readlinkat(&self.fd, name, Vec::new())
            .map(|target| OsString::from_vec(target.into_bytes()))
            .call(|| self.says("readlinkat", name, ""))
    }

    /// Changes the owner of a name, of a link itself.
    ///
    /// # Errors
    /// Those of fchownat.
    pub fn chown(&self, name: impl AsRef<Path>, uid: u32, gid: u32) -> Result<()> {
        let name = self.leaf(name.as_ref(), "fchownat")?;
        let (user, group) = (rfs::Uid::from_raw(uid), rfs::Gid::from_raw(gid));
        rfs::chownat(
            &self.fd,
            name,
            Some(user),
            Some(group),
            AtFlags::SYMLINK_NOFOLLOW,
        )
        .call(|| self.says("fchownat", name, &format!("{uid}, {gid}")))
    }

    /// Changes the permissions of a name; those of a link cannot be changed and are left.
    ///
    /// # Errors
    /// Those of openat and chmod.
    pub fn chmod(&self, name: impl AsRef<Path>, mode: u32) -> Result<()> {
        let name = name.as_ref();
        let handle = self.handle(name)?;
        if Stat::of(&handle)?.kind == Kind::Symlink {
            return Ok(());
        }
        // An O_PATH descriptor takes no fchmod; its link in /proc is bound to this very file.
        let alias = format!("/proc/self/fd/{}", handle.as_raw_fd());
        rfs::chmodat(CWD, alias, Mode::from_raw_mode(mode), AtFlags::empty())
            .call(|| self.says("chmod", name, &format!("{mode:#o}")))
    }

    /// Sets when a name was read and written, of a link itself.
    ///
    /// # Errors
    /// Those of utimensat.
    pub fn set_times(
        &self,
        name: impl AsRef<Path>,
        atime: Timestamp,
        mtime: Timestamp,
    ) -> Result<()> {
        let name = self.leaf(name.as_ref(), "utimensat")?;
        let times = Timestamps {
            last_access: atime.into(),
            last_modification: mtime.into(),
        };
        rfs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            .call(|| self.says("utimensat", name, ""))
    }

    /// The names in this directory, sorted.
    ///
    /// # Errors
    /// Those of getdents64.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let says = || self.says("getdents64", "", "");
        let mut entries = Vec::new();
        for entry in rfs::Dir::read_from(&self.fd).call(says)? {
            let entry = entry.call(says)?;
            let name: &CStr = entry.file_name();
            let name = OsStr::from_bytes(name.to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match self.find(name)? {
                    Some(stat) => stat.kind,
                    None => continue,
                },
                known => known.into(),
            };
            let name = name.to_owned();
            entries.push(Entry { name, kind });
        }
        entries.sort();
        Ok(entries)
    }

    /// Whether there is no name in this directory.
    ///
    /// # Errors
    /// Those of getdents64.
    pub fn is_empty(&self) -> Result<bool> {
        let says = || self.says("getdents64", "", "");
        for entry in rfs::Dir::read_from(&self.fd).call(says)? {
            let entry = entry.call(says)?;
            if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Writes this directory's names to the disk.
    ///
    /// # Errors
    /// Those of fsync.
    pub fn sync(&self) -> Result<()> {
        rfs::fsync(&self.fd).call(|| self.says("fsync", "", ""))
    }

    /// Writes everything of this directory's file system to the disk.
    ///
    /// # Errors
    /// Those of syncfs.
    pub fn sync_file_system(&self) -> Result<()> {
        rfs::syncfs(&self.fd).call(|| self.says("syncfs", "", ""))
    }

    /// A name that is one part of a path and neither `.` nor `..`.
    pub(super) fn leaf<'a>(&self, name: &'a Path, call: &str) -> Result<&'a Path> {
        let bytes = name.as_os_str().as_bytes();
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
            return Err(SysError::new(self.says(call, name, ""), libc::EINVAL));
        }
        Ok(name)
    }

    pub(super) fn says(&self, call: &str, name: impl AsRef<Path>, extra: &str) -> String {
        let name = name.as_ref();
        let path = if name.as_os_str().is_empty() {
            self.path.clone()
        } else {
            self.path.join(name.strip_prefix("/").unwrap_or(name))
        };
        match extra {
            "" => format!("{call}({path:?})"),
            extra => format!("{call}({path:?}, {extra})"),
        }
    }
}

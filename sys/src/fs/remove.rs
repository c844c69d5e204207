//! Removing a whole tree without following a link, however deep it is.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self as rfs, AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::{Dir, Kind};
use crate::error::{Result, SysResultExt};

impl Dir {
    /// Removes a name with everything beneath it; gone already is success.
    ///
    /// Symbolic links are removed, not followed. A directory that somebody swaps for a link
    /// meanwhile is not entered. Other file systems mounted beneath are not emptied: `EBUSY` or
    /// `EXDEV` is the answer.
    ///
    /// # Errors
    /// Those of openat, getdents64 and unlinkat.
    pub fn remove_tree(&self, name: impl AsRef<Path>) -> Result<()> {
        let name = name.as_ref();
        match self.unlink(name) {
            Ok(()) => return Ok(()),
            Err(error) => match error.errno() {
                libc::ENOENT => return Ok(()),
                libc::EISDIR | libc::EPERM => {}
                _ => return Err(error),
            },
        }
        let directory = match self.subdirectory(name) {
            Ok(directory) => directory,
            Err(error) if error.errno() == libc::ENOENT => return Ok(()),
            Err(error) => return Err(error),
        };
        directory.empty()?;
        match self.remove_dir(name) {
            Err(error) if error.errno() != libc::ENOENT => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes everything in this directory.
    ///
    /// # Errors
    /// As [`Dir::remove_tree`].
    pub fn empty(&self) -> Result<()> {
        // An own stack instead of recursion: a tree may be deeper than the stack of a thread and
        // than the number of descriptors, so only the way down is held, and refound from its top.
        let device = self.stat_self()?.inode.0;
        let mut way: Vec<Passed> = Vec::new();
        let mut current = self.duplicate_for_reading()?;
        loop {
            match current.remove_files_until_directory(device)? {
                Some(name) => {
                    let inode = current.stat_self()?.inode;
                    current = current.subdirectory(&name)?;
                    way.push(Passed { name, inode });
                }
                None => {
                    let Some(passed) = way.pop() else {
                        return Ok(());
                    };
                    current = current.ascend(passed.inode)?;
                    current.remove_dir(&passed.name)?;
                }
            }
        }
    }

    /// Removes what is no directory, and empty directories; names the first that is neither.
    fn remove_files_until_directory(&self, device: u64) -> Result<Option<std::ffi::OsString>> {
        let mut full = None;
        for entry in self.entries()? {
            if entry.kind != Kind::Directory {
                match self.unlink(&entry.name) {
                    Err(error) if error.errno() != libc::ENOENT => return Err(error),
                    _ => {}
                }
                continue;
            }
            match rfs::unlinkat(self.as_fd(), &entry.name, AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::NOTEMPTY | Errno::EXIST) => full = full.or(Some(entry.name)),
                Err(errno) => {
                    return Err(errno).call(|| self.says("unlinkat", &entry.name, "AT_REMOVEDIR"));
                }
            }
        }
        if let Some(name) = &full
            && self.stat(name)?.inode.0 != device
        {
            return Err(Errno::XDEV).call(|| self.says("unlinkat", name, "another file system"));
        }
        Ok(full)
    }

    fn subdirectory(&self, name: impl AsRef<Path>) -> Result<Dir> {
        let name = self.leaf(name.as_ref(), "openat")?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd: OwnedFd = rfs::openat(self.as_fd(), name, flags, Mode::empty())
            .call(|| self.says("openat", name, "O_DIRECTORY"))?;
        Ok(Dir::from_fd(fd, self.path().join(name)))
    }

    fn duplicate_for_reading(&self) -> Result<Dir> {
        self.enter("", super::Follow::Never)
    }

    /// The directory above, if it still is the one we came through: one that was moved meanwhile
    /// has another parent, in which nothing must be removed.
    fn ascend(&self, expected: (u64, u64)) -> Result<Dir> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rfs::openat(self.as_fd(), "..", flags, Mode::empty())
            .call(|| self.says("openat", "..", "O_DIRECTORY"))?;
        let above = Dir::from_fd(fd, self.path().parent().unwrap_or(self.path()));
        if above.stat_self()?.inode != expected {
            return Err(Errno::STALE).call(|| self.says("openat", "..", "moved meanwhile"));
        }
        Ok(above)
    }
}

/// A directory on the way down, and the name that was entered in it.
struct Passed {
    name: std::ffi::OsString,
    inode: (u64, u64),
}

/// Removes a path of the host with everything beneath it; gone already is success.
///
/// # Errors
/// As [`Dir::remove_tree`].
pub fn remove_path(path: &Path) -> Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL).call(|| format!("unlinkat({path:?})"));
    };
    match Dir::open(if parent.as_os_str().is_empty() {
        Path::new(".")
    } else {
        parent
    }) {
        Ok(dir) => dir.remove_tree(name),
        Err(error) if error.errno() == libc::ENOENT => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn removes_a_tree_and_nothing_that_its_links_lead_to() {
        let root = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "x").unwrap();
        fs::create_dir_all(root.path().join("t/a/b/c")).unwrap();
        fs::create_dir_all(root.path().join("t/d/e")).unwrap();
        fs::write(root.path().join("t/a/b/f"), "x").unwrap();
        symlink(outside.path(), root.path().join("t/a/link")).unwrap();
        symlink("/", root.path().join("t/root")).unwrap();
        remove_path(&root.path().join("t")).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
        remove_path(&root.path().join("t")).unwrap();
        remove_path(&root.path().join("no/such")).unwrap();
    }

    #[test]
    fn removes_a_tree_deeper_than_a_path_may_be_long() {
        let root = tempfile::tempdir().unwrap();
        let mut current = Dir::open(root.path()).unwrap();
        let name = "d".repeat(200);
        for _ in 0..100 {
            current.make_dir(&name, 0o755).unwrap();
            current = current.subdirectory(&name).unwrap();
        }
        Dir::open(root.path()).unwrap().empty().unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}

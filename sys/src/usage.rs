//! Directories that say in which way they are being used, to whoever asks, until their user is gone.
//!
//! A note is a record lock of one byte of the directory, a byte for each way: it belongs to the open
//! file, is seen from every mount of the directory, needs no right to write, and is in the way of
//! nobody who locks the directory as a whole.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use rustix::fs::{Mode, OFlags, openat};

use crate::error::{Result, SysResultExt};

/// A note that a directory is being used.
#[derive(Debug)]
pub struct Usage {
    dir: OwnedFd,
    way: u8,
}

impl Usage {
    /// Notes that a directory is being used in a way.
    ///
    /// # Errors
    /// When it cannot be opened, or its file system has no such locks.
    pub fn note(dir: impl AsFd, way: u8) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(dir, ".", flags, Mode::empty()).call(|| "openat(directory, \".\")")?;
        let lock = byte(way, libc::F_RDLCK);
        fcntl(&dir, FcntlArg::F_OFD_SETLK(&lock)).call(|| "fcntl(directory, F_OFD_SETLK)")?;
        Ok(Self { dir, way })
    }

    /// Whether another uses the directory in a way.
    ///
    /// # Errors
    /// When its file system has no such locks.
    pub fn has_other(&self, way: u8) -> Result<bool> {
        let mut lock = byte(way, libc::F_WRLCK);
        fcntl(&self.dir, FcntlArg::F_OFD_GETLK(&mut lock))
            .call(|| "fcntl(directory, F_OFD_GETLK)")?;
        Ok(i32::from(lock.l_type) != libc::F_UNLCK)
    }

    /// Whether another uses the directory in the same way.
    ///
    /// # Errors
    /// Those of [`Self::has_other`].
    pub fn has_another(&self) -> Result<bool> {
        self.has_other(self.way)
    }
}

fn byte(way: u8, kind: i32) -> libc::flock {
    libc::flock {
        l_type: i16::try_from(kind).unwrap_or(0),
        l_whence: 0, // from the start
        l_start: i64::from(way),
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_know_of_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let dir = std::fs::File::open(directory.path()).unwrap();
        let first = Usage::note(&dir, 1).unwrap();
        assert!(!first.has_another().unwrap() && !first.has_other(2).unwrap());
        let second = Usage::note(&dir, 2).unwrap();
        let third = Usage::note(&dir, 1).unwrap();
        assert!(first.has_other(2).unwrap() && first.has_another().unwrap());
        assert!(second.has_other(1).unwrap() && !second.has_another().unwrap());
        drop((second, third));
        assert!(!first.has_other(2).unwrap() && !first.has_another().unwrap());
    }
}

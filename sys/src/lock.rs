//! File locks that say who holds them.
//!
//! `flock` locks belong to the open file, not to the process: a forked child holds the lock too,
//! and it falls only when the last copy of the descriptor is closed. That is how a monitor keeps
//! the lock that its command took, and why a lock never outlives a crash.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Result, SysResultExt};

/// An exclusive lock; given back when the value (and every forked copy of it) is gone.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What came of an attempt that does not wait.
#[derive(Debug)]
pub enum Attempt {
    /// The lock is ours.
    Held(Lock),
    /// Another has it; what its holder wrote into the file.
    Busy(String),
}

impl Lock {
    /// Locks a file, waiting for its holder; the file is made (0600) where it is missing.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn wait(path: &Path) -> Result<Self> {
        loop {
            let file = open(path)?;
            flock(&file, FlockOperation::LockExclusive)
                .call(|| format!("flock({path:?}, LOCK_EX)"))?;
            if still_there(&file, path) {
                return Ok(Self { file });
            }
        }
    }

    /// Locks a file if nobody holds it; the file is made (0600) where it is missing.
    ///
    /// # Errors
    /// When the file cannot be opened or locked.
    pub fn attempt(path: &Path) -> Result<Attempt> {
        loop {
            let mut file = open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) if still_there(&file, path) => return Ok(Attempt::Held(Self { file })),
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let mut holder = String::new();
                    // the holder's words are a courtesy: not being able to read them is no failure
                    let _ = file.read_to_string(&mut holder);
                    return Ok(Attempt::Busy(holder));
                }
                Err(error) => {
                    return Err(error).call(|| format!("flock({path:?}, LOCK_EX | LOCK_NB)"));
                }
            }
        }
    }

    /// Whether somebody holds the lock of a file, asked with three calls; a file that is missing
    /// nobody holds. Who asks for the lock at the same moment may be refused once.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn is_held(path: &Path) -> Result<bool> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error).call(|| format!("open({path:?}, O_RDONLY)")),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(false),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            Err(error) => Err(error).call(|| format!("flock({path:?}, LOCK_SH | LOCK_NB)")),
        }
    }

    /// Locks a directory, waiting for its holder.
    ///
    /// # Errors
    /// When the directory is missing or cannot be locked.
    pub fn wait_directory(path: &Path) -> Result<Self> {
        let file = File::open(path).call(|| format!("open({path:?}, O_RDONLY)"))?;
        flock(&file, FlockOperation::LockExclusive).call(|| format!("flock({path:?}, LOCK_EX)"))?;
        Ok(Self { file })
    }

    /// Shares a directory with all who do so, waiting for one who has it alone.
    ///
    /// # Errors
    /// When the directory is missing or cannot be locked.
    pub fn share_directory(path: &Path) -> Result<Self> {
        let file = File::open(path).call(|| format!("open({path:?}, O_RDONLY)"))?;
        flock(&file, FlockOperation::LockShared).call(|| format!("flock({path:?}, LOCK_SH)"))?;
        Ok(Self { file })
    }

    /// Locks a directory if nobody holds it; `None` when another does.
    ///
    /// # Errors
    /// When the directory is missing or cannot be locked.
    pub fn attempt_directory(path: &Path) -> Result<Option<Self>> {
        let file = File::open(path).call(|| format!("open({path:?}, O_RDONLY)"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { file })),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error).call(|| format!("flock({path:?}, LOCK_EX | LOCK_NB)")),
        }
    }

    /// Writes who holds the lock and why, in place: readers see it while the lock is held.
    ///
    /// # Errors
    /// When the file system is full.
    pub fn say(&mut self, holder: &str) -> Result<()> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)).map(drop))
            .and_then(|()| self.file.write_all(holder.as_bytes()))
            .call(|| format!("write(lock, {holder:?})"))
    }
}

impl AsFd for Lock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
        .call(|| format!("open({path:?}, O_RDWR | O_CREAT | O_NOFOLLOW)"))
}

/// The locked file is still the one with that name: it may have been removed while we waited.
fn still_there(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.symlink_metadata()) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_attempt_learns_who_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let mut first = Lock::wait(&path).unwrap();
        first.say("1 longer").unwrap();
        first.say("2").unwrap();
        assert!(matches!(Lock::attempt(&path).unwrap(), Attempt::Busy(who) if who == "2"));
        drop(first);
        assert!(matches!(Lock::attempt(&path).unwrap(), Attempt::Held(_)));
    }

    #[test]
    fn who_only_asks_takes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(!Lock::is_held(&path).unwrap());
        let held = Lock::wait(&path).unwrap();
        assert!(Lock::is_held(&path).unwrap());
        drop(held);
        assert!(!Lock::is_held(&path).unwrap());
        assert!(matches!(Lock::attempt(&path).unwrap(), Attempt::Held(_)));
    }

    #[test]
    fn a_lock_on_a_removed_file_does_not_count() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let old = Lock::wait(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(Lock::attempt(&path).unwrap(), Attempt::Held(_)));
        drop(old);
    }

    #[test]
    fn a_symlink_is_not_locked() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        assert!(Lock::wait(&path).is_err());
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn directories_lock_too() {
        let directory = tempfile::tempdir().unwrap();
        let held = Lock::wait_directory(directory.path()).unwrap();
        assert!(Lock::attempt_directory(directory.path()).unwrap().is_none());
        drop(held);
        assert!(Lock::attempt_directory(directory.path()).unwrap().is_some());
        let shared = Lock::share_directory(directory.path()).unwrap();
        let again = Lock::share_directory(directory.path()).unwrap();
        assert!(Lock::attempt_directory(directory.path()).unwrap().is_none());
        drop((shared, again));
    }
}

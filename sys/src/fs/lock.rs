//! Locks on directories: who holds one is alive.

use rustix::fs::{self as rfs, FlockOperation};
use rustix::io::Errno;

use super::Dir;
use crate::error::{Result, SysResultExt};

impl Dir {
    /// Locks this directory until it is closed; `false` where somebody else holds the lock.
    ///
    /// # Errors
    /// Those of flock.
    pub fn try_lock(&self) -> Result<bool> {
        match rfs::flock(self, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(Errno::WOULDBLOCK) => Ok(false),
            Err(errno) => Err(errno).call(|| self.says("flock", "", "LOCK_EX|LOCK_NB")),
        }
    }

    /// Locks this directory until it is closed; waits while somebody else holds the lock.
    ///
    /// # Errors
    /// Those of flock.
    pub fn lock(&self) -> Result<()> {
        rustix::io::retry_on_intr(|| rfs::flock(self, FlockOperation::LockExclusive))
            .call(|| self.says("flock", "", "LOCK_EX"))
    }
}

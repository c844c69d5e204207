//! The container's first process (or an exec), seen from its parent.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use plan::Timing;
use sys::process::Stat;
use sys::socket::MessageSocket;

use crate::error::StartError;
use crate::timing::StepTime;

/// The child's name while it prepares itself.
pub(crate) const PREPARING: &str = "rbox:start";

/// The name of the memory file that the trampoline is executed from.
pub(crate) const TRAMPOLINE: &str = "rbox-trampoline";

/// A process that prepares itself and then becomes the program.
///
/// Dropping it before [`Child::wait_exec`] has returned makes the child end by itself: its end of
/// the sync socket closes. The process is the caller's child and is to be reaped by the caller.
#[derive(Debug)]
pub struct Child {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) sync: Option<MessageSocket>,
    pub(crate) program: String,
    pub(crate) beside: Vec<Timing>,
}

/// A child whose program runs.
#[derive(Debug)]
pub struct Started {
    /// The master of the container's terminal, where one was asked for.
    pub terminal: Option<OwnedFd>,
    /// The process that runs the program, in the caller's process ids.
    pub pid: i32,
    /// When that process began, in clock ticks since boot.
    pub start_time: u64,
    /// How long the steps inside took, where the plan asked for times.
    pub times: Vec<StepTime>,
}

impl Child {
    /// Its process id, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// How long the steps took that the parent did beside the child, where the plan asked for times.
    pub fn beside(&self) -> &[Timing] {
        &self.beside
    }

    /// Its network namespace, usable at once after [`crate::spawn()`] returned.
    ///
    /// # Errors
    /// When the child has ended already.
    pub fn network_namespace(&self) -> sys::Result<OwnedFd> {
        sys::namespace::network_of(self.pidfd.as_fd(), self.pid)
    }

    /// Says that the network is set up: the child may execute the program.
    ///
    /// # Errors
    /// When the child has ended; [`Child::wait_exec`] then says why.
    pub fn release_network_ready(&mut self) -> sys::Result<()> {
        match &self.sync {
            Some(sync) => crate::sync::release(sync),
            None => Ok(()),
        }
    }

    /// Waits until the program runs. The child waits in turn for
    /// [`Child::release_network_ready`], so call that first.
    ///
    /// # Errors
    /// [`StartError`] with the child's own report; the child then ends and is to be reaped.
    pub fn wait_exec(&mut self) -> Result<Started, StartError> {
        let Some(sync) = self.sync.take() else {
            return Ok(Started {
                terminal: None,
                pid: self.pid,
                start_time: 0,
                times: Vec::new(),
            });
        };
        let mut started = crate::sync::wait_exec(&sync, self.pid, &self.program)?;
        // A child that is killed after its last word closes the conversation as one whose program
        // begins does: what tells them apart is the name that its corpse has.
        match Stat::of(started.pid) {
            Ok(stat) if stat.ending && is_unborn(&stat.name) => Err(StartError::Died),
            Ok(stat) => {
                started.start_time = stat.start_time;
                Ok(started)
            }
            Err(error) => Err(StartError::Sync(error)),
        }
    }

    /// Kills it.
    ///
    /// # Errors
    /// Only those that are not "gone already".
    pub fn kill(&self) -> sys::Result<()> {
        sys::process::kill_pidfd(self.pidfd.as_fd())
    }
}

/// Whether a process of this name has not come to its program yet. In the trampoline the name is
/// that of the memory file, before Linux 6.14 the number of its descriptor.
fn is_unborn(name: &str) -> bool {
    let file = format!("memfd:{TRAMPOLINE}");
    name == PREPARING
        || name == file.get(..15).unwrap_or(&file)
        || (!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_before_the_program() {
        for name in ["rbox:start", "memfd:rbox-tram", "7"] {
            assert!(is_unborn(name), "{name}");
        }
        for name in ["", "sh", "rbox", "7z", "rbox:starter"] {
            assert!(!is_unborn(name), "{name}");
        }
    }
}

//! `clone3`: a child in new namespaces, born inside its cgroup, with a descriptor for it.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::checked;
use crate::error::Result;

/// libc's constant is too narrow for its value.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// The namespaces that a child begins anew, as `CLONE_NEW…` bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CloneFlags(pub u64);

/// How a child is made.
#[derive(Debug, Default)]
pub struct Fork<'a> {
    /// Namespaces of its own.
    pub namespaces: CloneFlags,
    /// A cgroup v2 directory in which it is born.
    pub cgroup: Option<BorrowedFd<'a>>,
}

/// A child, seen from its parent.
#[derive(Debug)]
pub struct Forked {
    /// Its process id in the caller's pid namespace.
    pub pid: i32,
    /// Readable once it has ended.
    pub pidfd: OwnedFd,
}

/// Makes a child that runs `child` and ends with the code it returns.
///
/// The child is a copy of the calling thread alone: the caller must have no other thread that could
/// hold a lock (of the allocator, of a stream) at this moment. rbox makes no thread before a start.
///
/// # Errors
/// What `clone3` says: `EPERM` without the privilege for a namespace, `ENOSPC` when there are too
/// many, `EBUSY` when the cgroup is an inner node.
pub fn fork(how: &Fork<'_>, child: impl FnOnce() -> i32) -> Result<Forked> {
    let mut pidfd: i32 = -1;
    let mut flags = how.namespaces.0 | libc::CLONE_PIDFD as u64;
    let mut cgroup = 0;
    if let Some(directory) = how.cgroup {
        flags |= CLONE_INTO_CGROUP;
        cgroup = directory.as_raw_fd() as u64;
    }
    let arguments = libc::clone_args {
        flags,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup,
    };
    // SAFETY: the structure is whole and outlives the call; without CLONE_VM the child has its own
    // copy of the memory, so that nothing the parent owns can change under it; the caller promises
    // that it is the only thread.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    let pid = checked(answer, || {
        format!("clone3({{flags={flags:#x}, exit_signal=SIGCHLD}})")
    })?;
    if pid == 0 {
        super::exit_now(child());
    }
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Forked {
        pid: i32::try_from(pid).unwrap_or(i32::MAX),
        pidfd,
    })
}

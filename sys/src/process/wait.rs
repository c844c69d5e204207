//! Signals by descriptor, and how a process ended.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{Signal, kill, raise};
use nix::unistd::getppid;
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};

use super::checked;
use crate::error::{Result, SysError, SysResultExt};

/// The pidfd of the parent for [`kill_parent`] from a pid namespace that cannot see it.
static PARENT: AtomicI32 = AtomicI32::new(-1);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this code.
    Code(u8),
    /// A signal ended it.
    Signal(i32),
}

impl Exit {
    /// The code that a shell and Docker show: a signal counts as 128 + its number.
    pub fn shell_code(self) -> i32 {
        match self {
            Exit::Code(code) => i32::from(code),
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

/// Ends the calling process at once: no destructor, no handler runs.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: the call takes a number and does not return.
    unsafe { libc::_exit(code) }
}

/// Ends the calling process by SIGKILL, as a crash would: no destructor runs. The first process of
/// a pid namespace, which no signal of its own can end, exits at once with the same code.
pub fn kill_self() {
    let _ = raise(Signal::SIGKILL);
    exit_now(128 + libc::SIGKILL);
}

/// Names the parent by its pidfd, for a child that is about to lose sight of it.
pub fn remember_parent(parent: OwnedFd) {
    PARENT.store(parent.into_raw_fd(), Ordering::Relaxed);
}

/// Ends the parent process by SIGKILL; nothing happens where the parent cannot be named.
pub fn kill_parent() {
    let remembered = PARENT.load(Ordering::Relaxed);
    if remembered >= 0 {
        // SAFETY: the descriptor was given away to `remember_parent` and is never closed.
        let parent = unsafe { BorrowedFd::borrow_raw(remembered) };
        let _ = kill_pidfd(parent);
        return;
    }
    let parent = getppid();
    // 0 would be our own process group: the parent lies outside our pid namespace.
    if parent.as_raw() > 0 {
        let _ = kill(parent, Signal::SIGKILL);
    }
}

/// A descriptor for a process.
///
/// # Errors
/// `ESRCH` when it is gone.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let call = || format!("pidfd_open({pid})");
    let id = Pid::from_raw(pid)
        .filter(|_| pid > 0)
        .ok_or_else(|| SysError::new(call(), libc::EINVAL))?;
    rustix::process::pidfd_open(id, PidfdFlags::empty()).call(call)
}

/// Sends a signal by number.
///
/// # Errors
/// `ESRCH` when the process is gone, `EINVAL` for no signal, `EPERM`.
pub fn send_signal(process: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: the descriptor is open; no signal information is passed.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    checked(answer, || format!("pidfd_send_signal({signal})")).map(drop)
}

/// Kills a process; gone already is success.
///
/// # Errors
/// `EPERM`.
pub fn kill_pidfd(process: BorrowedFd<'_>) -> Result<()> {
    match send_signal(process, libc::SIGKILL) {
        Err(error) if error.errno() == libc::ESRCH => Ok(()),
        other => other,
    }
}

/// Kills a process by its id; gone already is success.
///
/// # Errors
/// `EPERM`.
pub fn kill_pid(pid: i32) -> Result<()> {
    match pidfd_open(pid) {
        Err(error) if error.errno() == libc::ESRCH => Ok(()),
        Err(error) => Err(error),
        Ok(process) => kill_pidfd(process.as_fd()),
    }
}

/// Reaps a child by its descriptor; `None` when it has not ended and `block` is off.
///
/// # Errors
/// `ECHILD` when it is not ours or was reaped.
pub fn wait_pidfd(process: BorrowedFd<'_>, block: bool) -> Result<Option<Exit>> {
    let mut options = WaitIdOptions::EXITED;
    if !block {
        options |= WaitIdOptions::NOHANG;
    }
    let status = loop {
        match rustix::process::waitid(WaitId::PidFd(process), options) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other.call(|| "waitid(P_PIDFD, WEXITED)")?,
        }
    };
    Ok(status.map(|status| match status.terminating_signal() {
        Some(signal) => Exit::Signal(signal),
        None => Exit::Code(status.exit_status().unwrap_or(0).to_le_bytes()[0]),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_ends_as_it_says() {
        let child = crate::process::fork(&crate::process::Fork::default(), || 7).unwrap();
        let exit = wait_pidfd(child.pidfd.as_fd(), true).unwrap();
        assert_eq!(exit, Some(Exit::Code(7)));
        assert_eq!(Exit::Signal(9).shell_code(), 137);
        kill_pid(child.pid).unwrap();
    }
}

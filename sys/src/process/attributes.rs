//! What is set once per process: name, death signal, dumpable, limits, session, descriptors.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use super::checked;
use crate::error::{Result, SysResultExt};

/// A resource limit; `u64::MAX` is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// In force.
    pub soft: u64,
    /// The ceiling.
    pub hard: u64,
}

fn prctl(option: i32, value: u64, name: &str) -> Result<()> {
    // SAFETY: all options used here take plain numbers and no pointer.
    let answer = unsafe { libc::prctl(option, value, 0, 0, 0) };
    checked(answer.into(), || format!("prctl({name}, {value})")).map(drop)
}

/// The signal the kernel sends this process when its parent ends; cleared by a change of user.
///
/// # Errors
/// Only for a number that is no signal.
pub fn set_death_signal(signal: i32) -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, "PR_SET_PDEATHSIG")
}

/// Whether others of the same user may look into this process.
///
/// # Errors
/// None in practice.
pub fn set_dumpable(dumpable: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, dumpable.into(), "PR_SET_DUMPABLE")
}

/// No program executed from here on gains privilege by doing so.
///
/// # Errors
/// None in practice.
pub fn no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")
}

/// Whether orphaned descendants become children of this process.
///
/// # Errors
/// None in practice.
pub fn set_child_subreaper(on: bool) -> Result<()> {
    prctl(
        libc::PR_SET_CHILD_SUBREAPER,
        on.into(),
        "PR_SET_CHILD_SUBREAPER",
    )
}

/// Whether the permitted capabilities outlive the next change of user.
///
/// # Errors
/// `EPERM` when the security bits are locked.
pub fn keep_capabilities(on: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, on.into(), "PR_SET_KEEPCAPS")
}

/// The name shown by `ps`; the kernel keeps 15 bytes.
///
/// # Errors
/// None in practice.
pub fn set_name(name: &CStr) -> Result<()> {
    rustix::thread::set_name(name).call(|| format!("prctl(PR_SET_NAME, {name:?})"))
}

/// Becomes the leader of a new session without a terminal.
///
/// # Errors
/// `EPERM` for a process that leads a group.
pub fn new_session() -> Result<()> {
    rustix::process::setsid().map(drop).call(|| "setsid()")
}

/// Sets the file mode creation mask and gives the earlier one.
pub fn set_umask(mask: u32) -> u32 {
    rustix::process::umask(Mode::from_raw_mode(mask)).as_raw_mode()
}

/// Sets a resource limit of this process; `resource` is the kernel's number.
///
/// # Errors
/// `EPERM` when the ceiling would rise without `CAP_SYS_RESOURCE`, `EINVAL` for soft above hard.
pub fn set_limit(resource: u32, limit: Limit) -> Result<()> {
    let new = libc::rlimit64 {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // SAFETY: the new limit is whole; no old one is asked for; pid 0 is this process.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const new,
            std::ptr::null_mut::<libc::rlimit64>(),
        )
    };
    checked(answer, || {
        format!("prlimit64({resource}, {{{}, {}}})", limit.soft, limit.hard)
    })
    .map(drop)
}

fn close_range(first: u32, last: u32, flags: u32) -> Result<()> {
    // SAFETY: the call takes numbers; what it closes is the callers' concern, see below.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    checked(answer, || format!("close_range({first}, {last}, {flags})")).map(drop)
}

/// Marks every descriptor from `first` on to be closed by the next `exec`.
///
/// # Errors
/// `ENOSYS` before Linux 5.11.
pub fn cloexec_from(first: u32) -> Result<()> {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC)
}

/// Closes every descriptor from `first` on, for a child that is about to live alone: no value of
/// the parent's that owns one of them may be used or dropped afterwards.
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_from(first: u32) -> Result<()> {
    close_range(first, u32::MAX, 0)
}

/// Closes every descriptor but the first three and this one, under the conditions of
/// [`close_from`].
///
/// # Errors
/// `ENOSYS` before Linux 5.9.
pub fn close_all_but(kept: BorrowedFd<'_>) -> Result<()> {
    let number = kept.as_raw_fd().cast_unsigned();
    if number > 3 {
        close_range(3, number - 1, 0)?;
    }
    close_range(number.max(2) + 1, u32::MAX, 0)
}

/// Leaves the caller's session keyring for a new, empty one; a kernel without keyrings is fine.
///
/// # Errors
/// `EDQUOT` when the user has too many.
pub fn join_session_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    match checked(answer, || {
        "keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)".to_owned()
    }) {
        Err(error) if error.errno() == libc::ENOSYS => Ok(()),
        other => other.map(drop),
    }
}

/// Gives every signal its default action and lets all through: what the parent set up for itself
/// (Rust ignores SIGPIPE, a monitor blocks what it reads from a descriptor) is none of the child's.
pub fn default_signals() {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    // The kernel's own structure: handler, flags, restorer, mask. All zero is the default action.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // The C library keeps two numbers to itself and would not touch them: hence the bare call.
        // SAFETY: the structure is whole and only read, the old one is not asked for, a mask has
        // eight bytes; numbers that cannot be changed are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            )
        };
    }
    // Cannot fail for a whole set.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

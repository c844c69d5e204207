//! Leaving the caller: a forked process that keeps nothing of the one it came from.

// Descriptors that nobody in this program owns are closed by number.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use crate::error::{Result, SysError, SysResultExt};

/// Makes the calling process one of its own: a new session, the root directory as its place,
/// `/dev/null` as its three streams, 022 as its umask, no descriptor but those to keep and no signal blocked.
///
/// Only for a freshly forked child that never returns into its parent's functions: descriptors
/// that those own are closed under them.
///
/// # Errors
/// The first call that fails.
pub fn leave_caller(keep: &[BorrowedFd<'_>]) -> Result<()> {
    rustix::process::setsid().call(|| "setsid()")?;
    rustix::process::chdir("/").call(|| "chdir(\"/\")")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut numbers: Vec<u32> = keep
        .iter()
        .filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok())
        .filter(|number| *number > 2)
        .collect();
    numbers.sort_unstable();
    let mut first = 3;
    for number in numbers {
        if first < number {
            close_range(first, number - 1)?;
        }
        first = number + 1;
    }
    close_range(first, u32::MAX)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .call(|| "open(\"/dev/null\", O_RDWR)")?;
    nix::unistd::dup2_stdin(&null).call(|| "dup2(0)")?;
    nix::unistd::dup2_stdout(&null).call(|| "dup2(1)")?;
    nix::unistd::dup2_stderr(&null).call(|| "dup2(2)")?;
    nix::sys::signal::SigSet::empty()
        .thread_set_mask()
        .call(|| "rt_sigprocmask(SIG_SETMASK, [])")
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: plain numbers; the caller of `leave_caller` promises that nobody uses what is closed.
    let answer = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if answer == 0 {
        return Ok(());
    }
    Err(SysError::from_io(
        format!("close_range({first}, {last}, 0)"),
        std::io::Error::last_os_error(),
    ))
}

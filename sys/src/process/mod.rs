//! Processes: making them, waiting for them, signalling them, and what is set once per process.

// The calls here have no safe wrapper in nix or rustix, or not in the form needed.
#![allow(unsafe_code)]

mod attributes;
mod execute;
mod fork;
mod stat;
mod wait;

pub use attributes::{
    Limit, cloexec_from, close_all_but, close_from, default_signals, join_session_keyring,
    keep_capabilities, new_session, no_new_privileges, set_child_subreaper, set_death_signal,
    set_dumpable, set_limit, set_name, set_umask,
};
pub use execute::{TRAMPOLINE, execute_descriptor, execute_path, keep_open, sealed_program};
pub use fork::{CloneFlags, Fork, Forked, fork};
pub use stat::Stat;
pub use wait::{
    Exit, exit_now, kill_parent, kill_pid, kill_pidfd, kill_self, pidfd_open, remember_parent,
    send_signal, wait_pidfd,
};

use crate::error::{Result, SysError};

/// Turns the C library's `-1` into the error of a named call.
pub(crate) fn checked(answer: i64, call: impl FnOnce() -> String) -> Result<i64> {
    if answer >= 0 {
        return Ok(answer);
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Err(SysError::new(call(), errno))
}

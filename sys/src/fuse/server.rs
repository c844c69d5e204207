//! The server's process: leaving its caller, reporting that it is ready, waiting for its end.
#![allow(unsafe_code)] // fork

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Result, SysError, SysResultExt};

/// The server's end of the pipe that its caller waits on.
#[derive(Debug)]
pub struct Ready(OwnedFd);

/// Who returns from [`detach`].
#[derive(Debug)]
pub enum Side {
    /// The calling process, once the server has answered with these bytes.
    Caller(Vec<u8>),
    /// The server, a process of its own session.
    Server(Ready),
}

impl Ready {
    /// Sends the caller its answer and lets it go on.
    pub fn answer(self, bytes: &[u8]) {
        let _ = File::from(self.0).write_all(bytes);
    }

    pub(super) fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Forks a server that belongs to no terminal and is nobody's child; the caller must have one
/// thread only and returns when the server has answered or ended.
///
/// The server keeps no descriptor of the caller's: none of its locks, none of its connections. No
/// value of the caller's that owns one may be used or dropped on that side.
pub fn detach() -> Result<Side> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        return Err(SysError::new(
            "fork() in a program of many threads",
            libc::EBUSY,
        ));
    }
    let (reader, writer) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).call(|| "pipe2(O_CLOEXEC)")?;
    // SAFETY: the process has one thread, as was just seen, so the child may do anything.
    match unsafe { fork() }.call(|| "fork()")? {
        ForkResult::Parent { child } => {
            drop(writer);
            let _ = waitpid(child, None);
            let mut answer = Vec::new();
            File::from(reader)
                .read_to_end(&mut answer)
                .call(|| "read(pipe of the server)")?;
            Ok(Side::Caller(answer))
        }
        ForkResult::Child => {
            drop(reader);
            let _ = setsid();
            // SAFETY: as above; the intermediate process has one thread as well.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => {}
                // SAFETY: ends the process without running anything of the caller's.
                _ => unsafe { libc::_exit(0) },
            }
            leave_terminal();
            crate::process::close_all_but(writer.as_fd())?;
            Ok(Side::Server(Ready(writer)))
        }
    }
}

fn leave_terminal() {
    let _ = chdir("/");
    if let Ok(null) = openat(CWD, "/dev/null", OFlags::RDWR, Mode::empty()) {
        let _ = dup2_stdin(null.as_fd());
        let _ = dup2_stdout(null.as_fd());
        let _ = dup2_stderr(null.as_fd());
    }
}

fn ending() -> SigSet {
    [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
    ]
    .into_iter()
    .collect()
}

/// Keeps SIGTERM, SIGINT, SIGHUP and SIGUSR1 for [`wait_signal`]; call before making threads.
pub fn block_signals() -> Result<()> {
    ending().thread_block().call(|| "sigprocmask(SIG_BLOCK)")
}

/// Waits for one of the blocked signals; true when it asks the process to end.
pub fn wait_signal() -> bool {
    matches!(ending().wait(), Ok(Signal::SIGTERM | Signal::SIGINT))
}

/// Raises the soft limit on descriptors to the hard one and returns it.
pub fn raise_descriptor_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) => {
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
            hard
        }
        Err(_) => 1024,
    }
}

/// Ends the process at once: nothing that the caller had prepared is run or flushed.
pub fn leave() -> ! {
    // SAFETY: _exit takes a plain number and does not return.
    unsafe { libc::_exit(0) }
}

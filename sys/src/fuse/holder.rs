//! A process that holds the descriptors of a server: what the server had open is open still when it
//! is dead, and another one goes on with it.
//!
//! ```text
//! holder ──clone(CLONE_FILES)──► server   one table of descriptors, no memory in common
//!   │  ◄──────── SIGUSR1 ────────  │      it serves
//!   │  ◄──────── SIGCHLD ────────  ×      it is dead; nothing was closed
//!   └────clone(CLONE_FILES)──► server     takes what it knows of, closes the rest
//! ```
#![allow(unsafe_code)] // clone with a common table, descriptors by number

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getppid};

use crate::error::{Result, SysError, SysResultExt};
use crate::fuse::Ready;

/// In a server, its holder.
static HOLDER: AtomicI32 = AtomicI32::new(-1);

/// The holder, before and between its servers.
#[derive(Debug)]
pub struct Holder {
    ready: Option<Ready>,
    /// Descriptors that are no server's.
    own: BTreeSet<i32>,
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has done all it had to, or says that it cannot.
    Left,
    /// It was killed or failed.
    Died,
}

/// Descriptors that servers before this one had open; what is not taken is closed at last.
#[derive(Debug)]
pub struct Inherited {
    open: BTreeSet<i32>,
}

fn signals() -> SigSet {
    [
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGCHLD,
    ]
    .into_iter()
    .collect()
}

/// The numbers of all open descriptors.
fn open() -> Result<BTreeSet<i32>> {
    let call = || "readdir(\"/proc/self/fd\")";
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc/self/fd").call(call)? {
        let name = entry.call(call)?.file_name();
        found.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    // That of the listing itself is closed again.
    found.retain(|&number| {
        // SAFETY: borrowed to ask whether it is open, and for nothing else.
        let fd = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_getfd(fd).is_ok()
    });
    Ok(found)
}

impl Holder {
    /// Makes the calling process one, which must have one thread only; `ready` is told when the
    /// first server serves.
    ///
    /// # Errors
    /// When it has more threads, or `/proc` is not there.
    pub fn new(ready: Option<Ready>) -> Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
        if threads != 1 {
            let call = "clone(CLONE_FILES) in a program of many threads";
            return Err(SysError::new(call, libc::EBUSY));
        }
        signals().thread_block().call(|| "sigprocmask(SIG_BLOCK)")?;
        let mut own = open()?;
        if let Some(ready) = &ready {
            own.remove(&ready.number()); // it ends here, and its number comes again
        }
        Ok(Self { ready, own })
    }

    /// Tells whoever waits for the first server that there is none.
    pub fn refuse(&mut self, why: &str) {
        if let Some(ready) = self.ready.take() {
            ready.answer(why.as_bytes());
        }
    }

    /// Starts a server, which ends with the number that it returns, and waits for its end. Requests
    /// to end are passed on to it.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn run(&mut self, server: impl FnOnce(Inherited) -> i32) -> Result<End> {
        // SAFETY: without CLONE_VM the child has its own copy of the memory, and this process has
        // one thread, so that nobody can have held a lock.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_clone,
                libc::CLONE_FILES | libc::SIGCHLD,
                0_usize,
                0_usize,
                0_usize,
                0_usize,
            )
        };
        let answer = nix::Error::result(answer).call(|| "clone(CLONE_FILES)")?;
        if answer == 0 {
            let code = self.serve(server);
            crate::process::exit_now(code);
        }
        self.wait(Pid::from_raw(i32::try_from(answer).unwrap_or(i32::MAX)))
    }

    /// The child's side.
    fn serve(&self, server: impl FnOnce(Inherited) -> i32) -> i32 {
        HOLDER.store(getppid().as_raw(), Ordering::Relaxed);
        let Ok(mut open) = open() else { return 1 };
        open.retain(|number| !self.own.contains(number));
        if let Some(ready) = &self.ready {
            open.remove(&ready.number());
        }
        let server = std::panic::AssertUnwindSafe(|| server(Inherited { open }));
        std::panic::catch_unwind(server).unwrap_or(101)
    }

    fn wait(&mut self, server: Pid) -> Result<End> {
        loop {
            match signals().wait().call(|| "sigwait()")? {
                Signal::SIGUSR1 => {
                    if let Some(ready) = self.ready.take() {
                        ready.answer(format!("ok {server}").as_bytes());
                    }
                }
                Signal::SIGCHLD => match waitpid(server, Some(WaitPidFlag::WNOHANG)) {
                    Ok(WaitStatus::Exited(_, 0)) => return Ok(End::Left),
                    Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => return Ok(End::Died),
                    Ok(_) => {}
                    Err(errno) => return Err(errno).call(|| "waitpid()"),
                },
                Signal::SIGTERM | Signal::SIGINT => {
                    let _ = kill(server, Signal::SIGTERM);
                }
                _ => {}
            }
        }
    }
}

/// Tells the holder of the calling process that it serves.
pub fn tell_holder() {
    let holder = getppid();
    // Another parent has taken over a server whose holder is gone.
    if holder.as_raw() == HOLDER.load(Ordering::Relaxed) {
        let _ = kill(holder, Signal::SIGUSR1);
    }
}

impl Inherited {
    /// Takes a descriptor, which nobody else in this process has.
    pub fn take(&mut self, number: i32) -> Option<OwnedFd> {
        if !self.open.remove(&number) {
            return None;
        }
        // SAFETY: it is open, since nothing but this closes what was inherited, and given away once.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        for &number in &self.open {
            // SAFETY: as in `take`.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;
    use crate::process::{Exit, Fork, fork, kill_self, wait_pidfd};
    use crate::shared::SharedWords;

    #[test]
    fn what_a_dead_server_had_open_goes_to_the_next() {
        let words = SharedWords::new(2).unwrap();
        let number = &words[0];
        let order = Ordering::SeqCst;
        let hold = || {
            let mut holder = Holder::new(None).unwrap();
            let first = holder.run(|_| {
                let mut file = tempfile::tempfile().unwrap();
                let other = tempfile::tempfile().unwrap();
                file.write_all(b"kept").unwrap();
                number.store(u64::try_from(file.as_raw_fd()).unwrap(), order);
                words[1].store(u64::try_from(other.as_raw_fd()).unwrap(), order);
                kill_self();
                0
            });
            assert_eq!(first.unwrap(), End::Died);
            let second = holder.run(|mut inherited| {
                let number = i32::try_from(number.load(order)).unwrap();
                let other = i32::try_from(words[1].load(order)).unwrap();
                let mut file = std::fs::File::from(inherited.take(number).unwrap());
                assert!(inherited.take(number).is_none(), "twice");
                drop(inherited);
                assert!(!open().unwrap().contains(&other), "left open");
                let mut text = String::new();
                file.rewind().unwrap();
                file.read_to_string(&mut text).unwrap();
                i32::from(text != "kept")
            });
            i32::from(second.unwrap() != End::Left)
        };
        // A process of its own: it must have one thread.
        let child = fork(&Fork::default(), hold).unwrap();
        let end = wait_pidfd(child.pidfd.as_fd(), true).unwrap();
        assert_eq!(end, Some(Exit::Code(0)));
    }
}

//! Waiting for many descriptors at once: epoll, poll, signalfd, inotify.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::epoll;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::inotify;

use crate::error::{Result, SysResultExt};

/// What to wait for on a descriptor. Hang-up and error are always reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Something can be read.
    Read,
    /// Something can be written.
    Write,
    /// Both.
    Both,
    /// Only hang-up and error.
    HangUp,
}

impl Interest {
    fn epoll(self) -> epoll::EventFlags {
        match self {
            Interest::Read => epoll::EventFlags::IN,
            Interest::Write => epoll::EventFlags::OUT,
            Interest::Both => epoll::EventFlags::IN | epoll::EventFlags::OUT,
            Interest::HangUp => epoll::EventFlags::empty(),
        }
    }

    fn poll(self) -> PollFlags {
        match self {
            Interest::Read => PollFlags::IN,
            Interest::Write => PollFlags::OUT,
            Interest::Both => PollFlags::IN | PollFlags::OUT,
            Interest::HangUp => PollFlags::empty(),
        }
    }
}

/// What happened on a descriptor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Something can be read, or the end was reached.
    pub read: bool,
    /// Something can be written.
    pub write: bool,
    /// The other side is gone, or the descriptor is broken.
    pub hang_up: bool,
}

/// One event: whose, and what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The number given when the descriptor was added.
    pub token: u64,
    /// What happened.
    pub ready: Readiness,
}

/// A set of descriptors to wait for.
#[derive(Debug)]
pub struct Epoll(OwnedFd);

impl Epoll {
    /// An empty set.
    ///
    /// # Errors
    /// Only when descriptors or memory have run out.
    pub fn new() -> Result<Self> {
        epoll::create(epoll::CreateFlags::CLOEXEC)
            .map(Self)
            .call(|| "epoll_create1(EPOLL_CLOEXEC)")
    }

    /// Adds a descriptor under a number.
    ///
    /// # Errors
    /// `EPERM` for what cannot be waited for (a regular file), `EEXIST` when it is in already.
    pub fn add(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        epoll::add(
            &self.0,
            fd,
            epoll::EventData::new_u64(token),
            interest.epoll(),
        )
        .call(|| "epoll_ctl(EPOLL_CTL_ADD)")
    }

    /// Changes what a descriptor is waited for.
    ///
    /// # Errors
    /// `ENOENT` when it was never added.
    pub fn modify(&self, fd: impl AsFd, token: u64, interest: Interest) -> Result<()> {
        epoll::modify(
            &self.0,
            fd,
            epoll::EventData::new_u64(token),
            interest.epoll(),
        )
        .call(|| "epoll_ctl(EPOLL_CTL_MOD)")
    }

    /// Takes a descriptor out.
    ///
    /// # Errors
    /// `ENOENT` when it was never added.
    pub fn remove(&self, fd: impl AsFd) -> Result<()> {
        epoll::delete(&self.0, fd).call(|| "epoll_ctl(EPOLL_CTL_DEL)")
    }

    /// Waits for events, at most so long; without a limit until something happens. An interruption
    /// by a signal counts as nothing having happened.
    ///
    /// # Errors
    /// Only for a broken set.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<Vec<Event>> {
        let mut space = [const { MaybeUninit::<epoll::Event>::uninit() }; 16];
        let timeout = timeout.map(timespec);
        let (events, _) = match epoll::wait(&self.0, &mut space, timeout.as_ref()) {
            Ok(events) => events,
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno).call(|| "epoll_wait"),
        };
        Ok(events
            .iter()
            .map(|event| {
                let flags = event.flags;
                Event {
                    token: event.data.u64(),
                    ready: Readiness {
                        read: flags.intersects(epoll::EventFlags::IN),
                        write: flags.intersects(epoll::EventFlags::OUT),
                        hang_up: flags.intersects(epoll::EventFlags::HUP | epoll::EventFlags::ERR),
                    },
                }
            })
            .collect())
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Waits for a few descriptors without a set of its own; regular files are always ready.
/// Returns one readiness per descriptor, all empty after the time or a signal.
///
/// # Errors
/// Only when memory has run out.
pub fn poll(
    descriptors: &[(BorrowedFd<'_>, Interest)],
    timeout: Option<Duration>,
) -> Result<Vec<Readiness>> {
    let mut list: Vec<PollFd<'_>> = descriptors
        .iter()
        .map(|(fd, interest)| PollFd::from_borrowed_fd(*fd, interest.poll()))
        .collect();
    let timeout = timeout.map(timespec);
    match rustix::event::poll(&mut list, timeout.as_ref()) {
        Ok(_) => Ok(list.iter().map(|one| readiness(one.revents())).collect()),
        Err(rustix::io::Errno::INTR) => Ok(vec![Readiness::default(); list.len()]),
        Err(errno) => Err(errno).call(|| "poll"),
    }
}

fn readiness(flags: PollFlags) -> Readiness {
    Readiness {
        read: flags.intersects(PollFlags::IN),
        write: flags.intersects(PollFlags::OUT),
        hang_up: flags.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Signals read from a descriptor instead of interrupting the program.
///
/// They are blocked while this lives; the mask that was there before comes back on drop.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Blocks these signals for the calling thread and reads them from now on.
    ///
    /// # Errors
    /// Only when descriptors have run out.
    pub fn catch(signals: &[Signal]) -> Result<Self> {
        let set: SigSet = signals.iter().copied().collect();
        let before = set
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .call(|| "rt_sigprocmask(SIG_BLOCK)")?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .call(|| "signalfd4")?;
        Ok(Self { fd, before })
    }

    /// The same by number; a number that is no signal is left out.
    ///
    /// # Errors
    /// Only when descriptors have run out.
    pub fn catch_numbers(numbers: &[i32]) -> Result<Self> {
        let signals: Vec<Signal> = numbers
            .iter()
            .filter_map(|number| Signal::try_from(*number).ok())
            .collect();
        Self::catch(&signals)
    }

    /// The next signal's number, when one waits.
    ///
    /// # Errors
    /// Only for a broken descriptor.
    pub fn next(&self) -> Result<Option<i32>> {
        match self.fd.read_signal() {
            Ok(Some(info)) => Ok(i32::try_from(info.ssi_signo).ok()),
            Ok(None) | Err(nix::Error::EINTR) => Ok(None),
            Err(errno) => Err(errno).call(|| "read(signalfd)"),
        }
    }

    /// Stops catching and lets the signal do to this program what it does by default. Returns if
    /// that is nothing.
    pub fn deliver(self, signal: i32) {
        let Ok(signal) = Signal::try_from(signal) else {
            return;
        };
        if let Ok(before) = crate::pty::default_action(signal) {
            drop(self);
            let _ = nix::sys::signal::raise(signal);
            crate::pty::set_action(signal, &before);
        }
    }

    /// Stops this program as SIGTSTP would, until it is continued.
    pub fn stop_here() {
        let _ = nix::sys::signal::raise(Signal::SIGSTOP);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let _ = self.before.thread_set_mask();
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Tells when files in a directory are written, made or renamed.
#[derive(Debug)]
pub struct DirectoryWatch(OwnedFd);

impl DirectoryWatch {
    /// Watches from now on.
    ///
    /// # Errors
    /// `ENOENT` when there is no such directory, `ENOSPC` when too many are watched.
    pub fn new(directory: &Path) -> Result<Self> {
        let call = || format!("inotify_add_watch({directory:?})");
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).call(|| "inotify_init1")?;
        let events = inotify::WatchFlags::MODIFY
            | inotify::WatchFlags::CREATE
            | inotify::WatchFlags::MOVED_TO
            | inotify::WatchFlags::DELETE_SELF;
        inotify::add_watch(&fd, directory, events).call(call)?;
        Ok(Self(fd))
    }

    /// Forgets what happened so far, so that the next wait is for something new.
    pub fn clear(&self) {
        let mut buffer = [0; 4096];
        while let Ok(1..) = rustix::io::read(&self.0, &mut buffer) {}
    }
}

impl AsFd for DirectoryWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_written_file_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let watch = DirectoryWatch::new(directory.path()).unwrap();
        let quiet = |time| poll(&[(watch.as_fd(), Interest::Read)], time).unwrap()[0];
        assert!(!quiet(Some(Duration::ZERO)).read);
        std::fs::write(directory.path().join("file"), "x").unwrap();
        assert!(quiet(None).read);
        watch.clear();
        assert!(!quiet(Some(Duration::ZERO)).read);
    }

    #[test]
    fn signals_are_read_instead_of_felt() {
        let signals = Signals::catch(&[Signal::SIGUSR1, Signal::SIGWINCH]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        nix::sys::signal::raise(Signal::SIGUSR1).unwrap();
        assert!(poll(&[(signals.as_fd(), Interest::Read)], None).unwrap()[0].read);
        assert_eq!(signals.next().unwrap(), Some(libc::SIGUSR1));
        // Ignored by default: it returns.
        signals.deliver(libc::SIGWINCH);
    }

    #[test]
    fn tells_what_is_ready() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(&reader, 7, Interest::Read).unwrap();
        assert!(epoll.wait(Some(Duration::ZERO)).unwrap().is_empty());
        writer.write_all(b"x").unwrap();
        let events = epoll.wait(None).unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].token, 7);
        assert!(events[0].ready.read && !events[0].ready.hang_up);
        drop(writer);
        assert!(epoll.wait(None).unwrap()[0].ready.hang_up);
    }

    #[test]
    fn poll_reports_each_descriptor() {
        let (reader, writer) = std::io::pipe().unwrap();
        let ready = poll(
            &[
                (reader.as_fd(), Interest::Read),
                (writer.as_fd(), Interest::Write),
            ],
            Some(Duration::ZERO),
        )
        .unwrap();
        assert!(!ready[0].read);
        assert!(ready[1].write);
    }
}

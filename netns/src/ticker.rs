//! A timer that ticks while there is something to look after.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use sys::{Result, SysResultExt};

/// A timer's descriptor; it stands until it is started.
#[derive(Debug)]
pub(crate) struct Ticker {
    timer: OwnedFd,
    every: Duration,
    ticking: bool,
}

impl Ticker {
    pub(crate) fn new(every: Duration) -> Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )
        .call(|| "timerfd_create")?;
        Ok(Self {
            timer,
            every,
            ticking: false,
        })
    }

    pub(crate) fn start(&mut self) {
        if !self.ticking {
            self.ticking = self.set(self.every);
        }
    }

    pub(crate) fn stop(&mut self) {
        self.set(Duration::ZERO);
        self.ticking = false;
    }

    /// Takes note of the ticks so far.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        // Only empties the timer; its count does not matter.
        let _ = rustix::io::read(&self.timer, &mut count);
    }

    fn set(&self, every: Duration) -> bool {
        let spec = Timespec {
            tv_sec: i64::try_from(every.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(every.subsec_nanos()),
        };
        let spec = Itimerspec {
            it_interval: spec,
            it_value: spec,
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec).is_ok()
    }
}

impl AsFd for Ticker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

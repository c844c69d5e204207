//! How long each step of a start took, and where a test makes one fail: read from the environment
//! here and nowhere else.
//!
//! `RBOX_TIMINGS` names a file to which one line of JSON per step is appended:
//! `{"lane":"monitor","step":"spawn","begin_us":812,"us":401}`. Times count from the moment the
//! command began to start the container.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use plan::Faults;
use plan::fault::Moment;

use crate::error::{Error, Result};

/// Who carries a step out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// The command that the user typed.
    Command,
    /// The container's monitor.
    Monitor,
    /// The container's first process, before its program.
    Child,
}

impl Lane {
    /// The word in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Lane::Command => "command",
            Lane::Monitor => "monitor",
            Lane::Child => "child",
        }
    }
}

/// Faults and times of one start.
#[derive(Debug)]
pub struct Instruments {
    faults: Faults,
    begin: Instant,
    file: Option<File>,
}

impl Instruments {
    /// Reads `RBOX_FAULT` and `RBOX_TIMINGS`. The clock begins now.
    pub fn from_environment() -> Self {
        let file = std::env::var_os("RBOX_TIMINGS")
            .and_then(|path| OpenOptions::new().append(true).create(true).open(path).ok());
        Self {
            faults: Faults::from_environment(),
            begin: Instant::now(),
            file,
        }
    }

    /// The faults asked for.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Times are wanted.
    pub fn timed(&self) -> bool {
        self.file.is_some()
    }

    /// The file of the times, to be kept over a fork.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Since the start began.
    pub fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Does something between two fault points, and notes its time.
    ///
    /// # Errors
    /// What the work says; [`Error`] of a fault.
    pub fn step<T>(&self, lane: Lane, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.point(name, Moment::Before)?;
        let begin = self.now();
        let outcome = work()?;
        self.note(lane, name, begin, self.now().saturating_sub(begin));
        self.point(name, Moment::After)?;
        Ok(outcome)
    }

    /// Passes a fault point that belongs to no step.
    ///
    /// # Errors
    /// When the fault is armed.
    pub fn point(&self, name: &str, moment: Moment) -> Result<()> {
        self.faults
            .point(name, moment)
            .map_err(|fault| Error::system(fault.to_string(), fault))
    }

    /// Notes the time of one step.
    pub fn note(&self, lane: Lane, step: &str, begin: Duration, duration: Duration) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        // One write per line: several processes share the file.
        let line = format!(
            "{{\"lane\":\"{}\",\"step\":\"{step}\",\"begin_us\":{},\"us\":{}}}\n",
            lane.as_str(),
            begin.as_micros(),
            duration.as_micros()
        );
        let _ = file.write_all(line.as_bytes());
    }
}

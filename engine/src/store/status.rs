//! Status is derived: from processes that live and times that were recorded, never asserted.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::record::State;
use super::run::{InitRecord, RunDir};
use crate::error::{Error, Result};

/// Docker's word for what a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started, or it could not be.
    Created,
    /// Its process lives.
    Running,
    /// Its process is frozen.
    Paused,
    /// Its process ended; its monitor will start it again.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its process ended.
    Exited,
    /// Its removal failed half-way.
    Dead,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Restarting,
        Self::Removing,
        Self::Exited,
        Self::Dead,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// `State.Running` of inspect: also while paused or about to restart.
    pub fn is_running(self) -> bool {
        match self {
            Self::Running | Self::Paused | Self::Restarting => true,
            Self::Created | Self::Removing | Self::Exited | Self::Dead => false,
        }
    }

    /// There is a process now.
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the run directory and the process table say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// The monitor lives.
    pub monitor: bool,
    /// The first process that was recorded last, living or dead.
    pub init: Option<InitRecord>,
    /// It is frozen.
    pub paused: bool,
}

impl Facts {
    /// Looks.
    ///
    /// # Errors
    /// When a record is there and cannot be read.
    pub fn gather(run: &RunDir) -> Result<Self> {
        let monitor = run.monitor()?.is_some_and(|mark| mark.alive());
        let init = run.init()?;
        let path = run.paused_path();
        let paused = match path.symlink_metadata() {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::file("look at", &path, error)),
        };
        Ok(Self {
            monitor,
            init,
            paused,
        })
    }

    /// The status that follows from these facts and the recorded state.
    ///
    /// Between the process's end and its record the monitor still lives: that moment counts as
    /// running, so that nobody reads an exit code that is not there yet.
    pub fn status(&self, state: &State) -> Status {
        let unfinished = self
            .init
            .is_some_and(|init| state.finished_at < init.started_at);
        match (self.monitor, unfinished) {
            (true, true) if self.paused => Status::Paused,
            (true, true) => Status::Running,
            (true, false) if state.restarting => Status::Restarting,
            // a dead monitor takes its process along; the record of that is still to be written
            (false, true) => Status::Exited,
            (true | false, false) if state.started_at.is_never() => Status::Created,
            (true | false, false) => Status::Exited,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::run::ProcessMark;
    use crate::time::Time;

    fn time(second: u32) -> Time {
        format!("2026-01-01T00:00:{second:02}Z").parse().unwrap()
    }

    fn init(second: u32) -> Option<InitRecord> {
        Some(InitRecord {
            process: ProcessMark {
                pid: 1,
                start_time: 1,
            },
            started_at: time(second),
        })
    }

    #[test]
    fn the_whole_table() {
        let never = State::default();
        let ended = State {
            started_at: time(1),
            finished_at: time(2),
            ..State::default()
        };
        let again = State {
            restarting: true,
            ..ended.clone()
        };
        let cases = [
            // monitor, init, paused, state → status
            (false, None, false, &never, Status::Created),
            (true, None, false, &never, Status::Created),
            (true, init(1), false, &never, Status::Running),
            (true, init(1), true, &never, Status::Paused),
            (true, init(1), false, &ended, Status::Exited),
            (true, init(3), false, &ended, Status::Running),
            (true, init(3), true, &ended, Status::Paused),
            (true, init(1), false, &again, Status::Restarting),
            (true, init(3), false, &again, Status::Running),
            (false, init(1), false, &again, Status::Exited),
            (false, init(3), false, &ended, Status::Exited),
            (false, init(3), true, &ended, Status::Exited),
            (false, init(1), false, &never, Status::Exited),
            (false, None, false, &ended, Status::Exited),
            (true, None, true, &ended, Status::Exited),
        ];
        for (monitor, init, paused, state, expected) in cases {
            let facts = Facts {
                monitor,
                init,
                paused,
            };
            assert_eq!(facts.status(state), expected, "{facts:?} {state:?}");
        }
    }

    #[test]
    fn paused_and_restarting_count_as_running() {
        let running: Vec<_> = Status::ALL.into_iter().filter(|s| s.is_running()).collect();
        assert_eq!(
            running,
            [Status::Running, Status::Paused, Status::Restarting]
        );
    }
}

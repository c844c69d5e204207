//! Why a container or an exec did not start.

use std::error::Error;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// What went wrong inside the child, as it travels up the sync socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The step's name.
    pub step: String,
    /// What kind of failure it is.
    pub kind: ReportKind,
    /// The failed call with its arguments, or the whole message where no call failed.
    pub call: String,
    /// The error number; 0 where no call failed.
    pub errno: i32,
}

/// Kinds of failure that callers tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReportKind {
    /// The program does not exist.
    NotFound,
    /// The program exists and cannot be executed.
    NotExecutable,
    /// The user or group does not exist in the container.
    User,
    /// A file was to be mounted on a directory, or the reverse.
    MountKind,
    /// The working directory cannot be entered.
    WorkingDirectory,
    /// A resource limit cannot be raised.
    Limit,
    /// A fault point.
    Fault,
    /// Any other failed call.
    Call,
}

/// Why a container or an exec did not start.
#[derive(Debug)]
pub enum StartError {
    /// The child said why.
    Reported(Report),
    /// The child ended without a word: it was killed.
    Died,
    /// The socket to the child failed.
    Sync(sys::SysError),
}

impl StartError {
    /// Docker's exit code of `run`: 127 not found, 126 not executable, 125 everything else.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Reported(report) => match report.kind {
                ReportKind::NotFound => 127,
                ReportKind::NotExecutable => 126,
                ReportKind::User
                | ReportKind::MountKind
                | ReportKind::WorkingDirectory
                | ReportKind::Limit
                | ReportKind::Fault
                | ReportKind::Call => 125,
            },
            Self::Died | Self::Sync(_) => 125,
        }
    }

    /// The kind, where the child reported one.
    pub fn kind(&self) -> Option<ReportKind> {
        match self {
            Self::Reported(report) => Some(report.kind),
            Self::Died | Self::Sync(_) => None,
        }
    }

    /// The next thing to try, where one is known.
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind()? {
            ReportKind::MountKind => Some(
                "Are you trying to mount a directory onto a file (or vice-versa)? Check if the \
                 specified host path exists and is the expected type",
            ),
            ReportKind::NotFound
            | ReportKind::NotExecutable
            | ReportKind::User
            | ReportKind::WorkingDirectory
            | ReportKind::Limit
            | ReportKind::Fault
            | ReportKind::Call => None,
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reported(report) => report.fmt(f),
            Self::Died => {
                f.write_str("the container's first process was killed before its program ran")
            }
            Self::Sync(_) => f.write_str("cannot talk to the container's first process"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Reported(_) | Self::Died => None,
            Self::Sync(source) => Some(source),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            // The text is whole: Docker's words.
            ReportKind::NotFound
            | ReportKind::NotExecutable
            | ReportKind::User
            | ReportKind::Limit
            | ReportKind::Fault => f.write_str(&self.call),
            ReportKind::WorkingDirectory => {
                let source = io::Error::from_raw_os_error(self.errno);
                let reason = sys::error::reason(&source).to_lowercase();
                write!(f, "{}: {reason}", self.call)
            }
            ReportKind::MountKind | ReportKind::Call if self.errno == 0 => {
                write!(f, "{}: {}", self.step, self.call)
            }
            ReportKind::MountKind | ReportKind::Call => {
                let source = io::Error::from_raw_os_error(self.errno);
                let reason = sys::error::reason(&source).to_lowercase();
                write!(f, "{}: {}: {reason}", self.step, self.call)
            }
        }
    }
}

//! What a caller asks of a container that lives: values only, no print and no terminal of its own.
//!
//! The methods that take them (`Engine` is the opened root and state directory):
//!
//! ```text
//! start(&self, id, StartOptions)            -> Result<Started, StartError>
//! attach(&self, id, AttachOptions)          -> Result<SessionEnd, Error>
//! exec(&self, id, ExecRequest)              -> Result<SessionEnd, Error>
//! logs(&self, id, &LogsRequest, out, err)   -> Result<(), Error>
//! stop(&self, id, Option<timeout>)          -> Result<Changed, Error>
//! restart(&self, id, Option<timeout>)       -> Result<(), Error>
//! kill(&self, id, signal_text)              -> Result<(), Error>
//! wait(&self, id)                           -> Result<i32, Error>
//! pause(&self, id) / unpause(&self, id)     -> Result<(), Error>
//! top(&self, id, &[ps arguments])           -> Result<TopTable, Error>
//! explain(&self, id)                        -> Result<Vec<Explained>, Error>
//! ```

use std::os::fd::OwnedFd;

use crate::stdio::DetachKeys;

/// The caller's standard streams; `None` is a stream that is not attached.
#[derive(Debug, Default)]
pub struct Streams {
    /// Read and forwarded to the container.
    pub stdin: Option<OwnedFd>,
    /// Gets what the container writes to its standard output, or its terminal.
    pub stdout: Option<OwnedFd>,
    /// Gets what the container writes to its standard error.
    pub stderr: Option<OwnedFd>,
}

/// How a command takes part in a container's streams.
#[derive(Debug, Default)]
pub struct AttachOptions {
    /// The caller's descriptors.
    pub streams: Streams,
    /// The keys that leave the container running.
    pub detach_keys: DetachKeys,
    /// Signals that reach the command go to the container's first process.
    pub signal_proxy: bool,
}

/// Told what the user should know: the engine itself prints nothing.
pub type Warn = fn(&str);

/// How to start a container.
#[derive(Debug, Default)]
pub struct StartOptions {
    /// Stay until the container ends, with these streams; without it `start` returns at once.
    pub attach: Option<AttachOptions>,
    /// Told what the user should know, before the program's own output.
    pub warn: Option<Warn>,
}

/// What became of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Started {
    /// It runs, nobody is attached.
    Running,
    /// It ran already; nothing was done.
    AlreadyRunning,
    /// The attached session is over.
    Ended(SessionEnd),
}

/// How an attached session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The process ended with this status (128 + signal when killed).
    Exited(i32),
    /// The user pressed the detach keys; the process goes on.
    Detached,
    /// It was started in the background (`exec -d`).
    Background,
}

/// Whether a request changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    /// The container's state is another one now.
    Yes,
    /// It already was as asked for.
    No,
}

/// A further process in a running container.
#[derive(Debug, Default)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `KEY=value`, added to the container's own.
    pub env: Vec<String>,
    /// `user[:group]`; the container's own when absent.
    pub user: Option<String>,
    /// Where it starts; the container's own when absent.
    pub working_dir: Option<String>,
    /// All capabilities.
    pub privileged: bool,
    /// Give it a pseudo-terminal.
    pub tty: bool,
    /// Do not wait for it.
    pub detach: bool,
    /// The caller's descriptors; `stdin` only with `-i`.
    pub streams: Streams,
    /// The keys that leave the process running.
    pub detach_keys: DetachKeys,
}

/// Which part of a log, and in which dress.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogsRequest {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only so many lines from the end; `None` is all.
    pub tail: Option<u64>,
    /// Nothing earlier, in nanoseconds since 1970.
    pub since: Option<i128>,
    /// Nothing later, in nanoseconds since 1970.
    pub until: Option<i128>,
    /// Put the time before every line.
    pub timestamps: bool,
    /// Put the entry's attributes before every line.
    pub details: bool,
}

/// The processes of a container, as a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopTable {
    /// Column heads.
    pub titles: Vec<String>,
    /// One row per process, as many fields as there are titles.
    pub processes: Vec<Vec<String>>,
}

/// One step of a plan, described without being done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Who carries it out: `monitor` or `child`.
    pub lane: &'static str,
    /// The step's name.
    pub step: &'static str,
    /// What, why, with which calls.
    pub description: plan::Description,
    /// The shell commands that would do the same.
    pub shell: Vec<String>,
}

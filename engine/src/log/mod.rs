//! Logs of containers: written by the monitor, read by anyone at any time.
//!
//! The driver `json-file` writes Docker's format, one object per line; `none` writes nothing.

pub mod attributes;
pub mod encode;
pub mod json_file;
pub mod options;
pub mod print;
pub mod read;

pub use attributes::AttributeRule;
pub use json_file::JsonFile;
pub use options::{LogOptions, LogOptionsError};
pub use read::LogReader;

/// Which of the container's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

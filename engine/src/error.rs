//! What can go wrong with a container, in Docker's words: kind, message, cause, hint.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use sys::error::with_causes;

/// The result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// What sort of failure it is; decides exit codes and HTTP statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The object does not exist (404).
    NotFound,
    /// The object's present state forbids it (409).
    Conflict,
    /// The request itself is wrong (400).
    InvalidParameter,
    /// There is nothing to do (304): started already, stopped already.
    NotModified,
    /// Not allowed (403).
    Forbidden,
    /// Not now (503).
    Unavailable,
    /// rbox does not do this (501).
    NotImplemented,
    /// The kernel or the disk said no (500).
    System,
}

/// A failed engine call.
///
/// Displays as Docker's message; the cause is the source, never repeated in the message; the hint
/// is for whoever prints it.
#[derive(Debug)]
#[expect(
    clippy::error_impl_error,
    reason = "the one error of this crate's calls"
)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    message: String,
    exit_code: Option<u8>,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of this kind with Docker's text.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            exit_code: None,
            hint: None,
            source: None,
        }))
    }

    /// [`ErrorKind::NotFound`].
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// [`ErrorKind::Conflict`].
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// [`ErrorKind::InvalidParameter`].
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidParameter, message)
    }

    /// [`ErrorKind::System`] with its cause.
    pub fn system(
        message: impl Into<String>,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self::new(ErrorKind::System, message).because(source)
    }

    /// A file operation that failed: `cannot <verb> "<path>"`.
    pub fn file(verb: &str, path: &Path, source: io::Error) -> Self {
        Self::system(format!("cannot {verb} {path:?}"), source)
    }

    /// Adds the cause.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Mentions what failed afterwards; the causes of both are in the message then.
    #[must_use]
    pub fn and(mut self, further: &Self) -> Self {
        let message = format!(
            "{}; afterwards, {}",
            with_causes(&self),
            with_causes(further)
        );
        self.0.message = message;
        self.0.source = None;
        self
    }

    /// Adds what the user may do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Sets the exit code that `run` gives for it (126 not executable, 127 not found).
    #[must_use]
    pub fn exit_code(mut self, code: u8) -> Self {
        self.0.exit_code = Some(code);
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Docker's text.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the user may do next.
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The exit code of `run`: 125 unless the program itself was at fault.
    pub fn run_exit_code(&self) -> u8 {
        self.0.exit_code.unwrap_or(125)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_the_source_and_not_in_the_message() {
        let error =
            Error::file("read", Path::new("/x"), io::Error::from_raw_os_error(2)).hint("look");
        assert_eq!(error.to_string(), "cannot read \"/x\"");
        assert!(error.source().is_some());
        assert_eq!(error.hint_text(), Some("look"));
        assert_eq!(error.run_exit_code(), 125);
        assert_eq!(error.kind(), ErrorKind::System);
    }
}

//! How a command fails: its exit code, its words, and the hints after them.

use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;

use sys::error::causes;

/// What every command gives back.
pub(crate) type Result<T> = std::result::Result<T, Failure>;

/// Exit code of the engine's own refusals of `run`, and of wrong flags.
pub(crate) const REFUSED: u8 = 125;

/// What Docker's command line puts before the engine's words.
pub(crate) const DAEMON: &str = "Error response from daemon: ";

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something to say.
    Said(Message),
    /// All has been said; only the exit code is left.
    Status(u8),
    /// Nobody reads our output any more.
    BrokenPipe,
}

/// What is said about a failure.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// Docker's text.
    pub text: String,
    /// Why, where that adds something.
    pub cause: Option<String>,
    /// What to type next.
    pub hints: Vec<String>,
    /// The exit code.
    pub code: u8,
    /// The exit code of `run`.
    pub run_code: u8,
    /// `run` adds nothing to it.
    pub bare: bool,
}

impl Failure {
    /// A message of the command line's own, exit code 1.
    pub(crate) fn said(text: impl Into<String>) -> Self {
        Self::coded(1, text)
    }

    /// A message with an exit code.
    pub(crate) fn coded(code: u8, text: impl Into<String>) -> Self {
        Self::Said(Message {
            text: text.into(),
            cause: None,
            hints: Vec::new(),
            code,
            run_code: if code == 1 { REFUSED } else { code },
            bare: false,
        })
    }

    /// The same with one more hint.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Said(message) = &mut self {
            message.hints.push(hint.into());
        }
        self
    }

    /// The same, said by `run` without its own words around it.
    pub(crate) fn bare(mut self) -> Self {
        if let Self::Said(message) = &mut self {
            message.bare = true;
        }
        self
    }
}

/// Whether an I/O error of this kind lies beneath.
fn has(error: &(dyn std::error::Error + 'static), kind: io::ErrorKind) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == kind) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What to type where privilege is lacking.
fn root_hint(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let lacking = has(error, io::ErrorKind::PermissionDenied);
    let root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    (lacking && !root).then(|| "rbox has to run as root: type 'sudo rbox …'".to_owned())
}

impl From<image::store::ImageError> for Failure {
    fn from(error: image::store::ImageError) -> Self {
        if has(&error, io::ErrorKind::BrokenPipe) {
            return Self::BrokenPipe;
        }
        let mut failure = Self::said(format!("{DAEMON}{error}"));
        if let Self::Said(message) = &mut failure {
            message.cause = causes(&error);
            message.hints.extend(root_hint(&error));
        }
        match error {
            image::store::ImageError::NotFound(_) => failure.hint("list images with 'rbox images'"),
            _ => failure,
        }
    }
}

impl From<engine::Error> for Failure {
    fn from(error: engine::Error) -> Self {
        if has(&error, io::ErrorKind::BrokenPipe) {
            return Self::BrokenPipe;
        }
        Self::Said(Message {
            text: format!("{DAEMON}{error}"),
            cause: causes(&error),
            hints: [error.hint_text().map(str::to_owned), root_hint(&error)]
                .into_iter()
                .flatten()
                .collect(),
            code: 1,
            run_code: error.run_exit_code(),
            bare: false,
        })
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::BrokenPipe
        } else {
            Self::said(error.to_string())
        }
    }
}

/// Writes a failure to standard error.
pub(crate) fn tell(message: &Message) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    writeln!(stderr, "{}", message.text)?;
    if let Some(cause) = &message.cause {
        writeln!(stderr, "cause: {cause}")?;
    }
    for hint in &message.hints {
        writeln!(stderr, "hint: {hint}")?;
    }
    Ok(())
}

/// Go's words for an I/O error on a file: `open /x: no such file or directory`.
pub(crate) fn file(verb: &str, path: &str, error: &io::Error) -> String {
    format!("{verb} {path}: {}", io_words(error))
}

/// The system's words for an error, in lower case and without Rust's addition.
pub(crate) fn io_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters
        .next()
        .map(|first| first.to_lowercase().chain(letters).collect())
        .unwrap_or_default()
}

//! The error of a system call: which call, with which arguments, and what the kernel answered.

use std::fmt;
use std::io;

/// The result of a wrapped system call.
pub type Result<T> = std::result::Result<T, SysError>;

/// A failed system call; prints as the call, its source is the kernel's answer.
#[derive(Debug, thiserror::Error)]
#[error("{call}")]
pub struct SysError {
    call: String,
    #[source]
    source: io::Error,
}

impl SysError {
    /// Names the call and its arguments, as strace would print them, and the error number.
    pub fn new(call: impl Into<String>, errno: i32) -> Self {
        Self {
            call: call.into(),
            source: io::Error::from_raw_os_error(errno),
        }
    }

    /// Names the call for an error that came through the standard library.
    pub fn from_io(call: impl Into<String>, source: io::Error) -> Self {
        Self {
            call: call.into(),
            source,
        }
    }

    /// The error number, 0 when the failure did not come from the kernel.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }

    /// The call as text.
    pub fn call(&self) -> &str {
        &self.call
    }

    /// The kernel's answer in words, without Rust's "(os error N)".
    pub fn reason(&self) -> String {
        reason(&self.source)
    }
}

/// The words of an I/O error as the C library has them, without Rust's "(os error N)" suffix.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

/// What lies beneath an error, outermost first, in one line.
pub fn causes(error: &dyn std::error::Error) -> Option<String> {
    let mut causes = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let io = cause.downcast_ref::<io::Error>();
        causes.push(io.map_or_else(|| cause.to_string(), reason));
        source = cause.source();
    }
    (!causes.is_empty()).then(|| causes.join(": "))
}

/// An error with what lies beneath it, in one line.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    match causes(error) {
        Some(causes) => format!("{error}: {causes}"),
        None => error.to_string(),
    }
}

/// Adds the call to an error of `nix`, `rustix` or the standard library.
pub trait SysResultExt<T> {
    /// Names the call that failed; the closure runs only on failure.
    fn call<C: fmt::Display>(self, describe: impl FnOnce() -> C) -> Result<T>;
}

impl<T> SysResultExt<T> for std::result::Result<T, nix::Error> {
    fn call<C: fmt::Display>(self, describe: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|errno| SysError::new(describe().to_string(), errno as i32))
    }
}

impl<T> SysResultExt<T> for std::result::Result<T, rustix::io::Errno> {
    fn call<C: fmt::Display>(self, describe: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|errno| SysError::new(describe().to_string(), errno.raw_os_error()))
    }
}

impl<T> SysResultExt<T> for io::Result<T> {
    fn call<C: fmt::Display>(self, describe: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|error| SysError::from_io(describe().to_string(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error;

    #[test]
    fn prints_the_call_and_keeps_the_reason_as_source() {
        let error = SysError::new("mount(\"overlay\", \"/x\")", libc::ENOENT);
        assert_eq!(error.to_string(), "mount(\"overlay\", \"/x\")");
        assert_eq!(error.reason(), "No such file or directory");
        assert_eq!(error.errno(), libc::ENOENT);
        assert!(error.source().is_some());
        assert_eq!(
            with_causes(&error),
            "mount(\"overlay\", \"/x\"): No such file or directory"
        );
    }
}

//! The command's own standard streams, as the engine takes them.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use engine::request::{AttachOptions, Streams};

use crate::error::{Failure, Result};
use crate::option::stream;

/// Which streams a command takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

impl Wanted {
    /// Descriptors of its own for the engine.
    pub(super) fn open(self) -> Result<Streams> {
        Ok(Streams {
            stdin: duplicate(self.stdin, &io::stdin())?,
            stdout: duplicate(self.stdout, &io::stdout())?,
            stderr: duplicate(self.stderr, &io::stderr())?,
        })
    }

    /// These streams with the ways to leave them.
    pub(super) fn attach(
        self,
        detach_keys: Option<&str>,
        signal_proxy: bool,
    ) -> Result<AttachOptions> {
        Ok(AttachOptions {
            streams: self.open()?,
            detach_keys: stream::detach_keys(detach_keys)?,
            signal_proxy,
        })
    }
}

fn duplicate(wanted: bool, stream: &impl AsFd) -> io::Result<Option<OwnedFd>> {
    if wanted {
        stream.as_fd().try_clone_to_owned().map(Some)
    } else {
        Ok(None)
    }
}

/// Refuses a terminal session whose input is none.
pub(super) fn check_terminal(stdin: bool, tty: bool) -> Result<()> {
    if stdin && tty && !sys::pty::is_terminal(io::stdin()) {
        return Err(Failure::said("the input device is not a TTY")
            .hint("leave -t out to pipe data into the container"));
    }
    Ok(())
}

/// The failure that carries a process's exit code, or success.
pub(super) fn exit(code: i32) -> Result<()> {
    match code {
        0 => Ok(()),
        // a process ends with 0 to 255; anything else would be a fault of ours
        code => Err(Failure::Status(u8::try_from(code).unwrap_or(u8::MAX))),
    }
}

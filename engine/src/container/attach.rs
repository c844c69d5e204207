//! `attach`: joining the streams of a container that runs.

use std::os::fd::AsFd;

use sys::pty;

use crate::Engine;
use crate::container::control::{connect, refused};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::request::{AttachOptions, SessionEnd, Streams};
use crate::stdio::protocol::{Attach, Request};
use crate::stdio::session::{Session, SessionError, caught};
use crate::store::{Container, Status};

impl Engine {
    /// Joins the container's streams until it ends or the detach keys are pressed.
    ///
    /// # Errors
    /// Docker's texts for a container that is not running, frozen or restarting.
    pub fn attach(&self, id: &ContainerId, options: AttachOptions) -> Result<SessionEnd> {
        let container = self.store().load(id)?;
        attachable(&container)?;
        let stopped = || {
            Error::conflict("You cannot attach to a stopped container, start it first")
                .hint(format!("start it with 'rbox start -a {}'", container.name))
        };
        let socket = connect(&container)?.ok_or_else(stopped)?;
        let config = &container.record.config;
        let signals =
            caught(config.tty).map_err(|error| Error::system("cannot catch signals", error))?;
        let attach = wanted(&options.streams, config.tty, config.open_stdin);
        let descriptors: Vec<_> = [
            attach.stdout.then_some(&options.streams.stdout),
            attach.stderr.then_some(&options.streams.stderr),
        ]
        .into_iter()
        .flatten()
        .flatten()
        .map(AsFd::as_fd)
        .collect();
        socket
            .send(&Request::Attach(attach).encode(), &descriptors)
            .map_err(|error| Error::system("cannot join the container's streams", error))?;
        let session = Session {
            socket: &socket,
            stdin: options
                .streams
                .stdin
                .as_ref()
                .filter(|_| attach.stdin)
                .map(AsFd::as_fd),
            terminal: terminal(&options.streams),
            tty: config.tty,
            detach_keys: &options.detach_keys,
            signal_proxy: options.signal_proxy,
            signals,
        };
        session
            .run()
            .map_err(|error| self.session_failed(&container, error))
    }

    /// What a broken session means to the user; clears up after a monitor that died.
    pub(crate) fn session_failed(&self, container: &Container, error: SessionError) -> Error {
        match error {
            SessionError::Refused(refusal) => refused(refusal),
            SessionError::MonitorDied => {
                let _ = self.recover_one(container.id());
                Error::system(
                    format!("the monitor of container {} died", container.id()),
                    SessionError::MonitorDied,
                )
            }
            SessionError::Call(_) => Error::system("cannot follow the container's streams", error),
        }
    }
}

/// Which of the caller's streams the container has a counterpart for.
pub(crate) fn wanted(streams: &Streams, tty: bool, open_stdin: bool) -> Attach {
    Attach {
        stdin: streams.stdin.is_some() && open_stdin,
        stdout: streams.stdout.is_some(),
        stderr: streams.stderr.is_some() && !tty,
    }
}

/// The caller's terminal, whose size the container's follows: where it is shown, else where one
/// types.
pub(crate) fn terminal(streams: &Streams) -> Option<std::os::fd::BorrowedFd<'_>> {
    [&streams.stdout, &streams.stdin]
        .into_iter()
        .flatten()
        .map(AsFd::as_fd)
        .find(|fd| pty::is_terminal(fd))
}

fn attachable(container: &Container) -> Result<()> {
    let text = match container.status()?.0 {
        Status::Running => return Ok(()),
        Status::Paused => "You cannot attach to a paused container, unpause it first",
        Status::Restarting => {
            "You cannot attach to a restarting container, wait until it is running"
        }
        Status::Created | Status::Removing | Status::Exited | Status::Dead => {
            "You cannot attach to a stopped container, start it first"
        }
    };
    let hint = format!("see its state with 'rbox ps -a -f name={}'", container.name);
    Err(Error::conflict(text).hint(hint))
}

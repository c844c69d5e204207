//! Asking a container's monitor, and what its answers mean.

use sys::socket::MessageSocket;

use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::stdio::protocol::{Answer, Refusal, Request};
use crate::store::Container;

/// The name of the monitor's socket in the run directory.
pub(crate) const SOCKET: &str = "attach.sock";

/// Joins the monitor's socket; `None` when no monitor listens (any more).
pub(crate) fn connect(container: &Container) -> Result<Option<MessageSocket>> {
    const GONE: [i32; 2] = [2, 111]; // ENOENT, ECONNREFUSED
    match MessageSocket::connect(container.run.path(), SOCKET) {
        Ok(socket) => Ok(Some(socket)),
        Err(error) if GONE.contains(&error.errno()) => Ok(None),
        Err(error) => Err(Error::system(
            "cannot talk to the container's monitor",
            error,
        )),
    }
}

/// Says something to the monitor and waits for the one answer that ends the matter; `None` when
/// the monitor ended without it.
pub(crate) fn ask(socket: &MessageSocket, request: &Request) -> Result<Option<Answer>> {
    if socket.send(&request.encode(), &[]).is_err() {
        return Ok(None);
    }
    hear(socket)
}

/// Waits for the next answer; `None` when the monitor ended without it.
pub(crate) fn hear(socket: &MessageSocket) -> Result<Option<Answer>> {
    let mut buffer = vec![0; 8192];
    match socket.receive(&mut buffer) {
        Ok(received) if received.length > 0 => Answer::decode(&buffer[..received.length])
            .map(Some)
            .map_err(|error| Error::system("the container's monitor is of another version", error)),
        // Reset or end: the monitor is gone.
        Ok(_) | Err(_) => Ok(None),
    }
}

/// A refusal as an error.
pub(crate) fn refused(refusal: Refusal) -> Error {
    let error = Error::new(ErrorKind::Conflict, refusal.text)
        .exit_code(u8::try_from(refusal.exit_code).unwrap_or(125));
    match refusal.hint {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Docker's text for a container between two runs.
pub(crate) fn restarting(id: &ContainerId) -> Error {
    Error::conflict(format!(
        "Container {id} is restarting, wait until the container is running"
    ))
}

/// Docker's text for a container without a process.
pub(crate) fn not_running(container: &Container) -> Error {
    Error::conflict(format!("Container {} is not running", container.id())).hint(format!(
        "start it first with 'rbox start {}'",
        container.name
    ))
}

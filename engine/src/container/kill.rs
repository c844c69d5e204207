//! `kill`, `pause`, `unpause`: asking the monitor for one act.

use crate::Engine;
use crate::container::control::{ask, connect, not_running, refused, restarting};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::ContainerId;
use crate::signal;
use crate::stdio::protocol::{Answer, Request};
use crate::store::{Container, Status};

impl Engine {
    /// Sends a signal (by name or number; empty is KILL) to the container's first process. A
    /// restart policy does not start it again after that.
    ///
    /// # Errors
    /// Docker's texts for a bad signal and for a container that is not running.
    pub fn kill(&self, id: &ContainerId, signal: &str) -> Result<()> {
        let container = self.store().load(id)?;
        let of_kill = |text: String| {
            Error::conflict(format!("Cannot kill container: {}: {text}", container.name))
        };
        let number = match signal {
            "" => signal::KILL,
            text => signal::parse(text).map_err(|error| match error {
                signal::SignalError::Invalid(_) => Error::invalid(error.to_string()),
                signal::SignalError::Unsupported(_) => of_kill(error.to_string()),
            })?,
        };
        let (status, _) = container.status()?;
        if !status.is_running() {
            return Err(
                of_kill(format!("Container {id} is not running")).hint(format!(
                    "start it first with 'rbox start {}'",
                    container.name
                )),
            );
        }
        self.act(&container, &Request::Kill(number))?;
        let text = number.to_string();
        self.note(&container, "kill", &[("signal", &text)]);
        if number == signal::KILL {
            self.await_end(&container)?;
        }
        Ok(())
    }

    /// Waits until a killed container's end is recorded, as Docker does after SIGKILL.
    fn await_end(&self, container: &Container) -> Result<()> {
        if let Some(socket) = connect(container)? {
            // The monitor's end counts as well: it has recorded all before.
            ask(&socket, &Request::Wait)?;
        }
        Ok(())
    }

    /// Freezes all processes of a container.
    ///
    /// # Errors
    /// Docker's texts for a container that is not running or is frozen already.
    pub fn pause(&self, id: &ContainerId) -> Result<()> {
        let container = self.store().load(id)?;
        match container.status()?.0 {
            Status::Running => {}
            Status::Paused => {
                return Err(Error::conflict(format!("Container {id} is already paused")));
            }
            Status::Restarting => return Err(restarting(id)),
            Status::Created | Status::Removing | Status::Exited | Status::Dead => {
                return Err(not_running(&container));
            }
        }
        self.act(&container, &Request::Pause)?;
        self.note(&container, "pause", &[]);
        Ok(())
    }

    /// Lets the processes of a frozen container go on.
    ///
    /// # Errors
    /// Docker's text for a container that is not frozen.
    pub fn unpause(&self, id: &ContainerId) -> Result<()> {
        let container = self.store().load(id)?;
        if container.status()?.0 != Status::Paused {
            return Err(Error::conflict(format!("Container {id} is not paused")));
        }
        self.act(&container, &Request::Unpause)?;
        self.note(&container, "unpause", &[]);
        Ok(())
    }

    /// Asks for one act and waits until it is done.
    fn act(&self, container: &Container, request: &Request) -> Result<()> {
        let socket = connect(container)?.ok_or_else(|| not_running(container))?;
        match ask(&socket, request)? {
            Some(Answer::Refused(refusal) | Answer::Failed(refusal)) => Err(refused(refusal)),
            // The end of the container is what a kill was to bring about.
            None | Some(_) => Ok(()),
        }
    }

    /// Writes an event; a log of events that cannot be written stops nothing.
    pub(crate) fn note(&self, container: &Container, action: &str, extra: &[(&str, &str)]) {
        let _ = self
            .events()
            .append(&Event::of_container(container, action, extra));
    }
}

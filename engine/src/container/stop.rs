//! `stop` and `restart`.

use sys::error::with_causes;

use crate::Engine;
use crate::container::control::{ask, connect, hear};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::request::{Changed, StartOptions};
use crate::signal;
use crate::stdio::protocol::{Answer, Request};
use crate::store::Container;

/// Docker's patience before SIGKILL, in seconds.
const PATIENCE: i64 = 10;

impl Engine {
    /// Ends a container: `signal` (`None`: its stop signal), and SIGKILL after `timeout` seconds
    /// (negative: never; `None`: the container's own, else ten). Returns once its end is recorded.
    ///
    /// # Errors
    /// When there is no such container or signal, or its monitor cannot be reached.
    pub fn stop(
        &self,
        id: &ContainerId,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<Changed> {
        let container = self.store().load(id)?;
        let signal = match signal {
            Some(text) => signal::parse(text).map_err(|error| Error::invalid(error.to_string()))?,
            None => stop_signal(container.record.config.stop_signal.as_deref()),
        };
        self.stop_loaded(&container, signal, timeout)
    }

    fn stop_loaded(
        &self,
        container: &Container,
        signal: i32,
        timeout: Option<i64>,
    ) -> Result<Changed> {
        let config = &container.record.config;
        let seconds = timeout.or(config.stop_timeout).unwrap_or(PATIENCE);
        let request = Request::Stop {
            signal,
            milliseconds: seconds.saturating_mul(1000),
        };
        loop {
            let (status, _) = container.status()?;
            if !status.is_running() {
                return Ok(Changed::No);
            }
            let Some(socket) = connect(container)? else {
                // It lived a moment ago: either it is ending now, or its monitor died.
                self.recover_one(container.id())?;
                std::thread::yield_now();
                continue;
            };
            let mut answer = ask(&socket, &request)?;
            while matches!(answer, Some(Answer::Done | Answer::Started | Answer::Taken)) {
                answer = hear(&socket)?;
            }
            if answer.is_none() {
                self.recover_one(container.id())?;
            }
            self.note(container, "stop", &[]);
            return Ok(Changed::Yes);
        }
    }

    /// Stops a container if it runs, and starts it.
    ///
    /// # Errors
    /// Those of [`Engine::stop`] and [`Engine::start`], prefixed as Docker does.
    pub fn restart(
        &self,
        id: &ContainerId,
        signal: Option<&str>,
        timeout: Option<i64>,
    ) -> Result<()> {
        self.stop(id, signal, timeout)?;
        match self.start(id, StartOptions::default()) {
            Ok(_) => {
                let container = self.store().load(id)?;
                self.note(&container, "restart", &[]);
                Ok(())
            }
            Err(error) => {
                let name = match self.store().load(id) {
                    Ok(container) => container.name,
                    Err(_) => id.to_string(),
                };
                let text = format!("Cannot restart container {name}: {}", with_causes(&error));
                Err(match error.hint_text() {
                    Some(hint) => Error::new(error.kind(), text).hint(hint),
                    None => Error::new(error.kind(), text),
                })
            }
        }
    }
}

/// The number of a stored stop signal; what cannot be read was refused when it was stored.
fn stop_signal(text: Option<&str>) -> i32 {
    text.and_then(|text| signal::parse(text).ok())
        .unwrap_or(signal::TERM)
}

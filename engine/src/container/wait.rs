//! `wait`: the code a container ended with, once it has.

use crate::Engine;
use crate::container::control::{ask, connect, hear};
use crate::error::Result;
use crate::id::ContainerId;
use crate::stdio::protocol::{Answer, Request};

impl Engine {
    /// Waits until the container ends and returns its code; of one that never ran, 0.
    ///
    /// # Errors
    /// When there is no such container.
    pub fn wait(&self, id: &ContainerId) -> Result<i32> {
        let container = self.store().load(id)?;
        loop {
            let (status, state) = container.status()?;
            if !status.is_running() {
                return Ok(state.exit_code);
            }
            let Some(socket) = connect(&container)? else {
                self.recover_one(id)?;
                std::thread::yield_now();
                continue;
            };
            let mut answer = ask(&socket, &Request::Wait)?;
            loop {
                match answer {
                    Some(Answer::Exited(code)) => return Ok(code),
                    Some(_) => answer = hear(&socket)?,
                    None => break,
                }
            }
            self.recover_one(id)?;
        }
    }
}

//! Who has a container while its files are looked at: its monitor, or the one who looks.

use crate::Engine;
use crate::container::control::restarting;
use crate::error::Result;
use crate::monitor::claim::{Claim, Claimed};
use crate::store::{Container, Status};

/// Who has a container.
pub(super) enum Held {
    /// Its monitor: its files are where it has mounted them.
    Lives,
    /// The caller, until the claim is cleared: nobody can start it meanwhile.
    Rests(Claim),
    /// A monitor had died just now and was cleared up after; it is to be loaded anew.
    Changed,
}

impl Held {
    /// Takes the container if nobody has it, and takes back what one left that died before the
    /// container had a process.
    ///
    /// # Errors
    /// `Container X is restarting`; when what was left cannot be cleared up.
    pub(super) fn of(engine: &Engine, container: &Container) -> Result<Self> {
        let id = container.id();
        match Claim::of(container)? {
            Claimed::Lives(Status::Restarting) => Err(restarting(id)),
            Claimed::Lives(_) => Ok(Self::Lives),
            // Its end is recorded, or with --rm the container goes.
            Claimed::Ours(claim) if container.run.init()?.is_some() => {
                engine.clear_up(id, claim)?;
                Ok(Self::Changed)
            }
            Claimed::Ours(claim) => {
                engine.take_back(id, claim.run());
                Ok(Self::Rests(claim))
            }
        }
    }
}

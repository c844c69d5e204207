//! A receiver's side: its start looks at all its sources, and so does every further process.

use netns::hosts::{HostsFile, LinkLine, OwnLine};
use netns::step::Firewall;

use super::gate::Gates;
use super::resolve::{Sight, look};
use super::{DEFAULT_NETWORK, Held, Link, Links, Seen, addresses, has_links, hosts};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::{Container, NetworkRecord};

/// The sources of a receiver as they were found, all of them running.
#[derive(Debug)]
pub(crate) struct Met(Links);

/// A receiver that is being started: its sources cannot move while this exists.
#[derive(Debug)]
pub(crate) struct Receiving {
    held: Held,
    met: Met,
}

impl Met {
    /// Looks at the sources of these links; `None` where links mean nothing to the container.
    ///
    /// # Errors
    /// Docker's texts for a source that does not run or is not on the default network.
    pub(crate) fn look(
        engine: &Engine,
        receiver: &Container,
        mut links: Links,
    ) -> Result<Option<Self>> {
        if !takes_part(receiver)? {
            return Ok(None);
        }
        for link in &mut links.links {
            engine.meet(receiver, link)?;
        }
        Ok(Some(Self(links)))
    }

    /// The receiver's variables.
    pub(crate) fn variables(&self, receiver: &Container) -> Vec<String> {
        self.0.variables(&receiver.current_name())
    }

    /// The step that opens what the links need on a bridge whose containers may not talk.
    pub(crate) fn step(
        &self,
        network: &NetworkRecord,
        firewall: Option<Firewall>,
    ) -> Option<netns::NetStep> {
        gates(network, firewall)?.steps(self.sources())
    }

    fn sources(&self) -> impl Iterator<Item = (&ContainerId, &Seen)> {
        let links = self.0.links.iter();
        links.filter_map(|link| Some((&link.source, link.seen.as_ref()?)))
    }
}

impl Receiving {
    /// Looks at the sources of a container that starts, as [`Met::look`] does. Costs nothing for a
    /// container without links.
    ///
    /// # Errors
    /// Those of [`Met::look`].
    pub(crate) fn begin(engine: &Engine, receiver: &Container) -> Result<Option<Self>> {
        if !takes_part(receiver)? {
            return Ok(None);
        }
        let gone = || Error::not_found(format!("No such container: {}", receiver.id()));
        let held = Held::wait(receiver)?.ok_or_else(gone)?;
        let met = Met::look(engine, receiver, engine.links_of(receiver)?)?;
        Ok(met.map(|met| Self { held, met }))
    }

    /// Its variables.
    pub(crate) fn variables(&self, receiver: &Container) -> Vec<String> {
        self.met.variables(receiver)
    }

    /// Its lines in the hosts file.
    pub(crate) fn lines(&self) -> Vec<LinkLine> {
        self.met.0.lines()
    }

    /// Writes down what the hosts file is about to say.
    ///
    /// # Errors
    /// When the receiver's directory is gone or full.
    pub(crate) fn note(&mut self, receiver: &Container, file: HostsFile) -> Result<()> {
        hosts::begin(&mut self.met.0, file);
        self.held.write(receiver, &self.met.0)
    }

    /// Opens what the links need on a bridge whose containers may not talk. From here on the
    /// sources tell the receiver when they move.
    ///
    /// # Errors
    /// When the firewall refuses; nothing stays open then.
    pub(crate) fn finish(
        self,
        receiver: &Container,
        network: &NetworkRecord,
        firewall: Option<Firewall>,
        host: &mut netns::Host,
    ) -> Result<()> {
        match gates(network, firewall) {
            Some(gates) => gates.begin(&receiver.run, self.met.sources(), host),
            None => Ok(()),
        }
    }
}

/// The gates of a receiver with this place, which are closed yet; `None` where none are needed.
fn gates(network: &NetworkRecord, firewall: Option<Firewall>) -> Option<Gates> {
    let endpoint = network
        .endpoints
        .iter()
        .find(|endpoint| endpoint.network == DEFAULT_NETWORK)?;
    Some(Gates::new(addresses(endpoint), firewall?))
}

/// Links are lines and variables for a container on the default network alone.
fn takes_part(receiver: &Container) -> Result<bool> {
    if !has_links(receiver) {
        return Ok(false);
    }
    let networks = receiver.networks()?;
    Ok(networks.iter().any(|wish| wish.network == DEFAULT_NETWORK))
}

impl Engine {
    /// Looks at the source of a link, which has to run.
    fn meet(&self, receiver: &Container, link: &mut Link) -> Result<()> {
        let source = self.source_of(receiver.id(), link)?;
        if let Some(source) = &source {
            link.source = source.id().clone();
            link.name.clone_from(&source.name);
        }
        let sight = source.as_ref().map_or(Ok(Sight::Stopped), look)?;
        match sight {
            Sight::Here(seen) => {
                link.seen = Some(seen);
                Ok(())
            }
            Sight::Elsewhere => Err(Error::conflict(format!(
                "Cannot link to /{}, as it does not belong to the default network",
                link.name
            ))
            .hint("give both containers a network of their own, where names need no link")),
            Sight::Stopped => {
                let failure = Error::conflict(format!(
                    "Cannot link to a non running container: /{} AS /{}/{}",
                    link.name,
                    receiver.current_name(),
                    link.alias
                ));
                Err(match source {
                    Some(_) => {
                        failure.hint(format!("start it first with 'rbox start {}'", link.name))
                    }
                    None => failure.hint(self.advice(receiver, link)),
                })
            }
        }
    }

    /// Changes the receiver's own lines in its hosts file, with everything else that it says; false
    /// for a container whose hosts file is no receiver's.
    ///
    /// # Errors
    /// When the file or the receiver's document cannot be written.
    pub(crate) fn change_own_lines(
        &self,
        receiver: &Container,
        change: impl FnOnce(&mut Vec<OwnLine>),
    ) -> Result<bool> {
        if !has_links(receiver) {
            return Ok(false);
        }
        let Some(held) = Held::wait(receiver)? else {
            return Ok(false);
        };
        let mut links = self.links_of(receiver)?;
        let keep = |links: &Links| held.write(receiver, links);
        hosts::rewrite_own(&mut links, &receiver.dir.hosts(), change, keep)
    }

    /// The variables of a further process in a container: of sources that do not run, those that
    /// were last known.
    ///
    /// # Errors
    /// When the receiver's document cannot be read.
    pub(crate) fn link_variables(&self, receiver: &Container) -> Result<Vec<String>> {
        if !takes_part(receiver)? {
            return Ok(Vec::new());
        }
        let mut links = self.links_of(receiver)?;
        for link in &mut links.links {
            if let Ok(Some(source)) = self.source_of(receiver.id(), link)
                && let Ok(Sight::Here(seen)) = look(&source)
            {
                link.seen = Some(seen);
            }
        }
        Ok(links.variables(&receiver.current_name()))
    }
}

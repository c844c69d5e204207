//! Making and removing links: what a receiver leaves in the index, and `rm --link`.

use std::fs::File;
use std::io::Write;

use super::names::split;
use super::{Held, Link, Links, hosts};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::plan::StartHost;
use crate::store::{Container, ContainerDir};

use super::gate::Gates;

impl Engine {
    /// Writes the links of a container that is being made; the document survives a power loss as
    /// the container's record does. Nothing is written where there are none.
    ///
    /// # Errors
    /// When the root directory is full or not writable.
    pub(crate) fn write_links(
        &self,
        id: &ContainerId,
        dir: &ContainerDir,
        links: Vec<Link>,
    ) -> Result<()> {
        if links.is_empty() {
            return Ok(());
        }
        for link in &links {
            self.store().mark_receiver(&link.name, id)?;
        }
        let links = Links {
            links,
            ..Links::default()
        };
        let content = serde_json::to_vec(&links)
            .map_err(|error| Error::system("cannot encode the container's links", error))?;
        let path = dir.links();
        File::create(&path)
            .and_then(|mut file| file.write_all(&content).and_then(|()| file.sync_data()))
            .map_err(|error| Error::file("write", &path, error))
    }

    /// Takes the marks of a receiver away that is gone.
    ///
    /// # Errors
    /// When a mark cannot be removed; it counts for nothing any more.
    pub(crate) fn forget_links(&self, receiver: &ContainerId, links: &[Link]) -> Result<()> {
        for link in links {
            self.store().unmark_receiver(&link.name, receiver)?;
        }
        Ok(())
    }

    /// `rm --link`: takes one link away, its name, its line, its variables and what it opened.
    ///
    /// # Errors
    /// Docker's texts for a plain name and for a link that does not exist.
    pub(crate) fn remove_link(&self, path: &str) -> Result<()> {
        if split(path).is_none() {
            self.resolve(path)?;
            return Err(Error::conflict(
                "Conflict, cannot remove the default link name of the container",
            )
            .hint("a link's name is RECEIVER/ALIAS: see them with 'rbox ps --no-trunc'"));
        }
        let missing = || Error::not_found(format!("No such container: {path}"));
        let (receiver, _) = self.link_at(path)?.ok_or_else(missing)?;
        let held = Held::wait(&receiver)?.ok_or_else(missing)?;
        let mut links = self.links_of(&receiver)?;
        let alias = split(path).map_or(path, |(_, alias)| alias);
        let place = links.links.iter().position(|link| link.alias == alias);
        let link = links.links.remove(place.ok_or_else(missing)?);
        hosts::rewrite(&mut links, &receiver.dir.hosts(), |links| {
            held.write(&receiver, links)
        })?;
        self.close_gate(&receiver, &links, &link)?;
        if links.links.iter().all(|other| other.name != link.name) {
            self.store().unmark_receiver(&link.name, receiver.id())?;
        }
        Ok(())
    }

    /// Closes what a link opened, unless another link leads to the same source.
    fn close_gate(&self, receiver: &Container, left: &Links, link: &Link) -> Result<()> {
        if left.links.iter().any(|other| other.source == link.source) {
            return Ok(());
        }
        let Some(gates) = Gates::read(&receiver.run)? else {
            return Ok(());
        };
        let mut host = StartHost::of(self.options()).network;
        gates.set(&receiver.run, (&link.source, None), &mut host)
    }
}

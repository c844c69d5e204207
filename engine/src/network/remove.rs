//! `network rm` and `network prune`: never a network that a running container is on.

use std::fs;
use std::io;

use super::{Network, is_predefined, unmade};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};

impl Engine {
    /// Removes a network, its bridge and its rules.
    ///
    /// # Errors
    /// `network nope not found`; Docker's texts for one that is in use or always there.
    pub fn remove_network(&self, text: &str) -> Result<Network> {
        if is_predefined(text) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!("{text} is a pre-defined network and cannot be removed"),
            ));
        }
        let network = self.network(text)?;
        if is_predefined(&network.name) {
            return self.remove_network(&network.name);
        }
        let _lock = self.store().own_networks()?;
        self.remove_unused(&network)?;
        Ok(network)
    }

    /// Removes all networks that no running container is on and the condition accepts.
    ///
    /// # Errors
    /// When a document cannot be read or a bridge not be removed.
    pub fn prune_networks(&self, wanted: impl Fn(&Network) -> bool) -> Result<Vec<Network>> {
        let mut removed = Vec::new();
        let candidates = self.store().user_networks()?;
        if candidates.is_empty() {
            return Ok(removed);
        }
        let _lock = self.store().own_networks()?;
        // a configuration is used by being there
        let candidates = candidates.into_iter().filter(|one| !one.config_only);
        for network in candidates.filter(wanted) {
            match self.remove_unused(&network) {
                Ok(()) => removed.push(network),
                Err(error) if error.kind() == ErrorKind::Forbidden => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// With the lock held: nobody can begin to use it between the look and the removal.
    fn remove_unused(&self, network: &Network) -> Result<()> {
        self.check_configuration_is_free(network)?;
        let host = self.net_host();
        let addresses = host.addresses_directory(&network.name);
        let held = netns::hold::held(&addresses)
            .map_err(|error| Error::system("cannot look at the network's addresses", error))?;
        if let Some((_, owner)) = held.iter().find(|(_, owner)| self.lives(owner)) {
            return Err(Error::new(
                ErrorKind::Forbidden,
                format!(
                    "error while removing network: network {} id {} has active endpoints",
                    network.name, network.id
                ),
            )
            .hint(self.who_is_on(owner, network)));
        }
        if !network.config_only {
            self.take_up(network)?;
        }
        let path = self.store().network_path(&network.name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &path, error));
            }
            _ => {}
        }
        // addresses and names of the dead; what stays counts for nothing
        let _ = fs::remove_dir_all(&addresses);
        let names = netns::dns::registry::directory(self.store().state());
        let _ = fs::remove_dir_all(names.join(&network.id));
        self.note_network("destroy", network);
        Ok(())
    }

    fn who_is_on(&self, owner: &str, network: &Network) -> String {
        let name = self.find(owner).map(|container| container.name);
        let name = name.unwrap_or_else(|_| owner.chars().take(12).collect());
        format!(
            "{name} is on it: stop it, or take it off with 'rbox network disconnect {} {name}'",
            network.name
        )
    }

    /// Takes the rules and the bridge from the host; what is gone already is no error.
    pub(super) fn take_up(&self, network: &Network) -> Result<()> {
        let wired = network.wired().map_err(|error| unmade(&error))?;
        let mut host = self.net_host();
        let what = || format!("error while removing network: {}", network.name);
        let steps = netns::removal(&mut host, &wired, !network.foreign_bridge)
            .map_err(|error| Error::system(what(), error))?;
        for step in &steps {
            plan::Step::apply(step, &mut host).map_err(|error| Error::system(what(), error))?;
        }
        Ok(())
    }
}

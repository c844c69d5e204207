//! The networks that are always there: `bridge`, `host` and `none`.

use std::io;

use netns::network::BridgeOptions;

use super::{Network, subnet_entry};
use crate::Engine;
use crate::error::{Error, Result};
use crate::id::random_hex;
use crate::time::Time;

/// The default network's name.
pub const BRIDGE: &str = "bridge";
/// The network of containers that have the host's namespace.
pub const HOST: &str = "host";
/// The network of containers that have nothing but loopback.
pub const NONE: &str = "none";

/// The network is always there.
pub fn is_predefined(name: &str) -> bool {
    [BRIDGE, HOST, NONE].contains(&name)
}

impl Engine {
    /// What is known of a network that is always there.
    pub(super) fn predefined(&self, name: &str) -> Result<Network> {
        let id = self.network_id(name)?;
        let link = self.store().state().join("network-ids").join(name);
        let made = link
            .symlink_metadata()
            .and_then(|link| link.modified())
            .ok();
        let made = made.and_then(|made| jiff::Timestamp::try_from(made).ok());
        let mut network = Network {
            version: Network::VERSION,
            id,
            name: name.to_owned(),
            created: made.map(Time::from).unwrap_or_default(),
            driver: match name {
                NONE => "null".to_owned(),
                name => name.to_owned(),
            },
            ..Network::default()
        };
        if name == BRIDGE {
            self.describe_bridge(&mut network)?;
        }
        Ok(network)
    }

    /// The default network's options, and its subnet once it has one.
    fn describe_bridge(&self, network: &mut Network) -> Result<()> {
        let options = self.options();
        let mut host = self.net_host();
        let unseen = |error| Error::system("cannot look at the default bridge", error);
        let there = host.remark(&options.bridge).map_err(unseen)?;
        let there = there.map(|remark| remark.icc);
        network.options = BridgeOptions {
            default_bridge: true,
            icc: options.inter_container.or(there).unwrap_or(true),
            ..BridgeOptions::of(&options.bridge)
        }
        .shown();
        let pools = host.bridge_pools(&options.bridge).map_err(unseen)?;
        network.ipv6 = pools.iter().any(|pool| pool.gateway.is_ipv6());
        network.subnets = pools
            .iter()
            .map(|pool| subnet_entry(pool.subnet, Some(pool.gateway)))
            .collect();
        network.pools = pools;
        Ok(())
    }

    /// The host's side of networks, with nothing opened yet.
    pub(crate) fn net_host(&self) -> netns::Host {
        crate::plan::StartHost::of(self.options()).network
    }

    /// The id of one of the three networks that are always there: drawn once per state directory,
    /// by whoever comes first.
    pub(crate) fn network_id(&self, name: &str) -> Result<String> {
        let directory = self.store().state().join("network-ids");
        let path = directory.join(name);
        loop {
            match std::fs::read_link(&path) {
                Ok(id) => return Ok(id.to_string_lossy().into_owned()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("read the link", &path, error)),
            }
            std::fs::create_dir_all(&directory)
                .map_err(|error| Error::file("make the directory", &directory, error))?;
            for name in [BRIDGE, HOST, NONE] {
                // A link is made whole or not at all, and only by one.
                let path = directory.join(name);
                match std::os::unix::fs::symlink(random_hex()?, &path) {
                    Ok(()) => {}
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                    Err(error) => return Err(Error::file("make the link", &path, error)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::create::tests::engine;

    #[test]
    fn a_network_keeps_its_id() {
        let (_directory, engine) = engine();
        let id = engine.network_id(BRIDGE).unwrap();
        assert_eq!(id.len(), 64);
        assert_eq!(engine.network_id(BRIDGE).unwrap(), id);
        assert_ne!(engine.network_id(HOST).unwrap(), id);
    }
}

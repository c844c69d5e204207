//! `network create`: a document under a name, and the bridge that goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use ipnet::IpNet;
use netns::network::{BridgeOptions, Occupied, check_device};
use plan::{Faults, Run};

use super::subnet::{SubnetRequest, Wanted, choose};
use super::{BRIDGE, Network, is_name, is_predefined, unmade};
use crate::Engine;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::random_hex;
use crate::time::Time;

/// What the user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkRequest {
    /// Its name.
    pub name: String,
    /// `--driver`; empty is `bridge`.
    pub driver: String,
    /// `--subnet`, `--ip-range`, `--gateway`.
    pub subnets: Vec<SubnetRequest>,
    /// `--ipv6`.
    pub ipv6: bool,
    /// `--internal`.
    pub internal: bool,
    /// `--attachable`.
    pub attachable: bool,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// `--label`.
    pub labels: BTreeMap<String, String>,
}

impl Engine {
    /// Makes a network and its bridge.
    ///
    /// # Errors
    /// Docker's texts for a name in use, a subnet that is taken, a driver that is none.
    pub fn create_network(&self, request: &NetworkRequest) -> Result<Network> {
        check(request)?;
        let _lock = self.store().own_networks()?;
        if self.store().user_network(&request.name)?.is_some() {
            return Err(Error::conflict(format!(
                "network with name {} already exists",
                request.name
            ))
            .hint(format!(
                "see it with 'rbox network inspect {}'",
                request.name
            )));
        }
        let network = self.plan_network(request)?;
        let path = self
            .store()
            .networks()
            .join(format!("{}.json", network.name));
        write(&path, &network)?;
        if let Err(error) = self.lay(&network) {
            let _ = self.take_up(&network);
            fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
            return Err(error);
        }
        self.note_network("create", &network);
        Ok(network)
    }

    /// The network with its addresses chosen and its bridge named; nothing is made.
    fn plan_network(&self, request: &NetworkRequest) -> Result<Network> {
        let mut network = Network {
            version: Network::VERSION,
            id: random_hex()?,
            name: request.name.clone(),
            created: Time::now(),
            driver: BRIDGE.to_owned(),
            ipv6: request.ipv6,
            internal: request.internal,
            attachable: request.attachable,
            user_subnets: !request.subnets.is_empty(),
            options: request.options.clone(),
            labels: request.labels.clone(),
            ..Network::default()
        };
        let bridge = network.bridge().map_err(|error| unmade(&error))?;
        check_device(&bridge.device).map_err(|error| unmade(&error))?;
        self.check_bridge_is_free(&network, &bridge)?;
        let mut host = self.net_host();
        let fault = |error| Error::system("cannot look at the host's networks", error);
        network.foreign_bridge = host.find_bridge(&bridge.device).map_err(fault)?.is_some();
        let mut occupied = host.occupied(&bridge.device).map_err(fault)?;
        occupied.extend(self.taken_subnets());
        occupied.extend(self.default_subnet(&mut host)?);
        let wanted = Wanted {
            subnets: &request.subnets,
            ipv6: request.ipv6,
            internal: request.internal,
            id: &network.id,
        };
        let chosen = choose(&wanted, &occupied)?;
        network.pools = chosen.pools;
        network.subnets = chosen.shown;
        Ok(network)
    }

    /// Two networks never share a bridge.
    fn check_bridge_is_free(&self, network: &Network, bridge: &BridgeOptions) -> Result<()> {
        let conflict = |id: &str| {
            Err(Error::new(
                crate::ErrorKind::Forbidden,
                format!(
                    "cannot create network {} ({device}): conflicts with network {id} ({device}): \
                     networks have same bridge name",
                    network.id,
                    device = bridge.device
                ),
            ))
        };
        if bridge.device == self.options().bridge {
            return conflict(&self.network_id(BRIDGE)?);
        }
        for other in self.store().user_networks()? {
            if other
                .bridge()
                .is_ok_and(|other| other.device == bridge.device)
            {
                return conflict(&other.id);
            }
        }
        Ok(())
    }

    /// The subnet that the default bridge will want, as long as it is not there to show it.
    fn default_subnet(&self, host: &mut netns::Host) -> Result<Option<Occupied>> {
        let options = self.options();
        let there = host
            .bridge_pools(&options.bridge)
            .map_err(|error| Error::system("cannot look at the default bridge", error))?;
        if !there.is_empty() {
            return Ok(None);
        }
        let subnet = options.subnet.map_or_else(first_pool, IpNet::V4);
        Ok(Some(Occupied {
            subnet,
            device: options.bridge.clone(),
        }))
    }

    /// Makes the bridge and puts its rules in place.
    fn lay(&self, network: &Network) -> Result<()> {
        let wired = network.wired().map_err(|error| unmade(&error))?;
        let mut host = self.net_host();
        let what = || format!("cannot make the network {}", network.name);
        let steps =
            netns::setup(&mut host, &wired).map_err(|error| Error::system(what(), error))?;
        Run::new(Faults::none(), false)
            .apply(&steps, &mut host)
            .map_err(|failure| Error::system(what(), failure.cause))
    }

    /// Writes an event; a log that cannot be written stops nothing.
    pub(super) fn note_network(&self, action: &str, network: &Network) {
        let attributes = [
            ("name", network.name.as_str()),
            ("type", network.driver.as_str()),
        ];
        let event = Event::new("network", action, &network.id, &attributes);
        let _ = self.events().append(&event);
    }
}

/// The first of Docker's pools.
fn first_pool() -> IpNet {
    IpNet::V4(ipnet::Ipv4Net::new_assert([172, 17, 0, 0].into(), 16))
}

/// What can be refused without a look at the host.
fn check(request: &NetworkRequest) -> Result<()> {
    let name = request.name.as_str();
    if is_predefined(name) || name == "default" {
        return Err(Error::new(
            crate::ErrorKind::Forbidden,
            format!("operation is not permitted on predefined {name} network"),
        ));
    }
    if !is_name(name) {
        return Err(Error::invalid(format!(
            "invalid network name: {name}, only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    match request.driver.as_str() {
        "" | BRIDGE => Ok(()),
        one @ ("host" | "null") => Err(Error::new(
            crate::ErrorKind::Forbidden,
            format!("only one instance of \"{one}\" network is allowed"),
        )),
        other => {
            Err(Error::not_found(format!("plugin \"{other}\" not found"))
                .hint("the driver is bridge"))
        }
    }
}

/// Puts the document in place whole; it survives a power loss.
fn write(path: &Path, network: &Network) -> Result<()> {
    let content = serde_json::to_vec(network)
        .map_err(|error| Error::system("cannot encode the network", error))?;
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&content)?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|error| Error::file("write", path, error))
}

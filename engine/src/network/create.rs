//! `network create`: a document under a name, and the bridge that goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use ipnet::IpNet;
use netns::network::{BridgeOptions, Occupied, check_device};
use netns::uplink::Uplink;
use plan::{Faults, Run};

use super::configuration::configuration;
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
    /// `--config-only`: nothing is made, others are made from it.
    pub config_only: bool,
    /// `--config-from`: the network that holds the configuration.
    pub config_from: String,
    /// `--ipam-opt`.
    pub ipam_options: BTreeMap<String, String>,
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
        let network = match request.config_only {
            true => configuration(request)?,
            false => self.plan_network(&self.configured(request)?)?,
        };
        let path = self
            .store()
            .networks()
            .join(format!("{}.json", network.name));
        write(&path, &network)?;
        let laid = match network.config_only {
            true => Ok(()),
            false => self.lay(&network),
        };
        if let Err(error) = laid {
            let _ = self.take_up(&network);
            fs::remove_file(&path).map_err(|error| Error::file("remove", &path, error))?;
            return Err(error);
        }
        self.note_network("create", &network);
        Ok(network)
    }

    /// The network with its addresses chosen and its bridge named; nothing is made.
    fn plan_network(&self, request: &NetworkRequest) -> Result<Network> {
        let mut network = bare(request)?;
        let interface = format!("{}0", network.interface_prefix());
        check_device(&interface).map_err(|error| unmade(&error))?;
        let occupied = match network.uplink().map_err(|error| unmade(&error))? {
            Some(uplink) => self.look_at_wire(&network, &uplink)?,
            None => self.look_at_bridge(&mut network)?,
        };
        let wanted = Wanted {
            subnets: &request.subnets,
            ipv6: request.ipv6,
            internal: request.internal,
            id: &network.id,
            driver: &network.driver,
        };
        let chosen = choose(&wanted, &occupied)?;
        network.pools = chosen.pools;
        network.subnets = chosen.shown;
        Ok(network)
    }

    /// What a new bridge must not overlap with: everything.
    fn look_at_bridge(&self, network: &mut Network) -> Result<Vec<Occupied>> {
        let mut host = self.net_host();
        let mut occupied = self.taken_subnets();
        let bridge = network.bridge().map_err(|error| unmade(&error))?;
        let Some(bridge) = bridge else {
            return Ok(occupied);
        };
        check_device(&bridge.device).map_err(|error| unmade(&error))?;
        self.check_bridge_is_free(network, &bridge)?;
        let there = host.find_bridge(&bridge.device).map_err(unseen)?;
        network.foreign_bridge = there.is_some();
        occupied.extend(host.occupied(&bridge.device).map_err(unseen)?);
        occupied.extend(self.default_subnet(&mut host)?);
        Ok(occupied)
    }

    /// What a network on a wire of the host's must not overlap with. The wire's own subnet is the
    /// one that it is made for.
    fn look_at_wire(&self, network: &Network, uplink: &Uplink) -> Result<Vec<Occupied>> {
        if network.internal {
            return Err(Error::invalid(format!(
                "a {} network cannot be internal: its wire leads outside",
                network.driver
            ))
            .hint("make it with the driver bridge"));
        }
        if uplink.parent == "lo" {
            return Err(Error::invalid(format!(
                "loopback interface is not a valid {} parent link",
                network.driver
            ))
            .hint("name a device with a wire: '-o parent=eth0'"));
        }
        let mut host = self.net_host();
        if !host.has_device(&uplink.parent).map_err(unseen)? {
            return Err(Error::invalid(format!(
                "there is no device {:?} on this host",
                uplink.parent
            ))
            .hint(
                "see them with 'ip link'; a VLAN is made with 'ip link add link eth0 name eth0.10 \
                 type vlan id 10'",
            ));
        }
        for other in self.store().user_networks()? {
            let wired = other.uplink().is_ok_and(|wire| wire.is_some());
            if wired && other.device() == uplink.parent {
                return Err(Error::new(
                    crate::ErrorKind::Forbidden,
                    format!(
                        "network {} is already using parent interface {}",
                        other.id, uplink.parent
                    ),
                )
                .hint(format!("it is called {}", other.name)));
            }
        }
        let mut occupied = self.taken_subnets();
        let own = match network.user_subnets {
            true => uplink.parent.as_str(),
            false => "",
        };
        occupied.extend(host.occupied(own).map_err(unseen)?);
        Ok(occupied)
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
            if other.device() == bridge.device {
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

/// The network with nothing chosen.
pub(super) fn bare(request: &NetworkRequest) -> Result<Network> {
    Ok(Network {
        version: Network::VERSION,
        id: random_hex()?,
        name: request.name.clone(),
        created: Time::now(),
        driver: match request.driver.as_str() {
            "" => BRIDGE.to_owned(),
            driver => driver.to_owned(),
        },
        ipv6: request.ipv6,
        internal: request.internal,
        attachable: request.attachable,
        config_from: request.config_from.clone(),
        ipam_options: request.ipam_options.clone(),
        user_subnets: !request.subnets.is_empty(),
        options: request.options.clone(),
        labels: request.labels.clone(),
        ..Network::default()
    })
}

fn unseen(error: netns::NetError) -> Error {
    if let netns::NetError::NotABridge { name, .. } = &error {
        return Error::invalid(format!("existing interface {name} is not a bridge"))
            .hint("name another with '-o com.docker.network.bridge.name=DEVICE'");
    }
    Error::system("cannot look at the host's networks", error)
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
        "" | BRIDGE | "macvlan" | "ipvlan" => Ok(()),
        one @ ("host" | "null") => Err(Error::new(
            crate::ErrorKind::Forbidden,
            format!("only one instance of \"{one}\" network is allowed"),
        )),
        "none" => Err(Error::new(
            crate::ErrorKind::Forbidden,
            "only one instance of \"null\" network is allowed",
        )
        .hint("containers without a network: --network none")),
        other => Err(Error::not_found(format!("plugin \"{other}\" not found"))
            .hint("the drivers are bridge, macvlan and ipvlan")),
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

//! A container's place on its networks: what is reserved, planned and recorded before its process
//! exists.

use std::net::IpAddr;

use netns::ipam::AddressError;
use netns::port::Socket;
use netns::{NetError, NetStep, Prepared, Sandbox};

use super::files::Addresses;
use super::join::Mode;
use super::names;
use crate::error::{Error, Result};
use crate::id::{ContainerId, random_hex};
use crate::network::{BRIDGE, HOST, NONE, unmade};
use crate::store::{Container, EndpointRecord, NetworkRecord};
use crate::{Engine, Firewall};

pub(crate) mod attach;
pub(crate) mod place;

use attach::Attacher;
use place::{Place, gateway};
use sys::error::with_causes;

/// What a container has on its networks.
#[derive(Debug, Default)]
pub(crate) struct Wiring {
    /// To be applied once the container's namespace is known.
    pub(crate) steps: Vec<NetStep>,
    /// The sockets of published ports.
    pub(crate) sockets: Vec<Socket>,
    /// Where published ports lead.
    pub(crate) targets: Vec<IpAddr>,
    /// For inspect.
    pub(crate) record: NetworkRecord,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
    /// For the hosts file.
    pub(crate) addresses: Addresses,
    /// Names are looked up by the monitor's own resolver.
    pub(crate) resolver: bool,
    /// Its process is to wait until the steps are done.
    pub(crate) own_namespace: bool,
    /// The rules of the default bridge, where its containers may talk by links alone.
    pub(crate) gate: Option<netns::step::Firewall>,
}

/// The hand that these options name.
pub(crate) fn hand(firewall: Firewall) -> Option<netns::firewall::Hand> {
    match firewall {
        Firewall::Auto => None,
        Firewall::Off => Some(netns::firewall::Hand::Off),
        Firewall::Iptables => Some(netns::firewall::Hand::Iptables),
        Firewall::Nftables => Some(netns::firewall::Hand::Nft),
    }
}

impl Wiring {
    /// Reserves and plans what the container's networks ask for.
    ///
    /// # Errors
    /// Docker's texts for a port that is taken, a network that does not exist, a full subnet.
    pub(crate) fn prepare(
        engine: &Engine,
        container: &Container,
        host: &mut netns::Host,
    ) -> Result<Self> {
        match Mode::of(&container.record.host) {
            Mode::Container(_) => Ok(Self::default()),
            Mode::Host => Self::without_bridge(engine, HOST),
            Mode::None if container.is_alone()? => {
                let mut wiring = Self::without_bridge(engine, NONE)?;
                wiring.steps = netns::bare(Sandbox::New { ipv6: false });
                wiring.own_namespace = true;
                Ok(wiring)
            }
            Mode::None | Mode::Bridge(_) => Self::on_networks(engine, container, host),
        }
    }

    /// On `host` and `none` Docker shows an endpoint without an address.
    fn without_bridge(engine: &Engine, network: &str) -> Result<Self> {
        Ok(Self {
            record: NetworkRecord {
                sandbox_id: random_hex()?,
                endpoints: vec![EndpointRecord {
                    network: network.to_owned(),
                    network_id: engine.network_id(network)?,
                    endpoint_id: random_hex()?,
                    ..EndpointRecord::default()
                }],
                ..NetworkRecord::default()
            },
            ..Self::default()
        })
    }

    fn on_networks(engine: &Engine, container: &Container, host: &mut netns::Host) -> Result<Self> {
        // until addresses are held on them, no network may go
        let wishes = container.networks()?;
        let lock = match wishes.iter().any(|wish| wish.network != BRIDGE) {
            true => Some(engine.store().share_networks()?),
            false => None,
        };
        let places = Place::look_up((engine, container), wishes, host)?;
        let mut wiring = Self {
            own_namespace: true,
            record: NetworkRecord {
                sandbox_id: random_hex()?,
                ..NetworkRecord::default()
            },
            resolver: places.iter().any(|place| place.user),
            ..Self::default()
        };
        let attached = wiring.attach_all((engine, container), &places, host);
        drop(lock);
        if let Err(error) = attached {
            wiring.release();
            return Err(error);
        }
        Ok(wiring)
    }

    fn attach_all(
        &mut self,
        (engine, container): (&Engine, &Container),
        places: &[Place],
        host: &mut netns::Host,
    ) -> Result<()> {
        let ipv6 = places.iter().any(|place| place.network.v6().is_some());
        let leads = gateway(places);
        if places.is_empty() {
            self.steps = netns::bare(Sandbox::New { ipv6 });
        }
        for (number, place) in places.iter().enumerate() {
            let attacher = Attacher::new(engine, container, place)?
                .with_interface(self.record.next_interface(&place.prefix))
                .with_gateway(leads == Some(number))
                .with_sandbox(match number {
                    0 => Sandbox::New { ipv6 },
                    _ => Sandbox::Wired,
                });
            let prepared = attacher.prepare(host)?;
            self.add(&attacher, prepared);
            let endpoint = self.record.endpoints.last();
            let names = endpoint.and_then(|one| names::step(engine, container, one));
            self.steps.extend(names);
            self.warnings.extend(place.warning.clone());
            if !place.user && crate::link::has_links(container) {
                let gate = host.gate(&place.network);
                self.gate = gate.map_err(|error| failed(&error, container))?;
            }
        }
        if self.resolver {
            self.steps.push(NetStep::Resolver);
        }
        Ok(())
    }

    /// Takes in what was prepared on one network.
    fn add(&mut self, attacher: &Attacher<'_>, prepared: Prepared) {
        let (endpoint, ports) = attacher.records(&prepared);
        let own = prepared.endpoint.addresses.iter().map(ipnet::IpNet::addr);
        if attacher.is_gateway() {
            self.targets = own.clone().collect();
            self.addresses.gateway = attacher.host_gateway();
        }
        self.addresses.own.extend(own);
        self.steps.extend(prepared.steps);
        self.sockets.extend(prepared.sockets);
        self.record.endpoints.push(endpoint);
        self.record.ports.extend(ports);
    }

    /// Gives back what is held.
    pub(crate) fn release(&mut self) {
        self.sockets.clear();
        for step in &self.steps {
            if let NetStep::Hold(hold) = step {
                // what stays counts only while its owner lives
                let _ = hold.release();
            }
        }
    }
}

/// A failure of the network, with what to do about it.
pub(crate) fn failed(error: &NetError, container: &Container) -> Error {
    let failure = Error::conflict(with_causes(error));
    match error {
        NetError::Publish { .. } => {
            let hint =
                "choose another port with -p, or see who has it with 'rbox ps' and 'ss -ltnup'";
            failure.hint(match container.record.host.auto_remove {
                true => hint.to_owned(),
                false => format!(
                    "{hint}; the container is kept: remove it with 'rbox rm {}'",
                    container.name
                ),
            })
        }
        NetError::Exhausted { name, .. } => failure.hint(format!(
            "who has them: 'rbox network inspect {name}'; stop a container that is on it, or make \
             a network with a larger --subnet"
        )),
        NetError::Network(refused) => unmade(refused),
        NetError::Address(AddressError::InUse { address, owner }) => {
            let owner = match owner.parse::<ContainerId>() {
                Ok(id) => format!("container {}", id.short()),
                Err(_) => owner.clone(),
            };
            failure.hint(format!(
                "{owner} has {address}: choose another --ip, or none"
            ))
        }
        _ => failure,
    }
}

//! A container's place on its network: what is reserved, planned and recorded before its process
//! exists.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netns::network::{BridgeOptions, Driver, Network};
use netns::port::{HostPort, Port, Publish, Socket};
use netns::{Attach, DefaultBridge, Endpoint, NetError, NetStep, Prepared};

use super::files::Addresses;
use super::join::Mode;
use super::launch::whole;
use crate::error::{Error, Result};
use crate::id::{ContainerId, random_hex};
use crate::store::{Container, EndpointRecord, NetworkRecord, PortRecord};
use crate::{Engine, Firewall};

/// The default network's name.
const BRIDGE: &str = "bridge";

/// What a container has on its network.
#[derive(Debug, Default)]
pub(crate) struct Wiring {
    /// To be applied once the container's namespace is known.
    pub(crate) steps: Vec<NetStep>,
    /// The sockets of published ports.
    pub(crate) sockets: Vec<Socket>,
    /// For inspect.
    pub(crate) record: NetworkRecord,
    /// What the user should know.
    pub(crate) warnings: Vec<String>,
    /// For the hosts file.
    pub(crate) addresses: Addresses,
    /// Its process is to wait until the steps are done.
    pub(crate) own_namespace: bool,
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
    /// Reserves and plans what the container's network mode asks for.
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
            Mode::Host => Self::without_bridge(engine, "host"),
            Mode::None => {
                let mut wiring = Self::without_bridge(engine, "none")?;
                let network = network_without_bridge();
                let attach = Attacher::new(engine, container)?;
                wiring.steps = attach.prepare(host, &network)?.steps;
                wiring.own_namespace = true;
                Ok(wiring)
            }
            Mode::Bridge(BRIDGE) => Self::on_bridge(engine, container, host),
            Mode::Bridge(name) => Err(Error::not_found(format!("network {name} not found"))),
        }
    }

    /// On `host` and `none` Docker shows an endpoint without an address.
    fn without_bridge(engine: &Engine, network: &str) -> Result<Self> {
        Ok(Self {
            record: NetworkRecord {
                sandbox_id: random_hex()?,
                endpoints: vec![EndpointRecord {
                    network: network.to_owned(),
                    network_id: network_id(engine, network)?,
                    endpoint_id: random_hex()?,
                    ..EndpointRecord::default()
                }],
                ..NetworkRecord::default()
            },
            ..Self::default()
        })
    }

    fn on_bridge(engine: &Engine, container: &Container, host: &mut netns::Host) -> Result<Self> {
        let options = engine.options();
        let wanted = DefaultBridge {
            options: BridgeOptions {
                icc: options.inter_container,
                ..DefaultBridge::on(&options.bridge).options
            },
            subnet: options.subnet.map(IpNet::V4),
            subnet6: None,
        };
        let id = network_id(engine, BRIDGE)?;
        let chosen = host
            .default_network(&id, &wanted)
            .map_err(|error| failed(&error, container))?;
        let network = chosen.network;
        let warnings = chosen
            .passed_over
            .map(|(subnet, by)| passed_over(&options.bridge, &subnet, &by, &network));
        let attach = Attacher::new(engine, container)?;
        let prepared = attach.prepare(host, &network)?;
        Ok(Self {
            record: attach.record(&id, &prepared)?,
            addresses: Addresses {
                own: own(&prepared.endpoint),
                gateway: prepared.endpoint.gateways.first().copied(),
            },
            steps: prepared.steps,
            sockets: prepared.sockets,
            own_namespace: true,
            warnings: warnings.into_iter().collect(),
        })
    }
}

/// Says which subnet the bridge did not get, what has it, and how to choose.
fn passed_over(
    bridge: &str,
    subnet: &IpNet,
    by: &netns::network::Occupied,
    network: &Network,
) -> String {
    let got: Vec<String> = network
        .pools
        .iter()
        .map(|pool| pool.subnet.to_string())
        .collect();
    format!(
        "WARNING: {subnet} is taken by {by}: bridge {bridge} uses {} instead (choose with --bridge-subnet)",
        got.join(", ")
    )
}

fn own(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint.addresses.iter().map(IpNet::addr).collect()
}

fn network_without_bridge() -> Network {
    Network {
        id: String::new(),
        name: "none".to_owned(),
        driver: Driver::None,
        pools: Vec::new(),
        internal: false,
        bridge: None,
    }
}

/// One container on its way to a network.
struct Attacher<'a> {
    engine: &'a Engine,
    container: &'a Container,
    endpoint: String,
    publish: Vec<Publish>,
    exposed: Vec<Port>,
}

impl<'a> Attacher<'a> {
    fn new(engine: &'a Engine, container: &'a Container) -> Result<Self> {
        let (config, host) = (&container.record.config, &container.record.host);
        let mut publish = Vec::new();
        for (port, bindings) in &host.port_bindings {
            let port = read_port(port)?;
            publish.extend(bindings.iter().map(|binding| Publish {
                port,
                host_ip: binding.host_ip.clone(),
                host_port: binding.host_port.clone(),
            }));
        }
        let exposed = config
            .exposed_ports
            .keys()
            .map(|port| read_port(port))
            .collect::<Result<_>>()?;
        Ok(Self {
            engine,
            container,
            endpoint: random_hex()?,
            publish,
            exposed,
        })
    }

    fn prepare(&self, host: &mut netns::Host, network: &Network) -> Result<Prepared> {
        let record = &self.container.record;
        let mac = match &record.endpoint.mac_address {
            Some(text) => Some(read_mac(text)?),
            None => None,
        };
        let bridged = network.bridge.is_some();
        let attach = Attach {
            network,
            container: record.id.as_str(),
            name: &self.container.name,
            endpoint: &self.endpoint,
            interface: "eth0",
            addresses: &[],
            mac,
            publish: if bridged { &self.publish } else { &[] },
            exposed: &self.exposed,
            publish_all: bridged && record.host.publish_all_ports,
            links: &[],
            default_route: true,
            alive: &|owner| self.lives(owner),
        };
        netns::prepare(host, &attach).map_err(|error| failed(&error, self.container))
    }

    /// A reservation counts while its owner's monitor lives.
    fn lives(&self, owner: &str) -> bool {
        owner.parse::<ContainerId>().is_ok_and(|id| {
            let monitor = self.engine.store().run(&id).monitor();
            monitor.is_ok_and(|mark| mark.is_some_and(crate::store::ProcessMark::alive))
        })
    }

    fn record(&self, network_id: &str, prepared: &Prepared) -> Result<NetworkRecord> {
        let endpoint = &prepared.endpoint;
        let v4 = endpoint.addresses.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        });
        let v6 = endpoint.addresses.iter().find_map(|net| match net {
            IpNet::V6(net) => Some(*net),
            IpNet::V4(_) => None,
        });
        let gateway = |wanted: bool| {
            endpoint
                .gateways
                .iter()
                .find(|address| address.is_ipv4() == wanted)
                .copied()
        };
        Ok(NetworkRecord {
            sandbox_id: random_hex()?,
            sandbox_key: String::new(),
            endpoints: vec![EndpointRecord {
                network: BRIDGE.to_owned(),
                network_id: network_id.to_owned(),
                endpoint_id: self.endpoint.clone(),
                address: v4.map(|net| net.addr()),
                prefix: v4.map_or(0, |net| net.prefix_len()),
                gateway: gateway(true).and_then(|address| match address {
                    IpAddr::V4(address) => Some(address),
                    IpAddr::V6(_) => None,
                }),
                address6: v6.map(|net| net.addr()),
                prefix6: v6.map_or(0, |net| net.prefix_len()),
                gateway6: gateway(false).and_then(|address| match address {
                    IpAddr::V6(address) => Some(address),
                    IpAddr::V4(_) => None,
                }),
                mac_address: endpoint
                    .mac
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect::<Vec<_>>()
                    .join(":"),
                aliases: None,
                links: None,
                interface: "eth0".to_owned(),
            }],
            ports: prepared
                .sockets
                .iter()
                .map(|socket| port_record(socket.binding.port, socket.binding.host))
                .collect(),
        })
    }
}

fn port_record(port: Port, host: HostPort) -> PortRecord {
    PortRecord {
        container_port: port.number,
        protocol: port.protocol.as_str().to_owned(),
        host_ip: host.ip,
        host_port: host.port,
    }
}

fn read_port(text: &str) -> Result<Port> {
    text.parse()
        .map_err(|error: netns::port::SpecError| Error::invalid(error.to_string()))
}

fn read_mac(text: &str) -> Result<sys::netlink::Mac> {
    let bad = || Error::invalid(format!("{text} is not a valid mac address"));
    let bytes = text
        .split([':', '-'])
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|_| bad())?;
    bytes.try_into().map_err(|_| bad())
}

/// The id of one of the three networks that are always there: drawn once per state directory, by
/// whoever comes first.
fn network_id(engine: &Engine, name: &str) -> Result<String> {
    let directory = engine.store().state().join("network-ids");
    let path = directory.join(name);
    loop {
        match std::fs::read_link(&path) {
            Ok(id) => return Ok(id.to_string_lossy().into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::file("read the link", &path, error)),
        }
        std::fs::create_dir_all(&directory)
            .map_err(|error| Error::file("make the directory", &directory, error))?;
        for name in [BRIDGE, "host", "none"] {
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

/// A failure of the network, with what to do about it.
pub(crate) fn failed(error: &NetError, container: &Container) -> Error {
    let failure = Error::conflict(whole(error));
    match error {
        NetError::Publish { .. } => failure.hint(format!(
            "choose another port with -p, or see who has it with 'rbox ps' and 'ss -ltnup'; the \
             container is kept: remove it with 'rbox rm {}'",
            container.name
        )),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        assert_eq!(
            read_mac("02:42:ac:11:00:02").unwrap(),
            [2, 0x42, 0xac, 17, 0, 2]
        );
        for bad in ["", "zz", "02:42", "02:42:ac:11:00:02:03", "1:2:3:4:5:100"] {
            assert_eq!(
                read_mac(bad).unwrap_err().to_string(),
                format!("{bad} is not a valid mac address")
            );
        }
    }

    #[test]
    fn a_network_keeps_its_id() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(crate::Options {
            root: directory.path().join("root"),
            state: directory.path().join("state"),
            ..crate::Options::default()
        });
        let id = network_id(&engine, BRIDGE).unwrap();
        assert_eq!(id.len(), 64);
        assert_eq!(network_id(&engine, BRIDGE).unwrap(), id);
        assert_ne!(network_id(&engine, "host").unwrap(), id);
    }
}

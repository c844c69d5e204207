//! One container on one network: what is reserved, and the pure plan of the steps.

use std::net::IpAddr;

use ipnet::IpNet;
use sys::netlink::Mac;

use crate::error::NetError;
use crate::firewall::{Hand, LinkRule, Opening, PublishRule};
use crate::hold::{Alive, Hold};
use crate::host::{Facts, Host};
use crate::ipam::{self, AddressError, mac_of};
use crate::network::Network;
use crate::port::{Allocator, Binding, Port, PortMap, PortRange, Publish, Socket, to_bind};
use crate::step::{Interface, NetStep, Openings, Settings, Sublink, Veth};
use crate::uplink::Uplink;

mod ground;
mod moved;

pub use ground::{removal, setup};
pub use moved::{is_of, parted, publishes, way_out};

/// A container that is to be attached to a network with a bridge.
#[derive(Clone, Copy)]
pub struct Attach<'a> {
    /// The network.
    pub network: &'a Network,
    /// The container's id: the owner of what is reserved.
    pub container: &'a str,
    /// The container's name, for messages.
    pub name: &'a str,
    /// The endpoint's id, for messages and inspect.
    pub endpoint: &'a str,
    /// The interface in the container: `eth0`.
    pub interface: &'a str,
    /// Addresses asked for, at most one per family.
    pub addresses: &'a [IpAddr],
    /// Addresses beyond those of the network's subnets, which are not reserved.
    pub further: &'a [IpNet],
    /// The hardware address asked for.
    pub mac: Option<Mac>,
    /// Its ports that are to be published.
    pub publish: &'a [Publish],
    /// Its exposed ports.
    pub exposed: &'a [Port],
    /// Every exposed port is to be published.
    pub publish_all: bool,
    /// What links open, where containers may not talk.
    pub links: &'a [LinkRule],
    /// Its default route goes over this network.
    pub default_route: bool,
    /// What is known of its namespace.
    pub sandbox: Sandbox,
    /// Whether another owner lives.
    pub alive: Alive<'a>,
}

/// The namespace that is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sandbox {
    /// Nothing was set up in it.
    New {
        /// One of its networks has IPv6.
        ipv6: bool,
    },
    /// It is on another network already.
    Wired,
}

impl std::fmt::Debug for Attach<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attach")
            .field("network", &self.network.name)
            .field("container", &self.container)
            .field("interface", &self.interface)
            .finish_non_exhaustive()
    }
}

/// What a container has on a network, for inspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses with the subnets' prefixes, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// The gateways, in the same order.
    pub gateways: Vec<IpAddr>,
    /// Its hardware address.
    pub mac: Mac,
    /// The host's end of the pair.
    pub veth: String,
    /// Its exposed and published ports.
    pub ports: PortMap,
}

/// Everything that can be had before the container exists: addresses and ports are held, the
/// listening sockets are open, and the plan is made.
#[derive(Debug)]
pub struct Prepared {
    /// To be applied once the container's namespace is known.
    pub steps: Vec<NetStep>,
    /// The sockets of published ports, for the proxy.
    pub sockets: Vec<Socket>,
    /// What the container gets.
    pub endpoint: Endpoint,
}

/// Reserves addresses and ports, opens the sockets of published ports and plans the rest. The
/// reservations are steps of the plan: undoing it releases them.
///
/// # Errors
/// [`NetError`]; what was reserved until then is released.
pub fn prepare(host: &mut Host, attach: &Attach<'_>) -> Result<Prepared, NetError> {
    let facts = host.facts(attach.network)?;
    let mut holds = Vec::new();
    let outcome = reserve(host, attach, &mut holds);
    match outcome {
        Ok((addresses, sockets)) => {
            let entropy = entropy();
            Ok(prepared(
                attach,
                &facts,
                (addresses, sockets, holds),
                entropy,
            ))
        }
        Err(error) => {
            for hold in &holds {
                // On the way out of another error; what stays counts only while its owner lives.
                let _ = hold.release();
            }
            Err(error)
        }
    }
}

/// Takes addresses and ports; `holds` has what was taken also when it fails.
fn reserve(
    host: &Host,
    attach: &Attach<'_>,
    holds: &mut Vec<Hold>,
) -> Result<(Vec<IpNet>, Vec<Socket>), NetError> {
    let network = attach.network;
    let directory = host.addresses_directory(&network.name);
    let mut addresses = Vec::new();
    for pool in &network.pools {
        let wanted = attach
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == pool.gateway.is_ipv4())
            .copied();
        let held = ipam::reserve(&directory, pool, attach.container, attach.alive, wanted)
            .map_err(|error| unaddressed(error, network))?;
        addresses.push(held.address);
        holds.push(held.hold);
    }
    let publish = to_bind(attach.publish, attach.exposed, attach.publish_all);
    let mut sockets = Vec::new();
    // Without a bridge there is nothing to publish; Docker ignores the wish.
    if !publish.is_empty() && network.bridge.is_some() {
        let directory = host.ports_directory();
        let allocator = Allocator {
            directory: &directory,
            owner: attach.container,
            alive: attach.alive,
            range: PortRange::ephemeral(),
            default_ip: network
                .bridge
                .as_ref()
                .map_or(crate::port::ANY_V4, |bridge| bridge.host_binding),
        };
        let held = allocator
            .open(&publish)
            .map_err(|reason| NetError::Publish {
                name: attach.name.to_owned(),
                endpoint: attach.endpoint.to_owned(),
                reason,
            })?;
        for one in held {
            holds.push(one.hold);
            sockets.push(one.socket);
        }
    }
    Ok((addresses, sockets))
}

/// An address that could not be had, of which network.
fn unaddressed(error: AddressError, network: &Network) -> NetError {
    match error {
        AddressError::Exhausted(family) => NetError::Exhausted {
            family,
            name: network.name.clone(),
            id: network.id.clone(),
        },
        other => NetError::Address(other),
    }
}

type Reserved = (Vec<IpNet>, Vec<Socket>, Vec<Hold>);

fn prepared(
    attach: &Attach<'_>,
    facts: &Facts,
    (addresses, sockets, holds): Reserved,
    entropy: [u8; 8],
) -> Prepared {
    let bindings: Vec<Binding> = sockets.iter().map(|socket| socket.binding).collect();
    let uplink = attach.network.uplink.as_ref();
    let mac = attach
        .mac
        .or_else(|| addresses.first().map(|net| mac_of(net.addr())))
        .filter(|_| uplink.is_none_or(|uplink| uplink.mode.has_mac()))
        .unwrap_or_default();
    let request = Request {
        network: attach.network,
        interface: attach.interface,
        addresses: &addresses,
        further: attach.further,
        mac,
        holds: &holds,
        bindings: &bindings,
        links: attach.links,
        default_route: attach.default_route,
        sandbox: attach.sandbox,
        entropy,
    };
    let steps = plan(&request, facts);
    Prepared {
        steps,
        endpoint: Endpoint {
            mac,
            veth: veth_name(entropy),
            gateways: moved::gateways(attach.network),
            ports: Socket::map(&sockets, attach.exposed),
            addresses,
        },
        sockets,
    }
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The network.
    pub network: &'a Network,
    /// The interface in the container.
    pub interface: &'a str,
    /// Its addresses.
    pub addresses: &'a [IpNet],
    /// Addresses beyond those of the network's subnets.
    pub further: &'a [IpNet],
    /// Its hardware address.
    pub mac: Mac,
    /// What is reserved for it.
    pub holds: &'a [Hold],
    /// Its published ports.
    pub bindings: &'a [Binding],
    /// What links open.
    pub links: &'a [LinkRule],
    /// Its default route goes over this network.
    pub default_route: bool,
    /// What is known of its namespace.
    pub sandbox: Sandbox,
    /// For names and addresses that only have to differ from others.
    pub entropy: [u8; 8],
}

/// The steps that attach a container to a network, in order; what is there already is left out.
/// Without a bridge (the driver `null`) only loopback is set up.
pub fn plan(request: &Request<'_>, facts: &Facts) -> Vec<NetStep> {
    let mut steps: Vec<NetStep> = request.holds.iter().cloned().map(NetStep::Hold).collect();
    let network = request.network;
    if let Some(uplink) = &network.uplink {
        steps.extend(on_wire(request, uplink));
        return steps;
    }
    let (Some(bridge), Some(firewall)) = (&network.bridge, ground::firewall(network, facts)) else {
        steps.extend(bare(request.sandbox));
        return steps;
    };
    steps.extend(ground::laid(network, facts, request.entropy));
    if let Sandbox::New { ipv6 } = request.sandbox {
        steps.push(NetStep::Settings(settings(ipv6)));
    }
    steps.push(NetStep::Veth(Veth {
        name: veth_name(request.entropy),
        bridge: bridge.device.clone(),
        peer: request.interface.to_owned(),
        mac: request.mac,
        mtu: bridge.mtu,
    }));
    steps.extend(of_interface(request).map(NetStep::Settings));
    steps.push(NetStep::Interface(interface(request)));
    let mut openings = openings(request, &bridge.device);
    if !bridge.icc && facts.hand == Hand::Nft {
        openings.push(Opening::Closed(veth_name(request.entropy)));
    }
    if !openings.is_empty() && facts.hand != Hand::Off {
        steps.push(NetStep::Openings(Openings {
            network: firewall,
            openings,
        }));
    }
    steps
}

/// The steps on a network whose containers share a wire of the host's.
fn on_wire(request: &Request<'_>, uplink: &Uplink) -> Vec<NetStep> {
    let mut steps = Vec::new();
    if let Sandbox::New { ipv6 } = request.sandbox {
        steps.push(NetStep::Settings(settings(ipv6)));
    }
    steps.push(NetStep::Sublink(Sublink {
        uplink: uplink.clone(),
        name: request.interface.to_owned(),
        mac: Some(request.mac).filter(|_| uplink.mode.has_mac()),
    }));
    steps.extend(of_interface(request).map(NetStep::Settings));
    steps.push(NetStep::Interface(interface(request)));
    steps
}

/// The steps for a namespace with nothing but loopback; none where that is up already.
pub fn bare(sandbox: Sandbox) -> Vec<NetStep> {
    match sandbox {
        Sandbox::New { ipv6 } => vec![
            NetStep::Settings(settings(ipv6)),
            NetStep::Interface(Interface {
                device: None,
                addresses: Vec::new(),
                gateways: Vec::new(),
                leads: Vec::new(),
            }),
        ],
        Sandbox::Wired => Vec::new(),
    }
}

/// The settings of a container's own network namespace: any port without privilege, ping for
/// everybody, and no IPv6 where no network has it.
fn settings(ipv6: bool) -> Settings {
    let mut list = vec![
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("net/ipv4/ping_group_range", "0 2147483647"),
    ];
    if !ipv6 {
        list.push(("net/ipv6/conf/all/disable_ipv6", "1"));
    }
    Settings {
        list: list
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

/// What one interface needs beyond the settings of its namespace, which may have been made for
/// networks of another kind.
fn of_interface(request: &Request<'_>) -> Option<Settings> {
    let has = request.network.v6().is_some();
    if request.sandbox == (Sandbox::New { ipv6: has }) {
        return None;
    }
    let value = if has { "0" } else { "1" };
    let mut devices = vec![request.interface];
    if has {
        devices.push("lo");
    }
    Some(Settings {
        list: devices
            .into_iter()
            .map(|device| {
                (
                    format!("net/ipv6/conf/{device}/disable_ipv6"),
                    value.to_owned(),
                )
            })
            .collect(),
    })
}

fn interface(request: &Request<'_>) -> Interface {
    Interface {
        device: Some(request.interface.to_owned()),
        addresses: [request.addresses, request.further].concat(),
        gateways: match request.default_route {
            true => moved::gateways(request.network),
            false => Vec::new(),
        },
        leads: match request.default_route {
            true => moved::leads(request.network),
            false => Vec::new(),
        },
    }
}

fn openings(request: &Request<'_>, bridge: &str) -> Vec<Opening> {
    let addresses: Vec<IpAddr> = request.addresses.iter().map(IpNet::addr).collect();
    let published = request
        .bindings
        .iter()
        .filter_map(|binding| PublishRule::of(binding, bridge, &addresses))
        .map(Opening::Publish);
    let linked = request.links.iter().cloned().map(Opening::Link);
    published.chain(linked).collect()
}

/// `veth` and seven hexadecimal digits.
fn veth_name([a, b, c, d, ..]: [u8; 8]) -> String {
    let number = u32::from_be_bytes([a, b, c, d]) & 0x0fff_ffff;
    format!("veth{number:07x}")
}

fn entropy() -> [u8; 8] {
    let mut bytes = [0; 8];
    sys::random::fill(&mut bytes).expect("the kernel has random numbers once it runs programs");
    bytes
}

#[cfg(test)]
mod tests;

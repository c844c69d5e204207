//! One container on one network: the request to the network crate, and the records of what came
//! of it.

use std::net::IpAddr;

use ipnet::IpNet;
use netns::network::Network;
use netns::port::{HostPort, Port, Publish};
use netns::{Attach, Prepared, Sandbox};

use super::failed;
use super::place::Place;
use crate::Engine;
use crate::container::network::options;
use crate::error::{Error, Result};
use crate::id::{ContainerId, random_hex};
use crate::store::record::EndpointWish;
use crate::store::{Container, EndpointRecord, PortRecord};

/// One container on its way to a network.
pub(crate) struct Attacher<'a> {
    engine: &'a Engine,
    container: &'a Container,
    place: &'a Place,
    endpoint: String,
    interface: String,
    publish: Vec<Publish>,
    exposed: Vec<Port>,
    gateway: bool,
    sandbox: Sandbox,
}

impl<'a> Attacher<'a> {
    pub(crate) fn new(
        engine: &'a Engine,
        container: &'a Container,
        place: &'a Place,
    ) -> Result<Self> {
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
            place,
            endpoint: random_hex()?,
            interface: "eth0".to_owned(),
            publish,
            exposed,
            gateway: true,
            sandbox: Sandbox::New { ipv6: false },
        })
    }

    /// What the interface inside is called.
    pub(crate) fn with_interface(mut self, interface: String) -> Self {
        self.interface = interface;
        self
    }

    /// The way out and published ports are on this network.
    pub(crate) fn with_gateway(mut self, gateway: bool) -> Self {
        self.gateway = gateway;
        self
    }

    /// What the namespace looks like.
    pub(crate) fn with_sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    pub(crate) fn is_gateway(&self) -> bool {
        self.gateway
    }

    /// Where the host is reached, or at least asked for: the bridge's own address, or the router
    /// of a wire.
    pub(crate) fn host_gateway(&self) -> Option<IpAddr> {
        let pool = self.place.network.pools.first()?;
        Some(pool.gateway)
    }

    /// Reserves and plans.
    pub(crate) fn prepare(&self, host: &mut netns::Host) -> Result<Prepared> {
        let (record, network) = (&self.container.record, &self.place.network);
        let wish = &self.place.wish.endpoint;
        let mac = match &wish.mac_address {
            Some(text) => Some(read_mac(text)?),
            None => None,
        };
        let addresses: Vec<IpAddr> = [wish.address.map(IpAddr::V4), wish.address6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect();
        let further = further(wish, network)?;
        let publishes = self.gateway && network.bridge.is_some() && !network.internal;
        let attach = Attach {
            network,
            container: record.id.as_str(),
            name: &self.container.name,
            endpoint: &self.endpoint,
            interface: &self.interface,
            addresses: &addresses,
            further: &further,
            mac,
            publish: if publishes { &self.publish } else { &[] },
            exposed: &self.exposed,
            publish_all: publishes && record.host.publish_all_ports,
            links: &[],
            default_route: self.gateway,
            sandbox: self.sandbox,
            alive: &|owner| self.engine.lives(owner),
        };
        netns::prepare(host, &attach).map_err(|error| failed(&error, self.container))
    }

    /// What inspect shows of the place, and of the ports published there.
    pub(crate) fn records(&self, prepared: &Prepared) -> (EndpointRecord, Vec<PortRecord>) {
        let endpoint = &prepared.endpoint;
        let v4 = endpoint.addresses.iter().find_map(|net| match net {
            IpNet::V4(net) => Some(*net),
            IpNet::V6(_) => None,
        });
        let v6 = endpoint.addresses.iter().find_map(|net| match net {
            IpNet::V6(net) => Some(*net),
            IpNet::V4(_) => None,
        });
        let gateways = || endpoint.gateways.iter().copied();
        let record = EndpointRecord {
            network: self.place.network.name.clone(),
            driver: self.place.network.driver.to_string(),
            network_id: self.place.network.id.clone(),
            endpoint_id: self.endpoint.clone(),
            address: v4.map(|net| net.addr()),
            prefix: v4.map_or(0, |net| net.prefix_len()),
            gateway: gateways().find_map(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }),
            address6: v6.map(|net| net.addr()),
            prefix6: v6.map_or(0, |net| net.prefix_len()),
            gateway6: gateways().find_map(|address| match address {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            }),
            mac_address: mac_text(endpoint.mac),
            aliases: self.aliases(),
            links: self.links(),
            driver_options: options(&self.place.wish.endpoint),
            priority: self.place.wish.endpoint.priority,
            interface: self.interface.clone(),
        };
        let ports = prepared
            .sockets
            .iter()
            .map(|socket| port_record(socket.binding.port, socket.binding.host))
            .collect();
        (record, ports)
    }

    /// Other names on a user's network: those asked for, the short id, a host name that was given.
    fn aliases(&self) -> Option<Vec<String>> {
        if !self.place.user {
            return None;
        }
        let record = &self.container.record;
        let mut all = self.place.wish.endpoint.aliases.clone();
        all.push(record.id.short().to_owned());
        if record.config.hostname != record.id.short() {
            all.push(record.config.hostname.clone());
        }
        Some(all)
    }

    fn links(&self) -> Option<Vec<String>> {
        let links = &self.place.wish.endpoint.links;
        (self.place.user && !links.is_empty()).then(|| links.clone())
    }
}

/// Link-local addresses as Docker configures them.
fn further(wish: &EndpointWish, network: &Network) -> Result<Vec<IpNet>> {
    let mut all = Vec::with_capacity(wish.link_local.len());
    for address in &wish.link_local {
        if address.is_ipv6() && network.v6().is_none() {
            return Err(Error::invalid(format!(
                "invalid link local IP address: {address}: network {} has no IPv6",
                network.name
            ))
            .hint("make the network with --ipv6"));
        }
        let bits = if address.is_ipv4() { 16 } else { 64 };
        all.push(IpNet::new_assert(*address, bits));
    }
    Ok(all)
}

impl Engine {
    /// A reservation counts while its owner's monitor lives.
    pub(crate) fn lives(&self, owner: &str) -> bool {
        owner.parse::<ContainerId>().is_ok_and(|id| {
            let monitor = self.store().run(&id).monitor();
            monitor.is_ok_and(|mark| mark.is_some_and(crate::store::ProcessMark::alive))
        })
    }
}

/// As inspect shows it; empty where the interface has its parent's.
fn mac_text(mac: sys::netlink::Mac) -> String {
    match mac.iter().all(|byte| *byte == 0) {
        true => String::new(),
        false => mac.map(|byte| format!("{byte:02x}")).join(":"),
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

/// Reads a hardware address.
///
/// # Errors
/// Docker's text.
pub(crate) fn read_mac(text: &str) -> Result<sys::netlink::Mac> {
    let bad = || Error::invalid(format!("{text} is not a valid mac address"));
    let bytes = text
        .split([':', '-'])
        .map(|part| u8::from_str_radix(part, 16))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(|_| bad())?;
    bytes.try_into().map_err(|_| bad())
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
}

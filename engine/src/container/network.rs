//! Where a container can be reached: `NetworkSettings` of inspect, `Ports` of `ps` and `port`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netns::port::{HostPort, Port, PortMap};
use serde::Serialize;

use crate::error::Result;
use crate::network::{BRIDGE, HOST, NONE};
use crate::store::record::EndpointWish;
use crate::store::{Container, EndpointRecord, NetworkRecord, Status};

/// `NetworkSettings`; fields and their order are Docker's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkSettings {
    /// Always empty.
    pub bridge: String,
    /// Of the network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Always false.
    pub hairpin_mode: bool,
    /// Always empty.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Always 0.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_len: u8,
    /// Published and exposed ports.
    pub ports: PortMap,
    /// Where the network namespace is.
    pub sandbox_key: String,
    /// Always null.
    #[serde(rename = "SecondaryIPAddresses")]
    pub secondary_ip_addresses: Option<Vec<String>>,
    /// Always null.
    #[serde(rename = "SecondaryIPv6Addresses")]
    pub secondary_ipv6_addresses: Option<Vec<String>>,
    /// The default network's endpoint again, for old readers.
    #[serde(flatten)]
    pub mirror: Mirror,
    /// By the network's name.
    pub networks: BTreeMap<String, EndpointDocument>,
}

/// The default network's endpoint, as old readers expect it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Mirror {
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Default route.
    pub gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Bits of the IPv6 network part.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Bits of the network part.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6 default route.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Hardware address.
    pub mac_address: String,
}

/// An entry of `Networks`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct EndpointDocument {
    /// What the user fixed.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<Fixed>,
    /// On networks of the user's.
    pub links: Option<Vec<String>>,
    /// On networks of the user's.
    pub aliases: Option<Vec<String>>,
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// The endpoint's id.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// Default route.
    pub gateway: String,
    /// Address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Bits of the network part.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_len: u8,
    /// IPv6 default route.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Bits of the IPv6 network part.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_len: u8,
    /// Hardware address.
    pub mac_address: String,
    /// `--driver-opt`.
    pub driver_opts: Option<BTreeMap<String, String>>,
}

/// The addresses that the user fixed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Fixed {
    /// `--ip`.
    #[serde(rename = "IPv4Address", skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// `--ip6`.
    #[serde(rename = "IPv6Address", skip_serializing_if = "Option::is_none")]
    pub address6: Option<Ipv6Addr>,
    /// `--link-local-ip`.
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<IpAddr>,
}

fn text4(address: Option<Ipv4Addr>) -> String {
    address
        .map(|address| address.to_string())
        .unwrap_or_default()
}

fn text6(address: Option<Ipv6Addr>) -> String {
    address
        .map(|address| address.to_string())
        .unwrap_or_default()
}

impl From<&EndpointRecord> for EndpointDocument {
    fn from(endpoint: &EndpointRecord) -> Self {
        Self {
            ipam_config: None,
            links: endpoint.links.clone(),
            aliases: endpoint.aliases.clone(),
            network_id: endpoint.network_id.clone(),
            endpoint_id: endpoint.endpoint_id.clone(),
            gateway: text4(endpoint.gateway),
            ip_address: text4(endpoint.address),
            ip_prefix_len: endpoint.prefix,
            ipv6_gateway: text6(endpoint.gateway6),
            global_ipv6_address: text6(endpoint.address6),
            global_ipv6_prefix_len: endpoint.prefix6,
            mac_address: endpoint.mac_address.clone(),
            driver_opts: endpoint.driver_options.clone(),
        }
    }
}

impl From<&EndpointWish> for EndpointDocument {
    /// A place that the container does not have yet.
    fn from(wish: &EndpointWish) -> Self {
        let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
        Self {
            ipam_config: fixed(wish),
            links: some(&wish.links),
            aliases: some(&wish.aliases),
            driver_opts: options(wish),
            ..Self::default()
        }
    }
}

/// The addresses that the user fixed.
fn fixed(wish: &EndpointWish) -> Option<Fixed> {
    let fixed = Fixed {
        address: wish.address,
        address6: wish.address6,
        link_local: wish.link_local.clone(),
    };
    (fixed != Fixed::default()).then_some(fixed)
}

/// The options for the driver, where there are any.
pub(crate) fn options(wish: &EndpointWish) -> Option<BTreeMap<String, String>> {
    let options = &wish.driver_options;
    (!options.is_empty()).then(|| options.clone())
}

impl From<&EndpointDocument> for Mirror {
    fn from(endpoint: &EndpointDocument) -> Self {
        Self {
            endpoint_id: endpoint.endpoint_id.clone(),
            gateway: endpoint.gateway.clone(),
            global_ipv6_address: endpoint.global_ipv6_address.clone(),
            global_ipv6_prefix_len: endpoint.global_ipv6_prefix_len,
            ip_address: endpoint.ip_address.clone(),
            ip_prefix_len: endpoint.ip_prefix_len,
            ipv6_gateway: endpoint.ipv6_gateway.clone(),
            mac_address: endpoint.mac_address.clone(),
        }
    }
}

/// Where a container can be reached now; of a stopped one only the networks' names remain.
pub(crate) fn network_settings(container: &Container, status: Status) -> Result<NetworkSettings> {
    let record = match status.has_process() {
        true => container.run.network()?,
        false => None,
    };
    let mut settings = NetworkSettings::default();
    for wish in container.networks()? {
        let document = EndpointDocument::from(&wish.endpoint);
        settings.networks.insert(wish.network, document);
    }
    let Some(record) = record else {
        return Ok(settings);
    };
    settings.sandbox_id.clone_from(&record.sandbox_id);
    settings.sandbox_key.clone_from(&record.sandbox_key);
    for endpoint in &record.endpoints {
        let place = settings
            .networks
            .entry(endpoint.network.clone())
            .or_default();
        *place = EndpointDocument {
            ipam_config: place.ipam_config.take(),
            ..EndpointDocument::from(endpoint)
        };
    }
    if let Some(endpoint) = settings.networks.get(BRIDGE) {
        settings.mirror = Mirror::from(endpoint);
    }
    let alone = |name: &str| name == HOST || name == NONE;
    let shares = container.record.host.network_mode.starts_with("container:");
    if !shares && !settings.networks.keys().any(|name| alone(name)) {
        settings.ports = ports(container, &record);
    }
    Ok(settings)
}

/// What is bound, and what is exposed only.
fn ports(container: &Container, record: &NetworkRecord) -> PortMap {
    let mut ports = PortMap::new();
    for name in container.record.config.exposed_ports.keys() {
        if let Ok(port) = name.parse::<Port>() {
            ports.insert(port, None);
        }
    }
    for bound in &record.ports {
        if let Ok(protocol) = bound.protocol.parse() {
            let port = Port {
                number: bound.container_port,
                protocol,
            };
            let host = HostPort {
                ip: bound.host_ip,
                port: bound.host_port,
            };
            ports
                .entry(port)
                .or_default()
                .get_or_insert_default()
                .push(host);
        }
    }
    ports
}

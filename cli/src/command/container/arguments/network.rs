//! Flags about networks, names and ports.

use clap::Args;
use engine::config::{Config, Empty, HostConfig, PortBinding};
use engine::network::NetworkWish;
use engine::store::record::EndpointWish;
use netns::port;

use super::some;
use crate::error::{Failure, Result};
use crate::option::host;
use crate::option::network::{self, Attachment};

/// Flags about networks, names and ports.
#[derive(Debug, Clone, Args)]
pub(crate) struct NetworkArgs {
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = host::extra)]
    pub(crate) add_host: Vec<String>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list", value_parser = host::address)]
    pub(crate) dns: Vec<String>,
    /// Set DNS options
    #[arg(long, value_name = "list", alias = "dns-opt")]
    pub(crate) dns_option: Vec<String>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list", value_parser = host::search)]
    pub(crate) dns_search: Vec<String>,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list")]
    pub(crate) expose: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "string")]
    pub(crate) ip: Option<String>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "string")]
    pub(crate) ip6: Option<String>,
    /// Add link to another container
    #[arg(long, value_name = "list", value_parser = host::link)]
    pub(crate) link: Vec<String>,
    /// Container IPv4/IPv6 link-local addresses
    #[arg(long, value_name = "list")]
    pub(crate) link_local_ip: Vec<String>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    pub(crate) mac_address: Option<String>,
    /// Connect a container to a network
    #[arg(long, value_name = "network", alias = "net", value_parser = network::parse)]
    pub(crate) network: Vec<Attachment>,
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "list", alias = "net-alias")]
    pub(crate) network_alias: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list")]
    pub(crate) publish: Vec<String>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
}

/// What the flags say that has no place in the host's part.
pub(super) struct Wanted {
    pub(super) endpoint: EndpointWish,
    pub(super) further: Vec<NetworkWish>,
}

impl NetworkArgs {
    /// Puts names, servers, ports and the network into the request.
    pub(super) fn fill(&self, config: &mut Config, host: &mut HostConfig) -> Result<Wanted> {
        host.extra_hosts = some(&self.add_host);
        self.dns.clone_into(&mut host.dns);
        self.dns_option.clone_into(&mut host.dns_options);
        self.dns_search.clone_into(&mut host.dns_search);
        host.links = some(&self.link);
        host.publish_all_ports = self.publish_all;
        self.ports(config, host)?;
        self.check_networks()?;
        let mut networks = self.network.iter();
        let first = networks.next().cloned().unwrap_or_default();
        let first = wish(self.with_flags(first))?;
        if !first.network.is_empty() {
            first.network.clone_into(&mut host.network_mode);
        }
        Ok(Wanted {
            endpoint: first.endpoint,
            further: networks.cloned().map(wish).collect::<Result<_>>()?,
        })
    }

    /// Docker's command line's own refusals.
    fn check_networks(&self) -> Result<()> {
        for (number, network) in self.network.iter().enumerate() {
            if number == 0 {
                self.check_flags(network)?;
            }
            let aliased =
                !network.aliases.is_empty() || number == 0 && !self.network_alias.is_empty();
            if aliased && !network.is_of_a_user() {
                return Err(unaliased());
            }
            if self.network[..number]
                .iter()
                .any(|other| other.name == network.name)
            {
                return Err(Failure::said(format!(
                    "network {:?} is specified multiple times",
                    network.name
                )));
            }
        }
        if self.network.len() > 1 && self.network.iter().any(Attachment::is_had_alone) {
            return Err(Failure::said(
                "conflicting options: cannot attach both user-defined and non-user-defined \
                 network-modes",
            )
            .hint("'host', 'none' and 'container:NAME' are a container's only network"));
        }
        if self.network.is_empty() && !self.network_alias.is_empty() {
            return Err(unaliased());
        }
        Ok(())
    }

    /// What both a plain flag and the long form of the first network say.
    fn check_flags(&self, network: &Attachment) -> Result<()> {
        let both = [
            (
                !network.aliases.is_empty() && !self.network_alias.is_empty(),
                "--network-alias and per-network alias",
            ),
            (
                !network.ip.is_empty() && self.ip.is_some(),
                "--ip and per-network IPv4 address",
            ),
            (
                !network.ip6.is_empty() && self.ip6.is_some(),
                "--ip6 and per-network IPv6 address",
            ),
            (
                !network.mac.is_empty() && self.mac_address.is_some(),
                "--mac-address and per-network MAC address",
            ),
            (
                !network.link_local.is_empty() && !self.link_local_ip.is_empty(),
                "--link-local-ip and per-network link-local IP addresses",
            ),
        ];
        match both.iter().find(|(both, _)| *both) {
            Some((_, what)) => Err(Failure::said(format!(
                "conflicting options: cannot specify both {what}"
            ))),
            None => Ok(()),
        }
    }

    /// Plain flags speak of the first network.
    fn with_flags(&self, mut network: Attachment) -> Attachment {
        let fill = |own: &mut String, flag: &Option<String>| {
            if let Some(flag) = flag {
                own.clone_from(flag);
            }
        };
        fill(&mut network.ip, &self.ip);
        fill(&mut network.ip6, &self.ip6);
        fill(&mut network.mac, &self.mac_address);
        network.aliases.extend_from_slice(&self.network_alias);
        network.link_local.extend_from_slice(&self.link_local_ip);
        network
    }

    fn ports(&self, config: &mut Config, host: &mut HostConfig) -> Result<()> {
        for word in &self.publish {
            let published = port::parse_publish(word).map_err(|e| Failure::said(e.to_string()))?;
            for one in published {
                let name = one.port.to_string();
                config.exposed_ports.insert(name.clone(), Empty {});
                host.port_bindings
                    .entry(name)
                    .or_default()
                    .push(PortBinding {
                        host_ip: one.host_ip,
                        host_port: one.host_port,
                    });
            }
        }
        for word in &self.expose {
            let exposed = port::parse_expose(word).map_err(|e| Failure::said(e.to_string()))?;
            for one in exposed {
                config.exposed_ports.insert(one.to_string(), Empty {});
            }
        }
        Ok(())
    }
}

/// What one network is asked for.
fn wish(network: Attachment) -> Result<NetworkWish> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let mac = some(network.mac);
    if let Some(mac) = mac.as_deref().filter(|mac| !host::is_mac(mac)) {
        return Err(Failure::said(format!("{mac} is not a valid mac address")));
    }
    Ok(NetworkWish {
        network: network.name,
        endpoint: EndpointWish {
            aliases: network.aliases,
            address: network::address4(some(network.ip).as_deref())?,
            address6: network::address6(some(network.ip6).as_deref())?,
            mac_address: mac,
            links: Vec::new(),
            link_local: network::link_local(&network.link_local)?,
            driver_options: network.driver_options,
            priority: network.priority,
        },
    })
}

fn unaliased() -> Failure {
    Failure::said("network-scoped aliases are only supported for user-defined networks")
        .hint("make a network with 'rbox network create' and name it with --network")
}

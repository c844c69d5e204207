//! Flags about networks, names and ports.

use clap::Args;
use engine::config::{Config, Empty, HostConfig, PortBinding};
use engine::network::NetworkWish;
use engine::store::record::EndpointWish;
use netns::port;

use super::{refuse_given, some};
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
        let mut networks = self.network.iter().map(|one| self.wish(one));
        let first = match networks.next() {
            Some(first) => first?,
            None => self.wish(&Attachment::default())?,
        };
        if !first.network.is_empty() {
            first.network.clone_into(&mut host.network_mode);
        }
        Ok(Wanted {
            endpoint: first.endpoint,
            further: networks.collect::<Result<_>>()?,
        })
    }

    /// What one `--network` asks for; plain flags speak of the first.
    fn wish(&self, network: &Attachment) -> Result<NetworkWish> {
        let first = self.network.first().is_none_or(|first| first == network);
        let or = |own: &str, flag: &Option<String>| match own {
            "" if first => flag.clone(),
            "" => None,
            own => Some(own.to_owned()),
        };
        let mac = or(&network.mac, &self.mac_address);
        if let Some(mac) = mac.as_deref().filter(|mac| !host::is_mac(mac)) {
            return Err(Failure::said(format!("{mac} is not a valid mac address")));
        }
        let mut aliases = network.aliases.clone();
        if first {
            aliases.extend_from_slice(&self.network_alias);
        }
        Ok(NetworkWish {
            network: network.name.clone(),
            endpoint: EndpointWish {
                aliases,
                address: network::address4(or(&network.ip, &self.ip).as_deref())?,
                address6: network::address6(or(&network.ip6, &self.ip6).as_deref())?,
                mac_address: mac,
                links: Vec::new(),
            },
        })
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

    /// Refuses what rbox does not have.
    pub(super) fn refuse(&self) -> Result<()> {
        refuse_given(&[(
            !self.link_local_ip.is_empty(),
            "link-local-ip",
            "containers get one address per network",
        )])
    }
}

//! Flags about networks, names and ports.

use std::net::Ipv4Addr;

use clap::Args;
use engine::config::{Config, Empty, HostConfig, PortBinding};
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
    pub(super) aliases: Vec<String>,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) mac: Option<String>,
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
        let attachment = self.network.last().cloned().unwrap_or_default();
        if !attachment.name.is_empty() {
            attachment.name.clone_into(&mut host.network_mode);
        }
        let mac = self
            .mac_address
            .clone()
            .or_else(|| Some(attachment.mac).filter(|mac| !mac.is_empty()));
        if let Some(mac) = mac.as_deref().filter(|mac| !host::is_mac(mac)) {
            return Err(Failure::said(format!("{mac} is not a valid mac address")));
        }
        let ip = self
            .ip
            .clone()
            .or_else(|| Some(attachment.ip).filter(|ip| !ip.is_empty()));
        let address = match ip {
            Some(ip) => Some(
                ip.parse()
                    .map_err(|_| Failure::said(format!("invalid IPv4 address: {ip}")))?,
            ),
            None => None,
        };
        let mut aliases = attachment.aliases;
        aliases.extend_from_slice(&self.network_alias);
        Ok(Wanted {
            aliases,
            address,
            mac,
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
        refuse_given(&[
            (
                self.ip6.is_some(),
                "ip6",
                "containers get IPv4 addresses only",
            ),
            (
                !self.link_local_ip.is_empty(),
                "link-local-ip",
                "containers get one address per network",
            ),
            (
                self.network.len() > 1,
                "network more than once",
                "a container is made on one network; connect the others after",
            ),
        ])
    }
}

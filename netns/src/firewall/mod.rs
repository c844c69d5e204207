//! The firewall as a value, and the two hands that carry it to the kernel.
//!
//! A network, a published port and a link each need certain rules. `ruleset` says which in
//! iptables' terms; `iptables` writes them in one batch where the host manages its firewall with
//! iptables; `nft` needs no program and keeps tables of its own, whose chains never change: they
//! look into sets and maps, so that a start only adds elements. Policies of chains that are not
//! ours are never touched.

mod forget;
pub mod iptables;
pub mod mark;
pub mod nft;
pub mod ruleset;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sys::SysError;

use crate::network::Network;
use crate::port::{Binding, Protocol};

/// Which hand carries rules to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hand {
    /// `iptables-restore`.
    Iptables,
    /// nf_tables over netlink.
    Nft,
    /// None: the administrator's own rules must do. Published ports are served by the proxy alone.
    Off,
}

impl Hand {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Hand::Iptables => "iptables",
            Hand::Nft => "nft",
            Hand::Off => "off",
        }
    }
}

impl std::fmt::Display for Hand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a network needs of the firewall as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkRules {
    /// Its bridge.
    pub bridge: String,
    /// Its subnets.
    pub subnets: Vec<IpNet>,
    /// Its containers may talk to one another.
    pub icc: bool,
    /// What leaves the host gets the host's address.
    pub masquerade: bool,
    /// Nothing leaves it.
    pub internal: bool,
}

impl NetworkRules {
    /// What a network needs; `None` for one without a bridge.
    pub fn of(network: &Network) -> Option<Self> {
        let bridge = network.bridge.as_ref()?;
        Some(Self {
            bridge: bridge.device.clone(),
            subnets: network.pools.iter().map(|pool| pool.subnet).collect(),
            icc: bridge.icc,
            masquerade: bridge.masquerade,
            internal: network.internal,
        })
    }
}

impl NetworkRules {
    /// The same network with the contrary word on whether its containers may talk.
    pub(crate) fn contrary(&self) -> Self {
        Self {
            icc: !self.icc,
            ..self.clone()
        }
    }
}

/// What a container needs of the firewall as long as it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Opening {
    /// A published port.
    Publish(PublishRule),
    /// A port that a link opens between two containers.
    Link(LinkRule),
    /// The port of a bridge whose containers may not talk. iptables closes whole bridges and needs
    /// nothing for one of their ports.
    Closed(String),
}

/// A published port in one family.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishRule {
    /// The container's bridge.
    pub bridge: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; `None` is every one.
    pub host_ip: Option<IpAddr>,
    /// The host's port.
    pub host_port: u16,
    /// The container's address.
    pub address: IpAddr,
    /// The container's port.
    pub port: u16,
}

/// A port of a source that its receiver may use although containers may not talk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkRule {
    /// The bridge of both.
    pub bridge: String,
    /// Who may connect.
    pub receiver: IpAddr,
    /// Where to.
    pub source: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The source's port.
    pub port: u16,
}

impl PublishRule {
    /// The rule of a binding for a container with these addresses; `None` where the host's and the
    /// container's families differ: there the proxy alone forwards.
    pub fn of(binding: &Binding, bridge: &str, addresses: &[IpAddr]) -> Option<Self> {
        let host = binding.host.ip;
        let address = *addresses
            .iter()
            .find(|address| address.is_ipv4() == host.is_ipv4())?;
        Some(Self {
            bridge: bridge.to_owned(),
            protocol: binding.port.protocol,
            host_ip: (!host.is_unspecified()).then_some(host),
            host_port: binding.host.port,
            address,
            port: binding.port.number,
        })
    }
}

impl Opening {
    /// The family of its addresses; what has none counts as IPv4.
    pub fn is_v4(&self) -> bool {
        match self {
            Opening::Publish(publish) => publish.address.is_ipv4(),
            Opening::Link(link) => link.source.is_ipv4(),
            Opening::Closed(_) => true,
        }
    }
}

pub use forget::{forget_closed, forget_opened};

/// What can go wrong with the firewall.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// The kernel refused a batch of nf_tables.
    #[error("cannot change the firewall")]
    Nft(#[source] sys::nftables::BatchError),
    /// A call failed.
    #[error("cannot reach the firewall")]
    Call(#[from] SysError),
    /// The program is not installed.
    #[error("cannot find {0} in PATH or /usr/sbin")]
    NoProgram(&'static str),
    /// The program could not be started or talked to.
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program refused.
    #[error("{program} failed: {message}")]
    Refused {
        /// The program.
        program: &'static str,
        /// What it printed.
        message: String,
    },
}

/// Chooses the hand: iptables where the host manages its firewall with it, nf_tables elsewhere.
///
/// The host does if a legacy table is in use, or if nf_tables holds the chains that the newer
/// iptables makes; and the program must be there.
pub fn detect(nft: &mut sys::nftables::Socket) -> Hand {
    if iptables::find("iptables-restore").is_none() {
        return Hand::Nft;
    }
    let legacy =
        std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    if !legacy.trim().is_empty() {
        return Hand::Iptables;
    }
    match nft.chains() {
        Ok(chains) => {
            let made_by_iptables = chains.iter().any(|(family, table, chain)| {
                *family == sys::nftables::Family::Ip
                    && matches!(
                        (table.as_str(), chain.as_str()),
                        ("filter", "FORWARD" | "INPUT" | "OUTPUT")
                            | ("nat", "PREROUTING" | "POSTROUTING" | "OUTPUT")
                    )
            });
            if made_by_iptables {
                Hand::Iptables
            } else {
                Hand::Nft
            }
        }
        Err(_) => Hand::Iptables,
    }
}

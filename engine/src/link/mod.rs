//! Classic links: what a receiver keeps of them, and who is told what when a source comes and goes.
//!
//! ```text
//! create   resolve.rs   --link → Link: which container, by which alias
//! start    receive.rs   receiver: looks at its sources → variables, hosts lines, gates
//!          follow.rs    source: finds its receivers (index.rs) → their hosts lines and gates
//! end      follow.rs    either side: the gates between them close
//! ```
//!
//! A receiver's document (`links.json`) holds its links, what was last seen of each source, and its
//! hosts file as a value. Whoever changes it, the hosts file or the gates holds the receiver's lock
//! `links.lock`, and never two of them. A source records where it is before it tells its receivers,
//! and a receiver looks at its sources under its lock: so one of the two sees the other.

pub(crate) mod follow;
pub(crate) mod gate;
mod hosts;
mod index;
mod names;
pub(crate) mod receive;
mod remove;
pub(crate) mod resolve;

use std::net::IpAddr;

use netns::hosts::{HostsFile, LinkLine};
use netns::link::LinkSource;
use netns::port::Port;
use serde::{Deserialize, Serialize};
use sys::lock::Lock;

use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::{Container, EndpointRecord, read_json, replace_json};

/// The network on which links are lines and variables.
pub(crate) const DEFAULT_NETWORK: &str = "bridge";

/// No such file or directory.
const ENOENT: i32 = 2;

/// The links of one receiver: `links.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Links {
    /// In the order in which they were typed.
    pub(crate) links: Vec<Link>,
    /// Its hosts file as it was last written; `None` before the first start.
    pub(crate) hosts: Option<HostsFile>,
    /// Lines of ours that a writer who died may have left in the file.
    pub(crate) replaced: Vec<String>,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Link {
    /// What the receiver calls the source.
    pub(crate) alias: String,
    /// The source.
    pub(crate) source: ContainerId,
    /// The source's last known name: who is made anew under it takes its place.
    pub(crate) name: String,
    /// The source as it was last seen running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<Seen>,
}

/// What a receiver learns of a source that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Seen {
    /// Its addresses on the default network, IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its host name.
    pub(crate) hostname: String,
    /// Its exposed ports.
    pub(crate) ports: Vec<Port>,
    /// Its variables.
    pub(crate) environment: Vec<String>,
}

impl Seen {
    /// A container with this place on the default network.
    pub(crate) fn of(container: &Container, endpoint: &EndpointRecord) -> Self {
        let config = &container.record.config;
        Self {
            addresses: addresses(endpoint),
            hostname: config.hostname.clone(),
            ports: config
                .exposed_ports
                .keys()
                // What cannot be read was refused when the container was made.
                .filter_map(|port| port.parse().ok())
                .collect(),
            environment: config.env.clone(),
        }
    }
}

/// The addresses of an endpoint, IPv4 first.
pub(crate) fn addresses(endpoint: &EndpointRecord) -> Vec<IpAddr> {
    let v4 = endpoint.address.map(IpAddr::V4);
    v4.into_iter()
        .chain(endpoint.address6.map(IpAddr::V6))
        .collect()
}

impl Link {
    /// Its lines in the receiver's hosts file, one per address of the source.
    pub(crate) fn lines(&self) -> Vec<LinkLine> {
        let Some(seen) = &self.seen else {
            return Vec::new();
        };
        let line = |address: &IpAddr| LinkLine {
            address: *address,
            alias: self.alias.clone(),
            hostname: seen.hostname.clone(),
            name: self.name.clone(),
        };
        seen.addresses.iter().map(line).collect()
    }

    /// The variables that it gives to a receiver of this name.
    pub(crate) fn variables(&self, receiver: &str) -> Vec<String> {
        let Some((seen, address)) = self
            .seen
            .as_ref()
            .and_then(|seen| Some((seen, *seen.addresses.first()?)))
        else {
            return Vec::new();
        };
        LinkSource {
            receiver,
            alias: &self.alias,
            address,
            ports: &seen.ports,
            environment: &seen.environment,
        }
        .variables()
    }
}

impl Links {
    /// The link of this alias.
    pub(crate) fn by_alias(&self, alias: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.alias == alias)
    }

    /// All lines, in the order of the links.
    pub(crate) fn lines(&self) -> Vec<LinkLine> {
        self.links.iter().flat_map(Link::lines).collect()
    }

    /// All variables, in the order of the links.
    pub(crate) fn variables(&self, receiver: &str) -> Vec<String> {
        let variables = |link: &Link| link.variables(receiver);
        self.links.iter().flat_map(variables).collect()
    }
}

/// Whether a container was made with links; they may all have been removed since.
pub(crate) fn has_links(container: &Container) -> bool {
    let links = container.record.host.links.as_ref();
    links.is_some_and(|links| !links.is_empty())
}

impl Engine {
    /// The links of a container; none where it was made without. Costs nothing then.
    ///
    /// # Errors
    /// When the document is there and cannot be read.
    pub(crate) fn links_of(&self, container: &Container) -> Result<Links> {
        match has_links(container) {
            true => Ok(read_json(&container.dir.links())?.unwrap_or_default()),
            false => Ok(Links::default()),
        }
    }
}

/// The right to change a receiver's links, hosts file and gates, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _lock: Lock,
}

impl Held {
    /// Waits for the right; `None` when the receiver is gone.
    ///
    /// # Errors
    /// When the lock cannot be had.
    pub(crate) fn wait(receiver: &Container) -> Result<Option<Self>> {
        let path = receiver.dir.links_lock();
        match Lock::wait(&path) {
            Ok(lock) => Ok(Some(Self { _lock: lock })),
            Err(error) if error.errno() == ENOENT => Ok(None),
            Err(error) => Err(Error::system(format!("cannot lock {path:?}"), error)),
        }
    }

    /// Writes the receiver's document.
    ///
    /// # Errors
    /// When the directory is gone or full.
    pub(crate) fn write(&self, receiver: &Container, links: &Links) -> Result<()> {
        replace_json(&receiver.dir.links(), links)
    }
}

#[cfg(test)]
mod tests;

//! Networks: those that are always there, and those that users make.
//!
//! ```text
//! root/networks/<name>.json      Network: written once, linked into place whole
//! state/network-ids/<name>       symlink → id of bridge, host and none
//! state/networks/<name>/…        addresses in use (netns)
//! ```
//!
//! Who makes or removes a network holds the lock on `root/networks/`; a start shares it from its
//! look at a network until it holds an address there. So no network goes under a container.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use netns::network::{BridgeOptions, Driver, NetworkError, Occupied, Pool};
use netns::uplink::Uplink;
use serde::{Deserialize, Serialize};
use sys::lock::Lock;

use crate::error::{Error, Result};
use crate::store::{Store, read_json};
use crate::time::Time;
use crate::{Engine, ErrorKind};

mod check;
mod configuration;
mod connect;
mod create;
mod inspect;
mod predefined;
mod remove;
mod subnet;
mod wish;

pub(crate) use connect::{add_wish, take_wish};
pub use create::NetworkRequest;
pub use inspect::{Document, Place};
pub use predefined::{BRIDGE, HOST, NONE, is_predefined};
pub use subnet::SubnetRequest;
pub use wish::NetworkWish;

/// What interfaces are called unless a network says otherwise.
pub(crate) const ETHERNET: &str = "eth";
const OPTION_PREFIX: &str = "com.docker.network.container_iface_prefix";

/// One network: the document on disk, and what is known of one that is always there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Network {
    /// Of this document's form.
    pub version: u32,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What users call it.
    pub name: String,
    /// When it was made.
    pub created: Time,
    /// `bridge`, `macvlan`, `ipvlan`, `host`, `null`.
    pub driver: String,
    /// It has an IPv6 subnet.
    #[serde(rename = "EnableIPv6")]
    pub ipv6: bool,
    /// Nothing leaves it.
    pub internal: bool,
    /// As asked for; it means nothing on one machine.
    pub attachable: bool,
    /// It is a configuration for other networks, and nobody is on it.
    #[serde(skip_serializing_if = "is_false")]
    pub config_only: bool,
    /// The configuration that it was made from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub config_from: String,
    /// `--ipam-opt`; they mean nothing to rbox's own way of giving addresses.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ipam_options: BTreeMap<String, String>,
    /// Subnets as inspect shows them.
    pub subnets: Vec<Subnet>,
    /// The subnets are the user's own, so that containers may ask for an address.
    pub user_subnets: bool,
    /// Subnets as they are used, at most one per family.
    pub pools: Vec<Pool>,
    /// The bridge was there before the network.
    pub foreign_bridge: bool,
    /// `-o`.
    pub options: BTreeMap<String, String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// An entry of `IPAM.Config`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Subnet {
    /// All of it.
    pub subnet: String,
    /// The part that containers get addresses from.
    #[serde(rename = "IPRange", skip_serializing_if = "String::is_empty")]
    pub range: String,
    /// The bridge's own address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Addresses that no container gets.
    #[serde(
        rename = "AuxiliaryAddresses",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub reserved: BTreeMap<String, String>,
}

impl Network {
    /// The version this program writes.
    pub const VERSION: u32 = 1;

    /// The bridge of a network of that driver.
    ///
    /// # Errors
    /// An option's value is wrong.
    pub fn bridge(&self) -> std::result::Result<Option<BridgeOptions>, NetworkError> {
        if self.wire() != Driver::Bridge {
            return Ok(None);
        }
        let short = self.id.get(..12).unwrap_or(&self.id);
        let bridge = BridgeOptions::of(format!("br-{short}")).with(&self.options)?;
        Ok(Some(bridge))
    }

    /// What interfaces on it are called, before their number.
    pub fn interface_prefix(&self) -> &str {
        self.options
            .get(OPTION_PREFIX)
            .map_or(ETHERNET, String::as_str)
    }

    /// The wire of the host's that its containers share.
    ///
    /// # Errors
    /// An option's value is wrong.
    pub fn uplink(&self) -> std::result::Result<Option<Uplink>, NetworkError> {
        match self.wire() {
            driver @ (Driver::Macvlan | Driver::Ipvlan) => {
                Uplink::of(driver, &self.options).map(Some)
            }
            Driver::Bridge | Driver::Host | Driver::None => Ok(None),
        }
    }

    /// The driver as a value.
    fn wire(&self) -> Driver {
        match self.driver.as_str() {
            "macvlan" => Driver::Macvlan,
            "ipvlan" => Driver::Ipvlan,
            HOST => Driver::Host,
            "null" => Driver::None,
            _ => Driver::Bridge,
        }
    }

    /// The device of the host's that it is made of; empty without one.
    fn device(&self) -> String {
        let bridge = self.bridge().ok().flatten().map(|bridge| bridge.device);
        let parent = || self.uplink().ok().flatten().map(|uplink| uplink.parent);
        bridge.or_else(parent).unwrap_or_default()
    }

    /// The network as it is wired.
    ///
    /// # Errors
    /// An option's value is wrong.
    pub(crate) fn wired(&self) -> std::result::Result<netns::network::Network, NetworkError> {
        Ok(netns::network::Network {
            id: self.id.clone(),
            name: self.name.clone(),
            driver: self.wire(),
            pools: self.pools.clone(),
            internal: self.internal,
            bridge: self.bridge()?,
            uplink: self.uplink()?,
        })
    }

    /// The gateway of one of its addresses' families.
    pub fn gateway(&self, v4: bool) -> Option<IpAddr> {
        let gateway = |pool: &Pool| pool.gateway;
        self.pools
            .iter()
            .map(gateway)
            .find(|address| address.is_ipv4() == v4)
    }
}

impl Store {
    /// The directory that holds the users' networks.
    pub fn networks(&self) -> PathBuf {
        self.root().join("networks")
    }

    fn network_path(&self, name: &str) -> PathBuf {
        self.networks().join(format!("{name}.json"))
    }

    /// Reads a user's network by its name; `None` when there is none.
    ///
    /// # Errors
    /// When its document is damaged; the message names the file.
    pub fn user_network(&self, name: &str) -> Result<Option<Network>> {
        if !is_name(name) {
            return Ok(None);
        }
        read_json(&self.network_path(name))
    }

    /// All networks of users, by name.
    ///
    /// # Errors
    /// When a document is damaged.
    pub fn user_networks(&self) -> Result<Vec<Network>> {
        let path = self.networks();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read the directory", &path, error)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::file("read the directory", &path, error))?;
            let name = entry.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".json"));
            if let Some(name) = name {
                all.extend(self.user_network(name)?);
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// Shares the networks with all who start containers; nobody removes one meanwhile.
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub(crate) fn share_networks(&self) -> Result<Lock> {
        self.lock_networks(Lock::share_directory)
    }

    /// Keeps all others from making, removing and joining networks.
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub(crate) fn own_networks(&self) -> Result<Lock> {
        self.lock_networks(Lock::wait_directory)
    }

    fn lock_networks(
        &self,
        lock: impl FnOnce(&std::path::Path) -> sys::Result<Lock>,
    ) -> Result<Lock> {
        let networks = self.networks();
        fs::create_dir_all(&networks)
            .map_err(|error| Error::file("make the directory", &networks, error))?;
        lock(&networks).map_err(|error| Error::system(format!("cannot lock {networks:?}"), error))
    }
}

impl Engine {
    /// Finds a network by name, full id or unique beginning of its id.
    ///
    /// # Errors
    /// `network nope not found`; when a document is damaged.
    pub fn network(&self, text: &str) -> Result<Network> {
        if is_predefined(text) {
            return self.predefined(text);
        }
        if let Some(found) = self.store().user_network(text)? {
            return Ok(found);
        }
        let missing = || {
            Error::not_found(format!("network {text} not found"))
                .hint("list networks with 'rbox network ls'")
        };
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(missing());
        }
        let mut found: Vec<Network> = self.networks()?;
        found.retain(|network| network.id.starts_with(text));
        match (found.pop(), found.is_empty()) {
            (Some(network), true) => Ok(network),
            (Some(_), false) => Err(Error::invalid(format!(
                "network {text} is ambiguous ({} matches found on ID prefix)",
                found.len() + 1
            ))),
            (None, _) => Err(missing()),
        }
    }

    /// All networks, by name.
    ///
    /// # Errors
    /// When a document is damaged.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let mut all = self.store().user_networks()?;
        for name in [BRIDGE, HOST, NONE] {
            all.push(self.predefined(name)?);
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(all)
    }

    /// The name of a network that exists, from what the user calls it.
    ///
    /// # Errors
    /// As [`Engine::network`].
    pub(crate) fn network_called(&self, text: &str) -> Result<String> {
        match text {
            "" | "default" | BRIDGE => Ok(BRIDGE.to_owned()),
            text if is_predefined(text) => Ok(text.to_owned()),
            text => Ok(self.network(text)?.name),
        }
    }

    /// The subnets of users' networks: taken, though their bridges may not be there yet.
    pub(crate) fn taken_subnets(&self) -> Vec<Occupied> {
        let networks = self.store().user_networks().unwrap_or_default();
        let taken = |network: &Network| {
            let device = network.device();
            let pools = network.pools.clone();
            pools.into_iter().map(move |pool| Occupied {
                subnet: pool.subnet,
                device: device.clone(),
            })
        };
        networks.iter().flat_map(taken).collect()
    }
}

/// `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub(crate) fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=200).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(byte))
}

/// Whether a switch that is left out of documents is off.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_false(switch: &bool) -> bool {
    !switch
}

/// What a subnet's entry says.
pub(crate) fn subnet_entry(subnet: IpNet, gateway: Option<IpAddr>) -> Subnet {
    Subnet {
        subnet: subnet.to_string(),
        range: String::new(),
        gateway: gateway
            .map(|gateway| gateway.to_string())
            .unwrap_or_default(),
        reserved: BTreeMap::new(),
    }
}

/// An error of the network crate in the engine's kinds; the words are Docker's already.
pub(crate) fn unmade(error: &NetworkError) -> Error {
    let failure = Error::new(ErrorKind::Forbidden, error.to_string());
    match error {
        NetworkError::Overlap { wanted, occupied } => failure.hint(format!(
            "{wanted} overlaps with {occupied}: choose another --subnet"
        )),
        NetworkError::NoPool => failure.hint("name a free one with --subnet"),
        NetworkError::NoParent(_) => {
            Error::invalid(error.to_string()).hint("name it with '-o parent=DEVICE'")
        }
        NetworkError::TooSmall(subnet) => Error::invalid(error.to_string()).hint(format!(
            "{subnet} is too small for a network: choose a larger --subnet"
        )),
        NetworkError::Device(_) | NetworkError::Option { .. } => Error::invalid(error.to_string()),
        NetworkError::Unknown { name, instead } => {
            Error::invalid(error.to_string()).hint(format!("leave {name} out: {instead}"))
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

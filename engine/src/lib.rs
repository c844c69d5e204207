//! Containers as users know them: names, records, logs, the monitor, start and stop.
//!
//! [`Engine`] is one opened root directory. Nothing here is global and nothing is printed; what
//! goes wrong comes back as [`Error`], whose kind decides exit codes and HTTP statuses.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use image::ImageStore;
use ipnet::{Ipv4Net, Ipv6Net};

pub mod config;
pub mod container;
pub mod error;
pub mod event;
mod explain;
pub mod id;
mod link;
pub mod log;
pub mod monitor;
pub mod mount;
pub mod name;
pub mod network;
pub mod plan;
pub mod process_table;
pub mod recovery;
pub mod request;
pub mod resolve;
pub mod signal;
pub mod spec;
pub mod stdio;
pub mod store;
pub mod time;
pub mod timing;
pub mod union;
pub mod volume;

pub use config::{Config, HostConfig};
pub use error::{Error, ErrorKind, Result};
pub use id::ContainerId;
pub use name::ContainerName;
pub use store::Store;
pub use time::Time;

/// Where an engine keeps its things and how it names what it makes on the host.
///
/// Two engines with different options live side by side without seeing one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Durable: layers, images, containers, volumes.
    pub root: PathBuf,
    /// Volatile: what ends with the machine.
    pub state: PathBuf,
    /// The default network's bridge.
    pub bridge: String,
    /// The default network's subnet; `None` is 172.17.0.0/16 or the next free one.
    pub subnet: Option<Ipv4Net>,
    /// The default network's IPv6 subnet; `None` leaves it as the bridge has it, and a new bridge
    /// without one.
    pub subnet6: Option<Ipv6Net>,
    /// Containers on the default network may talk to one another without a link; `None` leaves it
    /// as the bridge has it, and a new bridge lets them.
    pub inter_container: Option<bool>,
    /// Which hand writes firewall rules.
    pub firewall: Firewall,
    /// The cgroup under which containers get theirs.
    pub cgroup_parent: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            root: PathBuf::from("/var/lib/rbox"),
            state: PathBuf::from("/run/rbox"),
            bridge: "rbox0".to_owned(),
            subnet: None,
            subnet6: None,
            inter_container: None,
            firewall: Firewall::Auto,
            cgroup_parent: "/rbox".to_owned(),
        }
    }
}

/// Which hand writes firewall rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firewall {
    /// iptables where the host manages its firewall with it, nftables elsewhere.
    #[default]
    Auto,
    /// `iptables-restore --noflush`.
    Iptables,
    /// nf_tables over netlink.
    Nftables,
    /// No rules at all: no masquerade, and published ports by the userland proxy only.
    Off,
}

/// One opened root directory.
#[derive(Debug, Clone)]
pub struct Engine {
    options: Options,
    store: Store,
}

impl Engine {
    /// Takes the options; reads and makes nothing. Directories appear when something is written.
    pub fn open(options: Options) -> Self {
        let store = Store::at(&options.root, &options.state);
        Self { options, store }
    }

    /// What the engine was opened with.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The files on disk.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The images.
    pub fn images(&self) -> ImageStore {
        ImageStore::open(&self.options.root)
    }

    /// The log of events.
    pub fn events(&self) -> event::EventLog {
        event::EventLog::at(&self.options.state)
    }
}

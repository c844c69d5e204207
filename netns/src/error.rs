//! What can go wrong when the network is changed.

use std::io;
use std::path::PathBuf;

use sys::SysError;

use crate::dns::NamesError;
use crate::firewall::FirewallError;
use crate::hold::HoldError;
use crate::ipam::AddressError;
use crate::network::NetworkError;
use crate::port::BindError;

/// An error of the kernel's side of networks.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// A call or a netlink request failed.
    #[error(transparent)]
    Call(#[from] SysError),
    /// The firewall refused.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// A reservation failed.
    #[error(transparent)]
    Hold(#[from] HoldError),
    /// A name cannot be told to others.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// The network cannot be.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// No address is to be had.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// All addresses of a network are in use.
    #[error("no available IPv{family} addresses on this network's address pools: {name} ({id})")]
    Exhausted {
        /// 4 or 6.
        family: u8,
        /// The network's name.
        name: String,
        /// The network's id.
        id: String,
    },
    /// A port cannot be published.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({endpoint}): {reason}"
    )]
    Publish {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        endpoint: String,
        /// Why; its words are part of Docker's text.
        reason: BindError,
    },
    /// A kernel setting cannot be written.
    #[error("cannot write {value:?} to {path:?}")]
    Setting {
        /// The setting's file.
        path: PathBuf,
        /// What was to be written.
        value: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The bridge is not there.
    #[error("there is no bridge {0:?}")]
    NoBridge(String),
    /// The device whose wire is shared is not there.
    #[error("there is no device {0:?} on this host")]
    NoParent(String),
    /// The name belongs to another kind of link.
    #[error("the link {name:?} is no bridge but {}", if .kind.is_empty() { "a device" } else { .kind })]
    NotABridge {
        /// The name.
        name: String,
        /// What it is.
        kind: String,
    },
    /// The interface is not in the container.
    #[error("there is no interface {0:?} in the container")]
    NoInterface(String),
    /// The plan needs the container's namespace and was not given one.
    #[error("the container's network namespace is not known")]
    NoContainer,
}

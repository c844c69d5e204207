//! Networks between namespaces: bridges, addresses, published ports, firewall, hosts files.
//!
//! This crate knows no image and no root file system; a container is an owner's name and a network
//! namespace. Decisions are pure functions over facts, the kernel is changed by [`step::NetStep`]
//! only.

pub mod dns;
pub mod endpoint;
pub mod error;
pub mod firewall;
pub mod hold;
pub mod host;
pub mod hosts;
pub mod ipam;
pub mod link;
pub mod network;
pub mod port;
pub mod proxy;
mod slots;
pub mod step;
mod ticker;
pub mod uplink;

pub use endpoint::{
    Attach, Endpoint, Prepared, Sandbox, bare, is_of, parted, prepare, publishes, removal, setup,
    way_out,
};
pub use error::NetError;
pub use host::{DefaultBridge, DefaultNetwork, Facts, Host};
pub use step::NetStep;

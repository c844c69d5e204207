//! The steps of the network: each a value that can be applied, undone, described and printed.

mod container;
mod firewall;
mod kinds;
mod names;
mod sublink;

use ipnet::IpNet;
use plan::{Description, Step};
use serde::{Deserialize, Serialize};
use sys::netlink::Mac;

use crate::dns::{Names, listen};
use crate::error::NetError;
use crate::firewall::mark::Mark;
use crate::firewall::{NetworkRules, Opening};
use crate::hold::Hold;
use crate::host::Host;
use crate::uplink::Uplink;

/// One change of the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetStep {
    /// Keeps a reservation that was made; undoing releases it.
    Hold(Hold),
    /// Lets the host forward packets. Not undone: others may have come to rely on it.
    Forwarding(Family),
    /// Makes a network's bridge. Not undone: other containers may be on it.
    Bridge(Bridge),
    /// Puts a network's rules in place. Not undone, like the bridge.
    NetworkFirewall(Firewall),
    /// Writes settings of the container's namespace, with which they go.
    Settings(Settings),
    /// Makes the pair that joins the container to the bridge.
    Veth(Veth),
    /// Makes the container's link on a wire of the host's; it goes with the namespace.
    Sublink(Sublink),
    /// Sets loopback up and gives the container's end its addresses and routes; they go with it.
    Interface(Interface),
    /// Opens the firewall for one container.
    Openings(Openings),
    /// Opens the sockets of the container's resolver; they go with its namespace.
    Resolver,
    /// Tells all others on a network what the container is called; undoing takes the names back.
    Names(Names),
    /// Removes a network's rules; nothing to undo.
    RemoveFirewall(Firewall),
    /// Removes a network's bridge; nothing to undo.
    RemoveBridge(String),
}

/// A family of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// A network's bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Its hardware address; fixed, so that it does not change with its ports.
    pub mac: Mac,
    /// The largest packet.
    pub mtu: u32,
    /// The gateways of the network's subnets.
    pub addresses: Vec<IpNet>,
    /// Frames between its ports pass iptables.
    pub filtered: bool,
}

/// A network's rules and who puts them where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firewall {
    /// What the network needs.
    pub rules: NetworkRules,
    /// The remark for its bridge; it names the hand and the tables.
    pub mark: Mark,
}

/// Settings under `/proc/sys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Path below `/proc/sys` and value.
    pub list: Vec<(String, String)>,
}

/// The pair of one container on one bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Veth {
    /// The host's end.
    pub name: String,
    /// The bridge it is put on.
    pub bridge: String,
    /// The container's end.
    pub peer: String,
    /// The hardware address of the container's end.
    pub mac: Mac,
    /// The largest packet.
    pub mtu: u32,
}

/// The container's link on a wire of the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sublink {
    /// The wire and how it is shared.
    pub uplink: Uplink,
    /// The link's name in the container.
    pub name: String,
    /// Its hardware address, where it has one of its own.
    pub mac: Option<Mac>,
}

/// The container's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The device; `None` sets up loopback alone.
    pub device: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Default routes.
    pub gateways: Vec<std::net::IpAddr>,
    /// Families whose default route is the device itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leads: Vec<Family>,
}

/// What one container opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Openings {
    /// What its network needs: put in place again if somebody has flushed it.
    pub network: Firewall,
    /// The openings.
    pub openings: Vec<Opening>,
}

impl Step<Host> for NetStep {
    type Error = NetError;

    fn name(&self) -> &'static str {
        match self {
            NetStep::Hold(_) => "net-hold",
            NetStep::Forwarding(_) => "net-forward",
            NetStep::Bridge(_) => "bridge-create",
            NetStep::NetworkFirewall(_) => "network-firewall",
            NetStep::Settings(_) => "net-settings",
            NetStep::Veth(_) => "veth-create",
            NetStep::Sublink(_) => "sublink-create",
            NetStep::Interface(_) => "interface-up",
            NetStep::Openings(_) => "firewall-open",
            NetStep::Resolver => "resolver-listen",
            NetStep::Names(_) => "names-publish",
            NetStep::RemoveFirewall(_) => "network-firewall-remove",
            NetStep::RemoveBridge(_) => "bridge-remove",
        }
    }

    fn apply(&self, host: &mut Host) -> Result<(), NetError> {
        match self {
            NetStep::Hold(hold) => Ok(hold.confirm()?),
            NetStep::Forwarding(family) => family.forward(),
            NetStep::Bridge(bridge) => bridge.apply(host),
            NetStep::NetworkFirewall(firewall) => firewall.ensure(host),
            NetStep::Settings(settings) => settings.apply(host),
            NetStep::Veth(veth) => veth.apply(host),
            NetStep::Sublink(link) => link.apply(host),
            NetStep::Interface(interface) => interface.apply(host),
            NetStep::Openings(openings) => openings.open(host),
            NetStep::Resolver => names::listen(host),
            NetStep::Names(names) => Ok(names.publish()?),
            NetStep::RemoveFirewall(firewall) => firewall.remove(host),
            NetStep::RemoveBridge(name) => kinds::delete_link(host, name),
        }
    }

    fn undo(&self, host: &mut Host) -> Result<(), NetError> {
        match self {
            NetStep::Hold(hold) => Ok(hold.release()?),
            NetStep::Veth(veth) => kinds::delete_link(host, &veth.name),
            NetStep::Sublink(link) => link.undo(host),
            NetStep::Openings(openings) => openings.close(host),
            NetStep::Names(names) => Ok(names.withdraw()?),
            NetStep::Forwarding(_)
            | NetStep::Bridge(_)
            | NetStep::NetworkFirewall(_)
            | NetStep::Settings(_)
            | NetStep::Interface(_)
            | NetStep::Resolver
            | NetStep::RemoveFirewall(_)
            | NetStep::RemoveBridge(_) => Ok(()),
        }
    }

    fn describe(&self) -> Description {
        match self {
            NetStep::Hold(hold) => kinds::describe_hold(hold),
            NetStep::Forwarding(family) => family.describe(),
            NetStep::Bridge(bridge) => bridge.describe(),
            NetStep::NetworkFirewall(firewall) => firewall.describe(),
            NetStep::Settings(settings) => settings.describe(),
            NetStep::Veth(veth) => veth.describe(),
            NetStep::Sublink(link) => link.describe(),
            NetStep::Interface(interface) => interface.describe(),
            NetStep::Openings(openings) => openings.describe(),
            NetStep::Resolver => names::describe_listen(),
            NetStep::Names(names) => names::describe(names),
            NetStep::RemoveFirewall(firewall) => firewall.describe_removal(),
            NetStep::RemoveBridge(name) => kinds::describe_removal(name),
        }
    }

    fn shell(&self) -> Vec<String> {
        match self {
            NetStep::Hold(hold) => {
                vec![format!("ln -s {} {}", hold.owner, hold.path.display())]
            }
            NetStep::Forwarding(family) => family.shell(),
            NetStep::Bridge(bridge) => bridge.shell(),
            NetStep::NetworkFirewall(firewall) => firewall.shell(),
            NetStep::Settings(settings) => settings.shell(),
            NetStep::Veth(veth) => veth.shell(),
            NetStep::Sublink(link) => link.shell(),
            NetStep::Interface(interface) => interface.shell(),
            NetStep::Openings(openings) => openings.shell(),
            NetStep::Resolver => listen::shell(),
            NetStep::Names(names) => names::shell(names),
            NetStep::RemoveFirewall(firewall) => firewall.removal_shell(),
            NetStep::RemoveBridge(name) => vec![format!("ip link delete {name}")],
        }
    }
}

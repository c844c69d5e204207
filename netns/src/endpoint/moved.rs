//! A container that leaves a network: which steps were for it alone, and where its way out and its
//! published ports go.

use std::net::IpAddr;
use std::path::Path;

use crate::error::NetError;
use crate::firewall::{Hand, Opening, PublishRule};
use crate::host::Host;
use crate::network::{Network, Pool};
use crate::port::Binding;
use crate::step::{Family, Interface, NetStep, Openings};

use super::ground;

/// The steps that make a network, on which the container is already, its way out and the place of
/// its published ports.
///
/// # Errors
/// Of the sockets that look.
pub fn way_out(
    host: &mut Host,
    network: &Network,
    interface: &str,
    addresses: &[IpAddr],
    bindings: &[Binding],
) -> Result<Vec<NetStep>, NetError> {
    let facts = host.facts(network)?;
    let mut steps = vec![NetStep::Interface(Interface {
        device: Some(interface.to_owned()),
        addresses: Vec::new(),
        gateways: gateways(network),
        leads: leads(network),
    })];
    let (Some(bridge), Some(firewall)) = (&network.bridge, ground::firewall(network, &facts))
    else {
        return Ok(steps);
    };
    let openings: Vec<Opening> = bindings
        .iter()
        .filter_map(|binding| PublishRule::of(binding, &bridge.device, addresses))
        .map(Opening::Publish)
        .collect();
    if !openings.is_empty() && facts.hand != Hand::Off {
        steps.push(NetStep::Openings(Openings {
            network: firewall,
            openings,
        }));
    }
    Ok(steps)
}

/// The gateways of a network's families; none where the device itself leads everywhere.
pub(super) fn gateways(network: &Network) -> Vec<IpAddr> {
    match routes(network) {
        true => Vec::new(),
        false => network.pools.iter().map(Pool::router).collect(),
    }
}

/// The families for which the device itself leads everywhere.
pub(super) fn leads(network: &Network) -> Vec<Family> {
    let family = |pool: &Pool| match pool.gateway {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    match routes(network) {
        true => network.pools.iter().map(family).collect(),
        false => Vec::new(),
    }
}

fn routes(network: &Network) -> bool {
    let uplink = network.uplink.as_ref();
    uplink.is_some_and(|uplink| uplink.mode.routes())
}

/// A step as it can be taken back in parts: what leads published ports, and what else it opens.
pub fn parted(step: NetStep) -> Vec<NetStep> {
    let NetStep::Openings(Openings { network, openings }) = step else {
        return vec![step];
    };
    let is_published = |opening: &Opening| matches!(opening, Opening::Publish(_));
    let (published, other): (Vec<_>, Vec<_>) = openings.into_iter().partition(is_published);
    [other, published]
        .into_iter()
        .filter(|openings| !openings.is_empty())
        .map(|openings| {
            NetStep::Openings(Openings {
                network: network.clone(),
                openings,
            })
        })
        .collect()
}

/// A step, [`parted`] before, leads published ports to a container's place on this network.
pub fn publishes(step: &NetStep, network: &Network) -> bool {
    let device = network.bridge.as_ref().map(|bridge| bridge.device.as_str());
    let NetStep::Openings(Openings { network, openings }) = step else {
        return false;
    };
    Some(network.rules.bridge.as_str()) == device
        && openings
            .iter()
            .all(|one| matches!(one, Opening::Publish(_)))
}

/// A step of a container's plan was for its place on this network alone. `addresses` is where the
/// network's addresses are held.
pub fn is_of(step: &NetStep, network: &Network, interface: &str, addresses: &Path) -> bool {
    let device = network.bridge.as_ref().map(|bridge| bridge.device.as_str());
    match step {
        NetStep::Hold(hold) => hold.path.parent() == Some(addresses),
        NetStep::Veth(veth) => veth.peer == interface,
        NetStep::Sublink(link) => link.name == interface,
        NetStep::Interface(step) => step.device.as_deref() == Some(interface),
        NetStep::Openings(openings) => Some(openings.network.rules.bridge.as_str()) == device,
        NetStep::Names(names) => names.directory.file_name() == Some(network.id.as_ref()),
        NetStep::Settings(settings) => {
            let own = format!("/conf/{interface}/");
            settings.list.iter().any(|(name, _)| name.contains(&own))
        }
        // these stay on the host; a plan without them undoes as much
        NetStep::Bridge(bridge) => Some(bridge.name.as_str()) == device,
        NetStep::NetworkFirewall(firewall) => Some(firewall.rules.bridge.as_str()) == device,
        NetStep::Forwarding(_)
        | NetStep::Resolver
        | NetStep::RemoveFirewall(_)
        | NetStep::RemoveBridge(_) => false,
    }
}

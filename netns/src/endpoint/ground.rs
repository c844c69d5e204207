//! What a network needs on the host, whoever is on it: forwarding, its bridge, its rules.

use ipnet::IpNet;

use crate::error::NetError;
use crate::firewall::mark::Mark;
use crate::firewall::{Hand, NetworkRules};
use crate::host::{Facts, Host};
use crate::network::{Network, Pool};
use crate::step::{Bridge, Family, Firewall, NetStep};

/// The steps that make a network on the host, in order; what is there already is left out.
///
/// # Errors
/// Of the sockets that look.
pub fn setup(host: &mut Host, network: &Network) -> Result<Vec<NetStep>, NetError> {
    let facts = host.facts(network)?;
    Ok(laid(network, &facts, super::entropy()))
}

/// The steps that take a network from the host again; its bridge stays where it was there before.
///
/// # Errors
/// Of the sockets that look.
pub fn removal(
    host: &mut Host,
    network: &Network,
    own_bridge: bool,
) -> Result<Vec<NetStep>, NetError> {
    let facts = host.facts(network)?;
    let mut steps = Vec::new();
    if let Some(firewall) = firewall(network, &facts) {
        steps.push(NetStep::RemoveFirewall(firewall));
    }
    if let Some(bridge) = network.bridge.as_ref().filter(|_| own_bridge) {
        steps.push(NetStep::RemoveBridge(bridge.device.clone()));
    }
    Ok(steps)
}

/// The rules of a network, and the remark that says who carries them; none without a bridge.
pub(super) fn firewall(network: &Network, facts: &Facts) -> Option<Firewall> {
    Some(Firewall {
        rules: NetworkRules::of(network)?,
        mark: Mark::of(network, facts.hand, &facts.instance)?,
    })
}

/// What is missing of a network on a host that looks like this.
pub(super) fn laid(network: &Network, facts: &Facts, entropy: [u8; 8]) -> Vec<NetStep> {
    let (Some(bridge), Some(firewall)) = (&network.bridge, firewall(network, facts)) else {
        return Vec::new();
    };
    let mut steps = forwarding(network, facts);
    let addresses: Vec<IpNet> = network.pools.iter().map(Pool::gateway_net).collect();
    let there = facts.bridge.as_ref().is_some_and(|known| {
        known.up
            && addresses
                .iter()
                .all(|wanted| known.addresses.contains(wanted))
    });
    if !there {
        let [_, _, _, a, b, c, d, e] = entropy;
        steps.push(NetStep::Bridge(Bridge {
            name: bridge.device.clone(),
            mac: [0x02, 0x42, a ^ b, c, d, e],
            mtu: bridge.mtu,
            addresses,
            filtered: !bridge.icc && facts.hand == Hand::Iptables,
        }));
    }
    if !there || !facts.firewall_ready {
        steps.push(NetStep::NetworkFirewall(firewall));
    }
    steps
}

fn forwarding(network: &Network, facts: &Facts) -> Vec<NetStep> {
    if network.internal {
        return Vec::new();
    }
    let [v4, v6] = facts.forwarding;
    let mut steps = Vec::new();
    if network.v4().is_some() && !v4 {
        steps.push(NetStep::Forwarding(Family::V4));
    }
    if network.v6().is_some() && !v6 {
        steps.push(NetStep::Forwarding(Family::V6));
    }
    steps
}

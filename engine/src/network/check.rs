//! What Docker refuses of a container's wishes for its networks.

use std::net::IpAddr;

use super::{HOST, NONE, Network, NetworkWish, is_predefined};
use crate::Engine;
use crate::config::HostConfig;
use crate::error::{Error, Result};
use crate::monitor::wire::attach::read_mac;
use crate::store::record::EndpointWish;

impl Engine {
    /// Checks the networks of a container that is to be made, and gives them their names: users may
    /// type ids. `further` are those beyond that of the host's configuration.
    ///
    /// # Errors
    /// Docker's texts for a network that does not exist or cannot do what is wanted.
    pub(crate) fn check_networks(
        &self,
        host: &mut HostConfig,
        endpoint: &EndpointWish,
        further: &[NetworkWish],
    ) -> Result<Vec<NetworkWish>> {
        let mode = host.network_mode.as_str();
        let shared = mode.starts_with("container:") || mode == HOST || mode == NONE;
        let elsewhere = mode.starts_with("container:") || mode == HOST;
        if elsewhere && endpoint.mac_address.is_some() {
            return Err(
                Error::invalid("conflicting options: mac-address and the network mode")
                    .hint("whose network it is decides: leave --mac-address out"),
            );
        }
        if shared && !further.is_empty() {
            return Err(unjoinable(mode));
        }
        if mode.starts_with("container:") {
            on_no_network_of_a_user(endpoint)?;
            return Ok(Vec::new());
        }
        if !matches!(mode, "" | "default") {
            host.network_mode = self.network_called(mode)?;
        }
        let first = NetworkWish {
            network: self.network_called(&host.network_mode)?,
            endpoint: endpoint.clone(),
        };
        let mut all: Vec<NetworkWish> = Vec::new();
        for wish in std::iter::once(&first).chain(further) {
            // what is always there need not be looked at: a plain start has no time for it
            let network = match is_predefined(&wish.network) {
                true => Network {
                    name: wish.network.clone(),
                    ..Network::default()
                },
                false => self.network(&wish.network)?,
            };
            if !all.is_empty() && [HOST, NONE].contains(&network.name.as_str()) {
                return Err(unjoinable(&network.name));
            }
            if all.iter().any(|other| other.network == network.name) {
                return Err(Error::invalid(format!(
                    "network {:?} is specified multiple times",
                    network.name
                )));
            }
            check(&network, &wish.endpoint)?;
            all.push(NetworkWish {
                network: network.name,
                endpoint: wish.endpoint.clone(),
            });
        }
        Ok(all)
    }
}

/// Docker's text for a network that is had alone or not at all.
pub(crate) fn unjoinable(mode: &str) -> Error {
    if mode == NONE {
        return Error::invalid(
            "container cannot be connected to multiple networks with one of the networks in \
             private (none) mode",
        );
    }
    if mode == HOST {
        return Error::invalid(
            "container cannot be disconnected from host network or connected to host network",
        );
    }
    Error::invalid(
        "container sharing network namespace with another container or host cannot be connected \
         to any other network",
    )
}

/// Checks that a network can give what is wanted of it.
///
/// # Errors
/// Docker's texts.
pub(crate) fn check(network: &Network, wish: &EndpointWish) -> Result<()> {
    if let Some(mac) = &wish.mac_address {
        read_mac(mac)?;
    }
    if let Some(address) = wish.link_local.iter().find(|one| !is_link_local(one)) {
        return Err(
            Error::invalid(format!("invalid link local IP address: {address}"))
                .hint("link-local addresses are those of 169.254.0.0/16 and of fe80::/10"),
        );
    }
    if network.driver == "ipvlan" && wish.mac_address.is_some() {
        return Err(Error::invalid(
            "ipvlan interfaces do not support custom mac address assignment",
        ));
    }
    if is_predefined(&network.name) {
        return on_no_network_of_a_user(wish);
    }
    if network.config_only {
        return Err(
            Error::invalid("cannot create endpoint on configuration-only network").hint(format!(
                "make a network from it: 'rbox network create --config-from {} NAME'",
                network.name
            )),
        );
    }
    let addresses = [wish.address.map(IpAddr::V4), wish.address6.map(IpAddr::V6)];
    for address in addresses.into_iter().flatten() {
        if !network.user_subnets {
            return Err(Error::invalid(
                "user specified IP address is supported only when connecting to networks with \
                 user configured subnets",
            )
            .hint("make the network with --subnet"));
        }
        let pool = network
            .pools
            .iter()
            .find(|pool| pool.subnet.contains(&address));
        if pool.is_none() {
            let known: Vec<String> = network
                .pools
                .iter()
                .map(|pool| pool.subnet.to_string())
                .collect();
            return Err(Error::invalid(format!(
                "Invalid address {address}: It does not belong to any of this network's subnets"
            ))
            .hint(format!("{} has {}", network.name, known.join(", "))));
        }
    }
    Ok(())
}

fn is_link_local(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn on_no_network_of_a_user(wish: &EndpointWish) -> Result<()> {
    let hint = "make a network with 'rbox network create' and name it with --network";
    if wish.address.is_some() || wish.address6.is_some() {
        return Err(Error::invalid(
            "user specified IP address is supported on user defined networks only",
        )
        .hint(hint));
    }
    if !wish.aliases.is_empty() {
        return Err(Error::invalid(
            "network-scoped aliases are only supported for user-defined networks",
        )
        .hint(hint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{BRIDGE, subnet_entry};

    fn network(user: bool) -> Network {
        Network {
            name: "un".to_owned(),
            user_subnets: user,
            pools: vec![netns::network::Pool::of("10.78.0.0/24".parse().unwrap())],
            subnets: vec![subnet_entry("10.78.0.0/24".parse().unwrap(), None)],
            ..Network::default()
        }
    }

    #[test]
    fn addresses_and_aliases() {
        let wish = |address: &str, alias: &str, mac: &str| EndpointWish {
            address: address.parse().ok(),
            aliases: (!alias.is_empty())
                .then(|| alias.to_owned())
                .into_iter()
                .collect(),
            mac_address: (!mac.is_empty()).then(|| mac.to_owned()),
            ..EndpointWish::default()
        };
        let bridge = Network {
            name: BRIDGE.to_owned(),
            ..Network::default()
        };
        for (network, wish, expected) in [
            (&network(true), wish("10.78.0.7", "web", ""), ""),
            (
                &network(true),
                wish("10.79.0.7", "", ""),
                "Invalid address 10.79.0.7: It does not belong to any of this network's subnets",
            ),
            (
                &network(false),
                wish("10.78.0.7", "", ""),
                "user specified IP address is supported only when connecting to networks with user configured subnets",
            ),
            (
                &network(false),
                wish("", "", "zz"),
                "zz is not a valid mac address",
            ),
            (
                &bridge,
                wish("172.17.0.9", "", ""),
                "user specified IP address is supported on user defined networks only",
            ),
            (
                &bridge,
                wish("", "web", ""),
                "network-scoped aliases are only supported for user-defined networks",
            ),
            (&bridge, wish("", "", "02:42:ac:11:00:09"), ""),
        ] {
            let outcome = check(network, &wish).err();
            let text = outcome.map(|error| error.to_string()).unwrap_or_default();
            assert_eq!(text, expected);
        }
    }
}

//! The networks that a container is to be on, as they are now.

use std::cmp::Reverse;

use ipnet::IpNet;
use netns::DefaultBridge;
use netns::network::{BridgeOptions, Network};

use super::failed;
use crate::Engine;
use crate::error::{Error, Result};
use crate::network::{BRIDGE, ETHERNET, NetworkWish, unmade};
use crate::store::Container;

/// A network that a container is to be on.
#[derive(Debug)]
pub(crate) struct Place {
    /// What is wanted of it.
    pub(crate) wish: NetworkWish,
    /// The network.
    pub(crate) network: Network,
    /// What its interfaces are called, before their number.
    pub(crate) prefix: String,
    /// It is a user's network.
    pub(crate) user: bool,
    /// What the user should know.
    pub(crate) warning: Option<String>,
}

impl Place {
    /// Looks up networks that a container is to be on.
    ///
    /// # Errors
    /// `network nope not found`.
    pub(crate) fn look_up(
        (engine, container): (&Engine, &Container),
        wishes: Vec<NetworkWish>,
        host: &mut netns::Host,
    ) -> Result<Vec<Self>> {
        let mut places = Vec::with_capacity(wishes.len());
        for wish in wishes {
            places.push(Self::of(engine, container, wish, host)?);
        }
        Ok(places)
    }

    /// Looks up one network.
    ///
    /// # Errors
    /// As [`Place::look_up`].
    pub(crate) fn of(
        engine: &Engine,
        container: &Container,
        wish: NetworkWish,
        host: &mut netns::Host,
    ) -> Result<Self> {
        if wish.network == BRIDGE {
            return Self::on_default(engine, container, wish, host);
        }
        let found = engine.store().user_network(&wish.network)?;
        let found = found.ok_or_else(|| {
            Error::not_found(format!("network {} not found", wish.network)).hint(format!(
                "make it again with 'rbox network create {}', or 'rbox network disconnect {} {}'",
                wish.network, wish.network, container.name
            ))
        })?;
        let network = found.wired().map_err(|error| unmade(&error))?;
        Ok(Self {
            wish,
            prefix: found.interface_prefix().to_owned(),
            network,
            user: true,
            warning: None,
        })
    }

    fn on_default(
        engine: &Engine,
        container: &Container,
        wish: NetworkWish,
        host: &mut netns::Host,
    ) -> Result<Self> {
        let options = engine.options();
        let wanted = DefaultBridge {
            options: BridgeOptions {
                icc: options.inter_container.unwrap_or(true),
                ..DefaultBridge::on(&options.bridge).options
            },
            keeps_icc: options.inter_container.is_none(),
            subnet: options.subnet.map(IpNet::V4),
            subnet6: options.subnet6.map(IpNet::V6),
        };
        let id = engine.network_id(BRIDGE)?;
        let chosen = host
            .default_network(&id, &wanted, &|| engine.taken_subnets())
            .map_err(|error| failed(&error, container))?;
        let network = chosen.network;
        let warning = chosen
            .passed_over
            .map(|(subnet, by)| passed_over(&options.bridge, &subnet, &by, &network));
        Ok(Self {
            wish,
            prefix: ETHERNET.to_owned(),
            network,
            user: false,
            warning,
        })
    }
}

/// How much a network is the way out, in order: the least is.
pub(crate) type Rank = (bool, Reverse<i64>);

/// The rank of a network: one that leads outside before internal ones, then by `--gw-priority`.
pub(crate) fn rank(internal: bool, priority: i64) -> Rank {
    (internal, Reverse(priority))
}

/// Which of these networks is the way out: the first of the best. Published ports are reached by
/// it.
pub(crate) fn leader(ranks: impl IntoIterator<Item = Rank>) -> Option<(usize, Rank)> {
    ranks.into_iter().enumerate().min_by_key(|(_, rank)| *rank)
}

/// Which of a container's places is its way out.
pub(crate) fn gateway(places: &[Place]) -> Option<usize> {
    let rank = |place: &Place| rank(place.network.internal, place.wish.endpoint.priority);
    leader(places.iter().map(rank)).map(|(number, _)| number)
}

/// Says which subnet the bridge did not get, what has it, and how to choose.
fn passed_over(
    bridge: &str,
    subnet: &IpNet,
    by: &netns::network::Occupied,
    network: &Network,
) -> String {
    let got: Vec<String> = network
        .pools
        .iter()
        .map(|pool| pool.subnet.to_string())
        .collect();
    format!(
        "WARNING: {subnet} is taken by {by}: bridge {bridge} uses {} instead (choose with --bridge-subnet)",
        got.join(", ")
    )
}

//! Which addresses a new network gets: what the user asked for against what is taken (pure).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use netns::network::{Occupied, Pool, choose_pool};

use super::{Subnet, subnet_entry, unmade};
use crate::error::{Error, Result};

/// `--subnet`, with what belongs to it: `--ip-range`, `--gateway`, `--aux-address`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetRequest {
    /// All of it.
    pub subnet: IpNet,
    /// The part that containers get addresses from.
    pub range: Option<IpNet>,
    /// The bridge's own address; the first without one.
    pub gateway: Option<IpAddr>,
    /// `--aux-address`: addresses that others have, by what the user calls them.
    pub reserved: BTreeMap<String, IpAddr>,
}

/// Names of reserved addresses that the containers' default route leads to, as Docker has it.
const ROUTERS: [&str; 2] = ["DefaultGatewayIPv4", "DefaultGatewayIPv6"];

/// The pools of a new network, IPv4 first, and what inspect shows of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) pools: Vec<Pool>,
    pub(super) shown: Vec<Subnet>,
}

/// What the choice is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) subnets: &'a [SubnetRequest],
    pub(super) ipv6: bool,
    pub(super) internal: bool,
    /// The network's id: a private IPv6 subnet is drawn from it.
    pub(super) id: &'a str,
    pub(super) driver: &'a str,
}

/// Chooses the pools.
///
/// # Errors
/// Docker's texts for a subnet that is taken, too small, or one too many.
pub(super) fn choose(wanted: &Wanted<'_>, occupied: &[Occupied]) -> Result<Chosen> {
    let of = |v4: bool| -> Result<Option<&SubnetRequest>> {
        let mut list = wanted
            .subnets
            .iter()
            .filter(|request| request.subnet.addr().is_ipv4() == v4);
        let first = list.next();
        if list.next().is_some() {
            return Err(Error::invalid(format!(
                "{} driver doesn't support multiple subnets",
                wanted.driver
            )));
        }
        Ok(first)
    };
    let (v4, v6) = (of(true)?, of(false)?);
    if v6.is_some() && !wanted.ipv6 {
        return Err(Error::invalid("an IPv6 subnet needs a network with IPv6").hint("add --ipv6"));
    }
    let mut chosen = Chosen::default();
    match v4 {
        Some(request) => chosen.take(request, occupied)?,
        None => {
            let choice = choose_pool(None, occupied).map_err(|error| unmade(&error))?;
            chosen.add(choice.pool, wanted.internal);
        }
    }
    match v6 {
        Some(request) => chosen.take(request, occupied)?,
        None if wanted.ipv6 => {
            let subnet = private(wanted.id);
            let choice =
                choose_pool(Some(IpNet::V6(subnet)), occupied).map_err(|error| unmade(&error))?;
            chosen.add(choice.pool, wanted.internal);
        }
        None => {}
    }
    Ok(chosen)
}

impl Chosen {
    fn add(&mut self, pool: Pool, internal: bool) {
        let gateway = Some(pool.gateway).filter(|_| !internal);
        self.shown.push(subnet_entry(pool.subnet, gateway));
        self.pools.push(pool);
    }

    fn take(&mut self, request: &SubnetRequest, occupied: &[Occupied]) -> Result<()> {
        let subnet = request.subnet.trunc();
        let mut pool = choose_pool(Some(subnet), occupied)
            .map_err(|error| unmade(&error))?
            .pool;
        pool.range = request.range.map(|range| range.trunc());
        if let Some(gateway) = request.gateway {
            let broadcast = subnet.addr().is_ipv4() && gateway == subnet.broadcast();
            if broadcast || gateway == subnet.network() {
                return Err(Error::conflict(format!(
                    "failed to allocate gateway ({gateway}): Address already in use"
                ))
                .hint(format!(
                    "the first and the last address of {subnet} are the network's own"
                )));
            }
            pool.gateway = gateway;
        }
        reserve(&mut pool, request)?;
        self.pools.push(pool);
        self.shown.push(Subnet {
            range: request
                .range
                .map(|range| range.to_string())
                .unwrap_or_default(),
            reserved: texts(&request.reserved),
            ..subnet_entry(request.subnet, request.gateway)
        });
        Ok(())
    }
}

/// Keeps addresses from containers.
fn reserve(pool: &mut Pool, request: &SubnetRequest) -> Result<()> {
    let subnet = pool.subnet;
    let broadcast = |address| subnet.addr().is_ipv4() && address == subnet.broadcast();
    for (name, address) in &request.reserved {
        let taken = pool.reserved.contains(address)
            || *address == pool.gateway
            || *address == subnet.network()
            || broadcast(*address);
        if taken {
            return Err(Error::conflict(format!(
                "failed to allocate secondary ip address ({name}:{address}): Address already in use"
            ))
            .hint(format!(
                "{address} is the gateway's or {subnet}'s own, or named twice: leave it out"
            )));
        }
        pool.reserved.push(*address);
        if ROUTERS.contains(&name.as_str()) {
            pool.router = Some(*address);
        }
    }
    Ok(())
}

/// What is shown of reserved addresses.
pub(super) fn texts(reserved: &BTreeMap<String, IpAddr>) -> BTreeMap<String, String> {
    let text = |(name, address): (&String, &IpAddr)| (name.clone(), address.to_string());
    reserved.iter().map(text).collect()
}

/// A subnet of the range for private use (RFC 4193) that the network's id decides.
fn private(id: &str) -> Ipv6Net {
    let digits: String = id.chars().take(14).collect();
    let number = u64::from_str_radix(&digits, 16).unwrap_or_default() & 0x00ff_ffff_ffff_ffff;
    let high = u128::from((0xfd_u64 << 56) | number);
    Ipv6Net::new_assert(Ipv6Addr::from(high << 64), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(subnet: &str, range: &str, gateway: &str) -> SubnetRequest {
        SubnetRequest {
            subnet: subnet.parse().unwrap(),
            range: range.parse().ok(),
            gateway: gateway.parse().ok(),
            reserved: BTreeMap::new(),
        }
    }

    fn chosen(subnets: &[SubnetRequest], ipv6: bool, occupied: &[&str]) -> Result<Chosen> {
        let occupied: Vec<Occupied> = occupied
            .iter()
            .map(|subnet| Occupied {
                subnet: subnet.parse().unwrap(),
                device: "eth9".to_owned(),
            })
            .collect();
        let wanted = Wanted {
            subnets,
            ipv6,
            internal: false,
            id: "0123456789abcdef",
            driver: "bridge",
        };
        choose(&wanted, &occupied)
    }

    #[test]
    fn without_a_wish_the_next_free_pool() {
        let chosen = chosen(&[], false, &["172.17.0.0/16", "172.18.3.0/24"]).unwrap();
        assert_eq!(
            chosen.shown,
            [Subnet {
                subnet: "172.19.0.0/16".to_owned(),
                gateway: "172.19.0.1".to_owned(),
                ..Subnet::default()
            }]
        );
    }

    #[test]
    fn wishes_are_shown_as_they_were_made() {
        let list = [
            request("10.77.0.0/24", "10.77.0.128/25", ""),
            request("fd00:7::/64", "", "fd00:7::9"),
        ];
        let chosen = chosen(&list, true, &[]).unwrap();
        let [v4, v6] = chosen.pools.as_slice() else {
            panic!("{chosen:?}");
        };
        assert_eq!(v4.gateway.to_string(), "10.77.0.1");
        assert_eq!(v4.range.unwrap().to_string(), "10.77.0.128/25");
        assert_eq!(v6.gateway.to_string(), "fd00:7::9");
        assert_eq!(chosen.shown[0].gateway, "");
        assert_eq!(chosen.shown[0].range, "10.77.0.128/25");
        assert_eq!(chosen.shown[1].gateway, "fd00:7::9");
    }

    #[test]
    fn reserved_addresses_are_kept_and_some_lead_outside() {
        let with = |list: &[(&str, &str)]| {
            let reserved = list.iter();
            let pair =
                |(name, address): &(&str, &str)| ((*name).to_owned(), address.parse().unwrap());
            chosen(
                &[SubnetRequest {
                    reserved: reserved.map(pair).collect(),
                    ..request("10.77.0.0/24", "", "")
                }],
                false,
                &[],
            )
        };
        let both = [("host", "10.77.0.2"), ("DefaultGatewayIPv4", "10.77.0.254")];
        let chosen = with(&both).unwrap();
        assert_eq!(chosen.pools[0].reserved.len(), 2);
        assert_eq!(chosen.pools[0].router().to_string(), "10.77.0.254");
        assert_eq!(chosen.pools[0].gateway.to_string(), "10.77.0.1");
        assert_eq!(chosen.shown[0].reserved["host"], "10.77.0.2");
        for (list, at) in [
            (&[("a", "10.77.0.1")][..], "a:10.77.0.1"),
            (&[("a", "10.77.0.0")], "a:10.77.0.0"),
            (&[("a", "10.77.0.255")], "a:10.77.0.255"),
            (&[("a", "10.77.0.7"), ("b", "10.77.0.7")], "b:10.77.0.7"),
        ] {
            assert_eq!(
                with(list).unwrap_err().to_string(),
                format!("failed to allocate secondary ip address ({at}): Address already in use")
            );
        }
    }

    #[test]
    fn ipv6_without_a_subnet_draws_one() {
        let chosen = chosen(&[], true, &[]).unwrap();
        assert_eq!(chosen.shown[1].subnet, "fd01:2345:6789:abcd::/64");
        assert_eq!(
            chosen.pools[1].gateway.to_string(),
            "fd01:2345:6789:abcd::1"
        );
    }

    #[test]
    fn what_is_taken_or_too_much() {
        for (list, ipv6, expected) in [
            (
                vec![request("10.77.0.0/24", "", "")],
                false,
                "Pool overlaps with other one on this address space",
            ),
            (
                vec![
                    request("10.1.0.0/24", "", ""),
                    request("10.2.0.0/24", "", ""),
                ],
                false,
                "bridge driver doesn't support multiple subnets",
            ),
            (
                vec![request("fd00::/64", "", "")],
                false,
                "an IPv6 subnet needs a network with IPv6",
            ),
            (
                vec![request("10.1.0.0/31", "", "")],
                false,
                "failed to allocate gateway (): No available addresses on this pool",
            ),
        ] {
            let error = chosen(&list, ipv6, &["10.77.0.0/16"]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}

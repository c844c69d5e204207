//! Which address a container gets: the lowest free one of a pool (the choice is pure).

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;

use crate::hold::{self, Alive, Attempt, Hold, HoldError};
use crate::network::Pool;

/// Why a container got no address.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// All are taken.
    #[error("no available IPv{0} addresses on this network's address pools")]
    Exhausted(u8),
    /// It lies outside the subnet.
    #[error("Invalid address {0}: It does not belong to any of this network's subnets")]
    Foreign(IpAddr),
    /// Somebody has it: a container, or the bridge itself.
    #[error("Address already in use")]
    InUse {
        /// The address asked for.
        address: IpAddr,
        /// Who has it, for the hint.
        owner: String,
    },
    /// The reservation's directory fails.
    #[error("cannot reserve an address")]
    Hold(#[from] HoldError),
}

fn family(subnet: &IpNet) -> u8 {
    if subnet.addr().is_ipv4() { 4 } else { 6 }
}

/// An address and its reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The address, with the subnet's prefix.
    pub address: IpNet,
    /// The reservation, to be released with the plan.
    pub hold: Hold,
}

/// The addresses of a pool that containers may have, from the lowest: neither the network's own
/// nor the broadcast address nor the gateway, and none that is reserved.
pub fn candidates(pool: &Pool) -> impl Iterator<Item = IpAddr> + use<> {
    let (subnet, gateway, range) = (pool.subnet, pool.gateway, pool.range);
    let reserved = pool.reserved.clone();
    let span = range.unwrap_or(subnet);
    let (first, last) = match span {
        IpNet::V4(net) => (
            u128::from(u32::from(net.network())),
            u128::from(u32::from(net.broadcast())),
        ),
        IpNet::V6(net) => (u128::from(net.network()), u128::from(net.broadcast())),
    };
    let v4 = subnet.addr().is_ipv4();
    (first..=last)
        .map(move |number| address_of(number, v4))
        .filter(move |address| {
            *address != subnet.network()
                && (!v4 || *address != subnet.broadcast())
                && *address != gateway
                && !reserved.contains(address)
        })
}

fn address_of(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => IpAddr::V4(Ipv4Addr::from(number)),
        _ => IpAddr::V6(Ipv6Addr::from(number)),
    }
}

/// The lowest address of the pool that is not taken.
pub fn lowest_free(pool: &Pool, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
    candidates(pool).find(|address| !taken.contains(address))
}

/// Reserves an address of the pool for an owner: the one asked for, or the lowest free.
/// Reservations are links in `directory`, which belongs to one network.
///
/// # Errors
/// [`AddressError`].
pub fn reserve(
    directory: &Path,
    pool: &Pool,
    owner: &str,
    alive: Alive<'_>,
    wanted: Option<IpAddr>,
) -> Result<Held, AddressError> {
    if let Some(address) = wanted {
        return reserve_this(directory, pool, owner, alive, address);
    }
    // What dead owners hold is only looked at when nothing else is left: whoever finds them dead
    // undoes their plans, and this list stays one directory read long.
    let mut taken: BTreeSet<IpAddr> = hold::held(directory)?
        .iter()
        .filter_map(|(name, _)| name.parse().ok())
        .collect();
    while let Some(address) = lowest_free(pool, &taken) {
        match Hold::take(directory, &address.to_string(), owner, alive)? {
            Attempt::Taken(hold) => {
                return Ok(Held {
                    address: pool.with_prefix(address),
                    hold,
                });
            }
            Attempt::HeldBy(_) => taken.insert(address),
        };
    }
    for (name, holder) in hold::held(directory)? {
        let Ok(address) = name.parse::<IpAddr>() else {
            continue;
        };
        if alive(&holder) || !candidates_contain(pool, address) {
            continue;
        }
        if let Attempt::Taken(hold) = Hold::take(directory, &name, owner, alive)? {
            return Ok(Held {
                address: pool.with_prefix(address),
                hold,
            });
        }
    }
    Err(AddressError::Exhausted(family(&pool.subnet)))
}

fn candidates_contain(pool: &Pool, address: IpAddr) -> bool {
    pool.range.unwrap_or(pool.subnet).contains(&address)
        && address != pool.gateway
        && !pool.reserved.contains(&address)
}

fn reserve_this(
    directory: &Path,
    pool: &Pool,
    owner: &str,
    alive: Alive<'_>,
    address: IpAddr,
) -> Result<Held, AddressError> {
    if !pool.subnet.contains(&address) {
        return Err(AddressError::Foreign(address));
    }
    if address == pool.gateway {
        return Err(AddressError::InUse {
            address,
            owner: "the network's gateway".to_owned(),
        });
    }
    if pool.reserved.contains(&address) {
        return Err(AddressError::InUse {
            address,
            owner: "the network's --aux-address".to_owned(),
        });
    }
    let broadcast = pool.subnet.addr().is_ipv4() && address == pool.subnet.broadcast();
    if broadcast || address == pool.subnet.network() {
        return Err(AddressError::InUse {
            address,
            owner: "the network itself".to_owned(),
        });
    }
    match Hold::take(directory, &address.to_string(), owner, alive)? {
        Attempt::Taken(hold) => Ok(Held {
            address: pool.with_prefix(address),
            hold,
        }),
        Attempt::HeldBy(owner) => Err(AddressError::InUse { address, owner }),
    }
}

/// Docker's address of an interface: `02:42:` and the four bytes of its IPv4 address; without one,
/// the last four of its IPv6 address.
pub fn mac_of(address: IpAddr) -> [u8; 6] {
    let [a, b, c, d] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let o = address.octets();
            [o[12], o[13], o[14], o[15]]
        }
    };
    [0x02, 0x42, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(subnet: &str) -> Pool {
        Pool::of(subnet.parse().unwrap())
    }

    #[test]
    fn the_lowest_free_address() {
        let with_range = Pool {
            range: "10.77.0.128/25".parse().ok(),
            ..pool("10.77.0.0/24")
        };
        let with_reserved = Pool {
            reserved: ["10.77.0.2", "10.77.0.4"]
                .map(|ip| ip.parse().unwrap())
                .into(),
            ..pool("10.77.0.0/24")
        };
        for (pool, taken, want) in [
            (pool("172.17.0.0/16"), vec![], "172.17.0.2"),
            (
                pool("172.17.0.0/16"),
                vec!["172.17.0.2", "172.17.0.4"],
                "172.17.0.3",
            ),
            (with_range, vec![], "10.77.0.128"),
            (with_reserved, vec!["10.77.0.3"], "10.77.0.5"),
            (pool("10.0.0.0/30"), vec![], "10.0.0.2"),
            (pool("fd00::/64"), vec!["fd00::2"], "fd00::3"),
        ] {
            let taken = taken.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(lowest_free(&pool, &taken).unwrap().to_string(), want);
        }
        let taken = ["10.0.0.2".parse().unwrap()].into();
        assert_eq!(lowest_free(&pool("10.0.0.0/30"), &taken), None);
    }

    #[test]
    fn reserves_releases_and_runs_out() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("rbox0");
        let pool = pool("10.0.0.0/29");
        let reserve =
            |owner: &str, alive: bool| reserve(&directory, &pool, owner, &|_| alive, None);
        let first = reserve("a", true).unwrap();
        assert_eq!(first.address.to_string(), "10.0.0.2/29");
        let rest: Vec<String> = (0..4)
            .map(|_| reserve("b", true).unwrap().address.addr().to_string())
            .collect();
        assert_eq!(rest, ["10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert!(reserve("c", true).is_err());
        assert_eq!(
            reserve("c", true).unwrap_err().to_string(),
            "no available IPv4 addresses on this network's address pools"
        );
        // The dead hold nothing.
        assert_eq!(
            reserve("c", false).unwrap().address.addr().to_string(),
            "10.0.0.2"
        );
        // It is c's now, and a's release leaves it alone.
        first.hold.release().unwrap();
        assert!(reserve("d", true).is_err());
    }

    #[test]
    fn an_address_asked_for() {
        let scratch = tempfile::tempdir().unwrap();
        let pool = Pool {
            reserved: vec!["10.78.0.8".parse().unwrap()],
            ..pool("10.78.0.0/26")
        };
        let ask = |address: &str| {
            let address = address.parse().ok();
            reserve(scratch.path(), &pool, "a", &|_| true, address)
        };
        assert_eq!(
            ask("10.78.0.9").unwrap().address.to_string(),
            "10.78.0.9/26"
        );
        assert_eq!(
            ask("10.78.0.77").unwrap_err().to_string(),
            "Invalid address 10.78.0.77: It does not belong to any of this network's subnets"
        );
        // the gateway's, the network's own, the broadcast address, one that is reserved
        for address in ["10.78.0.1", "10.78.0.0", "10.78.0.63", "10.78.0.8"] {
            assert_eq!(
                ask(address).unwrap_err().to_string(),
                "Address already in use"
            );
        }
    }

    #[test]
    fn the_hardware_address_follows_from_the_address() {
        let mac = mac_of("172.17.0.2".parse().unwrap());
        assert_eq!(mac, [0x02, 0x42, 0xac, 0x11, 0x00, 0x02]);
    }
}

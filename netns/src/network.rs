//! What a network is: name, driver, address pools and the options of its bridge.
//!
//! Values and pure choices; the kernel is not asked here.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::port::ANY_V4;
use crate::uplink::Uplink;

/// How containers of a network reach one another and the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// A bridge of the host.
    Bridge,
    /// Links with hardware addresses of their own on a wire of the host's.
    Macvlan,
    /// Links with the hardware address of the wire that they share.
    Ipvlan,
    /// The host's own namespace.
    Host,
    /// A namespace with nothing but loopback; Docker calls the driver `null`.
    #[serde(rename = "null")]
    None,
}

impl Driver {
    /// Docker's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Driver::Bridge => "bridge",
            Driver::Macvlan => "macvlan",
            Driver::Ipvlan => "ipvlan",
            Driver::Host => "host",
            Driver::None => "null",
        }
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One address range of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// The network, host bits zero.
    pub subnet: IpNet,
    /// The bridge's own address in it.
    pub gateway: IpAddr,
    /// The part of it that containers are given addresses from; all of it without one.
    pub range: Option<IpNet>,
    /// Addresses of it that others have: no container gets one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<IpAddr>,
    /// Where the containers' default route leads, where that is not the gateway; one of `reserved`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<IpAddr>,
}

impl Pool {
    /// The pool of a subnet with the first address as its gateway.
    pub fn of(subnet: IpNet) -> Self {
        let subnet = subnet.trunc();
        let gateway = match subnet {
            IpNet::V4(net) => IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) + 1)),
            IpNet::V6(net) => IpAddr::V6((u128::from(net.network()) + 1).into()),
        };
        Self::with_gateway(subnet, gateway)
    }

    /// The pool of a bridge that has this address.
    pub fn of_address(address: IpNet) -> Self {
        Self::with_gateway(address.trunc(), address.addr())
    }

    fn with_gateway(subnet: IpNet, gateway: IpAddr) -> Self {
        Self {
            subnet,
            gateway,
            range: None,
            reserved: Vec::new(),
            router: None,
        }
    }

    /// Where the containers' default route leads.
    pub fn router(&self) -> IpAddr {
        self.router.unwrap_or(self.gateway)
    }

    /// The gateway with the subnet's prefix: what the bridge is configured with.
    pub fn gateway_net(&self) -> IpNet {
        self.with_prefix(self.gateway)
    }

    /// An address of the pool with the subnet's prefix.
    pub fn with_prefix(&self, address: IpAddr) -> IpNet {
        IpNet::new_assert(address, self.subnet.prefix_len())
    }
}

/// A network's bridge. Names in Docker's options are `com.docker.network.bridge.…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// The device.
    pub device: String,
    /// It is the network that containers get unless they name one.
    pub default_bridge: bool,
    /// Containers may talk to one another.
    pub icc: bool,
    /// What leaves the host gets the host's address.
    pub masquerade: bool,
    /// Where ports are published that name no address.
    pub host_binding: IpAddr,
    /// The largest packet.
    pub mtu: u32,
}

impl BridgeOptions {
    /// Docker's defaults for a device.
    pub fn of(device: impl Into<String>) -> Self {
        Self {
            device: device.into(),
            default_bridge: false,
            icc: true,
            masquerade: true,
            host_binding: ANY_V4,
            mtu: 1500,
        }
    }

    /// Reads `network create -o`; names it does not know are left alone, as Docker leaves them.
    ///
    /// # Errors
    /// [`NetworkError::Option`] for a value that is none.
    pub fn with(mut self, options: &BTreeMap<String, String>) -> Result<Self, NetworkError> {
        for (name, value) in options {
            let wrong = |why: String| NetworkError::Option {
                name: name.clone(),
                value: value.clone(),
                why,
            };
            let flag = || match value.as_str() {
                "true" | "1" | "t" | "T" | "TRUE" | "True" => Ok(true),
                "false" | "0" | "f" | "F" | "FALSE" | "False" => Ok(false),
                _ => Err(wrong(syntax("ParseBool", value))),
            };
            match name.as_str() {
                OPTION_NAME => self.device.clone_from(value),
                OPTION_ICC => self.icc = flag()?,
                OPTION_MASQUERADE => self.masquerade = flag()?,
                OPTION_BINDING => {
                    let address = value.parse().map_err(|_| wrong("nil ip".to_owned()))?;
                    self.host_binding = address;
                }
                OPTION_MTU => {
                    let number = value.parse().map_err(|_| wrong(syntax("Atoi", value)))?;
                    self.mtu = number;
                }
                _ => heed(name, value)?,
            }
        }
        Ok(self)
    }

    /// The options as `network inspect` shows them for the default bridge.
    pub fn shown(&self) -> BTreeMap<String, String> {
        [
            (OPTION_DEFAULT, self.default_bridge.to_string()),
            (OPTION_ICC, self.icc.to_string()),
            (OPTION_MASQUERADE, self.masquerade.to_string()),
            (OPTION_BINDING, self.host_binding.to_string()),
            (OPTION_NAME, self.device.clone()),
            (OPTION_MTU, self.mtu.to_string()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
    }
}

const OPTION_DEFAULT: &str = "com.docker.network.bridge.default_bridge";
const OPTION_ICC: &str = "com.docker.network.bridge.enable_icc";
const OPTION_MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const OPTION_BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const OPTION_NAME: &str = "com.docker.network.bridge.name";
pub(crate) const OPTION_MTU: &str = "com.docker.network.driver.mtu";

/// What Docker's language says of a text that it cannot read.
pub(crate) fn syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: invalid syntax")
}

/// Options that Docker heeds and rbox does not, the values with which they change nothing, and
/// what to do instead.
const UNKNOWN: [(&str, &[&str], &str); 5] = [
    (
        "com.docker.network.host_ipv4",
        &[""],
        "what leaves has the address of the device that it leaves by",
    ),
    (
        "com.docker.network.host_ipv6",
        &[""],
        "what leaves has the address of the device that it leaves by",
    ),
    (
        "com.docker.network.bridge.inhibit_ipv4",
        &["false", "0"],
        "the bridge is the containers' gateway; another one is named by '--aux-address \
         DefaultGatewayIPv4=ADDRESS'",
    ),
    (
        "com.docker.network.bridge.gateway_mode_ipv4",
        &["", "nat"],
        "only the mode nat is there; 'com.docker.network.bridge.enable_ip_masquerade=false' keeps \
         the containers' addresses",
    ),
    (
        "com.docker.network.bridge.gateway_mode_ipv6",
        &["", "nat"],
        "only the mode nat is there; 'com.docker.network.bridge.enable_ip_masquerade=false' keeps \
         the containers' addresses",
    ),
];

/// Refuses an option that would be expected to do something.
fn heed(name: &str, value: &str) -> Result<(), NetworkError> {
    let known = UNKNOWN.iter().find(|(unknown, _, _)| *unknown == name);
    match known {
        Some((_, harmless, instead)) if !harmless.contains(&value) => Err(NetworkError::Unknown {
            name: name.to_owned(),
            instead,
        }),
        _ => Ok(()),
    }
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// 64 hexadecimal digits.
    pub id: String,
    /// What users call it.
    pub name: String,
    /// How it works.
    pub driver: Driver,
    /// Its address ranges, at most one per family; none for the drivers `host` and `null`.
    pub pools: Vec<Pool>,
    /// Nothing leaves it.
    pub internal: bool,
    /// Its bridge, for the driver `bridge`.
    pub bridge: Option<BridgeOptions>,
    /// Its wire, for the drivers `macvlan` and `ipvlan`.
    pub uplink: Option<Uplink>,
}

impl Network {
    /// The IPv4 pool.
    pub fn v4(&self) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.gateway.is_ipv4())
    }

    /// The IPv6 pool.
    pub fn v6(&self) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.gateway.is_ipv6())
    }
}

/// A subnet that the host has in use already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// The subnet.
    pub subnet: IpNet,
    /// The device that leads to it; empty if none is known.
    pub device: String,
}

impl fmt::Display for Occupied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subnet)?;
        if !self.device.is_empty() {
            write!(f, " dev {}", self.device)?;
        }
        Ok(())
    }
}

/// A network that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The subnet asked for overlaps with one in use.
    #[error("Pool overlaps with other one on this address space")]
    Overlap {
        /// What was asked for.
        wanted: IpNet,
        /// What is there already, for the hint.
        occupied: Occupied,
    },
    /// No predefined pool is free.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )]
    NoPool,
    /// The subnet is too small to hold a gateway and a container.
    #[error("failed to allocate gateway (): No available addresses on this pool")]
    TooSmall(IpNet),
    /// The bridge's name cannot be a device's.
    #[error("invalid bridge name {0:?}")]
    Device(String),
    /// The driver needs one.
    #[error("a {0} network needs a device of the host")]
    NoParent(Driver),
    /// An option's value.
    #[error("failed to parse {name} value: {value} ({why})")]
    Option {
        /// The option.
        name: String,
        /// As given.
        value: String,
        /// What is wrong with it, in the words of Docker's language.
        why: String,
    },
    /// An option that Docker heeds and rbox does not.
    #[error("the option {name} is not supported")]
    Unknown {
        /// The option.
        name: String,
        /// What to do instead.
        instead: &'static str,
    },
}

/// The pool of a new network, and what stood in the way of the first choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The pool.
    pub pool: Pool,
    /// Why it is not the first of the defaults: that subnet and what occupies it.
    pub passed_over: Option<(IpNet, Occupied)>,
}

/// Chooses the subnet of a network: the one asked for, or the next of Docker's defaults that
/// overlaps with nothing.
///
/// # Errors
/// [`NetworkError::Overlap`] when the subnet asked for is in use, [`NetworkError::NoPool`] when all
/// defaults are.
pub fn choose_pool(wanted: Option<IpNet>, occupied: &[Occupied]) -> Result<Choice, NetworkError> {
    if let Some(subnet) = wanted {
        let pool = usable(subnet)?;
        return match overlap(&subnet, occupied) {
            None => Ok(Choice {
                pool,
                passed_over: None,
            }),
            Some(found) => Err(NetworkError::Overlap {
                wanted: subnet,
                occupied: found.clone(),
            }),
        };
    }
    let mut passed_over = None;
    for subnet in default_pools() {
        match overlap(&subnet, occupied) {
            None => {
                return Ok(Choice {
                    pool: Pool::of(subnet),
                    passed_over,
                });
            }
            Some(found) => {
                passed_over.get_or_insert_with(|| (subnet, found.clone()));
            }
        }
    }
    Err(NetworkError::NoPool)
}

/// Checks that a device may have this name.
///
/// # Errors
/// [`NetworkError::Device`].
pub fn check_device(name: &str) -> Result<(), NetworkError> {
    let fits = (1..=15).contains(&name.len()) && name != "." && name != "..";
    let clean = name
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    if fits && clean {
        Ok(())
    } else {
        Err(NetworkError::Device(name.to_owned()))
    }
}

fn usable(subnet: IpNet) -> Result<Pool, NetworkError> {
    if subnet.max_prefix_len() - subnet.prefix_len() < 2 {
        return Err(NetworkError::TooSmall(subnet));
    }
    Ok(Pool::of(subnet))
}

/// A default route is everywhere and occupies nothing.
fn overlap<'a>(subnet: &IpNet, occupied: &'a [Occupied]) -> Option<&'a Occupied> {
    occupied.iter().find(|other| {
        other.subnet.prefix_len() > 0
            && (other.subnet.contains(&subnet.network())
                || subnet.contains(&other.subnet.network()))
    })
}

/// 172.17–31.0.0/16, then 192.168.0.0/16 in pieces of /20.
fn default_pools() -> impl Iterator<Item = IpNet> {
    let large = (17..=31).map(|second| (Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..16).map(|piece| (Ipv4Addr::new(192, 168, piece * 16, 0), 20));
    large
        .chain(small)
        .map(|(address, prefix)| IpNet::V4(Ipv4Net::new_assert(address, prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupied(list: &[(&str, &str)]) -> Vec<Occupied> {
        list.iter()
            .map(|(subnet, device)| Occupied {
                subnet: subnet.parse().unwrap(),
                device: (*device).to_owned(),
            })
            .collect()
    }

    #[test]
    fn takes_the_next_free_default_and_names_the_conflict() {
        let chosen = choose_pool(None, &occupied(&[("0.0.0.0/0", "eth0")])).unwrap();
        assert_eq!(chosen.pool.subnet.to_string(), "172.17.0.0/16");
        assert_eq!(chosen.pool.gateway.to_string(), "172.17.0.1");
        assert_eq!(chosen.passed_over, None);

        let used = occupied(&[("172.17.5.0/24", "docker0"), ("172.18.0.0/15", "vpn")]);
        let chosen = choose_pool(None, &used).unwrap();
        assert_eq!(chosen.pool.subnet.to_string(), "172.20.0.0/16");
        let (subnet, by) = chosen.passed_over.unwrap();
        assert_eq!(subnet.to_string(), "172.17.0.0/16");
        assert_eq!(by.to_string(), "172.17.5.0/24 dev docker0");

        let used = occupied(&[("172.16.0.0/12", "a"), ("192.168.0.0/24", "b")]);
        let chosen = choose_pool(None, &used).unwrap();
        assert_eq!(chosen.pool.subnet.to_string(), "192.168.16.0/20");
        let used = occupied(&[("128.0.0.0/1", "everything")]);
        assert_eq!(choose_pool(None, &used), Err(NetworkError::NoPool));
    }

    #[test]
    fn a_subnet_asked_for_must_be_free_and_large_enough() {
        let used = occupied(&[("10.0.0.0/8", "eth0")]);
        let wanted = "10.77.0.0/16".parse().ok();
        assert_eq!(
            choose_pool(wanted, &used).unwrap_err().to_string(),
            "Pool overlaps with other one on this address space"
        );
        assert!(choose_pool(wanted, &[]).is_ok());
        assert!(choose_pool("10.0.0.0/31".parse().ok(), &[]).is_err());
        let six = choose_pool("fd00:1::/64".parse().ok(), &used).unwrap();
        assert_eq!(six.pool.gateway.to_string(), "fd00:1::1");
    }

    #[test]
    fn reads_and_shows_dockers_options() {
        let options = [(OPTION_ICC, "false"), (OPTION_MTU, "9000"), ("other", "x")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let bridge = BridgeOptions::of("br-1").with(&options.into()).unwrap();
        assert!(!bridge.icc);
        assert_eq!(bridge.shown()[OPTION_MTU], "9000");
        for (name, value, expected) in [
            (
                OPTION_ICC,
                "maybe",
                "failed to parse com.docker.network.bridge.enable_icc value: maybe (strconv.ParseBool: parsing \"maybe\": invalid syntax)",
            ),
            (
                OPTION_MTU,
                "x",
                "failed to parse com.docker.network.driver.mtu value: x (strconv.Atoi: parsing \"x\": invalid syntax)",
            ),
            (
                OPTION_BINDING,
                "foo",
                "failed to parse com.docker.network.bridge.host_binding_ipv4 value: foo (nil ip)",
            ),
            (
                "com.docker.network.bridge.gateway_mode_ipv4",
                "routed",
                "the option com.docker.network.bridge.gateway_mode_ipv4 is not supported",
            ),
            ("com.docker.network.bridge.gateway_mode_ipv4", "nat", ""),
        ] {
            let options = [(name.to_owned(), value.to_owned())];
            let outcome = BridgeOptions::of("x").with(&options.into());
            let said = outcome.err().map(|error| error.to_string());
            assert_eq!(said.unwrap_or_default(), expected);
        }
    }

    #[test]
    fn device_names() {
        for (name, good) in [
            ("rbox0", true),
            ("", false),
            ("a/b", false),
            ("a b", false),
            ("sixteencharacter", false),
            (".", false),
        ] {
            assert_eq!(check_device(name).is_ok(), good, "{name}");
        }
    }
}

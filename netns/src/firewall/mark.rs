//! The remark that a bridge carries once its rules are in place (pure).
//!
//! It is the alias of the link, seen with `ip link`. One look-up of the bridge thus tells a start
//! who its gateway is, which hand carries rules, and that there is nothing left to set up.

use std::fmt;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Hand;
use crate::network::{Network, Pool};

/// What is in place for a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Mark {
    /// The hand that made the rules.
    pub hand: Hand,
    /// The name of its tables.
    pub instance: String,
    /// The bridge's addresses, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// Its containers may talk to one another.
    pub icc: bool,
    /// What leaves the host gets the host's address.
    pub masquerade: bool,
    /// Nothing leaves it.
    pub internal: bool,
}

/// A remark that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a remark of rbox: {0:?}")]
pub struct NoMark(pub String);

impl Mark {
    /// The remark of a network's bridge; `None` for a network without one.
    pub fn of(network: &Network, hand: Hand, instance: &str) -> Option<Self> {
        let bridge = network.bridge.as_ref()?;
        Some(Self {
            hand,
            instance: instance.to_owned(),
            addresses: network.pools.iter().map(Pool::gateway_net).collect(),
            icc: bridge.icc,
            masquerade: bridge.masquerade,
            internal: network.internal,
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |on: bool| if on { "on" } else { "off" };
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        write!(
            f,
            "rbox firewall={} table={} address={} icc={} masquerade={} internal={}",
            self.hand,
            self.instance,
            addresses.join(","),
            word(self.icc),
            word(self.masquerade),
            word(self.internal)
        )
    }
}

impl FromStr for Mark {
    type Err = NoMark;

    fn from_str(text: &str) -> Result<Self, NoMark> {
        let no = || NoMark(text.to_owned());
        let mut words = text.split(' ');
        if words.next() != Some("rbox") {
            return Err(no());
        }
        let mut value = |name: &str| {
            words
                .next()
                .and_then(|word| word.strip_prefix(name)?.strip_prefix('='))
                .ok_or_else(no)
        };
        let flag = |word: &str| match word {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(no()),
        };
        Ok(Self {
            hand: match value("firewall")? {
                "iptables" => Hand::Iptables,
                "nft" => Hand::Nft,
                "off" => Hand::Off,
                _ => return Err(no()),
            },
            instance: value("table")?.to_owned(),
            addresses: value("address")?
                .split(',')
                .map(|address| address.parse().map_err(|_| no()))
                .collect::<Result<_, _>>()?,
            icc: flag(value("icc")?)?,
            masquerade: flag(value("masquerade")?)?,
            internal: flag(value("internal")?)?,
        })
    }
}

impl From<Mark> for String {
    fn from(mark: Mark) -> Self {
        mark.to_string()
    }
}

impl TryFrom<String> for Mark {
    type Error = NoMark;

    fn try_from(text: String) -> Result<Self, NoMark> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remarked_is_read_again() {
        let mark = Mark {
            hand: Hand::Nft,
            instance: "rbox".to_owned(),
            addresses: ["172.17.0.1/16", "fd00:17::1/64"]
                .map(|text| text.parse().unwrap())
                .to_vec(),
            icc: true,
            masquerade: true,
            internal: false,
        };
        let text = mark.to_string();
        assert_eq!(
            text,
            "rbox firewall=nft table=rbox address=172.17.0.1/16,fd00:17::1/64 \
             icc=on masquerade=on internal=off"
        );
        assert_eq!(text.parse(), Ok(mark));
        for other in ["", "uplink", "rbox", "rbox firewall=nft table=x address=y"] {
            assert_eq!(other.parse::<Mark>(), Err(NoMark(other.to_owned())));
        }
    }
}

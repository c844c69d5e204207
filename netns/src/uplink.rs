//! Networks without a bridge, whose containers share the wire of one of the host's devices:
//! macvlan and ipvlan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sys::netlink::Sharing;

use crate::network::{Driver, NetworkError, OPTION_MTU};

const OPTION_PARENT: &str = "parent";
const OPTION_MACVLAN: &str = "macvlan_mode";
const OPTION_IPVLAN: &str = "ipvlan_mode";

/// How containers share a wire; the words are Docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// macvlan: containers reach one another.
    Bridge,
    /// macvlan: they do not.
    Private,
    /// macvlan: they do by a switch that sends frames back.
    Vepa,
    /// macvlan: one container has the wire.
    Passthru,
    /// ipvlan: told apart by address on one wire.
    L2,
    /// ipvlan: the device routes.
    L3,
    /// ipvlan: the same, seen by the host's packet filter.
    L3s,
}

impl Mode {
    /// The word for either driver; `None` where it is none.
    fn of(driver: Driver, word: &str) -> Option<Self> {
        Some(match (driver, word) {
            (Driver::Macvlan, "" | "bridge") => Mode::Bridge,
            (Driver::Macvlan, "private") => Mode::Private,
            (Driver::Macvlan, "vepa") => Mode::Vepa,
            (Driver::Macvlan, "passthru") => Mode::Passthru,
            (Driver::Ipvlan, "" | "l2") => Mode::L2,
            (Driver::Ipvlan, "l3") => Mode::L3,
            (Driver::Ipvlan, "l3s") => Mode::L3s,
            _ => return None,
        })
    }

    /// The kernel's word.
    pub const fn sharing(self) -> Sharing {
        match self {
            Mode::Bridge => Sharing::MacvlanBridge,
            Mode::Private => Sharing::MacvlanPrivate,
            Mode::Vepa => Sharing::MacvlanVepa,
            Mode::Passthru => Sharing::MacvlanPassthru,
            Mode::L2 => Sharing::IpvlanL2,
            Mode::L3 => Sharing::IpvlanL3,
            Mode::L3s => Sharing::IpvlanL3s,
        }
    }

    /// The words of `ip link` for it.
    pub const fn shell(self) -> &'static str {
        match self {
            Mode::Bridge => "macvlan mode bridge",
            Mode::Private => "macvlan mode private",
            Mode::Vepa => "macvlan mode vepa",
            Mode::Passthru => "macvlan mode passthru",
            Mode::L2 => "ipvlan mode l2",
            Mode::L3 => "ipvlan mode l3",
            Mode::L3s => "ipvlan mode l3s",
        }
    }

    /// Containers have hardware addresses of their own.
    pub const fn has_mac(self) -> bool {
        !matches!(self, Mode::L2 | Mode::L3 | Mode::L3s)
    }

    /// There is no gateway on the wire: the device itself leads everywhere.
    pub const fn routes(self) -> bool {
        matches!(self, Mode::L3 | Mode::L3s)
    }
}

/// The wire of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uplink {
    /// The host's device.
    pub parent: String,
    /// How it is shared.
    pub mode: Mode,
    /// The largest packet; the device's without one.
    pub mtu: Option<u32>,
}

impl Uplink {
    /// Reads `network create -o` for one of the two drivers.
    ///
    /// # Errors
    /// [`NetworkError::NoParent`]; [`NetworkError::Option`] for a value that is none.
    pub fn of(driver: Driver, options: &BTreeMap<String, String>) -> Result<Self, NetworkError> {
        let text = |name: &str| options.get(name).map_or("", String::as_str);
        let wrong = |name: &str| NetworkError::Option {
            name: name.to_owned(),
            value: text(name).to_owned(),
            why: "invalid value".to_owned(),
        };
        let option = match driver {
            Driver::Ipvlan => OPTION_IPVLAN,
            _ => OPTION_MACVLAN,
        };
        let mode = Mode::of(driver, text(option)).ok_or_else(|| wrong(option))?;
        let parent = text(OPTION_PARENT);
        if parent.is_empty() {
            return Err(NetworkError::NoParent(driver));
        }
        let mtu = match text(OPTION_MTU) {
            "" => None,
            number => Some(number.parse().map_err(|_| wrong(OPTION_MTU))?),
        };
        Ok(Self {
            parent: parent.to_owned(),
            mode,
            mtu,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let of = |driver, list: &[(&str, &str)]| {
            let list = list
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Uplink::of(driver, &list.collect())
        };
        let parent = ("parent", "eth0");
        let plain = of(Driver::Macvlan, &[parent]).unwrap();
        assert_eq!((plain.parent.as_str(), plain.mode), ("eth0", Mode::Bridge));
        let routed = of(
            Driver::Ipvlan,
            &[parent, ("ipvlan_mode", "l3"), (OPTION_MTU, "1400")],
        );
        let routed = routed.unwrap();
        assert!(routed.mode.routes() && !routed.mode.has_mac());
        assert_eq!(routed.mtu, Some(1400));
        for (driver, list, expected) in [
            (
                Driver::Macvlan,
                &[][..],
                "a macvlan network needs a device of the host",
            ),
            (
                Driver::Macvlan,
                &[parent, ("macvlan_mode", "l2")],
                "failed to parse macvlan_mode value: l2 (invalid value)",
            ),
            (
                Driver::Ipvlan,
                &[parent, ("ipvlan_mode", "bridge")],
                "failed to parse ipvlan_mode value: bridge (invalid value)",
            ),
        ] {
            assert_eq!(of(driver, list).unwrap_err().to_string(), expected);
        }
    }
}

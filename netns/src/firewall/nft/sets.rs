//! The sets and maps that the chains look into, and the tables they belong to.

use sys::nftables::{DataType, Family, Set, Table};

/// Our bridges: what leaves by them must be allowed; what came by them is not redirected.
pub(super) const BRIDGES: &str = "bridges";
/// Pairs of a bridge with itself, where containers may talk.
pub(super) const TALKING: &str = "talking";
/// Bridges that nothing leaves.
pub(super) const INTERNAL: &str = "internal";
/// Subnets that get the host's address when they leave it.
pub(super) const MASQUERADED: &str = "masqueraded";
/// Ports on every address of the host → container.
pub(super) const PUBLISHED: &str = "published";
/// Ports on one address of the host → container.
pub(super) const PUBLISHED_AT: &str = "published_at";
/// Ports of containers that others than their bridge's may use.
pub(super) const OPEN: &str = "open";
/// What links open: from, to, protocol, port.
pub(super) const LINKED: &str = "linked";
/// The answers to that: from, to, protocol, port it comes from.
pub(super) const LINKED_BACK: &str = "linked_back";
/// In the table of frames: ports of bridges whose containers may not talk.
pub(super) const CLOSED: &str = "closed";

/// The instance's table of a family. That of frames is made with the first network whose containers
/// may not talk: the others never see what goes from one port of a bridge to another.
pub(super) fn table(instance: &str, family: Family) -> Table<'_> {
    Table {
        family,
        name: instance,
    }
}

pub(super) fn family(v4: bool) -> Family {
    if v4 { Family::Ip } else { Family::Ip6 }
}

/// The sets of links in the table of frames, which sees both families.
pub(super) const fn frame_sets(v4: bool) -> (&'static str, &'static str) {
    if v4 {
        ("linked", "linked_back")
    } else {
        ("linked6", "linked6_back")
    }
}

macro_rules! sets {
    ($address:expr) => {
        [
            set(BRIDGES, &[DataType::DeviceName], &[]),
            set(TALKING, &[DataType::DeviceName, DataType::DeviceName], &[]),
            set(INTERNAL, &[DataType::DeviceName], &[]),
            Set {
                name: MASQUERADED,
                key: &[$address],
                value: &[],
                interval: true,
            },
            set(
                PUBLISHED,
                &[DataType::Protocol, DataType::Service],
                &[$address, DataType::Service],
            ),
            set(
                PUBLISHED_AT,
                &[$address, DataType::Protocol, DataType::Service],
                &[$address, DataType::Service],
            ),
            set(
                OPEN,
                &[$address, DataType::Protocol, DataType::Service],
                &[],
            ),
            set(
                LINKED,
                &[$address, $address, DataType::Protocol, DataType::Service],
                &[],
            ),
            set(
                LINKED_BACK,
                &[$address, $address, DataType::Protocol, DataType::Service],
                &[],
            ),
        ]
    };
}

const fn set(
    name: &'static str,
    key: &'static [DataType],
    value: &'static [DataType],
) -> Set<'static> {
    Set {
        name,
        key,
        value,
        interval: false,
    }
}

pub(super) const SETS_V4: [Set<'static>; 9] = sets!(DataType::Ipv4);
pub(super) const SETS_V6: [Set<'static>; 9] = sets!(DataType::Ipv6);

const LINK_V4: &[DataType] = &[
    DataType::Ipv4,
    DataType::Ipv4,
    DataType::Protocol,
    DataType::Service,
];
const LINK_V6: &[DataType] = &[
    DataType::Ipv6,
    DataType::Ipv6,
    DataType::Protocol,
    DataType::Service,
];
pub(super) const SETS_FRAMES: [Set<'static>; 5] = [
    set(CLOSED, &[DataType::DeviceName], &[]),
    set(frame_sets(true).0, LINK_V4, &[]),
    set(frame_sets(true).1, LINK_V4, &[]),
    set(frame_sets(false).0, LINK_V6, &[]),
    set(frame_sets(false).1, LINK_V6, &[]),
];

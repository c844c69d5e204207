//! What a batch is made of: tables, chains, rules, sets, elements, and their messages.

use std::fmt;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};

use super::expression::Expression;
use super::wire::Writer;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_DELSETELEM: u16 = 14;

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Frames on bridges.
    Bridge,
}

impl Family {
    pub(super) fn number(self) -> u8 {
        match self {
            Family::Ip => 2,
            Family::Ip6 => 10,
            Family::Bridge => 7,
        }
    }

    pub(super) fn of(number: u8) -> Option<Self> {
        match number {
            2 => Some(Family::Ip),
            10 => Some(Family::Ip6),
            7 => Some(Family::Bridge),
            _ => None,
        }
    }

    /// nft's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Bridge => "bridge",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table<'a> {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: &'a str,
}

/// Where a base chain hangs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// `nat` rather than `filter`.
    pub nat: bool,
    /// The hook.
    pub point: HookPoint,
    /// The order among the chains of a hook.
    pub priority: i32,
}

/// A hook of the packet's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// Before routing.
    Prerouting = 0,
    /// Between two devices.
    Forward = 2,
    /// From the host itself.
    Output = 3,
    /// After routing.
    Postrouting = 4,
}

/// The types of which keys and values are made, as `nft list` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// A transport protocol.
    Protocol,
    /// A port.
    Service,
    /// A device's name.
    DeviceName,
}

impl DataType {
    fn number(self) -> u32 {
        match self {
            DataType::Ipv4 => 7,
            DataType::Ipv6 => 8,
            DataType::Protocol => 12,
            DataType::Service => 13,
            DataType::DeviceName => 41,
        }
    }

    /// Bytes in a key, padded as registers are.
    fn length(self) -> u32 {
        match self {
            DataType::Ipv4 | DataType::Protocol | DataType::Service => 4,
            DataType::Ipv6 | DataType::DeviceName => 16,
        }
    }
}

/// Several types joined are one number of six bits each.
fn joined(types: &[DataType]) -> (u32, u32) {
    let number = types.iter().fold(0, |sum, kind| sum << 6 | kind.number());
    (number, types.iter().map(|kind| kind.length()).sum())
}

/// A set, or a map if it has values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// What its keys are made of.
    pub key: &'a [DataType],
    /// What its values are made of; empty for a set.
    pub value: &'a [DataType],
    /// Keys are ranges.
    pub interval: bool,
}

/// One element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The key, each part padded to four bytes; in a set of ranges the first of a range.
    pub key: Vec<u8>,
    /// The first key after a range.
    pub end: Option<Vec<u8>>,
    /// The value, in a map.
    pub value: Vec<u8>,
    /// The element as nft writes it, for errors and explanations.
    pub text: String,
}

/// One change of a batch.
#[derive(Debug, Clone)]
pub enum Change<'a> {
    /// Makes a table unless it exists.
    AddTable(Table<'a>),
    /// Removes a table with all in it.
    DeleteTable(Table<'a>),
    /// Makes a chain unless it exists; with a hook it is a base chain that accepts.
    AddChain(Table<'a>, &'a str, Option<Hook>),
    /// Removes all rules of a chain.
    FlushChain(Table<'a>, &'a str),
    /// Appends a rule.
    AddRule(Table<'a>, &'a str, Vec<Expression<'a>>),
    /// Makes a set or map unless it exists.
    AddSet(Table<'a>, Set<'a>),
    /// Adds an element; one that exists stays.
    AddElement(Table<'a>, &'a str, &'a Element),
    /// Removes an element, which must exist.
    DeleteElement(Table<'a>, &'a str, &'a Element),
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl fmt::Display for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::AddTable(table) => write!(f, "NFT_MSG_NEWTABLE({table})"),
            Change::DeleteTable(table) => write!(f, "NFT_MSG_DELTABLE({table})"),
            Change::AddChain(table, chain, _) => write!(f, "NFT_MSG_NEWCHAIN({table} {chain})"),
            Change::FlushChain(table, chain) => write!(f, "NFT_MSG_DELRULE({table} {chain})"),
            Change::AddRule(table, chain, _) => write!(f, "NFT_MSG_NEWRULE({table} {chain})"),
            Change::AddSet(table, set) => write!(f, "NFT_MSG_NEWSET({table} {})", set.name),
            Change::AddElement(table, set, element) => {
                write!(
                    f,
                    "NFT_MSG_NEWSETELEM({table} {set} {{ {} }})",
                    element.text
                )
            }
            Change::DeleteElement(table, set, element) => {
                write!(
                    f,
                    "NFT_MSG_DELSETELEM({table} {set} {{ {} }})",
                    element.text
                )
            }
        }
    }
}

impl Change<'_> {
    pub(super) fn table(&self) -> Table<'_> {
        match self {
            Change::AddTable(table)
            | Change::DeleteTable(table)
            | Change::AddChain(table, ..)
            | Change::FlushChain(table, _)
            | Change::AddRule(table, ..)
            | Change::AddSet(table, _)
            | Change::AddElement(table, ..)
            | Change::DeleteElement(table, ..) => *table,
        }
    }

    pub(super) fn kind(&self) -> (u16, u16) {
        match self {
            Change::AddTable(_) => (NFT_MSG_NEWTABLE, NLM_F_CREATE),
            Change::DeleteTable(_) => (NFT_MSG_DELTABLE, 0),
            Change::AddChain(..) => (NFT_MSG_NEWCHAIN, NLM_F_CREATE),
            Change::FlushChain(..) => (NFT_MSG_DELRULE, 0),
            Change::AddRule(..) => (NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND),
            Change::AddSet(..) => (NFT_MSG_NEWSET, NLM_F_CREATE),
            Change::AddElement(..) => (NFT_MSG_NEWSETELEM, NLM_F_CREATE),
            Change::DeleteElement(..) => (NFT_MSG_DELSETELEM, 0),
        }
    }

    /// Writes the change's attributes; `id` tells the sets of a batch apart.
    pub(super) fn write(&self, id: u32, message: &mut Writer<'_>) {
        message.text(1, self.table().name);
        match self {
            Change::AddTable(_) | Change::DeleteTable(_) => {}
            Change::AddChain(_, chain, hook) => {
                message.text(3, chain);
                if let Some(hook) = hook {
                    message.nested(4, |place| {
                        place.number(1, hook.point as u32);
                        place.bytes(2, &hook.priority.to_be_bytes());
                    });
                    message.number(5, 1);
                    message.text(7, if hook.nat { "nat" } else { "filter" });
                }
            }
            Change::FlushChain(_, chain) => message.text(2, chain),
            Change::AddRule(_, chain, expressions) => {
                message.text(2, chain);
                message.nested(4, |list| {
                    for expression in expressions {
                        expression.write(list);
                    }
                });
            }
            Change::AddSet(_, set) => write_set(set, id, message),
            Change::AddElement(_, set, element) | Change::DeleteElement(_, set, element) => {
                message.text(2, set);
                message.nested(3, |list| write_element(element, list));
            }
        }
    }
}

fn write_set(set: &Set<'_>, id: u32, message: &mut Writer<'_>) {
    const NFT_SET_INTERVAL: u32 = 4;
    const NFT_SET_MAP: u32 = 8;
    let (key, key_length) = joined(set.key);
    let (value, value_length) = joined(set.value);
    let mut flags = 0;
    if set.interval {
        flags |= NFT_SET_INTERVAL;
    }
    if value_length > 0 {
        flags |= NFT_SET_MAP;
    }
    message.text(2, set.name);
    message.number(3, flags);
    message.number(4, key);
    message.number(5, key_length);
    if value_length > 0 {
        message.number(6, value);
        message.number(7, value_length);
    }
    message.number(10, id);
    if set.key == [DataType::DeviceName] {
        // For `nft list` alone: keys are text, not a number in network order.
        const NFTNL_UDATA_SET_KEYBYTEORDER: u8 = 0;
        const BYTEORDER_HOST_ENDIAN: u32 = 1;
        let mut remark = vec![NFTNL_UDATA_SET_KEYBYTEORDER, 4];
        remark.extend(BYTEORDER_HOST_ENDIAN.to_ne_bytes());
        message.bytes(13, &remark);
    }
}

fn write_element(element: &Element, list: &mut Writer<'_>) {
    const NFT_SET_ELEM_INTERVAL_END: u32 = 1;
    list.nested(1, |item| {
        item.nested(1, |key| key.bytes(1, &element.key));
        if !element.value.is_empty() {
            item.nested(2, |value| value.bytes(1, &element.value));
        }
    });
    if let Some(end) = &element.end {
        list.nested(1, |item| {
            item.nested(1, |key| key.bytes(1, end));
            item.number(3, NFT_SET_ELEM_INTERVAL_END);
        });
    }
}

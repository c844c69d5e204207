//! What can be asked of routing netlink, as values, and their messages.

use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoBridge, InfoBridgePort, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoPortData,
    InfoPortKind, InfoVeth, IpVlanMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    MacVlanMode,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

/// A hardware address.
pub type Mac = [u8; 6];

/// One change of links, addresses or routes.
#[derive(Debug, Clone)]
pub enum Request<'a> {
    /// Makes a bridge, not yet in service.
    CreateBridge {
        /// Its name.
        name: &'a str,
        /// Its hardware address.
        mac: Mac,
        /// The largest packet.
        mtu: u32,
        /// Frames between its ports pass the host's packet filter.
        filtered: bool,
    },
    /// Makes a veth pair, this end up and on a bridge, the other born down in another namespace.
    CreateVeth(Veth<'a>),
    /// Makes a link that shares another one's wire, born down in another namespace.
    CreateSublink(Sublink<'a>),
    /// Changes a link.
    SetLink {
        /// Which.
        index: u32,
        /// What.
        change: LinkChange<'a>,
    },
    /// Lets the frames between a bridge's ports pass the host's packet filter.
    FilterBridge {
        /// The bridge.
        index: u32,
    },
    /// Removes a link.
    DeleteLink {
        /// Its name.
        name: &'a str,
    },
    /// Gives a link an address, usable at once.
    AddAddress {
        /// The link.
        index: u32,
        /// The address.
        address: IpAddr,
        /// The length of its network's prefix.
        prefix: u8,
    },
    /// Takes an address from a link.
    DeleteAddress {
        /// The link.
        index: u32,
        /// The address.
        address: IpAddr,
        /// The length of its network's prefix.
        prefix: u8,
    },
    /// Adds a route.
    AddRoute(Route),
    /// Adds a route in the place of the one to the same network.
    SetRoute(Route),
    /// Removes a route.
    DeleteRoute(Route),
}

/// A veth pair.
#[derive(Debug, Clone)]
pub struct Veth<'a> {
    /// The name of this end.
    pub name: &'a str,
    /// The bridge this end belongs to.
    pub master: Option<u32>,
    /// The name of the other end.
    pub peer: &'a str,
    /// The other end's hardware address.
    pub peer_mac: Mac,
    /// The namespace of the other end.
    pub peer_namespace: BorrowedFd<'a>,
    /// The largest packet of both.
    pub mtu: u32,
}

/// A link that shares another one's wire.
#[derive(Debug, Clone)]
pub struct Sublink<'a> {
    /// Its name.
    pub name: &'a str,
    /// Whose wire.
    pub parent: u32,
    /// How.
    pub sharing: Sharing,
    /// Its hardware address; one that shares its parent's has none of its own.
    pub mac: Option<Mac>,
    /// The largest packet; the parent's without one.
    pub mtu: Option<u32>,
    /// Where it is born.
    pub namespace: BorrowedFd<'a>,
}

/// How links share a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Each has a hardware address; those of one wire reach one another.
    MacvlanBridge,
    /// They do not reach one another.
    MacvlanPrivate,
    /// They reach one another by a switch that sends frames back.
    MacvlanVepa,
    /// One has the wire for itself.
    MacvlanPassthru,
    /// All have the parent's hardware address, told apart by address.
    IpvlanL2,
    /// The parent routes between them.
    IpvlanL3,
    /// The same, and the host's packet filter sees it.
    IpvlanL3s,
}

/// A change of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkChange<'a> {
    /// Takes it into service.
    Up,
    /// Takes it out of service.
    Down,
    /// Gives it a remark.
    Alias(&'a str),
    /// As a port of a bridge: frames may leave by the port they came in by.
    Hairpin(bool),
    /// As a port of a bridge: neither unknown unicast nor learning.
    Isolated(bool),
}

/// A route to a network; a prefix of length 0 is the default route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The network.
    pub destination: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
    /// The next hop; without one the network is on the link.
    pub gateway: Option<IpAddr>,
    /// The link; the kernel finds it from the gateway.
    pub index: Option<u32>,
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::CreateBridge { name, .. } => write!(f, "RTM_NEWLINK(bridge {name})"),
            Request::CreateVeth(veth) => {
                write!(f, "RTM_NEWLINK(veth {} peer {})", veth.name, veth.peer)
            }
            Request::CreateSublink(link) => write!(
                f,
                "RTM_NEWLINK({} on index {}, {:?})",
                link.name, link.parent, link.sharing
            ),
            Request::SetLink { index, change } => {
                write!(f, "RTM_NEWLINK(index {index}, {change:?})")
            }
            Request::FilterBridge { index } => {
                write!(f, "RTM_NEWLINK(index {index}, nf_call_iptables)")
            }
            Request::DeleteLink { name } => write!(f, "RTM_DELLINK({name})"),
            Request::AddAddress {
                index,
                address,
                prefix,
            } => write!(f, "RTM_NEWADDR({address}/{prefix} index {index})"),
            Request::DeleteAddress {
                index,
                address,
                prefix,
            } => write!(f, "RTM_DELADDR({address}/{prefix} index {index})"),
            Request::AddRoute(route) => write!(f, "RTM_NEWROUTE({route})"),
            Request::SetRoute(route) => write!(f, "RTM_NEWROUTE({route}, replace)"),
            Request::DeleteRoute(route) => write!(f, "RTM_DELROUTE({route})"),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.destination, self.prefix)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(index) = self.index {
            write!(f, " index {index}")?;
        }
        Ok(())
    }
}

impl Request<'_> {
    /// Appends the message to a datagram.
    pub(super) fn encode(&self, sequence: u32, datagram: &mut Vec<u8>) {
        let (message, flags) = self.message();
        append(message, flags | NLM_F_ACK, sequence, datagram);
    }

    fn message(&self) -> (RouteNetlinkMessage, u16) {
        let new = NLM_F_CREATE | NLM_F_EXCL;
        match self {
            Request::CreateBridge {
                name,
                mac,
                mtu,
                filtered,
            } => (
                RouteNetlinkMessage::NewLink(bridge(name, *mac, *mtu, *filtered)),
                new,
            ),
            Request::CreateVeth(veth) => (RouteNetlinkMessage::NewLink(veth.message()), new),
            Request::CreateSublink(link) => (RouteNetlinkMessage::NewLink(link.message()), new),
            Request::SetLink { index, change } => {
                (RouteNetlinkMessage::SetLink(change.message(*index)), 0)
            }
            Request::FilterBridge { index } => {
                let mut message = LinkMessage::default();
                message.header.index = *index;
                message.attributes.push(LinkAttribute::LinkInfo(vec![
                    LinkInfo::Kind(InfoKind::Bridge),
                    LinkInfo::Data(InfoData::Bridge(filtered())),
                ]));
                (RouteNetlinkMessage::NewLink(message), 0)
            }
            Request::DeleteLink { name } => {
                let mut message = LinkMessage::default();
                message
                    .attributes
                    .push(LinkAttribute::IfName((*name).to_owned()));
                (RouteNetlinkMessage::DelLink(message), 0)
            }
            Request::AddAddress {
                index,
                address,
                prefix,
            } => (
                RouteNetlinkMessage::NewAddress(address_message(*index, *address, *prefix)),
                NLM_F_CREATE | NLM_F_REPLACE,
            ),
            Request::DeleteAddress {
                index,
                address,
                prefix,
            } => (
                RouteNetlinkMessage::DelAddress(address_message(*index, *address, *prefix)),
                0,
            ),
            Request::AddRoute(route) => (RouteNetlinkMessage::NewRoute(route.message()), new),
            Request::SetRoute(route) => (
                RouteNetlinkMessage::NewRoute(route.message()),
                NLM_F_CREATE | NLM_F_REPLACE,
            ),
            Request::DeleteRoute(route) => (RouteNetlinkMessage::DelRoute(route.message()), 0),
        }
    }
}

/// Appends any message of routing netlink as a request.
pub(super) fn append(
    message: RouteNetlinkMessage,
    flags: u16,
    sequence: u32,
    datagram: &mut Vec<u8>,
) {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
    message.finalize();
    let start = datagram.len();
    datagram.resize(start + super::wire::align(message.buffer_len()), 0);
    message.serialize(&mut datagram[start..]);
}

fn set_up(message: &mut LinkMessage) {
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
}

/// Frames between the ports of such a bridge pass the host's packet filter.
fn filtered() -> Vec<InfoBridge> {
    vec![
        InfoBridge::NfCallIpTables(true),
        InfoBridge::NfCallIp6Tables(true),
    ]
}

fn bridge(name: &str, mac: Mac, mtu: u32, is_filtered: bool) -> LinkMessage {
    let mut message = LinkMessage::default();
    let options = match is_filtered {
        true => filtered(),
        false => Vec::new(),
    };
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(options)),
        ]),
    ];
    message
}

impl Veth<'_> {
    fn message(&self) -> LinkMessage {
        // Up it cannot be: the kernel joins the two only after it has made both.
        let mut peer = LinkMessage::default();
        peer.attributes = vec![
            LinkAttribute::IfName(self.peer.to_owned()),
            LinkAttribute::Address(self.peer_mac.to_vec()),
            LinkAttribute::Mtu(self.mtu),
            LinkAttribute::NetNsFd(self.peer_namespace.as_raw_fd()),
        ];
        let mut message = LinkMessage::default();
        set_up(&mut message);
        message.attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Mtu(self.mtu),
        ];
        if let Some(master) = self.master {
            message.attributes.push(LinkAttribute::Controller(master));
        }
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        message
    }
}

impl Sublink<'_> {
    fn message(&self) -> LinkMessage {
        let macvlan = |mode| {
            let mode = vec![InfoMacVlan::Mode(mode)];
            (InfoKind::MacVlan, InfoData::MacVlan(mode))
        };
        let ipvlan = |mode| {
            let mode = vec![InfoIpVlan::Mode(mode)];
            (InfoKind::IpVlan, InfoData::IpVlan(mode))
        };
        let (kind, data) = match self.sharing {
            Sharing::MacvlanBridge => macvlan(MacVlanMode::Bridge),
            Sharing::MacvlanPrivate => macvlan(MacVlanMode::Private),
            Sharing::MacvlanVepa => macvlan(MacVlanMode::Vepa),
            Sharing::MacvlanPassthru => macvlan(MacVlanMode::Passthrough),
            Sharing::IpvlanL2 => ipvlan(IpVlanMode::L2),
            Sharing::IpvlanL3 => ipvlan(IpVlanMode::L3),
            Sharing::IpvlanL3s => ipvlan(IpVlanMode::L3S),
        };
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.push(LinkAttribute::IfName(self.name.to_owned()));
        attributes.push(LinkAttribute::Link(self.parent));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.push(LinkAttribute::NetNsFd(self.namespace.as_raw_fd()));
        attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(kind),
            LinkInfo::Data(data),
        ]));
        message
    }
}

impl LinkChange<'_> {
    fn message(self, index: u32) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        match self {
            LinkChange::Up => set_up(&mut message),
            LinkChange::Down => message.header.change_mask = LinkFlags::Up,
            LinkChange::Alias(text) => message
                .attributes
                .push(LinkAttribute::IfAlias(text.to_owned())),
            LinkChange::Hairpin(on) => port(&mut message, InfoBridgePort::HairpinMode(on)),
            LinkChange::Isolated(on) => port(&mut message, InfoBridgePort::Isolated(on)),
        }
        message
    }
}

fn port(message: &mut LinkMessage, option: InfoBridgePort) {
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(vec![option])),
    ]));
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    match address {
        IpAddr::V4(address) if prefix < 31 => {
            let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = (u32::from(address) | hosts).into();
            message
                .attributes
                .push(AddressAttribute::Broadcast(broadcast));
        }
        IpAddr::V4(_) => {}
        // The address is ours alone by construction; waiting for a duplicate would cost a second.
        IpAddr::V6(_) => message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad)),
    }
    message
}

impl Route {
    /// The default route over a gateway.
    pub fn default_via(gateway: IpAddr) -> Self {
        let destination = match gateway {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        };
        Self {
            destination,
            prefix: 0,
            gateway: Some(gateway),
            index: None,
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: family(self.destination),
            destination_prefix_length: self.prefix,
            source_prefix_length: 0,
            tos: 0,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: if self.gateway.is_some() {
                RouteScope::Universe
            } else {
                RouteScope::Link
            },
            kind: RouteType::Unicast,
            flags: RouteFlags::empty(),
        };
        if self.prefix > 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(self.destination.into()));
        }
        if let Some(gateway) = self.gateway {
            message
                .attributes
                .push(RouteAttribute::Gateway(gateway.into()));
        }
        if let Some(index) = self.index {
            message.attributes.push(RouteAttribute::Oif(index));
        }
        message
    }
}

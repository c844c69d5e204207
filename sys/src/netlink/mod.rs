//! Routing netlink: a typed blocking socket, links, addresses, routes.
//!
//! Several requests travel in one datagram and their answers are read together. The only module
//! that names the types of netlink-packet-route.

mod request;
mod visit;
pub(crate) mod wire;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;

use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

pub use self::request::{LinkChange, Mac, Request, Route, Sharing, Sublink, Veth};
pub use self::visit::visit;
use self::wire::{Answer, Frame, frames};
use crate::error::{Result, SysError, SysResultExt};

/// Large enough for what the kernel puts into one datagram of a dump.
const BUFFER: usize = 32 * 1024;

/// A link as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`; empty for hardware and loopback.
    pub kind: String,
    /// The bridge it belongs to.
    pub master: Option<u32>,
    /// It is in service.
    pub up: bool,
    /// The remark somebody gave it.
    pub alias: String,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// The largest packet.
    pub mtu: u32,
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The link.
    pub index: u32,
    /// The address.
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
}

/// One request of a batch was refused; prints as that request.
#[derive(Debug)]
pub struct BatchError {
    /// Which of the batch, from 0.
    pub index: usize,
    /// The request as a call, and the kernel's answer.
    pub error: SysError,
}

impl std::fmt::Display for BatchError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<BatchError> for SysError {
    fn from(refused: BatchError) -> Self {
        refused.error
    }
}

/// A blocking socket of routing netlink; it belongs to the namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    datagram: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Socket {
    /// Opens a socket in the caller's namespace.
    ///
    /// # Errors
    /// Of `socket` and `setsockopt`.
    pub fn open() -> Result<Self> {
        let socket =
            netlink_sys::Socket::new(NETLINK_ROUTE).call(|| "socket(AF_NETLINK, NETLINK_ROUTE)")?;
        // Both only improve messages and lookups; a kernel without them works as well.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self {
            socket,
            sequence: 0,
            datagram: Vec::new(),
            buffer: vec![0; BUFFER].into_boxed_slice(),
        })
    }

    /// Opens a socket in another network namespace. The caller must have one thread.
    ///
    /// # Errors
    /// Of `setns` and of [`Socket::open`].
    pub fn open_in(namespace: BorrowedFd<'_>) -> Result<Self> {
        visit(namespace, Self::open)?
    }

    /// Makes all changes, in order, in one datagram. A refused request does not stop those after
    /// it.
    ///
    /// # Errors
    /// [`BatchError`] names the first that was refused.
    pub fn batch(&mut self, requests: &[Request<'_>]) -> std::result::Result<(), BatchError> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            request.encode(self.sequence, &mut datagram);
        }
        let refused = self.exchange(&datagram, first, requests);
        self.datagram = datagram;
        refused
    }

    /// Makes one change.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn request(&mut self, request: &Request<'_>) -> Result<()> {
        self.batch(std::slice::from_ref(request))
            .map_err(SysError::from)
    }

    fn exchange(
        &mut self,
        datagram: &[u8],
        first: u32,
        requests: &[Request<'_>],
    ) -> std::result::Result<(), BatchError> {
        let whole = |error| BatchError { index: 0, error };
        self.socket
            .send(datagram, 0)
            .call(|| format!("sendto(NETLINK_ROUTE, {} requests)", requests.len()))
            .map_err(whole)?;
        let mut waiting = requests.len();
        let mut refused: Option<BatchError> = None;
        while waiting > 0 {
            let length = self.receive().map_err(whole)?;
            for frame in frames(&self.buffer[..length]) {
                let index = frame.sequence.wrapping_sub(first) as usize;
                let (Some(answer), Some(request)) = (frame.answer(), requests.get(index)) else {
                    continue;
                };
                waiting = waiting.saturating_sub(1);
                if let Answer::Refused(errno, reason) = answer
                    && refused.as_ref().is_none_or(|known| index < known.index)
                {
                    let error = refusal(request.to_string(), errno, reason);
                    refused = Some(BatchError { index, error });
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    fn receive(&mut self) -> Result<usize> {
        loop {
            let mut room = &mut self.buffer[..];
            match self.socket.recv(&mut room, 0) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.call(|| "recvfrom(NETLINK_ROUTE)"),
            }
        }
    }

    /// The link of this name, if there is one.
    ///
    /// # Errors
    /// Of the socket.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        let asked = RouteNetlinkMessage::GetLink(message);
        let mut found = None;
        let call = || format!("RTM_GETLINK({name})");
        match self.ask(asked, 0, call, |answer| {
            if let RouteNetlinkMessage::NewLink(message) = answer {
                found = Some(Link::from(message));
            }
        }) {
            Ok(()) => Ok(found),
            Err(error) if error.errno() == libc::ENODEV => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All links of the namespace.
    ///
    /// # Errors
    /// Of the socket.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let mut all = Vec::new();
        let asked = RouteNetlinkMessage::GetLink(LinkMessage::default());
        self.ask(
            asked,
            NLM_F_DUMP,
            || "RTM_GETLINK(dump)".to_owned(),
            |answer| {
                if let RouteNetlinkMessage::NewLink(message) = answer {
                    all.push(Link::from(message));
                }
            },
        )?;
        Ok(all)
    }

    /// The addresses of one link, or of all.
    ///
    /// # Errors
    /// Of the socket.
    pub fn addresses(&mut self, index: Option<u32>) -> Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.header.index = index.unwrap_or(0);
        let asked = RouteNetlinkMessage::GetAddress(message);
        let mut all = Vec::new();
        self.ask(
            asked,
            NLM_F_DUMP,
            || "RTM_GETADDR(dump)".to_owned(),
            |answer| {
                if let RouteNetlinkMessage::NewAddress(message) = answer
                    && let Some(address) = address(&message)
                    && index.is_none_or(|index| index == address.index)
                {
                    all.push(address);
                }
            },
        )?;
        Ok(all)
    }

    /// The routes of the main table to networks, of both families.
    ///
    /// # Errors
    /// Of the socket.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let mut all = Vec::new();
        let mut message = RouteMessage::default();
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        let asked = RouteNetlinkMessage::GetRoute(message);
        self.ask(
            asked,
            NLM_F_DUMP,
            || "RTM_GETROUTE(dump)".to_owned(),
            |answer| {
                if let RouteNetlinkMessage::NewRoute(message) = answer {
                    all.extend(route(&message));
                }
            },
        )?;
        Ok(all)
    }

    /// Sends one question and gives every answer to `each`, until the dump or the request is done.
    fn ask(
        &mut self,
        question: RouteNetlinkMessage,
        flags: u16,
        call: impl Fn() -> String,
        mut each: impl FnMut(RouteNetlinkMessage),
    ) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        self.datagram.clear();
        request::append(question, flags, self.sequence, &mut self.datagram);
        self.socket.send(&self.datagram, 0).call(&call)?;
        loop {
            let length = self.receive()?;
            for frame in frames(&self.buffer[..length]) {
                if frame.sequence != self.sequence {
                    continue;
                }
                match frame.answer() {
                    Some(Answer::Refused(errno, reason)) => {
                        return Err(refusal(call(), errno, reason));
                    }
                    Some(Answer::Acknowledged) => return Ok(()),
                    None => each(parse(&frame).call(&call)?),
                }
                if flags & NLM_F_DUMP == 0 && !frame.is_done() {
                    return Ok(());
                }
            }
        }
    }
}

fn parse(frame: &Frame<'_>) -> std::io::Result<RouteNetlinkMessage> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(frame.whole) {
        Ok(message) => match message.payload {
            NetlinkPayload::InnerMessage(message) => Ok(message),
            _ => Err(wire::nonsense()),
        },
        Err(_) => Err(wire::nonsense()),
    }
}

/// The refusal as a failed call; the kernel's own words come after the request.
fn refusal(call: String, errno: i32, reason: Option<String>) -> SysError {
    match reason {
        Some(reason) => SysError::new(format!("{call}: {reason}"), errno),
        None => SysError::new(call, errno),
    }
}

impl From<LinkMessage> for Link {
    fn from(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: String::new(),
            master: None,
            up: message.header.flags.contains(LinkFlags::Up),
            alias: String::new(),
            mac: None,
            mtu: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::IfAlias(alias) => link.alias = alias,
                LinkAttribute::Controller(master) => link.master = Some(master),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::Address(mac) => link.mac = mac.try_into().ok(),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        if let LinkInfo::Kind(kind) = info {
                            link.kind = kind_text(&kind);
                        }
                    }
                }
                _ => {}
            }
        }
        link
    }
}

fn kind_text(kind: &InfoKind) -> String {
    match kind {
        InfoKind::Other(text) => text.clone(),
        known => known.to_string(),
    }
}

fn address(message: &AddressMessage) -> Option<Address> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => found = Some(*address),
            AddressAttribute::Address(address) if found.is_none() => found = Some(*address),
            _ => {}
        }
    }
    found.map(|address| Address {
        index: message.header.index,
        address,
        prefix: message.header.prefix_len,
    })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let main = message.header.table == RouteHeader::RT_TABLE_MAIN;
    if !main || message.header.kind != RouteType::Unicast {
        return None;
    }
    let mut destination = None;
    let mut gateway = None;
    let mut index = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            _ => {}
        }
    }
    let unspecified = match message.header.address_family {
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    };
    Some(Route {
        destination: destination.unwrap_or(unspecified),
        prefix: message.header.destination_prefix_length,
        gateway,
        index,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

//! Connection tracking over netlink: finding and forgetting connections.
//!
//! A connection keeps the addresses it was given when it began. Where rules change, datagrams that
//! never pause would follow the old ones for ever: such connections have to be forgotten.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;

use crate::error::{Result, SysError, SysResultExt};
use crate::netlink::wire::{Answer, Frame, HEADER, align, attributes, frames};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const NESTED: u16 = 0x8000;
/// The header of netfilter's messages: family, version, resource.
const NFGENMSG: usize = 4;
const BUFFER: usize = 32 * 1024;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// The transport protocol's number.
    pub protocol: u8,
    /// Where its packets come from.
    pub source: IpAddr,
    /// And from which port; 0 where the protocol has none.
    pub source_port: u16,
    /// Where they go.
    pub destination: IpAddr,
    /// And to which port.
    pub destination_port: u16,
}

/// A connection: how it began, and what its answers look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The first packet's direction.
    pub original: Tuple,
    /// The answers' direction; differs from the reverse where addresses were translated.
    pub reply: Tuple,
    /// The original direction as the kernel wrote it, to name the connection by.
    name: Vec<u8>,
    family: u8,
}

impl Connection {
    /// Nothing was translated.
    pub fn is_plain(&self) -> bool {
        self.original.source == self.reply.destination
            && self.original.destination == self.reply.source
            && self.original.source_port == self.reply.destination_port
            && self.original.destination_port == self.reply.source_port
    }

    /// It goes to another address than it was sent to.
    pub fn is_redirected(&self) -> bool {
        self.original.destination != self.reply.source
            || self.original.destination_port != self.reply.source_port
    }
}

/// Forgets the connections of one family that a function picks; gives their number.
///
/// # Errors
/// Of the socket; a connection that ends meanwhile is no error.
pub fn forget(v4: bool, pick: impl Fn(&Connection) -> bool) -> Result<usize> {
    let socket = netlink_sys::Socket::new(NETLINK_NETFILTER)
        .call(|| "socket(AF_NETLINK, NETLINK_NETFILTER)")?;
    let picked: Vec<Connection> = list(&socket, v4)?.into_iter().filter(|c| pick(c)).collect();
    for connection in &picked {
        delete(&socket, connection)?;
    }
    Ok(picked.len())
}

fn list(socket: &netlink_sys::Socket, v4: bool) -> Result<Vec<Connection>> {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    let family = if v4 { AF_INET } else { AF_INET6 };
    let call = || "IPCTNL_MSG_CT_GET(dump)";
    let request = message(IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, &[]);
    socket.send(&request, 0).call(call)?;
    let mut all = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut room = &mut buffer[..];
        let length = match socket.recv(&mut room, 0) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            other => other.call(call)?,
        };
        for frame in frames(&buffer[..length]) {
            match frame.answer() {
                Some(Answer::Acknowledged) => return Ok(all),
                Some(Answer::Refused(errno, _)) => return Err(SysError::new(call(), errno)),
                None => all.extend(connection(&frame)),
            }
        }
    }
}

fn delete(socket: &netlink_sys::Socket, connection: &Connection) -> Result<()> {
    let call = || format!("IPCTNL_MSG_CT_DELETE({:?})", connection.original);
    let request = message(
        IPCTNL_MSG_CT_DELETE,
        NLM_F_ACK,
        connection.family,
        &connection.name,
    );
    socket.send(&request, 0).call(call)?;
    let mut buffer = [0; 1024];
    let mut room = &mut buffer[..];
    let length = socket.recv(&mut room, 0).call(call)?;
    for frame in frames(&buffer[..length]) {
        if let Some(Answer::Refused(errno, _)) = frame.answer()
            && errno != libc::ENOENT
        {
            return Err(SysError::new(call(), errno));
        }
    }
    Ok(())
}

/// A request about connections; `name` is the content of the original direction's attribute.
fn message(kind: u16, flags: u16, family: u8, name: &[u8]) -> Vec<u8> {
    let mut data = vec![0; HEADER];
    data.extend([family, 0, 0, 0]);
    if !name.is_empty() {
        let length = u16::try_from(4 + name.len()).expect("a direction is below a hundred bytes");
        data.extend(length.to_ne_bytes());
        data.extend((CTA_TUPLE_ORIG | NESTED).to_ne_bytes());
        data.extend(name);
        data.resize(align(data.len()), 0);
    }
    let length = u32::try_from(data.len()).expect("a request is small");
    data[..4].copy_from_slice(&length.to_ne_bytes());
    data[4..6].copy_from_slice(&(NFNL_SUBSYS_CTNETLINK << 8 | kind).to_ne_bytes());
    data[6..8].copy_from_slice(&(NLM_F_REQUEST | flags).to_ne_bytes());
    data[8..12].copy_from_slice(&1_u32.to_ne_bytes());
    data
}

fn connection(frame: &Frame<'_>) -> Option<Connection> {
    let family = *frame.payload.first()?;
    let (mut original, mut reply) = (None, None);
    for (kind, value) in attributes(frame.payload.get(NFGENMSG..)?) {
        match kind {
            CTA_TUPLE_ORIG => original = Some((tuple(value)?, value.to_vec())),
            CTA_TUPLE_REPLY => reply = tuple(value),
            _ => {}
        }
    }
    let (original, name) = original?;
    Some(Connection {
        original,
        reply: reply?,
        name,
        family,
    })
}

fn tuple(data: &[u8]) -> Option<Tuple> {
    const CTA_TUPLE_IP: u16 = 1;
    const CTA_TUPLE_PROTO: u16 = 2;
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut source_port, mut destination_port) = (None, 0, 0);
    for (kind, value) in attributes(data) {
        for (part, value) in attributes(value) {
            match (kind, part) {
                (CTA_TUPLE_IP, 1 | 3) => source = address(value),
                (CTA_TUPLE_IP, 2 | 4) => destination = address(value),
                (CTA_TUPLE_PROTO, 1) => protocol = value.first().copied(),
                (CTA_TUPLE_PROTO, 2) => source_port = port(value)?,
                (CTA_TUPLE_PROTO, 3) => destination_port = port(value)?,
                _ => {}
            }
        }
    }
    Some(Tuple {
        protocol: protocol?,
        source: source?,
        source_port,
        destination: destination?,
        destination_port,
    })
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(*value.first_chunk::<4>()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(*value.first_chunk::<16>()?))),
        _ => None,
    }
}

fn port(value: &[u8]) -> Option<u16> {
    value.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

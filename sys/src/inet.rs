//! Internet sockets: listening, connecting without waiting, datagrams that know where they arrived.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt as option,
};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, Protocol, SocketFlags, SocketType, ipproto, sockopt};

use crate::error::{Result, SysResultExt};

/// How many connections the kernel keeps that were not yet accepted.
const BACKLOG: i32 = 4096;

/// The transports that have ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, one stream per socket.
    Sctp,
}

impl Transport {
    fn kind(self) -> (SocketType, Protocol) {
        match self {
            Transport::Tcp => (SocketType::STREAM, ipproto::TCP),
            Transport::Udp => (SocketType::DGRAM, ipproto::UDP),
            Transport::Sctp => (SocketType::STREAM, ipproto::SCTP),
        }
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::INET,
        IpAddr::V6(_) => AddressFamily::INET6,
    }
}

fn open(address: IpAddr, transport: Transport) -> Result<OwnedFd> {
    let (kind, protocol) = transport.kind();
    net::socket_with(
        family(address),
        kind,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(protocol),
    )
    .call(|| format!("socket({:?}, {transport:?})", family(address)))
}

/// Opens a non-blocking socket bound to the address; streams listen. An IPv6 socket takes IPv6
/// only, so that the same port can be had for IPv4 beside it.
///
/// # Errors
/// Of `socket`, `bind` and `listen`; `EADDRINUSE`, `EADDRNOTAVAIL` and `EPROTONOSUPPORT` are the
/// ones to expect.
pub fn listen(address: SocketAddr, transport: Transport) -> Result<OwnedFd> {
    let socket = open(address.ip(), transport)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true).call(|| "setsockopt(IPV6_V6ONLY)")?;
    }
    if transport == Transport::Udp {
        want_destination(&socket, address.ip())?;
    } else {
        sockopt::set_socket_reuseaddr(&socket, true).call(|| "setsockopt(SO_REUSEADDR)")?;
    }
    net::bind(&socket, &address).call(|| format!("bind({address})"))?;
    if transport != Transport::Udp {
        net::listen(&socket, BACKLOG).call(|| format!("listen({address})"))?;
    }
    Ok(socket)
}

/// Opens a non-blocking socket and begins to connect it; readiness for writing tells the end of a
/// stream's handshake, [`connected`] its outcome.
///
/// # Errors
/// Of `socket` and `connect`, but for `EINPROGRESS`.
pub fn connect(address: SocketAddr, transport: Transport) -> Result<OwnedFd> {
    let socket = open(address.ip(), transport)?;
    match net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(errno) => Err(errno).call(|| format!("connect({address})")),
    }
}

/// The outcome of a connection that was under way.
///
/// # Errors
/// What the peer or the network answered.
pub fn connected(socket: impl AsFd) -> Result<()> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(errno).call(|| "connect"),
    }
}

/// The address that a socket is bound to.
///
/// # Errors
/// Of `getsockname`; `EAFNOSUPPORT` for a socket that is none of the internet's.
pub fn local_address(socket: impl AsFd) -> Result<SocketAddr> {
    net::getsockname(socket)
        .and_then(SocketAddr::try_from)
        .call(|| "getsockname")
}

/// Sends small writes at once.
///
/// # Errors
/// Of `setsockopt`.
pub fn no_delay(socket: impl AsFd) -> Result<()> {
    sockopt::set_tcp_nodelay(socket, true).call(|| "setsockopt(TCP_NODELAY)")
}

/// A datagram that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its length.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// The address of ours that it was sent to.
    pub to: IpAddr,
}

fn want_destination(socket: &OwnedFd, address: IpAddr) -> Result<()> {
    match address {
        IpAddr::V4(_) => setsockopt(socket, option::Ipv4PacketInfo, &true),
        IpAddr::V6(_) => setsockopt(socket, option::Ipv6RecvPacketInfo, &true),
    }
    .call(|| "setsockopt(PKTINFO)")
}

/// Receives one datagram on a socket of [`listen`]; `None` when none waits.
///
/// # Errors
/// Of `recvmsg`.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Option<Arrival>> {
    let mut control = nix::cmsg_space!(nix::libc::in6_pktinfo);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = match recvmsg::<SockaddrStorage>(
        socket.as_fd().as_raw_fd(),
        &mut slices,
        Some(&mut control),
        MsgFlags::MSG_DONTWAIT,
    ) {
        Ok(message) => message,
        Err(nix::Error::EAGAIN) => return Ok(None),
        Err(error) => return Err(error).call(|| "recvmsg"),
    };
    let length = message.bytes;
    let Some(from) = message.address.as_ref().and_then(socket_address) else {
        return Ok(None);
    };
    let mut to = unspecified(from.ip());
    for control in message.cmsgs().call(|| "recvmsg")? {
        match control {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                to = IpAddr::V4(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                to = IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr));
            }
            _ => {}
        }
    }
    Ok(Some(Arrival { length, from, to }))
}

/// Sends one datagram on a socket of [`listen`] so that it comes from the given address of ours.
/// `false` when the socket's buffer is full.
///
/// # Errors
/// Of `sendmsg`.
pub fn send_from(socket: impl AsFd, data: &[u8], own: IpAddr, to: SocketAddr) -> Result<bool> {
    let slices = [IoSlice::new(data)];
    let raw = socket.as_fd().as_raw_fd();
    let target = SockaddrStorage::from(to);
    let sent = match own {
        IpAddr::V4(own) => {
            let info = nix::libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: nix::libc::in_addr {
                    s_addr: u32::from(own).to_be(),
                },
                ipi_addr: nix::libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(
                raw,
                &slices,
                &control,
                MsgFlags::MSG_DONTWAIT,
                Some(&target),
            )
        }
        IpAddr::V6(own) => {
            let info = nix::libc::in6_pktinfo {
                ipi6_addr: nix::libc::in6_addr {
                    s6_addr: own.octets(),
                },
                ipi6_ifindex: scope(to),
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(
                raw,
                &slices,
                &control,
                MsgFlags::MSG_DONTWAIT,
                Some(&target),
            )
        }
    };
    match sent {
        Ok(_) => Ok(true),
        Err(nix::Error::EAGAIN) => Ok(false),
        Err(error) => Err(error).call(|| format!("sendmsg({to})")),
    }
}

fn scope(address: SocketAddr) -> u32 {
    match address {
        SocketAddr::V4(_) => 0,
        SocketAddr::V6(address) => address.scope_id(),
    }
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = storage.as_sockaddr_in() {
        return Some(SocketAddr::V4((*v4).into()));
    }
    storage
        .as_sockaddr_in6()
        .map(|v6| SocketAddr::V6((*v6).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn a_datagram_is_answered_from_where_it_was_sent_to() {
        let server = listen("0.0.0.0:0".parse().unwrap(), Transport::Udp).unwrap();
        let port = UdpSocket::from(server.try_clone().unwrap())
            .local_addr()
            .unwrap()
            .port();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(("127.0.0.2", port)).unwrap();
        client.send(b"ping").unwrap();
        let mut buffer = [0; 64];
        let arrival = loop {
            if let Some(arrival) = receive(&server, &mut buffer).unwrap() {
                break arrival;
            }
        };
        assert_eq!(arrival.to, IpAddr::from([127, 0, 0, 2]));
        assert!(send_from(&server, b"pong", arrival.to, arrival.from).unwrap());
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"pong");
        assert!(receive(&server, &mut buffer).unwrap().is_none());
    }

    #[test]
    fn an_address_in_use_says_so() {
        let first = listen("127.0.0.1:0".parse().unwrap(), Transport::Tcp).unwrap();
        let address = net::getsockname(&first).unwrap();
        let address: SocketAddr = address.try_into().unwrap();
        let error = listen(address, Transport::Tcp).unwrap_err();
        assert_eq!(error.errno(), libc::EADDRINUSE);
    }
}

//! The listening sockets of published ports, and Docker's words when one cannot be had.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::SysError;
use sys::inet::{self, Transport};

use super::{HostPort, Port, PortMap, Protocol};
use crate::hold::HoldError;

/// One published port on one address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Binding {
    /// The container's port.
    pub port: Port,
    /// The host's end.
    pub host: HostPort,
}

/// Why a port could not be published, in Docker's words. Docker puts in front of them
/// `driver failed programming external connectivity on endpoint NAME (ID): `.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another container has it.
    #[error("Bind for {0} failed: port is already allocated")]
    Allocated(HostPort),
    /// All ports of the range are taken.
    #[error("all ports are allocated")]
    Exhausted,
    /// The kernel refused the socket.
    #[error("Error starting userland proxy: {}", listen_text(.binding, .reason))]
    Listen {
        /// What was to be bound.
        binding: Binding,
        /// The kernel's answer in Go's words: they are part of Docker's text.
        reason: String,
        /// The failed call's error number.
        errno: i32,
    },
    /// The kernel does not know the protocol.
    #[error("Error starting userland proxy: protocol not supported")]
    Protocol(Protocol),
    /// The stored binding is no binding.
    #[error(transparent)]
    Spec(#[from] super::SpecError),
    /// The reservation's directory fails.
    #[error("cannot reserve the port")]
    Hold(#[from] HoldError),
}

fn listen_text(binding: &Binding, reason: &str) -> String {
    let family = if binding.host.ip.is_ipv4() { 4 } else { 6 };
    let protocol = binding.port.protocol;
    format!("listen {protocol}{family} {}: bind: {reason}", binding.host)
}

/// A bound socket of the host and the container's port it stands for.
#[derive(Debug)]
pub struct Socket {
    /// What it stands for.
    pub binding: Binding,
    fd: OwnedFd,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Binding {
    /// Binds the socket; a stream listens.
    ///
    /// # Errors
    /// [`BindError::Listen`] or [`BindError::Protocol`].
    pub fn open(self) -> Result<Socket, BindError> {
        let address = SocketAddr::new(self.host.ip, self.host.port);
        match inet::listen(address, transport(self.port.protocol)) {
            Ok(fd) => Ok(Socket { binding: self, fd }),
            Err(error) => Err(self.refused(&error)),
        }
    }

    fn refused(self, error: &SysError) -> BindError {
        let errno = Errno::from_raw_os_error(error.errno());
        if errno == Errno::PROTONOSUPPORT || errno == Errno::SOCKTNOSUPPORT {
            return BindError::Protocol(self.port.protocol);
        }
        BindError::Listen {
            binding: self,
            reason: error.reason().to_lowercase(),
            errno: error.errno(),
        }
    }
}

/// The transport of a protocol.
pub(crate) fn transport(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
        Protocol::Sctp => Transport::Sctp,
    }
}

impl Socket {
    /// `NetworkSettings.Ports` of a container with these sockets and exposed ports.
    pub fn map(sockets: &[Socket], exposed: &[Port]) -> PortMap {
        let mut map: PortMap = exposed.iter().map(|port| (*port, None)).collect();
        for socket in sockets {
            let hosts = map.entry(socket.binding.port).or_default();
            hosts.get_or_insert_default().push(socket.binding.host);
        }
        map
    }
}

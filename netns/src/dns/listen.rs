//! The resolver's sockets inside a container's network namespace.
//!
//! They are bound to ports that the kernel chooses, so that a program of the container can have
//! port 53 for itself, and two rules of nf_tables lead there what is sent to 127.0.0.11:53. The
//! rules rewrite ports and remember nothing: no connection is tracked, so that a flood of look-ups
//! fills no table of the kernel, and an answer may come late.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use sys::inet::{self, Transport};
use sys::nftables::{
    self, Base, Change, Expression, Family, Hook, HookPoint, Meta, Register, Table,
};
use sys::{Result, SysError};

/// Where programs of a container look names up.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// The port of DNS.
const PORT: u16 = 53;

/// Whose rules lead there.
pub(crate) const TABLE: Table<'static> = Table {
    family: Family::Ip,
    name: "rbox-dns",
};
/// Questions on their way, after the container's own rules have seen them.
const QUESTIONS: &str = "questions";
/// Answers on their way, before the container's own rules see them: to those it is one
/// conversation with port 53.
const ANSWERS: &str = "answers";

/// The resolver's sockets.
#[derive(Debug)]
pub struct Sockets {
    pub(super) udp: OwnedFd,
    pub(super) tcp: OwnedFd,
    redirected: bool,
}

impl Sockets {
    /// Opens the sockets in the caller's namespace, whose loopback must be up. Where the kernel
    /// has no nf_tables they are bound to port 53 itself.
    ///
    /// # Errors
    /// Of `bind`.
    pub fn open() -> Result<Self> {
        match Self::open_at(0).and_then(|sockets| sockets.redirect()) {
            Ok(sockets) => Ok(sockets),
            Err(redirect) => Self::open_at(PORT).map_err(|error| {
                SysError::new(format!("{error}, after {redirect}"), error.errno())
            }),
        }
    }

    fn open_at(port: u16) -> Result<Self> {
        let address = SocketAddr::from((ADDRESS, port));
        Ok(Self {
            udp: inet::listen(address, Transport::Udp)?,
            tcp: inet::listen(address, Transport::Tcp)?,
            redirected: false,
        })
    }

    fn redirect(self) -> Result<Self> {
        let (udp, tcp) = (
            inet::local_address(&self.udp)?,
            inet::local_address(&self.tcp)?,
        );
        let mut socket = nftables::Socket::open()?;
        socket
            .commit(&rules(udp.port(), tcp.port()))
            .map_err(|refused| refused.error)?;
        Ok(Self {
            redirected: true,
            ..self
        })
    }

    /// Sockets that were made elsewhere.
    #[cfg(test)]
    pub(super) fn from_parts(udp: OwnedFd, tcp: OwnedFd) -> Self {
        Self {
            udp,
            tcp,
            redirected: false,
        }
    }

    /// Port 53 is free for the container's own programs.
    pub fn is_redirected(&self) -> bool {
        self.redirected
    }
}

/// The commands that would make the same rules.
pub(crate) fn shell() -> Vec<String> {
    let mut lines = vec![
        format!("nft add table {TABLE}"),
        format!(
            "nft add chain {TABLE} {QUESTIONS} '{{ type filter hook postrouting priority 300; }}'"
        ),
        format!("nft add chain {TABLE} {ANSWERS} '{{ type filter hook output priority -300; }}'"),
    ];
    for transport in ["udp", "tcp"] {
        let port = format!("${}_PORT", transport.to_uppercase());
        lines.push(format!(
            "nft add rule {TABLE} {QUESTIONS} ip daddr {ADDRESS} {transport} dport {PORT} {transport} dport set {port}"
        ));
        lines.push(format!(
            "nft add rule {TABLE} {ANSWERS} ip saddr {ADDRESS} {transport} sport {port} {transport} sport set {PORT}"
        ));
    }
    lines
        .iter()
        .map(|line| format!("nsenter --net=/proc/$PID/ns/net {line}"))
        .collect()
}

fn rules(udp: u16, tcp: u16) -> Vec<Change<'static>> {
    let hook = |point, priority| {
        Some(Hook {
            nat: false,
            point,
            priority,
        })
    };
    let mut changes = vec![
        Change::AddTable(TABLE),
        Change::AddChain(TABLE, QUESTIONS, hook(HookPoint::Postrouting, 300)),
        Change::FlushChain(TABLE, QUESTIONS),
        Change::AddChain(TABLE, ANSWERS, hook(HookPoint::Output, -300)),
        Change::FlushChain(TABLE, ANSWERS),
    ];
    for (transport, port) in [(UDP, udp), (TCP, tcp)] {
        let question = rewrite(transport, Side::Destination, PORT, port);
        changes.push(Change::AddRule(TABLE, QUESTIONS, question));
        let answer = rewrite(transport, Side::Source, port, PORT);
        changes.push(Change::AddRule(TABLE, ANSWERS, answer));
    }
    changes
}

/// A transport's number, and where its checksum stands.
type Numbered = (u8, u32);
const UDP: Numbered = (17, 6);
const TCP: Numbered = (6, 16);

/// Whose address and port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Destination,
}

/// `ip daddr 127.0.0.11 udp dport … udp dport set …`, or the same of the source.
fn rewrite(
    (transport, checksum): Numbered,
    side: Side,
    from: u16,
    to: u16,
) -> Vec<Expression<'static>> {
    const R: Register = Register(0);
    let (address, port) = match side {
        Side::Source => (12, 0),
        Side::Destination => (16, 2),
    };
    let is = |value: &[u8]| Expression::Compare {
        register: R,
        inverted: false,
        value: value.to_vec(),
    };
    let load = |base, offset, length| Expression::Payload {
        base,
        offset,
        length,
        to: R,
    };
    vec![
        load(Base::Network, address, 4),
        is(&ADDRESS.octets()),
        Expression::Meta(Meta::Transport, R),
        is(&[transport]),
        load(Base::Transport, port, 2),
        is(&from.to_be_bytes()),
        Expression::Load {
            value: to.to_be_bytes().to_vec(),
            to: R,
        },
        Expression::Rewrite {
            offset: port,
            length: 2,
            from: R,
            checksum,
        },
    ]
}

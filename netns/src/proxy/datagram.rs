//! Datagrams through the proxy: a flow per client, forgotten when it has been idle.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use sys::inet::{self, Arrival, Transport};

use crate::slots::Slots;

/// How long a flow without datagrams is kept.
const IDLE: Duration = Duration::from_secs(90);

/// Who talks to which socket of ours, at which of our addresses.
type Who = (usize, SocketAddr, IpAddr);

/// All flows of a proxy.
#[derive(Debug)]
pub(super) struct Flows {
    slots: Slots<Flow>,
    known: HashMap<Who, usize>,
}

#[derive(Debug)]
struct Flow {
    who: Who,
    /// Connected to the container.
    socket: OwnedFd,
    used: Instant,
}

impl Flows {
    pub(super) fn new() -> Self {
        Self {
            slots: Slots::new(),
            known: HashMap::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Sends a client's datagram on; gives the number and socket of its flow if that is new.
    pub(super) fn forward(
        &mut self,
        listener: usize,
        arrival: Arrival,
        target: SocketAddr,
        data: &[u8],
    ) -> Option<(usize, BorrowedFd<'_>)> {
        let who = (listener, arrival.from, arrival.to);
        let known = self.known.get(&who).copied();
        let number = match known {
            Some(number) => number,
            None => {
                // A datagram that cannot be sent on is lost, as datagrams are.
                let socket = inet::connect(target, Transport::Udp).ok()?;
                let used = Instant::now();
                let number = self.slots.insert(Flow { who, socket, used });
                self.known.insert(who, number);
                number
            }
        };
        let flow = self.slots.get_mut(number)?;
        flow.used = Instant::now();
        // The error of an earlier datagram that nobody took is reported here: once more.
        if send(&flow.socket, data, SendFlags::NOSIGNAL).is_err() {
            let _ = send(&flow.socket, data, SendFlags::NOSIGNAL);
        }
        known.is_none().then(|| (number, flow.socket.as_fd()))
    }

    /// Receives one datagram of the container: the listener it must leave by, and its length.
    pub(super) fn receive(&mut self, number: usize, buffer: &mut [u8]) -> Option<(usize, usize)> {
        let flow = self.slots.get_mut(number)?;
        loop {
            match recv(&flow.socket, &mut *buffer, RecvFlags::empty()) {
                Ok((_, length)) => {
                    flow.used = Instant::now();
                    return Some((flow.who.0, length));
                }
                // Nobody listens in the container (yet); the flow goes when it has been idle.
                Err(Errno::CONNREFUSED | Errno::INTR) => {}
                Err(_) => return None,
            }
        }
    }

    /// Sends the container's datagram to the client, from the address that the client talks to.
    pub(super) fn reply(&mut self, number: usize, socket: BorrowedFd<'_>, data: &[u8]) {
        if let Some(flow) = self.slots.get_mut(number) {
            let (_, client, own) = flow.who;
            // A datagram that cannot be sent is lost, as datagrams are.
            let _ = inet::send_from(socket, data, own, client);
        }
    }

    pub(super) fn remove(&mut self, number: usize) {
        if let Some(flow) = self.slots.remove(number) {
            self.known.remove(&flow.who);
        }
    }

    /// Forgets flows that have been idle; their sockets leave epoll when they are closed.
    pub(super) fn expire(&mut self, now: Instant) {
        let idle: Vec<usize> = self
            .known
            .values()
            .copied()
            .filter(|number| {
                self.slots
                    .get(*number)
                    .is_none_or(|flow| now.duration_since(flow.used) >= IDLE)
            })
            .collect();
        for number in idle {
            self.remove(number);
        }
    }

    /// Makes room for a new flow.
    pub(super) fn drop_oldest(&mut self) {
        let oldest = self
            .known
            .values()
            .copied()
            .min_by_key(|number| self.slots.get(*number).map(|flow| flow.used));
        if let Some(number) = oldest {
            self.remove(number);
        }
    }
}

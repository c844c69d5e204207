//! The userland proxy: carries what the packet filter cannot redirect from host to container.
//!
//! That is traffic of the host to its own loopback, of containers to the host's addresses, and IPv6
//! to containers that have none. It is a state machine over one epoll descriptor: readable when
//! there is work, [`Proxy::dispatch`] does a bounded amount of it and never waits. It starts no
//! thread, keeps no buffer for a connection that flows, and takes no more descriptors than its
//! limit.

mod datagram;
mod stream;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use rustix::time::Timespec;
use sys::{Result, SysResultExt};

use self::datagram::Flows;
use self::stream::{Connection, Progress};
use crate::port::{Binding, Port, Protocol, Socket};
use crate::slots::Slots;
use crate::ticker::Ticker;

/// Bytes moved by one read.
const CHUNK: usize = 64 * 1024;
/// Events handled by one call.
const EVENTS: usize = 64;
/// Connections accepted, or datagrams moved, for one event.
const BURST: usize = 32;
/// How often idle flows are looked for.
const TICK: Duration = Duration::from_secs(10);
/// Descriptors left for everything else in the process.
const RESERVE: u64 = 64;
/// No proxy takes more connections and flows than this.
const MOST: u64 = 4096;

/// The proxy of one container.
#[derive(Debug)]
pub struct Proxy {
    epoll: OwnedFd,
    ticker: Ticker,
    listeners: Vec<Listener>,
    connections: Slots<Connection>,
    flows: Flows,
    scratch: Vec<u8>,
    limit: usize,
    paused: bool,
}

#[derive(Debug)]
struct Listener {
    socket: Socket,
    target: SocketAddr,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Timer,
    Listener(usize),
    Client(usize),
    Server(usize),
    Flow(usize),
}

impl Token {
    fn data(self) -> EventData {
        let (kind, index) = match self {
            Token::Timer => (0, 0),
            Token::Listener(index) => (1, index),
            Token::Client(index) => (2, index),
            Token::Server(index) => (3, index),
            Token::Flow(index) => (4, index),
        };
        EventData::new_u64((index as u64) << 3 | kind)
    }

    fn of(data: EventData) -> Option<Self> {
        let number = data.u64();
        let index = usize::try_from(number >> 3).ok()?;
        match number & 7 {
            0 => Some(Token::Timer),
            1 => Some(Token::Listener(index)),
            2 => Some(Token::Client(index)),
            3 => Some(Token::Server(index)),
            4 => Some(Token::Flow(index)),
            _ => None,
        }
    }
}

impl AsFd for Proxy {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Proxy {
    /// A proxy from the sockets to a container with these addresses. An IPv6 socket leads to the
    /// container's IPv4 address where it has no other.
    ///
    /// # Errors
    /// Of `epoll_create` and `timerfd_create`.
    pub fn new(sockets: Vec<Socket>, addresses: &[IpAddr]) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).call(|| "epoll_create1")?;
        let mut proxy = Self {
            epoll,
            ticker: Ticker::new(TICK)?,
            listeners: Vec::new(),
            connections: Slots::new(),
            flows: Flows::new(),
            scratch: Vec::new(),
            limit: limit(),
            paused: false,
        };
        proxy.watch(proxy.ticker.as_fd(), Token::Timer, EventFlags::IN)?;
        for socket in sockets {
            let host = socket.binding.host.ip;
            let Some(address) = target(host, addresses) else {
                continue;
            };
            let Port { number, .. } = socket.binding.port;
            let token = Token::Listener(proxy.listeners.len());
            proxy.watch(socket.as_fd(), token, EventFlags::IN)?;
            proxy.listeners.push(Listener {
                socket,
                target: SocketAddr::new(address, number),
            });
        }
        Ok(proxy)
    }

    /// Leads what arrives from now on to these addresses of the container.
    pub fn retarget(&mut self, addresses: &[IpAddr]) {
        for listener in &mut self.listeners {
            let binding = listener.socket.binding;
            if let Some(address) = target(binding.host.ip, addresses) {
                listener.target = SocketAddr::new(address, binding.port.number);
            }
        }
    }

    /// What is published through it.
    pub fn bindings(&self) -> Vec<Binding> {
        let listeners = self.listeners.iter();
        listeners.map(|listener| listener.socket.binding).collect()
    }

    /// Whether it has anything to listen to.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Connections and flows under way.
    pub fn load(&self) -> usize {
        self.connections.len() + self.flows.len()
    }

    /// Does the work that waits, at most a bounded amount: the descriptor stays readable if there
    /// is more. A connection that fails ends alone.
    ///
    /// # Errors
    /// Of `epoll_wait`: the proxy is broken as a whole.
    pub fn dispatch(&mut self) -> Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno).call(|| "epoll_wait"),
        }
        if !events.is_empty() && self.scratch.is_empty() {
            self.scratch = vec![0; CHUNK];
        }
        for event in events {
            let (flags, data) = (event.flags, event.data);
            match Token::of(data) {
                Some(Token::Timer) => self.tick(),
                Some(Token::Listener(index)) => self.arrive(index),
                Some(Token::Client(index)) => self.progress(index, true, flags),
                Some(Token::Server(index)) => self.progress(index, false, flags),
                Some(Token::Flow(index)) => self.answer(index),
                None => {}
            }
        }
        Ok(())
    }

    fn watch(&self, fd: BorrowedFd<'_>, token: Token, flags: EventFlags) -> Result<()> {
        epoll::add(&self.epoll, fd, token.data(), flags).call(|| "epoll_ctl(EPOLL_CTL_ADD)")
    }

    fn arrive(&mut self, index: usize) {
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        if listener.socket.binding.port.protocol == Protocol::Udp {
            self.datagrams(index);
        } else {
            self.accept(index);
        }
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..BURST {
            if self.load() >= self.limit {
                self.pause(true);
                return;
            }
            let Some(listener) = self.listeners.get(index) else {
                return;
            };
            let accepted = rustix::net::accept_with(
                &listener.socket,
                rustix::net::SocketFlags::CLOEXEC | rustix::net::SocketFlags::NONBLOCK,
            );
            match accepted {
                Ok(client) => self.connect(index, client),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.pause(true);
                    return;
                }
                // Nothing waits, or a client that has gone already.
                Err(_) => return,
            }
        }
    }

    /// Begins a connection to the container. Without one the client is closed, as by a program that
    /// does not answer.
    fn connect(&mut self, index: usize, client: OwnedFd) {
        let listener = &self.listeners[index];
        let protocol = listener.socket.binding.port.protocol;
        let transport = crate::port::transport(protocol);
        let Ok(server) = sys::inet::connect(listener.target, transport) else {
            return;
        };
        if protocol == Protocol::Tcp {
            // Only saves time; a socket that refuses works as well.
            let _ = sys::inet::no_delay(&client);
            let _ = sys::inet::no_delay(&server);
        }
        let number = self.connections.next();
        let connection = Connection::new(client, server);
        let (client, server) = connection.interest();
        let watched = [
            (connection.client(), Token::Client(number), client),
            (connection.server(), Token::Server(number), server),
        ]
        .into_iter()
        .all(|(fd, token, flags)| self.change(fd, token, EventFlags::empty(), flags));
        if watched {
            self.connections.insert(connection);
        }
    }

    fn progress(&mut self, index: usize, client: bool, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let before = connection.interest();
        let progress = connection.progress(client, flags, &mut self.scratch);
        match progress {
            Progress::Ended => {
                self.connections.remove(index);
                self.pause(false);
            }
            Progress::Open => self.rearm(index, before),
        }
    }

    /// Tells epoll what the connection waits for now.
    fn rearm(&mut self, index: usize, before: (EventFlags, EventFlags)) {
        let Some(connection) = self.connections.get(index) else {
            return;
        };
        let now = connection.interest();
        let sides = [
            (connection.client(), Token::Client(index), before.0, now.0),
            (connection.server(), Token::Server(index), before.1, now.1),
        ];
        for (fd, token, before, now) in sides {
            self.change(fd, token, before, now);
        }
    }

    /// Changes what a descriptor is waited for. One that nothing is expected of is taken out: its
    /// end would be reported for ever.
    fn change(
        &self,
        fd: BorrowedFd<'_>,
        token: Token,
        before: EventFlags,
        now: EventFlags,
    ) -> bool {
        let data = token.data();
        match (before.is_empty(), now.is_empty()) {
            _ if before == now => Ok(()),
            (true, _) => epoll::add(&self.epoll, fd, data, now),
            (false, true) => epoll::delete(&self.epoll, fd),
            (false, false) => epoll::modify(&self.epoll, fd, data, now),
        }
        .is_ok()
    }

    /// Stops or resumes accepting: at the limit new clients wait in the kernel's queue.
    fn pause(&mut self, pause: bool) {
        if self.paused == pause {
            return;
        }
        self.paused = pause;
        let flags = if pause {
            EventFlags::empty()
        } else {
            EventFlags::IN
        };
        for (index, listener) in self.listeners.iter().enumerate() {
            if listener.socket.binding.port.protocol != Protocol::Udp {
                // All listeners were added when the proxy was made.
                let _ = epoll::modify(
                    &self.epoll,
                    &listener.socket,
                    Token::Listener(index).data(),
                    flags,
                );
            }
        }
        if pause {
            // Should nothing of ours end, descriptors may become free elsewhere.
            self.ticker.start();
        }
    }

    fn datagrams(&mut self, index: usize) {
        for _ in 0..BURST {
            let Some(listener) = self.listeners.get(index) else {
                return;
            };
            let Ok(Some(arrival)) = sys::inet::receive(&listener.socket, &mut self.scratch) else {
                return;
            };
            let target = listener.target;
            if self.load() >= self.limit {
                self.flows.drop_oldest();
            }
            let data = &self.scratch[..arrival.length];
            if let Some((number, fd)) = self.flows.forward(index, arrival, target, data) {
                let added = epoll::add(&self.epoll, fd, Token::Flow(number).data(), EventFlags::IN);
                if added.is_err() {
                    self.flows.remove(number);
                }
                self.ticker.start();
            }
        }
    }

    fn answer(&mut self, index: usize) {
        for _ in 0..BURST {
            let Some((listener, length)) = self.flows.receive(index, &mut self.scratch) else {
                return;
            };
            let Some(Listener { socket, .. }) = self.listeners.get(listener) else {
                return;
            };
            self.flows
                .reply(index, socket.as_fd(), &self.scratch[..length]);
        }
    }

    fn tick(&mut self) {
        self.ticker.clear();
        self.flows.expire(Instant::now());
        self.pause(false);
        if self.flows.len() == 0 {
            self.ticker.stop();
        }
    }
}

/// The container's address for a host address: of the same family, or IPv4.
fn target(host: IpAddr, addresses: &[IpAddr]) -> Option<IpAddr> {
    let same = |address: &&IpAddr| address.is_ipv4() == host.is_ipv4();
    let v4 = |address: &&IpAddr| address.is_ipv4();
    addresses
        .iter()
        .find(same)
        .or_else(|| addresses.iter().find(v4))
        .copied()
}

/// Connections that the process has descriptors for, two each.
fn limit() -> usize {
    let soft = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let pairs = (soft.saturating_sub(RESERVE) / 2).clamp(1, MOST);
    usize::try_from(pairs).unwrap_or(1)
}

//! The resolver of one container: answers names of its networks and asks others for the rest.
//!
//! Like the userland proxy it is a state machine over one epoll descriptor: readable when there is
//! work, [`Resolver::dispatch`] does a bounded amount of it and never waits. A container can keep
//! it busy but not make it grow: questions under way and connections have their limits.

mod client;
mod forward;
mod servers;
mod stream;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;
use sys::inet;
use sys::{Result, SysResultExt};

use self::client::Client;
use self::forward::{Asker, Forward, Outcome};
pub use self::servers::Servers;
use super::listen::Sockets;
use super::message::{Code, KIND_AAAA, Question, refuse};
use super::zone::{Directory, Lookup, Membership, TTL, look_up};
use crate::slots::Slots;
use crate::ticker::Ticker;

/// The longest question that is read.
const QUESTION: usize = 4096;
/// Bytes moved by one read.
const CHUNK: usize = 64 * 1024;
/// Events handled by one call.
const EVENTS: usize = 64;
/// Datagrams or connections taken for one event.
const BURST: usize = 32;
/// Questions under way to other servers.
const FORWARDS: usize = 128;
/// How often what takes too long is looked for.
const TICK: Duration = Duration::from_millis(250);

/// What a resolver knows; it can change while it runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The networks that the container is on.
    pub networks: Vec<Membership>,
    /// Who is asked for other names.
    pub servers: Servers,
}

/// The resolver of one container.
#[derive(Debug)]
pub struct Resolver {
    epoll: OwnedFd,
    ticker: Ticker,
    sockets: Sockets,
    directory: Box<dyn Directory>,
    config: Config,
    forwards: Slots<Forward>,
    clients: Slots<Client>,
    scratch: Vec<u8>,
    /// Questions so far: for IPv6 addresses, and all others. Programs ask for both families at once:
    /// counted together, each family of a pair of containers would always begin with the same one.
    turns: [usize; 2],
    serial: u64,
}

/// What becomes of a question.
#[derive(Debug)]
enum Reply {
    /// This is the answer.
    Now(Vec<u8>),
    /// Others have been asked.
    Later,
    /// It must not be answered.
    Never,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    Tick,
    Datagrams,
    Connections,
    Client(usize),
    Forward(usize),
}

impl Token {
    fn data(self) -> EventData {
        let (kind, index) = match self {
            Token::Tick => (0, 0),
            Token::Datagrams => (1, 0),
            Token::Connections => (2, 0),
            Token::Client(index) => (3, index),
            Token::Forward(index) => (4, index),
        };
        EventData::new_u64((index as u64) << 3 | kind)
    }

    fn of(data: EventData) -> Option<Self> {
        let number = data.u64();
        let index = usize::try_from(number >> 3).ok()?;
        match number & 7 {
            0 => Some(Token::Tick),
            1 => Some(Token::Datagrams),
            2 => Some(Token::Connections),
            3 => Some(Token::Client(index)),
            4 => Some(Token::Forward(index)),
            _ => None,
        }
    }
}

impl AsFd for Resolver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl Resolver {
    /// A resolver on these sockets. It belongs to the namespace of the caller: from there other
    /// servers are asked.
    ///
    /// # Errors
    /// Of `epoll_create` and `timerfd_create`.
    pub fn new(
        sockets: Sockets,
        directory: impl Directory + 'static,
        config: Config,
    ) -> Result<Self> {
        let resolver = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC).call(|| "epoll_create1")?,
            ticker: Ticker::new(TICK)?,
            sockets,
            directory: Box::new(directory),
            config,
            forwards: Slots::new(),
            clients: Slots::new(),
            scratch: Vec::new(),
            turns: [0; 2],
            serial: 0,
        };
        for (fd, token) in [
            (resolver.ticker.as_fd(), Token::Tick),
            (resolver.sockets.udp.as_fd(), Token::Datagrams),
            (resolver.sockets.tcp.as_fd(), Token::Connections),
        ] {
            epoll::add(&resolver.epoll, fd, token.data(), EventFlags::IN)
                .call(|| "epoll_ctl(EPOLL_CTL_ADD)")?;
        }
        Ok(resolver)
    }

    /// Knows something else from now on; questions under way are not touched.
    pub fn configure(&mut self, config: Config) {
        self.config = config;
    }

    /// What it knows now.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Questions and connections under way.
    pub fn load(&self) -> usize {
        self.forwards.len() + self.clients.len()
    }

    /// Does the work that waits, at most a bounded amount: the descriptor stays readable if there
    /// is more. A question or connection that fails ends alone.
    ///
    /// # Errors
    /// Of `epoll_wait`: the resolver is broken as a whole.
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
                Some(Token::Tick) => self.tick(),
                Some(Token::Datagrams) => self.read_datagrams(),
                Some(Token::Connections) => self.accept(),
                Some(Token::Client(slot)) => self.client_event(slot, flags),
                Some(Token::Forward(slot)) => self.forward_event(slot),
                None => {}
            }
        }
        Ok(())
    }

    fn read_datagrams(&mut self) {
        for _ in 0..BURST {
            // One byte more than allowed shows what is too long.
            let room = &mut self.scratch[..=QUESTION];
            let arrival = match inet::receive(&self.sockets.udp, room) {
                Ok(Some(arrival)) => arrival,
                Ok(None) => return,
                // A client that is gone is reported at the next receive.
                Err(_) => continue,
            };
            if arrival.length > QUESTION {
                continue;
            }
            let message = self.scratch[..arrival.length].to_vec();
            let asker = Asker::Datagram {
                from: arrival.from,
                to: arrival.to,
            };
            if let Reply::Now(answer) = self.answer(message, asker) {
                self.deliver(asker, &answer);
            }
        }
    }

    /// The answer if it is known now; otherwise somebody is asked.
    fn answer(&mut self, message: Vec<u8>, asker: Asker) -> Reply {
        let Ok(question) = Question::parse(&message) else {
            return refuse(&message).map_or(Reply::Never, Reply::Now);
        };
        let turn = &mut self.turns[usize::from(question.kind != KIND_AAAA)];
        *turn = turn.wrapping_add(1);
        let turn = *turn;
        let networks = &self.config.networks;
        let limited = matches!(asker, Asker::Datagram { .. });
        let directory = self.directory.as_ref();
        match look_up(&question, networks, directory, (turn, limited)) {
            Lookup::Known(records) => Reply::Now(question.answer(Code::Ok, &records, TTL, limited)),
            Lookup::Unknown => self
                .forward(question, message, asker)
                .map_or(Reply::Later, Reply::Now),
        }
    }

    fn forward(&mut self, question: Question, message: Vec<u8>, asker: Asker) -> Option<Vec<u8>> {
        if self.forwards.len() >= FORWARDS {
            return Some(question.answer(Code::ServerFailure, &[], 0, false));
        }
        let servers = self.config.servers.now().to_vec();
        let (forward, outcome) = Forward::begin(asker, question, message, servers);
        if let Outcome::Done(answer) = outcome {
            return Some(answer);
        }
        let slot = self.forwards.insert(forward);
        self.ticker.start();
        self.follow(slot, outcome)
    }

    /// Waits for what the question waits for now; gives the answer if there is one.
    fn follow(&mut self, slot: usize, outcome: Outcome) -> Option<Vec<u8>> {
        let token = Token::Forward(slot).data();
        let interest = self.forwards.get(slot).and_then(Forward::interest);
        let waited = match (&outcome, interest) {
            (Outcome::Done(_), _) | (_, None) => Ok(()),
            (Outcome::Moved, Some((fd, flags))) => epoll::add(&self.epoll, fd, token, flags),
            (Outcome::Waits, Some((fd, flags))) => epoll::modify(&self.epoll, fd, token, flags),
        };
        if let Outcome::Done(answer) = outcome {
            self.forwards.remove(slot);
            return Some(answer);
        }
        if waited.is_err() {
            let failed = self.forwards.remove(slot)?;
            return Some(failed.question.answer(Code::ServerFailure, &[], 0, false));
        }
        None
    }

    fn forward_event(&mut self, slot: usize) {
        if let Some(forward) = self.forwards.get_mut(slot) {
            let asker = forward.asker;
            let outcome = forward.progress(&mut self.scratch);
            self.settle(slot, asker, outcome);
        }
    }

    fn settle(&mut self, slot: usize, asker: Asker, outcome: Outcome) {
        if let Some(answer) = self.follow(slot, outcome) {
            self.deliver(asker, &answer);
        }
    }

    /// Gives an answer to who waits for it; one who has gone is none the worse.
    fn deliver(&mut self, asker: Asker, answer: &[u8]) {
        match asker {
            Asker::Datagram { from, to } => {
                // An answer that cannot be sent is lost, as datagrams are.
                let _ = inet::send_from(&self.sockets.udp, answer, to, from);
            }
            Asker::Stream { slot, serial } => {
                let Some(client) = self.clients.get_mut(slot) else {
                    return;
                };
                if client.serial == serial {
                    client.busy = false;
                    client.stream.push(answer);
                    self.serve(slot);
                }
            }
        }
    }

    fn tick(&mut self) {
        self.ticker.clear();
        let now = Instant::now();
        let waiting: Vec<usize> = self.forwards.iter().map(|(slot, _)| slot).collect();
        for slot in waiting {
            if let Some(forward) = self.forwards.get_mut(slot) {
                let asker = forward.asker;
                let outcome = forward.expire(now);
                self.settle(slot, asker, outcome);
            }
        }
        self.drop_idle(now);
        if self.load() == 0 {
            self.ticker.stop();
        }
    }
}

//! Connections from the container: their questions one after the other, and who has to go.

use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventFlags};
use rustix::net::{SocketFlags, accept_with};

use super::forward::Asker;
use super::stream::{Arrival, Stream};
use super::{BURST, QUESTION, Reply, Resolver, Token};

/// Connections at a time.
pub(super) const CLIENTS: usize = 64;
/// How long one may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// A connection from the container.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: Stream,
    pub(super) serial: u64,
    /// Its question is under way: the next is read after the answer.
    pub(super) busy: bool,
    used: Instant,
}

impl Resolver {
    pub(super) fn accept(&mut self) {
        for _ in 0..BURST {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(socket) = accept_with(&self.sockets.tcp, flags) else {
                return;
            };
            if self.clients.len() >= CLIENTS {
                self.drop_stalest();
            }
            self.serial += 1;
            let client = Client {
                stream: Stream::new(socket, QUESTION),
                serial: self.serial,
                busy: false,
                used: Instant::now(),
            };
            let token = Token::Client(self.clients.next()).data();
            if epoll::add(&self.epoll, &client.stream, token, EventFlags::IN).is_ok() {
                self.clients.insert(client);
                self.ticker.start();
            }
        }
    }

    /// Makes room for a connection: at the expense of who has been silent for longest.
    fn drop_stalest(&mut self) {
        let stalest = self.clients.iter().min_by_key(|(_, client)| client.used);
        if let Some(slot) = stalest.map(|(slot, _)| slot) {
            self.clients.remove(slot);
        }
    }

    pub(super) fn client_event(&mut self, slot: usize, flags: EventFlags) {
        let gone = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        match self.clients.get(slot) {
            // Both directions are closed: there is nobody to answer.
            Some(_) if gone => drop(self.clients.remove(slot)),
            Some(_) => self.serve(slot),
            None => {}
        }
    }

    /// Sends what waits for a client and reads its next questions, until one is under way or there
    /// is nothing to do.
    pub(super) fn serve(&mut self, slot: usize) {
        let mut more = EventFlags::OUT;
        for _ in 0..BURST {
            let Some(client) = self.clients.get_mut(slot) else {
                return;
            };
            client.used = Instant::now();
            if !client.stream.flush() {
                self.clients.remove(slot);
                return;
            }
            if client.busy || client.stream.sends() {
                more = EventFlags::empty();
                break;
            }
            let message = match client.stream.receive(&mut self.scratch[..QUESTION]) {
                Arrival::Message(message) => message,
                Arrival::Nothing => {
                    more = EventFlags::empty();
                    break;
                }
                Arrival::End => {
                    self.clients.remove(slot);
                    return;
                }
            };
            let serial = client.serial;
            let reply = self.answer(message, Asker::Stream { slot, serial });
            match (reply, self.clients.get_mut(slot)) {
                (Reply::Now(answer), Some(client)) => client.stream.push(&answer),
                (Reply::Later, Some(client)) => client.busy = true,
                _ => drop(self.clients.remove(slot)),
            }
        }
        if let Some(client) = self.clients.get(slot) {
            // What has been read already makes no event: after a burst it asks for one.
            let flags = client.stream.interest(!client.busy) | more;
            // It was added when it came.
            let _ = epoll::modify(
                &self.epoll,
                &client.stream,
                Token::Client(slot).data(),
                flags,
            );
        }
    }

    /// Ends connections that have been silent for too long.
    pub(super) fn drop_idle(&mut self, now: Instant) {
        let idle = |client: &Client| !client.busy && now.duration_since(client.used) >= IDLE;
        let stale: Vec<usize> = self
            .clients
            .iter()
            .filter(|(_, client)| idle(client))
            .map(|(slot, _)| slot)
            .collect();
        for slot in stale {
            self.clients.remove(slot);
        }
    }
}

//! One stream of a container on its way to all who watch it, and to the log.
//!
//! Nothing is lost and nothing is kept without bound: as long as one watcher has not taken what
//! was read, no more is read, and the container feels it as a full pipe.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::splice::{Given, Sink, Taken, read_now};

/// How many reads one turn makes before others get theirs.
const TURN: usize = 8;

/// Whose outlet it is.
pub type ClientId = u64;

/// What a turn ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing more to read now.
    Idle,
    /// There may be more; others first.
    More,
    /// An outlet is full.
    Blocked,
    /// The stream ended and all of it was passed on.
    Ended,
}

/// One stream to many outlets.
#[derive(Debug, Default)]
pub struct Relay {
    input: Option<OwnedFd>,
    outlets: Vec<Outlet>,
    /// What some outlet has not taken yet.
    pending: Vec<u8>,
    /// Outlets that nobody reads any more, since last asked.
    gone: Vec<ClientId>,
}

#[derive(Debug)]
struct Outlet {
    client: ClientId,
    sink: Sink,
    /// How much of `pending` it has taken.
    taken: usize,
}

impl Relay {
    /// Reads from this descriptor from now on; it must be non-blocking.
    pub fn set_input(&mut self, input: OwnedFd) {
        self.input = Some(input);
    }

    /// The descriptor to wait for, while there is one.
    pub fn input(&self) -> Option<BorrowedFd<'_>> {
        self.input.as_ref().map(AsFd::as_fd)
    }

    /// Gives up the input, as after its end.
    pub fn take_input(&mut self) -> Option<OwnedFd> {
        self.input.take()
    }

    /// Adds an outlet; it gets what is read from now on.
    pub fn add(&mut self, client: ClientId, sink: Sink) {
        self.outlets.push(Outlet {
            client,
            sink,
            taken: self.pending.len(),
        });
    }

    /// Takes a client's outlet away, with what it had not taken.
    pub fn remove(&mut self, client: ClientId) {
        self.outlets.retain(|outlet| outlet.client != client);
        self.forget_taken();
    }

    /// The outlets that are full, to be waited for.
    pub fn full(&self) -> impl Iterator<Item = (ClientId, BorrowedFd<'_>)> {
        self.outlets
            .iter()
            .filter(|outlet| outlet.taken < self.pending.len())
            .map(|outlet| (outlet.client, outlet.sink.as_fd()))
    }

    /// Whether this client has taken everything.
    pub fn is_flushed(&self, client: ClientId) -> bool {
        !self.full().any(|(full, _)| full == client)
    }

    /// Clients whose outlet nobody reads any more; each is told once and is an outlet no more.
    pub fn take_gone(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.gone)
    }

    /// Passes on what can be passed on now. What is read goes to `log` first.
    pub fn turn(&mut self, scratch: &mut [u8], log: &mut dyn FnMut(&[u8])) -> Turn {
        for _ in 0..TURN {
            self.flush();
            if !self.pending.is_empty() {
                return Turn::Blocked;
            }
            let Some(input) = &self.input else {
                return Turn::Ended;
            };
            match read_now(input, scratch) {
                Given::Some(length) => {
                    log(&scratch[..length]);
                    self.pass(&scratch[..length]);
                }
                Given::Nothing => return Turn::Idle,
                Given::End => {
                    self.input = None;
                    return Turn::Ended;
                }
            }
        }
        Turn::More
    }

    /// Reads what is left although outlets are full: the writers are dead, so it is no more than
    /// the pipe holds.
    pub fn drain(&mut self, scratch: &mut [u8], log: &mut dyn FnMut(&[u8])) {
        self.flush();
        while let Some(input) = &self.input {
            match read_now(input, scratch) {
                Given::Some(length) => {
                    log(&scratch[..length]);
                    self.pass(&scratch[..length]);
                }
                Given::Nothing => return,
                Given::End => self.input = None,
            }
        }
    }

    /// Hands new bytes to all outlets; keeps what one of them cannot take.
    fn pass(&mut self, bytes: &[u8]) {
        if !self.pending.is_empty() {
            self.pending.extend_from_slice(bytes);
            self.flush();
            return;
        }
        let gone = &mut self.gone;
        let mut least = bytes.len();
        self.outlets.retain_mut(|outlet| {
            outlet.taken = 0;
            let alive = outlet.advance(bytes);
            if alive {
                least = least.min(outlet.taken);
            } else {
                gone.push(outlet.client);
            }
            alive
        });
        if least < bytes.len() {
            self.pending.extend_from_slice(&bytes[least..]);
        }
        for outlet in &mut self.outlets {
            outlet.taken -= least;
        }
    }

    /// Offers what is pending to the outlets again.
    fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let pending = &self.pending;
        let gone = &mut self.gone;
        self.outlets.retain_mut(|outlet| {
            let alive = outlet.advance(pending);
            if !alive {
                gone.push(outlet.client);
            }
            alive
        });
        self.forget_taken();
    }

    /// Drops what all outlets have taken.
    fn forget_taken(&mut self) {
        let least = self
            .outlets
            .iter()
            .map(|outlet| outlet.taken)
            .min()
            .unwrap_or(self.pending.len());
        self.pending.drain(..least);
        for outlet in &mut self.outlets {
            outlet.taken -= least;
        }
        if self.pending.is_empty() {
            // The memory goes back: most monitors never need it again.
            self.pending = Vec::new();
        }
    }
}

impl Outlet {
    /// Writes on from where it is; false when nobody reads any more.
    fn advance(&mut self, bytes: &[u8]) -> bool {
        while self.taken < bytes.len() {
            match self.sink.write(&bytes[self.taken..]) {
                Taken::Some(length) => self.taken += length,
                Taken::Full => return true,
                Taken::Gone => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    fn relay() -> (Relay, std::fs::File) {
        let (reader, writer) = sys::splice::pipe().unwrap();
        sys::splice::set_nonblocking(&reader).unwrap();
        let mut relay = Relay::default();
        relay.set_input(reader);
        (relay, writer.into())
    }

    fn outlet() -> (Sink, std::fs::File) {
        let (reader, writer) = sys::splice::pipe().unwrap();
        (Sink::new(writer), reader.into())
    }

    fn wait(relay: &Relay) {
        let mut list: Vec<_> = relay
            .full()
            .map(|(_, fd)| (fd, sys::epoll::Interest::Write))
            .collect();
        if list.is_empty() {
            list.extend(relay.input().map(|fd| (fd, sys::epoll::Interest::Read)));
        }
        sys::epoll::poll(&list, Some(Duration::from_secs(20))).unwrap();
    }

    /// A byte stream that shows every loss, repetition and exchange.
    fn pattern(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed;
        (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) as u8
            })
            .collect()
    }

    #[test]
    fn a_hundred_megabytes_arrive_exactly_at_a_fast_and_a_slow_reader() {
        const LENGTH: usize = 100 << 20;
        let (mut relay, mut container) = relay();
        let content = pattern(1, 1 << 20);
        let expected = content.clone();
        let writer = std::thread::spawn(move || {
            for _ in 0..LENGTH >> 20 {
                container.write_all(&content).unwrap();
            }
        });
        let readers: Vec<_> = [1 << 20, 3001]
            .into_iter()
            .enumerate()
            .map(|(client, piece)| {
                let (sink, mut reader) = outlet();
                relay.add(client as u64, sink);
                let expected = expected.clone();
                std::thread::spawn(move || {
                    let (mut total, mut buffer) = (0, vec![0; piece]);
                    loop {
                        let length = reader.read(&mut buffer).unwrap();
                        if length == 0 {
                            return total;
                        }
                        for (index, byte) in buffer[..length].iter().enumerate() {
                            assert_eq!(*byte, expected[(total + index) & ((1 << 20) - 1)]);
                        }
                        total += length;
                    }
                })
            })
            .collect();
        let (mut scratch, mut logged) = (vec![0; 65536], 0);
        while relay.turn(&mut scratch, &mut |bytes| logged += bytes.len()) != Turn::Ended {
            assert!(relay.pending.len() <= 65536, "kept within bounds");
            wait(&relay);
        }
        drop(relay);
        writer.join().unwrap();
        assert_eq!(logged, LENGTH);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), LENGTH);
        }
    }

    #[test]
    fn a_dead_outlet_is_dropped_and_the_others_go_on() {
        let (mut relay, mut container) = relay();
        let (dead, reader) = outlet();
        let (alive, mut kept) = outlet();
        relay.add(1, dead);
        relay.add(2, alive);
        drop(reader);
        container.write_all(b"hello").unwrap();
        assert_eq!(relay.turn(&mut [0; 64], &mut |_| {}), Turn::Idle);
        assert_eq!(relay.take_gone(), [1]);
        assert!(relay.take_gone().is_empty());
        drop(container);
        assert_eq!(relay.turn(&mut [0; 64], &mut |_| {}), Turn::Ended);
        drop(relay);
        let mut text = String::new();
        kept.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    }

    #[test]
    fn a_stuck_outlet_stops_the_reading_until_it_leaves() {
        let (mut relay, container) = relay();
        let (stuck, _reader) = outlet();
        relay.add(1, stuck);
        let container = Sink::new(OwnedFd::from(container));
        let mut fed = 0;
        loop {
            while let Taken::Some(length) = container.write(&[b'x'; 4096]) {
                fed += length;
            }
            if relay.turn(&mut [0; 65536], &mut |_| {}) == Turn::Blocked {
                break;
            }
        }
        assert!(fed <= 3 * 65536, "the writer was held up after {fed}");
        assert!(!relay.is_flushed(1));
        relay.remove(1);
        assert!(relay.is_flushed(1));
        assert!(matches!(
            relay.turn(&mut [0; 65536], &mut |_| {}),
            Turn::Idle | Turn::More
        ));
    }

    #[test]
    fn what_is_left_at_the_end_is_kept_for_a_slow_outlet() {
        let (mut relay, container) = relay();
        let (sink, mut reader) = outlet();
        relay.add(1, sink);
        let container = Sink::new(OwnedFd::from(container));
        let mut fed = 0;
        loop {
            while let Taken::Some(length) = container.write(&pattern(7, 4096)) {
                fed += length;
            }
            if relay.turn(&mut [0; 65536], &mut |_| {}) == Turn::Blocked {
                break;
            }
        }
        while let Taken::Some(length) = container.write(&pattern(7, 4096)) {
            fed += length;
        }
        drop(container);
        let mut logged = 0;
        relay.drain(&mut [0; 65536], &mut |bytes| logged += bytes.len());
        assert!(logged > 0 && relay.input().is_none() && !relay.is_flushed(1));
        let collector = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        while relay.turn(&mut [0; 64], &mut |_| {}) != Turn::Ended {
            wait(&relay);
        }
        assert!(relay.is_flushed(1));
        drop(relay);
        let all = collector.join().unwrap();
        assert_eq!(all.len(), fed);
        assert!(
            all.chunks(4096)
                .all(|chunk| chunk == pattern(7, chunk.len()))
        );
    }
}

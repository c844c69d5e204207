//! Where a container's streams meet those who watch it: the monitor's memory of its clients.
//!
//! It knows no process and no container; what a client asks beyond the streams comes back as a
//! [`Wish`]. Nothing here waits: the caller polls what [`Hub::interests`] names and calls
//! [`Hub::ready`] for what happened.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use sys::epoll::{Interest, Readiness};
use sys::pty::{WindowSize, set_window_size};
use sys::socket::MessageSocket;
use sys::splice::{Sink, Taken};

use crate::log::{JsonFile, Stream};
use crate::stdio::protocol::{Answer, Attach, LONGEST, PIECE, Request};
use crate::stdio::relay::{ClientId, Relay, Turn};
use crate::stdio::session::is_again;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A stream of the container has something.
    Output(Stream),
    /// The container's standard input takes more.
    Input,
    /// A client says something or is gone.
    Client(ClientId),
    /// A client's outlet takes more.
    Outlet(Stream),
}

/// What a client asks of the monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Pass a signal.
    Signal(i32),
    /// Kill, and count as stopped by hand.
    Kill(ClientId, i32),
    /// Stop with a signal, and with SIGKILL after so many milliseconds.
    Stop(ClientId, i32, i64),
    /// Freeze.
    Pause(ClientId),
    /// Thaw.
    Unpause(ClientId),
    /// Connect the container to a network.
    Connect(ClientId, Vec<u8>),
    /// Take it off a network.
    Disconnect(ClientId, Vec<u8>),
}

/// The monitor's ends of a container's streams.
#[derive(Debug)]
pub enum Ends {
    /// Three pipes; standard input is absent where it is not kept open.
    Pipes {
        /// To write to.
        stdin: Option<OwnedFd>,
        /// To read from.
        stdout: OwnedFd,
        /// To read from.
        stderr: OwnedFd,
    },
    /// The master of its terminal.
    Terminal(OwnedFd),
}

/// How standard input is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InputRule {
    /// It exists at all.
    pub open: bool,
    /// It ends with the first client that attached it.
    pub once: bool,
}

/// The streams, the clients, and the log.
#[derive(Debug)]
pub struct Hub {
    relays: [Relay; 2],
    blocked: [bool; 2],
    log: Option<JsonFile>,
    clock: fn() -> String,
    rule: InputRule,
    input: Option<OwnedFd>,
    input_end: bool,
    queue: VecDeque<(ClientId, Vec<u8>)>,
    queue_taken: usize,
    terminal: Option<OwnedFd>,
    clients: BTreeMap<ClientId, Client>,
    next: ClientId,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    socket: MessageSocket,
    attach: Attach,
    attached: bool,
    waits: bool,
    code: Option<i32>,
}

impl Hub {
    /// A hub without clients. `clock` gives the time for the log.
    pub fn new(rule: InputRule, log: Option<JsonFile>, clock: fn() -> String) -> Self {
        Self {
            relays: [Relay::default(), Relay::default()],
            blocked: [false; 2],
            log,
            clock,
            rule,
            input: None,
            input_end: false,
            queue: VecDeque::new(),
            queue_taken: 0,
            terminal: None,
            clients: BTreeMap::new(),
            next: 0,
            scratch: vec![0; PIECE],
        }
    }

    /// Takes the streams of a new run.
    ///
    /// # Errors
    /// Only for broken descriptors.
    pub fn begin(&mut self, ends: Ends) -> sys::Result<()> {
        self.input_end = false;
        match ends {
            Ends::Pipes {
                stdin,
                stdout,
                stderr,
            } => {
                sys::splice::set_nonblocking(&stdout)?;
                sys::splice::set_nonblocking(&stderr)?;
                if let Some(stdin) = &stdin {
                    sys::splice::set_nonblocking(stdin)?;
                }
                self.relays[0].set_input(stdout);
                self.relays[1].set_input(stderr);
                self.input = stdin;
                self.terminal = None;
            }
            Ends::Terminal(master) => {
                sys::splice::set_nonblocking(&master)?;
                let copy = || {
                    master
                        .try_clone()
                        .map_err(|error| sys::SysError::from_io("fcntl(F_DUPFD_CLOEXEC)", error))
                };
                self.input = self.rule.open.then(copy).transpose()?;
                self.terminal = Some(copy()?);
                self.relays[0].set_input(master);
            }
        }
        Ok(())
    }

    /// Takes a client in; it may attach later by a message.
    pub fn add(&mut self, socket: MessageSocket) -> ClientId {
        self.next += 1;
        self.clients.insert(
            self.next,
            Client {
                socket,
                attach: Attach::default(),
                attached: false,
                waits: false,
                code: None,
            },
        );
        self.next
    }

    /// Attaches a client with its descriptors, in the order out, error.
    pub fn attach(&mut self, client: ClientId, attach: Attach, descriptors: Vec<OwnedFd>) {
        let Some(entry) = self.clients.get_mut(&client) else {
            return;
        };
        entry.attach = attach;
        entry.attached = true;
        entry.waits = true;
        let mut descriptors = descriptors.into_iter();
        for (wanted, stream) in [(attach.stdout, 0), (attach.stderr, 1)] {
            if wanted && let Some(descriptor) = descriptors.next() {
                self.relays[stream].add(client, Sink::new(descriptor));
            }
        }
    }

    /// Everything to wait for now.
    pub fn interests<'a>(&'a self, list: &mut Vec<(Source, BorrowedFd<'a>, Interest)>) {
        for (stream, relay) in self.streams() {
            if !self.blocked[stream as usize]
                && let Some(input) = relay.input()
            {
                list.push((Source::Output(stream), input, Interest::Read));
            }
            for (_, outlet) in relay.full() {
                list.push((Source::Outlet(stream), outlet, Interest::Write));
            }
        }
        if let Some(input) = self.input.as_ref().filter(|_| !self.queue.is_empty()) {
            list.push((Source::Input, input.as_fd(), Interest::Write));
        }
        for (id, client) in &self.clients {
            list.push((Source::Client(*id), client.socket.as_fd(), Interest::Read));
        }
    }

    fn streams(&self) -> [(Stream, &Relay); 2] {
        [
            (Stream::Stdout, &self.relays[0]),
            (Stream::Stderr, &self.relays[1]),
        ]
    }

    /// Acts on what happened; wishes beyond the streams are appended.
    pub fn ready(&mut self, source: Source, readiness: Readiness, wishes: &mut Vec<Wish>) {
        match source {
            Source::Output(stream) | Source::Outlet(stream) => self.turn(stream),
            Source::Input => self.feed(),
            Source::Client(client) if readiness.read || readiness.hang_up => {
                self.hear(client, wishes);
            }
            Source::Client(_) => {}
        }
    }

    fn turn(&mut self, stream: Stream) {
        let index = stream as usize;
        let (log, clock) = (&mut self.log, self.clock);
        let outcome = self.relays[index].turn(&mut self.scratch, &mut |bytes| {
            if let Some(log) = log {
                log.write(stream, bytes, &clock());
            }
        });
        self.blocked[index] = outcome == Turn::Blocked;
        if outcome == Turn::Ended
            && let Some(log) = &mut self.log
        {
            log.end(stream, &clock());
        }
        self.drop_gone();
        self.settle();
    }

    /// Reads what the dead process left in the pipes; nothing of it waits for a client.
    pub fn drain(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let index = stream as usize;
            let (log, clock) = (&mut self.log, self.clock);
            self.relays[index].drain(&mut self.scratch, &mut |bytes| {
                if let Some(log) = log {
                    log.write(stream, bytes, &clock());
                }
            });
            // Whoever still holds the other end is no part of the container.
            self.relays[index].take_input();
            self.blocked[index] = false;
            if let Some(log) = &mut self.log {
                log.end(stream, &clock());
            }
        }
        self.input = None;
        self.terminal = None;
        let waiting = std::mem::take(&mut self.queue);
        self.queue_taken = 0;
        for (client, _) in waiting {
            self.tell(client, &Answer::Taken);
        }
        self.drop_gone();
    }

    /// Clients whose output nobody reads are told and attached no more.
    fn drop_gone(&mut self) {
        for index in 0..2 {
            for client in self.relays[index].take_gone() {
                self.tell(client, &Answer::OutputClosed);
                self.leave(client);
            }
        }
    }

    /// A client leaves: its outlets go, and with it the input where it is bound to it.
    pub fn leave(&mut self, client: ClientId) {
        for relay in &mut self.relays {
            relay.remove(client);
        }
        self.blocked = [false; 2];
        let Some(entry) = self.clients.remove(&client) else {
            return;
        };
        if entry.attached && entry.attach.stdin {
            self.end_input();
        }
    }

    fn hear(&mut self, client: ClientId, wishes: &mut Vec<Wish>) {
        let mut buffer = vec![0; LONGEST];
        let Some(entry) = self.clients.get(&client) else {
            return;
        };
        let received = match entry.socket.try_receive(&mut buffer) {
            Ok(received) if received.length > 0 => received,
            Err(error) if is_again(&error) => return,
            Ok(_) | Err(_) => return self.leave(client),
        };
        let Ok(request) = Request::decode(&buffer[..received.length]) else {
            return self.leave(client);
        };
        match request {
            Request::Attach(attach) => self.attach(client, attach, received.descriptors),
            Request::Input(bytes) => {
                self.queue.push_back((client, bytes));
                self.feed();
            }
            Request::InputEnd => self.end_input(),
            Request::Resize(size) => self.resize(size),
            Request::Wait => self.wait_for_end(client),
            Request::Signal(signal) => wishes.push(Wish::Signal(signal)),
            Request::Kill(signal) => wishes.push(Wish::Kill(client, signal)),
            Request::Stop {
                signal,
                milliseconds,
            } => wishes.push(Wish::Stop(client, signal, milliseconds)),
            Request::Pause => wishes.push(Wish::Pause(client)),
            Request::Unpause => wishes.push(Wish::Unpause(client)),
            Request::Connect(wish) => wishes.push(Wish::Connect(client, wish)),
            Request::Disconnect(wish) => wishes.push(Wish::Disconnect(client, wish)),
        }
    }

    /// Notes that this client wants to hear the code.
    pub fn wait_for_end(&mut self, client: ClientId) {
        if let Some(entry) = self.clients.get_mut(&client) {
            entry.waits = true;
        }
    }

    fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            let _ = set_window_size(terminal, size);
        }
    }

    /// The input's client said its end or left. A terminal has no end.
    fn end_input(&mut self) {
        if self.rule.once && self.terminal.is_none() {
            self.input_end = true;
            self.feed();
        }
    }

    /// Writes what is typed to the container as far as it takes it.
    fn feed(&mut self) {
        while let Some((client, bytes)) = self.queue.front() {
            let client = *client;
            let taken = match &self.input {
                Some(input) => sys::splice::write_now(input, &bytes[self.queue_taken..]),
                None => Taken::Gone,
            };
            match taken {
                Taken::Some(length) => self.queue_taken += length,
                Taken::Full => return,
                Taken::Gone => {
                    self.input = None;
                    self.queue_taken = usize::MAX;
                }
            }
            if self
                .queue
                .front()
                .is_none_or(|(_, bytes)| self.queue_taken >= bytes.len())
            {
                self.queue.pop_front();
                self.queue_taken = 0;
                self.tell(client, &Answer::Taken);
            }
        }
        if self.input_end {
            self.input = None;
        }
    }

    /// Says something to a client; one that cannot hear any more leaves.
    pub fn tell(&mut self, client: ClientId, answer: &Answer) {
        let gone = self
            .clients
            .get(&client)
            .is_some_and(|entry| entry.socket.try_send(&answer.encode(), &[]).is_err());
        if gone {
            self.leave(client);
        }
    }

    /// The process ended for good: whoever waits for that is told once all its output has gone out.
    pub fn exited(&mut self, code: i32) {
        for client in self.clients.values_mut() {
            client.code = Some(code);
        }
        self.settle();
    }

    /// Tells those who have all their output, and lets everybody else go who does not wait.
    fn settle(&mut self) {
        let done: Vec<_> = self
            .clients
            .iter()
            .filter(|(id, client)| {
                client.code.is_some()
                    && (!client.attached || self.relays.iter().all(|relay| relay.is_flushed(**id)))
            })
            .map(|(id, client)| (*id, client.code.filter(|_| client.waits)))
            .collect();
        for (client, code) in done {
            if let Some(code) = code {
                self.tell(client, &Answer::Exited(code));
            }
            self.leave(client);
        }
    }

    /// No client is left.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    /// Bytes of log that could not be written.
    pub fn log_lost(&self) -> u64 {
        self.log.as_ref().map_or(0, JsonFile::lost)
    }
}

#[cfg(test)]
mod tests;

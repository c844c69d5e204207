//! One question on its way through other servers, until one answers or all have failed.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use sys::inet::{self, Transport};

use super::stream::{Arrival, Stream};
use crate::dns::message::{Code, Question, renumber};

/// How long one server may take: a client waits five seconds before it asks again.
const PATIENCE: Duration = Duration::from_millis(1500);
/// How often somebody is asked, be there one server or several.
const ATTEMPTS: usize = 3;
/// The longest message there is.
const LONGEST: usize = u16::MAX as usize;
/// Datagrams looked at for one event.
const BURST: usize = 16;

/// Who waits for the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asker {
    /// A client's address, and the address of ours that it asked.
    Datagram { from: SocketAddr, to: IpAddr },
    /// A connection by its number, and which one that was.
    Stream { slot: usize, serial: u64 },
}

/// A question under way.
#[derive(Debug)]
pub(super) struct Forward {
    pub(super) asker: Asker,
    pub(super) question: Question,
    /// The question as it came, but for our number.
    message: Vec<u8>,
    id: u16,
    servers: Vec<SocketAddr>,
    attempt: usize,
    deadline: Instant,
    way: Way,
    /// What a server said that would not or could not answer.
    refusal: Option<Vec<u8>>,
}

#[derive(Debug)]
enum Way {
    /// A socket of its own, so that each question has a port that nobody can guess.
    Datagram(OwnedFd),
    Stream(Stream),
    /// Before the first and after the last server.
    Nobody,
}

/// How it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer is waited for.
    Waits,
    /// Likewise, on another socket.
    Moved,
    /// This is the answer.
    Done(Vec<u8>),
}

impl Forward {
    /// Sends a question to the first server that can be asked. The answer at once where there is
    /// none.
    pub(super) fn begin(
        asker: Asker,
        question: Question,
        mut message: Vec<u8>,
        servers: Vec<SocketAddr>,
    ) -> (Self, Outcome) {
        let mut number = [0; 2];
        // Without random numbers no question is asked: its answers could be forged.
        let random = sys::random::fill(&mut number).is_ok();
        let id = u16::from_be_bytes(number);
        renumber(&mut message, id);
        let mut forward = Self {
            asker,
            question,
            message,
            id,
            servers: if random { servers } else { Vec::new() },
            attempt: 0,
            deadline: Instant::now(),
            way: Way::Nobody,
            refusal: None,
        };
        let outcome = forward.ask_next();
        (forward, outcome)
    }

    /// The socket to wait for, and what for.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, EventFlags)> {
        match &self.way {
            Way::Datagram(socket) => Some((socket.as_fd(), EventFlags::IN)),
            Way::Stream(stream) => Some((stream.as_fd(), stream.interest(true))),
            Way::Nobody => None,
        }
    }

    /// Goes on after an event of its socket.
    pub(super) fn progress(&mut self, scratch: &mut [u8]) -> Outcome {
        match &mut self.way {
            Way::Datagram(_) => self.read_datagrams(scratch),
            Way::Stream(stream) => {
                if !stream.flush() {
                    return self.ask_next();
                }
                match stream.receive(scratch) {
                    Arrival::Nothing => Outcome::Waits,
                    Arrival::End => self.ask_next(),
                    Arrival::Message(message) => match self.hear(&message) {
                        Outcome::Waits => self.ask_next(),
                        other => other,
                    },
                }
            }
            Way::Nobody => self.give_up(),
        }
    }

    /// Asks the next server if this one has taken too long.
    pub(super) fn expire(&mut self, now: Instant) -> Outcome {
        match now < self.deadline {
            true => Outcome::Waits,
            false => self.ask_next(),
        }
    }

    fn read_datagrams(&mut self, scratch: &mut [u8]) -> Outcome {
        for _ in 0..BURST {
            let Way::Datagram(socket) = &self.way else {
                return Outcome::Waits;
            };
            match recv(socket, &mut *scratch, RecvFlags::empty()) {
                Ok((_, length)) => match self.hear(&scratch[..length]) {
                    // Somebody else's, or a forgery: ours may still come.
                    Outcome::Waits => {}
                    other => return other,
                },
                Err(Errno::AGAIN) => return Outcome::Waits,
                Err(Errno::INTR) => {}
                Err(_) => return self.ask_next(),
            }
        }
        Outcome::Waits
    }

    /// What an answer means; [`Outcome::Waits`] where it is none to our question.
    fn hear(&mut self, message: &[u8]) -> Outcome {
        let Some(heard) = self.question.heard(self.id, message) else {
            return Outcome::Waits;
        };
        if heard.failed {
            self.refusal = Some(message.to_vec());
            return self.ask_next();
        }
        let whole = matches!(self.asker, Asker::Stream { .. });
        if heard.truncated && whole && matches!(self.way, Way::Datagram(_)) {
            // The client came by a stream for the whole of it.
            return self.ask_by_stream();
        }
        self.done(message.to_vec())
    }

    /// The server that is being asked.
    fn server(&self) -> Option<SocketAddr> {
        let index = self.attempt.checked_sub(1)?;
        self.servers.get(index % self.servers.len().max(1)).copied()
    }

    fn ask_next(&mut self) -> Outcome {
        while !self.servers.is_empty() && self.attempt < ATTEMPTS.max(self.servers.len()) {
            self.attempt += 1;
            let Some(server) = self.server() else {
                break;
            };
            // One that cannot be reached at all has had its turn.
            if let Ok(socket) = inet::connect(server, Transport::Udp)
                && send(&socket, &self.message, SendFlags::NOSIGNAL).is_ok()
            {
                self.way = Way::Datagram(socket);
                self.deadline = Instant::now() + PATIENCE;
                return Outcome::Moved;
            }
        }
        self.give_up()
    }

    fn ask_by_stream(&mut self) -> Outcome {
        let server = self.server();
        let Some(socket) = server.and_then(|at| inet::connect(at, Transport::Tcp).ok()) else {
            return self.ask_next();
        };
        let mut stream = Stream::new(socket, LONGEST);
        stream.push(&self.message);
        self.way = Way::Stream(stream);
        self.deadline = Instant::now() + PATIENCE;
        Outcome::Moved
    }

    fn give_up(&mut self) -> Outcome {
        self.way = Way::Nobody;
        let answer = match self.refusal.take() {
            Some(answer) => answer,
            None => self.question.answer(Code::ServerFailure, &[], 0, false),
        };
        self.done(answer)
    }

    fn done(&self, mut answer: Vec<u8>) -> Outcome {
        renumber(&mut answer, self.question.id);
        Outcome::Done(match self.asker {
            Asker::Datagram { .. } => self.question.limit(answer),
            Asker::Stream { .. } => answer,
        })
    }
}

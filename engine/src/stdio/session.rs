//! A client's side of an attached session: types, signals and sizes go to the monitor.
//!
//! What the container writes does not pass through here: the monitor has the client's own
//! descriptors for that.

use std::os::fd::{AsFd, BorrowedFd};

use sys::epoll::{Interest, Signals, poll};
use sys::pty::{self, RawMode};
use sys::socket::MessageSocket;

use super::detach::{DetachKeys, DetachScanner};
use super::protocol::{Answer, LONGEST, PIECE, Refusal, Request, WINDOW};
use crate::request::SessionEnd;

/// Why a session came to no orderly end.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The monitor is gone without a word.
    #[error("the container's monitor died")]
    MonitorDied,
    /// The monitor refused.
    #[error("{}", .0.text)]
    Refused(Refusal),
    /// A call failed.
    #[error("cannot follow the container's streams")]
    Call(#[from] sys::SysError),
}

/// An attached session, as the client sees it.
#[derive(Debug)]
pub struct Session<'a> {
    /// To the monitor.
    pub socket: &'a MessageSocket,
    /// What is typed; absent when standard input is not attached.
    pub stdin: Option<BorrowedFd<'a>>,
    /// Where the window's size is read: the caller's terminal.
    pub terminal: Option<BorrowedFd<'a>>,
    /// The container has a terminal of its own.
    pub tty: bool,
    /// The keys that leave it.
    pub detach_keys: &'a DetachKeys,
    /// Signals go to the container's first process.
    pub signal_proxy: bool,
    /// The caught signals; see [`caught`].
    pub signals: Signals,
}

/// The signals that a session wants to see. To be caught before the container starts, so that none
/// is lost in between.
///
/// # Errors
/// Only when descriptors have run out.
pub fn caught(tty: bool) -> sys::Result<Signals> {
    let wanted: &[i32] = if tty {
        number::TERMINAL
    } else {
        number::PROXIED
    };
    Signals::catch_numbers(wanted)
}

/// Signal numbers of Linux on every architecture that rbox runs on.
mod number {
    pub(super) const HUP: i32 = 1;
    pub(super) const INT: i32 = 2;
    pub(super) const QUIT: i32 = 3;
    pub(super) const PIPE: i32 = 13;
    pub(super) const TERM: i32 = 15;
    pub(super) const TSTP: i32 = 20;
    pub(super) const WINCH: i32 = 28;
    /// With a terminal: those that must give it back first, and the size.
    pub(super) const TERMINAL: &[i32] = &[HUP, INT, QUIT, TERM, TSTP, WINCH];
    /// Without: all that Docker passes on, that is all but CHLD, PIPE, URG, the two of a reader or
    /// writer in the background, and those that tell of the program's own faults.
    pub(super) const PROXIED: &[i32] = &[
        HUP, INT, QUIT, 10, 12, 14, TERM, 16, 18, TSTP, 24, 25, 26, 27, WINCH, 29, 30,
    ];
}

impl Session<'_> {
    /// Takes part until the process ends, the keys are pressed or the monitor dies.
    ///
    /// A signal that ends this program ends it with the terminal given back; the container goes on.
    ///
    /// # Errors
    /// [`SessionError`].
    pub fn run(self) -> Result<SessionEnd, SessionError> {
        let raw = match self.stdin {
            Some(stdin) if self.tty && pty::is_terminal(stdin) => Some(RawMode::enter(stdin)?),
            _ => None,
        };
        let mut state = State {
            scanner: DetachScanner::new(self.detach_keys),
            stdin: self.stdin,
            unconfirmed: 0,
            buffer: vec![0; if self.stdin.is_some() { PIECE } else { 512 }],
        };
        self.send_size()?;
        loop {
            let typing = state.stdin.filter(|_| state.unconfirmed < WINDOW);
            let mut list = vec![
                (self.socket.as_fd(), Interest::Read),
                (self.signals.as_fd(), Interest::Read),
            ];
            list.extend(typing.map(|fd| (fd, Interest::Read)));
            let ready = poll(&list, None)?;
            if ready[1].read {
                while let Some(signal) = self.signals.next()? {
                    if self.signal(signal, raw.as_ref())? {
                        drop(raw);
                        self.signals.deliver(signal);
                        return Ok(SessionEnd::Detached);
                    }
                }
            }
            if (ready[0].read || ready[0].hang_up)
                && let Some(end) = self.answer(&mut state)?
            {
                drop(raw);
                return match end {
                    End::Exited(code) => Ok(SessionEnd::Exited(code)),
                    End::OutputClosed => {
                        self.signals.deliver(number::PIPE);
                        Ok(SessionEnd::Detached)
                    }
                };
            }
            if let (Some(stdin), Some(ready)) = (typing, ready.get(2))
                && (ready.read || ready.hang_up)
                && self.typed(stdin, &mut state)?
            {
                return Ok(SessionEnd::Detached);
            }
        }
    }

    /// Acts on a signal; true when it ends this program.
    fn signal(&self, signal: i32, raw: Option<&RawMode>) -> Result<bool, SessionError> {
        if signal == number::WINCH && self.tty {
            self.send_size()?;
        } else if signal == number::TSTP && self.tty {
            raw.map(RawMode::suspend).transpose()?;
            Signals::stop_here();
            raw.map(RawMode::resume).transpose()?;
            self.send_size()?;
        } else if self.tty || !self.signal_proxy {
            return Ok(true);
        } else {
            self.send(&Request::Signal(signal))?;
        }
        Ok(false)
    }

    /// Reads one piece of input; true when the detach keys were in it.
    fn typed(&self, stdin: BorrowedFd<'_>, state: &mut State<'_>) -> Result<bool, SessionError> {
        let length = sys::splice::read(stdin, &mut state.buffer).unwrap_or(0);
        if length == 0 {
            let held = state.scanner.finish().to_vec();
            if !held.is_empty() {
                self.send(&Request::Input(held))?;
                state.unconfirmed += 1;
            }
            self.send(&Request::InputEnd)?;
            state.stdin = None;
            return Ok(false);
        }
        let mut pass = Vec::with_capacity(length);
        let detached = if self.tty {
            state.scanner.scan(&state.buffer[..length], &mut pass)
        } else {
            pass.extend_from_slice(&state.buffer[..length]);
            false
        };
        if !pass.is_empty() {
            self.send(&Request::Input(pass))?;
            state.unconfirmed += 1;
        }
        Ok(detached)
    }

    /// Hears the monitor.
    fn answer(&self, state: &mut State<'_>) -> Result<Option<End>, SessionError> {
        let mut buffer = [0; 4096];
        let received = match self.socket.try_receive(&mut buffer) {
            Ok(received) => received,
            Err(error) if is_again(&error) => return Ok(None),
            Err(_) => return Err(SessionError::MonitorDied),
        };
        if received.length == 0 {
            return Err(SessionError::MonitorDied);
        }
        match Answer::decode(&buffer[..received.length]) {
            Ok(Answer::Taken) => state.unconfirmed = state.unconfirmed.saturating_sub(1),
            Ok(Answer::Exited(code)) => return Ok(Some(End::Exited(code))),
            Ok(Answer::OutputClosed) => return Ok(Some(End::OutputClosed)),
            Ok(Answer::Refused(refusal) | Answer::Failed(refusal)) => {
                return Err(SessionError::Refused(refusal));
            }
            Ok(Answer::Started | Answer::Warning(_) | Answer::Done) | Err(_) => {}
        }
        Ok(None)
    }

    fn send_size(&self) -> Result<(), SessionError> {
        let Some(terminal) = self.terminal.filter(|_| self.tty) else {
            return Ok(());
        };
        match pty::window_size(terminal) {
            Ok(size) => self.send(&Request::Resize(size)),
            Err(_) => Ok(()),
        }
    }

    fn send(&self, request: &Request) -> Result<(), SessionError> {
        let message = request.encode();
        debug_assert!(message.len() <= LONGEST);
        match self.socket.send(&message, &[]) {
            // A monitor that has ended has said why before: that is read next.
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

struct State<'a> {
    scanner: DetachScanner,
    stdin: Option<BorrowedFd<'a>>,
    unconfirmed: u32,
    buffer: Vec<u8>,
}

enum End {
    Exited(i32),
    OutputClosed,
}

/// Whether a call only said "not now".
pub fn is_again(error: &sys::SysError) -> bool {
    error.errno() == 11
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::OwnedFd;

    struct Talk {
        monitor: MessageSocket,
        stdin: std::fs::File,
        client: std::thread::JoinHandle<Result<SessionEnd, SessionError>>,
    }

    fn begin(tty: bool) -> Talk {
        let (mine, monitor) = MessageSocket::pair().unwrap();
        let (reader, writer) = sys::splice::pipe().unwrap();
        let client = std::thread::spawn(move || {
            let stdin: OwnedFd = reader;
            Session {
                socket: &mine,
                stdin: Some(stdin.as_fd()),
                terminal: None,
                tty,
                detach_keys: &DetachKeys::default(),
                signal_proxy: false,
                signals: Signals::catch_numbers(&[]).unwrap(),
            }
            .run()
        });
        Talk {
            monitor,
            stdin: writer.into(),
            client,
        }
    }

    fn hear(talk: &Talk) -> Request {
        let mut buffer = vec![0; LONGEST];
        let received = talk.monitor.receive(&mut buffer).unwrap();
        Request::decode(&buffer[..received.length]).unwrap()
    }

    #[test]
    fn input_goes_up_and_the_code_comes_down() {
        let mut talk = begin(false);
        talk.stdin.write_all(b"hello\x10\x11").unwrap();
        assert_eq!(hear(&talk), Request::Input(b"hello\x10\x11".to_vec()));
        drop(std::mem::replace(
            &mut talk.stdin,
            tempfile::tempfile().unwrap(),
        ));
        assert_eq!(hear(&talk), Request::InputEnd);
        talk.monitor
            .send(&Answer::Exited(42).encode(), &[])
            .unwrap();
        assert_eq!(talk.client.join().unwrap().unwrap(), SessionEnd::Exited(42));
    }

    #[test]
    fn no_more_is_sent_than_was_taken() {
        let mut talk = begin(false);
        for piece in [b"1", b"2"] {
            talk.stdin.write_all(piece).unwrap();
            assert_eq!(hear(&talk), Request::Input(piece.to_vec()));
        }
        talk.stdin.write_all(b"3").unwrap();
        let quiet = poll(
            &[(talk.monitor.as_fd(), Interest::Read)],
            Some(std::time::Duration::from_millis(50)),
        );
        assert!(!quiet.unwrap()[0].read, "two pieces are unconfirmed");
        talk.monitor.send(&Answer::Taken.encode(), &[]).unwrap();
        assert_eq!(hear(&talk), Request::Input(b"3".to_vec()));
        drop(talk.monitor);
        let error = talk.client.join().unwrap().unwrap_err();
        assert!(matches!(error, SessionError::MonitorDied));
    }

    #[test]
    fn the_detach_keys_leave() {
        let mut talk = begin(true);
        talk.stdin.write_all(b"ab\x10").unwrap();
        assert_eq!(hear(&talk), Request::Input(b"ab".to_vec()));
        talk.stdin.write_all(b"\x11").unwrap();
        assert_eq!(talk.client.join().unwrap().unwrap(), SessionEnd::Detached);
    }
}

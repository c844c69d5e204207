//! Messages over a stream: each with its length before it (RFC 1035, 4.2.2).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// One stream of messages.
#[derive(Debug)]
pub(super) struct Stream {
    socket: OwnedFd,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    /// The longest message that is taken.
    limit: usize,
}

/// What came of reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Message(Vec<u8>),
    /// Not yet.
    Nothing,
    /// The other side has ended or says what cannot be.
    End,
}

impl Stream {
    pub(super) fn new(socket: OwnedFd, limit: usize) -> Self {
        Self {
            socket,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            limit,
        }
    }

    /// The next message, as far as it has arrived. It never holds much more than one.
    pub(super) fn receive(&mut self, scratch: &mut [u8]) -> Arrival {
        loop {
            match self.take() {
                Arrival::Nothing => {}
                other => return other,
            }
            let room = scratch.len().min(self.limit + 2);
            match rustix::io::read(&self.socket, &mut scratch[..room]) {
                Ok(0) => return Arrival::End,
                Ok(length) => self.incoming.extend_from_slice(&scratch[..length]),
                Err(Errno::AGAIN) => return Arrival::Nothing,
                Err(Errno::INTR) => {}
                Err(_) => return Arrival::End,
            }
        }
    }

    /// Takes a whole message out of what has been read.
    fn take(&mut self) -> Arrival {
        let Some(length) = self.incoming.first_chunk::<2>() else {
            return Arrival::Nothing;
        };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > self.limit {
            return Arrival::End;
        }
        if self.incoming.len() < 2 + length {
            return Arrival::Nothing;
        }
        let rest = self.incoming.split_off(2 + length);
        let mut message = std::mem::replace(&mut self.incoming, rest);
        message.drain(..2);
        Arrival::Message(message)
    }

    /// Adds a message to what is to be sent.
    pub(super) fn push(&mut self, message: &[u8]) {
        // Nothing longer is ever made or received.
        if let Ok(length) = u16::try_from(message.len()) {
            self.outgoing.extend(length.to_be_bytes());
            self.outgoing.extend_from_slice(message);
        }
    }

    /// Sends what it can; false when the other side has gone.
    pub(super) fn flush(&mut self) -> bool {
        while self.sent < self.outgoing.len() {
            match send(
                &self.socket,
                &self.outgoing[self.sent..],
                SendFlags::NOSIGNAL,
            ) {
                Ok(length) => self.sent += length,
                Err(Errno::AGAIN) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        true
    }

    /// Something is still to be sent.
    pub(super) fn sends(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// What to wait for; `reads` is the caller's wish for more.
    pub(super) fn interest(&self, reads: bool) -> EventFlags {
        match (self.sends(), reads) {
            (true, _) => EventFlags::OUT,
            (false, true) => EventFlags::IN,
            (false, false) => EventFlags::empty(),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    fn pair() -> (Stream, UnixStream) {
        let (one, other) = UnixStream::pair().unwrap();
        one.set_nonblocking(true).unwrap();
        (Stream::new(one.into(), 20), other)
    }

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let (mut stream, mut other) = pair();
        let mut scratch = [0; 64];
        for byte in [0, 2, b'a'] {
            other.write_all(&[byte]).unwrap();
            assert_eq!(stream.receive(&mut scratch), Arrival::Nothing);
        }
        other.write_all(b"b\0\x01c\0").unwrap();
        assert_eq!(stream.receive(&mut scratch), Arrival::Message(b"ab".into()));
        assert_eq!(stream.receive(&mut scratch), Arrival::Message(b"c".into()));
        assert_eq!(stream.receive(&mut scratch), Arrival::Nothing);
        drop(other);
        assert_eq!(stream.receive(&mut scratch), Arrival::End);
    }

    #[test]
    fn a_length_beyond_the_limit_ends_it() {
        let (mut stream, mut other) = pair();
        other.write_all(&[0, 21]).unwrap();
        assert_eq!(stream.receive(&mut [0; 64]), Arrival::End);
    }

    #[test]
    fn what_is_sent_has_its_length_before_it() {
        let (mut stream, mut other) = pair();
        stream.push(b"abc");
        assert!(stream.sends());
        assert!(stream.flush());
        assert!(!stream.sends());
        let mut got = [0; 5];
        other.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"\0\x03abc");
        drop(other);
        stream.push(b"abc");
        assert!(!stream.flush());
    }
}

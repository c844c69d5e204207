//! One connection through the proxy: two directions, each with its own end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{SendFlags, Shutdown, send, shutdown};

/// A client and the container's server.
#[derive(Debug)]
pub(super) struct Connection {
    client: OwnedFd,
    server: OwnedFd,
    connecting: bool,
    /// Client to server.
    up: Direction,
    /// Server to client.
    down: Direction,
}

/// One direction. A buffer exists only while the receiver is slower than the sender.
#[derive(Debug, Default)]
struct Direction {
    waiting: Vec<u8>,
    sent: usize,
    /// The sender has ended.
    ended: bool,
    /// The receiver has been told so.
    closed: bool,
}

/// What has become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    Ended,
}

impl Connection {
    pub(super) fn new(client: OwnedFd, server: OwnedFd) -> Self {
        Self {
            client,
            server,
            connecting: true,
            up: Direction::default(),
            down: Direction::default(),
        }
    }

    pub(super) fn client(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }

    pub(super) fn server(&self) -> BorrowedFd<'_> {
        self.server.as_fd()
    }

    /// What client and server are waited for.
    pub(super) fn interest(&self) -> (EventFlags, EventFlags) {
        if self.connecting {
            return (EventFlags::empty(), EventFlags::OUT);
        }
        (
            self.up.read_interest() | self.down.write_interest(),
            self.down.read_interest() | self.up.write_interest(),
        )
    }

    /// Goes on after an event of one side.
    pub(super) fn progress(
        &mut self,
        client: bool,
        flags: EventFlags,
        scratch: &mut [u8],
    ) -> Progress {
        match self.advance(client, flags, scratch) {
            Ok(()) if self.up.closed && self.down.closed => Progress::Ended,
            Ok(()) => Progress::Open,
            Err(_) => Progress::Ended,
        }
    }

    fn advance(
        &mut self,
        client: bool,
        flags: EventFlags,
        scratch: &mut [u8],
    ) -> Result<(), Errno> {
        if self.connecting {
            if sys::inet::connected(&self.server).is_err() {
                return Err(Errno::CONNREFUSED);
            }
            self.connecting = false;
            return Ok(());
        }
        // An end or an error shows in the next read or write, whichever is waited for.
        let ended = EventFlags::ERR | EventFlags::HUP;
        let readable = flags.intersects(EventFlags::IN | ended);
        let writable = flags.intersects(EventFlags::OUT | ended);
        let (client_fd, server_fd) = (self.client.as_fd(), self.server.as_fd());
        let (incoming, outgoing) = if client {
            (&mut self.up, &mut self.down)
        } else {
            (&mut self.down, &mut self.up)
        };
        let (own, other) = if client {
            (client_fd, server_fd)
        } else {
            (server_fd, client_fd)
        };
        if writable {
            outgoing.flush(own)?;
        }
        if readable {
            incoming.carry(own, other, scratch)?;
        }
        Ok(())
    }
}

impl Direction {
    fn read_interest(&self) -> EventFlags {
        if self.waiting.is_empty() && !self.ended {
            EventFlags::IN
        } else {
            EventFlags::empty()
        }
    }

    fn write_interest(&self) -> EventFlags {
        if self.waiting.is_empty() {
            EventFlags::empty()
        } else {
            EventFlags::OUT
        }
    }

    /// Reads once from the sender and writes what it got; the rest waits.
    fn carry(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        scratch: &mut [u8],
    ) -> Result<(), Errno> {
        if self.ended || !self.waiting.is_empty() {
            return Ok(());
        }
        let length = match rustix::io::read(from, &mut *scratch) {
            Ok(0) => {
                self.ended = true;
                return self.close(to);
            }
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        let sent = write(to, &scratch[..length])?;
        if sent < length {
            self.waiting.extend_from_slice(&scratch[sent..length]);
            self.sent = 0;
        }
        Ok(())
    }

    /// Writes what waits; frees the buffer when it is through.
    fn flush(&mut self, to: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.sent += write(to, &self.waiting[self.sent..])?;
        if self.sent == self.waiting.len() {
            self.waiting = Vec::new();
            self.sent = 0;
            return self.close(to);
        }
        Ok(())
    }

    /// Tells the receiver of the sender's end, once nothing waits.
    fn close(&mut self, to: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.ended && self.waiting.is_empty() && !self.closed {
            self.closed = true;
            return match shutdown(to, Shutdown::Write) {
                // It has gone already.
                Err(Errno::NOTCONN) => Ok(()),
                other => other,
            };
        }
        Ok(())
    }
}

/// Writes as much as the receiver takes now.
fn write(to: BorrowedFd<'_>, data: &[u8]) -> Result<usize, Errno> {
    let mut sent = 0;
    while sent < data.len() {
        match send(to, &data[sent..], SendFlags::NOSIGNAL) {
            Ok(length) => sent += length,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(sent)
}

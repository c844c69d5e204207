//! nf_tables over netlink: tables, chains, rules, sets and maps in one batch.
//!
//! A batch is one transaction: all of it happens, or nothing. No program is started and no library
//! is used; messages are written as the kernel's `nf_tables.h` defines them.

mod change;
mod expression;
mod wire;

use std::fmt;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::protocols::NETLINK_NETFILTER;

pub use self::change::{Change, DataType, Element, Family, Hook, HookPoint, Set, Table};
pub use self::expression::{Base, Expression, Meta, Register, Verdict};
use self::wire::Writer;
use crate::error::{Result, SysError, SysResultExt};
use crate::netlink::wire::{Answer, attributes, frames};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_GETTABLE: u16 = 1;
const NFT_MSG_GETCHAIN: u16 = 4;

const BUFFER: usize = 32 * 1024;

/// A batch was refused: nothing of it happened. Prints as the change that was at fault.
#[derive(Debug)]
pub struct BatchError {
    /// Which change, from 0; `None` when the whole batch was.
    pub index: Option<usize>,
    /// The change as a call, and the kernel's answer.
    pub error: SysError,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for BatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

/// A blocking socket of netfilter's netlink; it belongs to the namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the caller's namespace.
    ///
    /// # Errors
    /// Of `socket`.
    pub fn open() -> Result<Self> {
        let socket = netlink_sys::Socket::new(NETLINK_NETFILTER)
            .call(|| "socket(AF_NETLINK, NETLINK_NETFILTER)")?;
        // Only improves messages.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Self {
            socket,
            sequence: 0,
            datagram: Vec::new(),
        })
    }

    /// Carries a batch out: all of it or nothing.
    ///
    /// # Errors
    /// [`BatchError`] names the first change that was refused.
    pub fn commit(&mut self, changes: &[Change<'_>]) -> std::result::Result<(), BatchError> {
        if changes.is_empty() {
            return Ok(());
        }
        let begin = self.write_batch(changes);
        let whole = |error| BatchError { index: None, error };
        let call = || format!("sendto(NETLINK_NETFILTER, {} changes)", changes.len());
        self.socket
            .send(&self.datagram, 0)
            .call(call)
            .map_err(whole)?;
        self.read_answers(begin, changes)
    }

    /// Writes the datagram; gives the sequence number of its first message.
    fn write_batch(&mut self, changes: &[Change<'_>]) -> u32 {
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        let begin = self.next();
        let frame = |kind| Head {
            kind,
            flags: NLM_F_REQUEST,
            family: 0,
            resource: NFNL_SUBSYS_NFTABLES,
        };
        frame(NFNL_MSG_BATCH_BEGIN).write(begin, &mut datagram, |_| {});
        for (index, change) in changes.iter().enumerate() {
            let sequence = self.next();
            let (kind, flags) = change.kind();
            let last = index + 1 == changes.len();
            let head = Head {
                kind: NFNL_SUBSYS_NFTABLES << 8 | kind,
                flags: NLM_F_REQUEST | flags | if last { NLM_F_ACK } else { 0 },
                family: change.table().family.number(),
                resource: 0,
            };
            head.write(sequence, &mut datagram, |message| {
                change.write(sequence, message);
            });
        }
        let sequence = self.next();
        frame(NFNL_MSG_BATCH_END).write(sequence, &mut datagram, |_| {});
        self.datagram = datagram;
        begin
    }

    /// All answers wait in the socket when the batch has been sent: the kernel carries it out
    /// within the call.
    fn read_answers(
        &mut self,
        begin: u32,
        changes: &[Change<'_>],
    ) -> std::result::Result<(), BatchError> {
        let whole = |error| BatchError { index: None, error };
        let mut acknowledged = false;
        let mut refused: Option<BatchError> = None;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = match self.receive(&mut buffer, libc::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(error) if error.errno() == libc::EAGAIN => break,
                Err(error) => return Err(whole(error)),
            };
            for frame in frames(&buffer[..length]) {
                let offset = frame.sequence.wrapping_sub(begin) as usize;
                match frame.answer() {
                    Some(Answer::Acknowledged) if offset == changes.len() => acknowledged = true,
                    Some(Answer::Refused(errno, reason)) if refused.is_none() => {
                        refused = refusal(changes, offset, errno, reason);
                    }
                    _ => {}
                }
            }
        }
        match refused {
            Some(refused) => Err(refused),
            None if acknowledged => Ok(()),
            None => Err(whole(SysError::new(
                "recvfrom(NETLINK_NETFILTER)",
                libc::EPROTO,
            ))),
        }
    }

    /// Whether a table is there.
    ///
    /// # Errors
    /// Of the socket.
    pub fn has_table(&mut self, table: Table<'_>) -> Result<bool> {
        let sequence = self.next();
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        let head = Head {
            kind: NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE,
            flags: NLM_F_REQUEST,
            family: table.family.number(),
            resource: 0,
        };
        head.write(sequence, &mut datagram, |message| {
            message.text(1, table.name)
        });
        let sent = self.socket.send(&datagram, 0);
        self.datagram = datagram;
        let call = || format!("NFT_MSG_GETTABLE({table})");
        sent.call(call)?;
        let mut buffer = [0; 4096];
        let length = self.receive(&mut buffer, 0)?;
        for frame in frames(&buffer[..length]) {
            match frame.answer() {
                Some(Answer::Refused(libc::ENOENT, _)) => return Ok(false),
                Some(Answer::Refused(errno, _)) => return Err(SysError::new(call(), errno)),
                _ => {}
            }
        }
        Ok(true)
    }

    /// The names of all chains: family, table, chain.
    ///
    /// # Errors
    /// Of the socket.
    pub fn chains(&mut self) -> Result<Vec<(Family, String, String)>> {
        let mut all: Vec<(Family, String, String)> = Vec::new();
        let mut table = String::new();
        self.dump(
            NFT_MSG_GETCHAIN,
            |family, attribute, text| match attribute {
                1 => text.clone_into(&mut table),
                3 => all.push((family, table.clone(), text.to_owned())),
                _ => {}
            },
        )?;
        Ok(all)
    }

    fn dump(&mut self, kind: u16, mut each: impl FnMut(Family, u16, &str)) -> Result<()> {
        let sequence = self.next();
        let mut datagram = std::mem::take(&mut self.datagram);
        datagram.clear();
        let head = Head {
            kind: NFNL_SUBSYS_NFTABLES << 8 | kind,
            flags: NLM_F_REQUEST | NLM_F_DUMP,
            family: 0,
            resource: 0,
        };
        head.write(sequence, &mut datagram, |_| {});
        let sent = self.socket.send(&datagram, 0);
        self.datagram = datagram;
        sent.call(|| "sendto(NETLINK_NETFILTER, dump)")?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let length = self.receive(&mut buffer, 0)?;
            for frame in frames(&buffer[..length]) {
                match frame.answer() {
                    Some(Answer::Acknowledged) => return Ok(()),
                    Some(Answer::Refused(errno, _)) => {
                        return Err(SysError::new("NFT_MSG_GET(dump)", errno));
                    }
                    None => {}
                }
                let Some(family) = frame.payload.first().and_then(|n| Family::of(*n)) else {
                    continue;
                };
                for (attribute, value) in attributes(frame.payload.get(4..).unwrap_or_default()) {
                    let text = value.strip_suffix(&[0]).unwrap_or(value);
                    each(family, attribute, &String::from_utf8_lossy(text));
                }
            }
        }
    }

    fn receive(&self, buffer: &mut [u8], flags: i32) -> Result<usize> {
        loop {
            let mut room = &mut *buffer;
            match self.socket.recv(&mut room, flags) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other.call(|| "recvfrom(NETLINK_NETFILTER)"),
            }
        }
    }

    fn next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

/// The error of the change at this offset from the batch's begin, which itself is offset 0.
fn refusal(
    changes: &[Change<'_>],
    offset: usize,
    errno: i32,
    reason: Option<String>,
) -> Option<BatchError> {
    let index = offset.checked_sub(1);
    let call = match index {
        None => "NFNL_MSG_BATCH_BEGIN".to_owned(),
        Some(index) => changes
            .get(index)
            .map_or_else(|| "NFNL_MSG_BATCH_END".to_owned(), ToString::to_string),
    };
    let call = match reason {
        Some(reason) => format!("{call}: {reason}"),
        None => call,
    };
    Some(BatchError {
        index: index.filter(|index| *index < changes.len()),
        error: SysError::new(call, errno),
    })
}

/// The headers of netlink and netfilter.
struct Head {
    kind: u16,
    flags: u16,
    family: u8,
    resource: u16,
}

impl Head {
    fn write(self, sequence: u32, datagram: &mut Vec<u8>, content: impl FnOnce(&mut Writer<'_>)) {
        let start = datagram.len();
        datagram.extend_from_slice(&[0; 4]);
        datagram.extend_from_slice(&self.kind.to_ne_bytes());
        datagram.extend_from_slice(&self.flags.to_ne_bytes());
        datagram.extend_from_slice(&sequence.to_ne_bytes());
        datagram.extend_from_slice(&[0; 4]);
        datagram.extend_from_slice(&[self.family, 0]);
        datagram.extend_from_slice(&self.resource.to_be_bytes());
        content(&mut Writer { datagram });
        let length = u32::try_from(datagram.len() - start).expect("a message is far below 4 GB");
        datagram[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

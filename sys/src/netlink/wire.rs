//! Netlink's framing: messages in a datagram, the kernel's answers and their reasons.

use std::io;

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLMSG_DONE, NLMSG_ERROR};

/// The length of a message's header.
pub(crate) const HEADER: usize = 16;
/// Attribute of an answer: the reason as text.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// Rounds up to netlink's alignment.
pub(crate) const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// One message in a received datagram.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The message with its header.
    pub(crate) whole: &'a [u8],
    pub(crate) payload: &'a [u8],
}

/// What the kernel answered to one request.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Done.
    Acknowledged,
    /// Refused: the error number and the kernel's reason, if it gave one.
    Refused(i32, Option<String>),
}

impl Frame<'_> {
    /// The message as an answer, if it is one.
    pub(crate) fn answer(&self) -> Option<Answer> {
        if self.kind != NLMSG_ERROR && self.kind != NLMSG_DONE {
            return None;
        }
        let code = self
            .payload
            .first_chunk()
            .map_or(0, |b| i32::from_ne_bytes(*b));
        if code == 0 {
            return Some(Answer::Acknowledged);
        }
        Some(Answer::Refused(-code, self.reason()))
    }

    /// The end of a dump.
    pub(crate) fn is_done(&self) -> bool {
        self.kind == NLMSG_DONE
    }

    /// The text that follows the error number and the request it repeats.
    fn reason(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let start = if self.kind == NLMSG_DONE {
            4
        } else {
            let length = self.payload.get(4..8)?.first_chunk().copied()?;
            let request = if self.flags & NLM_F_CAPPED != 0 {
                HEADER
            } else {
                align(usize::try_from(u32::from_ne_bytes(length)).ok()?)
            };
            4 + request
        };
        let (_, text) =
            attributes(self.payload.get(start..)?).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)?;
        let text = text.strip_suffix(&[0]).unwrap_or(text);
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// The messages of a datagram; ends at the first that is cut short.
pub(crate) fn frames(mut data: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let header: &[u8; HEADER] = data.first_chunk()?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
        let length = usize::try_from(length).ok()?;
        let whole = data.get(..length).filter(|whole| whole.len() >= HEADER)?;
        data = data.get(align(length)..).unwrap_or_default();
        Some(Frame {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            whole,
            payload: &whole[HEADER..],
        })
    })
}

/// Attributes as (kind without flags, value); ends at the first that is cut short.
pub(crate) fn attributes(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let header: &[u8; 4] = data.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let value = data.get(4..length)?;
        let kind = u16::from_ne_bytes([header[2], header[3]]) & 0x3fff;
        data = data.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// An error for an answer that makes no sense.
pub(crate) fn nonsense() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADMSG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_datagrams_end_early_and_never_panic() {
        let mut data = vec![0_u8; 64];
        data[..4].copy_from_slice(&20_u32.to_ne_bytes());
        data[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        data[16..20].copy_from_slice(&(-libc::EEXIST).to_ne_bytes());
        let frame = frames(&data).next().unwrap();
        assert!(matches!(
            frame.answer(),
            Some(Answer::Refused(libc::EEXIST, None))
        ));
        for cut in 0..data.len() {
            for frame in frames(&data[..cut]) {
                let _ = frame.answer();
                assert_eq!(attributes(frame.payload).count(), 0);
            }
        }
    }
}

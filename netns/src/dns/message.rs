//! The wire format of DNS, as much as a resolver of local names needs (RFC 1035, 6891).
//!
//! One question is read, one answer written. What is forwarded to others travels as it came.

use std::net::{Ipv4Addr, Ipv6Addr};

const HEADER: usize = 12;
/// The longest answer over UDP for a client that does not say more.
const PLAIN_SIZE: u16 = 512;
const CLASS_IN: u16 = 1;
const OPT: u16 = 41;

/// An A question: IPv4 addresses.
pub const KIND_A: u16 = 1;
/// A PTR question: the name of an address.
pub const KIND_PTR: u16 = 12;
/// An AAAA question: IPv6 addresses.
pub const KIND_AAAA: u16 = 28;

/// A message that is no question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a DNS question")]
pub struct Malformed;

/// One question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The client's number for it.
    pub id: u16,
    /// The name in lower case, without the last dot.
    pub name: String,
    /// What is asked for.
    pub kind: u16,
    /// It is asked in the internet's class; nothing of ours is known in any other.
    pub internet: bool,
    /// The longest answer that the client takes over UDP.
    pub size: u16,
    /// The client wants others to be asked.
    recursion: bool,
    /// The client speaks EDNS, so the answer does too.
    extended: bool,
    /// Name, kind and class as they came: an answer repeats them, letter case included.
    raw: Vec<u8>,
}

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Answered, perhaps with nothing.
    Ok = 0,
    /// The question cannot be read.
    Format = 1,
    /// Nobody could be asked.
    ServerFailure = 2,
    /// There is no such name.
    NoName = 3,
    /// It is no question but something else that is asked for.
    NotImplemented = 4,
    /// The server does not want to.
    Refused = 5,
}

/// What the header of another server's answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// There is more: ask over TCP.
    pub truncated: bool,
    /// Another server may know better.
    pub failed: bool,
}

/// One record of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An IPv4 address.
    A(Ipv4Addr),
    /// An IPv6 address.
    Aaaa(Ipv6Addr),
    /// A name.
    Ptr(String),
}

impl Question {
    /// Reads a question; further sections are looked at for the client's size only.
    ///
    /// # Errors
    /// [`Malformed`], also for answers, other operations and several questions at once.
    pub fn parse(message: &[u8]) -> Result<Self, Malformed> {
        let word = |at: usize| -> Result<u16, Malformed> {
            let bytes = message.get(at..at + 2).ok_or(Malformed)?;
            Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let flags = word(2)?;
        let is_question = flags & 0xf800 == 0;
        if !is_question || word(4)? != 1 {
            return Err(Malformed);
        }
        let (name, end) = read_name(message, HEADER)?;
        let kind = word(end)?;
        let class = word(end + 2)?;
        let records = u32::from(word(6)?) + u32::from(word(8)?) + u32::from(word(10)?);
        let size = client_size(message, end + 4, records);
        Ok(Self {
            id: word(0)?,
            name,
            kind,
            internet: class == CLASS_IN,
            size: size.unwrap_or(PLAIN_SIZE).max(PLAIN_SIZE),
            recursion: flags & 0x0100 != 0,
            extended: size.is_some(),
            raw: message[HEADER..end + 4].to_vec(),
        })
    }

    /// The answer with these records, which are of one kind. Over UDP (`limited`) one that does not
    /// fit is cut and marked, so that the client asks again over TCP, or makes do.
    pub fn answer(&self, code: Code, records: &[Data], ttl: u32, limited: bool) -> Vec<u8> {
        let whole = self.write(code, records, ttl, false);
        let room = usize::from(self.size);
        if !limited || whole.len() <= room {
            return whole;
        }
        let bare = self.write(code, &[], ttl, true).len();
        let each = (whole.len() - bare).div_ceil(records.len().max(1)).max(1);
        let fit = room.saturating_sub(bare) / each;
        self.write(code, &records[..fit.min(records.len())], ttl, true)
    }

    /// Another server's answer, as far as the client takes it over UDP: one that does not fit is
    /// replaced by an empty one that is marked.
    pub fn limit(&self, answer: Vec<u8>) -> Vec<u8> {
        match answer.len() > usize::from(self.size) {
            true => self.write(Code::Ok, &[], 0, true),
            false => answer,
        }
    }

    /// Looks at another server's answer to this question, which was sent with the number `id`;
    /// `None` for a message that answers something else.
    pub fn heard(&self, id: u16, message: &[u8]) -> Option<Heard> {
        let header = message.get(..HEADER)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let flags = word(2);
        let is_answer = flags & 0xf800 == 0x8000;
        if word(0) != id || !is_answer {
            return None;
        }
        let code = flags & 0x000f;
        let failed = [
            Code::Format,
            Code::ServerFailure,
            Code::NotImplemented,
            Code::Refused,
        ]
        .iter()
        .any(|bad| *bad as u16 == code);
        let repeated = match word(4) {
            // Who could not read the question need not repeat it.
            0 => failed,
            1 => self.is_repeated(message.get(HEADER..HEADER + self.raw.len())?),
            _ => false,
        };
        repeated.then_some(Heard {
            truncated: flags & 0x0200 != 0,
            failed,
        })
    }

    fn is_repeated(&self, raw: &[u8]) -> bool {
        let (name, kind) = raw.split_at(raw.len() - 4);
        // Lengths are below all letters, so that they are compared as they are.
        self.raw.ends_with(kind) && self.raw[..name.len()].eq_ignore_ascii_case(name)
    }

    /// More addresses than this do not fit into an answer over UDP.
    pub fn fits(&self) -> usize {
        /// A pointer to the name, kind, class, time, length and an IPv4 address.
        const RECORD: usize = 2 + 2 + 2 + 4 + 2 + 4;
        usize::from(self.size) / RECORD
    }

    fn write(&self, code: Code, records: &[Data], ttl: u32, truncated: bool) -> Vec<u8> {
        let mut flags: u16 = 0x8000 | 0x0080 | code as u16;
        if self.recursion {
            flags |= 0x0100;
        }
        if truncated {
            flags |= 0x0200;
        }
        let count = u16::try_from(records.len()).unwrap_or(u16::MAX);
        let mut message = Vec::with_capacity(usize::from(PLAIN_SIZE));
        for word in [self.id, flags, 1, count, 0, u16::from(self.extended)] {
            message.extend(word.to_be_bytes());
        }
        message.extend(&self.raw);
        for record in records.iter().take(usize::from(count)) {
            record.write(ttl, &mut message);
        }
        if self.extended {
            // The root's name, OPT, our size, no flags, no options.
            message.push(0);
            message.extend(OPT.to_be_bytes());
            message.extend(4096_u16.to_be_bytes());
            message.extend([0; 6]);
        }
        message
    }
}

/// The answer to what [`Question::parse`] cannot read; `None` for what must not be answered: an
/// answer, or less than a header.
pub fn refuse(message: &[u8]) -> Option<Vec<u8>> {
    let header = message.get(..HEADER)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    let code = match header[2] & 0x78 {
        0 => Code::Format,
        _ => Code::NotImplemented,
    };
    let mut answer = vec![0; HEADER];
    answer[..2].copy_from_slice(&header[..2]);
    // The operation and the wish for recursion are repeated.
    answer[2] = 0x80 | header[2] & 0x79;
    answer[3] = 0x80 | code as u8;
    Some(answer)
}

/// Gives a message another number.
pub fn renumber(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

impl Data {
    fn write(&self, ttl: u32, message: &mut Vec<u8>) {
        /// A pointer to the question's name.
        const NAME: [u8; 2] = [0xc0, HEADER as u8];
        let (kind, data) = match self {
            Data::A(address) => (KIND_A, address.octets().to_vec()),
            Data::Aaaa(address) => (KIND_AAAA, address.octets().to_vec()),
            Data::Ptr(name) => (KIND_PTR, wire_name(name)),
        };
        message.extend(NAME);
        message.extend(kind.to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        message.extend(ttl.to_be_bytes());
        let length = u16::try_from(data.len()).expect("a name is at most 255 bytes");
        message.extend(length.to_be_bytes());
        message.extend(data);
    }
}

/// A name as labels with their lengths; labels that cannot be are left out.
fn wire_name(name: &str) -> Vec<u8> {
    let mut data = Vec::with_capacity(name.len() + 2);
    for label in name.split('.') {
        match u8::try_from(label.len()) {
            Ok(length @ 1..=63) if data.len() + label.len() < 254 => {
                data.push(length);
                data.extend(label.as_bytes());
            }
            _ => {}
        }
    }
    data.push(0);
    data
}

/// Reads a name that is written out, as those of questions are; gives where it ends.
fn read_name(message: &[u8], start: usize) -> Result<(String, usize), Malformed> {
    let mut name = String::new();
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at).ok_or(Malformed)?);
        at += 1;
        match length {
            0 => return Ok((name, at)),
            1..=63 => {}
            _ => return Err(Malformed),
        }
        let label = message.get(at..at + length).ok_or(Malformed)?;
        at += length;
        if at - start > 254 {
            return Err(Malformed);
        }
        if !name.is_empty() {
            name.push('.');
        }
        for byte in label {
            // No name of ours has a dot or a strange byte in a label; neither may look like one.
            match byte {
                b'.' => name.push_str("\\."),
                byte if byte.is_ascii_graphic() => name.push(byte.to_ascii_lowercase().into()),
                byte => name.push_str(&format!("\\{byte:03}")),
            }
        }
    }
}

/// The size that the client's OPT record names, if it has one.
fn client_size(message: &[u8], mut at: usize, records: u32) -> Option<u16> {
    for _ in 0..records {
        at = skip_name(message, at)?;
        let fixed = message.get(at..at + 10)?;
        let word = |index: usize| u16::from_be_bytes([fixed[index], fixed[index + 1]]);
        if word(0) == OPT {
            return Some(word(2));
        }
        at += 10 + usize::from(word(8));
    }
    None
}

/// Where a name ends that may be written with a pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match usize::from(*message.get(at)?) {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + length,
            length if length & 0xc0 == 0xc0 => return Some(at + 2),
            _ => return None,
        }
    }
}

/// The address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
pub fn reverse_address(name: &str) -> Option<std::net::IpAddr> {
    if let Some(octets) = name.strip_suffix(".in-addr.arpa") {
        let mut parts: Vec<u8> = Vec::with_capacity(4);
        for part in octets.rsplit('.') {
            parts.push(part.parse().ok()?);
        }
        let octets: [u8; 4] = parts.try_into().ok()?;
        return Some(octets.into());
    }
    let nibbles = name.strip_suffix(".ip6.arpa")?;
    let mut number: u128 = 0;
    let mut count = 0;
    for nibble in nibbles.rsplit('.') {
        if nibble.len() != 1 || count == 32 {
            return None;
        }
        number = number << 4 | u128::from_str_radix(nibble, 16).ok()?;
        count += 1;
    }
    (count == 32).then(|| std::net::IpAddr::V6(number.into()))
}

#[cfg(test)]
mod tests;

//! Writing an archive: ustar headers, PAX records only where they are needed, the same bytes for
//! the same members.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;

use tar::{EntryType, Header};

use super::member::{Kind, Member};
use super::{BLOCK, padding, pax, sparse};

const ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Writes members to a stream.
#[derive(Debug)]
pub struct Writer<W> {
    stream: W,
}

impl<W: Write> Writer<W> {
    /// Starts an archive.
    pub fn new(stream: W) -> Self {
        Self { stream }
    }

    /// Writes a member with its content: as many bytes as its size says.
    ///
    /// # Errors
    /// Those of the streams; `UnexpectedEof` where the content is shorter than promised.
    pub fn append(&mut self, member: &Member, content: impl Read) -> io::Result<()> {
        let size = match member.kind {
            Kind::File => member.size,
            _ => 0,
        };
        self.extension(member, &records(member, size))?;
        let mut header = header(member, size);
        header.set_cksum();
        self.stream.write_all(header.as_bytes())?;
        let copied = io::copy(&mut content.take(size), &mut self.stream)?;
        if copied < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.pad(size)
    }

    /// Writes a file without its holes: `parts`, in order, say where it holds something. The form
    /// is GNU's PAX 1.0; without it an archive would hold every hole as zeros.
    ///
    /// # Errors
    /// Those of the streams; `UnexpectedEof` where a part is shorter than it says.
    pub fn append_parts(
        &mut self,
        member: &Member,
        parts: &[(u64, u64)],
        content: &File,
    ) -> io::Result<()> {
        let mut map = sparse::map_text(parts, member.size);
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        let stored = parts.iter().map(|(_, length)| length).sum::<u64>();
        let size = map.len() as u64 + stored;
        let mut records = records(member, size);
        for (key, value) in [
            (&b"GNU.sparse.major"[..], &b"1"[..]),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", &member.path),
            (b"GNU.sparse.realsize", member.size.to_string().as_bytes()),
        ] {
            pax::push(&mut records, key, value);
        }
        self.extension(member, &records)?;
        let mut header = header(member, size);
        header.set_cksum();
        self.stream.write_all(header.as_bytes())?;
        self.stream.write_all(&map)?;
        let mut buffer = vec![0; 1 << 18];
        for (offset, length) in parts {
            let (mut at, end) = (*offset, offset + length);
            while at < end {
                let most = usize::try_from(end - at).map_or(buffer.len(), |n| n.min(buffer.len()));
                content.read_exact_at(&mut buffer[..most], at)?;
                self.stream.write_all(&buffer[..most])?;
                at += most as u64;
            }
        }
        self.pad(stored)
    }

    /// What the header of the next member has no room for.
    fn extension(&mut self, member: &Member, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        let mut extension = header(member, records.len() as u64);
        extension.set_entry_type(EntryType::XHeader);
        set_text(&mut extension.as_old_mut().name, b"./PaxHeaders");
        extension.set_mode(0o644);
        extension.set_cksum();
        self.stream.write_all(extension.as_bytes())?;
        self.stream.write_all(records)?;
        self.pad(records.len() as u64)
    }

    /// Writes a file whose content `write` makes: just as many bytes as its size says.
    ///
    /// # Errors
    /// Those of the stream and of `write`; `UnexpectedEof` where it makes fewer or more.
    pub fn append_from<E: From<io::Error>>(
        &mut self,
        member: &Member,
        write: impl FnOnce(&mut dyn Write) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut header = header(member, member.size);
        header.set_cksum();
        self.stream.write_all(header.as_bytes())?;
        let mut counted = Counted {
            stream: &mut self.stream,
            size: 0,
        };
        write(&mut counted)?;
        if counted.size != member.size {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.pad(member.size)?;
        Ok(())
    }

    /// Writes a member that is only a name: a directory, a link, a device.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn append_bare(&mut self, member: &Member) -> io::Result<()> {
        self.append(member, io::empty())
    }

    /// Ends the archive and gives the stream back.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn finish(mut self) -> io::Result<W> {
        self.stream.write_all(&ZEROS)?;
        self.stream.flush()?;
        Ok(self.stream)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let length = usize::try_from(padding(size)).unwrap_or(0);
        self.stream.write_all(&ZEROS[..length])
    }
}

struct Counted<'a, W> {
    stream: &'a mut W,
    size: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(bytes)?;
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn header(member: &Member, size: u64) -> Header {
    let mut header = Header::new_ustar();
    let (kind, device) = match member.kind {
        Kind::File => (EntryType::Regular, None),
        Kind::HardLink => (EntryType::Link, None),
        Kind::Symlink => (EntryType::Symlink, None),
        Kind::Directory => (EntryType::Directory, None),
        Kind::Fifo => (EntryType::Fifo, None),
        Kind::Char(major, minor) => (EntryType::Char, Some((major, minor))),
        Kind::Block(major, minor) => (EntryType::Block, Some((major, minor))),
    };
    header.set_entry_type(kind);
    set_text(&mut header.as_old_mut().name, &member.path);
    set_text(&mut header.as_old_mut().linkname, &member.link);
    header.set_mode(member.mode);
    header.set_uid(small(member.uid.into(), 7));
    header.set_gid(small(member.gid.into(), 7));
    header.set_size(small(size, 11));
    header.set_mtime(u64::try_from(member.mtime.seconds).unwrap_or(0));
    if let (Some((major, minor)), Some(ustar)) = (device, header.as_ustar_mut()) {
        ustar.set_device_major(major);
        ustar.set_device_minor(minor);
    }
    header
}

/// What the header has no room for.
fn records(member: &Member, size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    let mut push = |key: &[u8], value: &[u8]| pax::push(&mut records, key, value);
    if member.path.len() > 100 {
        push(b"path", &member.path);
    }
    if member.link.len() > 100 {
        push(b"linkpath", &member.link);
    }
    for (key, value, digits) in [
        (&b"uid"[..], u64::from(member.uid), 7),
        (b"gid", member.gid.into(), 7),
        (b"size", size, 11),
    ] {
        if small(value, digits) != value {
            push(key, value.to_string().as_bytes());
        }
    }
    if member.mtime.nanoseconds != 0
        || u64::try_from(member.mtime.seconds).is_ok_and(|seconds| small(seconds, 11) != seconds)
        || member.mtime.seconds < 0
    {
        push(b"mtime", pax::print_time(member.mtime).as_bytes());
    }
    if let Some(atime) = member.atime {
        push(b"atime", pax::print_time(atime).as_bytes());
    }
    for (name, value) in &member.xattrs {
        push(&[b"SCHILY.xattr.", &name[..]].concat(), value);
    }
    records
}

/// The number, or 0 where it has more octal digits than its field.
fn small(number: u64, digits: u32) -> u64 {
    if number < 1 << (3 * digits) {
        number
    } else {
        0
    }
}

fn set_text(field: &mut [u8; 100], text: &[u8]) {
    let length = text.len().min(field.len());
    field.fill(0);
    field[..length].copy_from_slice(&text[..length]);
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, TarError};
    use super::*;
    use proptest::prelude::*;
    use sys::fs::Timestamp;

    fn any_member() -> impl Strategy<Value = (Member, Vec<u8>)> {
        let kind = prop_oneof![
            Just(Kind::File),
            Just(Kind::HardLink),
            Just(Kind::Symlink),
            Just(Kind::Directory),
            Just(Kind::Fifo),
            (0..4096_u32, 0..1_048_576_u32).prop_map(|(a, b)| Kind::Char(a & 0o7777, b)),
            (0..4096_u32, 0..1_048_576_u32).prop_map(|(a, b)| Kind::Block(a, b)),
        ];
        let bytes = |range| proptest::collection::vec(any::<u8>(), range);
        let time = || (-9_000_000_000_i64..20_000_000_000, 0..1_000_000_000_u32);
        (
            (kind, "[a-z/]{1,300}", "[a-z/.]{0,200}", 0..0o10000_u32),
            (
                any::<u32>(),
                any::<u32>(),
                time(),
                proptest::option::of(time()),
            ),
            (
                proptest::collection::vec(("[a-z.]{1,20}", bytes(0..300)), 0..3),
                bytes(0..2000),
            ),
        )
            .prop_map(
                |((kind, path, link, mode), (uid, gid, mtime, atime), (xattrs, content))| {
                    let stamp = |(seconds, nanoseconds)| Timestamp {
                        seconds,
                        nanoseconds,
                    };
                    let content = if kind == Kind::File {
                        content
                    } else {
                        Vec::new()
                    };
                    let member = Member {
                        path: path.into_bytes(),
                        link: link.into_bytes(),
                        kind,
                        mode,
                        uid,
                        gid,
                        size: content.len() as u64,
                        mtime: stamp(mtime),
                        atime: atime.map(stamp),
                        xattrs: xattrs
                            .into_iter()
                            .map(|(k, v)| (k.into_bytes(), v))
                            .collect(),
                        parts: None,
                    };
                    (member, content)
                },
            )
    }

    proptest! {
        #[test]
        fn members_read_back(members in proptest::collection::vec(any_member(), 0..6)) {
            let mut writer = Writer::new(Vec::new());
            for (member, content) in &members {
                writer.append(member, &content[..]).unwrap();
            }
            let archive = writer.finish().unwrap();
            prop_assert_eq!(archive.len() % BLOCK, 0);
            let mut reader = Reader::new(&archive[..]);
            for (member, content) in &members {
                let mut got = Vec::new();
                prop_assert_eq!(&reader.next().unwrap().unwrap(), member);
                reader.content::<TarError>(|piece| { got.extend_from_slice(piece); Ok(()) }).unwrap();
                prop_assert_eq!(&got, content);
            }
            prop_assert_eq!(reader.next().unwrap(), None);
        }

        #[test]
        fn reading_anything_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..3000),
                                         fix in any::<bool>()) {
            if fix && bytes.len() >= BLOCK {
                // A right checksum lets the rest of the nonsense in.
                let mut header = Header::new_old();
                header.as_mut_bytes().copy_from_slice(&bytes[..BLOCK]);
                header.set_cksum();
                bytes[..BLOCK].copy_from_slice(header.as_bytes());
            }
            let mut reader = Reader::new(&bytes[..]);
            while let Ok(Some(_)) = reader.next() {}
        }
    }

    #[test]
    fn a_cut_archive_is_an_error_wherever_it_is_cut() {
        let mut writer = Writer::new(Vec::new());
        let member = Member {
            path: vec![b'a'; 150],
            size: 700,
            ..Member::default()
        };
        writer.append(&member, &[1; 700][..]).unwrap();
        let archive = writer.finish().unwrap();
        let end = archive.len() - ZEROS.len();
        for cut in 0..end {
            let mut reader = Reader::new(&archive[..cut]);
            let read = loop {
                match reader.next() {
                    Ok(Some(_)) => {}
                    other => break other,
                }
            };
            assert!(read.is_err(), "cut at {cut} of {end}");
        }
    }
}

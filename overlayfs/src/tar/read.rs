//! Reading an archive member by member, as it streams.

use std::io::{self, BufRead};

use tar::{EntryType, Header};

use super::member::{Kind, Member};
use super::sparse::{self, Announced};
use super::{BLOCK, padding, pax};

/// Records and long names longer than this are hostile: the largest attribute has 64 KiB.
const EXTENSION_LIMIT: u64 = 8 << 20;

/// An archive that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The stream ended within a member.
    #[error("the archive is cut off: it ends within {0}")]
    CutOff(String),
    /// A block that should be a header is none.
    #[error("not a tar archive: no header at byte {0}")]
    NoHeader(u64),
    /// A field or record that cannot be.
    #[error("malformed archive: bad {field} of {member:?}")]
    Malformed {
        /// What is wrong.
        field: &'static str,
        /// Where.
        member: String,
    },
    /// What follows each member could not be written down.
    #[error("cannot write down the archive's headers")]
    Observe(#[source] io::Error),
}

/// Hears every byte of an archive that is not the content of a file handed out.
pub trait Observer {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// Those of writing them down; they end the reading.
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Observer for () {
    fn raw(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Reads members from a stream.
#[derive(Debug)]
pub struct Reader<R, O = ()> {
    stream: R,
    observer: O,
    position: u64,
    /// Content of the current member that was not read yet.
    left: u64,
    padding: u64,
    /// The current member, for messages.
    current: String,
    ended: bool,
}

/// What long names and PAX records say of the member that follows them.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Vec<u8>,
}

impl Extensions {
    fn any(&self) -> bool {
        self.name.is_some() || self.link.is_some() || !self.pax.is_empty()
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads an archive that nobody observes.
    pub fn new(stream: R) -> Self {
        Self::observed(stream, ())
    }
}

impl<R: BufRead, O: Observer> Reader<R, O> {
    /// Reads an archive, with every byte but file contents told to the observer.
    pub fn observed(stream: R, observer: O) -> Self {
        Self {
            stream,
            observer,
            position: 0,
            left: 0,
            padding: 0,
            current: "its first header".to_owned(),
            ended: false,
        }
    }

    /// How many bytes of the archive were read: after [`Reader::next`], where the content starts.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many bytes of content are still stored.
    pub fn stored(&self) -> u64 {
        self.left
    }

    /// The observer.
    pub fn observer(&mut self) -> &mut O {
        &mut self.observer
    }

    /// Ends the reading and gives the observer back.
    pub fn into_observer(self) -> O {
        self.observer
    }

    /// Goes on to the next member; what was not read of the current one is passed over.
    ///
    /// # Errors
    /// [`TarError`] for what is no archive, or is cut off within a member.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut extensions = Extensions::default();
        loop {
            self.pass(self.left.saturating_add(self.padding))?;
            (self.left, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return match extensions.any() {
                    true => Err(TarError::CutOff("the records of a member".to_owned())),
                    false => Ok(None),
                };
            };
            let size = header
                .entry_size()
                .map_err(|_| self.malformed("size", &header.path_bytes()))?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.name = Some(self.long_name(size)?),
                EntryType::GNULongLink => extensions.link = Some(self.long_name(size)?),
                EntryType::XHeader => extensions.pax = self.extension(size)?,
                // Global records, volume labels and the like describe the archive.
                EntryType::XGlobalHeader => self.skip_content(size),
                other if matches!(other.as_byte(), b'V' | b'M' | b'N') => self.skip_content(size),
                _ => return self.member(&header, &extensions, size).map(Some),
            }
        }
    }

    /// Hands out the rest of the content in pieces as they come, hidden from the observer.
    ///
    /// # Errors
    /// [`TarError`] of the stream, or what `each` says.
    pub fn content<E: From<TarError>>(
        &mut self,
        each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pieces(false, each)
    }

    /// Hands out the rest of the content in pieces as they come, which the observer hears as well.
    ///
    /// # Errors
    /// [`TarError`] of the stream, or what `each` says.
    pub fn observed_content<E: From<TarError>>(
        &mut self,
        each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.pieces(true, each)
    }

    fn pieces<E: From<TarError>>(
        &mut self,
        observed: bool,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while self.left > 0 {
            let piece = self.stream.fill_buf().map_err(TarError::Read)?;
            let length = piece
                .len()
                .min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if length == 0 {
                return Err(TarError::CutOff(self.current.clone()).into());
            }
            if observed {
                self.observer
                    .raw(&piece[..length])
                    .map_err(TarError::Observe)?;
            }
            each(&piece[..length])?;
            self.stream.consume(length);
            self.position += length as u64;
            self.left -= length as u64;
        }
        Ok(())
    }

    /// Reads what follows the archive's end, to the end of the stream.
    ///
    /// # Errors
    /// [`TarError`] of the stream.
    pub fn drain(&mut self) -> Result<(), TarError> {
        loop {
            let piece = self.stream.fill_buf().map_err(TarError::Read)?;
            let length = piece.len();
            if length == 0 {
                return Ok(());
            }
            self.observer.raw(piece).map_err(TarError::Observe)?;
            self.stream.consume(length);
            self.position += length as u64;
        }
    }

    /// The next header; `None` at the end of the archive.
    fn header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended {
            return Ok(None);
        }
        let start = self.position;
        let mut header = Header::new_old();
        let got = self.fill(header.as_mut_bytes())?;
        if got == 0 && start > 0 {
            // Some writers leave out the blocks of zeros that should stand here.
            self.ended = true;
            return Ok(None);
        }
        if got < BLOCK {
            return Err(if start == 0 {
                TarError::NoHeader(0)
            } else {
                TarError::CutOff(format!("the header after {}", self.current))
            });
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            self.ended = true;
            return Ok(None);
        }
        if !checksum_is_right(&header) {
            return Err(TarError::NoHeader(start));
        }
        Ok(Some(header))
    }

    fn member(
        &mut self,
        header: &Header,
        extensions: &Extensions,
        size: u64,
    ) -> Result<Member, TarError> {
        let path = extensions.name.clone();
        let mut member = Member {
            path: path.unwrap_or_else(|| header.path_bytes().into_owned()),
            ..Member::default()
        };
        self.current = printable(&member.path);
        self.basic_fields(header, &mut member)?;
        if let Some(link) = &extensions.link {
            member.link.clone_from(link);
        }
        member.size = size;
        let records = pax::parse(&extensions.pax)
            .ok_or_else(|| self.malformed("PAX records", &member.path))?;
        let stored = self.apply_records(&records, &mut member)?.unwrap_or(size);
        self.current = printable(&member.path);
        member.kind = self.kind(header, &member.path)?;
        // A link has no content, whatever size is noted.
        let has_content = member.kind == Kind::File;
        self.left = if has_content { stored } else { 0 };
        self.padding = padding(self.left);
        if has_content {
            self.sparse_map(header, &records, &mut member)?;
        } else {
            member.size = 0;
        }
        Ok(member)
    }

    fn basic_fields(&self, header: &Header, member: &mut Member) -> Result<(), TarError> {
        let bad = |field| self.malformed(field, &member.path);
        let old = header.as_old();
        if !blank(&old.mode) {
            member.mode = header.mode().map_err(|_| bad("mode"))? & 0o7777;
        }
        if !blank(&old.uid) {
            member.uid = small(header.uid()).ok_or_else(|| bad("owner"))?;
        }
        if !blank(&old.gid) {
            member.gid = small(header.gid()).ok_or_else(|| bad("group"))?;
        }
        if !blank(&old.mtime) {
            // Times before 1970 are stored in two's complement.
            member.mtime.seconds = header.mtime().map_err(|_| bad("time"))?.cast_signed();
        }
        member.link = header.link_name_bytes().unwrap_or_default().into_owned();
        Ok(())
    }

    /// What PAX records say; the size is the stored one, which only they may have changed.
    fn apply_records(
        &self,
        records: &[(&[u8], &[u8])],
        member: &mut Member,
    ) -> Result<Option<u64>, TarError> {
        let mut stored = None;
        for (key, value) in records {
            let bad = |field| self.malformed(field, &member.path);
            match *key {
                b"path" | b"GNU.sparse.name" => member.path = value.to_vec(),
                b"linkpath" => member.link = value.to_vec(),
                b"size" => stored = Some(pax::number(value).ok_or_else(|| bad("size"))?),
                b"uid" => member.uid = id(value).ok_or_else(|| bad("owner"))?,
                b"gid" => member.gid = id(value).ok_or_else(|| bad("group"))?,
                b"mtime" => member.mtime = pax::time(value).ok_or_else(|| bad("time"))?,
                b"atime" => member.atime = Some(pax::time(value).ok_or_else(|| bad("time"))?),
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        member.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        if let Some(stored) = stored {
            member.size = stored;
        }
        for (key, value) in records {
            if matches!(*key, b"GNU.sparse.realsize" | b"GNU.sparse.size") {
                member.size =
                    pax::number(value).ok_or_else(|| self.malformed("size", &member.path))?;
            }
        }
        Ok(stored)
    }

    fn kind(&self, header: &Header, path: &[u8]) -> Result<Kind, TarError> {
        let number = |number: io::Result<Option<u32>>| {
            number
                .map_err(|_| self.malformed("device number", path))
                .map(Option::unwrap_or_default)
        };
        Ok(match header.entry_type() {
            // Old archives have no type for directories.
            EntryType::Regular | EntryType::Continuous
                if header.as_old().linkflag[0] == 0 && path.ends_with(b"/") =>
            {
                Kind::Directory
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => Kind::Char(
                number(header.device_major())?,
                number(header.device_minor())?,
            ),
            EntryType::Block => Kind::Block(
                number(header.device_major())?,
                number(header.device_minor())?,
            ),
            _ => return Err(self.malformed("type", path)),
        })
    }

    fn sparse_map(
        &mut self,
        header: &Header,
        records: &[(&[u8], &[u8])],
        member: &mut Member,
    ) -> Result<(), TarError> {
        let malformed = |reader: &Self| reader.malformed("sparse map", &member.path);
        let parts = match sparse::announced(records).map_err(|()| malformed(self))? {
            _ if header.entry_type() == EntryType::GNUSparse => {
                let (size, parts) = self.old_map(header).ok_or_else(|| malformed(self))??;
                member.size = size;
                parts
            }
            Some(Announced::Map(parts)) => parts,
            Some(Announced::InContent) => {
                let path = member.path.clone();
                let name = self.current.clone();
                sparse::map_in_content(
                    || self.content_block(),
                    || TarError::Malformed {
                        field: "sparse map",
                        member: if name.is_empty() {
                            printable(&path)
                        } else {
                            name.clone()
                        },
                    },
                )?
            }
            None => return Ok(()),
        };
        if !sparse::fits(&parts, member.size, self.left) {
            return Err(self.malformed("sparse map", &member.path));
        }
        member.parts = Some(parts);
        Ok(())
    }

    /// GNU's old map: in the header and in blocks that follow it.
    #[allow(clippy::type_complexity)]
    fn old_map(&mut self, header: &Header) -> Option<Result<(u64, Vec<(u64, u64)>), TarError>> {
        let gnu = header.as_gnu()?;
        let size = gnu.real_size().ok()?;
        let mut parts = Vec::new();
        let mut take = |part: &tar::GnuSparseHeader| {
            if !part.is_empty() {
                parts.push((part.offset().ok()?, part.length().ok()?));
            }
            (parts.len() < (1 << 20)).then_some(())
        };
        for part in &gnu.sparse {
            take(part)?;
        }
        let mut more = gnu.is_extended();
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            match self.fill(block.as_mut_bytes()) {
                Ok(BLOCK) => {}
                Ok(_) => return Some(Err(TarError::CutOff(self.current.clone()))),
                Err(error) => return Some(Err(error)),
            }
            for part in block.sparse() {
                take(part)?;
            }
            more = block.is_extended();
        }
        // An entry of length 0 only marks the end of the file.
        parts.retain(|(_, length)| *length > 0);
        Some(Ok((size, parts)))
    }

    fn content_block(&mut self) -> Result<Vec<u8>, TarError> {
        let mut block = vec![0; BLOCK];
        if self.left < BLOCK as u64 || self.fill(&mut block)? < BLOCK {
            return Err(TarError::CutOff(self.current.clone()));
        }
        self.left -= BLOCK as u64;
        Ok(block)
    }

    fn long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(size)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let length = usize::try_from(size)
            .ok()
            .filter(|_| size <= EXTENSION_LIMIT)
            .ok_or_else(|| self.malformed("length of a record", self.current.as_bytes()))?;
        let mut data = vec![0; length];
        if self.fill(&mut data)? < length {
            return Err(TarError::CutOff(format!(
                "the record after {}",
                self.current
            )));
        }
        self.padding = padding(size);
        Ok(data)
    }

    fn skip_content(&mut self, size: u64) {
        self.left = size;
        self.padding = padding(size);
    }

    /// Fills a buffer as far as the stream goes.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        let mut got = 0;
        while got < buffer.len() {
            let piece = self.stream.fill_buf().map_err(TarError::Read)?;
            if piece.is_empty() {
                break;
            }
            let length = piece.len().min(buffer.len() - got);
            buffer[got..got + length].copy_from_slice(&piece[..length]);
            self.stream.consume(length);
            got += length;
        }
        self.observer
            .raw(&buffer[..got])
            .map_err(TarError::Observe)?;
        self.position += got as u64;
        Ok(got)
    }

    /// Passes over some bytes, which the observer hears.
    fn pass(&mut self, mut length: u64) -> Result<(), TarError> {
        while length > 0 {
            let piece = self.stream.fill_buf().map_err(TarError::Read)?;
            let step = piece
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            if step == 0 {
                return Err(TarError::CutOff(self.current.clone()));
            }
            self.observer
                .raw(&piece[..step])
                .map_err(TarError::Observe)?;
            self.stream.consume(step);
            self.position += step as u64;
            length -= step as u64;
        }
        Ok(())
    }

    fn malformed(&self, field: &'static str, member: &[u8]) -> TarError {
        TarError::Malformed {
            field,
            member: printable(member),
        }
    }
}

fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

/// Whether a writer left a field empty.
fn blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn small(number: io::Result<u64>) -> Option<u32> {
    u32::try_from(number.ok()?).ok()
}

fn id(text: &[u8]) -> Option<u32> {
    u32::try_from(pax::number(text)?).ok()
}

/// The sum of the header's bytes, its own field taken as blanks; some old writers summed signed.
fn checksum_is_right(header: &Header) -> bool {
    let Ok(noted) = header.cksum() else {
        return false;
    };
    let blanked = header.as_bytes().iter().enumerate().map(|(at, byte)| {
        if (148..156).contains(&at) {
            b' '
        } else {
            *byte
        }
    });
    let unsigned: u32 = blanked.clone().map(u32::from).sum();
    let signed: i32 = blanked.map(|byte| i32::from(byte.cast_signed())).sum();
    unsigned == noted || i64::from(signed) == i64::from(noted)
}

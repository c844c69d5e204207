//! A directory's entries as the kernel is told them, handed out while they are still being read.

use std::sync::{Arc, Condvar, Mutex};

use rustix::fs::FileType;

use crate::union::Res;
use crate::union::branch::lock;
use crate::union::wire::Put;

/// An entry before its name: number, offset of the next entry, length of the name, kind.
const FIXED: usize = 24;

/// Entries in the form of a READDIR reply; an entry's offset is the number of those up to it.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    bytes: Vec<u8>,
    /// Where each entry begins.
    starts: Vec<usize>,
}

impl Entries {
    pub(crate) fn push(&mut self, name: &[u8], ino: u64, kind: FileType) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.u64(ino);
        self.bytes.u64(self.starts.len() as u64);
        self.bytes.u32(u32::try_from(name.len()).unwrap_or(0));
        self.bytes.u32(u32::from(kind_byte(kind)));
        self.bytes.extend_from_slice(name);
        let end = start + (FIXED + name.len()).next_multiple_of(8);
        self.bytes.resize(end, 0);
    }

    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// How many bytes of a reply they fill.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Adds others behind these.
    fn append(&mut self, others: &Self) {
        for index in 0..others.len() {
            let start = self.bytes.len();
            self.starts.push(start);
            self.bytes.extend_from_slice(others.entry(index));
            let next = self.starts.len() as u64;
            self.bytes[start + 8..start + 16].copy_from_slice(&next.to_ne_bytes());
        }
    }

    /// One entry whole.
    pub(crate) fn entry(&self, index: usize) -> &[u8] {
        let end = self.starts.get(index + 1).copied();
        &self.bytes[self.starts[index]..end.unwrap_or(self.bytes.len())]
    }

    pub(crate) fn name(&self, index: usize) -> &[u8] {
        let entry = self.entry(index);
        let length = [16, 17, 18, 19].map(|at| entry[at]);
        &entry[FIXED..FIXED + u32::from_ne_bytes(length) as usize]
    }

    /// A copy of up to `count` entries from `first` on, with the offsets that they have here.
    pub(crate) fn part(&self, first: usize, count: usize) -> Self {
        let mut part = Self::default();
        for index in first..self.len().min(first.saturating_add(count)) {
            part.starts.push(part.bytes.len());
            part.bytes.extend_from_slice(self.entry(index));
        }
        part
    }

    /// As many entries from `first` on as `room` bytes hold.
    pub(crate) fn from(&self, first: usize, room: usize) -> &[u8] {
        let Some(&start) = self.starts.get(first) else {
            return &[];
        };
        if self.bytes.len() - start <= room {
            return &self.bytes[start..];
        }
        let after = self.starts.partition_point(|&at| at <= start + room);
        &self.bytes[start..self.starts[after - 1]]
    }
}

fn kind_byte(kind: FileType) -> u8 {
    match kind {
        FileType::Fifo => libc::DT_FIFO,
        FileType::CharacterDevice => libc::DT_CHR,
        FileType::Directory => libc::DT_DIR,
        FileType::BlockDevice => libc::DT_BLK,
        FileType::RegularFile => libc::DT_REG,
        FileType::Symlink => libc::DT_LNK,
        FileType::Socket => libc::DT_SOCK,
        FileType::Unknown => libc::DT_UNKNOWN,
    }
}

/// A listing that one thread fills and others read.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    inner: Mutex<Inner>,
    more: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    entries: Entries,
    /// How the reading ended, if it has.
    end: Option<Res<()>>,
}

impl Listing {
    /// A listing with what was read so far, and how the reading ended if it has.
    pub(crate) fn new(entries: Entries, end: Option<Res<()>>) -> Arc<Self> {
        let inner = Mutex::new(Inner { entries, end });
        let more = Condvar::new();
        Arc::new(Self { inner, more })
    }

    /// Adds what was read since.
    pub(crate) fn append(&self, part: &Entries) {
        lock(&self.inner).entries.append(part);
        self.more.notify_all();
    }

    /// There is no more to come.
    pub(crate) fn end(&self, end: Res<()>) {
        lock(&self.inner).end = Some(end);
        self.more.notify_all();
    }

    /// Whether it was read to its end.
    pub(crate) fn is_whole(&self) -> bool {
        lock(&self.inner).end == Some(Ok(()))
    }

    /// Shows the entries as soon as there are some from `first` on, or none will be.
    ///
    /// # Errors
    ///
    /// What the branch answered when it could be read no further than `first`.
    pub(crate) fn read<T>(&self, first: usize, show: impl FnOnce(&Entries) -> T) -> Res<T> {
        let is_wanting = |inner: &mut Inner| inner.end.is_none() && inner.entries.len() <= first;
        let inner = self
            .more
            .wait_while(lock(&self.inner), is_wanting)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        match inner.end {
            Some(Err(errno)) if inner.entries.len() <= first => Err(errno),
            _ => Ok(show(&inner.entries)),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn entries_come_whole_and_in_order() {
        let mut entries = Entries::default();
        let names: Vec<String> = (0..100).map(|number| "n".repeat(1 + number * 2)).collect();
        for name in &names {
            entries.push(name.as_bytes(), 7, FileType::RegularFile);
        }
        assert_eq!(entries.name(99), names[99].as_bytes());
        for room in [300, 301, 1000, 4096, 1 << 20] {
            let (mut at, mut bytes) = (0, Vec::new());
            while at < names.len() {
                let part = entries.from(at, room);
                assert!(!part.is_empty() && part.len() <= room, "{room}");
                bytes.extend_from_slice(part);
                at = entries.starts.partition_point(|&start| start < bytes.len());
            }
            assert_eq!(bytes, entries.bytes, "{room}");
            assert!(entries.from(at, room).is_empty());
        }
        assert!(entries.from(0, 16).is_empty());
    }

    #[test]
    fn readers_wait_for_what_is_being_read() {
        let listing = Listing::new(Entries::default(), None);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut names = Vec::new();
                while let Ok(Some(name)) = listing.read(names.len(), |entries| {
                    (names.len() < entries.len()).then(|| entries.name(names.len()).to_vec())
                }) {
                    names.push(name);
                }
                (names, listing.read(2, Entries::len))
            });
            for name in [b"a", b"b"] {
                let mut part = Entries::default();
                part.push(name, 7, FileType::Directory);
                listing.append(&part);
            }
            listing.end(Err(Errno::IO));
            let (names, end) = reader.join().unwrap();
            assert_eq!(names, [b"a", b"b"]);
            assert_eq!(end, Err(Errno::IO));
        });
    }
}

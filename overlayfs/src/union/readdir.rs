//! Listings of directories: merged, each name once, from its topmost branch.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::marks::Found;
use crate::union::node::{Node, ROOT};
use crate::union::tree::Union;
use crate::union::wire::Put;

/// A directory's entries as they were at one moment, as the kernel is told them.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    bytes: Vec<u8>,
    /// Where each entry begins.
    starts: Vec<usize>,
}

/// An entry before its name: number, offset of the next entry, length of the name, kind.
const FIXED: usize = 24;

impl Listing {
    fn push(&mut self, name: &[u8], ino: u64, kind: FileType) {
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

impl Union {
    /// Reads a directory whole.
    pub(crate) fn list(&self, members: &Members, node: &Arc<Node>) -> Res<Listing> {
        let places = self.places(members, node)?;
        let mut listing = Listing::default();
        let parent = node
            .state()
            .parent
            .as_ref()
            .map_or(ROOT, |parent| parent.ino);
        listing.push(b".", node.ino, FileType::Directory);
        listing.push(b"..", parent, FileType::Directory);
        let marks = members.marks();
        let merged = places.at.len() > 1;
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for (step, &at) in places.at.iter().enumerate() {
            let branch = members.branch(at);
            let fd = match self.dir_fd(members, node, at) {
                Err(Errno::NOENT) if merged => continue,
                other => other?,
            };
            let is_last = step + 1 == places.at.len();
            let mut hidden = Vec::new();
            let read = marks.for_each_entry(fd.as_fd(), |found, ino, kind| {
                if let Found::Whiteout(_, name) = found
                    && branch.permission.whiteouts
                    && !is_last
                {
                    hidden.push(name.to_vec());
                }
                let (Found::Object(name) | Found::Whiteout(name, _) | Found::Own(name)) = found;
                if !matches!(found, Found::Object(_)) && !members.settings.show_marks {
                    return ControlFlow::Continue(());
                }
                let bytes = name.to_bytes();
                if merged {
                    if step > 0 && seen.contains(bytes) {
                        return ControlFlow::Continue(());
                    }
                    if !is_last {
                        seen.insert(bytes.to_vec());
                    }
                }
                listing.push(bytes, self.entry_ino(branch, &fd, name, ino), kind);
                ControlFlow::Continue(())
            });
            match read {
                // Its directory was removed: the other branches still have theirs.
                Err(Errno::NOENT) if merged => {}
                other => other?,
            }
            seen.extend(hidden);
        }
        Ok(listing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_whole_and_in_order() {
        let mut listing = Listing::default();
        let names: Vec<String> = (0..100).map(|number| "n".repeat(1 + number * 2)).collect();
        for name in &names {
            listing.push(name.as_bytes(), 7, FileType::RegularFile);
        }
        assert_eq!(listing.name(99), names[99].as_bytes());
        for room in [300, 301, 1000, 4096, 1 << 20] {
            let (mut at, mut bytes) = (0, Vec::new());
            while at < names.len() {
                let part = listing.from(at, room);
                assert!(!part.is_empty() && part.len() <= room, "{room}");
                bytes.extend_from_slice(part);
                at = listing.starts.partition_point(|&start| start < bytes.len());
            }
            assert_eq!(bytes, listing.bytes, "{room}");
            assert!(listing.from(at, room).is_empty());
        }
        assert!(listing.from(0, 16).is_empty());
    }
}

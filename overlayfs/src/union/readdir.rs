//! Listings of directories: merged, each name once, from its topmost branch.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::sync::Arc;

use rustix::fs::FileType;
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::marks::{for_each_entry, is_reserved};
use crate::union::node::{Node, ROOT};
use crate::union::tree::Union;
use crate::union::wire::Put;

/// A directory's entries as they were at one moment.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    entries: Vec<Entry>,
    names: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    ino: u64,
    start: u32,
    length: u16,
    kind: u8,
}

impl Listing {
    fn push(&mut self, name: &[u8], ino: u64, kind: FileType) {
        let start = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        let length = u16::try_from(name.len()).unwrap_or(0);
        self.names.extend_from_slice(name);
        self.entries.push(Entry {
            ino,
            start,
            length,
            kind: kind_byte(kind),
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn name(&self, index: usize) -> &[u8] {
        let entry = &self.entries[index];
        let start = entry.start as usize;
        &self.names[start..start + usize::from(entry.length)]
    }

    /// Writes the plain form of an entry; false when it does not fit any more.
    pub(crate) fn put(&self, index: usize, out: &mut Vec<u8>, room: usize) -> bool {
        let entry = &self.entries[index];
        let name = self.name(index);
        let size = (24 + name.len()).next_multiple_of(8);
        if out.len() + size > room {
            return false;
        }
        out.u64(entry.ino);
        out.u64(index as u64 + 1);
        out.u32(u32::from(entry.length));
        out.u32(u32::from(entry.kind));
        out.extend_from_slice(name);
        out.zeros(size - 24 - name.len());
        true
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
            for_each_entry(fd.as_fd(), |name, ino, kind| {
                let bytes = name.to_bytes();
                if is_reserved(bytes) {
                    if branch.permission.whiteouts && !is_last {
                        hidden.push(bytes[4..].to_vec());
                    }
                    if !members.settings.show_marks {
                        return ControlFlow::Continue(());
                    }
                }
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
            })?;
            seen.extend(hidden);
        }
        Ok(listing)
    }
}

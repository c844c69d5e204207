//! Reading directories: merged, each name once, from its topmost branch.
//!
//! What fills a first reply is read at once; the rest of a large directory by a thread of its own,
//! while the caller is busy with what it has.

use std::collections::HashSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;

use rustix::fs::{FileType, Mode, OFlags, RawDir, openat};
use rustix::io::Errno;
use rustix::process::getpid;
use rustix::thread::{sched_getaffinity, sched_setaffinity};

use crate::union::Res;
use crate::union::branch::{Branch, Members};
use crate::union::listing::{Entries, Listing};
use crate::union::marks::{Finder, Found};
use crate::union::node::{Node, ROOT};
use crate::union::tree::Union;

/// How many bytes of entries are read before the first reply, and at a time: about what one reply
/// to the usual caller holds.
const PART: usize = 32 << 10;

/// How many directories are read ahead at the same time; further ones are read whole at once.
const MOST_AHEAD: usize = 16;

/// A directory being read.
struct Reader {
    members: Arc<Members>,
    node: Arc<Node>,
    /// The branches that are still to be read, last first.
    places: Vec<u16>,
    merged: bool,
    /// Names that lower branches do not show.
    seen: HashSet<Vec<u8>>,
    buffer: Vec<MaybeUninit<u8>>,
    open: Option<Part>,
}

/// The directory of one branch while it is read.
struct Part {
    branch: Arc<Branch>,
    /// By which names in it are reached.
    dir: Arc<OwnedFd>,
    stream: OwnedFd,
    /// Names that its whiteouts hide: in the branches below, not in itself.
    hidden: Vec<Vec<u8>>,
    finder: Finder,
    is_last: bool,
}

impl Union {
    /// Begins to read a directory; the listing fills by itself.
    pub(crate) fn list(&self, node: &Arc<Node>) -> Res<Arc<Listing>> {
        let mut reader = Reader::new(self, node)?;
        let mut entries = Entries::default();
        let parent = node.state().parent.as_ref().map_or(ROOT, |it| it.ino);
        for (name, number) in [(b".".as_slice(), node.ino), (b"..", parent)] {
            let number = self.shown_number(&reader.members, number);
            entries.push(name, number, FileType::Directory);
        }
        while entries.size() < PART {
            if !reader.step(self, &mut entries)? {
                return Ok(Listing::new(entries, Some(Ok(()))));
            }
        }
        let listing = Listing::new(entries, None);
        self.read_ahead(reader, &listing);
        Ok(listing)
    }

    /// Leaves the rest of a directory to a thread, unless there are too many already.
    fn read_ahead(&self, reader: Reader, listing: &Arc<Listing>) {
        let has_room = self.reading_ahead.fetch_add(1, Ordering::Relaxed) < MOST_AHEAD;
        let (given, taken) = channel::<Reader>();
        let thread = self.myself().filter(|_| has_room).map(|union| {
            let listing = Arc::clone(listing);
            let read = move || {
                // The thread that starts it may have to stay on one processor.
                let all = sched_getaffinity(Some(getpid()));
                let _ = all.and_then(|all| sched_setaffinity(None, &all));
                if let Ok(reader) = taken.recv() {
                    reader.rest(&union, &listing);
                    union.reading_ahead.fetch_sub(1, Ordering::Relaxed);
                }
            };
            std::thread::Builder::new()
                .name("union-list".into())
                .spawn(read)
        });
        if let Some(Ok(_)) = thread {
            let _ = given.send(reader);
        } else {
            reader.rest(self, listing);
            self.reading_ahead.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Reader {
    fn new(union: &Union, node: &Arc<Node>) -> Res<Self> {
        let members = union.members();
        let mut places = union.places(&members, node)?.at.clone();
        places.reverse();
        Ok(Self {
            members,
            node: Arc::clone(node),
            merged: places.len() > 1,
            places,
            seen: HashSet::new(),
            buffer: vec![MaybeUninit::uninit(); PART],
            open: None,
        })
    }

    /// Reads to the end, or until nobody wants to know.
    fn rest(mut self, union: &Union, listing: &Arc<Listing>) {
        let end = loop {
            let mut part = Entries::default();
            match self.step(union, &mut part) {
                Ok(false) => break Ok(()),
                Err(errno) => break Err(errno),
                Ok(true) => listing.append(&part),
            }
            if Arc::strong_count(listing) == 1 {
                return;
            }
        };
        listing.end(end);
    }

    /// Reads a part of a branch; false when there is no more.
    fn step(&mut self, union: &Union, entries: &mut Entries) -> Res<bool> {
        let mut part = match self.open.take() {
            Some(part) => part,
            None => match self.places.pop() {
                None => return Ok(false),
                Some(at) => match self.open_part(union, at) {
                    // Its directory was removed: the other branches still have theirs.
                    Err(Errno::NOENT) if self.merged => return Ok(true),
                    other => other?,
                },
            },
        };
        match self.read_part(union, &mut part, entries) {
            Ok(true) => self.open = Some(part),
            Ok(false) => self.seen.extend(part.hidden),
            Err(Errno::NOENT) if self.merged => self.seen.extend(part.hidden),
            Err(errno) => return Err(errno),
        }
        Ok(true)
    }

    fn open_part(&self, union: &Union, at: u16) -> Res<Part> {
        let dir = union.dir_fd(&self.members, &self.node, at)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let stream = openat(&dir, c".", flags, Mode::empty())?;
        Ok(Part {
            branch: Arc::clone(self.members.branch(at)),
            finder: self.members.marks().finder(stream.as_fd())?,
            stream,
            dir,
            hidden: Vec::new(),
            is_last: self.places.is_empty(),
        })
    }

    /// One buffer of a branch's entries; false when it had none.
    fn read_part(&mut self, union: &Union, part: &mut Part, entries: &mut Entries) -> Res<bool> {
        let shows_marks = self.members.settings.show_marks;
        let numbers = union.entry_numbers(&part.branch);
        let mut read = RawDir::new(&part.stream, &mut self.buffer);
        let mut had_some = false;
        while !had_some || !read.is_buffer_empty() {
            let Some(entry) = read.next() else { break };
            let entry = entry?;
            had_some = true;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = part
                .finder
                .find(part.stream.as_fd(), name, entry.file_type())?;
            if let Found::Whiteout(_, hidden) = found
                && part.branch.permission.whiteouts
                && !part.is_last
            {
                part.hidden.push(hidden.to_vec());
            }
            let mut shown = shows_marks || matches!(found, Found::Object(_));
            let name = name.to_bytes();
            if shown && self.merged {
                shown = if part.is_last {
                    !self.seen.contains(name)
                } else {
                    self.seen.insert(name.to_vec())
                };
            }
            if shown {
                let mut kind = entry.file_type();
                let mut ino = numbers.of(&part.dir, entry.file_name(), entry.ino());
                if self.members.settings.newest && self.merged && kind != FileType::Directory {
                    let place = (&self.node, entry.file_name());
                    (ino, kind) = union
                        .newest_entry(&self.members, place)
                        .unwrap_or((ino, kind));
                }
                entries.push(name, union.shown_number(&self.members, ino), kind);
            }
        }
        Ok(had_some)
    }
}

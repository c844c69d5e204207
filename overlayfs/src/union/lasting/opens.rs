//! An open as it is written down, with the request that it answers: one that is sent again has not
//! been answered, and what it opened is closed.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::fs::Statx;

use crate::union::lasting::Lasting;
use crate::union::node::Real;

/// Words for an open.
pub(super) const SIZE: usize = 10;

const NUMBER: usize = 0;
const WRITES: u64 = 1;
const EXECUTES: u64 = 2;
const DIRECTORY: u64 = 4;

/// Where one open is written down.
#[derive(Debug)]
pub(crate) struct OpenRecord {
    lasting: Arc<Lasting>,
    slot: u32,
}

/// An open as it was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastingOpen {
    pub(crate) slot: u32,
    pub(crate) number: u64,
    pub(crate) node: u64,
    /// The request.
    pub(crate) unique: u64,
    pub(crate) what: Kept,
}

/// What is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A directory, since that time.
    Dir(Duration),
    /// A file.
    File(LastingFile),
}

/// What serves an open file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LastingFile {
    pub(crate) descriptor: i32,
    pub(crate) lineage: u32,
    pub(crate) real: Real,
    pub(crate) writes: bool,
    pub(crate) executes: bool,
}

impl LastingFile {
    pub(crate) fn new(
        file: &impl AsRawFd,
        stat: &Statx,
        lineage: u32,
        (writes, executes): (bool, bool),
    ) -> Self {
        Self {
            descriptor: file.as_raw_fd(),
            lineage,
            real: Real::of(stat),
            writes,
            executes,
        }
    }
}

impl OpenRecord {
    /// A place for one more open; none when there is no room.
    pub(crate) fn new(lasting: &Arc<Lasting>) -> Option<Self> {
        let slot = lasting.opens.take(lasting)?;
        Some(Self::at(lasting, slot))
    }

    /// The place of an open that was written down.
    pub(crate) fn at(lasting: &Arc<Lasting>, slot: u32) -> Self {
        Self {
            lasting: Arc::clone(lasting),
            slot,
        }
    }

    /// Writes an open down that answers a request.
    pub(crate) fn write(&self, number: u64, node: u64, unique: u64, what: Kept) {
        let place = self.lasting.opens.place(&self.lasting.words, self.slot);
        place[1].store(node, Ordering::Release);
        place[2].store(unique, Ordering::Release);
        match what {
            Kept::File(file) => self.write_file(file),
            Kept::Dir(opened) => {
                place[3].store(DIRECTORY, Ordering::Release);
                place[4].store(opened.as_secs(), Ordering::Release);
                place[5].store(opened.subsec_nanos().into(), Ordering::Release);
            }
        }
        place[NUMBER].store(number, Ordering::Release);
    }

    /// Writes down what serves it from now on.
    pub(crate) fn write_file(&self, file: LastingFile) {
        let place = self.lasting.opens.place(&self.lasting.words, self.slot);
        let writes = if file.writes { WRITES } else { 0 };
        let executes = if file.executes { EXECUTES } else { 0 };
        let [device, ino, seconds, nanoseconds] = file.real.words();
        let words = [
            writes | executes,
            u64::from(file.lineage) << 32 | u64::from(file.descriptor.cast_unsigned()),
            device,
            ino,
            seconds,
            nanoseconds,
        ];
        for (at, word) in words.into_iter().enumerate() {
            place[3 + at].store(word, Ordering::Release);
        }
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        let place = self.lasting.opens.place(&self.lasting.words, self.slot);
        place[NUMBER].store(0, Ordering::Release);
        self.lasting.opens.give(self.slot);
    }
}

impl Lasting {
    /// All opens that are written down; the other slots are there for new ones from now on.
    pub(crate) fn opens(&self) -> Vec<LastingOpen> {
        let mut opens = Vec::new();
        for slot in self.opens.all(self) {
            let place = self.opens.place(&self.words, slot);
            let get = |at: usize| place[at].load(Ordering::Acquire);
            if get(NUMBER) == 0 {
                self.opens.give(slot);
                continue;
            }
            let descriptor = u32::try_from(get(4) & 0xffff_ffff).unwrap_or(0);
            let file = LastingFile {
                descriptor: descriptor.cast_signed(),
                lineage: u32::try_from(get(4) >> 32).unwrap_or(0),
                real: Real::from_words([get(5), get(6), get(7), get(8)]),
                writes: get(3) & WRITES != 0,
                executes: get(3) & EXECUTES != 0,
            };
            opens.push(LastingOpen {
                slot,
                number: get(NUMBER),
                node: get(1),
                unique: get(2),
                what: match get(3) & DIRECTORY {
                    0 => Kept::File(file),
                    _ => Kept::Dir(Duration::from_secs(get(4)) + Duration::from_nanos(get(5))),
                },
            });
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_come_back_until_they_end() {
        let lasting = Lasting::new().unwrap();
        let (dir, open) = (
            OpenRecord::new(&lasting).unwrap(),
            OpenRecord::new(&lasting).unwrap(),
        );
        let file = LastingFile {
            descriptor: 9,
            lineage: 3,
            real: Real::from_words([1, 2, 3, 4]),
            writes: true,
            executes: false,
        };
        let since = Kept::Dir(Duration::new(7, 8));
        dir.write(1, 10, 100, since);
        open.write(2, 20, 200, Kept::File(file));
        let seen = |lasting: &Lasting| -> Vec<_> {
            let opens = lasting.opens().into_iter();
            opens
                .map(|it| (it.number, it.node, it.unique, it.what))
                .collect()
        };
        let (first, second) = ((1, 10, 100, since), (2, 20, 200, Kept::File(file)));
        assert_eq!(seen(&lasting), [first, second]);
        let moved = LastingFile {
            descriptor: 11,
            ..file
        };
        open.write_file(moved);
        drop(dir);
        assert_eq!(seen(&lasting), [(2, 20, 200, Kept::File(moved))]);
    }
}

//! What outlives the server of a union with `recover`: nodes, opens and branches, in memory that it
//! shares with the process that holds its descriptors.
//!
//! ```text
//! header, file systems │ branches, two times │ opens, a slot each │ nodes, a slot each
//! ```
//!
//! Whatever the kernel is told is written here first, so that what it knows is never missing; what
//! was written and never told is harmless. Descriptors are numbers here, and are only believed
//! where what they are open on is what they should be.

mod branches;
mod nodes;
mod opens;

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use sys::shared::SharedWords;

use crate::union::UnionError;
use crate::union::branch::lock;

pub(crate) use branches::{LastingBranch, LastingMembers};
pub(crate) use nodes::{LastingNode, Record};
pub(crate) use opens::{Kept, LastingFile, LastingOpen, OpenRecord};

/// Numbers of the header, by place.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Word {
    /// Whether a server has served: from then on another can take over.
    Begun,
    /// How often one has.
    Restarts,
    /// What was agreed on with the kernel.
    Agreed,
    /// The descriptor of the device.
    Device,
    /// What tells the nodes of this mount from others'.
    Generation,
    /// The number of the next node.
    NextNode,
    /// The number of the next open.
    NextOpen,
    /// How many slots of nodes were ever used.
    NodeSlots,
    /// How many slots of opens were ever used.
    OpenSlots,
    /// Which copy of the branches holds, and its length.
    Branches,
    /// How many file systems have numbers.
    FileSystems,
    /// Of how many places it was said which file system they are on.
    Places,
}

const HEADER: usize = 16;
/// File systems that keep their numbers.
const FILE_SYSTEMS: usize = 1024;
/// Places of branches that stay on their file systems.
const PLACES: usize = 1024;
/// Words for the branches, each time.
const BRANCHES: usize = 1 << 20;
const OPEN_SLOTS: usize = 1 << 20;
const NODE_SLOTS: usize = 1 << 23;

const PLACES_AT: usize = HEADER + FILE_SYSTEMS;
const BRANCHES_AT: usize = PLACES_AT + 2 * PLACES;
const OPENS_AT: usize = BRANCHES_AT + 2 * BRANCHES;
const NODES_AT: usize = OPENS_AT + OPEN_SLOTS * opens::SIZE;
const END: usize = NODES_AT + NODE_SLOTS * nodes::SIZE;

/// The memory; what is not used takes none.
#[derive(Debug)]
pub(crate) struct Lasting {
    words: SharedWords,
    nodes: Slots,
    opens: Slots,
}

/// Places of one size.
#[derive(Debug)]
struct Slots {
    start: usize,
    size: usize,
    most: usize,
    used: Word,
    free: Mutex<Vec<u32>>,
}

impl Lasting {
    /// Memory in which nothing is written yet.
    pub(crate) fn new() -> Result<Arc<Self>, UnionError> {
        let slots = |start, size, most, used| Slots {
            start,
            size,
            most,
            used,
            free: Mutex::default(),
        };
        Ok(Arc::new(Self {
            words: SharedWords::new(END)?,
            nodes: slots(NODES_AT, nodes::SIZE, NODE_SLOTS, Word::NodeSlots),
            opens: slots(OPENS_AT, opens::SIZE, OPEN_SLOTS, Word::OpenSlots),
        }))
    }

    pub(crate) fn get(&self, word: Word) -> u64 {
        self.words[word as usize].load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, word: Word, value: u64) {
        self.words[word as usize].store(value, Ordering::Release);
    }

    /// Writes down which descriptor is the device.
    pub(crate) fn set_descriptor(&self, device: impl AsFd) {
        let number = device.as_fd().as_raw_fd().cast_unsigned();
        self.set(Word::Device, number.into());
    }

    /// Sets a number that only grows.
    pub(crate) fn raise(&self, word: Word, value: u64) {
        self.words[word as usize].fetch_max(value, Ordering::AcqRel);
    }

    /// The device numbers of the file systems that have numbers, in their order.
    pub(crate) fn file_systems(&self) -> Vec<u64> {
        let count = usize::try_from(self.get(Word::FileSystems)).unwrap_or(0);
        let words = &self.words[HEADER..][..count.min(FILE_SYSTEMS)];
        words
            .iter()
            .map(|word| word.load(Ordering::Acquire))
            .collect()
    }

    /// Writes one more down, the last of those given.
    pub(crate) fn keep_file_system(&self, devices: &[u64]) {
        let at = devices.len().wrapping_sub(1);
        if let (Some(&device), true) = (devices.last(), at < FILE_SYSTEMS) {
            self.words[HEADER + at].store(device, Ordering::Release);
            self.set(Word::FileSystems, devices.len() as u64);
        }
    }

    /// Places of branches, each with the number of its file system.
    pub(crate) fn places(&self) -> Vec<(u64, u64)> {
        let count = usize::try_from(self.get(Word::Places)).unwrap_or(0);
        let words = &self.words[PLACES_AT..][..2 * count.min(PLACES)];
        let (pairs, _) = words.as_chunks::<2>();
        let load = |word: &AtomicU64| word.load(Ordering::Acquire);
        pairs
            .iter()
            .map(|[place, at]| (load(place), load(at)))
            .collect()
    }

    /// Writes one more down; the caller sees to it that nobody else does meanwhile.
    pub(crate) fn keep_place(&self, place: u64, file_system: u64) {
        let count = self.get(Word::Places);
        let Some(at) = usize::try_from(count).ok().filter(|&at| at < PLACES) else {
            return;
        };
        self.words[PLACES_AT + 2 * at].store(place, Ordering::Release);
        self.words[PLACES_AT + 2 * at + 1].store(file_system, Ordering::Release);
        self.set(Word::Places, count + 1);
    }
}

impl Slots {
    fn place<'a>(&self, words: &'a [AtomicU64], slot: u32) -> &'a [AtomicU64] {
        &words[self.start + slot as usize * self.size..][..self.size]
    }

    /// A slot that nobody uses; none when all are used.
    fn take(&self, lasting: &Lasting) -> Option<u32> {
        if let Some(slot) = lock(&self.free).pop() {
            return Some(slot);
        }
        let used = &lasting.words[self.used as usize];
        let more = |used: u64| (used < self.most as u64).then_some(used + 1);
        let slot = used.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        slot.ok().and_then(|slot| u32::try_from(slot).ok())
    }

    fn give(&self, slot: u32) {
        lock(&self.free).push(slot);
    }

    /// All slots that were ever used.
    fn all(&self, lasting: &Lasting) -> impl Iterator<Item = u32> + use<> {
        let used = lasting.get(self.used).min(self.most as u64);
        0..u32::try_from(used).unwrap_or(0)
    }
}

/// Packs bytes into words, the last filled up with zeros.
fn packed(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_ne_bytes(word)
    })
}

/// The bytes that were packed.
fn unpacked(words: &[AtomicU64], length: usize) -> Vec<u8> {
    let words = words.iter().take(length.div_ceil(8));
    let mut bytes: Vec<u8> = words
        .flat_map(|word| word.load(Ordering::Acquire).to_ne_bytes())
        .collect();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_again() {
        let lasting = Lasting::new().unwrap();
        let (first, second) = (
            lasting.nodes.take(&lasting).unwrap(),
            lasting.nodes.take(&lasting).unwrap(),
        );
        assert_ne!(first, second);
        lasting.nodes.give(first);
        assert_eq!(lasting.nodes.take(&lasting), Some(first));
        assert_eq!(lasting.nodes.all(&lasting).count(), 2);
    }

    #[test]
    fn bytes_come_back() {
        let lasting = Lasting::new().unwrap();
        for text in ["", "a", "12345678", "123456789"] {
            for (word, value) in lasting.words.iter().zip(packed(text.as_bytes())) {
                word.store(value, Ordering::Release);
            }
            assert_eq!(unpacked(&lasting.words, text.len()), text.as_bytes());
        }
    }

    #[test]
    fn file_systems_keep_their_order() {
        let lasting = Lasting::new().unwrap();
        lasting.keep_file_system(&[7]);
        lasting.keep_file_system(&[7, 5]);
        assert_eq!(lasting.file_systems(), [7, 5]);
        lasting.keep_place(0xfeed, 1);
        lasting.keep_place(0xbeef, 0);
        assert_eq!(lasting.places(), [(0xfeed, 1), (0xbeef, 0)]);
        assert_eq!(lasting.file_systems(), [7, 5]);
    }
}

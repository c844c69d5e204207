//! A node as it is written down: by whatever changes it, before that is told to anybody.

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::union::lasting::{Lasting, packed, unpacked};
use crate::union::node::{Node, Real, State};

/// Words for a node: its numbers and a name of up to 255 bytes.
pub(super) const SIZE: usize = HEAD + 32;
const HEAD: usize = 15;

const STATE: usize = 0;
const PARENT: usize = 4;
const NAME_LENGTH: usize = 14;

const FREE: u64 = 0;
const WHOLE: u64 = 1;
/// Its writer died between the words of its place: where it lies is not known.
const TORN: u64 = 2;

/// Where one node is written down.
#[derive(Debug)]
pub(crate) struct Record {
    lasting: Arc<Lasting>,
    slot: u32,
    ended: AtomicBool,
}

/// A node as it was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LastingNode {
    pub(crate) slot: u32,
    pub(crate) id: u64,
    pub(crate) ino: u64,
    pub(crate) kind: u32,
    pub(crate) gone: bool,
    pub(crate) lost: bool,
    /// None where it is not known.
    pub(crate) place: Option<(u64, CString)>,
    pub(crate) real: Real,
    pub(crate) lookups: u64,
    pub(crate) at: u16,
    pub(crate) backing: Option<i32>,
    pub(crate) pin: Option<i32>,
}

/// A number that may not be, as a word.
fn maybe(number: Option<i32>) -> u64 {
    number.map_or(0, |number| {
        u64::from(number.cast_unsigned()).wrapping_add(1)
    })
}

fn number(word: u64) -> Option<i32> {
    let number = u32::try_from(word.checked_sub(1)?).ok()?;
    Some(number.cast_signed())
}

impl Record {
    /// A place for one more node; none when there is no room, and the node does not outlive the
    /// server then.
    pub(crate) fn new(lasting: &Arc<Lasting>) -> Option<Self> {
        let slot = lasting.nodes.take(lasting)?;
        Some(Self::at(lasting, slot))
    }

    /// The place of a node that was written down.
    pub(crate) fn at(lasting: &Arc<Lasting>, slot: u32) -> Self {
        Self {
            lasting: Arc::clone(lasting),
            slot,
            ended: AtomicBool::new(false),
        }
    }

    /// Writes a node down; whoever calls has its state locked.
    pub(crate) fn write(&self, node: &Node, state: &State) {
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        let place = self.lasting.nodes.place(&self.lasting.words, self.slot);
        let opened = state.opened.as_ref();
        let backing = opened.and_then(|opened| opened.backing.as_ref());
        let [device, ino, seconds, nanoseconds] = state.real.words();
        let name = state.name.as_bytes();
        let head: [u64; HEAD] = [
            WHOLE,
            node.id,
            node.ino,
            u64::from(node.kind) | u64::from(state.gone) << 32 | u64::from(state.lost) << 33,
            state.parent.as_ref().map_or(0, |parent| parent.id),
            device,
            ino,
            seconds,
            nanoseconds,
            state.lookups(),
            state.at.into(),
            maybe(backing.map(|backing| backing.id.0)),
            maybe(state.pin.as_ref().map(|pin| pin.as_raw_fd())),
            0,
            name.len() as u64,
        ];
        let get = |at: usize| place[at].load(Ordering::Relaxed);
        let was = get(STATE);
        let moves = get(PARENT) != head[PARENT]
            || get(NAME_LENGTH) != head[NAME_LENGTH]
            || (HEAD..).zip(packed(name)).any(|(at, word)| get(at) != word);
        if moves {
            if was != FREE {
                place[STATE].store(TORN, Ordering::Release);
            }
            for (at, word) in (HEAD..SIZE).zip(packed(name)) {
                place[at].store(word, Ordering::Release);
            }
        }
        for at in 1..HEAD {
            if get(at) != head[at] {
                place[at].store(head[at], Ordering::Release);
            }
        }
        if was != WHOLE || moves {
            place[STATE].store(WHOLE, Ordering::Release);
        }
    }

    /// The kernel has forgotten the node; whoever calls has its state locked.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        let place = self.lasting.nodes.place(&self.lasting.words, self.slot);
        place[STATE].store(FREE, Ordering::Release);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.end();
        self.lasting.nodes.give(self.slot);
    }
}

impl Lasting {
    /// All nodes that are written down; the other slots are there for new ones from now on.
    pub(crate) fn nodes(&self) -> Vec<LastingNode> {
        let mut nodes = Vec::new();
        for slot in self.nodes.all(self) {
            match self.node(slot) {
                Some(node) => nodes.push(node),
                None => self.nodes.give(slot),
            }
        }
        nodes
    }

    fn node(&self, slot: u32) -> Option<LastingNode> {
        let place = self.nodes.place(&self.words, slot);
        let get = |at: usize| place[at].load(Ordering::Acquire);
        if get(STATE) == FREE || get(1) == 0 {
            return None;
        }
        let length = usize::try_from(get(NAME_LENGTH)).ok()?;
        let name = CString::new(unpacked(&place[HEAD..], length.min(255))).ok();
        let is_known = get(STATE) == WHOLE && get(PARENT) != 0;
        Some(LastingNode {
            slot,
            id: get(1),
            ino: get(2),
            kind: u32::try_from(get(3) & 0xffff_ffff).ok()?,
            gone: get(3) >> 32 & 1 != 0,
            lost: get(3) >> 33 & 1 != 0,
            place: name.filter(|_| is_known).map(|name| (get(PARENT), name)),
            real: Real::from_words([get(5), get(6), get(7), get(8)]),
            lookups: get(9),
            at: u16::try_from(get(10)).ok()?,
            backing: number(get(11)),
            pin: number(get(12)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_may_not_be_come_back() {
        for value in [None, Some(0), Some(1), Some(i32::MAX)] {
            assert_eq!(number(maybe(value)), value);
        }
    }
}

//! Nodes: what the kernel knows of the union by number, and where each lies now.
//!
//! A node keeps its parent and name, never a descriptor, so their number is bounded by memory
//! alone; only what was removed while somebody still has it keeps a descriptor.

use std::collections::HashMap;
use std::ffi::CString;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{device_of, lock};
use crate::union::handle::Opened;
use crate::union::lasting::{Lasting, LastingNode, Record, Word};
use crate::union::links::Link;
use crate::union::listed::Listed;
use crate::union::moved::Route;
use crate::union::watch::Watched;

pub(crate) const ROOT: u64 = 1;

/// What tells one object of a branch from every other, also after its number is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Real {
    pub(crate) device: u64,
    pub(crate) ino: u64,
    born: (i64, u32),
}

impl Real {
    pub(crate) fn of(stat: &Statx) -> Self {
        Self {
            device: device_of(stat),
            ino: stat.stx_ino,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }
    }

    /// As numbers.
    pub(crate) fn words(self) -> [u64; 4] {
        let (seconds, nanoseconds) = self.born;
        [
            self.device,
            self.ino,
            seconds.cast_unsigned(),
            nanoseconds.into(),
        ]
    }

    pub(crate) fn from_words([device, ino, seconds, nanoseconds]: [u64; 4]) -> Self {
        let nanoseconds = u32::try_from(nanoseconds).unwrap_or(u32::MAX);
        let born = (seconds.cast_signed(), nanoseconds);
        Self { device, ino, born }
    }
}

/// The branches that have a directory, top first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) at: Vec<u16>,
    /// The last branch in which a new entry would be visible.
    pub(crate) bound: u16,
    /// Where branches have it elsewhere than by its name in the union.
    pub(crate) routes: Vec<Route>,
}

/// One object of the union.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) ino: u64,
    pub(crate) kind: u32,
    /// Keeps opens and copy-ups of it apart; taken before the state.
    pub(crate) busy: Mutex<()>,
    state: Mutex<State>,
    /// Where it is written down, if it outlives the server.
    record: Option<Record>,
}

/// A node's state, locked; what was changed is written down when this is dropped.
#[derive(Debug)]
pub(crate) struct StateGuard<'a> {
    node: &'a Node,
    state: MutexGuard<'a, State>,
    changed: bool,
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.changed = true;
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        if self.changed
            && let Some(record) = &self.node.record
        {
            record.write(self.node, &self.state);
        }
    }
}

/// What changes in a node's life.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) parent: Option<Arc<Node>>,
    pub(crate) name: CString,
    pub(crate) epoch: u32,
    /// The topmost branch that has it.
    pub(crate) at: u16,
    pub(crate) places: Option<Arc<Places>>,
    pub(crate) real: Real,
    /// It is shown by a copy under another name: reached by this, not by its own name.
    pub(crate) link: Option<Arc<Link>>,
    lookups: u64,
    /// Its last name was removed.
    pub(crate) gone: bool,
    /// It may have a name, but that is not known: it went with a server.
    pub(crate) lost: bool,
    pub(crate) pin: Option<Arc<OwnedFd>>,
    pub(crate) opened: Option<Box<Opened>>,
    pub(crate) watched: Option<Box<Watched>>,
    pub(crate) listed: Listed,
}

/// The epoch of a node that another server had: what its name means now has to be looked up.
pub(crate) const INHERITED: u32 = u32::MAX;

impl State {
    pub(crate) fn lookups(&self) -> u64 {
        self.lookups
    }
}

/// What a look-up says of an object that is to have a node.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) ino: u64,
    pub(crate) kind: u32,
    pub(crate) real: Real,
    pub(crate) epoch: u32,
    pub(crate) at: u16,
    pub(crate) places: Option<Arc<Places>>,
    /// By which it is reached, if it is shown by a copy under another name.
    pub(crate) link: Option<Arc<Link>>,
}

impl Node {
    pub(crate) fn is_dir(&self) -> bool {
        self.kind == libc::S_IFDIR
    }

    pub(crate) fn parent(&self) -> Option<Arc<Node>> {
        self.state().parent.clone()
    }

    pub(crate) fn state(&self) -> StateGuard<'_> {
        StateGuard {
            node: self,
            state: lock(&self.state),
            changed: false,
        }
    }
}

/// Numbers are their own hash, spread over the upper bits.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
}

pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<NumberHasher>>;

/// All nodes that the kernel knows.
#[derive(Debug)]
pub(crate) struct Table {
    /// Tells the nodes of this mount from those that had the same numbers in another.
    generation: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Where nodes are written down, if they outlive the server.
    lasting: Option<Arc<Lasting>>,
    next: u64,
    by_id: NumberMap<u64, Arc<Node>>,
    by_ino: NumberMap<u64, Arc<Node>>,
}

impl Table {
    /// A table with the root, which is never forgotten.
    pub(crate) fn new(root: Seen, lasting: Option<Arc<Lasting>>) -> Self {
        let mut inner = Inner {
            lasting: None,
            next: ROOT,
            by_id: NumberMap::default(),
            by_ino: NumberMap::default(),
        };
        inner.make(root, None, c"".to_owned());
        let mut generation = [0; 4];
        let _ = sys::random::fill(&mut generation);
        let mut generation = u32::from_ne_bytes(generation);
        match &lasting {
            Some(lasting) if lasting.get(Word::Begun) > 0 => {
                generation = u32::try_from(lasting.get(Word::Generation)).unwrap_or(generation);
                inner.next = lasting.get(Word::NextNode);
            }
            Some(lasting) => {
                lasting.set(Word::Generation, generation.into());
                lasting.set(Word::NextNode, inner.next);
            }
            None => {}
        }
        inner.lasting = lasting;
        Self {
            generation,
            inner: Mutex::new(inner),
        }
    }

    /// Takes over the nodes that another server had, as far as their places are known; their names
    /// are looked up when they are used. The others have none from now on.
    pub(crate) fn inherit(&self, lasting: &Arc<Lasting>, nodes: &[LastingNode]) {
        let mut inner = lock(&self.inner);
        for kept in nodes {
            let node = Arc::new(Node {
                id: kept.id,
                ino: kept.ino,
                kind: kept.kind,
                busy: Mutex::default(),
                state: Mutex::new(State {
                    parent: None,
                    name: kept
                        .place
                        .as_ref()
                        .map(|it| it.1.clone())
                        .unwrap_or_default(),
                    epoch: INHERITED,
                    at: kept.at,
                    places: None,
                    real: kept.real,
                    link: None,
                    lookups: kept.lookups,
                    gone: kept.gone || kept.place.is_none(),
                    lost: kept.lost || !kept.gone && kept.place.is_none(),
                    pin: None,
                    opened: None,
                    watched: None,
                    listed: Listed::default(),
                }),
                record: Some(Record::at(lasting, kept.slot)),
            });
            if !kept.gone && kept.place.is_some() {
                inner.by_ino.insert(kept.ino, Arc::clone(&node));
            }
            inner.by_id.insert(kept.id, node);
        }
        for kept in nodes {
            let node = inner.by_id.get(&kept.id).cloned();
            let parent = kept.place.as_ref().map(|it| it.0);
            let parent = parent.and_then(|id| inner.by_id.get(&id).cloned());
            let Some(node) = node else { continue };
            match parent {
                // Not written down before all of it is taken over.
                Some(parent) => lock(&node.state).parent = Some(parent),
                None => {
                    inner.unlist(&node);
                    let mut state = lock(&node.state);
                    state.lost |= !state.gone;
                    state.gone = true;
                }
            }
        }
    }

    /// The generation of a node, which is part of its handles; the root has the same in every mount.
    pub(crate) fn generation(&self, node: &Node) -> u64 {
        match node.id {
            ROOT => 0,
            _ => self.generation.into(),
        }
    }

    /// Counts one more look-up of a node; one that was forgotten meanwhile is not there any more.
    pub(crate) fn enter_again(&self, node: &Arc<Node>) -> Res<()> {
        let inner = lock(&self.inner);
        let known = inner.by_id.get(&node.id).ok_or(Errno::STALE)?;
        known.state().lookups += 1;
        Ok(())
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Node>> {
        lock(&self.inner).by_id.get(&id).cloned()
    }

    pub(crate) fn by_ino(&self, ino: u64) -> Option<Arc<Node>> {
        lock(&self.inner).by_ino.get(&ino).cloned()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.inner).by_id.len()
    }

    /// Finds or makes the node of an object found as `name` in `parent`, and counts the look-up.
    pub(crate) fn enter(&self, seen: Seen, parent: &Arc<Node>, name: &std::ffi::CStr) -> Arc<Node> {
        let mut inner = lock(&self.inner);
        if let Some(node) = inner.by_ino.get(&seen.ino).cloned() {
            let mut state = node.state();
            let same = !state.gone && node.kind == seen.kind && state.real == seen.real;
            let merged = node.is_dir() && !state.gone && seen.kind == libc::S_IFDIR;
            if same || merged {
                state.lookups += 1;
                state.pin = None; // it has a name
                state.epoch = seen.epoch;
                state.at = seen.at;
                state.real = seen.real;
                state.link = seen.link;
                if seen.places.is_some() && state.places != seen.places {
                    state.places = seen.places;
                }
                let moved = state
                    .parent
                    .as_ref()
                    .is_none_or(|old| !Arc::ptr_eq(old, parent));
                if moved || state.name.as_c_str() != name {
                    state.parent = Some(Arc::clone(parent));
                    state.name = name.to_owned();
                }
                drop(state);
                return node;
            }
        }
        let ino = seen.ino;
        let node = inner.make(seen, Some(Arc::clone(parent)), name.to_owned());
        inner.by_ino.insert(ino, Arc::clone(&node));
        node
    }

    /// Makes the node of an unnamed file.
    pub(crate) fn enter_unnamed(&self, seen: Seen, parent: &Arc<Node>) -> Arc<Node> {
        let node = lock(&self.inner).make(seen, Some(Arc::clone(parent)), c"".to_owned());
        node.state().gone = true;
        node
    }

    /// All nodes but the root.
    pub(crate) fn all(&self) -> Vec<Arc<Node>> {
        let inner = lock(&self.inner);
        let nodes = inner.by_id.values().filter(|node| node.id != ROOT);
        nodes.cloned().collect()
    }

    /// Takes look-ups back; the last one ends the node, which is returned then.
    pub(crate) fn forget(&self, id: u64, count: u64) -> Option<Arc<Node>> {
        if id == ROOT {
            return None;
        }
        let mut inner = lock(&self.inner);
        let node = inner.by_id.get(&id).cloned()?;
        let mut state = node.state();
        state.lookups = state.lookups.saturating_sub(count);
        if state.lookups > 0 {
            return None;
        }
        if let Some(record) = &node.record {
            record.end();
        }
        drop(state);
        inner.by_id.remove(&id);
        inner.unlist(&node);
        Some(node)
    }

    /// The object's last name is gone: its number may soon mean another.
    pub(crate) fn bury(&self, node: &Arc<Node>, pin: Option<Arc<OwnedFd>>) {
        lock(&self.inner).unlist(node);
        let mut state = node.state();
        state.gone = true;
        if state.opened.is_none() {
            state.pin = pin;
        }
    }

    /// An unnamed file has got a name.
    pub(crate) fn unbury(&self, node: &Arc<Node>) {
        lock(&self.inner).by_ino.insert(node.ino, Arc::clone(node));
    }
}

impl Inner {
    fn make(&mut self, seen: Seen, parent: Option<Arc<Node>>, name: CString) -> Arc<Node> {
        let id = self.next;
        self.next += 1;
        let record = self.lasting.as_ref().and_then(|lasting| {
            lasting.set(Word::NextNode, self.next);
            Record::new(lasting)
        });
        let node = Arc::new(Node {
            id,
            ino: seen.ino,
            kind: seen.kind,
            busy: Mutex::default(),
            state: Mutex::new(State {
                parent,
                name,
                epoch: seen.epoch,
                at: seen.at,
                places: seen.places,
                real: seen.real,
                link: seen.link,
                lookups: 1,
                gone: false,
                lost: false,
                pin: None,
                opened: None,
                watched: None,
                listed: Listed::default(),
            }),
            record,
        });
        if let Some(record) = &node.record {
            record.write(&node, &lock(&node.state));
        }
        self.by_id.insert(id, Arc::clone(&node));
        node
    }

    fn unlist(&mut self, node: &Arc<Node>) {
        if self
            .by_ino
            .get(&node.ino)
            .is_some_and(|listed| Arc::ptr_eq(listed, node))
        {
            self.by_ino.remove(&node.ino);
        }
    }
}

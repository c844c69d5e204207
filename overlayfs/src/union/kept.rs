//! What the kernel may keep of the union, names and attributes, and how it is made to forget them.
//!
//! Names are let go one by one, each looked up anew at its next use. The kernel could drop them all
//! at once, but that would take away whatever is mounted inside the union.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::sync::{Arc, Mutex};

use rustix::fs::Statx;

use crate::union::branch::{Members, lock};
use crate::union::node::{Node, NumberMap, ROOT};
use crate::union::options::{Access, DirectChanges};
use crate::union::server::notification;
use crate::union::tree::Union;
use crate::union::wire::{Put, notify};

/// More missing names than this are not kept by the kernel.
const MISSING_ROOM: usize = 100_000;

/// The names that the kernel keeps as missing: unlike those that are there, they have no node.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    inner: Mutex<MissingInner>,
}

#[derive(Debug, Default)]
struct MissingInner {
    count: usize,
    by_dir: NumberMap<u64, HashSet<CString>>,
}

impl Missing {
    /// Notes a name; false when there is no room for it.
    fn note(&self, dir: u64, name: &CStr) -> bool {
        let mut inner = lock(&self.inner);
        if inner.count >= MISSING_ROOM {
            return false;
        }
        if inner.by_dir.entry(dir).or_default().insert(name.to_owned()) {
            inner.count += 1;
        }
        true
    }

    /// The name is there now.
    pub(crate) fn found(&self, dir: u64, name: &CStr) {
        let mut inner = lock(&self.inner);
        if inner
            .by_dir
            .get_mut(&dir)
            .is_some_and(|names| names.remove(name))
        {
            inner.count -= 1;
        }
    }

    /// Takes the names of a directory.
    pub(crate) fn take(&self, dir: u64) -> HashSet<CString> {
        let mut inner = lock(&self.inner);
        let names = inner.by_dir.remove(&dir).unwrap_or_default();
        inner.count -= names.len();
        names
    }

    fn dirs(&self) -> Vec<u64> {
        lock(&self.inner).by_dir.keys().copied().collect()
    }
}

impl Members {
    /// Whether anything is kept at all.
    pub(crate) fn keep_something(&self) -> bool {
        self.settings.direct_changes != DirectChanges::Reval || self.never_change()
    }

    /// Every branch is promised to stay as it is.
    fn never_change(&self) -> bool {
        self.branches
            .iter()
            .all(|branch| branch.permission.access == Access::RealReadOnly)
    }
}

impl Union {
    /// Whether the kernel may keep what is looked up in `dir` from now on; call before looking.
    pub(crate) fn keep_names(&self, members: &Members, dir: &Arc<Node>) -> bool {
        match members.settings.direct_changes {
            DirectChanges::None => true,
            DirectChanges::Reval => members.never_change(),
            DirectChanges::Notify => self.watch(members, dir) || members.never_change(),
        }
    }

    /// Whether the names of `dir` are being kept.
    pub(crate) fn keeps_names(&self, members: &Members, dir: &Node) -> bool {
        match members.settings.direct_changes {
            DirectChanges::None => true,
            DirectChanges::Reval => members.never_change(),
            DirectChanges::Notify => dir.is_watched(members) || members.never_change(),
        }
    }

    /// Whether the attributes of a node may be kept. Those of a file with several links change
    /// where nobody watches, those of a directory with its entries.
    pub(crate) fn keeps_attributes(&self, members: &Members, node: &Node, stat: &Statx) -> bool {
        if members.settings.direct_changes != DirectChanges::Notify || members.never_change() {
            return self.keeps_names(members, node);
        }
        if node.is_dir() {
            return node.is_watched(members)
                && node.parent().is_none_or(|it| it.is_watched(members));
        }
        let single = stat.stx_nlink < 2 && !self.is_linked(node);
        single && node.parent().is_some_and(|it| it.is_watched(members))
    }

    /// Whether the kernel may keep that `name` is missing.
    pub(crate) fn keep_missing(&self, dir: &Node, name: &CStr) -> bool {
        // Another server would not know of it.
        self.lasting.is_none() && self.missing.note(dir.id, name)
    }

    /// Makes the kernel look a name up anew.
    pub(crate) fn forget_name(&self, dir: u64, name: &CStr) {
        let bytes = name.to_bytes_with_nul();
        let mut body = Vec::with_capacity(16 + bytes.len());
        body.u64(dir);
        body.u32(u32::try_from(bytes.len() - 1).unwrap_or(0));
        body.u32(notify::EXPIRE_ONLY);
        body.extend_from_slice(bytes);
        self.missing.found(dir, name);
        // Refused for what the kernel does not have.
        let _ = notification(&self.device, notify::INVAL_ENTRY, &body);
    }

    /// Makes the kernel ask for attributes, access lists and cached data or entries anew.
    pub(crate) fn forget_attributes(&self, node: u64) {
        let mut body = Vec::with_capacity(24);
        body.u64(node);
        body.zeros(16);
        let _ = notification(&self.device, notify::INVAL_INODE, &body);
    }

    /// Makes the kernel forget what is kept below a directory.
    pub(crate) fn forget_below(&self, top: &Arc<Node>) {
        let is_below = |node: &Arc<Node>| {
            let mut here = Some(Arc::clone(node));
            while let Some(dir) = here {
                if Arc::ptr_eq(&dir, top) {
                    return true;
                }
                here = dir.parent();
            }
            false
        };
        for node in self.table.all() {
            if node.parent().is_some_and(|parent| is_below(&parent)) {
                self.forget_node(&node);
            }
        }
        for dir in self.missing.dirs() {
            if self.table.get(dir).is_some_and(|dir| is_below(&dir)) {
                self.forget_missing(dir);
            }
        }
    }

    fn forget_node(&self, node: &Arc<Node>) {
        let (parent, name) = {
            let state = node.state();
            (state.parent.clone(), state.name.clone())
        };
        if let Some(parent) = parent {
            self.forget_name(parent.id, &name);
        }
        self.forget_attributes(node.id);
    }

    fn forget_missing(&self, dir: u64) {
        for name in self.missing.take(dir) {
            self.forget_name(dir, &name);
        }
    }

    /// Makes the kernel forget everything that it keeps.
    pub(crate) fn forget_all(&self) {
        self.forget_attributes(ROOT);
        for node in self.table.all() {
            self.forget_node(&node);
        }
        for dir in self.missing.dirs() {
            self.forget_missing(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_names_are_bounded_and_come_back() {
        let missing = Missing::default();
        assert!(missing.note(1, c"a") && missing.note(1, c"a") && missing.note(2, c"a"));
        missing.found(1, c"a");
        missing.found(1, c"a");
        for number in 0..MISSING_ROOM {
            missing.note(3, &CString::new(number.to_string()).unwrap());
        }
        assert!(!missing.note(4, c"one too many"));
        assert_eq!(missing.take(3).len(), MISSING_ROOM - 1);
        assert!(missing.note(4, c"room again"));
        assert_eq!(missing.take(2).len(), 1);
    }
}

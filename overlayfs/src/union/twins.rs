//! Twins: two objects that claim one number, which would be one object to the kernel.
//!
//! A copy has the number of its origin. When the origin is moved in its branch directly, or removed
//! and its number used again there, both are to be seen. One of them gets another number.

use std::ffi::CStr;
use std::sync::Arc;

use crate::union::branch::Members;
use crate::union::node::{Node, Real};
use crate::union::tree::{Union, stat_at};

/// More of one number than this are not told apart.
const MOST: u64 = 4;

fn twin(ino: u64, step: u64) -> u64 {
    ino ^ (step << 55)
}

fn is_at(node: &Node, dir: &Arc<Node>, name: &CStr) -> bool {
    let state = node.state();
    let parent = state.parent.as_ref();
    state.name.as_c_str() == name && parent.is_some_and(|parent| Arc::ptr_eq(parent, dir))
}

impl Union {
    /// The number of an object found as `name` in `dir`: the one that it claims, unless another
    /// object has it.
    pub(crate) fn number_for(
        &self,
        members: &Members,
        ino: u64,
        (dir, name): (&Arc<Node>, &CStr),
        real: Real,
    ) -> u64 {
        let fits = |node: &Node| is_at(node, dir, name) || node.state().real == real;
        match self.table.by_ino(ino) {
            None => return ino,
            Some(node) if fits(&node) => return ino,
            Some(_) => {}
        }
        let all = || (0..MOST).map(|step| twin(ino, step));
        let known = |&number: &u64| self.table.by_ino(number).is_some_and(|node| fits(&node));
        let free = |&number: &u64| {
            let node = self.table.by_ino(number);
            node.is_none_or(|node| !self.is_still_there(members, &node))
        };
        all()
            .find(known)
            .or_else(|| all().find(free))
            .unwrap_or(ino)
    }

    /// Whether a node's object has the place where it was found last.
    fn is_still_there(&self, members: &Members, node: &Node) -> bool {
        let (parent, name, at, real) = {
            let state = node.state();
            let Some(parent) = state.parent.clone().filter(|_| !state.gone) else {
                return false;
            };
            (parent, state.name.clone(), state.at, state.real)
        };
        at <= members.last()
            && self
                .dir_fd(members, &parent, at)
                .and_then(|dir| stat_at(&dir, &name))
                .is_ok_and(|stat| Real::of(&stat) == real)
    }

    /// The node of an object found as `name` in `dir` that claims this number.
    pub(crate) fn node_by_claim(
        &self,
        ino: u64,
        (dir, name): (&Arc<Node>, &CStr),
        real: Real,
    ) -> Option<Arc<Node>> {
        (0..MOST).find_map(|step| {
            let node = self.table.by_ino(twin(ino, step))?;
            let fits = node.state().real == real || node.is_dir() && is_at(&node, dir, name);
            fits.then_some(node)
        })
    }
}

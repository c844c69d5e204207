//! Removing: the topmost copy goes, and a whiteout hides what lies below.

use std::collections::HashSet;
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::Statx;
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Members, lock};
use crate::union::copyup::Made;
use crate::union::links::Linked;
use crate::union::marks::Found;
use crate::union::moved::open_beneath;
use crate::union::node::{Node, Real};
use crate::union::tree::{Look, Reach, Union, kind_of};

impl Union {
    /// Removes a non-directory.
    pub(crate) fn unlink(&self, members: &Members, dir: &Arc<Node>, name: &CStr) -> Res<()> {
        let (mut look, mut at, mut stat) = self.find(members, dir, name)?;
        if kind_of(&stat) == libc::S_IFDIR {
            return Err(Errno::ISDIR);
        }
        // It may be copied meanwhile, or the name given to a copy: that would come back by it.
        let can_be_copied = !members.branch(at).is_writable() || !self.links.is_empty();
        let holder = match can_be_copied {
            true => self.holder_of(members, dir, name, &look),
            false => None,
        };
        let _busy = holder.as_ref().map(|node| lock(&node.busy));
        if holder.is_some() {
            (look, at, stat) = self.find(members, dir, name)?;
        }
        let node = self.node_of(members, dir, name, &look);
        self.linked_of(members, &look)?;
        let pin = node.as_ref().and_then(|node| self.pin(members, node));
        if members.branch(at).is_writable() {
            let fd = self.dir_fd(members, dir, at)?;
            let hides = self.is_below(members, dir, name, at)?;
            let branch = members.branch(at);
            members.marks().remove_file(branch, &fd, name, hides)?;
            self.touch(members, dir, at);
        } else {
            self.hide(members, dir, name, at)?;
        }
        let left = self.name_gone(members, &stat).unwrap_or(1);
        if let Some(node) = &node {
            self.lost_name(node, left, dir, name, pin);
        }
        Ok(())
    }

    /// Removes a directory that is empty as the union shows it.
    pub(crate) fn rmdir(&self, members: &Members, dir: &Arc<Node>, name: &CStr) -> Res<()> {
        let (look, at, stat) = self.find(members, dir, name)?;
        if kind_of(&stat) != libc::S_IFDIR {
            return Err(Errno::NOTDIR);
        }
        if !self.is_empty(members, dir, name, &look)? {
            return Err(Errno::NOTEMPTY);
        }
        let node = self.node_of(members, dir, name, &look);
        let pin = node.as_ref().and_then(|node| self.pin(members, node));
        if members.branch(at).is_writable() {
            let fd = self.dir_fd(members, dir, at)?;
            let hides = self.is_below(members, dir, name, at)?;
            let branch = members.branch(at);
            members.marks().remove_dir(branch, &fd, name, hides)?;
            self.touch(members, dir, at);
        } else {
            self.hide(members, dir, name, at)?;
        }
        if let Some(node) = node {
            self.dirs.drop_node(node.id);
            self.table.bury(&node, pin);
        }
        Ok(())
    }

    pub(crate) fn find(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        name: &CStr,
    ) -> Res<(Look, u16, Statx)> {
        if members.marks().is_reserved(name.to_bytes()) {
            return Err(Errno::PERM);
        }
        let look = self.look(members, dir, name, false)?;
        let (at, stat) = look.top.ok_or(Errno::NOENT)?;
        Ok((look, at, stat))
    }

    /// Puts a whiteout above something that may not be written.
    fn hide(&self, members: &Members, dir: &Arc<Node>, name: &CStr, at: u16) -> Res<()> {
        let target = self.copy_target(members, dir, at)?;
        let mut made = Made::default();
        let done = self
            .ensure_dir(members, dir, target, &mut made)
            .and_then(|fd| members.marks().hide(members.branch(target), &fd, name));
        if let Err(errno) = done {
            self.unmake(made);
            return Err(errno);
        }
        self.touch(members, dir, target);
        Ok(())
    }

    /// The node that the kernel has for an object just looked up.
    pub(crate) fn node_of(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        name: &CStr,
        look: &Look,
    ) -> Option<Arc<Node>> {
        if let Some(Linked { link, stat, .. }) = self.linked_of(members, look).ok()? {
            let node = self.table.by_ino(link.ino)?;
            let same = node.state().real == Real::of(&stat);
            return same.then_some(node);
        }
        let ino = self.claimed_number(members, dir, name, look)?;
        let (_, stat) = look.top.as_ref()?;
        self.node_by_claim(ino, (dir, name), Real::of(stat))
    }

    /// The number that an object just looked up claims.
    pub(crate) fn claimed_number(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        name: &CStr,
        look: &Look,
    ) -> Option<u64> {
        let (at, stat) = look.top.as_ref()?;
        let fd = self.dir_fd(members, dir, *at).ok()?;
        Some(self.ino(members.branch(*at), &fd, name, stat))
    }

    /// The node by which an object just looked up may be copied at this moment, or was since.
    fn holder_of(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        name: &CStr,
        look: &Look,
    ) -> Option<Arc<Node>> {
        let known = self.node_of(members, dir, name, look);
        known.or_else(|| {
            let number = self.claimed_number(members, dir, name, look)?;
            self.table.by_ino(number)
        })
    }

    /// Keeps hold of an object whose name is about to go.
    pub(crate) fn pin(&self, members: &Members, node: &Arc<Node>) -> Option<Arc<OwnedFd>> {
        if node.state().opened.is_some() {
            return None;
        }
        let (reach, _) = self.reach(members, node).ok()?;
        reach.handle().ok()
    }

    /// Takes note that a node's name `name` in `dir` is gone, and how many are left.
    pub(crate) fn lost_name(
        &self,
        node: &Arc<Node>,
        left: u32,
        dir: &Arc<Node>,
        name: &CStr,
        pin: Option<Arc<OwnedFd>>,
    ) {
        if left == 0 {
            self.table.bury(node, pin);
            return;
        }
        let mut state = node.state();
        let was_its_name = state.name.as_c_str() == name
            && state
                .parent
                .as_ref()
                .is_some_and(|parent| Arc::ptr_eq(parent, dir));
        if was_its_name && state.opened.is_none() {
            // Known by another name at its next look-up; until then by descriptor.
            state.pin = pin;
        }
    }

    /// Whether a directory shows no entry.
    pub(crate) fn is_empty(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        name: &CStr,
        look: &Look,
    ) -> Res<bool> {
        let mut hidden: HashSet<Vec<u8>> = HashSet::new();
        let places = look.places().ok_or(Errno::NOTDIR)?;
        for &at in &places.at {
            let fd = match places.path_in(at) {
                Some(path) => Arc::new(open_beneath(&members.branch(at).root, path)?),
                None => Reach::Name(self.dir_fd(members, dir, at)?, name.to_owned()).handle()?,
            };
            let mut shows = false;
            let mut marks = Vec::new();
            let entries = members.marks();
            entries.for_each_entry(fd.as_fd(), |entry, _, _| {
                match entry {
                    Found::Whiteout(_, name) => marks.push(name.to_vec()),
                    Found::Object(name) if !hidden.contains(name.to_bytes()) => {
                        shows = true;
                        return ControlFlow::Break(());
                    }
                    Found::Object(_) | Found::Own(_) => {}
                }
                ControlFlow::Continue(())
            })?;
            if shows {
                return Ok(false);
            }
            if members.branch(at).permission.whiteouts {
                hidden.extend(marks);
            }
        }
        Ok(true)
    }
}

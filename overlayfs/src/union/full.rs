//! Branches that run full while a file is written: the file moves to one with room.
//!
//! The kernel tells nobody of writes that it passed through and that failed, so files on a branch
//! with little room are not passed through while this is asked for.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Branch, Members, lock};
use crate::union::copyup::keep_times;
use crate::union::handle::Handle;
use crate::union::marks::Entry;
use crate::union::node::Node;
use crate::union::options::MoveWhenFull;
use crate::union::policy::{self, Create};
use crate::union::tree::{Union, stat_at, stat_fd};

impl Members {
    /// By which policy a file leaves a full branch, if it does.
    fn move_policy(&self) -> Option<Create> {
        match self.settings.move_when_full {
            MoveWhenFull::Never => None,
            MoveWhenFull::AsCreate => Some(self.settings.create),
            MoveWhenFull::By(policy) => Some(policy),
        }
    }

    /// Whether a write to the branch may soon find it full.
    pub(crate) fn is_nearly_full(&self, branch: &Branch) -> bool {
        if self.move_policy().is_none() || !branch.is_writable() {
            return false;
        }
        let space = branch.space(1);
        let guard = match self.settings.move_guard {
            Some(amount) => amount.of(space.size),
            None => (space.size / 20).min(1 << 30),
        };
        space.free <= guard
    }
}

impl Union {
    /// Does something that makes a file longer by up to `more` bytes; if its branch is full the
    /// file moves first and it is done again.
    pub(crate) fn with_room<T>(
        &self,
        members: &Members,
        handle: &Handle,
        more: u64,
        mut act: impl FnMut(&OwnedFd) -> Res<T>,
    ) -> Res<T> {
        let Some(policy) = members.move_policy() else {
            return act(&handle.file());
        };
        // Nothing is written while the file is being copied.
        let _busy = lock(&handle.node.busy);
        match act(&handle.file()) {
            Err(full @ (Errno::NOSPC | Errno::DQUOT)) => {
                self.move_to_room(members, policy, &handle.node, more)
                    .map_err(|_| full)?;
                act(&handle.file())
            }
            other => other,
        }
    }

    fn move_to_room(
        &self,
        members: &Members,
        policy: Create,
        node: &Arc<Node>,
        more: u64,
    ) -> Res<()> {
        let (parent, name, gone, passed) = {
            let state = node.state();
            let passed = state.opened.as_ref().is_some_and(|it| it.backing.is_some());
            (state.parent.clone(), state.name.clone(), state.gone, passed)
        };
        let parent = parent.ok_or(Errno::STALE)?;
        let (reach, at) = self.reach(members, node)?;
        let source = reach.handle()?;
        let stat = stat_fd(&source)?;
        if gone || passed || stat.stx_nlink > 1 {
            return Err(Errno::BUSY);
        }
        let dir = self.dir_fd(members, &parent, at)?;
        let real = stat_at(&dir, &name)?;
        if (real.stx_ino, real.stx_dev_minor) != (stat.stx_ino, stat.stx_dev_minor) {
            return Err(Errno::STALE); // renamed or replaced directly
        }
        let needed = (stat.stx_blocks * 512).saturating_add(more);
        let target = self.roomy(members, policy, (&parent, &name), (at, needed))?;
        let before = stat_fd(&dir)?;
        let copy = self.place_copy(members, node, &reach, (&parent, &name), (target, false))?;
        if let Err(errno) = unlinkat(&dir, &name, AtFlags::empty()) {
            // Two would be one too many: whoever writes would change the hidden one.
            let _ = unlinkat(&copy.dir, &name, AtFlags::empty());
            self.unmake(copy.made);
            return Err(errno);
        }
        keep_times(&dir, &before);
        self.rebind(node, &name, (target, members.epoch), &copy)?;
        // Who looked the name up in between was led to the old file.
        self.table.unbury(node);
        self.counters.moves.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// The branch to move to: with room for the file, and where nothing hides it.
    fn roomy(
        &self,
        members: &Members,
        policy: Create,
        (dir, name): (&Arc<Node>, &CStr),
        (at, needed): (u16, u64),
    ) -> Res<u16> {
        let places = self.places(members, dir)?;
        let views = members.views(&places.at, true);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let order = policy::create(policy, &views, usize::from(places.bound), turn);
        for target in order {
            let branch = members.branches[target].space(0);
            let target = u16::try_from(target).unwrap_or(u16::MAX);
            let shows = target < at || self.is_clear(members, (dir, name), (at, target))?;
            let other = members.branch(target).device != members.branch(at).device;
            if other && shows && branch.free > needed {
                return Ok(target);
            }
        }
        Err(Errno::NOSPC)
    }

    /// Whether nothing between two branches would hide a name in the lower one.
    fn is_clear(
        &self,
        members: &Members,
        (dir, name): (&Arc<Node>, &CStr),
        (above, target): (u16, u16),
    ) -> Res<bool> {
        let places = self.places(members, dir)?;
        let between = |&&at: &&u16| at > above && at <= target;
        for &at in places.at.iter().filter(between) {
            let fd = self.dir_fd(members, dir, at)?;
            let marks = at < target && members.branch(at).permission.whiteouts;
            if !matches!(members.marks().entry(&fd, name, marks)?, Entry::Missing) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

//! Copy-up of a file that has no name any more, but is open or in use: to a file without a name.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::fs::{AtFlags, unlinkat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::copy::{Copy, empty_file};
use crate::union::node::{Node, ROOT, Real};
use crate::union::tree::{Reach, Union, kind_of, stat_fd};

impl Union {
    /// Brings the file of a removed node, which is at `at`, to a writable branch, and those who have
    /// it open to the copy; returns the branch.
    pub(crate) fn copy_removed(
        &self,
        members: &Members,
        node: &Arc<Node>,
        (reach, at): (&Reach, u16),
        truncate: bool,
    ) -> Res<u16> {
        let source = reach.handle()?;
        let stat = stat_fd(&source)?;
        if kind_of(&stat) != libc::S_IFREG {
            return Err(Errno::ROFS);
        }
        let is_passed = |node: &Node| {
            let state = node.state();
            state.opened.as_ref().is_some_and(|it| it.backing.is_some())
        };
        if is_passed(node) {
            return Err(Errno::ROFS); // the kernel has the origin itself
        }
        // Where it was need not be there any more: its name has no say.
        let target = self.copy_target(members, &self.node(ROOT)?, at)?;
        let branch = members.branch(target);
        let (file, work) = empty_file(&branch.root)?;
        let copy = Copy {
            union: self,
            branch,
            source: &source,
            stat: &stat,
            note: None,
            truncate,
            names: None,
        };
        let filled = copy.fill(&file);
        if let Some(work) = work {
            let _ = unlinkat(&branch.root, &work, AtFlags::empty());
        }
        filled?;
        let now = Real::of(&stat_fd(&file)?);
        let file: Arc<OwnedFd> = Arc::new(file);
        let mut state = node.state();
        state.at = target;
        state.epoch = members.epoch;
        state.real = now;
        match &mut state.opened {
            Some(opened) => {
                for handle in opened.cached.iter().filter_map(Weak::upgrade) {
                    handle.redirect(branch, Arc::clone(&file));
                }
                opened.file = file;
            }
            None => state.pin = Some(file),
        }
        Ok(target)
    }
}

//! Renaming, in one branch, with the marks that keep the union's view whole.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, RenameFlags, Statx, renameat_with, unlinkat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Members, lock};
use crate::union::copyup::Made;
use crate::union::marks::redirect::Merging;
use crate::union::node::Node;
use crate::union::tree::{Look, Reach, Union, kind_of};

/// One end of a renaming.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End<'a> {
    pub(crate) dir: &'a Arc<Node>,
    pub(crate) name: &'a CStr,
}

/// The source as it was found.
struct Source {
    look: Look,
    at: u16,
    stat: Statx,
    node: Arc<Node>,
}

impl Union {
    /// Renames; `flags` are those of renameat2.
    pub(crate) fn rename(
        &self,
        members: &Members,
        from: End<'_>,
        to: End<'_>,
        flags: u32,
    ) -> Res<()> {
        if members.marks().is_reserved(to.name.to_bytes()) {
            return Err(Errno::PERM);
        }
        match flags {
            0 | libc::RENAME_NOREPLACE => {}
            libc::RENAME_EXCHANGE => return self.exchange(members, from, to),
            _ => return Err(Errno::INVAL),
        }
        let source = self.source(members, from)?;
        let target = self.look(members, to.dir, to.name, true)?;
        if target.top.is_some() && flags == libc::RENAME_NOREPLACE {
            return Err(Errno::EXIST);
        }
        let is_dir = kind_of(&source.stat) == libc::S_IFDIR;
        if let Some((_, stat)) = &target.top {
            match (is_dir, kind_of(stat) == libc::S_IFDIR) {
                (true, false) => return Err(Errno::NOTDIR),
                (false, true) => return Err(Errno::ISDIR),
                (true, true) if !self.is_empty(members, to.dir, to.name, &target)? => {
                    return Err(Errno::NOTEMPTY);
                }
                _ => {}
            }
            let other = self.node_of(members, to.dir, to.name, &target);
            if other.is_some_and(|other| Arc::ptr_eq(&other, &source.node)) {
                return Ok(()); // two names of one file: nothing happens
            }
        }
        let (at, made) = self.rename_branch(members, from, &source, &target)?;
        self.carry_out(members, (from, to), (&source, &target), (at, made))
    }

    fn source(&self, members: &Members, from: End<'_>) -> Res<Source> {
        let (mut look, mut at, mut stat) = self.find(members, from.dir, from.name)?;
        if let Some(linked) = self.linked_of(members, &look)?
            && linked.at < at
            && members.branch(linked.at).is_writable()
        {
            self.name_copy(members, &linked, (from.dir, from.name))?;
            (look, at, stat) = self.find(members, from.dir, from.name)?;
        }
        let node = self
            .node_of(members, from.dir, from.name, &look)
            .ok_or(Errno::STALE)?;
        Ok(Source {
            look,
            at,
            stat,
            node,
        })
    }

    /// The branch in which the renaming takes place; the source is there afterwards, in directories
    /// some of which may have been made for it.
    fn rename_branch(
        &self,
        members: &Members,
        from: End<'_>,
        source: &Source,
        target: &Look,
    ) -> Res<(u16, Made)> {
        let is_dir = kind_of(&source.stat) == libc::S_IFDIR;
        let mut bound = source.at.min(target.bound);
        if let Some((at, _)) = &target.top {
            bound = bound.min(*at);
        }
        if is_dir && members.settings.renames_dirs {
            return self.rename_whole(members, from, source, bound);
        }
        if is_dir {
            // What merges with lower directories, or lies where it may not be written, would
            // have to be copied as a tree: mv does that when it is told so.
            let here = source.look.dirs.len() == 1 && members.branch(source.at).is_writable();
            return if here && bound == source.at {
                Ok((bound, Made::default()))
            } else {
                Err(Errno::XDEV)
            };
        }
        let at = if members.branch(bound).is_writable() {
            bound
        } else {
            self.copy_target(members, from.dir, bound)?
        };
        if at != source.at {
            let _busy = lock(&source.node.busy);
            let parent = self.dir_fd(members, from.dir, source.at)?;
            let reach = Reach::Name(parent, from.name.to_owned());
            self.copy_file_up(
                members,
                &source.node,
                &reach,
                (from.dir, from.name),
                (at, false),
            )?;
        }
        Ok((at, Made::default()))
    }

    /// The branch in which a directory is renamed, however many have a part of it: there it is made,
    /// and says where the others are.
    fn rename_whole(
        &self,
        members: &Members,
        from: End<'_>,
        source: &Source,
        bound: u16,
    ) -> Res<(u16, Made)> {
        let at = match members.branch(bound).is_writable() {
            true => bound,
            false => self.copy_target(members, from.dir, bound)?,
        };
        let mut made = Made::default();
        let done = self
            .ensure_dir(members, &source.node, at, &mut made)
            .and_then(|_| self.detach(members, &source.node, &source.look, at));
        if let Err(errno) = done {
            self.unmake(made);
            return Err(errno);
        }
        Ok((at, made))
    }

    fn carry_out(
        &self,
        members: &Members,
        (from, to): (End<'_>, End<'_>),
        (source, target): (&Source, &Look),
        (at, mut made): (u16, Made),
    ) -> Res<()> {
        let is_dir = kind_of(&source.stat) == libc::S_IFDIR;
        let other = target
            .top
            .as_ref()
            .and_then(|_| self.node_of(members, to.dir, to.name, target));
        let pin = other.as_ref().and_then(|other| self.pin(members, other));
        let moved = self
            .ensure_dir(members, to.dir, at, &mut made)
            .and_then(|new| {
                let old = self.dir_fd(members, from.dir, at)?;
                let over = target.whiteout == Some(at);
                self.move_in_branch(members, at, (&old, from), (&new, to), (is_dir, over))
            });
        if let Err(errno) = moved {
            self.unmake(made);
            return Err(errno);
        }
        if let Some((lower, stat)) = &target.top
            && *lower > at
            && members.branch(*lower).is_writable()
            && kind_of(stat) != libc::S_IFDIR
        {
            // Hidden already; gone as well, so that its other names count one link less.
            let fd = self.dir_fd(members, to.dir, *lower)?;
            let _ = unlinkat(&fd, to.name, AtFlags::empty());
        }
        self.touch(members, from.dir, at);
        self.touch(members, to.dir, at);
        self.renamed(source, to, at, members.epoch);
        if let Some((_, stat)) = &target.top
            && !is_dir
        {
            let left = self.name_gone(members, stat).unwrap_or(1);
            if let Some(other) = &other {
                self.lost_name(other, left, to.dir, to.name, pin);
            }
        } else if let Some(other) = &other {
            self.dirs.drop_node(other.id);
            self.table.bury(other, pin);
        }
        Ok(())
    }

    /// The step itself; if it cannot be taken, marks are as they were.
    fn move_in_branch(
        &self,
        members: &Members,
        at: u16,
        (old, from): (&Arc<OwnedFd>, End<'_>),
        (new, to): (&Arc<OwnedFd>, End<'_>),
        (is_dir, over): (bool, bool),
    ) -> Res<()> {
        let (marks, branch) = (members.marks(), members.branch(at));
        let hides = self.is_below(members, from.dir, from.name, at)?;
        let merges = is_dir && members.follows_moves() && {
            let merging = marks.merging(old, from.name)?;
            matches!(merging, Merging::Moved(_) | Merging::Renamed(_))
        };
        let opaque = match is_dir && !merges && self.is_below(members, to.dir, to.name, at)? {
            true => made_opaque(members, old, from.name)?,
            false => None,
        };
        let (one, two) = ((old, from.name), (new, to.name));
        let moved = marks.rename(branch, one, two, (hides, over));
        if let (Err(_), Some(dir)) = (moved, opaque) {
            marks.undo_opaque(dir);
        }
        moved
    }

    fn renamed(&self, source: &Source, to: End<'_>, at: u16, epoch: u32) {
        let mut state = source.node.state();
        state.parent = Some(Arc::clone(to.dir));
        state.name = to.name.to_owned();
        state.link = None;
        state.at = at;
        // The bound of a directory may be another here: looked up anew at the next use.
        state.epoch = if source.node.is_dir() {
            epoch.wrapping_sub(1)
        } else {
            epoch
        };
    }

    /// Exchanges two names in one writable branch; what lies below it is copied up, but no tree.
    fn exchange(&self, members: &Members, one: End<'_>, two: End<'_>) -> Res<()> {
        let first = self.source(members, one)?;
        let second = self.source(members, two)?;
        let merged = |source: &Source| source.look.dirs.len() > 1;
        if merged(&first) || merged(&second) {
            return Err(Errno::XDEV);
        }
        let mut at = first.at.min(second.at);
        if !members.branch(at).is_writable() {
            if first.node.is_dir() || second.node.is_dir() {
                return Err(Errno::XDEV);
            }
            at = self.copy_target(members, one.dir, at)?;
        }
        for (end, source) in [(one, &first), (two, &second)] {
            if source.at == at {
                continue;
            }
            if source.node.is_dir() {
                return Err(Errno::XDEV);
            }
            let _busy = lock(&source.node.busy);
            let parent = self.dir_fd(members, end.dir, source.at)?;
            let reach = Reach::Name(parent, end.name.to_owned());
            self.copy_file_up(
                members,
                &source.node,
                &reach,
                (end.dir, end.name),
                (at, false),
            )?;
        }
        let old = self.dir_fd(members, one.dir, at)?;
        let new = self.dir_fd(members, two.dir, at)?;
        let mut opaque = Vec::new();
        let ends = [(&first, &old, one, two), (&second, &new, two, one)];
        let marked = ends.into_iter().try_for_each(|(source, fd, end, there)| {
            if source.node.is_dir() && self.is_below(members, there.dir, there.name, at)? {
                opaque.extend(made_opaque(members, fd, end.name)?);
            }
            Ok(())
        });
        let done = marked
            .and_then(|()| renameat_with(&old, one.name, &new, two.name, RenameFlags::EXCHANGE));
        if let Err(errno) = done {
            opaque
                .iter()
                .for_each(|dir| members.marks().undo_opaque(dir));
            return Err(errno);
        }
        self.renamed(&first, two, at, members.epoch);
        self.renamed(&second, one, at, members.epoch);
        Ok(())
    }
}

/// Marks a directory opaque; returns it if it was not so before.
fn made_opaque(members: &Members, dir: &Arc<OwnedFd>, name: &CStr) -> Res<Option<Arc<OwnedFd>>> {
    let dir = Reach::Name(Arc::clone(dir), name.to_owned()).handle()?;
    let new = members.marks().make_opaque(&dir)?;
    Ok(new.then_some(dir))
}

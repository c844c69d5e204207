//! Copy-up: a complete copy in a writable branch, put in place in one step.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, Mode, OFlags, Statx, mkdirat, openat, unlinkat, utimensat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Branch, Members, lock};
use crate::union::copy::{Copy, copy_metadata, note_origin, times_of};
use crate::union::links::{Link, Linked};
use crate::union::marks::{Marks, work_name};
use crate::union::node::{Node, Places, Real};
use crate::union::origins::Origin;
use crate::union::policy;
use crate::union::tree::{Reach, Union, fd_path, kind_of, stat_at, stat_fd};

/// Directories made on the way to a new object, to be taken back if it fails.
#[derive(Debug, Default)]
pub(crate) struct Made {
    dirs: Vec<(Arc<Node>, Arc<OwnedFd>, u16)>,
}

/// A copy that has its name, in its branch.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) dir: Arc<OwnedFd>,
    pub(crate) branch: Arc<Branch>,
    pub(crate) now: Statx,
    /// The directories made for it.
    pub(crate) made: Made,
    /// It is another file than the one that it was copied from.
    pub(crate) separated: bool,
    /// What shows it under the other names of its origin.
    pub(crate) link: Option<Arc<Link>>,
}

/// Gives a directory its times back after a change that must not be seen.
pub(crate) fn keep_times(dir: impl AsFd, before: &Statx) {
    let _ = utimensat(dir, c".", &times_of(before), AtFlags::empty());
}

impl Union {
    /// The branch that a copy of something in `dir` at `source` goes to.
    pub(crate) fn copy_target(&self, members: &Members, dir: &Arc<Node>, source: u16) -> Res<u16> {
        let places = self.places(members, dir)?;
        let views = members.views(&places.at, false);
        let at = policy::copy_up(members.settings.copy_up, &views, usize::from(source));
        at.and_then(|at| u16::try_from(at).ok()).ok_or(Errno::ROFS)
    }

    /// The directory in the branch `at`, made there with its parents if it is missing.
    pub(crate) fn ensure_dir(
        &self,
        members: &Members,
        node: &Arc<Node>,
        at: u16,
        made: &mut Made,
    ) -> Res<Arc<OwnedFd>> {
        let places = self.places(members, node)?;
        if places.at.contains(&at) {
            match self.dir_fd(members, node, at) {
                Err(Errno::NOENT) => {}
                other => return other,
            }
        }
        if !places.can_have(at) {
            return Err(Errno::ROFS);
        }
        let (parent, name) = {
            let state = node.state();
            (
                state.parent.clone().ok_or(Errno::STALE)?,
                state.name.clone(),
            )
        };
        let above = self.ensure_dir(members, &parent, at, made)?;
        let top = *places.at.first().ok_or(Errno::STALE)?;
        let source = self.dir_fd(members, node, top)?;
        let before = stat_fd(&above)?;
        let branch = members.branch(at);
        let note = (at < top).then(|| self.origin(members, node.ino, top));
        let marks = members.marks();
        let made_now = copy_dir((self, marks), branch, &source, &above, &name, note);
        keep_times(&above, &before);
        match made_now {
            Ok(false) => made.dirs.push((Arc::clone(node), above.clone(), at)),
            // It hides what the whiteout hid, and stays.
            Ok(true) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = Arc::new(openat(&above, &name, flags, Mode::empty())?);
        let stat = stat_fd(&fd)?;
        self.dirs.put(node.id, branch.id, &fd, stat.stx_ino);
        let mut all = places.at.clone();
        if !all.contains(&at) {
            all.push(at);
            all.sort_unstable();
        }
        let mut state = node.state();
        if at <= top {
            state.at = at;
            state.real = Real::of(&stat);
        }
        state.places = Some(Arc::new(Places {
            at: all,
            bound: places.bound,
            routes: places.routes.clone(),
        }));
        Ok(fd)
    }

    /// Takes back the empty directories made for an object that could not be made.
    pub(crate) fn unmake(&self, made: Made) {
        for (node, above, at) in made.dirs.into_iter().rev() {
            let mut state = node.state();
            if unlinkat(&above, &state.name, AtFlags::REMOVEDIR).is_err() {
                continue;
            }
            if let Some(places) = &state.places {
                let rest: Vec<u16> = places
                    .at
                    .iter()
                    .copied()
                    .filter(|&place| place != at)
                    .collect();
                let (bound, routes) = (places.bound, places.routes.clone());
                let places = Places {
                    at: rest,
                    bound,
                    routes,
                };
                state.places = Some(Arc::new(places));
            }
            state.epoch = state.epoch.wrapping_sub(1); // looked up anew at the next use
            drop(state);
            self.dirs.drop_node(node.id);
        }
    }

    /// Brings a node's object to a writable branch, unless it is in one; returns the branch.
    pub(crate) fn writable(&self, members: &Members, node: &Arc<Node>, truncate: bool) -> Res<u16> {
        let _busy = lock(&node.busy);
        self.writable_locked(members, node, truncate)
    }

    /// As [`Self::writable`], by one that holds the node's lock already.
    pub(crate) fn writable_locked(
        &self,
        members: &Members,
        node: &Arc<Node>,
        truncate: bool,
    ) -> Res<u16> {
        let (reach, at) = self.reach(members, node)?;
        if members.branch(at).is_writable() {
            return Ok(at);
        }
        let (parent, name, gone) = {
            let state = node.state();
            if state.lost {
                // Who asks by a path is led to what has it now; a copy might be nobody's.
                return Err(Errno::STALE);
            }
            (state.parent.clone(), state.name.clone(), state.gone)
        };
        if gone {
            return self.copy_removed(members, node, (&reach, at), truncate);
        }
        if node.is_dir() {
            let target = match &parent {
                Some(parent) => self.copy_target(members, parent, at)?,
                None => self.copy_target(members, node, at)?,
            };
            let mut made = Made::default();
            if let Err(errno) = self.ensure_dir(members, node, target, &mut made) {
                self.unmake(made);
                return Err(errno);
            }
            return Ok(target);
        }
        let parent = parent.ok_or(Errno::STALE)?;
        let target = self.copy_target(members, &parent, at)?;
        self.copy_file_up(members, node, &reach, (&parent, &name), (target, truncate))?;
        Ok(target)
    }

    /// Copies a non-directory to the branch `target`; the node means the copy from then on.
    pub(crate) fn copy_file_up(
        &self,
        members: &Members,
        node: &Arc<Node>,
        reach: &Reach,
        (parent, name): (&Arc<Node>, &CStr),
        (target, truncate): (u16, bool),
    ) -> Res<()> {
        let placed = self.place_copy(members, node, reach, (parent, name), (target, truncate))?;
        self.rebind(node, name, (target, members.epoch), &placed)
    }

    /// Puts a copy in the branch `target`.
    pub(crate) fn place_copy(
        &self,
        members: &Members,
        node: &Arc<Node>,
        reach: &Reach,
        (parent, name): (&Arc<Node>, &CStr),
        (target, truncate): (u16, bool),
    ) -> Res<Placed> {
        let (source, stat, at) = match self.linked(members, &stat_fd(reach.handle()?)?)? {
            Some(linked) if linked.at == target => {
                return self.take_name(members, &linked, (parent, name));
            }
            Some(Linked { link, at, stat }) => {
                (link.reach(members.branch(at))?.handle()?, stat, at)
            }
            None => {
                let source = reach.handle()?;
                let stat = stat_fd(&source)?;
                (source, stat, node.state().at)
            }
        };
        let names = self.names(&stat);
        let origin = self.origin(members, node.ino, at);
        let copy = Copy {
            union: self,
            branch: members.branch(target),
            source: &source,
            stat: &stat,
            note: (names < 2).then_some(origin),
            truncate,
            names: None,
        };
        let mut made = Made::default();
        let copied = self
            .ensure_dir(members, parent, target, &mut made)
            .and_then(|dir| {
                let before = stat_fd(&dir)?;
                let link = match members.key_of(at, &stat) {
                    Some(key) if names > 1 && members.settings.links_names() => {
                        let note = Some(origin);
                        let names = Some(names);
                        let copy = Copy {
                            note,
                            names,
                            ..copy
                        };
                        self.place_linked(members, copy, (target, key), (&dir, name))
                    }
                    _ => copy.place(&dir, name).map(|()| None),
                };
                keep_times(&dir, &before);
                let link = link?;
                stat_at(&dir, name).map(|stat| (dir, stat, link))
            });
        let (dir, now, link) = match copied {
            Ok(found) => found,
            Err(errno) => {
                self.unmake(made);
                // Something has got the name meanwhile: whoever asks by a path is led to it.
                return Err(if errno == Errno::EXIST {
                    Errno::STALE
                } else {
                    errno
                });
            }
        };
        self.counters.copy_ups.fetch_add(1, Ordering::Relaxed);
        self.counters
            .copied_bytes
            .fetch_add(now.stx_size, Ordering::Relaxed);
        Ok(Placed {
            branch: Arc::clone(members.branch(target)),
            dir,
            now,
            made,
            separated: names > 1 && link.is_none(),
            link,
        })
    }

    /// Points a node, and those who read its file, at the copy.
    pub(crate) fn rebind(
        &self,
        node: &Arc<Node>,
        name: &CStr,
        (at, epoch): (u16, u32),
        placed: &Placed,
    ) -> Res<()> {
        let (dir, now, separated) = (&placed.dir, &placed.now, placed.separated);
        let mut state = node.state();
        state.at = at;
        state.epoch = epoch;
        state.real = Real::of(now);
        // Another name may be the one that it is known by at this moment.
        state.link.clone_from(&placed.link);
        let handles: Vec<_> = state.opened.as_ref().map_or_else(Vec::new, |opened| {
            let cached = opened.cached.iter();
            cached.filter_map(std::sync::Weak::upgrade).collect()
        });
        let access = if kind_of(now) != libc::S_IFREG {
            OFlags::PATH
        } else if handles.iter().any(|handle| handle.writes) {
            OFlags::RDWR // a file that moves while it is written
        } else {
            OFlags::RDONLY
        };
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut passed = false;
        let fd = if state.opened.is_some() || separated {
            Some(Arc::new(openat(dir, name, flags, Mode::empty())?))
        } else {
            None
        };
        if let (Some(opened), Some(fd)) = (&mut state.opened, &fd) {
            passed = opened.backing.is_some();
            for handle in &handles {
                handle.redirect(&placed.branch, Arc::clone(fd));
            }
            if !passed {
                opened.file = Arc::clone(fd);
            }
        }
        drop(state);
        if passed || separated {
            // A number of its own from now on: the next look-up makes another node.
            self.table.bury(node, fd);
        }
        if passed { Err(Errno::STALE) } else { Ok(()) }
    }
}

fn copy_dir(
    (union, marks): (&Union, Marks),
    branch: &Branch,
    source: &OwnedFd,
    above: &OwnedFd,
    name: &CStr,
    note: Option<Origin>,
) -> Res<bool> {
    let work = work_name();
    mkdirat(above, &work, Mode::RWXU)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let done = openat(above, &work, flags, Mode::empty()).and_then(|dir| {
        clear_inherited(&dir);
        note_origin(union, branch, &dir, note)?;
        copy_metadata((branch, marks), source, &stat_fd(source)?, &dir)?;
        marks.settle_dir(above, &work, name)
    });
    if done.is_err() {
        let _ = marks.purge(above.as_fd(), &work);
    }
    done
}

/// Takes away the ACLs that a directory got from where it was made.
pub(crate) fn clear_inherited(dir: impl AsFd) {
    let path = fd_path(dir);
    let _ = rustix::fs::removexattr(&path, c"system.posix_acl_default");
    let _ = rustix::fs::removexattr(&path, c"system.posix_acl_access");
}

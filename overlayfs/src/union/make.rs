//! Making objects: which branch, whose, and the marks that have to go.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, openat, renameat_with,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use sys::fuse::Identity;

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::copy::changed_now;
use crate::union::copyup::Made;
use crate::union::marks::{Marks, work_name};
use crate::union::node::Node;
use crate::union::policy;
use crate::union::tree::{Reach, Union, fd_path};

/// Who asks, and the branches as they were when the request came.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) umask: u32,
}

/// What is to be made.
#[derive(Debug)]
pub(crate) enum New<'a> {
    Dir(u32),
    Node(u32, u64),
    Symlink(&'a CStr),
    /// Mode and flags of open.
    File(u32, OFlags),
}

/// A further branch may do what this one could not.
fn is_branch_fault(errno: Errno) -> bool {
    matches!(errno, Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::IO)
}

impl Union {
    /// The branches to try for a new entry of `dir`, best first; it is seen down to `bound`.
    fn candidates(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        bound: u16,
        is_dir: bool,
    ) -> Res<Vec<u16>> {
        let places = self.places(members, dir)?;
        let single = members.branches.len() == 1;
        let views = members.views(
            &places.at,
            !single && members.settings.create.needs_space(members),
        );
        let bound = usize::from(bound.min(places.bound));
        let turn = if members.settings.create.needs_chance() {
            chance()
        } else if is_dir {
            self.turn.load(Ordering::Relaxed)
        } else {
            self.turn.fetch_add(1, Ordering::Relaxed)
        };
        let order = if bound < usize::from(members.last()) {
            // Hidden below the bound: the bounding branch, else those above it, nearest first.
            (0..=bound)
                .rev()
                .filter(|&at| views[at].creatable)
                .collect()
        } else {
            policy::create(members.settings.create, &views, bound, turn)
        };
        if order.is_empty() {
            return Err(Errno::ROFS);
        }
        Ok(order
            .into_iter()
            .filter_map(|at| u16::try_from(at).ok())
            .collect())
    }

    /// Makes an entry; returns its branch, the directory there, and the open file of a file.
    pub(crate) fn make(
        &self,
        members: &Members,
        caller: &Caller<'_>,
        dir: &Arc<Node>,
        name: &CStr,
        new: &New<'_>,
    ) -> Res<(u16, Arc<OwnedFd>, Option<OwnedFd>)> {
        let marks = members.marks();
        let is_mark = matches!(new, New::Node(mode, device) if marks.is_mark(*mode, *device));
        if marks.is_reserved(name.to_bytes()) || is_mark {
            return Err(Errno::PERM);
        }
        let look = self.look(members, dir, name, true)?;
        if look.top.is_some() {
            return Err(Errno::EXIST);
        }
        let is_dir = matches!(new, New::Dir(_));
        let mut fault = Errno::ROFS;
        for at in self.candidates(members, dir, look.bound, is_dir)? {
            let mut made = Made::default();
            let opaque = is_dir
                && (members.settings.always_opaque
                    || look.whiteout == Some(at) && self.is_below(members, dir, name, at)?);
            let done = self.ensure_dir(members, dir, at, &mut made).and_then(|fd| {
                let make = |name: &CStr| make_in((caller, marks), &fd, name, new, opaque);
                let over = look.whiteout == Some(at);
                let file = marks.make(&fd, name, over, make)?;
                Ok((fd, file))
            });
            match done {
                Ok((fd, file)) => {
                    self.touch(members, dir, at);
                    return Ok((at, fd, file));
                }
                Err(errno) => {
                    self.unmake(made);
                    if !is_branch_fault(errno) && !members.branch(at).has_vanished() {
                        return Err(errno);
                    }
                    if fault == Errno::ROFS {
                        fault = errno;
                    }
                }
            }
        }
        Err(fault)
    }

    /// Makes a file without a name; a name that it gets later is in the same branch.
    pub(crate) fn unnamed(
        &self,
        members: &Members,
        caller: &Caller<'_>,
        dir: &Arc<Node>,
        mode: u32,
    ) -> Res<(u16, OwnedFd)> {
        let mut fault = Errno::ROFS;
        for at in self.candidates(members, dir, members.last(), false)? {
            let mut made = Made::default();
            let done = self.ensure_dir(members, dir, at, &mut made).and_then(|fd| {
                caller.identity.set_umask(caller.umask);
                let acting = caller.identity.act_as(caller.uid, caller.gid);
                let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
                let file = openat(&fd, c".", flags, Mode::from_raw_mode(mode & 0o7777));
                drop(acting);
                caller.identity.set_umask(0);
                file
            });
            match done {
                Ok(file) => return Ok((at, file)),
                Err(errno) => {
                    self.unmake(made);
                    if !is_branch_fault(errno) && !members.branch(at).has_vanished() {
                        return Err(errno);
                    }
                    fault = errno;
                }
            }
        }
        Err(fault)
    }

    /// A change in a lower branch of a merged directory is a change of the directory seen.
    pub(crate) fn touch(&self, members: &Members, dir: &Arc<Node>, changed: u16) {
        let Ok(places) = self.places(members, dir) else {
            return;
        };
        let Some(&top) = places.at.first() else {
            return;
        };
        if top >= changed || !members.branch(top).is_writable() {
            return;
        }
        if let Ok(fd) = self.dir_fd(members, dir, top) {
            let _ = changed_now(&fd);
        }
    }

    /// Gives a file a further name; returns the branch and the directory there.
    pub(crate) fn link(
        &self,
        members: &Members,
        node: &Arc<Node>,
        dir: &Arc<Node>,
        name: &CStr,
    ) -> Res<(u16, Arc<OwnedFd>)> {
        if members.marks().is_reserved(name.to_bytes()) {
            return Err(Errno::PERM);
        }
        let at = self.writable(members, node, false)?;
        let look = self.look(members, dir, name, true)?;
        if look.top.is_some() {
            return Err(Errno::EXIST);
        }
        if at > look.bound {
            return Err(Errno::XDEV);
        }
        let mut made = Made::default();
        let (reach, _) = self.reach(members, node)?;
        let done = self.ensure_dir(members, dir, at, &mut made).and_then(|fd| {
            let link = |name: &CStr| match &reach {
                Reach::Fd(file) => linkat(
                    rustix::fs::CWD,
                    fd_path(file),
                    &fd,
                    name,
                    AtFlags::SYMLINK_FOLLOW,
                ),
                Reach::Name(from, old) => linkat(from, old, &fd, name, AtFlags::empty())
                    .map_err(|errno| self.moved(node, errno)),
            };
            let over = look.whiteout == Some(at);
            members.marks().make(&fd, name, over, link)?;
            Ok(fd)
        });
        match done {
            Ok(fd) => {
                self.touch(members, dir, at);
                Ok((at, fd))
            }
            Err(errno) => {
                self.unmake(made);
                Err(errno)
            }
        }
    }
}

/// A number by chance; the policies that want one are content with any.
fn chance() -> u64 {
    let mut bytes = [0; 8];
    let _ = sys::random::fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

fn make_in(
    (caller, marks): (&Caller<'_>, Marks),
    dir: &OwnedFd,
    name: &CStr,
    new: &New<'_>,
    opaque: bool,
) -> Res<Option<OwnedFd>> {
    caller.identity.set_umask(caller.umask);
    let acting = caller.identity.act_as(caller.uid, caller.gid);
    let done = match new {
        New::Dir(mode) if opaque => {
            drop(acting);
            return make_opaque_dir((caller, marks), dir, name, *mode).map(|()| None);
        }
        New::Dir(mode) => mkdirat(dir, name, Mode::from_raw_mode(*mode)).map(|()| None),
        New::Node(mode, device) => {
            let kind = FileType::from_raw_mode(*mode);
            mknodat(dir, name, kind, Mode::from_raw_mode(mode & 0o7777), *device).map(|()| None)
        }
        New::Symlink(target) => symlinkat(*target, dir, name).map(|()| None),
        New::File(mode, flags) => {
            let flags = *flags | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(dir, name, flags, Mode::from_raw_mode(*mode)).map(Some)
        }
    };
    drop(acting);
    caller.identity.set_umask(0);
    done
}

/// Makes a directory that is opaque from the moment that it can be seen.
fn make_opaque_dir(
    (caller, marks): (&Caller<'_>, Marks),
    dir: &OwnedFd,
    name: &CStr,
    mode: u32,
) -> Res<()> {
    let work = work_name();
    let made = {
        let _acting = caller.identity.act_as(caller.uid, caller.gid);
        mkdirat(dir, &work, Mode::from_raw_mode(mode))
    };
    caller.identity.set_umask(0);
    made?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let done = openat(dir, &work, flags, Mode::empty())
        .and_then(|fd| marks.make_opaque(fd))
        .and_then(|_| renameat_with(dir, &work, dir, name, RenameFlags::NOREPLACE));
    if done.is_err() && marks.purge(dir.as_fd(), &work).is_err() {
        let _ = unlinkat(dir, &work, AtFlags::REMOVEDIR);
    }
    done
}

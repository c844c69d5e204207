//! Giving names to copies of files that have several: at their copy-up, and one by one later.
//!
//! The copy is there whole under the name that is kept aside before any name of the union leads to
//! it. Whatever ends the server in between, all names show the same.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, linkat, unlinkat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Branch, Members};
use crate::union::copy::Copy;
use crate::union::copyup::{Made, Placed, keep_times};
use crate::union::links::{Link, Linked};
use crate::union::node::{Node, Real};
use crate::union::plink::Key;
use crate::union::tree::{Union, stat_at, stat_fd};

/// What a branch answers that has no such links or notes; the copy is then a file of its own.
fn is_unable(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK | Errno::NOSYS
    )
}

fn give_name(link: &Link, branch: &Branch, dir: impl AsFd, name: &CStr) -> Res<()> {
    linkat(branch.links_dir()?, &link.name, dir, name, AtFlags::empty())
}

impl Union {
    /// Makes a copy that shows all names of its origin, and gives it the first; where the branch
    /// cannot keep such a link it is a plain copy.
    pub(crate) fn place_linked(
        &self,
        members: &Members,
        copy: Copy<'_>,
        (target, key): (u16, Key),
        (dir, name): (&OwnedFd, &CStr),
    ) -> Res<Option<Arc<Link>>> {
        match self.place_aside(members, copy, (target, key), (dir, name)) {
            Err(errno) if is_unable(errno) => {
                let (note, names) = (None, None);
                Copy {
                    note,
                    names,
                    ..copy
                }
                .place(dir, name)
                .map(|()| None)
            }
            other => other.map(Some),
        }
    }

    fn place_aside(
        &self,
        members: &Members,
        copy: Copy<'_>,
        (target, key): (u16, Key),
        (dir, name): (&OwnedFd, &CStr),
    ) -> Res<Arc<Link>> {
        if copy.branch.place.is_none() {
            return Err(Errno::OPNOTSUPP);
        }
        let aside = copy.branch.make_links_dir()?;
        let kept = key.name();
        let made = match copy.place_in(dir, (&aside, &kept)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false, // another union with this branch has made it
            Err(errno) => return Err(errno),
        };
        let mut named = false;
        let known = self.know(members, target, &kept);
        let done = known
            .and_then(|link| link.ok_or(Errno::STALE))
            .and_then(|link| {
                give_name(&link, copy.branch, dir, name)?;
                named = true;
                self.taken(members, &link)?;
                Ok(link)
            });
        if done.is_err() && made {
            // It may be without data, which only who is to empty the file may see.
            if named {
                let _ = unlinkat(dir, name, AtFlags::empty());
            }
            let _ = unlinkat(&aside, &kept, AtFlags::empty());
            self.forget_link(members, target, &kept);
        }
        done
    }

    /// Makes a name that shows a copy one of the copy's own.
    pub(crate) fn name_copy(
        &self,
        members: &Members,
        linked: &Linked,
        (dir, name): (&Arc<Node>, &CStr),
    ) -> Res<Arc<OwnedFd>> {
        let mut made = Made::default();
        let branch = members.branch(linked.at);
        let done = self
            .ensure_dir(members, dir, linked.at, &mut made)
            .and_then(|fd| {
                let before = stat_fd(&fd)?;
                let named = give_name(&linked.link, branch, &fd, name);
                keep_times(&fd, &before);
                named.map(|()| fd)
            });
        match done {
            Ok(fd) => {
                self.taken(members, &linked.link)?;
                Ok(fd)
            }
            Err(Errno::EXIST) if self.has_name(members, linked, (dir, name)) => {
                self.dir_fd(members, dir, linked.at)
            }
            Err(errno) => {
                self.unmake(made);
                Err(errno)
            }
        }
    }

    /// Whether a copy has a name itself: somebody else was faster.
    fn has_name(
        &self,
        members: &Members,
        linked: &Linked,
        (dir, name): (&Arc<Node>, &CStr),
    ) -> bool {
        let found = self.dir_fd(members, dir, linked.at);
        let stat = found.and_then(|fd| stat_at(&fd, name));
        stat.is_ok_and(|stat| Real::of(&stat) == Real::of(&linked.stat))
    }

    /// The copy of an object is there already: its name is made one of the copy's own.
    pub(crate) fn take_name(
        &self,
        members: &Members,
        linked: &Linked,
        (dir, name): (&Arc<Node>, &CStr),
    ) -> Res<Placed> {
        let dir = self.name_copy(members, linked, (dir, name))?;
        Ok(Placed {
            now: stat_at(&dir, name)?,
            dir,
            branch: Arc::clone(members.branch(linked.at)),
            made: Made::default(),
            separated: false,
            link: Some(Arc::clone(&linked.link)),
        })
    }
}

//! Copy-up: a complete copy in a writable branch, put in place in one step.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Statx, Timespec, Timestamps,
    Uid, XattrFlags, chmodat, chownat, copy_file_range, fdatasync, ftruncate, ioctl_ficlone,
    linkat, listxattr, mkdirat, mknodat, openat, readlinkat, renameat_with, seek, setxattr,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Branch, COPIES, Members, lock};
use crate::union::links::{Link, Linked};
use crate::union::marks::{Marks, work_name};
use crate::union::node::{Node, Places, Real};
use crate::union::permission::XattrClasses;
use crate::union::plink::Counts;
use crate::union::policy;
use crate::union::tree::{ORIGIN, Reach, Union, fd_path, kind_of, stat_at, stat_fd};

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

pub(crate) fn times_of(stat: &Statx) -> Timestamps {
    let time = |time: &rustix::fs::StatxTimestamp| Timespec {
        tv_sec: time.tv_sec,
        tv_nsec: time.tv_nsec.into(),
    };
    Timestamps {
        last_access: time(&stat.stx_atime),
        last_modification: time(&stat.stx_mtime),
    }
}

/// Says that something was changed just now.
pub(crate) fn changed_now(object: impl AsFd) -> Res<()> {
    let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
    let times = Timestamps {
        last_access: special(rustix::fs::UTIME_OMIT),
        last_modification: special(rustix::fs::UTIME_NOW),
    };
    utimensat(object, c"", &times, AtFlags::EMPTY_PATH)
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
        let note = (at < top).then_some(node.ino);
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
            (state.parent.clone(), state.name.clone(), state.gone)
        };
        if gone {
            return Err(Errno::ROFS);
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
        let copy = Copy {
            union: self,
            branch: members.branch(target),
            source: &source,
            stat: &stat,
            note: (names < 2).then_some(node.ino),
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
                        let note = Some(node.ino);
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
                return Err(errno);
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

/// Copies attributes and extended attributes; the owner before the mode, since chown clears bits.
fn copy_metadata(
    (branch, marks): (&Branch, Marks),
    source: &OwnedFd,
    stat: &Statx,
    copy: impl AsFd,
) -> Res<()> {
    let copy = copy.as_fd();
    let path = fd_path(copy);
    let owner = (Uid::from_raw(stat.stx_uid), Gid::from_raw(stat.stx_gid));
    chownat(copy, c"", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH)?;
    copy_xattrs(source, &path, branch.permission.ignored_xattrs, marks)?;
    if kind_of(stat) != libc::S_IFLNK {
        let mode = Mode::from_raw_mode(u32::from(stat.stx_mode) & 0o7777);
        chmodat(CWD, &path, mode, AtFlags::empty())?;
    }
    utimensat(copy, c"", &times_of(stat), AtFlags::EMPTY_PATH)
}

fn copy_xattrs(source: &OwnedFd, copy: &str, ignored: XattrClasses, marks: Marks) -> Res<()> {
    let from = fd_path(source);
    let mut names = vec![0; 64 << 10];
    let length = match listxattr(&from, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        other => other?,
    };
    let mut value = Vec::new();
    for name in names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        if marks.shown_xattr(name).is_none() {
            continue;
        }
        value.resize(64 << 10, 0);
        let copied = match rustix::fs::getxattr(&from, name, &mut value[..]) {
            Err(Errno::NODATA) => continue,
            Ok(length) => setxattr(copy, name, &value[..length], XattrFlags::empty()),
            Err(errno) => Err(errno),
        };
        if !ignored.has(name) {
            copied?;
        }
    }
    Ok(())
}

/// Notes on the copy which number it keeps, or in memory where the branch has no such notes.
fn note_origin(union: &Union, branch: &Branch, copy: impl AsFd, origin: Option<u64>) -> Res<()> {
    let Some(origin) = origin else { return Ok(()) };
    let stat = stat_fd(copy.as_fd())?;
    let mut note = stat.stx_ino.to_le_bytes().to_vec();
    note.extend_from_slice(&origin.to_le_bytes());
    if setxattr(fd_path(copy), ORIGIN, &note, XattrFlags::empty()).is_err() {
        union.remember_origin(&stat, origin);
    }
    if !branch.has_copies.swap(true, Ordering::Relaxed) {
        let _ = setxattr(fd_path(&*branch.root), COPIES, b"1", XattrFlags::empty());
    }
    Ok(())
}

fn copy_dir(
    (union, marks): (&Union, Marks),
    branch: &Branch,
    source: &OwnedFd,
    above: &OwnedFd,
    name: &CStr,
    note: Option<u64>,
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

/// A copy to be made: of what, to which branch, known by which number.
#[derive(Clone, Copy)]
pub(crate) struct Copy<'a> {
    pub(crate) union: &'a Union,
    pub(crate) branch: &'a Branch,
    pub(crate) source: &'a OwnedFd,
    pub(crate) stat: &'a Statx,
    pub(crate) note: Option<u64>,
    pub(crate) truncate: bool,
    /// How many names it will stand for, if more than one.
    pub(crate) names: Option<u32>,
}

impl Copy<'_> {
    /// Makes the copy aside and puts it in place whole.
    pub(crate) fn place(self, dir: &OwnedFd, name: &CStr) -> Res<()> {
        self.place_in(dir, (dir, name))
    }

    /// The same where it is put into another directory than that in which it is made, which takes
    /// what a crash leaves along when it goes.
    pub(crate) fn place_in(self, dir: &OwnedFd, to: (&OwnedFd, &CStr)) -> Res<()> {
        if kind_of(self.stat) == libc::S_IFREG {
            return self.place_regular(dir, to);
        }
        let work = work_name();
        match kind_of(self.stat) {
            libc::S_IFLNK => symlinkat(readlinkat(self.source, c"", Vec::new())?, dir, &work)?,
            kind => {
                let (major, minor) = (self.stat.stx_rdev_major, self.stat.stx_rdev_minor);
                let device = rustix::fs::makedev(major, minor);
                mknodat(
                    dir,
                    &work,
                    FileType::from_raw_mode(kind),
                    Mode::RUSR,
                    device,
                )?;
            }
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let done = openat(dir, &work, flags, Mode::empty()).and_then(|copy| {
            self.dress(&copy)?;
            renameat_with(dir, &work, to.0, to.1, RenameFlags::NOREPLACE)
        });
        if done.is_err() {
            let _ = unlinkat(dir, &work, AtFlags::empty());
        }
        done
    }

    fn dress(self, copy: &OwnedFd) -> Res<()> {
        note_origin(self.union, self.branch, copy, self.note)?;
        if let Some(below) = self.names {
            let seen = self.stat.stx_nlink;
            Counts { below, seen }.write(copy)?;
        }
        let marks = self.union.members().marks();
        copy_metadata((self.branch, marks), self.source, self.stat, copy)
    }

    fn place_regular(self, dir: &OwnedFd, to: (&OwnedFd, &CStr)) -> Res<()> {
        let mode = Mode::RUSR | Mode::WUSR;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let unnamed = openat(dir, c".", OFlags::TMPFILE | flags, mode);
        let (copy, work) = match unnamed {
            Ok(copy) => (copy, None),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let work = work_name();
                let flags = OFlags::CREATE | OFlags::EXCL | flags;
                (openat(dir, &work, flags, mode)?, Some(work))
            }
            Err(errno) => return Err(errno),
        };
        let done = self.fill(&copy).and_then(|()| match &work {
            None => linkat(CWD, fd_path(&copy), to.0, to.1, AtFlags::SYMLINK_FOLLOW),
            Some(work) => renameat_with(dir, work, to.0, to.1, RenameFlags::NOREPLACE),
        });
        if let (Err(_), Some(work)) = (&done, &work) {
            let _ = unlinkat(dir, work, AtFlags::empty());
        }
        done
    }

    fn fill(self, copy: &OwnedFd) -> Res<()> {
        if !self.truncate && self.stat.stx_size > 0 {
            copy_data(self.source, copy, self.stat.stx_size)?;
            if !self.union.members().settings.volatile {
                fdatasync(copy)?;
            }
        }
        let _ = rustix::fs::removexattr(fd_path(copy), c"system.posix_acl_access");
        self.dress(copy)?;
        if self.truncate {
            // Emptied now, and not when its origin was changed last.
            changed_now(copy)?;
        }
        Ok(())
    }
}

/// Copies a file's data; shares it where the file system can, and keeps holes.
pub(crate) fn copy_data(source: &OwnedFd, copy: &OwnedFd, size: u64) -> Res<()> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let source = openat(CWD, fd_path(source), flags | OFlags::NOATIME, Mode::empty())
        .or_else(|_| openat(CWD, fd_path(source), flags, Mode::empty()))?;
    if ioctl_ficlone(copy, &source).is_ok() {
        return Ok(());
    }
    ftruncate(copy, size)?;
    let mut at = 0;
    while at < size {
        let from = match seek(&source, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let to = seek(&source, SeekFrom::Hole(from))
            .unwrap_or(size)
            .min(size);
        copy_range(&source, copy, from, to)?;
        at = to.max(from + 1);
    }
    Ok(())
}

fn copy_range(source: &OwnedFd, copy: &OwnedFd, from: u64, to: u64) -> Res<()> {
    let (mut input, mut output) = (from, from);
    let mut buffer = Vec::new();
    while input < to {
        let want = usize::try_from(to - input)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match copy_file_range(source, Some(&mut input), copy, Some(&mut output), want) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                buffer.resize(want.min(1 << 20), 0);
                let count = rustix::io::pread(source, &mut buffer[..], input)?;
                if count == 0 {
                    return Ok(());
                }
                let mut done = 0;
                while done < count {
                    done += rustix::io::pwrite(copy, &buffer[done..count], output + done as u64)?;
                }
                input += count as u64;
                output += count as u64;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

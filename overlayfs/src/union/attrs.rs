//! Attributes, extended attributes, links' targets and free space.

use std::borrow::Cow;
use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, StatVfs, Statx, Timespec, Timestamps, Uid, XattrFlags,
    chmodat, chownat, fstatvfs, ftruncate, openat, readlinkat, utimensat,
};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Members, lock};
use crate::union::handle::Handle;
use crate::union::node::{Node, Real};
use crate::union::options::Uncounted;
use crate::union::tree::{Reach, Union, fd_path, stat_fd};
use crate::union::wire::{Put, set};

/// What SETATTR asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Change {
    pub(crate) valid: u32,
    pub(crate) size: u64,
    pub(crate) atime: (i64, u32),
    pub(crate) mtime: (i64, u32),
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Clears setuid, setgid and the file's capabilities, as a write by an ordinary user does.
pub(crate) fn kill_privileges(fd: impl AsFd) -> Res<()> {
    let fd = fd.as_fd();
    let mode = u32::from(stat_fd(fd)?.stx_mode);
    if mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(());
    }
    let mut kept = mode & !libc::S_ISUID;
    if mode & libc::S_IXGRP != 0 {
        kept &= !libc::S_ISGID;
    }
    let path = fd_path(fd);
    if kept != mode {
        chmodat(
            CWD,
            &path,
            Mode::from_raw_mode(kept & 0o7777),
            AtFlags::empty(),
        )?;
    }
    match rustix::fs::removexattr(&path, c"security.capability") {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno),
    }
}

impl Union {
    /// A descriptor of a node's object, checked to be that object.
    pub(crate) fn object(&self, members: &Members, node: &Arc<Node>) -> Res<Arc<OwnedFd>> {
        let (reach, _) = self.reach(members, node)?;
        let fd = reach.handle().map_err(|errno| self.moved(node, errno))?;
        if !reach.is_fd() && node.state().real != Real::of(&stat_fd(&fd)?) {
            return Err(Errno::STALE);
        }
        Ok(fd)
    }

    /// Changes attributes, after a copy-up if it must be.
    pub(crate) fn set_attributes(
        &self,
        members: &Members,
        node: &Arc<Node>,
        change: &Change,
        handle: Option<&Handle>,
    ) -> Res<Statx> {
        let valid = change.valid;
        let truncates = valid & set::SIZE != 0 && change.size == 0;
        let _busy = lock(&node.busy);
        let (_, source) = self.reach(members, node)?;
        let at = self.writable_locked(members, node, truncates)?;
        let emptied = truncates && at != source; // copied without its data
        let fd = self.object(members, node)?;
        let path = fd_path(&fd);
        if valid & (set::UID | set::GID) != 0 {
            let uid = (valid & set::UID != 0).then(|| Uid::from_raw(change.uid));
            let gid = (valid & set::GID != 0).then(|| Gid::from_raw(change.gid));
            chownat(&fd, c"", uid, gid, AtFlags::EMPTY_PATH)?;
        }
        if valid & set::SIZE != 0 && !emptied {
            self.truncate(node, &fd, change.size, handle)?;
        }
        let asked = set::MODE | set::UID | set::GID | set::SIZE | set::ATIME | set::MTIME;
        if valid & set::KILL_SUIDGID != 0 || valid & asked == 0 {
            kill_privileges(&fd)?;
        }
        if valid & set::MODE != 0 {
            chmodat(
                CWD,
                &path,
                Mode::from_raw_mode(change.mode & 0o7777),
                AtFlags::empty(),
            )?;
        }
        if valid & (set::ATIME | set::MTIME) != 0 {
            let time = |bit, now, (sec, nsec): (i64, u32)| {
                let special = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
                if valid & bit == 0 {
                    special(rustix::fs::UTIME_OMIT)
                } else if valid & now != 0 {
                    special(rustix::fs::UTIME_NOW)
                } else {
                    Timespec {
                        tv_sec: sec,
                        tv_nsec: nsec.into(),
                    }
                }
            };
            let times = Timestamps {
                last_access: time(set::ATIME, set::ATIME_NOW, change.atime),
                last_modification: time(set::MTIME, set::MTIME_NOW, change.mtime),
            };
            utimensat(&fd, c"", &times, AtFlags::EMPTY_PATH)?;
        }
        stat_fd(&fd)
    }

    fn truncate(
        &self,
        node: &Arc<Node>,
        fd: &OwnedFd,
        size: u64,
        handle: Option<&Handle>,
    ) -> Res<()> {
        let backing = node
            .state()
            .opened
            .as_ref()
            .and_then(|opened| opened.backing.clone());
        if let Some(writer) = backing.as_ref().and_then(|backing| backing.writer.get()) {
            return ftruncate(writer, size);
        }
        if let Some(handle) = handle.filter(|handle| handle.writes) {
            return ftruncate(handle.file(), size);
        }
        let file = openat(
            CWD,
            fd_path(fd),
            OFlags::WRONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        ftruncate(file, size)
    }

    pub(crate) fn read_link(&self, members: &Members, node: &Arc<Node>) -> Res<Vec<u8>> {
        let target = match self.reach(members, node)?.0 {
            Reach::Fd(fd) => readlinkat(fd, c"", Vec::new()),
            Reach::Name(dir, name) => readlinkat(dir, &name, Vec::new()),
        };
        Ok(target?.into_bytes())
    }

    pub(crate) fn get_xattr(
        &self,
        members: &Members,
        node: &Arc<Node>,
        name: &CStr,
        size: usize,
    ) -> Res<(usize, Vec<u8>)> {
        let name = &*members.marks().stored_xattr(name).ok_or(Errno::NODATA)?;
        let (reach, _) = self.reach(members, node)?;
        let path = reach.path();
        let mut value = vec![0; size];
        let length = match (reach.is_fd(), size) {
            (true, 0) => rustix::fs::getxattr_query(path, name)?,
            (false, 0) => rustix::fs::lgetxattr_query(path, name)?,
            (true, _) => rustix::fs::getxattr(path, name, &mut value[..])?,
            (false, _) => rustix::fs::lgetxattr(path, name, &mut value[..])?,
        };
        value.truncate(length);
        Ok((length, value))
    }

    pub(crate) fn list_xattrs(
        &self,
        members: &Members,
        node: &Arc<Node>,
        size: usize,
    ) -> Res<(usize, Vec<u8>)> {
        let (reach, _) = self.reach(members, node)?;
        let path = reach.path();
        let mut names = vec![0; 64 << 10];
        let listed = if reach.is_fd() {
            rustix::fs::listxattr(path, &mut names[..])
        } else {
            rustix::fs::llistxattr(path, &mut names[..])
        };
        let length = listed?;
        let shown: Vec<u8> = names[..length]
            .split_inclusive(|&byte| byte == 0)
            .filter_map(|name| members.marks().shown_xattr(name))
            .flat_map(Cow::into_owned)
            .collect();
        if size > 0 && shown.len() > size {
            return Err(Errno::RANGE);
        }
        Ok((shown.len(), shown))
    }

    pub(crate) fn set_xattr(
        &self,
        members: &Members,
        node: &Arc<Node>,
        (name, value): (&CStr, &[u8]),
        flags: u32,
        kill: bool,
    ) -> Res<()> {
        let name = &*members.marks().stored_xattr(name).ok_or(Errno::PERM)?;
        self.writable(members, node, false)?;
        let fd = self.object(members, node)?;
        let path = fd_path(&fd);
        rustix::fs::setxattr(&path, name, value, XattrFlags::from_bits_retain(flags))?;
        if kill {
            let mode = u32::from(stat_fd(&fd)?.stx_mode) & 0o7777 & !libc::S_ISGID;
            chmodat(CWD, &path, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        Ok(())
    }

    pub(crate) fn remove_xattr(&self, members: &Members, node: &Arc<Node>, name: &CStr) -> Res<()> {
        let name = &*members.marks().stored_xattr(name).ok_or(Errno::NODATA)?;
        let (reach, at) = self.reach(members, node)?;
        if !members.branch(at).is_writable() {
            // Nothing to remove is no reason to copy.
            let path = reach.path();
            if reach.is_fd() {
                rustix::fs::getxattr_query(path, name)?;
            } else {
                rustix::fs::lgetxattr_query(path, name)?;
            }
        }
        self.writable(members, node, false)?;
        let fd = self.object(members, node)?;
        rustix::fs::removexattr(fd_path(&fd), name)
    }

    /// Free space: of the first branch, or of all, each file system counted once.
    pub(crate) fn statfs(&self, members: &Members, out: &mut Vec<u8>) -> Res<()> {
        let mut total = fstatvfs(&members.branch(0).root)?;
        if members.settings.sum {
            total = sum(members, total);
        }
        for number in [
            total.f_blocks,
            total.f_bfree,
            total.f_bavail,
            total.f_files,
            total.f_ffree,
        ] {
            out.u64(number);
        }
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        out.u32(small(total.f_bsize));
        out.u32(small(total.f_namemax));
        out.u32(small(total.f_frsize));
        out.zeros(4 + 24);
        Ok(())
    }
}

/// All branches that count, each file system once, in the smallest of their units.
fn sum(members: &Members, first: StatVfs) -> StatVfs {
    let uncounted = members.settings.uncounted;
    let mut counted: Vec<u64> = Vec::new();
    let mut all = Vec::new();
    for branch in &members.branches {
        let counts = match uncounted {
            Uncounted::None => true,
            Uncounted::ReadOnly => branch.is_writable(),
            Uncounted::NoCreate => branch.is_creatable(),
        };
        if !counts || counted.contains(&branch.device) {
            continue;
        }
        counted.push(branch.device);
        all.extend(fstatvfs(&branch.root).ok());
    }
    let unit = all.iter().map(|vfs| vfs.f_frsize.max(1)).min();
    let unit = unit.unwrap_or(first.f_frsize.max(1));
    let (f_blocks, f_bfree, f_bavail, f_files, f_ffree) = (0, 0, 0, 0, 0);
    let zero = StatVfs {
        f_bsize: unit,
        f_frsize: unit,
        f_blocks,
        f_bfree,
        f_bavail,
        f_files,
        f_ffree,
        ..first
    };
    all.iter().fold(zero, |total, vfs| {
        let scale = |count: u64| count.saturating_mul(vfs.f_frsize.max(1)) / unit;
        StatVfs {
            f_blocks: total.f_blocks + scale(vfs.f_blocks),
            f_bfree: total.f_bfree + scale(vfs.f_bfree),
            f_bavail: total.f_bavail + scale(vfs.f_bavail),
            f_files: total.f_files + vfs.f_files,
            f_ffree: total.f_ffree + vfs.f_ffree,
            ..total
        }
    })
}

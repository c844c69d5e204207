//! One request of the kernel: its arguments read, the union asked, the answer written.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{OFlags, Statx, fsync};
use rustix::io::Errno;
use sys::fuse::Identity;

use crate::union::Res;
use crate::union::attrs::Change;
use crate::union::branch::{Members, lock};
use crate::union::file::Answer;
use crate::union::handle::DirHandle;
use crate::union::links::Linked;
use crate::union::make::{Caller, New};
use crate::union::node::{Node, Real, Seen};
use crate::union::rename::End;
use crate::union::tree::{Look, Union, kind_of, stat_at, stat_fd};
use crate::union::wire::{Args, Header, Put, device_parts, op, set};

const FOREVER: u64 = 86_400;
/// Saves the second question of a stat; names are asked for each time, with the attributes.
const MOMENT_NSEC: u32 = 10_000_000;
/// The least room that an entry with its attributes takes.
const PLUS: usize = 128 + 32;
/// The kernel asks for attributes with the first entries of every directory, and with later ones if
/// it was asked for those. In a large directory a few of the first show whether anybody is.
const FIRST_WITH_ATTRIBUTES: usize = 32;
const SETXATTR_ACL_KILL_SGID: u32 = 1;

/// A request being carried out.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    pub(crate) union: &'a Union,
    pub(crate) members: &'a Members,
    pub(crate) identity: &'a Identity,
    pub(crate) header: Header,
    pub(crate) args: Args<'a>,
}

impl<'a> Request<'a> {
    /// Whether carrying it out twice does no harm: nothing was done if it was refused.
    pub(crate) fn is_repeatable(&self) -> bool {
        !matches!(
            self.header.opcode,
            op::OPEN | op::READ | op::WRITE | op::SETXATTR
        )
    }

    pub(crate) fn carry_out(&mut self, out: &mut Vec<u8>) -> Res<()> {
        match self.header.opcode {
            op::LOOKUP => self.lookup(out),
            op::GETATTR => self.get_attributes(out),
            op::STATX => self.statx(out),
            op::SETATTR => self.set_attributes(out),
            op::READLINK => {
                out.extend(self.union.read_link(self.members, &self.node()?)?);
                Ok(())
            }
            op::SYMLINK | op::MKNOD | op::MKDIR => self.make(out),
            op::CREATE => self.create(out),
            op::TMPFILE => self.tmpfile(out),
            op::LINK => self.link(out),
            op::UNLINK => self
                .union
                .unlink(self.members, &self.node()?, self.args.name()?),
            op::RMDIR => self
                .union
                .rmdir(self.members, &self.node()?, self.args.name()?),
            op::RENAME | op::RENAME2 => self.rename(),
            op::SETXATTR | op::GETXATTR | op::LISTXATTR | op::REMOVEXATTR => self.xattr(out),
            op::STATFS => self.union.statfs(self.members, out),
            op::OPENDIR => self.open_dir(out),
            op::READDIR => self.read_dir(out, false),
            op::READDIRPLUS => self.read_dir(out, true),
            op::RELEASEDIR | op::RELEASE => {
                self.union.release(self.args.u64()?);
                Ok(())
            }
            op::FSYNCDIR => self.sync_dir(),
            op::OPEN
            | op::READ
            | op::WRITE
            | op::FSYNC
            | op::FALLOCATE
            | op::LSEEK
            | op::COPY_FILE_RANGE
            | op::COPY_FILE_RANGE_64 => self.file(out),
            op::DESTROY => Ok(()),
            op::IOCTL => self.ioctl(out),
            _ => Err(Errno::NOSYS),
        }
    }

    pub(crate) fn node(&self) -> Res<Arc<Node>> {
        self.union.node(self.header.node)
    }

    fn caller(&self, umask: u32) -> Caller<'a> {
        let Header { uid, gid, .. } = self.header;
        Caller {
            identity: self.identity,
            uid,
            gid,
            umask,
        }
    }

    fn attribute_time(&self, out: &mut Vec<u8>, node: &Node, stat: &Statx) {
        if self.union.keeps_attributes(self.members, node, stat) {
            out.u64(FOREVER);
            out.u32(0);
        } else {
            out.u64(0);
            out.u32(MOMENT_NSEC);
        }
    }

    /// Writes the answer that names a node, an entry of `dir`, with its attributes.
    fn entry(&self, out: &mut Vec<u8>, dir: &Node, node: &Arc<Node>, stat: &Statx) {
        // Of several names of one file the union knows the last one only: it could not take the
        // others back.
        let names = self.union.nlink(self.members, node, stat);
        let single = node.is_dir() || names < 2 && !self.union.is_linked(node);
        let name = single && self.union.keeps_names(self.members, dir);
        let attributes = self.union.keeps_attributes(self.members, node, stat);
        out.u64(node.id);
        out.u64(self.union.table.generation(node));
        out.u64(if name { FOREVER } else { 0 });
        out.u64(if attributes { FOREVER } else { 0 });
        out.u32(0);
        out.u32(if attributes { 0 } else { MOMENT_NSEC });
        let number = self.union.shown_number(self.members, node.ino);
        out.attr(number, names, stat);
    }

    /// The node of what was found, made known to the kernel.
    fn enter(&self, dir: &Arc<Node>, name: &CStr, look: &Look) -> Res<(Arc<Node>, Statx)> {
        if let Some(Linked { link, at, stat }) = self.union.linked_of(self.members, look)? {
            let seen = Seen {
                ino: link.ino,
                kind: kind_of(&stat),
                real: Real::of(&stat),
                epoch: self.members.epoch,
                at,
                places: None,
                link: Some(link),
            };
            return Ok((self.union.table.enter(seen, dir, name), stat));
        }
        let (at, stat) = look.top.ok_or(Errno::NOENT)?;
        let branch = self.members.branch(at);
        let ino = if branch.has_copies.load(Ordering::Relaxed) {
            let fd = self.union.dir_fd(self.members, dir, at)?;
            self.union.ino(branch, &fd, name, &stat)
        } else {
            self.union.ino(branch, &branch.root, name, &stat)
        };
        let real = Real::of(&stat);
        let seen = Seen {
            ino: self.union.number_for(self.members, ino, (dir, name), real),
            kind: kind_of(&stat),
            real,
            epoch: self.members.epoch,
            at,
            places: look.places().map(Arc::new),
            link: self.union.links.by_copy(&stat), // which outlives this name
        };
        let node = self.union.table.enter(seen, dir, name);
        for &(at, ino) in &look.dirs {
            self.union
                .dirs
                .check(node.id, self.members.branch(at).id, ino);
        }
        Ok((node, stat))
    }

    fn lookup(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let name = self.args.name()?;
        if matches!(name.to_bytes(), b"." | b"..") {
            return self.lookup_by_handle(out, name == c"..");
        }
        if self.members.marks().is_unseen(name.to_bytes()) {
            return Err(Errno::PERM);
        }
        let dir = self.node()?;
        let keeps = self.union.keep_names(self.members, &dir);
        let look = self.union.look(self.members, &dir, name, false)?;
        if look.top.is_none() && keeps && self.union.keep_missing(&dir, name) {
            out.zeros(16);
            out.u64(FOREVER);
            out.zeros(128 - 24);
            return Ok(());
        }
        let (node, stat) = self.enter(&dir, name, &look)?;
        self.entry(out, &dir, &node, &stat);
        Ok(())
    }

    /// Finds a node by its number alone, or its parent: somebody has a handle of it.
    fn lookup_by_handle(&self, out: &mut Vec<u8>, parent: bool) -> Res<()> {
        let mut node = self.node()?;
        if parent {
            node = node.parent().ok_or(Errno::STALE)?;
        }
        let stat = self.union.stat(self.members, &node)?;
        self.union.table.enter_again(&node)?;
        self.entry(out, &node, &node, &stat);
        Ok(())
    }

    /// Answers with the entry that was just made in one branch.
    fn made(
        &self,
        out: &mut Vec<u8>,
        dir: &Arc<Node>,
        name: &CStr,
        at: u16,
        fd: &OwnedFd,
    ) -> Res<Arc<Node>> {
        let stat = stat_at(fd, name)?;
        let mut look = Look {
            top: Some((at, stat)),
            dirs: Vec::new(),
            bound: at,
            whiteout: None,
            routes: Vec::new(),
            links: None,
        };
        if kind_of(&stat) == libc::S_IFDIR {
            look = self.union.look(self.members, dir, name, true)?;
        }
        let (node, stat) = self.enter(dir, name, &look)?;
        self.union.missing.found(dir.id, name);
        self.entry(out, dir, &node, &stat);
        Ok(node)
    }

    fn get_attributes(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let node = self.node()?;
        let stat = self.union.stat(self.members, &node)?;
        self.attributes(out, &node, &stat);
        Ok(())
    }

    fn attributes(&self, out: &mut Vec<u8>, node: &Arc<Node>, stat: &Statx) {
        self.attribute_time(out, node, stat);
        out.u32(0);
        let number = self.union.shown_number(self.members, node.ino);
        out.attr(number, self.union.nlink(self.members, node, stat), stat);
    }

    fn statx(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let node = self.node()?;
        let stat = self.union.stat(self.members, &node)?;
        self.attribute_time(out, &node, &stat);
        out.u32(0);
        out.zeros(16);
        out.u32(stat.stx_mask);
        out.u32(stat.stx_blksize);
        out.u64(0);
        out.u32(self.union.nlink(self.members, &node, &stat));
        out.u32(stat.stx_uid);
        out.u32(stat.stx_gid);
        out.u16(stat.stx_mode);
        out.u16(0);
        out.u64(self.union.shown_number(self.members, node.ino));
        out.u64(stat.stx_size);
        out.u64(stat.stx_blocks);
        out.u64(0);
        for time in [
            &stat.stx_atime,
            &stat.stx_btime,
            &stat.stx_ctime,
            &stat.stx_mtime,
        ] {
            out.u64(time.tv_sec.cast_unsigned());
            out.u32(time.tv_nsec);
            out.u32(0);
        }
        out.u32(stat.stx_rdev_major);
        out.u32(stat.stx_rdev_minor);
        out.zeros(8 + 14 * 8);
        Ok(())
    }

    fn set_attributes(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let args = &mut self.args;
        let valid = args.u32()?;
        args.u32()?;
        let (fh, size) = (args.u64()?, args.u64()?);
        args.u64()?;
        let (atime, mtime, _) = (args.u64()?, args.u64()?, args.u64()?);
        let (atime_nsec, mtime_nsec, _) = (args.u32()?, args.u32()?, args.u32()?);
        let mode = args.u32()?;
        args.u32()?;
        let (uid, gid) = (args.u32()?, args.u32()?);
        let change = Change {
            valid,
            size,
            atime: (atime.cast_signed(), atime_nsec),
            mtime: (mtime.cast_signed(), mtime_nsec),
            mode,
            uid,
            gid,
        };
        let handle = (valid & set::FH != 0)
            .then(|| self.union.handles.file(fh))
            .flatten();
        let node = self.node()?;
        let stat = self
            .union
            .set_attributes(self.members, &node, &change, handle.as_deref())?;
        self.attributes(out, &node, &stat);
        Ok(())
    }

    fn make(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let dir = self.node()?;
        let mut umask = 0;
        let (name, new) = match self.header.opcode {
            op::MKDIR => {
                let mode = self.args.u32()?;
                umask = self.args.u32()?;
                (self.args.name()?, New::Dir(mode))
            }
            op::MKNOD => {
                let (mode, device) = (self.args.u32()?, self.args.u32()?);
                umask = self.args.u32()?;
                self.args.u32()?;
                let (major, minor) = device_parts(device);
                (
                    self.args.name()?,
                    New::Node(mode, rustix::fs::makedev(major, minor)),
                )
            }
            _ => {
                let name = self.args.name()?;
                (name, New::Symlink(self.args.name()?))
            }
        };
        let (at, fd, _) = self
            .union
            .make(self.members, &self.caller(umask), &dir, name, &new)?;
        self.made(out, &dir, name, at, &fd).map(drop)
    }

    fn create(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let dir = self.node()?;
        let (flags, mode, umask) = (self.args.u32()?, self.args.u32()?, self.args.u32()?);
        self.args.u32()?;
        let name = self.args.name()?;
        let wanted = OFlags::from_bits_retain(flags);
        let opening = OFlags::RDWR | (wanted & OFlags::NOATIME);
        let new = New::File(mode & 0o7777, opening);
        match self
            .union
            .make(self.members, &self.caller(umask), &dir, name, &new)
        {
            Ok((at, fd, file)) => {
                let node = self.made(out, &dir, name, at, &fd)?;
                let file = file.ok_or(Errno::IO)?;
                let answer = self.union.open_made(self.members, &node, at, file);
                self.opened(out, answer);
                Ok(())
            }
            Err(Errno::EXIST) if !wanted.contains(OFlags::EXCL) => {
                let look = self.union.look(self.members, &dir, name, false)?;
                let (node, stat) = self.enter(&dir, name, &look)?;
                self.entry(out, &dir, &node, &stat);
                let opened = self
                    .union
                    .open(self.members, &node, wanted - OFlags::CREATE, false);
                if opened.is_err() {
                    self.union.forget(node.id, 1);
                }
                self.opened(out, opened?);
                Ok(())
            }
            Err(errno) => Err(errno),
        }
    }

    fn tmpfile(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let dir = self.node()?;
        let (_, mode, umask) = (self.args.u32()?, self.args.u32()?, self.args.u32()?);
        let (at, file) = self
            .union
            .unnamed(self.members, &self.caller(umask), &dir, mode)?;
        let stat = stat_fd(&file)?;
        let branch = self.members.branch(at);
        let seen = Seen {
            ino: self.union.ino(branch, &branch.root, c"", &stat),
            kind: kind_of(&stat),
            real: Real::of(&stat),
            epoch: self.members.epoch,
            at,
            places: None,
            link: None,
        };
        let node = self.union.table.enter_unnamed(seen, &dir);
        self.entry(out, &dir, &node, &stat);
        let answer = self.union.open_made(self.members, &node, at, file);
        self.opened(out, answer);
        Ok(())
    }

    fn link(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let node = self.union.node(self.args.u64()?)?;
        let name = self.args.name()?;
        let dir = self.node()?;
        let (at, fd) = self.union.link(self.members, &node, &dir, name)?;
        let was_unnamed = {
            let mut state = node.state();
            let unnamed = state.gone && state.name.is_empty();
            if unnamed {
                state.gone = false;
                state.name = name.to_owned();
                state.parent = Some(Arc::clone(&dir));
            }
            unnamed
        };
        if was_unnamed {
            self.union.table.unbury(&node);
        }
        self.made(out, &dir, name, at, &fd).map(drop)
    }

    fn rename(&mut self) -> Res<()> {
        let new_dir = self.args.u64()?;
        let mut flags = 0;
        if self.header.opcode == op::RENAME2 {
            flags = self.args.u32()?;
            self.args.u32()?;
        }
        let (from, to) = (self.args.name()?, self.args.name()?);
        let (old_dir, new_dir) = (self.node()?, self.union.node(new_dir)?);
        let from = End {
            dir: &old_dir,
            name: from,
        };
        self.union.rename(
            self.members,
            from,
            End {
                dir: &new_dir,
                name: to,
            },
            flags,
        )
    }

    fn xattr(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let node = self.node()?;
        let (union, members) = (self.union, self.members);
        match self.header.opcode {
            op::SETXATTR => {
                let (size, flags) = (self.args.u32()?, self.args.u32()?);
                let mut extra = 0;
                if union.extended_setxattr.load(Ordering::Relaxed) {
                    extra = self.args.u32()?;
                    self.args.u32()?;
                }
                let name = self.args.name()?;
                let value = self.args.bytes(size as usize)?;
                let kill = extra & SETXATTR_ACL_KILL_SGID != 0;
                union.set_xattr(members, &node, (name, value), flags, kill)
            }
            op::REMOVEXATTR => union.remove_xattr(members, &node, self.args.name()?),
            opcode => {
                let size = self.args.u32()? as usize;
                self.args.u32()?;
                let (length, value) = if opcode == op::LISTXATTR {
                    union.list_xattrs(members, &node, size)?
                } else {
                    let name = self.args.name()?;
                    match union.answer(members, &node, name) {
                        Some(text) => text.map(|text| (text.len(), text))?,
                        None => union.get_xattr(members, &node, name, size)?,
                    }
                };
                if size == 0 {
                    out.u32(u32::try_from(length).unwrap_or(u32::MAX));
                    out.u32(0);
                } else if value.len() > size {
                    return Err(Errno::RANGE);
                } else {
                    out.extend(value);
                }
                Ok(())
            }
        }
    }

    fn open_dir(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let node = self.node()?;
        self.union.places(self.members, &node)?;
        let keeps = self.union.keep_names(self.members, &node);
        let flags = self.union.open_listing(self.members, &node, keeps);
        let handle = self.union.handles.add_dir(DirHandle::new(node, None));
        let answer = Answer {
            handle,
            flags,
            backing: 0,
        };
        self.opened(out, answer);
        Ok(())
    }

    fn read_dir(&mut self, out: &mut Vec<u8>, plus: bool) -> Res<()> {
        let (fh, offset, size) = (
            self.args.u64()?,
            self.args.u64()?,
            self.args.u32()? as usize,
        );
        let handle = self.union.handles.dir(fh).ok_or(Errno::BADF)?;
        let listing = {
            let mut kept = lock(&handle.listing);
            match &*kept {
                Some(listing) if offset > 0 => Arc::clone(listing),
                None if offset > 0 && !self.lists_on(&handle) => return Err(Errno::IO),
                _ => Arc::clone(kept.insert(self.union.list(&handle.node)?)),
            }
        };
        let first = usize::try_from(offset).unwrap_or(usize::MAX);
        if !plus {
            return listing.read(first, |entries| {
                out.extend_from_slice(entries.from(first, size));
            });
        }
        let is_large = first == 0 && !listing.is_whole();
        let part = listing.read(first, |entries| entries.part(first, size / PLUS))?;
        for index in 0..part.len() {
            let entry = part.entry(index);
            if out.len() + 128 + entry.len() > size {
                break;
            }
            if is_large && index >= FIRST_WITH_ATTRIBUTES {
                out.zeros(128);
            } else {
                self.plus_entry(out, &handle.node, part.name(index));
            }
            out.extend_from_slice(entry);
        }
        Ok(())
    }

    /// The attributes that go with an entry; zeros where the kernel shall ask by itself.
    fn plus_entry(&self, out: &mut Vec<u8>, dir: &Arc<Node>, name: &[u8]) {
        let is_dot = matches!(name, b"." | b"..");
        if !is_dot
            && self.union.keeps_names(self.members, dir)
            && let Ok(name) = std::ffi::CString::new(name)
            && let Ok(look) = self.union.look(self.members, dir, &name, false)
            && let Ok((node, stat)) = self.enter(dir, &name, &look)
        {
            self.entry(out, dir, &node, &stat);
            return;
        }
        out.zeros(128);
    }

    /// Writes the answer that names an open.
    pub(crate) fn opened(&self, out: &mut Vec<u8>, answer: Answer) {
        self.union.handles.keep(answer.handle, self.header.unique);
        out.u64(answer.handle);
        out.u32(answer.flags);
        out.u32(answer.backing.cast_unsigned());
    }

    fn sync_dir(&mut self) -> Res<()> {
        if self.members.settings.volatile {
            return Ok(());
        }
        let node = self.node()?;
        for &at in &self.union.places(self.members, &node)?.at {
            if self.members.branch(at).is_writable() {
                let dir = self.union.dir_fd(self.members, &node, at)?;
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                fsync(rustix::fs::openat(
                    dir,
                    c".",
                    flags,
                    rustix::fs::Mode::empty(),
                )?)?;
            }
        }
        Ok(())
    }
}

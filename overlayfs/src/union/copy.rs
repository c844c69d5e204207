//! A complete copy of one object, made aside and put in place whole.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, SeekFrom, Statx, Timespec, Timestamps,
    Uid, XattrFlags, chmodat, chownat, copy_file_range, fdatasync, ftruncate, ioctl_ficlone,
    linkat, listxattr, mknodat, openat, readlinkat, renameat_with, seek, setxattr, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Branch, COPIES};
use crate::union::marks::{Marks, work_name};
use crate::union::origins::{ORIGIN, Origin};
use crate::union::permission::XattrClasses;
use crate::union::plink::Counts;
use crate::union::tree::{Union, fd_path, kind_of, stat_fd};

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

/// A copy to be made: of what, to which branch, known by which number.
#[derive(Clone, Copy)]
pub(crate) struct Copy<'a> {
    pub(crate) union: &'a Union,
    pub(crate) branch: &'a Branch,
    pub(crate) source: &'a OwnedFd,
    pub(crate) stat: &'a Statx,
    pub(crate) note: Option<Origin>,
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
        let (copy, work) = empty_file(dir)?;
        let done = self.fill(&copy).and_then(|()| match &work {
            None => linkat(CWD, fd_path(&copy), to.0, to.1, AtFlags::SYMLINK_FOLLOW),
            Some(work) => renameat_with(dir, work, to.0, to.1, RenameFlags::NOREPLACE),
        });
        if let (Err(_), Some(work)) = (&done, &work) {
            let _ = unlinkat(dir, work, AtFlags::empty());
        }
        done
    }

    /// Gives an empty file the data and attributes.
    pub(crate) fn fill(self, copy: &OwnedFd) -> Res<()> {
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

/// A new file in a directory, without a name, or by the hidden one where it must have one.
pub(crate) fn empty_file(dir: &OwnedFd) -> Res<(OwnedFd, Option<CString>)> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    match openat(dir, c".", OFlags::TMPFILE | flags, mode) {
        Ok(file) => Ok((file, None)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            let work = work_name();
            let flags = OFlags::CREATE | OFlags::EXCL | flags;
            Ok((openat(dir, &work, flags, mode)?, Some(work)))
        }
        Err(errno) => Err(errno),
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

/// Copies attributes and extended attributes; the owner before the mode, since chown clears bits.
pub(crate) fn copy_metadata(
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
pub(crate) fn note_origin(
    union: &Union,
    branch: &Branch,
    copy: impl AsFd,
    origin: Option<Origin>,
) -> Res<()> {
    let Some(origin) = origin else { return Ok(()) };
    let stat = stat_fd(copy.as_fd())?;
    let note = origin.note(stat.stx_ino);
    if setxattr(fd_path(copy), ORIGIN, &note, XattrFlags::empty()).is_err() {
        union.remember_origin(&stat, origin.number);
    }
    if !branch.has_copies.swap(true, Ordering::Relaxed) {
        let _ = setxattr(fd_path(&*branch.root), COPIES, b"1", XattrFlags::empty());
    }
    Ok(())
}

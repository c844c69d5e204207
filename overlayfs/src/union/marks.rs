//! Marks on disk: whiteouts and opaque directories, in aufs's form.
//!
//! ```text
//! .wh.NAME            hides NAME in lower branches; a link to .wh..wh.aufs of the branch's root
//! DIR/.wh..wh.opq     DIR does not merge with lower directories of its name
//! .wh..wh.tmp.N       a work in progress; invisible, and taken away with its directory
//! ```

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode, OFlags, RawDir, StatxFlags, linkat, openat, statx, unlinkat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Branch;

pub(crate) const PREFIX: &[u8] = b".wh.";
pub(crate) const OPAQUE: &CStr = c".wh..wh.opq";
const BASE: &CStr = c".wh..wh.aufs";
/// Extended attributes of the union itself; never shown.
pub(crate) const XATTR_PREFIX: &[u8] = b"trusted.rbox.";

/// Whether a name belongs to the marks and so does not exist in the union.
pub(crate) fn is_reserved(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

fn whiteout_name(name: &CStr) -> CString {
    let mut bytes = PREFIX.to_vec();
    bytes.extend_from_slice(name.to_bytes());
    CString::new(bytes).unwrap_or_default()
}

/// A name for something that is not ready to be seen.
pub(crate) fn work_name() -> CString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let text = format!(".wh..wh.tmp.{}.{number}", std::process::id());
    CString::new(text).unwrap_or_default()
}

fn exists(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    match statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether `name` is whited out in this directory of a branch.
pub(crate) fn is_whited_out(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    exists(dir, &whiteout_name(name))
}

/// Whether the directory `name` in `dir` is opaque.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    let mut path = name.to_bytes().to_vec();
    path.push(b'/');
    path.extend_from_slice(OPAQUE.to_bytes());
    exists(dir, &CString::new(path).map_err(|_| Errno::INVAL)?)
}

fn empty_file(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(dir, name, flags, Mode::from_raw_mode(0o444)).map(drop)
}

/// Marks a directory opaque; done already is success.
pub(crate) fn make_opaque(dir: BorrowedFd<'_>) -> Res<()> {
    match empty_file(dir, OPAQUE) {
        Err(Errno::EXIST) => Ok(()),
        other => other,
    }
}

/// Hides `name` in the branches below; true when the mark is new.
pub(crate) fn white_out(branch: &Branch, dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    let mark = whiteout_name(name);
    if !branch.permission.separate_whiteouts {
        let mut linked = linkat(&branch.root, BASE, dir, &mark, AtFlags::empty());
        if linked == Err(Errno::NOENT) {
            match empty_file(branch.root.as_fd(), BASE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            linked = linkat(&branch.root, BASE, dir, &mark, AtFlags::empty());
        }
        match linked {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            // too many links, or a file system that has none
            Err(Errno::MLINK | Errno::XDEV | Errno::PERM | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    match empty_file(dir, &mark) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Takes a whiteout away; none there is success.
pub(crate) fn clear_whiteout(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    match unlinkat(dir, whiteout_name(name), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Calls `each` with every entry of a directory but `.` and `..`; a break ends it.
pub(crate) fn for_each_entry(
    dir: BorrowedFd<'_>,
    mut each: impl FnMut(&CStr, u64, rustix::fs::FileType) -> std::ops::ControlFlow<()>,
) -> Res<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let fd = openat(dir, c".", flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        if each(entry.file_name(), entry.ino(), entry.file_type()).is_break() {
            break;
        }
    }
    Ok(())
}

/// Removes a directory that holds nothing but marks; the name is one that nobody sees.
pub(crate) fn purge(parent: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let dir = openat(parent, name, flags, Mode::empty())?;
    let mut marks = Vec::new();
    for_each_entry(dir.as_fd(), |entry, _, kind| {
        if is_reserved(entry.to_bytes()) {
            marks.push((entry.to_owned(), kind));
        }
        std::ops::ControlFlow::Continue(())
    })?;
    for (mark, kind) in marks {
        if kind == rustix::fs::FileType::Directory {
            purge(dir.as_fd(), &mark)?;
        } else {
            unlinkat(&dir, &mark, AtFlags::empty())?;
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

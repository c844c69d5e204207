//! Marks in aufs's form: files with reserved names.
//!
//! ```text
//! .wh.NAME            hides NAME in lower branches; a link to .wh..wh.aufs of the branch's root
//! DIR/.wh..wh.opq     DIR does not merge with lower directories of its name
//! ```

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags, linkat, openat, statx, unlinkat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Branch;

pub(crate) const PREFIX: &[u8] = b".wh.";
pub(crate) const OPAQUE: &CStr = c".wh..wh.opq";
/// What whiteouts are links to.
pub(crate) const BASE: &CStr = c".wh..wh.aufs";

pub(crate) fn whiteout_name(name: &CStr) -> CString {
    let mut bytes = PREFIX.to_vec();
    bytes.extend_from_slice(name.to_bytes());
    CString::new(bytes).unwrap_or_default()
}

fn exists(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    match statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE) {
        Ok(_) => Ok(true),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether `name` is whited out in this directory of a branch.
pub(super) fn is_whited_out(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
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

/// Marks a directory opaque; true when the mark is new.
pub(crate) fn make_opaque(dir: BorrowedFd<'_>) -> Res<bool> {
    match empty_file(dir, OPAQUE) {
        Err(Errno::EXIST) => Ok(false),
        other => other.map(|()| true),
    }
}

pub(super) fn undo_opaque(dir: BorrowedFd<'_>) {
    let _ = unlinkat(dir, OPAQUE, AtFlags::empty());
}

/// Hides `name` in the branches below; true when the mark is new.
pub(crate) fn white_out(branch: &Branch, dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    let base = (!branch.permission.separate_whiteouts).then(|| branch.root.as_fd());
    put_whiteout(base, dir, name)
}

/// As [`white_out`], linked to the file for that in `root` if one is given.
pub(crate) fn put_whiteout(
    root: Option<BorrowedFd<'_>>,
    dir: BorrowedFd<'_>,
    name: &CStr,
) -> Res<bool> {
    let mark = whiteout_name(name);
    if let Some(root) = root {
        let mut linked = linkat(root, BASE, dir, &mark, AtFlags::empty());
        if linked == Err(Errno::NOENT) {
            match empty_file(root, BASE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            linked = linkat(root, BASE, dir, &mark, AtFlags::empty());
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
pub(super) fn clear_whiteout(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    match unlinkat(dir, whiteout_name(name), AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(()),
        Err(errno) => Err(errno),
    }
}

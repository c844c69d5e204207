//! Marks in overlayfs's form: devices 0/0 and extended attributes.
//!
//! ```text
//! NAME, device 0/0                             hides NAME in lower branches
//! NAME, empty, trusted.overlay.whiteout        the same, in a directory whose opaque is "x"
//! DIR with trusted.overlay.opaque = "y"        DIR does not merge with lower directories of its name
//! ```
//!
//! A whiteout has the place of what it hides: one is put in the place of the other in one step.

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, FileType, Mode, RenameFlags, Statx, XattrFlags, mknodat, removexattr, renameat_with,
    setxattr, unlinkat,
};
use rustix::io::Errno;

use super::work_name;
use crate::union::Res;
use crate::union::tree::{fd_path, kind_of, name_path, stat_at};

pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";
pub(crate) const WHITEOUT: &CStr = c"trusted.overlay.whiteout";
pub(crate) const REDIRECT: &CStr = c"trusted.overlay.redirect";
pub(crate) const METACOPY: &CStr = c"trusted.overlay.metacopy";
/// Overlayfs's own attributes, and how those of the same names are kept that are not its own.
pub(crate) const XATTRS: &[u8] = b"trusted.overlay.";
pub(crate) const ESCAPED: &[u8] = b"trusted.overlay.overlay.";

fn has_xattr(dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr) -> Res<bool> {
    match sys::xattr::get_at(dir, name, attribute, &mut []) {
        Ok(_) => Ok(true),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether an object just found is a whiteout.
pub(crate) fn is_mark(dir: BorrowedFd<'_>, name: &CStr, stat: &Statx) -> Res<bool> {
    match kind_of(stat) {
        libc::S_IFCHR => Ok(stat.stx_rdev_major == 0 && stat.stx_rdev_minor == 0),
        libc::S_IFREG if stat.stx_size == 0 => has_xattr(dir, name, WHITEOUT),
        _ => Ok(false),
    }
}

/// Whether a file's data is not in it but in a lower layer of the overlayfs that wrote it.
pub(super) fn lacks_data(dir: BorrowedFd<'_>, name: &CStr, stat: &Statx) -> Res<bool> {
    let may = kind_of(stat) == libc::S_IFREG && stat.stx_size > 0 && stat.stx_blocks == 0;
    Ok(may && has_xattr(dir, name, METACOPY)?)
}

/// Whether the overlayfs that wrote a directory merges it with lower ones of another name.
pub(super) fn is_redirected(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    has_xattr(dir, name, REDIRECT)
}

/// Whether `name` is a whiteout.
pub(super) fn is_whiteout(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    match stat_at(dir, name) {
        Ok(stat) => is_mark(dir, name, &stat),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

fn opaque_value(dir: BorrowedFd<'_>, name: &CStr) -> Res<Option<u8>> {
    let mut value = [0_u8; 1];
    match sys::xattr::get_at(dir, name, OPAQUE, &mut value) {
        Ok(1) => Ok(Some(value[0])),
        Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether the directory `name` in `dir` is opaque.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>, name: &CStr) -> Res<bool> {
    Ok(opaque_value(dir, name)? == Some(b'y'))
}

/// Whether a directory may hold whiteouts that are files.
pub(super) fn has_files_as_marks(dir: BorrowedFd<'_>) -> Res<bool> {
    Ok(opaque_value(dir, c".")? == Some(b'x'))
}

/// Marks a directory opaque; true when the mark is new.
pub(crate) fn make_opaque(dir: BorrowedFd<'_>) -> Res<bool> {
    let path = fd_path(dir);
    match setxattr(&path, OPAQUE, b"y", XattrFlags::CREATE) {
        Err(Errno::EXIST) => setxattr(&path, OPAQUE, b"y", XattrFlags::REPLACE).map(|()| false),
        other => other.map(|()| true),
    }
}

pub(super) fn undo_opaque(dir: BorrowedFd<'_>) {
    let _ = removexattr(fd_path(dir), OPAQUE);
}

/// As [`make_opaque`], of the directory `name` in `dir`.
pub(crate) fn make_opaque_at(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    setxattr(name_path(dir, name), OPAQUE, b"y", XattrFlags::empty())
}

fn make_whiteout(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0)
}

/// Hides a name that is not in this directory; hidden already is success.
pub(crate) fn white_out(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    match make_whiteout(dir, name) {
        Err(Errno::EXIST) if is_whiteout(dir, name)? => Ok(()),
        other => other,
    }
}

/// Puts a whiteout in the place of a non-directory, which is gone then.
pub(super) fn replace_file(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    let work = work_name();
    make_whiteout(dir, &work)?;
    let done = renameat_with(dir, &work, dir, name, RenameFlags::empty());
    if done.is_err() {
        let _ = unlinkat(dir, &work, AtFlags::empty());
    }
    done
}

/// Puts a whiteout in the place of a directory, which has the name that is returned then.
pub(super) fn replace_dir(dir: BorrowedFd<'_>, name: &CStr) -> Res<CString> {
    let work = work_name();
    make_whiteout(dir, &work)?;
    match renameat_with(dir, &work, dir, name, RenameFlags::EXCHANGE) {
        Ok(()) => Ok(work),
        Err(errno) => {
            let _ = unlinkat(dir, &work, AtFlags::empty());
            Err(errno)
        }
    }
}

/// Puts what was made under the name `work` in the place of the whiteout `name`.
pub(super) fn take_place(dir: BorrowedFd<'_>, work: &CStr, name: &CStr) -> Res<()> {
    match renameat_with(dir, work, dir, name, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(Errno::NOENT) => return renameat_with(dir, work, dir, name, RenameFlags::NOREPLACE),
        Err(errno) => return Err(errno),
    }
    if is_whiteout(dir, work)? {
        return take_away((dir, work), (dir, name));
    }
    // Somebody else was faster: theirs stays.
    renameat_with(dir, work, dir, name, RenameFlags::EXCHANGE)?;
    Err(Errno::EXIST)
}

/// Removes a whiteout that something has changed places with; if it will not go, it changes back.
pub(super) fn take_away(
    (old, whiteout): (BorrowedFd<'_>, &CStr),
    (new, name): (BorrowedFd<'_>, &CStr),
) -> Res<()> {
    let gone = unlinkat(old, whiteout, AtFlags::empty());
    if gone.is_err() && renameat_with(old, whiteout, new, name, RenameFlags::EXCHANGE).is_ok() {
        return gone;
    }
    Ok(())
}

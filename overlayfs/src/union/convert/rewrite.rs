//! Marks rewritten one by one: the new one first, then the old one goes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, XattrFlags, lgetxattr, lremovexattr, lsetxattr, unlinkat};
use rustix::io::Errno;

use super::{Converted, Dir, Reserved, Walk, overlay_xattrs, reserved};
use crate::union::Res;
use crate::union::copyup::keep_times;
use crate::union::form::Form;
use crate::union::marks::{aufs, overlay};
use crate::union::tree::{kind_of, name_path, stat_at, stat_fd};

/// Rewrites all marks of a branch.
pub(super) fn rewrite(root: &OwnedFd, to: Form) -> Walk<Converted> {
    let dir = Dir {
        fd: root.as_fd(),
        path: Path::new(""),
    };
    let mut done = Converted::default();
    match to {
        Form::Overlay => {
            to_overlay(&dir, &mut done)?;
            dir.at(aufs::BASE, remove(dir.fd, aufs::BASE))?;
        }
        Form::Aufs | Form::Auto => to_aufs(&dir, dir.fd, &mut done)?,
    }
    Ok(done)
}

fn remove(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    let Ok(before) = stat_fd(dir) else {
        return Ok(());
    };
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) => keep_times(dir, &before),
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    Ok(())
}

fn to_overlay(dir: &Dir<'_>, done: &mut Converted) -> Walk<()> {
    let before = dir.here(stat_fd(dir.fd))?;
    for (name, _) in dir.entries()? {
        match reserved(name.to_bytes()) {
            Some(Reserved::Opaque) => {
                dir.here(overlay::make_opaque(dir.fd))?;
                done.opaque += 1;
            }
            Some(Reserved::Whiteout(hidden)) => {
                let hidden = CString::new(hidden).unwrap_or_default();
                dir.at(&name, device_for(dir.fd, &hidden))?;
                done.whiteouts += 1;
            }
            Some(Reserved::Kept) => {
                dir.at(&name, unlinkat(dir.fd, &name, AtFlags::REMOVEDIR))?;
                continue;
            }
            Some(Reserved::Base | Reserved::Work | Reserved::Unknown) => continue,
            None => {
                if kind_of(&dir.at(&name, stat_at(dir.fd, &name))?) == libc::S_IFDIR {
                    dir.enter(&name, |dir| to_overlay(dir, done))?;
                }
                continue;
            }
        }
        dir.at(&name, unlinkat(dir.fd, &name, AtFlags::empty()))?;
    }
    keep_times(dir.fd, &before);
    Ok(())
}

/// Hides below what `.wh.NAME` hides: by a device where the branch has nothing of that name. Where it
/// has a directory that one is opaque, and what else it has hides by itself.
fn device_for(dir: BorrowedFd<'_>, name: &CStr) -> Res<()> {
    match stat_at(dir, name) {
        Err(Errno::NOENT) => overlay::white_out(dir, name),
        Ok(stat) if kind_of(&stat) == libc::S_IFDIR => overlay::make_opaque_at(dir, name),
        other => other.map(drop),
    }
}

fn to_aufs(dir: &Dir<'_>, root: BorrowedFd<'_>, done: &mut Converted) -> Walk<()> {
    let before = dir.here(stat_fd(dir.fd))?;
    let own = name_path(dir.fd, c".");
    if dir.here(overlay::is_opaque(dir.fd, c"."))? {
        dir.here(aufs::make_opaque(dir.fd))?;
        done.opaque += 1;
    }
    for (name, _) in dir.entries()? {
        if reserved(name.to_bytes()).is_some() {
            continue; // written before an interruption
        }
        let stat = dir.at(&name, stat_at(dir.fd, &name))?;
        if dir.at(&name, overlay::is_mark(dir.fd, &name, &stat))? {
            dir.at(&name, aufs::put_whiteout(Some(root), dir.fd, &name))?;
            dir.at(&name, unlinkat(dir.fd, &name, AtFlags::empty()))?;
            done.whiteouts += 1;
        } else if kind_of(&stat) == libc::S_IFDIR {
            dir.enter(&name, |dir| to_aufs(dir, root, done))?;
        } else {
            dir.at(&name, plain_attributes(&name_path(dir.fd, &name)))?;
        }
    }
    dir.here(plain_attributes(&own))?;
    keep_times(dir.fd, &before);
    Ok(())
}

/// Takes overlayfs's own attributes away, and gives those back their names that it kept for others.
fn plain_attributes(path: &[u8]) -> Res<()> {
    let all = overlay_xattrs(path)?;
    let (kept, own): (Vec<_>, Vec<_>) = all
        .into_iter()
        .partition(|name| name.to_bytes().starts_with(overlay::ESCAPED));
    // Its own first: one that was kept may come to have the same name.
    let restored = |name: &CString| {
        let rest = name.to_bytes().strip_prefix(overlay::ESCAPED)?;
        CString::new([overlay::XATTRS, rest].concat()).ok()
    };
    for name in own {
        lremovexattr(path, &name)?;
    }
    for name in kept {
        let mut value = vec![0; 64 << 10];
        let length = lgetxattr(path, &name, &mut value[..])?;
        if let Some(plain) = restored(&name) {
            lsetxattr(path, &plain, &value[..length], XattrFlags::empty())?;
        }
        lremovexattr(path, &name)?;
    }
    Ok(())
}

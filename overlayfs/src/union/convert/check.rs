//! What stands in the way of a conversion, looked for in the whole branch before it begins.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Statx;

use super::{Dir, Reserved, Walk, entries, overlay_xattrs, reserved};
use crate::union::form::Form;
use crate::union::marks::{aufs, overlay};
use crate::union::tree::{kind_of, name_path, stat_at};

/// The longest name that a file system takes.
const NAME_MAX: usize = 255;

/// Attributes that are marks in overlayfs's form.
const MARKS: [&CStr; 4] = [
    overlay::OPAQUE,
    overlay::WHITEOUT,
    overlay::REDIRECT,
    overlay::METACOPY,
];

/// Looks through a branch; false where it has nothing to convert.
pub(super) fn check(root: &OwnedFd, to: Form) -> Walk<bool> {
    let dir = Dir {
        fd: root.as_fd(),
        path: Path::new(""),
    };
    if !has_marks(&dir, to)? {
        return Ok(false);
    }
    attributes(&dir, c".", to)?;
    directory(&dir, to)?;
    Ok(true)
}

/// Whether a directory holds marks of the form that is not `to`.
fn has_marks(dir: &Dir<'_>, to: Form) -> Walk<bool> {
    if to == Form::Aufs
        && !dir
            .here(overlay_xattrs(&name_path(dir.fd, c".")))?
            .is_empty()
    {
        return Ok(true);
    }
    for (name, _) in dir.entries()? {
        match (reserved(name.to_bytes()), to) {
            (Some(Reserved::Work), _) | (Some(_), Form::Aufs) => continue,
            (Some(_), _) => return Ok(true),
            (None, _) => {}
        }
        let stat = dir.at(&name, stat_at(dir.fd, &name))?;
        let found = if kind_of(&stat) == libc::S_IFDIR {
            dir.enter(&name, |dir| has_marks(dir, to))?
        } else if to == Form::Aufs {
            let attributes = overlay_xattrs(&name_path(dir.fd, &name));
            !dir.at(&name, attributes)?.is_empty()
                || dir.at(&name, overlay::is_mark(dir.fd, &name, &stat))?
        } else {
            false
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

fn directory(dir: &Dir<'_>, to: Form) -> Walk<()> {
    for (name, _) in dir.entries()? {
        let known = reserved(name.to_bytes());
        match (known, to) {
            (Some(Reserved::Work), _) => continue,
            (Some(_), Form::Aufs) => {
                return Err(dir.fault(&name, "its name would be a mark in aufs's form"));
            }
            (Some(known), _) => {
                mark(dir, &name, known)?;
                continue;
            }
            (None, _) => {}
        }
        let stat = dir.at(&name, stat_at(dir.fd, &name))?;
        object(dir, &name, &stat, to)?;
        if kind_of(&stat) == libc::S_IFDIR {
            dir.enter(&name, |dir| directory(dir, to))?;
        }
    }
    Ok(())
}

/// A mark of aufs's form that is to be one of overlayfs's.
fn mark(dir: &Dir<'_>, name: &CStr, known: Reserved<'_>) -> Walk<()> {
    let stat = dir.at(name, stat_at(dir.fd, name))?;
    let is_dir = kind_of(&stat) == libc::S_IFDIR;
    match known {
        Reserved::Kept if is_dir => dir.enter(name, |kept| {
            let is_empty = kept.here(entries(kept.fd))?.is_empty();
            is_empty.then_some(()).ok_or_else(|| {
                dir.fault(
                    name,
                    "it holds links that aufs keeps account of: let auplink flush them",
                )
            })
        }),
        Reserved::Unknown | Reserved::Kept => Err(dir.fault(name, "it is no mark known here")),
        _ if is_dir => Err(dir.fault(name, "it is a directory with the name of a mark")),
        _ => Ok(()),
    }
}

fn object(dir: &Dir<'_>, name: &CStr, stat: &Statx, to: Form) -> Walk<()> {
    let is_mark = dir.at(name, overlay::is_mark(dir.fd, name, stat))?;
    if to == Form::Overlay {
        if is_mark {
            return Err(dir.fault(name, "it would be a whiteout in overlayfs's form"));
        }
        return attributes(dir, name, to);
    }
    if is_mark {
        let length = name.to_bytes().len() + aufs::PREFIX.len();
        if length > NAME_MAX {
            return Err(dir.fault(name, "the name is too long for a mark in aufs's form"));
        }
        return Ok(());
    }
    attributes(dir, name, to)
}

fn attributes(dir: &Dir<'_>, name: &CStr, to: Form) -> Walk<()> {
    for attribute in dir.at(name, overlay_xattrs(&name_path(dir.fd, name)))? {
        let text = attribute.to_string_lossy();
        if to == Form::Overlay && MARKS.contains(&attribute.as_c_str()) {
            let reason = format!("its attribute {text} would be a mark in overlayfs's form");
            return Err(dir.fault(name, reason));
        }
        let points = [overlay::REDIRECT, overlay::METACOPY].contains(&attribute.as_c_str());
        if to == Form::Aufs && points {
            let reason = format!(
                "its attribute {text} leads to another layer, which aufs's form cannot say: \
                 copy the branch from where it is mounted"
            );
            return Err(dir.fault(name, reason));
        }
    }
    Ok(())
}

//! What stands in the way of a conversion, looked for in the whole branch before it begins.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::Statx;

use super::{Dir, Reserved, Walk, overlay_xattrs, reserved};
use crate::union::form::Form;
use crate::union::marks::redirect::MOVES;
use crate::union::marks::{aufs, overlay};
use crate::union::plink;
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

/// What is looked for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    to: Form,
    /// Marks of both forms are marks.
    both: bool,
}

/// Looks through a branch; false where it has nothing to convert.
pub(super) fn check(root: &OwnedFd, both: bool, to: Form) -> Walk<bool> {
    let dir = Dir {
        fd: root.as_fd(),
        path: Path::new(""),
    };
    if !has_marks(&dir, to)? {
        return Ok(false);
    }
    if sys::xattr::get_at(root, c".", MOVES, &mut [0; 8]).is_ok() {
        let reason = "it has directories that were renamed with dirren: copy the branch from where it \
                      is mounted";
        return Err(dir.fault(c".", reason));
    }
    let wanted = Wanted { to, both };
    wanted.attributes(&dir, c".")?;
    wanted.directory(&dir)?;
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
            (Some(Reserved::Work | Reserved::Kept), _) | (Some(_), Form::Aufs) => continue,
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

impl Wanted {
    fn directory(self, dir: &Dir<'_>) -> Walk<()> {
        for (name, _) in dir.entries()? {
            match reserved(name.to_bytes()) {
                Some(Reserved::Work) => continue,
                // Pseudo-links are the same in both forms.
                Some(_) if self.to == Form::Aufs && name.as_c_str() == plink::DIR => continue,
                Some(known) if self.to == Form::Overlay || self.both || known == Reserved::Kept => {
                    mark(dir, &name, known)?;
                    continue;
                }
                Some(_) => {
                    return Err(dir.fault(&name, "its name would be a mark in aufs's form"));
                }
                None => {}
            }
            let stat = dir.at(&name, stat_at(dir.fd, &name))?;
            self.object(dir, &name, &stat)?;
            if kind_of(&stat) == libc::S_IFDIR {
                dir.enter(&name, |dir| self.directory(dir))?;
            }
        }
        Ok(())
    }

    fn object(self, dir: &Dir<'_>, name: &CStr, stat: &Statx) -> Walk<()> {
        let is_mark = dir.at(name, overlay::is_mark(dir.fd, name, stat))?;
        if !is_mark {
            return self.attributes(dir, name);
        }
        if self.to == Form::Overlay && !self.both {
            return Err(dir.fault(name, "it would be a whiteout in overlayfs's form"));
        }
        let length = name.to_bytes().len() + aufs::PREFIX.len();
        if self.to == Form::Aufs && length > NAME_MAX {
            return Err(dir.fault(name, "the name is too long for a mark in aufs's form"));
        }
        Ok(())
    }

    fn attributes(self, dir: &Dir<'_>, name: &CStr) -> Walk<()> {
        for attribute in dir.at(name, overlay_xattrs(&name_path(dir.fd, name)))? {
            let text = attribute.to_string_lossy();
            let known = attribute.as_c_str();
            if self.to == Form::Overlay && !self.both && MARKS.contains(&known) {
                let reason = format!("its attribute {text} would be a mark in overlayfs's form");
                return Err(dir.fault(name, reason));
            }
            if self.to == Form::Aufs && [overlay::REDIRECT, overlay::METACOPY].contains(&known) {
                let reason = format!(
                    "its attribute {text} leads to another layer, which aufs's form cannot say: \
                     copy the branch from where it is mounted"
                );
                return Err(dir.fault(name, reason));
            }
        }
        Ok(())
    }
}

/// A mark of aufs's form.
fn mark(dir: &Dir<'_>, name: &CStr, known: Reserved<'_>) -> Walk<()> {
    let stat = dir.at(name, stat_at(dir.fd, name))?;
    let is_dir = kind_of(&stat) == libc::S_IFDIR;
    match known {
        Reserved::Kept if is_dir => dir.enter(name, |kept| match kept.entries()?.is_empty() {
            true => Ok(()),
            false => Err(dir.fault(
                name,
                "it holds pseudo-links: rbox union flush-links makes real ones of them, or auplink \
                 of those that aufs made",
            )),
        }),
        Reserved::Unknown | Reserved::Kept => Err(dir.fault(name, "it is no mark known here")),
        _ if is_dir => Err(dir.fault(name, "it is a directory with the name of a mark")),
        _ => Ok(()),
    }
}

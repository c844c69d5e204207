//! Converting the marks of a branch that is not in use from one form to the other, in place.
//!
//! ```text
//! trusted.rbox.converting = "aufs" | "overlay"    on the branch's root from the first change to the last
//! ```
//!
//! Everything is looked at before anything is changed. Then each mark is written in its new form
//! before the old one goes, so what was hidden is hidden by one of them at every moment; a branch
//! with the note above is mounted by no union until the conversion has been run to its end.

mod check;
mod rewrite;
mod users;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{
    FileType, Mode, OFlags, RawDir, XattrFlags, getxattr, openat, removexattr, setxattr, syncfs,
};
use rustix::io::Errno;
use sys::usage::Usage;

use crate::union::branch::{AS_BRANCH, IN_CONVERSION};
use crate::union::form::Form;
use crate::union::marks::{aufs, overlay};
use crate::union::tree::fd_path;
use crate::union::{Res, UnionError};

const CONVERTING: &CStr = c"trusted.rbox.converting";

/// A branch whose marks can be converted; nobody mounts it in a union until this is dropped.
#[derive(Debug)]
pub struct Conversion {
    path: PathBuf,
    to: Form,
    /// There is something to convert.
    has_marks: bool,
    root: OwnedFd,
    _usage: Option<Usage>,
}

/// What was changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Converted {
    /// Whiteouts.
    pub whiteouts: u64,
    /// Opaque directories.
    pub opaque: u64,
}

/// Why a walk through a branch ended: where, and what is the matter there.
#[derive(Debug)]
struct Fault {
    path: PathBuf,
    reason: String,
}

type Walk<T> = Result<T, Fault>;

/// The form that a branch is on the way to, if a conversion was interrupted.
pub(crate) fn interrupted(root: impl AsFd) -> Option<Form> {
    let mut value = [0_u8; 16];
    let length = getxattr(fd_path(root), CONVERTING, &mut value[..]).ok()?;
    Form::parse(std::str::from_utf8(&value[..length]).ok()?)
}

impl Conversion {
    /// Takes hold of a branch and looks whether its marks can be had in the form `to`. With `both`
    /// those of either form are its marks, as with `whform=auto`; else those of the other one.
    ///
    /// # Errors
    /// When it is in use, on the way to the other form, or holds what cannot be in that form.
    pub fn prepare(path: &Path, both: bool, to: Form) -> Result<Self, UnionError> {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let fail = |reason: String| UnionError::Branch {
            path: path.clone(),
            reason,
        };
        if to == Form::Auto {
            let text = "marks are converted to one form: aufs or overlay";
            return Err(UnionError::Refused(text.into(), libc::EINVAL));
        }
        let root = sys::fuse::branch_clone(&path, true)?;
        sys::fuse::raise_descriptor_limit();
        // A file system without such locks lets nobody know.
        let usage = Usage::note(&root, IN_CONVERSION).ok();
        if let Some(usage) = &usage {
            if usage.has_other(AS_BRANCH).unwrap_or(false) {
                return Err(fail("it is in use in a union: unmount that first".into()));
            }
            if usage.has_another().unwrap_or(false) {
                return Err(fail("another conversion of it is running".into()));
            }
        }
        if let Some(place) = users::overlay_on(&path) {
            return Err(fail(format!(
                "the overlay mounted at {} uses it: unmount that first",
                place.display()
            )));
        }
        let has_marks = match interrupted(&root) {
            None => check::check(&root, both, to).map_err(|fault| fail(fault.to_string()))?,
            Some(form) if form == to => true, // looked at when it began
            Some(form) => {
                return Err(fail(format!(
                    "a conversion to {form} was interrupted: run that to its end first"
                )));
            }
        };
        Ok(Self {
            path,
            to,
            has_marks,
            root,
            _usage: usage,
        })
    }

    /// The branch.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Rewrites the marks. What was interrupted is gone on with by doing it again.
    ///
    /// # Errors
    /// When the branch cannot be written; it stays on the way then.
    pub fn carry_out(&self) -> Result<Converted, UnionError> {
        let fail = |fault: Fault| UnionError::Branch {
            path: self.path.clone(),
            reason: format!(
                "{fault}; the conversion goes on with rbox union convert --to {} {}",
                self.to,
                self.path.display()
            ),
        };
        if !self.has_marks {
            return Ok(Converted::default());
        }
        let own = |errno: Errno| fail(Fault::of(Path::new(""), errno));
        let value = self.to.to_string();
        let note = fd_path(&self.root);
        setxattr(&note, CONVERTING, value.as_bytes(), XattrFlags::empty()).map_err(own)?;
        self.sync().map_err(own)?;
        let done = rewrite::rewrite(&self.root, self.to).map_err(fail)?;
        self.sync().map_err(own)?;
        removexattr(&note, CONVERTING).map_err(own)?;
        Ok(done)
    }

    fn sync(&self) -> Res<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        syncfs(openat(&self.root, c".", flags, Mode::empty())?)
    }
}

impl Fault {
    fn of(path: &Path, errno: Errno) -> Self {
        Self {
            path: path.to_owned(),
            reason: sys::error::reason(&std::io::Error::from(errno)),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_os_str().is_empty() {
            true => out.write_str(&self.reason),
            false => write!(out, "{:?}: {}", self.path, self.reason),
        }
    }
}

/// A directory of the branch on a walk.
struct Dir<'a> {
    fd: BorrowedFd<'a>,
    path: &'a Path,
}

impl Dir<'_> {
    fn path_of(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }

    fn fault(&self, name: &CStr, reason: impl Into<String>) -> Fault {
        Fault {
            path: self.path_of(name),
            reason: reason.into(),
        }
    }

    /// Says at which entry a call failed.
    fn at<T>(&self, name: &CStr, done: Res<T>) -> Walk<T> {
        done.map_err(|errno| Fault::of(&self.path_of(name), errno))
    }

    /// Says in which directory a call failed.
    fn here<T>(&self, done: Res<T>) -> Walk<T> {
        done.map_err(|errno| Fault::of(self.path, errno))
    }

    fn entries(&self) -> Walk<Vec<(CString, FileType)>> {
        self.here(entries(self.fd))
    }

    /// Does something in a directory of it.
    fn enter<T>(&self, name: &CStr, act: impl FnOnce(&Dir<'_>) -> Walk<T>) -> Walk<T> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = self.at(name, openat(self.fd, name, flags, Mode::empty()))?;
        let path = self.path_of(name);
        act(&Dir {
            fd: fd.as_fd(),
            path: &path,
        })
    }
}

fn entries(dir: BorrowedFd<'_>) -> Res<Vec<(CString, FileType)>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = openat(dir, c".", flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(64 << 10);
    let mut found = Vec::new();
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            found.push((entry.file_name().to_owned(), entry.file_type()));
        }
    }
    Ok(found)
}

/// The names of overlayfs's own attributes of an object, with a nul each.
fn overlay_xattrs(path: &[u8]) -> Res<Vec<CString>> {
    let mut names = vec![0; 64 << 10];
    let length = match rustix::fs::llistxattr(path, &mut names[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let own = names[..length].split(|&byte| byte == 0);
    let own = own.filter(|name| name.starts_with(overlay::XATTRS));
    Ok(own.filter_map(|name| CString::new(name).ok()).collect())
}

/// What a name of aufs's form is in a directory of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reserved<'a> {
    /// The mark of a name.
    Whiteout(&'a [u8]),
    Opaque,
    /// What whiteouts are links to.
    Base,
    /// A directory of aufs's bookkeeping.
    Kept,
    /// Left by a crash: hidden in both forms.
    Work,
    Unknown,
}

fn reserved(name: &[u8]) -> Option<Reserved<'_>> {
    let rest = name.strip_prefix(aufs::PREFIX)?;
    Some(match rest {
        _ if name == aufs::OPAQUE.to_bytes() => Reserved::Opaque,
        _ if name == aufs::BASE.to_bytes() => Reserved::Base,
        b".wh.plnk" | b".wh.orph" => Reserved::Kept,
        _ if rest.starts_with(b".wh.tmp.") => Reserved::Work,
        _ if rest.is_empty() || rest.starts_with(aufs::PREFIX) => Reserved::Unknown,
        hidden => Reserved::Whiteout(hidden),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_say_what_they_are() {
        for (name, is) in [
            (&b"name"[..], None),
            (b".wh", None),
            (b".wh.name", Some(Reserved::Whiteout(b"name"))),
            (b".wh..name", Some(Reserved::Whiteout(b".name"))),
            (b".wh..wh.opq", Some(Reserved::Opaque)),
            (b".wh..wh.aufs", Some(Reserved::Base)),
            (b".wh..wh.plnk", Some(Reserved::Kept)),
            (b".wh..wh.tmp.1.2", Some(Reserved::Work)),
            (b".wh..wh.other", Some(Reserved::Unknown)),
            (b".wh.", Some(Reserved::Unknown)),
        ] {
            assert_eq!(reserved(name), is, "{name:?}");
        }
    }
}

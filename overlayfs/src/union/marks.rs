//! Marks on disk, whiteouts and opaque directories, in whichever form a union keeps them.
//!
//! All else asks here what a name is and has names taken away, made and moved: it does not know
//! whether a mark stands beside the name that it hides (aufs) or in its place (overlayfs).
//! Whatever is done, what a mark hides is at no moment visible.
//!
//! ```text
//! .wh..wh.tmp.N       a work in progress; invisible in every form, and taken away with its directory
//! ```

pub(crate) mod aufs;
mod change;
pub(crate) mod overlay;
pub(crate) mod redirect;
mod trial;

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FileType, Mode, OFlags, RawDir, Statx, openat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::form::Form;
use crate::union::plink;
use crate::union::tree::stat_at;

const WORK: &[u8] = b".wh..wh.tmp.";
/// Extended attributes of the union itself; never shown.
const OWN_XATTRS: &[u8] = b"trusted.rbox.";

/// The marks of a union.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    form: Form,
    /// They are shown as what they are on disk.
    shown: bool,
}

/// What a name is in a directory of a branch.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time, on the stack, mostly objects"
)]
pub(crate) enum Entry {
    Missing,
    Whiteout,
    Object(Statx),
}

/// What an entry of a branch's directory is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Found<'a> {
    Object(&'a CStr),
    /// A mark, and the name that it hides.
    Whiteout(&'a CStr, &'a [u8]),
    /// Another mark, or a work in progress.
    Own(&'a CStr),
}

/// What a change of an entry of a branch's directory means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Nothing,
    /// The directory itself may merge with others now.
    Merging,
    /// Another object has this name.
    Name(CString),
    /// This name may be hidden now, or no longer.
    Hiding(CString),
}

/// A name for something that is not ready to be seen.
pub(crate) fn work_name() -> CString {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let text = format!(
        "{}{}.{number}",
        String::from_utf8_lossy(WORK),
        std::process::id()
    );
    CString::new(text).unwrap_or_default()
}

impl Members {
    /// The union's marks.
    pub(crate) fn marks(&self) -> Marks {
        Marks {
            form: self.settings.form,
            shown: self.settings.show_marks,
        }
    }
}

/// Looking.
impl Marks {
    /// Marks of a form, not shown.
    pub(crate) fn of(form: Form) -> Self {
        Self { form, shown: false }
    }

    /// Whether a name belongs to the marks and so does not exist in the union.
    pub(crate) fn is_reserved(self, name: &[u8]) -> bool {
        name.starts_with(if self.form.has_names() {
            aufs::PREFIX
        } else {
            WORK
        }) || name == plink::DIR.to_bytes()
    }

    /// Whether a name cannot even be looked up.
    pub(crate) fn is_unseen(self, name: &[u8]) -> bool {
        self.is_reserved(name) && !self.shown
    }

    /// What a name is; `whiteouts` says whether one beside it is to be looked for.
    pub(crate) fn entry(self, dir: impl AsFd, name: &CStr, whiteouts: bool) -> Res<Entry> {
        let dir = dir.as_fd();
        match stat_at(dir, name) {
            Ok(stat) if self.form.has_devices() => {
                if overlay::lacks_data(dir, name, &stat)? {
                    return Err(Errno::PERM);
                }
                Ok(match !self.shown && overlay::is_mark(dir, name, &stat)? {
                    true => Entry::Whiteout,
                    false => Entry::Object(stat),
                })
            }
            Ok(stat) => Ok(Entry::Object(stat)),
            Err(Errno::NOENT) => {
                let beside = whiteouts && self.form.has_names();
                Ok(match beside && aufs::is_whited_out(dir, name)? {
                    true => Entry::Whiteout,
                    false => Entry::Missing,
                })
            }
            Err(errno) => Err(errno),
        }
    }

    /// Whether the directory `name` that is in `dir` merges with none below.
    pub(crate) fn ends_merging(self, dir: impl AsFd, name: &CStr) -> Res<bool> {
        let dir = dir.as_fd();
        if self.form.has_devices() {
            if overlay::is_opaque(dir, name)? {
                return Ok(true);
            }
            if overlay::is_redirected(dir, name)? {
                return Err(Errno::PERM); // it merges with one of another name
            }
        }
        Ok(self.form.has_names()
            && (aufs::is_opaque(dir, name)? || aufs::is_whited_out(dir, name)?))
    }

    /// Whether a whiteout beside an object hides what branches below have by its name.
    pub(crate) fn hides_below(self, dir: impl AsFd, name: &CStr) -> Res<bool> {
        Ok(self.form.has_names() && aufs::is_whited_out(dir.as_fd(), name)?)
    }

    /// Calls `each` with every entry of a directory but `.` and `..`; a break ends it.
    pub(crate) fn for_each_entry(
        self,
        dir: BorrowedFd<'_>,
        mut each: impl FnMut(Found<'_>, u64, FileType) -> ControlFlow<()>,
    ) -> Res<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = openat(dir, c".", flags, Mode::empty())?;
        let finder = self.finder(fd.as_fd())?;
        let mut buffer = Vec::with_capacity(64 << 10);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let (name, kind) = (entry.file_name(), entry.file_type());
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let found = finder.find(fd.as_fd(), name, kind)?;
            if each(found, entry.ino(), kind).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// What tells the entries of one directory apart.
    pub(crate) fn finder(self, dir: BorrowedFd<'_>) -> Res<Finder> {
        let files = self.form.has_devices() && overlay::has_files_as_marks(dir)?;
        Ok(Finder { marks: self, files })
    }

    /// What a change of the entry `name` means.
    pub(crate) fn told(self, name: &CStr) -> Told {
        let bytes = name.to_bytes();
        if self.form.has_names() && name == aufs::OPAQUE {
            return Told::Merging;
        }
        if !self.is_reserved(bytes) {
            let name = name.to_owned();
            return match self.form.has_devices() {
                true => Told::Hiding(name),
                false => Told::Name(name),
            };
        }
        let hidden = bytes.strip_prefix(aufs::PREFIX);
        hidden
            .filter(|name| !name.starts_with(aufs::PREFIX))
            .and_then(|name| CString::new(name).ok())
            .map_or(Told::Nothing, Told::Hiding)
    }

    /// Whether a change of a directory's attributes can be one of what it merges with.
    pub(crate) fn are_attributes(self) -> bool {
        self.form.has_devices()
    }

    /// Whether a node of this kind would be a mark.
    pub(crate) fn is_mark(self, mode: u32, device: u64) -> bool {
        self.form.has_devices() && mode & libc::S_IFMT == libc::S_IFCHR && device == 0
    }
}

/// Tells the entries of one directory apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finder {
    marks: Marks,
    /// Files with an attribute are whiteouts in it.
    files: bool,
}

impl Finder {
    /// What an entry of the directory is.
    pub(crate) fn find<'a>(
        self,
        dir: BorrowedFd<'_>,
        name: &'a CStr,
        kind: FileType,
    ) -> Res<Found<'a>> {
        let bytes = name.to_bytes();
        if self.marks.is_reserved(bytes) {
            let hidden = bytes.strip_prefix(aufs::PREFIX);
            let hidden = hidden.filter(|name| !name.starts_with(aufs::PREFIX));
            return Ok(hidden.map_or(Found::Own(name), |hidden| Found::Whiteout(name, hidden)));
        }
        let may_be_mark = match kind {
            FileType::CharacterDevice | FileType::Unknown => self.marks.form.has_devices(),
            FileType::RegularFile => self.files,
            _ => false,
        };
        Ok(
            match may_be_mark && !self.marks.shown && overlay::is_whiteout(dir, name)? {
                true => Found::Whiteout(name, bytes),
                false => Found::Object(name),
            },
        )
    }
}

/// Extended attributes.
impl Marks {
    /// How a branch calls an attribute that the union calls `name`; nothing for the union's own.
    pub(crate) fn stored_xattr(self, name: &CStr) -> Option<Cow<'_, CStr>> {
        let bytes = name.to_bytes();
        if bytes.starts_with(OWN_XATTRS) {
            return None;
        }
        match bytes.strip_prefix(overlay::XATTRS) {
            Some(rest) if self.form.has_devices() => {
                CString::new([overlay::ESCAPED, rest].concat())
                    .ok()
                    .map(Cow::Owned)
            }
            _ => Some(Cow::Borrowed(name)),
        }
    }

    /// How the union calls an attribute of a branch; nothing for marks and the union's own.
    pub(crate) fn shown_xattr(self, name: &[u8]) -> Option<Cow<'_, [u8]>> {
        if name.starts_with(OWN_XATTRS) {
            return None;
        }
        if !self.form.has_devices() || !name.starts_with(overlay::XATTRS) {
            return Some(Cow::Borrowed(name));
        }
        let rest = name.strip_prefix(overlay::ESCAPED)?;
        Some(Cow::Owned([overlay::XATTRS, rest].concat()))
    }
}

#[cfg(test)]
#[path = "marks/tests.rs"]
mod tests;

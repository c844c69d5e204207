//! Redirects: what says of a directory that was renamed where its lower parts are.
//!
//! ```text
//! trusted.rbox.redirect=/PATH        on a directory: below it is what lower branches have at PATH
//! trusted.rbox.moves                 on a branch's root: it has such directories
//! trusted.overlay.redirect           the same in overlayfs's form; there also NAME beside it
//! ```

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{XattrFlags, setxattr};
use rustix::io::Errno;

use super::{Marks, aufs, overlay};
use crate::union::Res;
use crate::union::form::Form;
use crate::union::tree::fd_path;

const OWN: &CStr = c"trusted.rbox.redirect";
/// On a branch's root: it has directories that were renamed.
pub(crate) const MOVES: &CStr = c"trusted.rbox.moves";
/// Longer paths are not written, nor believed.
const LONGEST: usize = 4096;

/// How a directory merges with those below.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Merging {
    /// With none.
    Ends,
    /// With those of its name.
    Name,
    /// With those that lie at this path in the branches.
    Moved(Vec<CString>),
    /// With those of another name in the same directory.
    Renamed(CString),
}

impl Marks {
    /// How the directory `name` in `dir` merges, redirects followed.
    pub(crate) fn merging(self, dir: impl AsFd, name: &CStr) -> Res<Merging> {
        let dir = dir.as_fd();
        if self.form.has_devices() && overlay::is_opaque(dir, name)?
            || self.form.has_names() && aufs::is_opaque(dir, name)?
        {
            return Ok(Merging::Ends);
        }
        let own = self.form.has_names().then_some(OWN);
        let others = self.form.has_devices().then_some(overlay::REDIRECT);
        for attribute in own.into_iter().chain(others) {
            if let Some(value) = value(dir, name, attribute)? {
                return parse(&value).ok_or(Errno::IO);
            }
        }
        // A whiteout beside it is older than a redirect, which it goes before.
        Ok(
            match self.form.has_names() && aufs::is_whited_out(dir, name)? {
                true => Merging::Ends,
                false => Merging::Name,
            },
        )
    }

    /// Says of a directory where its lower parts are; `root` is that of its branch.
    pub(crate) fn redirect(self, root: impl AsFd, dir: impl AsFd, path: &[CString]) -> Res<()> {
        let mut value = Vec::new();
        for name in path {
            value.push(b'/');
            value.extend_from_slice(name.to_bytes());
        }
        if value.len() > LONGEST {
            return Err(Errno::XDEV);
        }
        let attribute = match self.form {
            Form::Overlay => overlay::REDIRECT,
            Form::Aufs | Form::Auto => OWN,
        };
        // Whoever mounts the branch must know before there is one.
        setxattr(fd_path(root), MOVES, b"y", XattrFlags::empty())?;
        setxattr(fd_path(dir), attribute, &value, XattrFlags::empty())
    }
}

fn value(dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr) -> Res<Option<Vec<u8>>> {
    let mut value = vec![0; LONGEST];
    match sys::xattr::get_at(dir, name, attribute, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// What a redirect says, if it can be believed: it never leads out of the branch.
fn parse(value: &[u8]) -> Option<Merging> {
    let name = |bytes: &[u8]| match bytes {
        b"" | b"." | b".." => None,
        _ => CString::new(bytes).ok(),
    };
    match value.strip_prefix(b"/") {
        Some(path) => {
            let names: Option<Vec<CString>> = path.split(|&byte| byte == b'/').map(name).collect();
            names.map(Merging::Moved)
        }
        None if value.contains(&b'/') => None,
        None => name(value).map(Merging::Renamed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_redirect_leads_out_of_the_branch() {
        assert_eq!(
            parse(b"/a/b c"),
            Some(Merging::Moved(vec![c"a".into(), c"b c".into()]))
        );
        assert_eq!(parse(b"b"), Some(Merging::Renamed(c"b".into())));
        for bad in [
            &b""[..],
            b"/",
            b"..",
            b"/..",
            b"/a/../b",
            b"a/b",
            b"/a//b",
            b"/a\0b",
            b"/a/.",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
    }
}

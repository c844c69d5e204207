//! Names in archives, cleaned and sorted into what they mean.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::UnpackError;

const WHITEOUT: &[u8] = b".wh.";
const META: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Brings a name to the form `a/b/c`: no leading slash, no `.`, no `..`; empty is the root itself.
///
/// # Errors
/// [`UnpackError::Outside`] where `..` would lead above the root.
pub fn clean(name: &[u8]) -> Result<PathBuf, UnpackError> {
    let printable = || String::from_utf8_lossy(name).into_owned();
    if name.contains(&0) {
        return Err(UnpackError::BadName(printable()));
    }
    let mut clean = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if clean.pop() => {}
            b".." => return Err(UnpackError::Outside(printable())),
            part => clean.push(OsStr::from_bytes(part)),
        }
    }
    Ok(clean)
}

/// What the last part of a name in a layer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning<'a> {
    /// Itself.
    Plain,
    /// The lower layers' file of this name is gone.
    Whiteout(&'a OsStr),
    /// The lower layers' content of the directory is gone.
    Opaque,
    /// Bookkeeping of another file system.
    Bookkeeping,
}

/// Tells what a cleaned name means in a layer.
pub(super) fn meaning(path: &Path) -> Result<Meaning<'_>, UnpackError> {
    let bad = || UnpackError::BadName(path.to_string_lossy().into_owned());
    let marked = |part: &OsStr| part.as_bytes().starts_with(WHITEOUT);
    let parent_marked = |part: &OsStr| marked(part) && !part.as_bytes().starts_with(META);
    if path
        .parent()
        .is_some_and(|parent| parent.iter().any(parent_marked))
    {
        return Err(bad());
    }
    if path
        .parent()
        .is_some_and(|parent| parent.iter().any(marked))
    {
        return Ok(Meaning::Bookkeeping);
    }
    let Some(name) = path.file_name() else {
        return Ok(Meaning::Plain);
    };
    match name.as_bytes() {
        OPAQUE => Ok(Meaning::Opaque),
        meta if meta.starts_with(META) => Ok(Meaning::Bookkeeping),
        name => match name.strip_prefix(WHITEOUT) {
            None => Ok(Meaning::Plain),
            Some(b"" | b"." | b"..") => Err(bad()),
            Some(hidden) => Ok(Meaning::Whiteout(OsStr::from_bytes(hidden))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleans_names_and_refuses_those_that_lead_out() {
        for (name, expected) in [
            ("a/b", Some("a/b")),
            ("./a//b/", Some("a/b")),
            ("/etc/passwd", Some("etc/passwd")),
            ("///", Some("")),
            ("./", Some("")),
            ("a/../b", Some("b")),
            ("a/..", Some("")),
            ("..", None),
            ("a/../../b", None),
            ("/../etc/passwd", None),
            ("../../etc/passwd", None),
            ("a\0b", None),
            ("...", Some("...")),
        ] {
            let got = clean(name.as_bytes()).ok();
            assert_eq!(got.as_deref(), expected.map(Path::new), "{name}");
        }
    }

    #[test]
    fn knows_what_names_mean() {
        for (name, expected) in [
            ("a/b", Some(Meaning::Plain)),
            ("a/.whatever", Some(Meaning::Plain)),
            ("a/.wh.b", Some(Meaning::Whiteout(OsStr::new("b")))),
            (".wh.b", Some(Meaning::Whiteout(OsStr::new("b")))),
            ("a/.wh..b", Some(Meaning::Whiteout(OsStr::new(".b")))),
            ("a/.wh..wh..opq", Some(Meaning::Opaque)),
            (".wh..wh.plnk", Some(Meaning::Bookkeeping)),
            (".wh..wh.plnk/162.8", Some(Meaning::Bookkeeping)),
            ("a/.wh.", None),
            ("a/.wh..", None),
            ("a/.wh...", None),
            ("a/.wh.b/c", None),
        ] {
            assert_eq!(meaning(Path::new(name)).ok(), expected, "{name}");
        }
    }
}

//! Files in and out of a tree that somebody else may be changing: what `cp` needs.
//!
//! The root is held open; every path is resolved by the kernel as if that directory were the root,
//! and what was found is worked on by descriptor. A link that is swapped in meanwhile leads
//! somewhere within the root, or is an error.

use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::{Component, Path, PathBuf};

use sys::fs::{Dir, Follow, Kind, Stat, errno};

use crate::diff::{ExportError, Form, export_name, export_tree};
use crate::unpack::{Marks, Tree, UnpackError, Unpacked};

/// Links after which a path is taken for a loop; the kernel's own limit.
const LINK_LIMIT: usize = 40;

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its attributes: those of a link itself, unless links were followed.
    pub stat: Stat,
    /// Where a link leads, as it is written.
    pub link: Option<OsString>,
    /// The path without links, from the root, which it begins with.
    pub path: PathBuf,
}

/// How files are put into a tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PutIn {
    /// Everything belongs to this user and group instead of those that the archive names.
    pub owner: Option<(u32, u32)>,
    /// No directory takes the place of something else, nor the other way round.
    pub kinds_stay: bool,
}

/// Looks for a path; `follow` says whether a link at its end is followed.
///
/// # Errors
/// Those of looking; what is not there is `None`.
pub fn look(root: &Dir, path: &Path, follow: bool) -> sys::Result<Option<Found>> {
    let Some((dir, name, path)) = resolve(root, path, follow)? else {
        return Ok(None);
    };
    let Some(name) = name else {
        let stat = dir.stat_self()?;
        let link = None;
        return Ok(Some(Found { stat, link, path }));
    };
    let Some(stat) = dir.find(&name)? else {
        return Ok(None);
    };
    let link = match stat.kind {
        Kind::Symlink => Some(dir.read_link(&name)?),
        _ => None,
    };
    Ok(Some(Found { stat, link, path }))
}

/// Writes what a path leads to as an archive, in this form; `None` where nothing is there.
///
/// # Errors
/// [`ExportError`]; the output is then cut off.
pub fn take_out<W: Write>(
    root: &Dir,
    path: &Path,
    follow: bool,
    form: Form<'_>,
    output: W,
) -> Result<Option<W>, ExportError> {
    let Some((dir, name, _)) = resolve(root, path, follow)? else {
        return Ok(None);
    };
    match name {
        None => export_tree(&dir, form, output).map(Some),
        Some(name) => export_name(&dir, Path::new(&name), form, output).map(Some),
    }
}

/// Unpacks an archive into the directory that a path leads to.
///
/// # Errors
/// [`UnpackError`]; what was unpacked is then left.
pub fn put_in(
    root: &Dir,
    directory: &Path,
    archive: impl BufRead,
    how: PutIn,
) -> Result<Unpacked, UnpackError> {
    let step = |source| UnpackError::Step {
        name: directory.to_string_lossy().into_owned(),
        source,
    };
    // The way is resolved again for every member: nothing that is remembered could be trusted.
    let base = match resolve(root, directory, true).map_err(step)? {
        Some((_, _, path)) => path.strip_prefix("/").unwrap_or(&path).to_owned(),
        None => directory.strip_prefix("/").unwrap_or(directory).to_owned(),
    };
    root.enter(&base, Follow::InRoot).map_err(step)?;
    let own = root.duplicate().map_err(step)?;
    let mut tree = Tree::new(own, Marks::Plain, &())
        .map_err(step)?
        .beneath(base);
    if let Some((uid, gid)) = how.owner {
        tree = tree.owned_by(uid, gid);
    }
    if how.kinds_stay {
        tree = tree.with_kinds_as_they_are();
    }
    tree.fill(archive)
}

/// Walks a path link by link: the directory it ends in, the last name, and the path without links.
/// The name is `None` where the path leads to a directory that has no name here: the root.
#[allow(clippy::type_complexity)]
fn resolve(
    root: &Dir,
    path: &Path,
    follow_last: bool,
) -> sys::Result<Option<(Dir, Option<OsString>, PathBuf)>> {
    let mut waiting: Vec<OsString> = names(path);
    let mut done = PathBuf::new();
    let mut links = 0;
    let through = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    while let Some(name) = waiting.pop() {
        if name == ".." {
            done.pop();
            continue;
        }
        let last = waiting.is_empty();
        let dir = match root.enter(&done, Follow::Never) {
            Ok(dir) => dir,
            Err(error) if matches!(error.errno(), errno::ENOENT | errno::ENOTDIR) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(stat) = dir.find(&name)? else {
            return Ok(None);
        };
        if stat.kind == Kind::Symlink && (!last || follow_last || through) {
            links += 1;
            if links > LINK_LIMIT {
                return Err(sys::SysError::new(
                    format!("open({:?})", root.path().join(&done).join(&name)),
                    errno::ELOOP,
                ));
            }
            let target = match dir.read_link(&name) {
                // `/proc/self` of a process namespace that we are not in.
                Err(error) if error.errno() == errno::ENOENT => return Ok(None),
                other => PathBuf::from(other?),
            };
            if target.is_absolute() {
                done = PathBuf::new();
            }
            waiting.extend(names(&target));
            continue;
        }
        if !last && stat.kind != Kind::Directory {
            return Ok(None);
        }
        done.push(name);
    }
    let parent = done.parent().unwrap_or(Path::new(""));
    let dir = root.enter(parent, Follow::Never)?;
    let name = done.file_name().map(ToOwned::to_owned);
    Ok(Some((dir, name, Path::new("/").join(done))))
}

/// The parts of a path, last first.
fn names(path: &Path) -> Vec<OsString> {
    let parts = path.components().rev();
    parts
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn finds_what_paths_lead_to_within_the_root() {
        let place = tempfile::tempdir().unwrap();
        let at = |path: &str| place.path().join(path);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("a/b/f"), "x").unwrap();
        for (link, target) in [
            ("abs", "/a/b"),
            ("rel", "a/b"),
            ("up", "../../../../a"),
            ("deep", "abs/../b/f"),
            ("loop", "loop"),
            ("dangling", "/nowhere"),
        ] {
            symlink(target, at(link)).unwrap();
        }
        let root = Dir::open(place.path()).unwrap();
        for (path, follow, expected) in [
            ("/", false, Some("/")),
            ("/a/b/f", false, Some("/a/b/f")),
            ("a/./b/../b", false, Some("/a/b")),
            ("/../../a", false, Some("/a")),
            ("/abs", false, Some("/abs")),
            ("/abs", true, Some("/a/b")),
            ("/abs/", false, Some("/a/b")),
            ("/abs/f", false, Some("/a/b/f")),
            ("/rel/f", false, Some("/a/b/f")),
            ("/up/b/f", false, Some("/a/b/f")),
            ("/deep", true, Some("/a/b/f")),
            ("/dangling", false, Some("/dangling")),
            ("/dangling", true, None),
            ("/none", false, None),
            ("/a/b/f/g", false, None),
        ] {
            let found = look(&root, Path::new(path), follow).unwrap();
            let found = found.map(|found| found.path);
            assert_eq!(found.as_deref(), expected.map(Path::new), "{path}");
        }
        let error = look(&root, Path::new("/loop"), true).unwrap_err();
        assert_eq!(error.errno(), errno::ELOOP);
        let link = look(&root, Path::new("abs"), false).unwrap().unwrap().link;
        assert_eq!(link, Some("/a/b".into()));
    }
}

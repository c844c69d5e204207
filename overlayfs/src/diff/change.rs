//! What a writable layer changed: `diff`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use sys::fs::{Dir, Follow, Kind, Stat};

use crate::copy::is_overlay_mark;
use crate::stack::{Merged, Stack, is_opaque};

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// Its content or attributes are others.
    Changed,
    /// It is new.
    Added,
    /// It is gone.
    Deleted,
}

/// A path that differs from the layers below.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// From the root, which it begins with: `/etc/passwd`.
    pub path: PathBuf,
    /// What became of it.
    pub kind: ChangeKind,
}

/// Prints as `diff` does: `A /new`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            ChangeKind::Changed => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        };
        write!(f, "{letter} {}", self.path.display())
    }
}

/// Names in a writable layer that were made to be mounted on and not by who wrote in it.
///
/// Such a name is no change as long as it is new and empty: a file without content, a directory
/// with nothing in it but others of these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountPoints(BTreeSet<PathBuf>);

impl MountPoints {
    /// None: whatever is in the layer counts.
    pub fn none() -> Self {
        Self::default()
    }

    /// These; a leading `/` makes no difference.
    pub fn new<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let bare = |path: P| {
            let path = path.as_ref();
            path.strip_prefix("/").unwrap_or(path).to_owned()
        };
        Self(paths.into_iter().map(bare).collect())
    }

    /// Whether a new name of the layer is one of these and has nothing in it.
    pub(super) fn hide(&self, dir: &Dir, path: &Path, stat: &Stat) -> sys::Result<bool> {
        if !self.0.contains(path) {
            return Ok(false);
        }
        match stat.kind {
            Kind::File => Ok(stat.size == 0),
            Kind::Directory => {
                let inside = dir.enter(path.file_name().unwrap_or_default(), Follow::Never)?;
                for entry in inside.entries()? {
                    let here = path.join(&entry.name);
                    let stat = inside.find(&entry.name)?;
                    if let Some(stat) = stat
                        && !self.hide(&inside, &here, &stat)?
                    {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Kind::Symlink | Kind::CharDevice | Kind::BlockDevice | Kind::Fifo | Kind::Socket => {
                Ok(false)
            }
        }
    }
}

/// What of a tree is there to be compared with the layers below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// A writable layer: what is not in it is as it is below.
    Layer,
    /// The whole tree: what is not in it is gone.
    Whole,
}

impl Extent {
    /// Whether names that this directory lacks are gone.
    pub(super) fn hides(self, upper: &Dir) -> sys::Result<bool> {
        match self {
            Self::Layer => is_opaque(upper),
            Self::Whole => Ok(true),
        }
    }
}

/// Compares a writable layer, or a whole tree, with the layers below it; sorted by path.
///
/// A file that was opened for writing and left as it was is no change, nor is a directory in which
/// nothing changed, nor what was only made to be mounted on.
///
/// # Errors
/// Those of looking.
pub fn changes(
    upper: &Dir,
    extent: Extent,
    lower: &Stack,
    mounts: &MountPoints,
) -> sys::Result<Vec<Change>> {
    let mut walk = Walk {
        upper,
        extent,
        mounts,
        changes: Vec::new(),
    };
    walk.directory(Path::new(""), Some(lower.root()?))?;
    walk.changes.sort();
    Ok(walk.changes)
}

struct Walk<'a> {
    upper: &'a Dir,
    extent: Extent,
    mounts: &'a MountPoints,
    changes: Vec<Change>,
}

impl Walk<'_> {
    fn add(&mut self, path: &Path, kind: ChangeKind) {
        let path = Path::new("/").join(path);
        self.changes.push(Change { path, kind });
    }

    /// Compares a directory; tells whether anything beneath it changed.
    fn directory(&mut self, path: &Path, lower: Option<Merged>) -> sys::Result<bool> {
        let upper = self.upper.enter(path, Follow::Never)?;
        let before = self.changes.len();
        let hidden = self.extent.hides(&upper)?;
        if hidden && let Some(lower) = &lower {
            for (entry, _) in lower.entries()? {
                if upper.find(&entry.name)?.is_none() {
                    self.add(&path.join(&entry.name), ChangeKind::Deleted);
                }
            }
        }
        for entry in upper.entries()? {
            let here = path.join(&entry.name);
            let Some(stat) = upper.find(&entry.name)? else {
                continue;
            };
            let below = match &lower {
                Some(lower) => lower.find(entry.name.as_ref())?,
                None => None,
            };
            if stat.is_whiteout() {
                if below.is_some() {
                    self.add(&here, ChangeKind::Deleted);
                }
                continue;
            }
            self.entry(&upper, &here, &stat, below, lower.as_ref())?;
        }
        Ok(self.changes.len() > before)
    }

    fn entry(
        &mut self,
        upper: &Dir,
        path: &Path,
        stat: &Stat,
        below: Option<(Dir, Stat)>,
        lower: Option<&Merged>,
    ) -> sys::Result<()> {
        let name = Path::new(path.file_name().unwrap_or_default());
        let Some((parent, old)) = below else {
            if self.mounts.hide(upper, path, stat)? {
                return Ok(());
            }
            self.add(path, ChangeKind::Added);
            if stat.kind == Kind::Directory {
                self.directory(path, None)?;
            }
            return Ok(());
        };
        if stat.kind == Kind::Directory {
            // Where the kinds differ nothing of the old is below the new.
            let merged = match lower {
                Some(lower) if old.kind == Kind::Directory => lower.directory(name)?,
                _ => None,
            };
            let place = self.changes.len();
            let inside = self.directory(path, merged)?;
            if inside || !same(upper, &parent, name, stat, &old)? {
                let path = Path::new("/").join(path);
                let kind = ChangeKind::Changed;
                self.changes.insert(place, Change { path, kind });
            }
            return Ok(());
        }
        if !same(upper, &parent, name, stat, &old)? {
            self.add(path, ChangeKind::Changed);
        }
        Ok(())
    }
}

/// Whether a file is what it was below: kind, owner, mode, attributes, and content or times.
pub(super) fn same(
    upper: &Dir,
    lower: &Dir,
    name: &Path,
    new: &Stat,
    old: &Stat,
) -> sys::Result<bool> {
    if (new.kind, new.mode, new.uid, new.gid) != (old.kind, old.mode, old.uid, old.gid) {
        return Ok(false);
    }
    let alike = match new.kind {
        Kind::Directory => true,
        Kind::File => new.size == old.size && new.mtime == old.mtime,
        Kind::Symlink => upper.read_link(name)? == lower.read_link(name)?,
        Kind::CharDevice | Kind::BlockDevice => new.device == old.device,
        Kind::Fifo | Kind::Socket => true,
    };
    if !alike {
        return Ok(false);
    }
    let attributes = |dir: &Dir| -> sys::Result<Vec<_>> {
        let mut all = dir.xattrs(name)?;
        all.retain(|(key, _)| !is_overlay_mark(key));
        Ok(all)
    };
    Ok(attributes(upper)? == attributes(lower)?)
}

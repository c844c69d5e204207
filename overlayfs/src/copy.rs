//! Copying parts of trees with all that files have: owner, mode, times, attributes, hard links.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::path::{Path, PathBuf};

use sys::fs::{self, Dir, Follow, Kind, Node, Stat, errno};

use crate::stack::Merged;

/// Attributes that belong to overlayfs and not to a file's owner.
pub(crate) fn is_overlay_mark(name: &CString) -> bool {
    name.as_bytes().starts_with(b"trusted.overlay.")
}

/// Copies what is no directory: content shared or copied, holes kept, attributes as they were.
/// Sockets are left out: they mean nothing without their process.
///
/// # Errors
/// Those of the calls; a file that was begun is then left.
pub fn copy_name(
    from: &Dir,
    name: &OsStr,
    stat: &Stat,
    to: &Dir,
    new_name: &OsStr,
) -> sys::Result<()> {
    match stat.kind {
        Kind::Socket | Kind::Directory => return Ok(()),
        Kind::File => {
            let source = from.read(name)?;
            let target = to.create(new_name, 0o600)?;
            fs::copy_data(&source, &target, to.path().join(new_name).display())?;
        }
        Kind::Symlink => to.make_symlink(new_name, &from.read_link(name)?)?,
        Kind::Fifo => to.make_node(new_name, Node::Fifo, 0o600)?,
        Kind::CharDevice => {
            to.make_node(new_name, Node::Char(stat.device.0, stat.device.1), 0o600)?;
        }
        Kind::BlockDevice => {
            to.make_node(new_name, Node::Block(stat.device.0, stat.device.1), 0o600)?;
        }
    }
    to.chown(new_name, stat.uid, stat.gid)?;
    to.chmod(new_name, stat.mode)?;
    for (key, value) in from.xattrs(name)? {
        if !is_overlay_mark(&key) {
            to.set_xattr(new_name, &key, &value)?;
        }
    }
    to.set_times(new_name, stat.atime, stat.mtime)
}

/// A directory to copy from: one of a file system, or several layers' seen as one.
enum Source<'a> {
    Plain(&'a Dir),
    Merged(&'a Merged),
}

/// Copies everything in a directory, and the directory's own attributes, into an empty one.
///
/// Links are copied as links; a file with several names within the tree has them in the copy.
/// Both trees are walked by descriptor, so neither side can be led outside.
///
/// # Errors
/// Those of the calls; what was copied is then left.
pub fn copy_tree(from: &Dir, to: &Dir) -> sys::Result<()> {
    copy(&Source::Plain(from), to)
}

/// Copies a directory of some layers as it is seen, as [`copy_tree`]: what a new volume gets.
///
/// # Errors
/// As [`copy_tree`].
pub fn copy_merged(from: &Merged, to: &Dir) -> sys::Result<()> {
    copy(&Source::Merged(from), to)
}

fn copy(from: &Source<'_>, to: &Dir) -> sys::Result<()> {
    let mut copier = Copier {
        to,
        names: HashMap::new(),
    };
    copier.directory(from, Path::new(""))
}

struct Copier<'a> {
    to: &'a Dir,
    /// Files with several names: the first that was copied.
    names: HashMap<(u64, u64), PathBuf>,
}

impl Copier<'_> {
    fn directory(&mut self, from: &Source<'_>, path: &Path) -> sys::Result<()> {
        let target = self.to.enter(path, Follow::Never)?;
        let (entries, top) = match from {
            Source::Plain(dir) => {
                let all = dir.entries()?.into_iter();
                (all.map(|entry| (entry, *dir)).collect(), Some(*dir))
            }
            Source::Merged(merged) => (merged.entries()?, merged.top()),
        };
        let mut below = Vec::new();
        for (entry, dir) in entries {
            let Some(stat) = dir.find(&entry.name)? else {
                continue;
            };
            let here = path.join(&entry.name);
            if stat.kind == Kind::Directory {
                target.make_dir(&entry.name, 0o700)?;
                below.push(entry.name);
                continue;
            }
            if stat.links > 1 && self.linked(&target, &stat, &entry.name)? {
                continue;
            }
            copy_name(dir, &entry.name, &stat, &target, &entry.name)?;
            if stat.links > 1 {
                self.names.insert(stat.inode, here);
            }
        }
        for name in below {
            let here = path.join(&name);
            match from {
                Source::Plain(dir) => {
                    let inner = dir.enter(&name, Follow::Never)?;
                    self.directory(&Source::Plain(&inner), &here)?;
                }
                Source::Merged(merged) => {
                    if let Some(inner) = merged.directory(name.as_ref())? {
                        self.directory(&Source::Merged(&inner), &here)?;
                    }
                }
            }
        }
        // Last: what is put into a directory changes its times.
        match top {
            Some(top) => copy_directory_attributes(top, &target),
            None => Ok(()),
        }
    }

    /// Makes a further name of a file that was copied already.
    fn linked(&self, target: &Dir, stat: &Stat, name: &OsStr) -> sys::Result<bool> {
        let Some(copied) = self.names.get(&stat.inode) else {
            return Ok(false);
        };
        let (Some(parent), Some(first)) = (copied.parent(), copied.file_name()) else {
            return Ok(false);
        };
        let parent = self.to.enter(parent, Follow::Never)?;
        match parent.link(first, target, name) {
            // Sockets are left out under every name.
            Err(error) if error.errno() == errno::ENOENT => Ok(true),
            other => other.map(|()| true),
        }
    }
}

/// Gives one directory the owner, mode, attributes and times of another.
///
/// # Errors
/// Those of the calls.
pub fn copy_directory_attributes(from: &Dir, to: &Dir) -> sys::Result<()> {
    let what = to.path().display();
    let stat = from.stat_self()?;
    fs::set_owner_of(to, stat.uid, stat.gid, &what)?;
    fs::set_mode_of(to, stat.mode, &what)?;
    for (key, value) in from.xattrs_self()? {
        if !is_overlay_mark(&key) {
            fs::set_xattr_of(to, &key, &value, &what)?;
        }
    }
    fs::set_times_of(to, stat.atime, stat.mtime, &what)
}

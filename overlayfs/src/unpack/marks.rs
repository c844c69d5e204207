//! What layers say about the layers below them: whiteouts, opaque directories, and directories that
//! they use without describing them.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sys::fs::{self, Dir, Follow, Node};

use super::tree::{Finish, OPAQUE, OVERLAY, Tree, parent_of};

impl Tree<'_> {
    /// Turns the first whiteout on the way into a directory that hides what is below.
    pub(super) fn remove_whiteouts_on(&mut self, path: &Path) -> sys::Result<()> {
        let mut so_far = PathBuf::new();
        for part in path {
            so_far.push(part);
            let parent = self.root.enter(parent_of(&so_far), Follow::InRoot)?;
            if parent.find(part)?.is_some_and(|stat| stat.is_whiteout()) {
                parent.unlink(part)?;
                parent.make_dir(part, 0o755)?;
                return parent.set_xattr(part, OPAQUE, b"y");
            }
        }
        Ok(())
    }

    /// A directory that the archive does not describe looks like the lower one.
    pub(super) fn left_out(&mut self, path: &Path, dir: &Dir) -> sys::Result<()> {
        let Some((parent, stat)) = self.lower.find(path)? else {
            return fs::set_mode_of(dir, 0o755, path.display());
        };
        if stat.kind != fs::Kind::Directory {
            return fs::set_mode_of(dir, 0o755, path.display());
        }
        let name = path.file_name().unwrap_or_default();
        let xattrs = parent.xattrs(name)?;
        if (stat.uid, stat.gid, stat.mode) != (0, 0, 0o755) || !xattrs.is_empty() {
            self.result.depends_on_lower = true;
        }
        fs::set_owner_of(dir, stat.uid, stat.gid, path.display())?;
        fs::set_mode_of(dir, stat.mode, path.display())?;
        self.directories.push(Finish {
            path: path.to_owned(),
            inode: dir.stat_self()?.inode,
            atime: stat.atime,
            mtime: stat.mtime,
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| (name.into_bytes(), value))
                .filter(|(name, _)| !name.starts_with(OVERLAY))
                .collect(),
        });
        Ok(())
    }

    pub(super) fn opaque(&mut self, directory: &Path) -> sys::Result<()> {
        self.enter_parent(directory)?;
        fs::set_xattr_of(self.dir(), OPAQUE, b"y", directory.display())
    }

    /// Hides a lower name; one that this layer has itself stays, and hides what is below it.
    pub(super) fn whiteout(&mut self, directory: &Path, hidden: &OsStr) -> sys::Result<()> {
        if self.lower.is_empty() {
            // Nothing is below: there is nothing to hide, and the kernel would list the mark.
            self.result.depends_on_lower = true;
            return Ok(());
        }
        self.enter_parent(directory)?;
        match self.dir().find(hidden)? {
            Some(stat) if stat.kind == fs::Kind::Directory => {
                self.dir().set_xattr(hidden, OPAQUE, b"y")
            }
            Some(_) => Ok(()),
            None => self.dir().make_node(hidden, Node::Char(0, 0), 0),
        }
    }
}

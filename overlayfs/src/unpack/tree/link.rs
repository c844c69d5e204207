//! Hard links of an archive: within the layer, or to a file of a lower one, which is copied.

use std::ffi::OsStr;
use std::path::Path;

use sys::fs::{self, Dir, Follow, Stat, errno};

use super::{Marks, Tree, parent_of};
use crate::tar::{Kind, Member};
use crate::unpack::UnpackError;
use crate::unpack::contents::Contents;

impl Tree<'_> {
    pub(super) fn hard_link(
        &mut self,
        member: &Member,
        path: &Path,
        name: &OsStr,
        contents: &mut impl Contents,
    ) -> Result<(), UnpackError> {
        let target = self.placed(&member.link)?;
        let no_target = || UnpackError::NoTarget {
            name: path.to_string_lossy().into_owned(),
            target: target.to_string_lossy().into_owned(),
        };
        let step = |source| UnpackError::Step {
            name: path.to_string_lossy().into_owned(),
            source,
        };
        let target_name = target.file_name().ok_or_else(no_target)?;
        let found = match self.root.enter(parent_of(&target), Follow::InRoot) {
            Ok(parent) => parent
                .find(target_name)
                .map_err(step)?
                .filter(|stat| !(self.marks == Marks::Layer && stat.is_whiteout()))
                .map(|stat| (parent, stat)),
            Err(error) if matches!(error.errno(), errno::ENOENT | errno::ENOTDIR) => None,
            Err(error) => return Err(step(error)),
        };
        let Some((parent, stat)) = found else {
            let (parent, stat) = self
                .lower
                .find(&target)
                .map_err(step)?
                .ok_or_else(no_target)?;
            self.clear(Kind::File, &self.real(name), name, contents)
                .map_err(step)?;
            return self
                .copy_lower(&parent, target_name, &stat, name)
                .map_err(step);
        };
        if stat.kind == fs::Kind::Directory {
            return Err(no_target());
        }
        // A link to itself, or made twice, is there already.
        if self
            .dir()
            .find(name)
            .map_err(step)?
            .is_some_and(|there| there.inode == stat.inode)
        {
            return Ok(());
        }
        self.clear(Kind::HardLink, &self.real(name), name, contents)
            .map_err(step)?;
        parent.link(target_name, self.dir(), name).map_err(step)
    }

    /// Copies a file of a lower layer, since a link cannot reach from one layer to another.
    fn copy_lower(
        &mut self,
        parent: &Dir,
        target: &OsStr,
        stat: &Stat,
        name: &OsStr,
    ) -> sys::Result<()> {
        self.result.depends_on_lower = true;
        crate::copy::copy_name(parent, target, stat, self.dir(), name)
    }
}

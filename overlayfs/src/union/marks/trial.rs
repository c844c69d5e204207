//! Whether a branch can hold marks of a form, found out before a union needs them.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, RenameFlags, mkdirat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{Marks, overlay, work_name};
use crate::union::branch::Branch;
use crate::union::copyup::keep_times;
use crate::union::form::Form;
use crate::union::tree::stat_fd;

impl Marks {
    /// Tries marks on a writable branch, under names that nobody sees; says what its file system
    /// does not do. A full one may well hold them.
    pub(crate) fn try_on(self, branch: &Branch) -> Result<(), &'static str> {
        if self.form != Form::Overlay {
            return Ok(());
        }
        let root: &OwnedFd = &branch.root;
        let Ok(before) = stat_fd(root) else {
            return Ok(());
        };
        let (one, two) = (work_name(), work_name());
        if mkdirat(root, &one, Mode::RWXU).is_err() {
            return Ok(());
        }
        let tried = super::change::open_dir(root.as_fd(), &one)
            .and_then(|dir| overlay::make_opaque(dir.as_fd()))
            .map_err(|errno| (errno, "keeps no attributes in trusted.overlay."))
            .and_then(|_| {
                let moved = renameat_with(root, &one, root, &two, RenameFlags::WHITEOUT);
                moved.map_err(|errno| (errno, "leaves no whiteouts when something is renamed"))
            })
            .and_then(|()| match overlay::is_whiteout(root.as_fd(), &one) {
                Ok(false) => Err((Errno::OPNOTSUPP, "shows no whiteouts")),
                _ => Ok(()),
            });
        let _ = unlinkat(root, &one, AtFlags::empty());
        for name in [&one, &two] {
            let _ = unlinkat(root, name, AtFlags::REMOVEDIR);
        }
        keep_times(root, &before);
        match tried {
            Err((Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM | Errno::NOSYS, lacking)) => {
                Err(lacking)
            }
            _ => Ok(()),
        }
    }
}

//! Names taken away, made and moved, with the marks that go, come or stay.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::{Found, Marks, aufs, overlay, work_name};
use crate::union::Res;
use crate::union::branch::Branch;
use crate::union::form::Form;
use crate::union::plink;

impl Marks {
    /// Marks a directory opaque; true when the mark is new.
    pub(crate) fn make_opaque(self, dir: impl AsFd) -> Res<bool> {
        match self.form {
            Form::Overlay => overlay::make_opaque(dir.as_fd()),
            Form::Aufs | Form::Auto => aufs::make_opaque(dir.as_fd()),
        }
    }

    /// Takes such a mark back.
    pub(crate) fn undo_opaque(self, dir: impl AsFd) {
        match self.form {
            Form::Overlay => overlay::undo_opaque(dir.as_fd()),
            Form::Aufs | Form::Auto => aufs::undo_opaque(dir.as_fd()),
        }
    }

    /// Hides a name that this directory of a branch does not have.
    pub(crate) fn hide(self, branch: &Branch, dir: impl AsFd, name: &CStr) -> Res<()> {
        match self.form {
            Form::Overlay => overlay::white_out(dir.as_fd(), name),
            Form::Aufs | Form::Auto => aufs::white_out(branch, dir.as_fd(), name).map(drop),
        }
    }

    /// Takes a non-directory away; with `hides` the branches below do not show theirs then.
    pub(crate) fn remove_file(
        self,
        branch: &Branch,
        dir: impl AsFd,
        name: &CStr,
        hides: bool,
    ) -> Res<()> {
        let dir = dir.as_fd();
        if hides && self.form == Form::Overlay {
            return overlay::replace_file(dir, name);
        }
        hiding(hides.then_some(branch), dir, name, || {
            unlinkat(dir, name, AtFlags::empty())
        })
    }

    /// Takes away a directory that holds marks at most; with `hides` as [`Self::remove_file`].
    pub(crate) fn remove_dir(
        self,
        branch: &Branch,
        dir: impl AsFd,
        name: &CStr,
        hides: bool,
    ) -> Res<()> {
        let dir = dir.as_fd();
        if self.form == Form::Overlay {
            return self.remove_dir_here(dir, name, hides);
        }
        hiding(hides.then_some(branch), dir, name, || {
            self.remove_dir_here(dir, name, false)
        })
    }

    /// Removes a directory, out of sight first if it holds marks; `hides` puts a device there.
    fn remove_dir_here(self, dir: BorrowedFd<'_>, name: &CStr, hides: bool) -> Res<()> {
        let work = if hides {
            overlay::replace_dir(dir, name)?
        } else {
            match unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {}
                other => return other,
            }
            let work = work_name();
            renameat_with(dir, name, dir, &work, RenameFlags::NOREPLACE)?;
            work
        };
        let Err(errno) = self.purge(dir, &work) else {
            return Ok(());
        };
        // A mark cannot be removed, or somebody put a file there meanwhile: it comes back. Of its
        // marks some are gone.
        let _ = open_dir(dir, &work).and_then(|it| self.make_opaque(it));
        if hides {
            if renameat_with(dir, &work, dir, name, RenameFlags::EXCHANGE).is_ok() {
                let _ = unlinkat(dir, &work, AtFlags::empty());
            }
        } else {
            let _ = renameat_with(dir, &work, dir, name, RenameFlags::NOREPLACE);
        }
        Err(errno)
    }

    /// Makes something by a name, which a whiteout has if `over`, and takes that away.
    pub(crate) fn make<T>(
        self,
        dir: impl AsFd,
        name: &CStr,
        over: bool,
        make: impl FnOnce(&CStr) -> Res<T>,
    ) -> Res<T> {
        let dir = dir.as_fd();
        let in_place = over && self.form.has_devices() && overlay::is_whiteout(dir, name)?;
        let made = if in_place {
            let work = work_name();
            let made = make(&work)?;
            if let Err(errno) = overlay::take_place(dir, &work, name) {
                if unlinkat(dir, &work, AtFlags::empty()).is_err() {
                    let _ = self.purge(dir, &work);
                }
                return Err(errno);
            }
            made
        } else {
            make(name)?
        };
        if over && self.form.has_names() {
            // It is made. If the mark stays it hides no more than what is there now does.
            let _ = aufs::clear_whiteout(dir, name);
        }
        Ok(made)
    }

    /// Gives a directory made under the name `work` its own; true where it has the place of a
    /// whiteout, whose part it plays from then on.
    pub(crate) fn settle_dir(self, dir: impl AsFd, work: &CStr, name: &CStr) -> Res<bool> {
        let dir = dir.as_fd();
        match renameat_with(dir, work, dir, name, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) if self.form.has_devices() && overlay::is_whiteout(dir, name)? => {
                self.make_opaque(open_dir(dir, work)?)?;
                overlay::take_place(dir, work, name)?;
                Ok(true)
            }
            other => other.map(|()| false),
        }
    }

    /// Renames within a branch, over nothing, marks, or what the caller says may go. With `hides`
    /// the branches below do not show what they have by the old name; `over` says that a whiteout
    /// had the new one.
    pub(crate) fn rename(
        self,
        branch: &Branch,
        (old, from): (impl AsFd, &CStr),
        (new, to): (impl AsFd, &CStr),
        (hides, over): (bool, bool),
    ) -> Res<()> {
        let (old, new) = (old.as_fd(), new.as_fd());
        if self.form == Form::Overlay {
            return match self.move_here((old, from), (new, to), hides) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    self.make_opaque(open_dir(new, to)?)?;
                    self.take_marks(new, to)?;
                    self.move_here((old, from), (new, to), hides)
                }
                other => other,
            };
        }
        hiding(hides.then_some(branch), old, from, || {
            match self.move_here((old, from), (new, to), false) {
                Err(Errno::NOTEMPTY | Errno::EXIST) => {
                    self.move_over_marks(branch, (old, from), (new, to))
                }
                other => other,
            }
        })?;
        if over {
            // It is done. If the mark stays it hides no more than what is there now does.
            let _ = aufs::clear_whiteout(new, to);
        }
        Ok(())
    }

    /// Moves a directory to the place of one that holds marks. They go first, while one beside it
    /// does for them all: then it is one step, whoever looks and whenever it is cut short.
    fn move_over_marks(
        self,
        branch: &Branch,
        (old, from): (BorrowedFd<'_>, &CStr),
        (new, to): (BorrowedFd<'_>, &CStr),
    ) -> Res<()> {
        let marked = aufs::white_out(branch, new, to)?;
        let done = self
            .take_marks(new, to)
            .and_then(|()| self.move_here((old, from), (new, to), false));
        let back = done.is_ok()
            || open_dir(new, to)
                .and_then(|it| self.make_opaque(it))
                .is_ok();
        if marked && back {
            let _ = aufs::clear_whiteout(new, to);
        }
        done
    }

    /// Moves a name; `hides` leaves a device in its place.
    fn move_here(
        self,
        (old, from): (BorrowedFd<'_>, &CStr),
        (new, to): (BorrowedFd<'_>, &CStr),
        hides: bool,
    ) -> Res<()> {
        let flags = if hides {
            RenameFlags::WHITEOUT
        } else {
            RenameFlags::empty()
        };
        match renameat_with(old, from, new, to, flags) {
            // A directory in the place of a whiteout, which is then where it is wanted or not.
            Err(Errno::NOTDIR) if self.form.has_devices() && overlay::is_whiteout(new, to)? => {
                renameat_with(old, from, new, to, RenameFlags::EXCHANGE)?;
                match hides {
                    true => Ok(()),
                    false => overlay::take_away((old, from), (new, to)),
                }
            }
            other => other,
        }
    }

    /// Removes a directory that holds nothing but marks; the name is one that nobody sees.
    pub(crate) fn purge(self, parent: BorrowedFd<'_>, name: &CStr) -> Res<()> {
        self.take_marks(parent, name)?;
        unlinkat(parent, name, AtFlags::REMOVEDIR)
    }

    /// Empties a directory that holds nothing but marks.
    fn take_marks(self, parent: BorrowedFd<'_>, name: &CStr) -> Res<()> {
        let dir = open_dir(parent, name)?;
        let mut marks = Vec::new();
        let mut holds_more = false;
        let all = Self::of(self.form);
        all.for_each_entry(dir.as_fd(), |entry, _, kind| match entry {
            Found::Object(_) => {
                holds_more = true;
                ControlFlow::Break(())
            }
            Found::Whiteout(mark, _) | Found::Own(mark) => {
                marks.push((mark.to_owned(), kind));
                ControlFlow::Continue(())
            }
        })?;
        if holds_more {
            return Err(Errno::NOTEMPTY);
        }
        for (mark, kind) in marks {
            if mark.as_c_str() == plink::DIR {
                plink::remove_dir(dir.as_fd())?;
            } else if kind == FileType::Directory {
                self.purge(dir.as_fd(), &mark)?;
            } else {
                unlinkat(&dir, &mark, AtFlags::empty())?;
            }
        }
        Ok(())
    }
}

/// Does something while a mark beside `name` hides it below, if it is to; the mark stays if it is
/// done, and goes if not.
fn hiding(
    branch: Option<&Branch>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    act: impl FnOnce() -> Res<()>,
) -> Res<()> {
    let marked = match branch {
        Some(branch) => aufs::white_out(branch, dir, name)?,
        None => false,
    };
    if let Err(errno) = act() {
        if marked {
            let _ = aufs::clear_whiteout(dir, name);
        }
        return Err(errno);
    }
    Ok(())
}

pub(super) fn open_dir(parent: BorrowedFd<'_>, name: &CStr) -> Res<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    openat(parent, name, flags, Mode::empty())
}

//! `search=newest`: of several files of one name the one that was changed last is shown.
//!
//! Only where no branch is writable: what is changed, removed or renamed would show an older one.

use std::ffi::CStr;
use std::sync::Arc;

use rustix::fs::{FileType, Statx};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::marks::Entry;
use crate::union::node::{Node, Places};
use crate::union::tree::{Union, kind_of};

fn changed(stat: &Statx) -> (i64, u32) {
    (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec)
}

impl Union {
    /// The newest of the files of a name, of which `first` is the topmost; of equals the upper one.
    /// What a whiteout or a directory hides does not count.
    pub(crate) fn newest(
        &self,
        members: &Members,
        (dir, name): (&Arc<Node>, &CStr),
        places: &Places,
        first: (u16, Statx),
    ) -> Res<(u16, Statx)> {
        let marks = members.marks();
        let mut found = first;
        for &at in places.at.iter().filter(|&&at| at >= first.0) {
            let fd = match self.dir_fd(members, dir, at) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                other => other?,
            };
            let counts = members.branch(at).permission.whiteouts;
            match marks.entry(&fd, name, counts)? {
                Entry::Object(stat) if kind_of(&stat) == libc::S_IFDIR => break,
                Entry::Object(stat) => {
                    if changed(&stat) > changed(&found.1) {
                        found = (at, stat);
                    }
                    if counts && marks.hides_below(&fd, name)? {
                        break;
                    }
                }
                Entry::Whiteout if counts => break,
                Entry::Whiteout | Entry::Missing => {}
            }
        }
        Ok(found)
    }

    /// The number and kind of what a name shows, for listings.
    pub(crate) fn newest_entry(
        &self,
        members: &Members,
        (dir, name): (&Arc<Node>, &CStr),
    ) -> Option<(u64, FileType)> {
        let look = self.look(members, dir, name, false).ok()?;
        let number = self.claimed_number(members, dir, name, &look)?;
        let (_, stat) = look.top.as_ref()?;
        Some((number, FileType::from_raw_mode(kind_of(stat))))
    }
}

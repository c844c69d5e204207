//! `flush-links`: every name that shows a copy becomes a name of the copy, directory by directory.
//!
//! Who asks walks through the directories of the mount, so that all have nodes; names that are made
//! meanwhile are the copies' own anyway.

use std::ffi::{CStr, CString};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;

use crate::union::branch::{Members, lock};
use crate::union::control::{FLUSH, FLUSH_DIR, FLUSH_END};
use crate::union::marks::Found;
use crate::union::mount::{absolute, ask, is_ours};
use crate::union::node::Node;
use crate::union::tree::{Union, fd_path};
use crate::union::{Res, UnionError};

impl Union {
    /// Begins: the number of the first pseudo-link that will not be flushed.
    pub(crate) fn flush_begin(&self) -> u64 {
        for link in self.links.all() {
            link.stuck.store(false, Ordering::Relaxed);
        }
        self.links.next()
    }

    /// Flushes the names in one directory; returns how many files still have other names.
    pub(crate) fn flush_dir(&self, members: &Members, dir: &Arc<Node>) -> Res<usize> {
        let mut names: Vec<CString> = Vec::new();
        for &at in &self.places(members, dir)?.at {
            let fd = match self.dir_fd(members, dir, at) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                other => other?,
            };
            let device = members.branch(at).device;
            let marks = members.marks();
            marks.for_each_entry(fd.as_fd(), |found, ino, _| {
                if let Found::Object(name) = found
                    && self.links.ino(device, ino).is_some()
                {
                    names.push(name.to_owned());
                }
                ControlFlow::Continue(())
            })?;
        }
        for name in names {
            self.flush_name(members, dir, &name)?;
        }
        Ok(self.links.len())
    }

    fn flush_name(&self, members: &Members, dir: &Arc<Node>, name: &CString) -> Res<()> {
        let look = self.look(members, dir, name, false)?;
        let node = self.node_of(members, dir, name, &look);
        let _busy = node.as_ref().map(|node| lock(&node.busy));
        let look = self.look(members, dir, name, false)?;
        let (Some((at, _)), Some(linked)) = (&look.top, self.linked_of(members, &look)?) else {
            return Ok(());
        };
        if linked.at < *at && members.branch(linked.at).is_writable() {
            return self.name_copy(members, &linked, (dir, name)).map(drop);
        }
        linked.link.stuck.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Ends: what was there at the beginning, of which `.NUMBER` reminds, is not needed any more;
    /// returns how many stay because a name of them cannot be written.
    pub(crate) fn flush_end(&self, members: &Members, before: &[u8]) -> Res<usize> {
        let before = std::str::from_utf8(before).ok();
        let before = before.and_then(|text| text.strip_prefix('.')?.parse::<u64>().ok());
        let before = before.ok_or(Errno::INVAL)?;
        let mut stay = 0;
        for link in self.links.all() {
            if link.number >= before {
                continue;
            }
            if link.stuck.load(Ordering::Relaxed) || !members.writes(link.holder) {
                stay += 1;
            } else {
                self.unlink_kept(members, &link)?;
            }
        }
        Ok(stay)
    }
}

/// Makes every name that is shown by the copy of a hard-linked file a hard link to that copy; returns
/// how many files could not be dealt with since a name of them lies in a branch that is not written.
///
/// # Errors
/// Those of walking through the union; what was done until then stays.
pub fn flush_links(target: &Path) -> Result<usize, UnionError> {
    let target = absolute(target);
    if !is_ours(&target) {
        return Err(UnionError::NotUnion(target));
    }
    let number = |path: &Path, name: &CStr| -> Result<u64, UnionError> {
        let text = ask(path, name)?;
        let text = String::from_utf8_lossy(&text);
        text.parse()
            .map_err(|_| UnionError::NotUnion(path.to_owned()))
    };
    let begun = number(&target, FLUSH)?;
    // Nothing that is mounted inside hides directories from here.
    let root = sys::fuse::branch_clone(&target, true)?;
    let mut dirs = vec![PathBuf::from(fd_path(&root))];
    while let Some(dir) = dirs.pop() {
        match number(&dir.join("."), FLUSH_DIR) {
            Ok(0) => break, // all are done
            Ok(_) => dirs.extend(directories(&dir)?),
            Err(error) if error.errno() == libc::ENOENT => {} // removed meanwhile
            Err(error) => return Err(error),
        }
    }
    let mut end = FLUSH_END.to_bytes().to_vec();
    end.extend_from_slice(format!(".{begun}\0").as_bytes());
    let end = CStr::from_bytes_with_nul(&end).map_err(|_| UnionError::NotUnion(target.clone()))?;
    let stay = number(&target, end)?;
    Ok(usize::try_from(stay).unwrap_or(usize::MAX))
}

/// The directories in a directory; none if it is gone.
fn directories(dir: &Path) -> Result<Vec<PathBuf>, UnionError> {
    let failed = |error| sys::SysError::from_io(format!("readdir({dir:?})"), error);
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

//! Mounts whose owners are shown as others: files of one user on the disk belong to another here.
//!
//! The kernel takes such a mapping from a user namespace. One is made for the call, by a child that
//! does nothing but live in it; the mount keeps what it needs of it.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};

use super::calls::{MountAttr, setattr};
use crate::error::{Result, SysError, SysResultExt};
use crate::namespace::{self, Kind};
use crate::process::{self, Fork};

/// Consecutive ids and what they are shown as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The first on the file system.
    pub stored: u32,
    /// The first as it is shown.
    pub shown: u32,
    /// How many.
    pub count: u32,
}

/// The highest id that a file can have; the one above means none.
const LAST: u32 = u32::MAX - 1;

/// Shows one id as another and all others as they are. The other id itself is shown nowhere: what
/// belongs to it on the file system belongs to nobody here, and it can make nothing in its own
/// name there.
pub fn one_as_another(stored: u32, shown: u32) -> Vec<Extent> {
    if stored == shown {
        return vec![Extent {
            stored: 0,
            shown: 0,
            count: LAST,
        }];
    }
    let (low, high) = (stored.min(shown), stored.max(shown));
    let mut all = vec![Extent {
        stored,
        shown,
        count: 1,
    }];
    let mut keep = |first: u32, end: u32| {
        if first < end {
            all.push(Extent {
                stored: first,
                shown: first,
                count: end - first,
            });
        }
    };
    keep(0, low);
    keep(low + 1, high);
    keep(high + 1, LAST);
    all
}

/// Shows the owners of a mount that is attached nowhere yet (and, if recursive, of those below it)
/// as others.
///
/// # Errors
/// `EINVAL` where the file system has no such mounts or has them mapped already, `ENOSYS` before
/// Linux 5.12; `EPERM` without the privilege.
pub fn set_owners(
    mount: impl AsFd,
    recursive: bool,
    users: &[Extent],
    groups: &[Extent],
) -> Result<()> {
    const MAPPED: u64 = 0x0010_0000;
    let namespace = user_namespace(users, groups)?;
    let attributes = MountAttr {
        set: MAPPED,
        clear: 0,
        propagation: 0,
        user_namespace: u64::try_from(namespace.as_raw_fd()).unwrap_or(u64::MAX),
    };
    setattr(mount.as_fd().as_raw_fd(), c"", recursive, &attributes)
}

/// A user namespace with these mappings, that no process lives in.
fn user_namespace(users: &[Extent], groups: &[Extent]) -> Result<OwnedFd> {
    let (wait, _open) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2")?;
    let own = Fork {
        namespaces: namespace::flags(&[Kind::User]),
        cgroup: None,
    };
    let child = process::fork(&own, || {
        // Its own copy of the pipe's other end never lets it see an end: it waits to be killed.
        let _ = process::set_death_signal(libc::SIGKILL);
        let _ = std::fs::File::from(wait).read(&mut [0]);
        0
    })?;
    let made = name_of(&child.pidfd).and_then(|pid| {
        write_map(pid, "uid_map", users)?;
        write_map(pid, "gid_map", groups)?;
        let path = format!("/proc/{pid}/ns/user");
        namespace::open(path.as_ref(), Kind::User)
    });
    let _ = process::kill_pidfd(child.pidfd.as_fd());
    let _ = process::wait_pidfd(child.pidfd.as_fd(), true);
    made
}

/// The child's number as `/proc` here has it, which need not be that of our own pid namespace.
fn name_of(process: &OwnedFd) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", process.as_raw_fd());
    let text = std::fs::read_to_string(&path)
        .map_err(|error| SysError::from_io(format!("read({path:?})"), error))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|number| number.trim().parse().ok())
        .filter(|number| *number > 0)
        .ok_or_else(|| SysError::new(format!("{path:?} names no process"), libc::ESRCH))
}

fn write_map(pid: i32, file: &str, extents: &[Extent]) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    let text: String = extents
        .iter()
        .map(|extent| format!("{} {} {}\n", extent.stored, extent.shown, extent.count))
        .collect();
    // The kernel takes a map by one write.
    std::fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| SysError::from_io(format!("write({path:?}, {text:?})"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(extents: &[Extent], id: u32) -> Option<u32> {
        extents
            .iter()
            .find(|extent| id >= extent.stored && id - extent.stored < extent.count)
            .map(|extent| extent.shown + (id - extent.stored))
    }

    #[test]
    fn one_id_moves_and_the_others_stay() {
        for (stored, other) in [(1000, 0), (0, 1000), (1, 0), (5, 6), (LAST - 1, 0), (7, 7)] {
            let map = one_as_another(stored, other);
            assert_eq!(shown(&map, stored), Some(other), "{stored} {other}");
            if stored != other {
                assert_eq!(shown(&map, other), None, "{stored} {other}");
            }
            for id in [0, 1, 2, 500, 1001, 70_000] {
                if id != stored && id != other {
                    assert_eq!(shown(&map, id), Some(id), "{stored} {other}");
                }
            }
            // No id is shown twice: the kernel refuses such a map.
            let mut all: Vec<_> = map.iter().map(|one| (one.shown, one.count)).collect();
            all.sort_unstable();
            for pair in all.windows(2) {
                assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{map:?}");
            }
        }
    }
}

//! Pseudo-links on disk: the copies of files that have several names where they came from.
//!
//! ```text
//! .wh..wh.plnk/INO.SECONDS.NANOSECONDS.PLACE     in the root of the branch that has the copy
//! ```
//!
//! is a hard link to the copy of the file `INO`, born then, on the file system of the branch whose
//! root is told by `PLACE`, 16 hexadecimal digits. All names of that file show the copy. Its
//! extended attribute `trusted.rbox.plink` says how many names of the origin still do so.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, Mode, OFlags, RawDir, Statx, StatxFlags, XattrFlags, fstatfs, fstatvfs, lgetxattr,
    mkdirat, openat, setxattr, statx, unlinkat,
};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Branch, READ_ONLY_TYPES, lock};
use crate::union::copyup::{clear_inherited, keep_times};
use crate::union::tree::{STAT, fd_path, name_path, stat_fd};

/// The directory in a branch's root.
pub(crate) const DIR: &CStr = c".wh..wh.plnk";
const NOTE: &CStr = c"trusted.rbox.plink";
const BTRFS: u64 = 0x9123_683e;

/// What tells the origin of a copy from every other file, also after a new mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) ino: u64,
    pub(crate) born: (i64, u32),
    /// A branch on the origin's file system.
    pub(crate) place: u64,
}

/// How many names a copy has where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that were neither taken over nor hidden since.
    pub(crate) below: u32,
    /// The most links that the origin was ever seen with.
    pub(crate) seen: u32,
}

impl Key {
    /// The name of the link on disk.
    pub(crate) fn name(self) -> CString {
        let (seconds, nanoseconds) = self.born;
        let text = format!("{}.{seconds}.{nanoseconds}.{:016x}", self.ino, self.place);
        CString::new(text).unwrap_or_default()
    }

    /// Reads such a name; aufs's own are none.
    pub(crate) fn parse(name: &CStr) -> Option<Self> {
        let mut parts = name.to_str().ok()?.split('.');
        let key = Self {
            ino: parts.next()?.parse().ok()?,
            born: (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?),
            place: u64::from_str_radix(parts.next()?, 16).ok()?,
        };
        (key.name().as_c_str() == name).then_some(key)
    }
}

/// When a file was made; where file systems that never change do not know it, its time of change.
pub(crate) fn born(stat: &Statx) -> (i64, u32) {
    let known = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let time = match known {
        true => stat.stx_btime,
        false => stat.stx_mtime,
    };
    (time.tv_sec, time.tv_nsec)
}

/// A number that tells a branch from others whatever its path and device, so that it is found
/// again; nothing where files cannot be told from later ones with their inode numbers.
pub(crate) fn place_of(root: impl AsFd) -> Option<u64> {
    let root = root.as_fd();
    let stat = statx(root, c"", AtFlags::EMPTY_PATH, STAT).ok()?;
    let system = fstatfs(root).ok()?;
    let kind = system.f_type.cast_unsigned();
    let frozen = READ_ONLY_TYPES.contains(&kind);
    if stat.stx_mask & StatxFlags::BTIME.bits() == 0 && !frozen {
        return None;
    }
    let (seconds, nanoseconds) = born(&stat);
    let mut bytes = Vec::new();
    for number in [
        kind,
        stat.stx_ino,
        seconds.cast_unsigned(),
        nanoseconds.into(),
    ] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    if frozen {
        bytes.extend_from_slice(&system.f_blocks.to_le_bytes());
        bytes.extend_from_slice(&system.f_files.to_le_bytes());
    }
    if kind == BTRFS {
        // Snapshots have the inode numbers and times of what they are taken of.
        bytes.extend_from_slice(&fstatvfs(root).ok()?.f_fsid.to_le_bytes());
    }
    Some(hash(&bytes))
}

/// FNV-1a: the same on every machine and in every version.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Calls `each` with the names in a directory of pseudo-links.
pub(crate) fn for_each_name(dir: impl AsFd, mut each: impl FnMut(&CStr)) -> Res<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = openat(dir, c".", flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(16 << 10);
    let mut entries = RawDir::new(fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(entry.file_name());
        }
    }
    Ok(())
}

/// Removes the pseudo-links of what was the root of a branch once and goes as a directory now.
pub(crate) fn remove_dir(parent: BorrowedFd<'_>) -> Res<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = openat(parent, DIR, flags, Mode::empty())?;
    let mut names = Vec::new();
    for_each_name(&dir, |name| names.push(name.to_owned()))?;
    for name in names {
        unlinkat(&dir, &name, AtFlags::empty())?;
    }
    unlinkat(parent, DIR, AtFlags::REMOVEDIR)
}

impl Counts {
    /// What the note on a copy says; a copy without one has names that nobody counted.
    pub(crate) fn read(dir: impl AsFd, name: &CStr) -> Self {
        let mut note = [0_u8; 8];
        let path = name_path(dir, name);
        match lgetxattr(path, NOTE, &mut note[..]) {
            Ok(8) => Self {
                below: u32::from_le_bytes([note[0], note[1], note[2], note[3]]),
                seen: u32::from_le_bytes([note[4], note[5], note[6], note[7]]),
            },
            _ => Self { below: 1, seen: 0 },
        }
    }

    /// Notes it on a copy.
    pub(crate) fn write(self, copy: impl AsFd) -> Res<()> {
        let mut note = self.below.to_le_bytes().to_vec();
        note.extend_from_slice(&self.seen.to_le_bytes());
        let copy = copy.as_fd(); // open until the end
        setxattr(fd_path(copy), NOTE, &note, XattrFlags::empty())
    }
}

impl Branch {
    /// The directory of its pseudo-links, if there is one.
    pub(crate) fn links_dir(&self) -> Res<Arc<OwnedFd>> {
        let mut kept = lock(&self.links);
        if let Some(dir) = &*kept {
            return Ok(Arc::clone(dir));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = Arc::new(openat(&self.root, DIR, flags, Mode::empty())?);
        *kept = Some(Arc::clone(&dir));
        Ok(dir)
    }

    /// The directory of its pseudo-links, made if it is missing.
    pub(crate) fn make_links_dir(&self) -> Res<Arc<OwnedFd>> {
        // The one that was known may have been removed directly.
        *lock(&self.links) = None;
        let before = stat_fd(&self.root)?;
        match mkdirat(&self.root, DIR, Mode::RWXU) {
            Ok(()) => {
                keep_times(&self.root, &before);
                let dir = self.links_dir()?;
                clear_inherited(&dir);
                Ok(dir)
            }
            Err(Errno::EXIST) => self.links_dir(),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_which_file_was_copied() {
        let key = Key {
            ino: 4711,
            born: (-5, 999_999_999),
            place: 0xab,
        };
        assert_eq!(key.name().as_c_str(), c"4711.-5.999999999.00000000000000ab");
        assert_eq!(Key::parse(&key.name()), Some(key));
        for other in [
            c"4711.12",
            c".wh..wh.tmp.1.2",
            c"4711.-5.1.ab",
            c"4711.-5.1.00000000000000ab.1",
            c"+1.0.0.00000000000000ab",
        ] {
            assert_eq!(Key::parse(other), None, "{other:?}");
        }
    }
}

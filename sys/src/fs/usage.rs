//! How much disk a tree takes, and how much there is.

use std::collections::HashSet;

use rustix::fs as rfs;

use super::{Dir, Follow, Kind};
use crate::error::{Result, SysResultExt};

/// What a tree takes; a file with several names counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of content of regular files.
    pub bytes: u64,
    /// Bytes on disk.
    pub disk: u64,
    /// Names beneath the directory.
    pub names: u64,
}

/// Adds up everything beneath a directory, following no link.
///
/// What vanishes meanwhile does not count.
///
/// # Errors
/// Those of openat2, getdents64 and fstatat.
pub fn usage(dir: &Dir) -> Result<Usage> {
    let mut total = Usage::default();
    let mut linked = HashSet::new();
    let mut waiting = vec![dir.enter("", Follow::Never)?];
    while let Some(dir) = waiting.pop() {
        for entry in dir.entries()? {
            let Some(stat) = dir.find(&entry.name)? else {
                continue;
            };
            total.names += 1;
            if stat.kind == Kind::Directory {
                match dir.enter(&entry.name, Follow::Never) {
                    Ok(below) => waiting.push(below),
                    Err(error) if error.errno() == libc::ENOENT => {}
                    Err(error) => return Err(error),
                }
            }
            if stat.links > 1 && stat.kind != Kind::Directory && !linked.insert(stat.inode) {
                continue;
            }
            total.disk += stat.blocks * 512;
            if stat.kind == Kind::File {
                total.bytes += stat.size;
            }
        }
    }
    Ok(total)
}

/// Bytes that may still be written to a directory's file system by an ordinary user.
///
/// # Errors
/// Those of fstatvfs.
pub fn available(dir: &Dir) -> Result<u64> {
    let space = rfs::fstatvfs(dir).call(|| format!("fstatvfs({:?})", dir.path()))?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn counts_a_file_with_two_names_once() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("d")).unwrap();
        fs::write(root.path().join("d/a"), [1; 5000]).unwrap();
        fs::hard_link(root.path().join("d/a"), root.path().join("b")).unwrap();
        let usage = usage(&Dir::open(root.path()).unwrap()).unwrap();
        assert_eq!((usage.bytes, usage.names), (5000, 3));
        assert!(usage.disk >= 8192);
    }
}

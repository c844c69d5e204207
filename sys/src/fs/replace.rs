//! Replacing a file so that a reader sees the old one or the new one, never a part.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use super::Dir;
use crate::error::{Result, SysResultExt};

/// Whether what is written must survive a loss of power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// It must survive the death of the process only.
    Process,
    /// It must survive a loss of power: the file and its directory are synced.
    Power,
}

/// Writes a file under a temporary name and moves it over the name.
///
/// # Errors
/// Those of openat, write, fsync and renameat; the temporary file is gone then.
pub fn replace(
    dir: &Dir,
    name: impl AsRef<Path>,
    content: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<()> {
    let name = name.as_ref();
    under_temporary_name(dir, name, durability, |temporary| {
        let mut file: File = dir.create(temporary, mode)?;
        file.write_all(content)
            .call(|| dir.says("write", temporary, ""))?;
        if durability == Durability::Power {
            file.sync_all().call(|| dir.says("fsync", temporary, ""))?;
        }
        Ok(())
    })
}

/// Makes a symbolic link under a temporary name and moves it over the name.
///
/// # Errors
/// Those of symlinkat, fsync and renameat; the temporary link is gone then.
pub fn replace_symlink(
    dir: &Dir,
    name: impl AsRef<Path>,
    target: &OsStr,
    durability: Durability,
) -> Result<()> {
    under_temporary_name(dir, name.as_ref(), durability, |temporary| {
        dir.make_symlink(temporary, target)
    })
}

fn under_temporary_name(
    dir: &Dir,
    name: &Path,
    durability: Durability,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
    let temporary = format!(".new-{}-{serial}", std::process::id());
    let temporary = Path::new(&temporary);
    // What a killed process of the same number left would be in the way.
    if dir.find(temporary)?.is_some() {
        dir.unlink(temporary)?;
    }
    let made = make(temporary).and_then(|()| dir.rename(temporary, dir, name));
    if made.is_err() {
        let _ = dir.unlink(temporary);
    } else if durability == Durability::Power {
        dir.sync()?;
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_beside() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        for content in ["one", "two"] {
            replace(&dir, "x", content.as_bytes(), 0o640, Durability::Power).unwrap();
            assert_eq!(
                std::fs::read_to_string(root.path().join("x")).unwrap(),
                content
            );
        }
        replace_symlink(&dir, "x", OsStr::new("target"), Durability::Process).unwrap();
        assert_eq!(dir.read_link("x").unwrap(), "target");
        dir.make_dir("d", 0o755).unwrap();
        let error = replace(&dir, "d", b"", 0o600, Durability::Process).unwrap_err();
        assert_eq!(error.errno(), libc::EISDIR);
        assert!(error.call().contains("/d\""), "{error}");
        assert_eq!(dir.entries().unwrap().len(), 2);
    }
}

//! Extended attributes of open files and of names.

use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self as rfs, XattrFlags};
use rustix::io::Errno;

use super::Dir;
use crate::error::{Result, SysResultExt};

/// The kernel's limit for one value and for the list of names.
const LIMIT: usize = 65536;

impl Dir {
    /// All extended attributes of a name, of a link itself, sorted.
    ///
    /// # Errors
    /// Those of llistxattr and lgetxattr; a file system without attributes has none.
    pub fn xattrs(&self, name: impl AsRef<Path>) -> Result<Vec<(CString, Vec<u8>)>> {
        let alias = self.alias(name.as_ref())?;
        let says = || self.says("llistxattr", name.as_ref(), "");
        // Most files have none: ask for the length first.
        let length = match rfs::llistxattr_query(&alias) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Ok(length) => length,
            Err(errno) => return Err(errno).call(says),
        };
        let mut names = vec![0; length.max(1024)];
        let length = rfs::llistxattr(&alias, &mut names[..]).call(says)?;
        let mut all = Vec::new();
        for key in names[..length].split_inclusive(|byte| *byte == 0) {
            let Ok(key) = CStr::from_bytes_with_nul(key) else {
                continue;
            };
            if let Some(value) = self.xattr(name.as_ref(), key)? {
                all.push((key.to_owned(), value));
            }
        }
        all.sort();
        Ok(all)
    }

    /// One extended attribute of a name, of a link itself; `None` where there is none.
    ///
    /// # Errors
    /// Those of lgetxattr.
    pub fn xattr(&self, name: impl AsRef<Path>, key: &CStr) -> Result<Option<Vec<u8>>> {
        let alias = self.alias(name.as_ref())?;
        let mut value = vec![0; 256];
        loop {
            match rfs::lgetxattr(&alias, key, &mut value[..]) {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(Some(value));
                }
                Err(Errno::RANGE) if value.len() < LIMIT => value = vec![0; LIMIT],
                Err(Errno::NODATA | Errno::NOTSUP | Errno::NOENT) => return Ok(None),
                Err(errno) => {
                    return Err(errno)
                        .call(|| self.says("lgetxattr", name.as_ref(), &key.to_string_lossy()));
                }
            }
        }
    }

    /// Sets an extended attribute of a name, of a link itself.
    ///
    /// # Errors
    /// Those of lsetxattr.
    pub fn set_xattr(&self, name: impl AsRef<Path>, key: &CStr, value: &[u8]) -> Result<()> {
        let alias = self.alias(name.as_ref())?;
        rfs::lsetxattr(&alias, key, value, XattrFlags::empty())
            .call(|| self.says("lsetxattr", name.as_ref(), &key.to_string_lossy()))
    }

    /// Removes an extended attribute of a name; one that is not there counts as removed.
    ///
    /// # Errors
    /// Those of lremovexattr.
    pub fn remove_xattr(&self, name: impl AsRef<Path>, key: &CStr) -> Result<()> {
        let alias = self.alias(name.as_ref())?;
        match rfs::lremovexattr(&alias, key) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => {
                Err(errno).call(|| self.says("lremovexattr", name.as_ref(), &key.to_string_lossy()))
            }
        }
    }

    /// All extended attributes of this directory, sorted.
    ///
    /// # Errors
    /// Those of flistxattr and fgetxattr.
    pub fn xattrs_self(&self) -> Result<Vec<(CString, Vec<u8>)>> {
        xattrs_of(self, self.path().display())
    }

    /// A path that leads to the directory by its descriptor and then to the name itself.
    fn alias(&self, name: &Path) -> Result<PathBuf> {
        let name = self.leaf(name, "lgetxattr")?;
        let directory = self.as_fd().as_raw_fd();
        Ok(PathBuf::from(format!("/proc/self/fd/{directory}")).join(name))
    }
}

/// All extended attributes of an open file, sorted; `what` names it in messages.
///
/// # Errors
/// Those of flistxattr and fgetxattr.
pub fn xattrs_of(file: impl AsFd, what: impl Display) -> Result<Vec<(CString, Vec<u8>)>> {
    let says = || format!("flistxattr({what})");
    let length = match rfs::flistxattr_query(&file) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Ok(length) => length,
        Err(errno) => return Err(errno).call(says),
    };
    let mut names = vec![0; length.max(1024)];
    let length = rfs::flistxattr(&file, &mut names[..]).call(says)?;
    let mut all = Vec::new();
    for key in names[..length].split_inclusive(|byte| *byte == 0) {
        let Ok(key) = CStr::from_bytes_with_nul(key) else {
            continue;
        };
        let mut value = vec![0; LIMIT];
        match rfs::fgetxattr(&file, key, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                all.push((key.to_owned(), value));
            }
            Err(Errno::NODATA) => {}
            Err(errno) => {
                return Err(errno).call(|| format!("fgetxattr({what}, {})", key.to_string_lossy()));
            }
        }
    }
    all.sort();
    Ok(all)
}

/// One extended attribute of an open file; `None` where there is none.
///
/// # Errors
/// Those of fgetxattr.
pub fn xattr_of(file: impl AsFd, key: &CStr, what: impl Display) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0; 256];
    loop {
        match rfs::fgetxattr(&file, key, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                return Ok(Some(value));
            }
            Err(Errno::RANGE) if value.len() < LIMIT => value = vec![0; LIMIT],
            Err(Errno::NODATA | Errno::NOTSUP) => return Ok(None),
            Err(errno) => {
                return Err(errno).call(|| format!("fgetxattr({what}, {})", key.to_string_lossy()));
            }
        }
    }
}

/// Sets an extended attribute of an open file; `what` names it in messages.
///
/// # Errors
/// Those of fsetxattr.
pub fn set_xattr_of(file: impl AsFd, key: &CStr, value: &[u8], what: impl Display) -> Result<()> {
    rfs::fsetxattr(file, key, value, XattrFlags::empty())
        .call(|| format!("fsetxattr({what}, {})", key.to_string_lossy()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_of_names_and_of_open_files_read_back() {
        let root = tempfile::tempdir().unwrap();
        let dir = Dir::open(root.path()).unwrap();
        let file = dir.create("f", 0o600).unwrap();
        let (small, large) = (b"\n\0=".to_vec(), vec![7; 2000]);
        dir.set_xattr("f", c"user.b", &large).unwrap();
        set_xattr_of(&file, c"user.a", &small, "f").unwrap();
        let all = vec![
            (c"user.a".to_owned(), small.clone()),
            (c"user.b".to_owned(), large),
        ];
        assert_eq!(dir.xattrs("f").unwrap(), all);
        assert_eq!(xattrs_of(&file, "f").unwrap(), all);
        assert_eq!(xattr_of(&file, c"user.a", "f").unwrap(), Some(small));
        assert_eq!(dir.xattr("f", c"user.none").unwrap(), None);
        dir.remove_xattr("f", c"user.a").unwrap();
        dir.remove_xattr("f", c"user.a").unwrap();
        assert_eq!(dir.xattrs("f").unwrap().len(), 1);
        assert!(dir.xattrs("../f").is_err());
    }
}

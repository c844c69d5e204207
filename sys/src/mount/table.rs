//! Where something is mounted and how mounts travel there, as `/proc/self/mountinfo` tells.

use std::ffi::OsString;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, StatxFlags, statx};

use crate::error::{Result, SysError, SysResultExt};

/// The mount that a file lies on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountedOn {
    /// Its place.
    pub point: PathBuf,
    /// Mounts made there travel to its copies, and theirs to it.
    pub shared: bool,
    /// Mounts travel to it from another.
    pub slave: bool,
}

impl MountedOn {
    /// The mount that an open file lies on (Linux 5.8).
    ///
    /// # Errors
    /// When `/proc` is not mounted, or the mount is none of this namespace.
    pub fn of(file: impl AsFd) -> Result<Self> {
        let path = "/proc/self/mountinfo";
        let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .call(|| "statx(file, STATX_MNT_ID)")?;
        let table = fs::read(path).call(|| format!("read({path:?})"))?;
        Self::find(&table, found.stx_mnt_id).ok_or_else(|| {
            let enoent = rustix::io::Errno::NOENT.raw_os_error();
            SysError::new(
                format!("find mount {} in {path:?}", found.stx_mnt_id),
                enoent,
            )
        })
    }

    fn find(table: &[u8], id: u64) -> Option<Self> {
        let id = id.to_string();
        let mut lines = table.split(|byte| *byte == b'\n');
        lines.find_map(|line| {
            let mut fields = line.split(|byte| *byte == b' ');
            if fields.next()? != id.as_bytes() {
                return None;
            }
            let point = plain(fields.nth(3)?);
            fields.next()?;
            let tags: Vec<&[u8]> = fields.take_while(|field| *field != b"-").collect();
            let tagged = |word: &[u8]| tags.iter().any(|tag| tag.starts_with(word));
            Some(Self {
                point: PathBuf::from(OsString::from_vec(point)),
                shared: tagged(b"shared:"),
                slave: tagged(b"master:"),
            })
        })
    }
}

/// Without the octal escapes of the table.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let code = digits.and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(text, 8).ok()
        });
        match code {
            Some(code) => {
                out.push(code);
                rest = &after[3..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_table() {
        let table = b"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
            30 21 0:5 / /a\\040b rw - tmpfs t rw\n\
            31 21 0:6 /x /c rw shared:7 master:1 - tmpfs t rw\n\
            32 21 0:7 / /d rw master:1 propagate_from:2 - tmpfs shared:9 rw\n";
        let found = |id| MountedOn::find(table, id).map(|at| (at.point, at.shared, at.slave));
        for (id, point, shared, slave) in [
            (21, "/", true, false),
            (30, "/a b", false, false),
            (31, "/c", true, true),
            (32, "/d", false, true),
        ] {
            assert_eq!(
                found(id),
                Some((PathBuf::from(point), shared, slave)),
                "{id}"
            );
        }
        assert_eq!(found(1), None);
    }

    #[test]
    fn an_open_file_lies_on_a_mount() {
        let file = fs::File::open("/proc/self/mountinfo").unwrap();
        assert_eq!(MountedOn::of(&file).unwrap().point, PathBuf::from("/proc"));
    }
}

//! Extended attributes of an entry of an open directory, never through a symbolic link.
#![allow(unsafe_code)] // getxattrat is wrapped by no library

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;

/// The same number on every architecture that rbox runs on.
const SYS_GETXATTRAT: libc::c_long = 464;

/// `struct xattr_args` of the kernel.
#[repr(C)]
struct Args {
    value: u64,
    size: u32,
    flags: u32,
}

/// The value of the attribute `attribute` of `name` in `dir`, of which `value` takes as much as it
/// holds; the length comes back. With an empty `value` the length alone is asked for.
///
/// # Errors
///
/// Those of getxattrat(2), Linux 6.13, or of lgetxattr(2) by way of `/proc` before it.
pub fn get_at(
    dir: impl AsFd,
    name: &CStr,
    attribute: &CStr,
    value: &mut [u8],
) -> std::result::Result<usize, Errno> {
    static IS_MISSING: AtomicBool = AtomicBool::new(false);
    let dir = dir.as_fd();
    if !IS_MISSING.load(Ordering::Relaxed) {
        match by_call(dir, name, attribute, value) {
            Err(Errno::NOSYS) => IS_MISSING.store(true, Ordering::Relaxed),
            other => return other,
        }
    }
    by_path(dir, name, attribute, value)
}

fn by_call(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attribute: &CStr,
    value: &mut [u8],
) -> std::result::Result<usize, Errno> {
    let args = Args {
        value: value.as_mut_ptr().expose_provenance() as u64,
        size: u32::try_from(value.len()).unwrap_or(u32::MAX),
        flags: 0,
    };
    // SAFETY: both names are C strings; `args` and the room that it names outlive the call, and its
    // size is not more than that room.
    let length = unsafe {
        libc::syscall(
            SYS_GETXATTRAT,
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            attribute.as_ptr(),
            &raw const args,
            size_of::<Args>(),
        )
    };
    match nix::Error::result(length) {
        Ok(length) => Ok(usize::try_from(length).unwrap_or(0)),
        Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
    }
}

fn by_path(
    dir: BorrowedFd<'_>,
    name: &CStr,
    attribute: &CStr,
    value: &mut [u8],
) -> std::result::Result<usize, Errno> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name.to_bytes());
    if value.is_empty() {
        return rustix::fs::lgetxattr_query(path, attribute);
    }
    rustix::fs::lgetxattr(path, attribute, value)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{XattrFlags, setxattr};

    use super::*;

    #[test]
    fn both_ways_answer_the_same() {
        let place = std::env::current_exe().unwrap();
        let place = place
            .parent()
            .unwrap()
            .join(format!("xattr-{}", std::process::id()));
        std::fs::create_dir(&place).unwrap();
        std::fs::write(place.join("f"), "").unwrap();
        std::os::unix::fs::symlink("f", place.join("link")).unwrap();
        let dir = std::fs::File::open(&place).unwrap();
        let set = setxattr(place.join("f"), c"user.a", b"value", XattrFlags::empty());
        let any = |dir: BorrowedFd<'_>, name: &CStr, attribute: &CStr, value: &mut [u8]| {
            get_at(dir, name, attribute, value)
        };
        for way in [by_call, by_path, any] {
            let get = |name, attribute, room| {
                let mut value = vec![0; room];
                let length = way(dir.as_fd(), name, attribute, &mut value)?;
                value.truncate(length);
                Ok((length, value))
            };
            if set.is_ok() {
                assert_eq!(get(c"f", c"user.a", 9), Ok((5, b"value".to_vec())));
                assert_eq!(get(c"f", c"user.a", 0), Ok((5, Vec::new())));
                assert_eq!(get(c"f", c"user.a", 2), Err(Errno::RANGE));
                assert_eq!(get(c"f", c"user.b", 9), Err(Errno::NODATA));
            }
            assert_eq!(get(c"none", c"user.a", 9), Err(Errno::NOENT));
            assert!(get(c"link", c"user.a", 9).is_err());
        }
        std::fs::remove_dir_all(&place).unwrap();
    }
}

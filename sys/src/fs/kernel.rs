//! File systems that hold no files but views of the kernel: their files have no length to go by.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

use crate::error::{Result, SysResultExt};

/// Magic numbers: proc, sysfs, cgroup of both versions, devpts, debugfs, tracefs, securityfs, bpf,
/// configfs, mqueue, efivarfs, pstore (linux/magic.h).
const VIEWS: [u32; 13] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1cd1,
    0x6462_6720,
    0x7472_6163,
    0x7363_6673,
    0xcafe_4a11,
    0x6265_6570,
    0x1980_0202,
    0xde5e_81e4,
    0x6165_676c,
];

/// Whether a file or directory lies on such a file system.
///
/// # Errors
/// Those of fstatfs.
pub fn is_kernel_view(file: impl AsFd) -> Result<bool> {
    let found = fstatfs(file).call(|| "fstatfs(file)")?;
    Ok(u32::try_from(found.f_type).is_ok_and(|magic| VIEWS.contains(&magic)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn proc_is_one_and_a_disk_is_none() {
        assert!(is_kernel_view(File::open("/proc/self/stat").unwrap()).unwrap());
        assert!(!is_kernel_view(tempfile::tempfile().unwrap()).unwrap());
    }
}

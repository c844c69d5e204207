//! Mounting a FUSE file system, and branches as detached mounts that the kernel keeps read-only.
#![allow(unsafe_code)] // mount_setattr is wrapped by no library

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags, open_tree};

use crate::error::{Result, SysError, SysResultExt};
use crate::fuse::Device;

/// The type that the mount table shows after `fuse.`.
pub const SUBTYPE: &str = "rbox-union";

const MOUNT_ATTR_RDONLY: u64 = 0x01;
const MOUNT_ATTR_NOATIME: u64 = 0x10;
const MOUNT_ATTR_ATIME_MASK: u64 = 0x70;

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Mounts the file system that is served through the device.
pub fn mount(device: &Device, source: &str, target: &Path, flags: MountFlags) -> Result<()> {
    let kind = format!("fuse.{SUBTYPE}");
    let data = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other",
        device.as_fd().as_raw_fd()
    );
    let data = CString::new(data).map_err(|_| SysError::new("mount()", libc::EINVAL))?;
    rustix::mount::mount(source, target, kind.as_str(), flags, Some(data.as_c_str()))
        .call(|| format!("mount({source:?}, {target:?}, {kind:?})"))
}

/// Changes flags such as read-only of the file system mounted at `target`.
pub fn remount(target: &Path, flags: MountFlags) -> Result<()> {
    rustix::mount::mount_remount(target, flags, c"")
        .call(|| format!("mount({target:?}, MS_REMOUNT)"))
}

/// Unmounts; `lazy` takes it out of sight at once and ends it when its last user goes.
pub fn unmount(target: &Path, lazy: bool) -> Result<()> {
    let flags = if lazy {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    rustix::mount::unmount(target, flags | UnmountFlags::NOFOLLOW)
        .call(|| format!("umount2({target:?})"))
}

/// Makes a detached clone of the mount at `path`, rooted there: without what is mounted below,
/// untouched by later mounts, and never written, access times included, unless `writable`.
pub fn branch_clone(path: &Path, writable: bool) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree =
        open_tree(CWD, path, flags).call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))?;
    let attributes = MountAttr {
        set: if writable {
            0
        } else {
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME
        },
        clear: if writable { 0 } else { MOUNT_ATTR_ATIME_MASK },
        propagation: libc::MS_PRIVATE,
        user_namespace: 0,
    };
    // SAFETY: the path is a static C string, the struct has the kernel's first layout and its
    // size is passed; both outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    nix::Error::result(answer).call(|| format!("mount_setattr({path:?})"))?;
    Ok(tree)
}

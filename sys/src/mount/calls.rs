//! The new mount API: a file system is configured, mounted detached, then attached by descriptor.

use std::ffi::OsStr;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags,
};
use serde::{Deserialize, Serialize};

use crate::error::{Result, SysResultExt};
use crate::process::checked;

/// What a mount allows, as the kernel's `MOUNT_ATTR_…` bits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes(pub u32);

impl Attributes {
    /// Nothing is written through it.
    pub const READ_ONLY: Self = Self(0x1);
    /// Set-user-id bits do not count.
    pub const NO_SUID: Self = Self(0x2);
    /// Device nodes are dead.
    pub const NO_DEV: Self = Self(0x4);
    /// No program is executed from it.
    pub const NO_EXEC: Self = Self(0x8);
    /// Access times are not kept.
    pub const NO_ATIME: Self = Self(0x10);
    /// Access times are always kept.
    pub const STRICT_ATIME: Self = Self(0x20);
    /// The three ways of keeping access times together.
    pub const ATIME_MASK: Self = Self(0x70);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// How mounts and unmounts travel between copies of a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// Not at all.
    Private,
    /// In both directions.
    Shared,
    /// From the host only.
    Slave,
    /// Not at all, and it cannot be bound.
    Unbindable,
}

impl Propagation {
    fn bits(self) -> u64 {
        match self {
            Propagation::Private => libc::MS_PRIVATE,
            Propagation::Shared => libc::MS_SHARED,
            Propagation::Slave => libc::MS_SLAVE,
            Propagation::Unbindable => libc::MS_UNBINDABLE,
        }
    }
}

/// A mount that is attached nowhere: it vanishes with its descriptor unless attached before.
#[derive(Debug)]
pub struct Detached(OwnedFd);

impl AsFd for Detached {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Detached> for OwnedFd {
    fn from(mount: Detached) -> Self {
        mount.0
    }
}

/// A file system that is being configured.
#[derive(Debug)]
pub struct Filesystem {
    context: OwnedFd,
    kind: String,
}

impl Filesystem {
    /// Begins a file system of this type.
    ///
    /// # Errors
    /// `ENODEV` when the kernel has no such type, `EPERM`.
    pub fn open(kind: &str) -> Result<Self> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
            .call(|| format!("fsopen({kind:?})"))?;
        Ok(Self {
            context,
            kind: kind.to_owned(),
        })
    }

    /// Sets an option that has a value.
    ///
    /// # Errors
    /// `EINVAL` for an option or value that the type refuses.
    pub fn set(&self, key: &str, value: &OsStr) -> Result<()> {
        rustix::mount::fsconfig_set_string(self.context.as_fd(), key, value)
            .call(|| self.told(format!("fsconfig({}, {key:?}, {value:?})", self.kind)))
    }

    /// Sets an option that has none.
    ///
    /// # Errors
    /// `EINVAL` for an option that the type refuses.
    pub fn flag(&self, key: &str) -> Result<()> {
        rustix::mount::fsconfig_set_flag(self.context.as_fd(), key)
            .call(|| self.told(format!("fsconfig({}, {key:?})", self.kind)))
    }

    /// Sets an option whose value is an open file.
    ///
    /// # Errors
    /// `EINVAL` where the type takes no descriptor for it.
    pub fn descriptor(&self, key: &str, value: BorrowedFd<'_>) -> Result<()> {
        rustix::mount::fsconfig_set_fd(self.context.as_fd(), key, value)
            .call(|| self.told(format!("fsconfig({}, {key:?}, fd)", self.kind)))
    }

    /// Makes the file system and mounts it, attached nowhere yet.
    ///
    /// # Errors
    /// What the type says.
    pub fn mount(self, attributes: Attributes) -> Result<Detached> {
        let kind = &self.kind;
        rustix::mount::fsconfig_create(self.context.as_fd())
            .call(|| self.told(format!("fsconfig({kind}, FSCONFIG_CMD_CREATE)")))?;
        rustix::mount::fsmount(
            self.context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::from_bits_retain(attributes.0),
        )
        .map(Detached)
        .call(|| self.told(format!("fsmount({kind}, {:#x})", attributes.0)))
    }

    /// A call that failed, with what the type says of it: the error number alone seldom tells.
    fn told(&self, call: String) -> String {
        let mut said = Vec::new();
        let mut message = [0; 512];
        // Each read takes one message out: `e overlay: …`.
        while let Ok(length @ 1..) = rustix::io::read(&self.context, &mut message) {
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if let Some(error) = text.trim_end().strip_prefix("e ") {
                said.push(error.to_owned());
            }
        }
        match said.is_empty() {
            true => call,
            false => format!("{call} ({})", said.join("; ")),
        }
    }
}

/// Attaches a detached mount on what a descriptor names (a directory, or a file for a file).
///
/// # Errors
/// `ENOTDIR` when one is a directory and the other is not.
pub fn attach(mount: impl AsFd, target: BorrowedFd<'_>) -> Result<()> {
    rustix::mount::move_mount(
        mount.as_fd(),
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
    .call(|| "move_mount(fd, fd)")
}

/// A detached copy of the tree of mounts at a path; `recursive` takes the mounts below it along.
///
/// # Errors
/// `ENOENT`, `EINVAL` for something unbindable.
pub fn open_tree(path: &Path, recursive: bool) -> Result<Detached> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::OPEN_TREE_CLONE;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(CWD, path, flags)
        .map(Detached)
        .call(|| format!("open_tree({path:?}, OPEN_TREE_CLONE)"))
}

/// A mount that somebody else has taken off and handed over as a path to his descriptor
/// (`/proc/<pid>/fd/<n>`); it is moved, not copied.
///
/// # Errors
/// `ENOENT` when the descriptor is closed by now.
pub fn take_detached(path: &Path) -> Result<Detached> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, rustix::fs::Mode::empty())
        .map(Detached)
        .call(|| format!("open({path:?}, O_PATH)"))
}

/// The same of what a descriptor names.
///
/// # Errors
/// `EINVAL` for something unbindable or of another mount namespace.
pub fn bind_attached(what: BorrowedFd<'_>, recursive: bool) -> Result<Detached> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    rustix::mount::open_tree(what, "", flags)
        .map(Detached)
        .call(|| "open_tree(fd, \"\", OPEN_TREE_CLONE)")
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
pub(super) struct MountAttr {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) propagation: u64,
    pub(super) user_namespace: u64,
}

/// Changes what a mount (and, if recursive, those below it) allows and how it propagates.
///
/// # Errors
/// `EPERM` for a flag locked by another user namespace.
pub fn set_attributes(
    mount: impl AsFd,
    recursive: bool,
    set: Attributes,
    clear: Attributes,
    propagation: Option<Propagation>,
) -> Result<()> {
    let attributes = MountAttr {
        set: set.0.into(),
        clear: clear.0.into(),
        propagation: propagation.map_or(0, Propagation::bits),
        user_namespace: 0,
    };
    setattr(mount.as_fd().as_raw_fd(), c"", recursive, &attributes)
}

/// Cuts all mounts of this mount namespace off from those of others.
///
/// # Errors
/// `EPERM`.
pub fn make_private() -> Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", flags).call(|| "mount(\"/\", MS_REC|MS_PRIVATE)")
}

pub(super) fn setattr(
    directory: i32,
    path: &std::ffi::CStr,
    recursive: bool,
    attributes: &MountAttr,
) -> Result<()> {
    const RECURSIVE: i32 = 0x8000;
    let flags = libc::AT_EMPTY_PATH | if recursive { RECURSIVE } else { 0 };
    // SAFETY: path and structure are whole and outlive the call, which only reads them.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    };
    checked(answer, || {
        format!(
            "mount_setattr({{set={:#x}, clear={:#x}, propagation={:#x}}})",
            attributes.set, attributes.clear, attributes.propagation
        )
    })
    .map(drop)
}

/// Makes the mount that `root` names the root of this mount namespace and lets the old one go.
///
/// # Errors
/// `EINVAL` when it is no mount point or its parent is shared.
pub fn change_root(root: BorrowedFd<'_>) -> Result<()> {
    rustix::process::fchdir(root).call(|| "fchdir(root)")?;
    // Both arguments the same: the old root ends up above the new one, where it is taken away.
    rustix::process::pivot_root(".", ".").call(|| "pivot_root(\".\", \".\")")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).call(|| "umount2(\".\", MNT_DETACH)")?;
    rustix::process::chdir("/").call(|| "chdir(\"/\")")
}

/// Takes a mount away, with what is below it, as soon as nobody uses it any more.
///
/// # Errors
/// `EINVAL` when the path is no mount point.
pub fn detach(path: &Path) -> Result<()> {
    rustix::mount::unmount(path, UnmountFlags::DETACH)
        .call(|| format!("umount2({path:?}, MNT_DETACH)"))
}

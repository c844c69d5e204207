//! Namespaces as descriptors: open, join, create.

// The ioctls and setns on several kinds at once have no safe wrapper.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Result, SysError, SysResultExt};
use crate::process::{CloneFlags, checked};

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Mounts.
    Mount,
    /// Links, addresses, ports, firewall.
    Network,
    /// Process ids.
    Pid,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// The root of the cgroup view.
    Cgroup,
    /// Users and capabilities.
    User,
    /// Offsets of the monotonic and boot clocks.
    Time,
}

impl Kind {
    /// The bit in `clone` and `setns`.
    pub fn flag(self) -> i32 {
        match self {
            Kind::Mount => libc::CLONE_NEWNS,
            Kind::Network => libc::CLONE_NEWNET,
            Kind::Pid => libc::CLONE_NEWPID,
            Kind::Ipc => libc::CLONE_NEWIPC,
            Kind::Uts => libc::CLONE_NEWUTS,
            Kind::Cgroup => libc::CLONE_NEWCGROUP,
            Kind::User => libc::CLONE_NEWUSER,
            Kind::Time => 0x80,
        }
    }

    /// The name of its file below `/proc/PID/ns`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Mount => "mnt",
            Kind::Network => "net",
            Kind::Pid => "pid",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Cgroup => "cgroup",
            Kind::User => "user",
            Kind::Time => "time",
        }
    }
}

/// The bits of several kinds.
pub fn flags(kinds: &[Kind]) -> CloneFlags {
    CloneFlags(kinds.iter().fold(0, |all, kind| all | kind.flag() as u64))
}

/// Opens a namespace by the path of its file and checks that it is one, of this kind.
///
/// # Errors
/// `ENOENT` when its process is gone, `EINVAL` when the file is no such namespace.
pub fn open(path: &Path, kind: Kind) -> Result<OwnedFd> {
    const NS_GET_NSTYPE: u64 = 0xb703;
    let file = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .call(|| format!("open({path:?})"))?;
    // SAFETY: the request takes no argument; on a file that is no namespace it fails.
    let found = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
    if found == kind.flag() {
        Ok(file)
    } else {
        let call = format!("ioctl({path:?}, NS_GET_NSTYPE) is not {}", kind.name());
        Err(SysError::new(call, libc::EINVAL))
    }
}

/// The network namespace of a process: by its pidfd (Linux 6.11), else by its id.
///
/// # Errors
/// `ESRCH` or `ENOENT` when the process is gone.
pub fn network_of(process: BorrowedFd<'_>, pid: i32) -> Result<OwnedFd> {
    const PIDFD_GET_NET_NAMESPACE: u64 = 0xff04;
    // SAFETY: the request takes no pointer; its answer is a new descriptor or -1.
    let answer = unsafe { libc::ioctl(process.as_raw_fd(), PIDFD_GET_NET_NAMESPACE, 0) };
    if answer >= 0 {
        // SAFETY: the kernel has just made this descriptor for us.
        return Ok(unsafe { OwnedFd::from_raw_fd(answer) });
    }
    open(Path::new(&format!("/proc/{pid}/ns/net")), Kind::Network)
}

/// Joins a namespace by its descriptor, or several of a process by its pidfd.
///
/// The pid namespace is that of later children; a mount namespace moves root and cwd into it.
///
/// # Errors
/// `EPERM` without the privilege, `ESRCH` when the process is gone, `EINVAL` from a process with
/// threads for mount and user namespaces.
pub fn join(what: BorrowedFd<'_>, kinds: &[Kind]) -> Result<()> {
    let all = kinds.iter().fold(0, |all, kind| all | kind.flag());
    // SAFETY: the call takes two numbers.
    let answer = unsafe { libc::setns(what.as_raw_fd(), all) };
    checked(answer.into(), || format!("setns({all:#x})")).map(drop)
}

/// Leaves the shared namespaces of these kinds for new ones.
///
/// # Errors
/// `EPERM` without the privilege, `ENOSPC` when there are too many.
pub fn unshare(kinds: &[Kind]) -> Result<()> {
    let all = kinds.iter().fold(0, |all, kind| all | kind.flag());
    // SAFETY: the call takes a number; none of the kinds shares memory or descriptors.
    let answer = unsafe { libc::unshare(all) };
    checked(answer.into(), || format!("unshare({all:#x})")).map(drop)
}

//! The FUSE device: reading requests, writing replies, registering files for passthrough.
#![allow(unsafe_code)] // the device's own ioctls are wrapped by no library

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::{Result, SysResultExt};

const IOC_CLONE: libc::Ioctl = 0x8004_e500;
const IOC_BACKING_OPEN: libc::Ioctl = 0x4010_e501;
const IOC_BACKING_CLOSE: libc::Ioctl = 0x4004_e502;

/// The kernel's number for a file that reads and writes are passed through to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackingId(pub i32);

/// An open FUSE device: one queue of requests of one mount.
#[derive(Debug)]
pub struct Device {
    fd: OwnedFd,
}

#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

impl Device {
    /// Opens `/dev/fuse`; the descriptor belongs to no mount yet.
    pub fn open() -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let fd = openat(CWD, "/dev/fuse", flags, Mode::empty())
            .call(|| "open(\"/dev/fuse\", O_RDWR)")?;
        Ok(Self { fd })
    }

    /// Goes on with the descriptor of a server that is dead.
    pub fn inherited(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Opens a further queue of the same mount, for another thread.
    pub fn another_queue(&self) -> Result<Self> {
        let device = Self::open()?;
        let mut source = self.fd.as_raw_fd();
        // SAFETY: FUSE_DEV_IOC_CLONE reads one u32 through the pointer, which outlives the call.
        let answer = unsafe { libc::ioctl(device.fd.as_raw_fd(), IOC_CLONE, &raw mut source) };
        nix::Error::result(answer).call(|| "ioctl(FUSE_DEV_IOC_CLONE)")?;
        Ok(device)
    }

    /// Waits for a request and reads it whole; the buffer must hold the largest one.
    pub fn read(&self, buffer: &mut [u8]) -> std::result::Result<usize, Errno> {
        rustix::io::read(&self.fd, buffer)
    }

    /// Writes one reply or notification, given in parts.
    pub fn write(&self, parts: &[IoSlice<'_>]) -> std::result::Result<(), Errno> {
        rustix::io::writev(&self.fd, parts).map(|_| ())
    }

    /// Registers an open file; opens that name the number are served by the kernel from it.
    pub fn backing_open(&self, file: BorrowedFd<'_>) -> std::result::Result<BackingId, Errno> {
        let mut map = BackingMap {
            fd: file.as_raw_fd(),
            flags: 0,
            padding: 0,
        };
        // SAFETY: the ioctl reads one fuse_backing_map, the layout of `map`, which outlives it.
        let id = unsafe { libc::ioctl(self.fd.as_raw_fd(), IOC_BACKING_OPEN, &raw mut map) };
        match nix::Error::result(id) {
            Ok(id) => Ok(BackingId(id)),
            Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
        }
    }

    /// Gives a number back; opens that use it go on.
    pub fn backing_close(&self, id: BackingId) {
        let mut id = id.0;
        // SAFETY: the ioctl reads one u32 through the pointer, which outlives the call.
        let _ = unsafe { libc::ioctl(self.fd.as_raw_fd(), IOC_BACKING_CLOSE, &raw mut id) };
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

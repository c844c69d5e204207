//! Flags of inodes: immutable, append-only, project and the like, as `chattr` sets them.
#![allow(unsafe_code)] // two of the four ioctls are wrapped by no library

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// The numbers of the four requests, as a 64-bit program asks them.
const GET_FLAGS: u32 = 0x8008_6601;
const SET_FLAGS: u32 = 0x4008_6602;
const GET_EXTENDED: u32 = 0x801c_581f;
const SET_EXTENDED: u32 = 0x401c_5820;

/// A request about an inode's flags; its answer or its argument is a number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlagsRequest {
    /// `FS_IOC_GETFLAGS` (4 bytes).
    Get,
    /// `FS_IOC_SETFLAGS` (4 bytes).
    Set,
    /// `FS_IOC_FSGETXATTR` (28 bytes).
    GetExtended,
    /// `FS_IOC_FSSETXATTR` (28 bytes).
    SetExtended,
}

impl FlagsRequest {
    /// The request of a number; nothing for other ioctls.
    pub fn of(number: u32) -> Option<Self> {
        match number {
            GET_FLAGS => Some(Self::Get),
            SET_FLAGS => Some(Self::Set),
            GET_EXTENDED => Some(Self::GetExtended),
            SET_EXTENDED => Some(Self::SetExtended),
            _ => None,
        }
    }

    /// Whether it changes the inode.
    pub fn changes(self) -> bool {
        matches!(self, Self::Set | Self::SetExtended)
    }

    /// Carries it out on an open file or directory; the bytes are the argument, or the answer.
    pub fn carry_out(self, file: impl AsFd, bytes: &mut [u8]) -> Result<(), Errno> {
        let (number, size) = match self {
            Self::Get => (GET_FLAGS, 4),
            Self::Set => (SET_FLAGS, 4),
            Self::GetExtended => (GET_EXTENDED, 28),
            Self::SetExtended => (SET_EXTENDED, 28),
        };
        if bytes.len() != size {
            return Err(Errno::INVAL);
        }
        call(file.as_fd(), number, bytes)
    }
}

fn call(file: BorrowedFd<'_>, number: u32, bytes: &mut [u8]) -> Result<(), Errno> {
    // The kernel reads or writes words: the bytes may lie anywhere.
    let mut words = [0_u32; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
    }
    // SAFETY: each of the four requests reads or writes at most 28 bytes through the pointer; the
    // words are 32 and outlive the call.
    let answer = unsafe {
        libc::ioctl(
            file.as_raw_fd(),
            libc::Ioctl::from(number),
            words.as_mut_ptr(),
        )
    };
    nix::Error::result(answer).map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    for (word, bytes) in words.iter().zip(bytes.chunks_exact_mut(4)) {
        bytes.copy_from_slice(&word.to_ne_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_four_requests_only() {
        assert_eq!(FlagsRequest::of(GET_FLAGS), Some(FlagsRequest::Get));
        assert_eq!(FlagsRequest::of(0x8004_6601), None);
        assert!(FlagsRequest::SetExtended.changes() && !FlagsRequest::Get.changes());
        let file = tempfile::tempfile().unwrap();
        assert_eq!(
            FlagsRequest::Get.carry_out(&file, &mut [0; 3]),
            Err(Errno::INVAL)
        );
    }
}

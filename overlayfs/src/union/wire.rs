//! The FUSE protocol's bytes: numbers, a reader of requests, a writer of replies.
//!
//! Knows layouts only; what a request means is the server's matter.

use std::ffi::CStr;

use rustix::fs::Statx;
use rustix::io::Errno;

/// Operation codes of requests.
pub(crate) mod op {
    pub(crate) const LOOKUP: u32 = 1;
    pub(crate) const FORGET: u32 = 2;
    pub(crate) const GETATTR: u32 = 3;
    pub(crate) const SETATTR: u32 = 4;
    pub(crate) const READLINK: u32 = 5;
    pub(crate) const SYMLINK: u32 = 6;
    pub(crate) const MKNOD: u32 = 8;
    pub(crate) const MKDIR: u32 = 9;
    pub(crate) const UNLINK: u32 = 10;
    pub(crate) const RMDIR: u32 = 11;
    pub(crate) const RENAME: u32 = 12;
    pub(crate) const LINK: u32 = 13;
    pub(crate) const OPEN: u32 = 14;
    pub(crate) const READ: u32 = 15;
    pub(crate) const WRITE: u32 = 16;
    pub(crate) const STATFS: u32 = 17;
    pub(crate) const RELEASE: u32 = 18;
    pub(crate) const FSYNC: u32 = 20;
    pub(crate) const SETXATTR: u32 = 21;
    pub(crate) const GETXATTR: u32 = 22;
    pub(crate) const LISTXATTR: u32 = 23;
    pub(crate) const REMOVEXATTR: u32 = 24;
    pub(crate) const INIT: u32 = 26;
    pub(crate) const OPENDIR: u32 = 27;
    pub(crate) const READDIR: u32 = 28;
    pub(crate) const RELEASEDIR: u32 = 29;
    pub(crate) const FSYNCDIR: u32 = 30;
    pub(crate) const CREATE: u32 = 35;
    pub(crate) const DESTROY: u32 = 38;
    pub(crate) const IOCTL: u32 = 39;
    pub(crate) const BATCH_FORGET: u32 = 42;
    pub(crate) const FALLOCATE: u32 = 43;
    pub(crate) const READDIRPLUS: u32 = 44;
    pub(crate) const RENAME2: u32 = 45;
    pub(crate) const LSEEK: u32 = 46;
    pub(crate) const COPY_FILE_RANGE: u32 = 47;
    pub(crate) const TMPFILE: u32 = 51;
    pub(crate) const STATX: u32 = 52;
    pub(crate) const COPY_FILE_RANGE_64: u32 = 53;
}

/// Capabilities agreed on in INIT.
pub(crate) mod cap {
    pub(crate) const ASYNC_READ: u64 = 1;
    pub(crate) const ATOMIC_O_TRUNC: u64 = 1 << 3;
    /// `.` and `..` can be looked up, by which files are opened by handle.
    pub(crate) const EXPORT_SUPPORT: u64 = 1 << 4;
    pub(crate) const BIG_WRITES: u64 = 1 << 5;
    pub(crate) const DONT_MASK: u64 = 1 << 6;
    pub(crate) const IOCTL_DIR: u64 = 1 << 11;
    pub(crate) const AUTO_INVAL_DATA: u64 = 1 << 12;
    pub(crate) const DO_READDIRPLUS: u64 = 1 << 13;
    pub(crate) const READDIRPLUS_AUTO: u64 = 1 << 14;
    pub(crate) const ASYNC_DIO: u64 = 1 << 15;
    pub(crate) const PARALLEL_DIROPS: u64 = 1 << 18;
    pub(crate) const POSIX_ACL: u64 = 1 << 20;
    pub(crate) const MAX_PAGES: u64 = 1 << 22;
    pub(crate) const CACHE_SYMLINKS: u64 = 1 << 23;
    pub(crate) const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    pub(crate) const SETXATTR_EXT: u64 = 1 << 29;
    pub(crate) const INIT_EXT: u64 = 1 << 30;
    pub(crate) const PASSTHROUGH: u64 = 1 << 37;
    /// What was read and not answered can be asked for again.
    pub(crate) const HAS_RESEND: u64 = 1 << 39;
    /// The mount may be given other owners; only what makes objects tells who asks.
    pub(crate) const ALLOW_IDMAP: u64 = 1 << 40;
    pub(crate) const OVER_IO_URING: u64 = 1 << 41;
}

/// Bits of SETATTR's mask.
pub(crate) mod set {
    pub(crate) const MODE: u32 = 1;
    pub(crate) const UID: u32 = 2;
    pub(crate) const GID: u32 = 4;
    pub(crate) const SIZE: u32 = 8;
    pub(crate) const ATIME: u32 = 16;
    pub(crate) const MTIME: u32 = 32;
    pub(crate) const FH: u32 = 64;
    pub(crate) const ATIME_NOW: u32 = 128;
    pub(crate) const MTIME_NOW: u32 = 256;
    pub(crate) const KILL_SUIDGID: u32 = 2048;
}

/// Flags of an answer to OPEN.
pub(crate) mod fopen {
    pub(crate) const KEEP_CACHE: u32 = 2;
    pub(crate) const CACHE_DIR: u32 = 8;
    pub(crate) const NOFLUSH: u32 = 32;
    pub(crate) const PARALLEL_DIRECT_WRITES: u32 = 64;
    pub(crate) const PASSTHROUGH: u32 = 128;
}

/// Codes of notifications.
pub(crate) mod notify {
    pub(crate) const INVAL_INODE: i32 = 2;
    pub(crate) const INVAL_ENTRY: i32 = 3;
    /// All requests that were read and not answered come again.
    pub(crate) const RESEND: i32 = 7;
    /// Flag of INVAL_ENTRY: the name is looked up anew and stays if it is the same.
    pub(crate) const EXPIRE_ONLY: u32 = 1;
}

pub(crate) const IN_HEADER: usize = 40;
pub(crate) const OUT_HEADER: usize = 16;

/// A request's header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) opcode: u32,
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The mark on the number of a request that another server has read.
const RESENT: u64 = 1 << 63;

impl Header {
    /// Whether another server has read the request, and may have carried it out.
    pub(crate) fn is_resent(&self) -> bool {
        self.unique & RESENT != 0
    }

    /// The number that the request had when it was read first.
    pub(crate) fn first_unique(&self) -> u64 {
        self.unique & !RESENT
    }

    /// The length of the whole request, and its header.
    fn read(bytes: &[u8]) -> Result<(usize, Self), Errno> {
        let mut args = Args {
            rest: bytes.get(..IN_HEADER).ok_or(Errno::INVAL)?,
            others: &[],
        };
        let length = args.u32()? as usize;
        let header = Self {
            opcode: args.u32()?,
            unique: args.u64()?,
            node: args.u64()?,
            uid: args.u32()?,
            gid: args.u32()?,
        };
        Ok((length, header))
    }
}

/// Reads a request's arguments from front to back.
///
/// A ring hands the first one over apart from the others; no field lies in both.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Args<'a> {
    rest: &'a [u8],
    others: &'a [u8],
}

impl<'a> Args<'a> {
    /// Splits a request into header and arguments.
    pub(crate) fn split(bytes: &'a [u8]) -> Result<(Header, Self), Errno> {
        let (length, header) = Header::read(bytes)?;
        let rest = bytes.get(IN_HEADER..length).ok_or(Errno::IO)?;
        Ok((header, Self { rest, others: &[] }))
    }

    /// Reads a request that a ring has handed over in three parts, of which the second may be
    /// longer than what is in it.
    pub(crate) fn of_parts(
        header: &[u8],
        first: &'a [u8],
        others: &'a [u8],
    ) -> Result<(Header, Self), Errno> {
        let (length, header) = Header::read(header)?;
        let length = length
            .checked_sub(IN_HEADER + others.len())
            .ok_or(Errno::IO)?;
        let rest = first.get(..length).ok_or(Errno::IO)?;
        Ok((header, Self { rest, others }))
    }

    /// What is read from now on.
    fn rest(&mut self) -> &'a [u8] {
        if self.rest.is_empty() {
            self.rest = std::mem::take(&mut self.others);
        }
        self.rest
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (taken, rest) = self.rest().split_at_checked(count).ok_or(Errno::INVAL)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        let bytes: [u8; 8] = self.bytes(8)?.try_into().map_err(|_| Errno::INVAL)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    pub(crate) fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = CStr::from_bytes_until_nul(self.rest()).map_err(|_| Errno::INVAL)?;
        self.rest = &self.rest[name.count_bytes() + 1..];
        Ok(name)
    }
}

/// What is written into a reply.
pub(crate) trait Put {
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    fn zeros(&mut self, count: usize);
    fn attr(&mut self, ino: u64, nlink: u32, stat: &Statx);
}

impl Put for Vec<u8> {
    fn u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_ne_bytes());
    }

    fn zeros(&mut self, count: usize) {
        self.resize(self.len() + count, 0);
    }

    fn attr(&mut self, ino: u64, nlink: u32, stat: &Statx) {
        self.u64(ino);
        self.u64(stat.stx_size);
        self.u64(stat.stx_blocks);
        for time in [&stat.stx_atime, &stat.stx_mtime, &stat.stx_ctime] {
            self.u64(time.tv_sec.cast_unsigned());
        }
        for time in [&stat.stx_atime, &stat.stx_mtime, &stat.stx_ctime] {
            self.u32(time.tv_nsec);
        }
        self.u32(u32::from(stat.stx_mode));
        self.u32(nlink);
        self.u32(stat.stx_uid);
        self.u32(stat.stx_gid);
        self.u32(device_number(stat.stx_rdev_major, stat.stx_rdev_minor));
        self.u32(stat.stx_blksize);
        self.u32(0);
    }
}

/// A device number as the kernel writes it into 32 bits.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// Major and minor of a device number of 32 bits.
pub(crate) fn device_parts(number: u32) -> (u32, u32) {
    (
        (number >> 8) & 0xfff,
        (number & 0xff) | ((number >> 12) & 0xf_ff00),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [(0, 0), (8, 1), (10, 229), (259, 70_000), (0xfff, 0xf_ffff)] {
            assert_eq!(device_parts(device_number(major, minor)), (major, minor));
        }
    }

    #[test]
    fn short_requests_are_refused() {
        assert!(Args::split(&[0; 39]).is_err());
        let mut request = vec![0; 44];
        request[..4].copy_from_slice(&60_u32.to_ne_bytes());
        assert!(Args::split(&request).is_err());
        request[..4].copy_from_slice(&44_u32.to_ne_bytes());
        let (_, mut args) = Args::split(&request).unwrap();
        assert_eq!(args.u32(), Ok(0));
        assert_eq!(args.u32(), Err(Errno::INVAL));
    }

    #[test]
    fn requests_in_parts_read_as_whole_ones() {
        // A RENAME2 with its fixed argument of 16 bytes and two names.
        let mut fixed = [0_u8; 128];
        fixed[..8].copy_from_slice(&7_u64.to_ne_bytes());
        let names = b"from\0to\0";
        let mut header = vec![0; 128];
        let length = u32::try_from(IN_HEADER + 16 + names.len()).unwrap();
        header[..4].copy_from_slice(&length.to_ne_bytes());
        header[4..8].copy_from_slice(&op::RENAME2.to_ne_bytes());
        let (read, mut args) = Args::of_parts(&header, &fixed, names).unwrap();
        assert_eq!(read.opcode, op::RENAME2);
        assert_eq!((args.u64(), args.u32(), args.u32()), (Ok(7), Ok(0), Ok(0)));
        assert_eq!((args.name(), args.name()), (Ok(c"from"), Ok(c"to")));
        assert!(args.name().is_err());

        // A LOOKUP has no fixed argument: what lies there is of an earlier request.
        let length = u32::try_from(IN_HEADER + names.len()).unwrap();
        header[..4].copy_from_slice(&length.to_ne_bytes());
        let (_, mut args) = Args::of_parts(&header, &fixed, names).unwrap();
        assert_eq!(args.name(), Ok(c"from"));
        header[..4].copy_from_slice(&1_u32.to_ne_bytes());
        assert!(Args::of_parts(&header, &fixed, names).is_err());
    }

    #[test]
    fn attributes_have_the_kernels_size() {
        let mut reply = Vec::new();
        let stat = rustix::fs::statx(
            rustix::fs::CWD,
            "/",
            rustix::fs::AtFlags::empty(),
            rustix::fs::StatxFlags::BASIC_STATS,
        )
        .unwrap();
        reply.attr(1, 1, &stat);
        assert_eq!(reply.len(), 88);
    }
}

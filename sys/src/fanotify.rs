//! Watching directories for changes: fanotify, which names what changed and who changed it.
#![allow(unsafe_code)] // fanotify and file handles are wrapped by no library

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::error::{Result, SysResultExt};

/// What names a directory in an event, also when nothing of it is open: its file system's number
/// and its file handle.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DirKey(Box<[u8]>);

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Happened(u64);

/// One event: what happened to which name of which directory, and by which process.
#[derive(Debug)]
pub struct Event<'a> {
    /// What.
    pub happened: Happened,
    /// The process that did it, 0 if it is in another process namespace.
    pub process: i32,
    /// The directory; none when events were lost.
    pub dir: Option<DirKey>,
    /// The name in it; `.` for the directory itself.
    pub name: &'a CStr,
}

const NAMES: u64 = libc::FAN_CREATE | libc::FAN_DELETE | libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
const ATTRIBUTES: u64 = libc::FAN_MODIFY | libc::FAN_ATTRIB;

impl Happened {
    /// A name came or went.
    pub fn names(self) -> bool {
        self.0 & NAMES != 0
    }

    /// Content or attributes changed.
    pub fn attributes(self) -> bool {
        self.0 & ATTRIBUTES != 0
    }

    /// It happened to a directory.
    pub fn to_directory(self) -> bool {
        self.0 & libc::FAN_ONDIR != 0
    }

    /// Events were lost: anything may have happened.
    pub fn overflow(self) -> bool {
        self.0 & libc::FAN_Q_OVERFLOW != 0
    }
}

/// A set of watched directories.
#[derive(Debug)]
pub struct Watcher {
    fd: OwnedFd,
}

fn errno(answer: libc::c_int) -> std::result::Result<libc::c_int, Errno> {
    match nix::Error::result(answer) {
        Ok(answer) => Ok(answer),
        Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
    }
}

impl Watcher {
    /// A watcher of nothing; without limits where the caller has the power for it.
    pub fn open() -> Result<Self> {
        let plain = libc::FAN_CLASS_NOTIF | libc::FAN_CLOEXEC | libc::FAN_REPORT_DFID_NAME;
        let without_limits = plain | libc::FAN_UNLIMITED_QUEUE | libc::FAN_UNLIMITED_MARKS;
        let open = |flags| {
            // SAFETY: fanotify_init takes two plain numbers.
            errno(unsafe { libc::fanotify_init(flags, 0) })
        };
        let fd = open(without_limits)
            .or_else(|_| open(plain))
            .call(|| "fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_DFID_NAME)")?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    fn mark(
        &self,
        flags: libc::c_uint,
        dir: Option<BorrowedFd<'_>>,
    ) -> std::result::Result<(), Errno> {
        let mask = NAMES | ATTRIBUTES | libc::FAN_ONDIR | libc::FAN_EVENT_ON_CHILD;
        let fd = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
        // SAFETY: the path is a static C string; the rest are plain numbers.
        let answer =
            unsafe { libc::fanotify_mark(self.fd.as_raw_fd(), flags, mask, fd, c".".as_ptr()) };
        errno(answer).map(drop)
    }

    /// Watches a directory; watched already is success.
    pub fn add(&self, dir: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
        self.mark(libc::FAN_MARK_ADD | libc::FAN_MARK_ONLYDIR, Some(dir))
    }

    /// Ends the watch of a directory.
    pub fn remove(&self, dir: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
        self.mark(libc::FAN_MARK_REMOVE | libc::FAN_MARK_ONLYDIR, Some(dir))
    }

    /// Passes over what is written through one mount, given by anything in it; what is written by
    /// another way is told of as before.
    pub fn pass_over(&self, mount: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
        let flags = libc::FAN_MARK_ADD
            | libc::FAN_MARK_MOUNT
            | libc::FAN_MARK_IGNORED_MASK
            | libc::FAN_MARK_IGNORED_SURV_MODIFY;
        let (group, mount) = (self.fd.as_raw_fd(), mount.as_raw_fd());
        // SAFETY: the path is a static C string; the rest are plain numbers.
        errno(unsafe { libc::fanotify_mark(group, flags, libc::FAN_MODIFY, mount, c".".as_ptr()) })
            .map(drop)
    }

    /// Ends all watches of directories.
    pub fn clear(&self) {
        let _ = self.mark(libc::FAN_MARK_FLUSH, None);
    }

    /// Waits for events and calls `each` with every one; the buffer bounds how many at a time.
    pub fn wait(
        &self,
        buffer: &mut [u8],
        mut each: impl FnMut(Event<'_>),
    ) -> std::result::Result<(), Errno> {
        let length = rustix::io::read(&self.fd, &mut *buffer)?;
        let mut rest = &buffer[..length];
        while let Some(event_length) = number(rest, 0) {
            let Some((event, next)) = rest.split_at_checked(event_length as usize) else {
                break;
            };
            if event.len() < METADATA {
                break;
            }
            each(parse(event));
            rest = next;
        }
        Ok(())
    }
}

const METADATA: usize = 24;

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// `event_len:4 vers:1 reserved:1 metadata_len:2 mask:8 fd:4 pid:4`, then records
/// `type:1 pad:1 len:2 fsid:8 handle_bytes:4 handle_type:4 handle name`.
fn parse(event: &[u8]) -> Event<'_> {
    let word = |at| u64::from(number(event, at).unwrap_or(0));
    let mut parsed = Event {
        happened: Happened(word(8) | word(12) << 32),
        process: number(event, 20).unwrap_or(0).cast_signed(),
        dir: None,
        name: c".",
    };
    let mut rest = &event[METADATA..];
    while let (Some(&kind), Some(length)) = (rest.first(), number(rest, 0).map(|head| head >> 16)) {
        let Some((record, next)) = rest.split_at_checked(length as usize) else {
            break;
        };
        let end = 20 + number(record, 12).unwrap_or(0) as usize;
        let is_dir =
            kind == libc::FAN_EVENT_INFO_TYPE_DFID_NAME || kind == libc::FAN_EVENT_INFO_TYPE_DFID;
        if let (true, Some(bytes)) = (is_dir, record.get(4..end)) {
            parsed.dir = Some(DirKey(bytes.into()));
            if let Ok(name) = CStr::from_bytes_until_nul(&record[end..]) {
                parsed.name = name;
            }
        }
        if length == 0 {
            break;
        }
        rest = next;
    }
    parsed
}

const MAX_HANDLE: usize = 128;

#[repr(C)]
struct Handle {
    length: u32,
    kind: i32,
    bytes: [u8; MAX_HANDLE],
}

impl DirKey {
    /// The key that events name a directory by.
    pub fn of(dir: BorrowedFd<'_>) -> std::result::Result<Self, Errno> {
        let fsid = rustix::fs::fstatvfs(dir)?.f_fsid;
        let mut handle = Handle {
            length: MAX_HANDLE as u32,
            kind: 0,
            bytes: [0; MAX_HANDLE],
        };
        let ask = |handle: &mut Handle, flags| {
            let mut mount = 0;
            // SAFETY: the path is a static C string; the handle says how much room it has and
            // it and the mount's number outlive the call.
            errno(unsafe {
                libc::name_to_handle_at(
                    dir.as_raw_fd(),
                    c"".as_ptr(),
                    std::ptr::from_mut(handle).cast(),
                    &raw mut mount,
                    flags,
                )
            })
        };
        // The form that events use, which more file systems have, from 6.5 on.
        if ask(&mut handle, libc::AT_EMPTY_PATH | libc::AT_HANDLE_FID).is_err() {
            handle.length = MAX_HANDLE as u32;
            ask(&mut handle, libc::AT_EMPTY_PATH)?;
        }
        let mut bytes = Vec::with_capacity(16 + handle.length as usize);
        for half in [fsid as u32, (fsid >> 32) as u32] {
            bytes.extend_from_slice(&half.to_ne_bytes());
        }
        bytes.extend_from_slice(&handle.length.to_ne_bytes());
        bytes.extend_from_slice(&handle.kind.to_ne_bytes());
        bytes.extend_from_slice(&handle.bytes[..handle.length as usize]);
        Ok(Self(bytes.into()))
    }

    /// Opens the directory again; `anchor` is any open directory of its file system.
    pub fn open(&self, anchor: BorrowedFd<'_>) -> std::result::Result<OwnedFd, Errno> {
        let mut handle = Handle {
            length: number(&self.0, 8).unwrap_or(0),
            kind: number(&self.0, 12).unwrap_or(0).cast_signed(),
            bytes: [0; MAX_HANDLE],
        };
        let bytes = self.0.get(16..).unwrap_or_default();
        handle
            .bytes
            .get_mut(..bytes.len())
            .ok_or(Errno::INVAL)?
            .copy_from_slice(bytes);
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: the handle's length is that of its filled bytes, and it outlives the call.
        let fd = errno(unsafe {
            libc::open_by_handle_at(anchor.as_raw_fd(), (&raw mut handle).cast(), flags)
        })?;
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl AsFd for Watcher {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_an_event_with_a_directory_and_a_name() {
        let mut event = Vec::new();
        let record_length = 4 + 8 + 8 + 8 + 4_u16;
        event.extend_from_slice(&(METADATA as u32 + u32::from(record_length)).to_ne_bytes());
        event.extend_from_slice(&[3, 0, 24, 0]);
        event.extend_from_slice(&libc::FAN_CREATE.to_ne_bytes());
        event.extend_from_slice(&(-1_i32).to_ne_bytes());
        event.extend_from_slice(&77_i32.to_ne_bytes());
        event.extend_from_slice(&[libc::FAN_EVENT_INFO_TYPE_DFID_NAME, 0]);
        event.extend_from_slice(&record_length.to_ne_bytes());
        let key: Vec<u8> = [
            &[9; 8][..],
            &8_u32.to_ne_bytes(),
            &1_u32.to_ne_bytes(),
            &[7; 8],
        ]
        .concat();
        event.extend_from_slice(&key);
        event.extend_from_slice(b"new\0");
        let parsed = parse(&event);
        assert!(parsed.happened.names() && !parsed.happened.attributes());
        assert_eq!((parsed.process, parsed.name), (77, c"new"));
        assert_eq!(parsed.dir, Some(DirKey(key.into())));
    }

    #[test]
    fn cut_off_events_do_no_harm() {
        let lost = parse(&[
            24, 0, 0, 0, 3, 0, 24, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
        assert!(lost.happened.overflow() && lost.dir.is_none());
        let mut cut = vec![0; METADATA];
        cut.extend_from_slice(&[2, 0, 8, 0, 1, 2]);
        assert!(parse(&cut).dir.is_none());
    }
}

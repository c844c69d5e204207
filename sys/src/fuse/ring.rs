//! FUSE over io_uring: one thread's ring, and the memory in which requests come and replies go.
//!
//! A slot takes one request at a time and belongs to one of the kernel's queues, of which it has one
//! per possible processor. (`fuse_uring_req_header` of the kernel's `linux/fuse.h`, and its page
//! `filesystems/fuse/fuse-io-uring`; Linux 6.14.)
//!
//! ```text
//! slot     0  header of the request, then of the reply
//!        128  the request's first argument
//!        256  flags, number to commit with, length of the payload
//!        512  two iovecs that name the header and the payload
//!       4096  payload: the request's other arguments, then the reply's body
//! ```
#![allow(unsafe_code)] // memory shared with the kernel is wrapped by no safe library

use std::collections::VecDeque;
use std::ffi::c_void;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;
use rustix::io_uring::{
    IORING_OFF_SQ_RING, IORING_OFF_SQES, IoringEnterFlags, IoringFeatureFlags, IoringOp,
    IoringSetupFlags, io_uring_enter, io_uring_params, io_uring_setup,
};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::error::{Result, SysError, SysResultExt};
use crate::fuse::Device;

const REGISTER: u32 = 1;
const COMMIT_AND_FETCH: u32 = 2;

const FIRST_ARGUMENT: usize = 128;
const ABOUT: usize = 256;
const COMMIT_ID: usize = ABOUT + 8;
const PAYLOAD_LENGTH: usize = ABOUT + 16;
const HEADER: usize = ABOUT + 32;
const IOVECS: usize = 512;
const PAYLOAD: usize = 4096;

/// One entry of the submission queue, in its long form, as FUSE fills it.
#[repr(C)]
#[derive(Debug, Default)]
struct Submission {
    opcode: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    command: u32,
    padding: u32,
    address: u64,
    length: u32,
    command_flags: u32,
    user_data: u64,
    unused: u64,
    /// From here on the kernel's `fuse_uring_cmd_req`.
    request_flags: u64,
    commit_id: u64,
    queue: u16,
    rest: [u16; 31],
}

const _: () = assert!(size_of::<Submission>() == 128);

/// One entry of the completion queue.
#[repr(C)]
#[derive(Debug)]
struct Completion {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// A piece of mapped memory; unmapped when dropped.
#[derive(Debug)]
struct Mapping {
    start: NonNull<c_void>,
    length: usize,
}

impl Mapping {
    fn anonymous(length: usize) -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: a new mapping wherever the kernel finds room: it takes no memory in use.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), length, protection, flags) };
        Self::made(start, length)
    }

    fn of_ring(ring: &OwnedFd, offset: u64, length: usize) -> Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::POPULATE;
        let at = std::ptr::null_mut();
        // SAFETY: as above; the memory is the kernel's, and is only accessed as io_uring wants it.
        let start = unsafe { mmap(at, length, protection, flags, ring, offset) };
        Self::made(start, length)
    }

    fn made(start: std::result::Result<*mut c_void, Errno>, length: usize) -> Result<Self> {
        let start = start.call(|| format!("mmap({length})"))?;
        let start = NonNull::new(start).ok_or_else(|| SysError::new("mmap()", libc::ENOMEM))?;
        Ok(Self { start, length })
    }

    /// A place in it; all of a `T` fits there.
    fn at<T>(&self, offset: usize) -> *mut T {
        assert!(offset + size_of::<T>() <= self.length, "within the mapping");
        self.start.as_ptr().wrapping_byte_add(offset).cast()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing that points into it outlives it.
        let _ = unsafe { munmap(self.start.as_ptr(), self.length) };
    }
}

/// A ring of the calling thread, with slots for requests; of no use to any other thread.
#[derive(Debug)]
pub struct Ring<'a> {
    device: BorrowedFd<'a>,
    // Closed first: the kernel touches none of the memory afterwards.
    ring: OwnedFd,
    shared: Mapping,
    submissions: Mapping,
    slots: Mapping,
    queues: Vec<u16>,
    room: usize,
    parameters: io_uring_params,
    staged: u32,
    arrived: VecDeque<usize>,
    serving: usize,
}

/// A request that has come, and the slot that waits for its reply.
#[derive(Debug)]
pub struct Turn<'a, 'b> {
    ring: &'a mut Ring<'b>,
    slot: usize,
}

fn set_up(entries: usize) -> Result<(OwnedFd, io_uring_params)> {
    let mut parameters = io_uring_params::default();
    parameters.flags = IoringSetupFlags::SQE128
        | IoringSetupFlags::SINGLE_ISSUER
        | IoringSetupFlags::DEFER_TASKRUN
        | IoringSetupFlags::NO_SQARRAY;
    let entries = u32::try_from(entries).unwrap_or(u32::MAX);
    // SAFETY: the call writes the parameters and makes a descriptor; nothing is submitted.
    let ring = unsafe { io_uring_setup(entries, &mut parameters) }
        .call(|| format!("io_uring_setup({entries})"))?;
    if !parameters
        .features
        .contains(IoringFeatureFlags::SINGLE_MMAP)
    {
        return Err(SysError::new("io_uring_setup()", libc::EOPNOTSUPP));
    }
    Ok((ring, parameters))
}

impl<'a> Ring<'a> {
    /// Whether the kernel makes such rings for this process.
    ///
    /// # Errors
    /// When it does not: it is too old, or io_uring is switched off.
    pub fn probe() -> Result<()> {
        set_up(1).map(drop)
    }

    /// Makes a ring with a slot for each of these queues, each with room for `room` bytes, and
    /// tells the kernel. The mount must have been agreed on (INIT) with io_uring in it.
    ///
    /// # Errors
    /// When the kernel refuses a slot; it then sends all requests through the device.
    pub fn new(device: &'a Device, queues: Vec<u16>, room: usize) -> Result<Self> {
        let (ring, parameters) = set_up(queues.len())?;
        let completions = parameters.cq_off.cqes as usize
            + parameters.cq_entries as usize * size_of::<Completion>();
        let submissions = parameters.sq_entries as usize * size_of::<Submission>();
        let room = room.next_multiple_of(PAYLOAD);
        let mut made = Self {
            device: device.as_fd(),
            shared: Mapping::of_ring(&ring, IORING_OFF_SQ_RING, completions)?,
            submissions: Mapping::of_ring(&ring, IORING_OFF_SQES, submissions)?,
            slots: Mapping::anonymous(queues.len() * (PAYLOAD + room))?,
            serving: queues.len(),
            arrived: VecDeque::with_capacity(queues.len()),
            ring,
            queues,
            room,
            parameters,
            staged: 0,
        };
        for slot in 0..made.queues.len() {
            made.register(slot);
        }
        made.enter(false)
            .call(|| "io_uring_enter(FUSE_IO_URING_CMD_REGISTER)")?;
        while let Some((slot, result)) = made.completion() {
            if result < 0 {
                let queue = made.queues[slot];
                let call = format!("FUSE_IO_URING_CMD_REGISTER(queue {queue})");
                return Err(SysError::new(call, -result));
            }
            made.arrived.push_back(slot);
        }
        Ok(made)
    }

    /// Waits for the next request; none when the mount is gone.
    pub fn wait(&mut self) -> Option<Turn<'_, 'a>> {
        let slot = loop {
            if let Some(slot) = self.arrived.pop_front() {
                break slot;
            }
            match self.completion() {
                Some((_, result)) if result < 0 => self.serving -= 1,
                Some((slot, _)) => break slot,
                None if self.serving == 0 => return None,
                None => self.enter(true).ok()?,
            }
        };
        Some(Turn { ring: self, slot })
    }

    fn place(&self, slot: usize) -> usize {
        slot * (PAYLOAD + self.room)
    }

    /// A slot's number of four bytes, of a request that has come or for a reply.
    fn word(&self, slot: usize, offset: usize) -> *mut u32 {
        self.slots.at(self.place(slot) + offset)
    }

    fn register(&mut self, slot: usize) {
        let place = self.place(slot);
        let vector = |offset, length| libc::iovec {
            iov_base: self.slots.at::<c_void>(place + offset),
            iov_len: length,
        };
        let vectors = [vector(0, HEADER), vector(PAYLOAD, self.room)];
        let at = self.slots.at::<[libc::iovec; 2]>(place + IOVECS);
        // SAFETY: the place is this slot's own, aligned, and the kernel has not been told of it.
        unsafe { at.write(vectors) };
        self.submit(Submission {
            command: REGISTER,
            address: at as u64,
            length: 2,
            user_data: slot as u64,
            queue: self.queues[slot],
            ..Default::default()
        });
    }

    fn submit(&mut self, mut submission: Submission) {
        submission.opcode = IoringOp::UringCmd as u8;
        submission.fd = self.device.as_raw_fd();
        let tail = self.number(self.parameters.sq_off.tail);
        let last = tail.load(Ordering::Relaxed);
        let index = last as usize & (self.parameters.sq_entries as usize - 1);
        let at = self
            .submissions
            .at::<Submission>(index * size_of::<Submission>());
        // SAFETY: the entry is free: there are as many as slots, and a slot submits once per turn.
        unsafe { at.write(submission) };
        tail.store(last.wrapping_add(1), Ordering::Release);
        self.staged += 1;
    }

    fn completion(&mut self) -> Option<(usize, i32)> {
        let head = self.number(self.parameters.cq_off.head);
        let tail = self.number(self.parameters.cq_off.tail);
        let first = head.load(Ordering::Relaxed);
        if first == tail.load(Ordering::Acquire) {
            return None;
        }
        let index = first as usize & (self.parameters.cq_entries as usize - 1);
        let offset = self.parameters.cq_off.cqes as usize + index * size_of::<Completion>();
        let at = self.shared.at::<Completion>(offset);
        // SAFETY: the kernel has written the entry, as its tail says, and waits for our head.
        let completion = unsafe { at.read() };
        head.store(first.wrapping_add(1), Ordering::Release);
        let slot = usize::try_from(completion.user_data).ok()?;
        (slot < self.queues.len()).then_some((slot, completion.result))
    }

    fn number(&self, offset: u32) -> &AtomicU32 {
        let at = self.shared.at(offset as usize);
        // SAFETY: the kernel keeps an aligned number there, and both sides access it atomically.
        unsafe { AtomicU32::from_ptr(at) }
    }

    fn enter(&mut self, wait: bool) -> std::result::Result<(), Errno> {
        let flags = IoringEnterFlags::GETEVENTS;
        // SAFETY: all that was submitted names memory of `slots`, which outlives the ring.
        let done = unsafe { io_uring_enter(&self.ring, self.staged, u32::from(wait), flags) };
        match done {
            Ok(count) => self.staged -= count.min(self.staged),
            Err(Errno::INTR | Errno::AGAIN | Errno::BUSY) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

impl Turn<'_, '_> {
    /// The request: its header, what follows from the first argument on, and the other arguments.
    pub fn request(&self) -> (&[u8], &[u8], &[u8]) {
        let length = self.ring.word(self.slot, PAYLOAD_LENGTH);
        // SAFETY: within the slot and aligned; until the reply the kernel leaves the slot alone.
        let length = unsafe { length.read() } as usize;
        (
            self.bytes(0, FIRST_ARGUMENT),
            self.bytes(FIRST_ARGUMENT, ABOUT - FIRST_ARGUMENT),
            self.bytes(PAYLOAD, length.min(self.ring.room)),
        )
    }

    /// The number of the request, as the kernel wants it back.
    pub fn unique(&self) -> u64 {
        let commit_id = self
            .ring
            .slots
            .at::<u64>(self.ring.place(self.slot) + COMMIT_ID);
        // SAFETY: within the slot and aligned; until the reply the kernel leaves the slot alone.
        unsafe { commit_id.read() }
    }

    fn bytes(&self, offset: usize, length: usize) -> &[u8] {
        let place = self.ring.place(self.slot) + offset;
        assert!(place + length <= self.ring.slots.length, "within the slot");
        let start = self.ring.slots.at::<u8>(place);
        // SAFETY: mapped, initialised (anonymous memory begins as zeros), and left alone by the
        // kernel until the reply, which ends the borrow.
        unsafe { std::slice::from_raw_parts(start, length) }
    }

    /// Replies with an error number, 0 for none, and a body.
    pub fn reply(self, error: i32, body: &[u8]) {
        let unique = self.unique();
        let (ring, slot) = (self.ring, self.slot);
        let (error, body) = match body.len() <= ring.room {
            true => (error, body),
            false => (libc::EIO, &[][..]),
        };
        let length = u32::try_from(body.len()).unwrap_or(0);
        let place = ring.place(slot);
        let header = [16 + length, error.wrapping_neg().cast_unsigned()];
        // SAFETY: within the slot, aligned, and left alone by the kernel until the submission.
        unsafe { ring.slots.at::<[u32; 2]>(place).write(header) };
        // SAFETY: as above.
        unsafe { ring.slots.at::<u64>(place + 8).write(unique) };
        // SAFETY: as above.
        unsafe { ring.word(slot, PAYLOAD_LENGTH).write(length) };
        let payload = ring.slots.at::<u8>(place + PAYLOAD);
        // SAFETY: as above; the body fits, and cannot lie in the slot, which `self` has borrowed.
        unsafe { payload.copy_from_nonoverlapping(body.as_ptr(), body.len()) };
        let queue = ring.queues[slot];
        ring.submit(Submission {
            command: COMMIT_AND_FETCH,
            user_data: slot as u64,
            commit_id: unique,
            queue,
            ..Default::default()
        });
        // Not together with the wait for the next request: while its caller is woken, this thread
        // stays runnable, and is not woken in turn when the caller asks again. Should the kernel
        // not take it now, it goes with that wait.
        let _ = ring.enter(false);
    }
}

/// How many processors the machine may ever have: the kernel has a queue for each.
pub fn possible_processors() -> Result<u16> {
    let path = "/sys/devices/system/cpu/possible";
    let text = std::fs::read_to_string(path).call(|| format!("open({path:?})"))?;
    count_of(text.trim()).ok_or_else(|| SysError::new(format!("read({path:?})"), libc::EINVAL))
}

/// The numbers in a list such as `0-3,8`.
fn count_of(list: &str) -> Option<u16> {
    let mut count = 0_u16;
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_processors() {
        for (list, count) in [
            ("0", Some(1)),
            ("0-1", Some(2)),
            ("0-3,8,10-11", Some(7)),
            ("", None),
            ("3-1", None),
            ("0-65535", None),
        ] {
            assert_eq!(count_of(list), count, "{list:?}");
        }
    }

    #[test]
    fn a_device_that_is_mounted_nowhere_takes_no_slot() {
        let device = Device::open().unwrap();
        assert!(Ring::new(&device, vec![0, 1], 1 << 20).is_err());
    }
}

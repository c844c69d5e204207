//! Memory that processes share: numbers that outlive the one that wrote them.
#![allow(unsafe_code)] // mmap

use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::error::{Result, SysResultExt};

/// Numbers, zero at first, that a process shares with the children it makes from then on. What
/// nobody has written takes no memory.
#[derive(Debug)]
pub struct SharedWords {
    start: NonNull<AtomicU64>,
    count: usize,
}

// SAFETY: the memory stays where it is until this is dropped.
unsafe impl Send for SharedWords {}
// SAFETY: all accesses are atomic.
unsafe impl Sync for SharedWords {}

impl SharedWords {
    /// Makes so many.
    ///
    /// # Errors
    /// When there is no room for them among the process's addresses.
    pub fn new(count: usize) -> Result<Self> {
        let length = count * size_of::<AtomicU64>();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses the place; nothing else is mapped there.
        let start = unsafe { mmap_anonymous(std::ptr::null_mut(), length, access, flags) };
        let start = start.call(|| format!("mmap({length}, MAP_SHARED | MAP_ANONYMOUS)"))?;
        let start = NonNull::new(start.cast()).unwrap_or(NonNull::dangling());
        Ok(Self { start, count })
    }
}

impl Deref for SharedWords {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: mapped, aligned to a page, zeroed, and only ever accessed atomically.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl Drop for SharedWords {
    fn drop(&mut self) {
        let length = self.count * size_of::<AtomicU64>();
        // SAFETY: the place is ours, and no reference outlives this.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), length) };
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::process::{Fork, fork, wait_pidfd};

    #[test]
    fn what_a_child_writes_is_there_when_it_has_ended() {
        let words = SharedWords::new(1 << 20).unwrap();
        let child = fork(&Fork::default(), || {
            words[(1 << 20) - 1].store(7, Ordering::Release);
            0
        });
        wait_pidfd(child.unwrap().pidfd.as_fd(), true).unwrap();
        assert_eq!(words[(1 << 20) - 1].load(Ordering::Acquire), 7);
        assert_eq!(words[0].load(Ordering::Acquire), 0);
    }
}

//! Inode numbers: one for each object over all file systems of a union.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use crate::union::branch::{Branch, lock};
use crate::union::node::ROOT;
use crate::union::tree::Union;

/// Numbers of a branch's entries, as listings show them.
#[derive(Debug)]
pub(crate) struct EntryNumbers<'a> {
    union: &'a Union,
    device: u64,
    file_system: usize,
    has_copies: bool,
}

impl EntryNumbers<'_> {
    pub(crate) fn of(&self, dir: impl AsFd, name: &CStr, ino: u64) -> u64 {
        if let Some(ino) = self.union.links.ino(self.device, ino) {
            return ino;
        }
        let plain = number_in(self.file_system, ino);
        if self.has_copies {
            if let Some(origin) = self.union.noted_number(dir, name, ino) {
                return origin;
            }
            if let Some(&origin) = lock(&self.union.origins).get(&plain) {
                return origin;
            }
        }
        plain
    }
}

/// The number of an inode of one of the file systems in the union.
pub(crate) fn number_in(file_system: usize, ino: u64) -> u64 {
    let number = ino ^ ((file_system as u64) << 48);
    if number <= ROOT {
        number | (0xffff << 48)
    } else {
        number
    }
}

impl Union {
    /// As [`Self::ino`], for the entries of listings of one branch.
    pub(crate) fn entry_numbers(&self, branch: &Branch) -> EntryNumbers<'_> {
        EntryNumbers {
            union: self,
            device: branch.device,
            file_system: self.file_systems.of_device(branch.device),
            has_copies: branch.has_copies.load(Ordering::Relaxed),
        }
    }

    /// A number unique over all file systems of the union: that of the first keeps its own.
    pub(crate) fn plain_ino(&self, device: u64, ino: u64) -> u64 {
        number_in(self.file_systems.of_device(device), ino)
    }
}

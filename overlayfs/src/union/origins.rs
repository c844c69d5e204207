//! Notes on copies: which file a copy comes from, so that it keeps that file's inode number.
//!
//! ```text
//! trusted.rbox.origin    OWN INO PLACE     three numbers of 64 bits, little-endian
//! ```
//!
//! `OWN` is the copy's own inode number, by which a note that was copied along with its file is
//! told from others; `INO` is the origin's inode number on its file system, and `PLACE` tells a
//! branch on that (see [`crate::union::plink::place_of`]). The number in the union is formed when
//! the note is read, since it depends on the list of branches. Where no `PLACE` can be told, and in
//! the notes of earlier versions, there are two numbers, of which the second is that in the union.

use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::iter::once;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};

use crate::union::branch::{Branch, Members, lock};
use crate::union::lasting::Lasting;
use crate::union::node::NumberMap;
use crate::union::numbers::number_in;
use crate::union::tree::Union;

/// Where a copy came from.
pub(crate) const ORIGIN: &CStr = c"trusted.rbox.origin";

/// No branch has as high a place among the file systems: those that are in no branch have them.
const ABSENT: usize = 1 << 14;

/// The file systems of a union: which is the how manieth tells their inode numbers apart.
#[derive(Debug)]
pub(crate) struct FileSystems {
    devices: Mutex<Vec<u64>>,
    /// Those that are told by the place of a branch; what was said once holds while mounted.
    by_place: Mutex<NumberMap<u64, usize>>,
    lasting: Option<Arc<Lasting>>,
}

/// The origin of a copy to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// In this mount of the union.
    pub(crate) number: u64,
    /// Its inode number on its file system, and the place of a branch there.
    home: Option<(u64, u64)>,
}

/// What a note says.
#[derive(Debug, PartialEq, Eq)]
enum Noted {
    Number(u64),
    Home(u64, u64),
}

/// The same in every mount, so that copies of what is in no branch keep their numbers.
fn absent(place: u64) -> usize {
    ABSENT | (place as usize & (ABSENT - 1))
}

impl FileSystems {
    /// Those of branches, by their order: every mount of the same list has the same. What a server
    /// said that served before goes on.
    pub(crate) fn new(branches: &[Arc<Branch>], lasting: Option<Arc<Lasting>>) -> Self {
        let devices = lasting.as_ref().map(|it| it.file_systems());
        let places = lasting.as_ref().map(|it| it.places());
        let places = places.into_iter().flatten();
        let file_systems = Self {
            devices: Mutex::new(devices.unwrap_or_default()),
            by_place: Mutex::new(places.map(|(place, at)| (place, at as usize)).collect()),
            lasting,
        };
        file_systems.add(branches);
        file_systems
    }

    /// Makes those of further branches known, behind the others.
    pub(crate) fn add(&self, branches: &[Arc<Branch>]) {
        for branch in branches {
            let index = self.of_device(branch.device);
            let Some(place) = branch.place else { continue };
            // A copy of a whole file system has the same places: they tell neither.
            let is_other = |it: &Arc<Branch>| it.place == Some(place) && it.device != branch.device;
            if branches.iter().any(is_other) {
                self.say(place, absent(place));
            } else {
                self.say(place, index);
            }
        }
    }

    pub(crate) fn of_device(&self, device: u64) -> usize {
        let mut devices = lock(&self.devices);
        devices
            .iter()
            .position(|&known| known == device)
            .unwrap_or_else(|| {
                devices.push(device);
                if let Some(lasting) = &self.lasting {
                    lasting.keep_file_system(&devices);
                }
                devices.len() - 1
            })
    }

    fn of_place(&self, place: u64) -> usize {
        self.say(place, absent(place))
    }

    /// Says on which file system a place is, unless it was said already; that one comes back.
    fn say(&self, place: u64, index: usize) -> usize {
        match lock(&self.by_place).entry(place) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(room) => {
                if let Some(lasting) = &self.lasting {
                    lasting.keep_place(place, index as u64);
                }
                *room.insert(index)
            }
        }
    }
}

impl Origin {
    /// The note for a copy that has this number itself.
    pub(crate) fn note(self, own: u64) -> Vec<u8> {
        let mut note = own.to_le_bytes().to_vec();
        match self.home {
            Some((ino, place)) => {
                note.extend_from_slice(&ino.to_le_bytes());
                note.extend_from_slice(&place.to_le_bytes());
            }
            None => note.extend_from_slice(&self.number.to_le_bytes()),
        }
        note
    }
}

/// Reads a note; it is none if it was copied along with its file.
fn read(note: &[u8], own: u64) -> Option<Noted> {
    let (numbers, []) = note.as_chunks::<8>() else {
        return None;
    };
    match numbers {
        [copy, ..] if u64::from_le_bytes(*copy) != own => None,
        &[_, number] => Some(Noted::Number(u64::from_le_bytes(number))),
        &[_, ino, place] => Some(Noted::Home(
            u64::from_le_bytes(ino),
            u64::from_le_bytes(place),
        )),
        _ => None,
    }
}

impl Union {
    /// What to note on a copy of what has this number and is in the branch `at`, perhaps as a copy
    /// itself.
    pub(crate) fn origin(&self, members: &Members, number: u64, at: u16) -> Origin {
        let home = |branch: &Arc<Branch>| {
            let place = branch.place?;
            let index = self.file_systems.of_device(branch.device);
            let ino = number ^ ((index as u64) << 48);
            // A larger one could be of another file system, and keeps the number that it has.
            let is_plain = ino >> 48 == 0 && number_in(index, ino) == number;
            (is_plain && self.file_systems.of_place(place) == index).then_some((ino, place))
        };
        let mut branches = once(members.branch(at)).chain(&members.branches);
        Origin {
            number,
            home: branches.find_map(home),
        }
    }

    /// The number that a copy keeps by its note.
    pub(crate) fn noted_number(&self, dir: impl AsFd, name: &CStr, own: u64) -> Option<u64> {
        let mut note = [0_u8; 24];
        let length = sys::xattr::get_at(dir, name, ORIGIN, &mut note).ok()?;
        Some(match read(note.get(..length)?, own)? {
            Noted::Number(number) => number,
            Noted::Home(ino, place) => number_in(self.file_systems.of_place(place), ino),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_say_what_was_noted() {
        let mut origin = Origin {
            number: 1 << 48 | 7,
            home: Some((7, 0xfeed)),
        };
        assert_eq!(read(&origin.note(5), 5), Some(Noted::Home(7, 0xfeed)));
        assert_eq!(read(&origin.note(5), 6), None, "copied along");
        origin.home = None;
        assert_eq!(origin.note(5).len(), 16, "as earlier versions wrote it");
        assert_eq!(read(&origin.note(5), 5), Some(Noted::Number(1 << 48 | 7)));
        for wrong in [0, 1, 8, 15, 17, 23] {
            let note = [0_u8; 24];
            assert_eq!(read(&note[..wrong], 0), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_in_no_branch_has_a_place_of_its_own() {
        let file_systems = FileSystems::new(&[], None);
        assert_eq!(file_systems.of_device(70), 0);
        assert_eq!(file_systems.of_device(71), 1);
        let gone = file_systems.of_place(0xfeed);
        assert_eq!(FileSystems::new(&[], None).of_place(0xfeed), gone, "always");
        assert!(gone >= ABSENT);
        let mut numbers = vec![number_in(0, 7), number_in(1, 7), number_in(gone, 7)];
        numbers.push(number_in(file_systems.of_place(0xbeef), 7));
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 4);
    }

    #[test]
    fn who_takes_over_says_the_same() {
        let lasting = Lasting::new().unwrap();
        let before = FileSystems::new(&[], Some(Arc::clone(&lasting)));
        before.of_device(70);
        before.say(0xfeed, before.of_device(71));
        let gone = before.of_place(0xbeef);
        let after = FileSystems::new(&[], Some(lasting));
        assert_eq!(after.of_device(71), 1);
        assert_eq!(after.of_place(0xfeed), 1, "though its branch went");
        after.say(0xbeef, 1);
        assert_eq!(after.of_place(0xbeef), gone, "though its branch came");
    }
}

//! Inode numbers of 32 bits (`inode32`), for programs that know no larger ones.
//!
//! Inside, objects keep their numbers of 64 bits, and so do notes on disk; others are only shown.

use std::sync::Mutex;

use crate::union::branch::{Members, lock};
use crate::union::node::NumberMap;
use crate::union::tree::Union;

/// Numbers below this one are shown as they are.
const LOWEST: u64 = 1 << 31;

/// More numbers than these are not told apart: it takes some 30 bytes of memory for each.
const MOST: usize = 1 << 24;

/// Which large number each small one stands for: one place each, kept while the union is mounted.
#[derive(Debug, Default)]
pub(crate) struct SmallNumbers {
    places: Mutex<NumberMap<u32, u64>>,
}

/// Where the place of a number is looked for first, the same in every mount (SplitMix64's mixing).
fn first_place(number: u64) -> u32 {
    let mixed = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed >> 33) | LOWEST) as u32
}

impl SmallNumbers {
    fn of(&self, number: u64) -> u64 {
        if number < LOWEST {
            return number;
        }
        let first = first_place(number);
        let mut places = lock(&self.places);
        let mut place = first;
        loop {
            match places.get(&place) {
                Some(&other) if other == number => return place.into(),
                Some(_) => place = place.checked_add(1).unwrap_or(LOWEST as u32),
                None if places.len() >= MOST => return first.into(),
                None => {
                    places.insert(place, number);
                    return place.into();
                }
            }
        }
    }
}

impl Union {
    /// The inode number that programs are shown.
    pub(crate) fn shown_number(&self, members: &Members, number: u64) -> u64 {
        match members.settings.small_numbers {
            true => self.small_numbers.of(number),
            false => number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_has_a_place_of_its_own() {
        let numbers = SmallNumbers::default();
        let large: Vec<u64> = (0..100_000_u64).map(|low| low | 3 << 48).collect();
        let mut shown: Vec<u64> = large.iter().map(|&number| numbers.of(number)).collect();
        assert_eq!(numbers.of(large[5]), shown[5], "it stays");
        assert!(shown.iter().all(|&small| small >> 31 == 1));
        shown.sort_unstable();
        shown.dedup();
        assert_eq!(shown.len(), large.len());
        for small in [1, 77, LOWEST - 1] {
            assert_eq!(numbers.of(small), small);
        }
    }

    #[test]
    fn a_place_that_is_taken_is_passed_over() {
        let numbers = SmallNumbers::default();
        let first = first_place(u64::MAX);
        lock(&numbers.places).insert(first, 1 << 40);
        let next = first.checked_add(1).unwrap_or(LOWEST as u32);
        assert_eq!(numbers.of(u64::MAX), u64::from(next));
        assert_eq!(numbers.of(u64::MAX), u64::from(next));
    }
}

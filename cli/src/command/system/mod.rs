//! `rbox system …`.

use crate::app::Entry;

pub(crate) mod check;
pub(crate) mod df;
pub(crate) mod events;
pub(crate) mod info;
pub(crate) mod prune;

/// The verbs of the noun.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry::new("check", &check::LEAF),
    Entry::new("df", &df::LEAF),
    Entry::new("events", &events::LEAF),
    Entry::new("info", &info::LEAF),
    Entry::new("prune", &prune::LEAF),
];

//! `rbox union …`: union mounts with branch rules.

use overlayfs::union::UnionError;

use crate::app::Entry;
use crate::error::{Failure, Result};

pub(crate) mod add;
pub(crate) mod convert;
pub(crate) mod del;
pub(crate) mod flush_links;
pub(crate) mod helper;
pub(crate) mod ls;
pub(crate) mod mode;
pub(crate) mod mount;
pub(crate) mod remount;
pub(crate) mod umount;
pub(crate) mod where_is;

/// The verbs of the noun.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry::new("add", &add::LEAF),
    Entry::new("convert", &convert::LEAF),
    Entry::new("del", &del::LEAF),
    Entry::new("flush-links", &flush_links::LEAF),
    Entry::new("ls", &ls::LEAF).or(&["list"]),
    Entry::new("mode", &mode::LEAF),
    Entry::new("mount", &mount::LEAF),
    Entry::new("remount", &remount::LEAF),
    Entry::new("umount", &umount::LEAF).or(&["unmount"]),
    Entry::new("where", &where_is::LEAF),
];

impl From<UnionError> for Failure {
    fn from(error: UnionError) -> Self {
        Self::said(format!("union: {}", sys::error::with_causes(&error)))
    }
}

/// The only plain argument: the command has counted them.
fn only(plain: Vec<String>) -> Result<String> {
    plain
        .into_iter()
        .next()
        .ok_or_else(|| Failure::said("an argument is missing"))
}

/// A branch's path in the form that the option language wants.
fn escaped(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        if matches!(letter, ':' | ',' | '=' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

//! Tar archives as streams: members in, members out.
//!
//! Blocks are read and written with the `tar` crate's header. What stands around them (PAX records,
//! long names, sparse maps) is read here: the crate splits PAX records at line ends, which breaks
//! binary attributes such as `security.capability`, and knows no PAX sparse files.

mod member;
mod pax;
mod read;
mod sparse;
mod write;

pub use member::{Kind, Member};
pub use read::{Observer, Reader, TarError};
pub(crate) use sparse::is_scattered;
pub use write::Writer;

/// Archives are made of blocks of this size.
pub(crate) const BLOCK: usize = 512;

/// Bytes after some content until the next block begins.
pub(crate) fn padding(size: u64) -> u64 {
    (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64
}

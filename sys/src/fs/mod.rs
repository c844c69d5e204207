//! Files by descriptor: paths resolved beneath a root, atomic replacement, attributes, copies.
//!
//! Everything that touches a tree which others can write (a container's, an unpacked layer) goes
//! through [`Dir`]: a directory held open, and operations on *names* in it. No operation takes a
//! path with more than one part except those that resolve it with `openat2`, so a symbolic link
//! that somebody swaps in can never lead outside. Errors print as the call with the whole path.

mod attributes;
mod copy;
mod dir;
mod inode_flags;
mod kernel;
mod lock;
mod remove;
mod replace;
mod stat;
mod usage;
mod xattr;

pub use attributes::{set_mode_of, set_owner_of, set_times_of};
pub use copy::{copy_data, data_parts};
pub use dir::{Dir, Follow};
pub use inode_flags::FlagsRequest;
pub use kernel::is_kernel_view;
pub use remove::remove_path;
pub use replace::{Durability, replace, replace_symlink};
pub use stat::{Entry, Kind, Node, Stat, Timestamp};
pub use usage::{Usage, available, usage};
pub use xattr::{set_xattr_of, xattr_of, xattrs_of};

/// The flag that opens a name without reading or writing it.
pub fn path_only() -> rustix::fs::OFlags {
    rustix::fs::OFlags::PATH
}

/// The error numbers that callers decide by.
pub mod errno {
    pub use libc::{
        EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOSPC, ENOTDIR, ENOTEMPTY, EOPNOTSUPP, EPERM, EXDEV,
    };
}

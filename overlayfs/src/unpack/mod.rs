//! Unpacking an archive into a tree, beneath a directory held open.
//!
//! Nothing outside of that directory is touched, whatever the archive says and whoever changes the
//! tree meanwhile: parents are resolved by the kernel as if the directory were the root, and the
//! last part of every name is worked on by descriptor.

mod contents;
mod lower;
mod marks;
mod name;
mod sparse;
mod tree;

pub use lower::Lower;
pub use name::clean;
pub(crate) use tree::OPAQUE;
pub use tree::{Marks, Tree, Unpacked};

use sys::SysError;

use crate::tar::TarError;

/// An archive that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It cannot be read.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// A member would lie outside of the tree.
    #[error("the archive holds {0:?}, which would lie outside of its root")]
    Outside(String),
    /// A member or whiteout has a name that no file can have.
    #[error("the archive holds {0:?}, which is no name for a file")]
    BadName(String),
    /// A hard link leads to what neither this archive nor a lower layer holds.
    #[error("the archive links {name:?} to {target:?}, which does not exist")]
    NoTarget {
        /// The link.
        name: String,
        /// What it should be another name of.
        target: String,
    },
    /// There is less space than the archive says it needs.
    #[error("no space left for {name:?}: it needs {needed} bytes and {available} are free")]
    NoSpace {
        /// The member that does not fit.
        name: String,
        /// What it needs.
        needed: u64,
        /// What there is.
        available: u64,
    },
    /// A file would take the place of a directory.
    #[error("cannot overwrite directory {0:?} with non-directory")]
    OverDirectory(std::path::PathBuf),
    /// A directory would take the place of a file.
    #[error("cannot overwrite non-directory {0:?} with directory")]
    OverOther(std::path::PathBuf),
    /// The kernel refused a step.
    #[error("cannot unpack {name:?}")]
    Step {
        /// The member.
        name: String,
        /// What was refused.
        #[source]
        source: SysError,
    },
}

//! Union mounts: several branches shown as one directory, by a FUSE server of our own.
//!
//! A union knows branches with permissions, a policy for new objects and one for copies, and marks
//! that hide. It knows no layer store and no container. `docs/union.md` is the user's page.
//!
//! ```text
//! kernel ──transport──► server ──► request ──► tree, make, remove, rename, file ──► branches
//!    └──── data of passed-through files goes to the branch without the server ────────┘
//! ```
//!
//! With `recover` what the server knows is written down as well (`lasting`), in memory that its
//! parent holds (`recover`), and another server goes on with that (`revive`).

mod attrs;
mod branch;
mod branch_words;
mod control;
mod convert;
mod copy;
mod copyup;
mod data;
mod dircache;
mod file;
mod flush;
mod form;
mod full;
mod habits;
mod handle;
mod ioctl;
mod kept;
mod lasting;
mod linking;
mod links;
mod listed;
mod listing;
mod make;
mod marks;
mod mount;
mod moved;
mod newest;
mod node;
mod numbers;
pub mod options;
mod origins;
mod permission;
pub mod places;
mod plink;
mod policy;
mod policy_words;
mod readdir;
mod recover;
mod remove;
mod removed;
mod rename;
mod request;
mod revive;
mod server;
mod small_numbers;
mod transport;
mod tree;
mod twins;
mod watch;
mod wire;

use std::path::PathBuf;

pub use control::{BranchStatus, Status};
pub use convert::{Conversion, Converted};
pub use flush::flush_links;
pub use mount::{
    Helper, MountRequest, Mounted, change, check, list, mount, mounts, unmount, where_is,
};
pub use policy::{CopyUp, Create};

/// What a branch answers: the kernel's error number goes back to the kernel as it is.
pub(crate) type Res<T> = Result<T, rustix::io::Errno>;

/// Why a union could not be mounted, changed or asked.
#[derive(Debug, thiserror::Error)]
pub enum UnionError {
    /// An option was not understood.
    #[error(transparent)]
    Option(#[from] options::OptionError),
    /// A branch cannot be one.
    #[error("branch {path:?}: {reason}")]
    Branch {
        /// The branch.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was asked for cannot be, with the error number that says so to programs.
    #[error("{0}")]
    Refused(String, i32),
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] sys::SysError),
    /// The path is not in a union.
    #[error("{0:?} is not in a union mounted by rbox")]
    NotUnion(PathBuf),
}

impl UnionError {
    /// The error number nearest to it.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Option(_) | Self::Branch { .. } => libc::EINVAL,
            Self::Refused(_, errno) => *errno,
            Self::Kernel(error) => error.errno(),
            Self::NotUnion(_) => libc::ENOTDIR,
        }
    }
}

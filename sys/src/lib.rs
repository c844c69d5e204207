//! The kernel as typed, safe functions: every system call that rbox makes is wrapped here.
//!
//! This crate knows no container, no image and no network of rbox's own; it knows what the kernel
//! offers. It is the only crate where `unsafe` may appear, module by module, and each block says
//! why its conditions hold. Errors print as the call that failed, in the manner of strace.

pub mod bpf;
pub mod caps;
pub mod cgroup;
pub mod conntrack;
pub mod detach;
pub mod epoll;
pub mod error;
pub mod fanotify;
pub mod fs;
pub mod fuse;
pub mod ids;
pub mod inet;
pub mod lock;
pub mod mount;
pub mod namespace;
pub mod netlink;
pub mod nftables;
pub mod process;
pub mod pty;
pub mod random;
pub mod shared;
pub mod socket;
pub mod splice;
pub mod usage;
pub mod xattr;

pub use error::{Result, SysError, SysResultExt};

//! FUSE: the device and its requests, the mount, branches as detached mounts, the server process.
//!
//! Knows nothing of what a server serves: it moves bytes between the kernel and whoever asks.

mod device;
mod holder;
mod identity;
mod mount;
mod ring;
mod server;

pub use device::{BackingId, Device};
pub use holder::{End, Holder, Inherited, tell_holder};
pub use identity::{Acting, Identity};
pub use mount::{SUBTYPE, branch_clone, mount, remount, unmount};
pub use ring::{Ring, Turn, possible_processors};
pub use server::{Ready, Side, block_signals, detach, leave, raise_descriptor_limit, wait_signal};

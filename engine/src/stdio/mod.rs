//! Streams between a container and those who watch it: detach keys, messages, relays.

pub mod detach;
pub mod protocol;
pub mod relay;
pub mod session;

pub use detach::{DetachKeys, DetachScanner};

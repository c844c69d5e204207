//! Values of flags: pure functions from a word to a value, with Docker's words for what is wrong.

pub(crate) mod block;
pub(crate) mod device;
pub(crate) mod duration;
pub(crate) mod environment;
pub(crate) mod filter;
pub(crate) mod host;
pub(crate) mod label;
pub(crate) mod mount;
pub(crate) mod network;
pub(crate) mod number;
pub(crate) mod security;
pub(crate) mod size;
pub(crate) mod stream;
pub(crate) mod ulimit;
pub(crate) mod volume;

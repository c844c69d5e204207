//! Layers and how they are stacked: the layer store, tar ↔ tree, overlay mounts, differences.
//!
//! This crate knows directories and archives; it knows no image and no container.

pub mod archive;
pub mod compression;
pub mod copy;
pub mod diff;
pub mod id;
pub mod stack;
pub mod store;
pub mod stream;
pub mod tar;
pub mod transfer;
pub mod union;
pub mod unpack;

pub use id::{ChainId, DiffId, Digest, LayerId};
pub use store::{Expected, Layer, LayerStore, StoreError};

//! Images, never containers: references, documents, archives and the image store.
//!
//! Nothing here prints, and nothing here knows who runs an image.

pub mod change;
pub mod commit;
pub mod config;
pub mod digest;
pub mod import;
pub mod inspect;
pub mod layout;
pub mod load;
pub mod reference;
pub mod remove;
pub mod save;
mod source;
pub mod store;
pub mod tags;
mod words;

pub use commit::{Base, CommitRequest};
pub use digest::{Digest, ImageId};
pub use import::ImportRequest;
pub use load::Loaded;
pub use reference::{Reference, ReferenceError};
pub use remove::{ImageUser, Removed};
pub use store::{Image, ImageError, ImageStore, Summary};
pub use tags::Tag;

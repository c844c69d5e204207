//! Mounts as values, and the calls that carry them out by descriptor (the new mount API).

// mount_setattr has no safe wrapper.
#![allow(unsafe_code)]

mod calls;
mod idmap;
mod overlay;
mod table;

pub use calls::{
    Attributes, Detached, Filesystem, Propagation, attach, bind_attached, change_root, detach,
    make_private, open_tree, set_attributes, take_detached,
};
pub use idmap::{Extent, one_as_another, set_owners};
pub use overlay::Overlay;
pub use table::MountedOn;

//! Trees back into archives: what a writable layer changed, the layer that is made of it, and a
//! whole tree as one archive.

mod change;
mod export;
mod piped;

pub use change::{Change, ChangeKind, Extent, MountPoints, changes};
pub use export::{ExportError, Form, export_layer, export_name, export_stack, export_tree};
pub use piped::{Piped, piped};

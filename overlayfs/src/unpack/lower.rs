//! What lies below a layer, for what its archive leaves out.

use std::path::Path;

use sys::fs::{Dir, Stat};

/// What lies below a layer: asked only where the archive leaves something out.
pub trait Lower {
    /// A file or directory of the lower layers as they are seen together, by its cleaned path: the
    /// directory it lies in, where it is visible.
    ///
    /// # Errors
    /// Those of looking.
    fn find(&self, path: &Path) -> sys::Result<Option<(Dir, Stat)>>;

    /// Whether there is no lower layer at all.
    fn is_empty(&self) -> bool;
}

/// Nothing lies below.
impl Lower for () {
    fn find(&self, _: &Path) -> sys::Result<Option<(Dir, Stat)>> {
        Ok(None)
    }

    fn is_empty(&self) -> bool {
        true
    }
}

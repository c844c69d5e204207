//! `diff` and `export`: what a container's processes changed, and its whole tree.

use std::io::Write;

use overlayfs::diff::{Change, ExportError, MountPoints, changes, export_stack};
use overlayfs::stack::Stack;
use sys::fs::Dir;

use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::Container;

/// What a start makes in the writable layer to mount the engine's own things on. A user's places
/// are not among them: Docker shows those.
const MOUNT_POINTS: [&str; 15] = [
    "/.dockerenv",
    "/dev",
    "/dev/console",
    "/dev/mqueue",
    "/dev/pts",
    "/dev/shm",
    "/etc",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sbin",
    "/sbin/docker-init",
    "/sys",
    "/sys/fs/cgroup",
];

/// The engine's own places in a writable layer.
pub(super) fn mount_points() -> MountPoints {
    MountPoints::new(MOUNT_POINTS)
}

/// A container's writable layer and what lies below it.
pub(super) struct Layers {
    pub(super) upper: Dir,
    pub(super) lower: Stack,
}

impl Engine {
    /// What the container's processes changed in its file system, sorted by path. Volumes and host
    /// paths are none of it.
    ///
    /// # Errors
    /// `No such container`; when a layer cannot be read.
    pub fn diff(&self, id: &ContainerId) -> Result<Vec<Change>> {
        let container = self.store().load(id)?;
        let layers = self.layers_of(&container)?;
        changes(&layers.upper, &layers.lower, &mount_points()).map_err(|error| {
            Error::system(
                format!("cannot compare the layers of container {id}"),
                error,
            )
        })
    }

    /// Writes the container's file system as an archive: what it would have in its volumes' places
    /// without them.
    ///
    /// # Errors
    /// `No such container`; when a layer cannot be read or the output not be written.
    pub fn export(&self, id: &ContainerId, output: &mut dyn Write) -> Result<()> {
        let container = self.store().load(id)?;
        let mut trees = vec![container.dir.upper()];
        trees.extend(self.images().layers().trees(&container.record.layers));
        let fail =
            |error: ExportError| Error::system(format!("cannot export container {id}"), error);
        let stack = Stack::open(&trees).map_err(|error| fail(error.into()))?;
        export_stack(&stack, output).map_err(fail)?;
        self.note(&container, "export", &[]);
        Ok(())
    }

    pub(super) fn layers_of(&self, container: &Container) -> Result<Layers> {
        let fail = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::system(
                format!("cannot open the layers of container {}", container.id()),
                error,
            )
        };
        let upper = Dir::open(container.dir.upper()).map_err(|error| fail(error.into()))?;
        let images = self.images();
        let lower = images
            .layers()
            .stack(&container.record.layers)
            .map_err(|error| fail(error.into()))?;
        Ok(Layers { upper, lower })
    }
}

//! `diff` and `export`: what a container's processes changed, and its whole tree.
//!
//! Layers are read without a mount. A root that is a union is looked at where it is mounted, and for
//! a container that does not run mounted meanwhile; it is compared with the image as a whole.

use std::io::Write;
use std::path::Path;

use overlayfs::diff::{
    Change, ExportError, Extent, Form, MountPoints, changes, export_stack, export_tree,
};
use overlayfs::stack::Stack;
use sys::fs::Dir;

use crate::Engine;
use crate::container::held::Held;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::Container;
use crate::union;

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

/// What a container's processes wrote and what lies below it.
pub(super) struct Layers {
    pub(super) upper: Dir,
    pub(super) extent: Extent,
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
        self.with_layers(&container, |layers| {
            let mounts = mount_points();
            let found = changes(&layers.upper, layers.extent, &layers.lower, &mounts);
            found.map_err(|error| {
                let text = format!("cannot compare the layers of container {id}");
                Error::system(text, error)
            })
        })
    }

    /// Writes the container's file system as an archive: what it would have in its volumes' places
    /// without them.
    ///
    /// # Errors
    /// `No such container`; when a layer cannot be read or the output not be written.
    pub fn export(&self, id: &ContainerId, output: &mut dyn Write) -> Result<()> {
        let container = self.store().load(id)?;
        let fail =
            |error: ExportError| Error::system(format!("cannot export container {id}"), error);
        match self.has_union(&container) {
            true => self.with_layers(&container, |layers| {
                export_tree(&layers.upper, Form::plain(Path::new("")), output)
                    .map(drop)
                    .map_err(fail)
            })?,
            false => {
                let mut trees = vec![container.dir.upper()];
                trees.extend(self.images().layers().trees(&container.record.layers));
                let stack = Stack::open(&trees).map_err(|error| fail(error.into()))?;
                export_stack(&stack, output).map_err(fail)?;
            }
        }
        self.note(&container, "export", &[]);
        Ok(())
    }

    fn has_union(&self, container: &Container) -> bool {
        !container.record.host.rootfs_union.is_empty()
    }

    /// Does something with what a container's processes wrote, and what lies below it.
    pub(super) fn with_layers<T>(
        &self,
        container: &Container,
        work: impl FnOnce(&Layers) -> Result<T>,
    ) -> Result<T> {
        if !self.has_union(container) {
            return work(&self.layers_of(container, &container.dir.upper(), Extent::Layer)?);
        }
        let place = self.store().union_of(container.id(), "root");
        let work = || work(&self.layers_of(container, &place, Extent::Whole)?);
        loop {
            match Held::of(self, container)? {
                Held::Lives => return work(),
                Held::Changed => {}
                Held::Rests(claim) => {
                    let union = union::root(self, container)?.into_iter().collect();
                    let done = union::while_mounted(self, container, union, work);
                    claim.clear()?;
                    return done;
                }
            }
        }
    }

    fn layers_of(&self, container: &Container, upper: &Path, extent: Extent) -> Result<Layers> {
        let fail = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::system(
                format!("cannot open the layers of container {}", container.id()),
                error,
            )
        };
        let upper = Dir::open(upper).map_err(|error| fail(error.into()))?;
        let images = self.images();
        let lower = images
            .layers()
            .stack(&container.record.layers)
            .map_err(|error| fail(error.into()))?;
        Ok(Layers {
            upper,
            extent,
            lower,
        })
    }
}

//! A union mount that a container uses, as a step of its start.
//!
//! It is mounted on the host, at a place of its own in the state directory, and served by a process
//! of its own that ends with the mount. The container's mount is bound to it.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use overlayfs::union::options::Options;
use overlayfs::union::{MountRequest, UnionError, mount, unmount};
use plan::Description;
use serde::{Deserialize, Serialize};

use crate::id::ContainerId;
use crate::mount::{MountKind, MountPoint, union_options};
use crate::store::Store;

/// A union to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnionStep {
    /// Where.
    pub target: PathBuf,
    /// Branches and settings.
    pub options: String,
}

/// Where the union of a container's mount is.
fn place(store: &Store, id: &ContainerId, index: usize) -> PathBuf {
    store.state().join("unions").join(format!("{id}-{index}"))
}

/// Takes the unions out of a container's mounts: each becomes a step, and a mount of its place.
pub(crate) fn take(store: &Store, id: &ContainerId, mounts: &mut [MountPoint]) -> Vec<UnionStep> {
    let unions = mounts.iter_mut().enumerate();
    unions
        .filter(|(_, mount)| mount.kind == MountKind::Union)
        .map(|(index, mount)| {
            let step = UnionStep {
                target: place(store, id, index),
                options: union_options(mount),
            };
            mount.source = show(&step.target);
            step
        })
        .collect()
}

impl UnionStep {
    /// Its name in journals and among fault points.
    pub fn name(&self) -> &'static str {
        "union-mount"
    }

    /// Mounts it.
    ///
    /// # Errors
    /// A branch that is missing, lies in another or cannot be used.
    pub fn apply(&self) -> Result<(), UnionError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.target);
        made.map_err(|error| self.failed("make the directory", &error))?;
        mount(&MountRequest {
            options: Options::parse(&self.options)?,
            target: self.target.clone(),
            source: "none".to_owned(),
            foreground: false,
        })?;
        Ok(())
    }

    /// Unmounts it; one that is gone already is as it should be. Nothing below it is touched: the
    /// directory goes only once it is empty.
    ///
    /// # Errors
    /// When the kernel keeps the mount or the directory.
    pub fn undo(&self) -> Result<(), UnionError> {
        match unmount(&self.target, true) {
            Ok(()) | Err(UnionError::NotUnion(_)) => {}
            Err(error) => return Err(error),
        }
        match fs::remove_dir(&self.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.failed("remove the directory", &error))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &str, error: &io::Error) -> UnionError {
        let text = format!("cannot {what} {}: {error}", self.target.display());
        UnionError::Refused(text, error.raw_os_error().unwrap_or(0))
    }

    /// What, why and how.
    pub fn describe(&self) -> Description {
        let target = show(&self.target);
        Description {
            what: format!("mount a union ({}) at {target}", self.options),
            why: "several directories of the host are one in the container".to_owned(),
            calls: vec![
                "open(\"/dev/fuse\")".to_owned(),
                format!("mount(\"none\", {target:?}, \"fuse.rbox-union\")"),
            ],
        }
    }

    /// The commands that would do the same.
    pub fn shell(&self) -> Vec<String> {
        let target = show(&self.target);
        vec![
            format!("mkdir -p {target}"),
            format!("rbox union mount -o {} {target}", self.options),
        ]
    }
}

fn show(path: &Path) -> String {
    path.display().to_string()
}

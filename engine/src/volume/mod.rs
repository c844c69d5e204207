//! Volumes: directories that outlive containers.
//!
//! ```text
//! root/volumes/<name>/volume.json   VolumeRecord
//! root/volumes/<name>/_data         the content
//! root/volumes/<name>/filling       while the image's content is put into one that was there
//! ```
//!
//! Who uses a volume is not written anywhere: it is read from the containers' records. Who makes a
//! container that uses volumes shares the lock on `volumes/` until the container is published; who
//! removes a volume holds that lock alone. So a volume is never removed under a container.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use overlayfs::union::UnionError;
use overlayfs::union::options::Options;
use serde::{Deserialize, Serialize};
use sys::lock::Lock;

use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::name::is_name;
use crate::store::{Container, Store, read_json};
use crate::time::Time;

mod create;
mod driver;
mod fill;
mod make;
mod place;
mod ready;
mod remove;
mod union;

use create::refused;
pub use driver::{DriverError, VolumeDriver};
pub(crate) use driver::{DriverMount, driver_mount};
pub(crate) use union::{kept_words, union_branches};
pub use union::{union_options, union_text};

/// What is kept of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeRecord {
    /// When it was made.
    pub created_at: Time,
    /// Made for a container without a name of the user's.
    pub anonymous: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Who provides its content.
    #[serde(skip_serializing_if = "VolumeDriver::is_local")]
    pub driver: VolumeDriver,
    /// Of the driver: `type`, `device`, `o`, or those of a union.
    pub options: BTreeMap<String, String>,
}

/// A volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where its content lies.
    pub data: PathBuf,
    /// What is kept of it.
    pub record: VolumeRecord,
}

impl Store {
    /// The directory that holds all volumes.
    pub fn volumes(&self) -> PathBuf {
        self.root().join("volumes")
    }

    /// Where a volume's content lies, whether it exists or not.
    pub fn volume_data(&self, name: &str) -> PathBuf {
        self.volumes().join(name).join("_data")
    }

    /// Where a union of one container alone is.
    pub(crate) fn union_of(&self, id: &ContainerId, which: &str) -> PathBuf {
        self.state().join("unions").join(format!("{id}-{which}"))
    }

    /// Where the union of a volume is while containers have it.
    pub(crate) fn union_of_volume(&self, name: &str) -> PathBuf {
        self.state().join("volumes").join(name).join("union")
    }

    /// Where a volume's content can be found on the host; that of a union only while a container
    /// that has it runs.
    pub fn mount_point(&self, volume: &Volume) -> PathBuf {
        match volume.record.driver {
            VolumeDriver::Local => volume.data.clone(),
            VolumeDriver::Union => self.union_of_volume(&volume.name),
        }
    }

    /// Reads a volume.
    ///
    /// # Errors
    /// `get nope: no such volume`; an error that names the file when the record is damaged.
    pub fn volume(&self, name: &str) -> Result<Volume> {
        let missing = || {
            Error::not_found(format!("get {name}: no such volume"))
                .hint("list all volumes with 'rbox volume ls'")
        };
        if !is_name(name) {
            return Err(missing());
        }
        let directory = self.volumes().join(name);
        let record = read_json(&directory.join("volume.json"))?.ok_or_else(missing)?;
        Ok(Volume {
            name: name.to_owned(),
            data: directory.join("_data"),
            record,
        })
    }

    /// All volumes, by name.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn all_volumes(&self) -> Result<Vec<Volume>> {
        let path = self.volumes();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read the directory", &path, error)),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| is_name(name))
            .collect();
        names.sort();
        let mut all = Vec::new();
        for name in names {
            match self.volume(&name) {
                Ok(volume) => all.push(volume),
                Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(all)
    }

    /// Shares the volumes with all who make containers; nobody removes one meanwhile.
    ///
    /// # Errors
    /// When the directory cannot be made or locked.
    pub fn share_volumes(&self) -> Result<Lock> {
        let volumes = self.volumes();
        make_directory(&volumes, 0o701, true)?;
        Lock::share_directory(&volumes)
            .map_err(|error| Error::system(format!("cannot lock {volumes:?}"), error))
    }

    /// The containers that use a volume, running or not.
    ///
    /// # Errors
    /// When a container's record is damaged.
    pub fn users_of_volume(&self, name: &str) -> Result<Vec<Container>> {
        let mut all = self.load_all()?;
        all.retain(|container| uses(container, name));
        Ok(all)
    }
}

/// The container has this volume among its mounts.
pub(crate) fn uses(container: &Container, name: &str) -> bool {
    container
        .record
        .mounts
        .iter()
        .any(|mount| mount.name == name)
}

/// Looks whether these options make a union that can be mounted.
fn check_branches(name: &str, options: &BTreeMap<String, String>, target: &Path) -> Result<()> {
    let parsed = Options::parse(&union_text(options)).map_err(UnionError::from);
    let checked = parsed.and_then(|options| overlayfs::union::check(&options, target));
    checked.map_err(|error| {
        let text = format!("create {name}: {error}");
        Error::invalid(text).hint(
            "branches are directories of the host, none inside another: make those that are \
             missing with 'mkdir -p'",
        )
    })
}

fn make_directory(path: &Path, mode: u32, all: bool) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(all)
        .mode(mode)
        .create(path)
        .map_err(|error| Error::file("make the directory", path, error))
}

//! What the image has at a volume's place goes into the volume, once, while it is empty.
//!
//! A volume that is made gets its content before anyone sees it. One that was there already is
//! filled in place, since others may have it mounted; the file `filling` beside the data says so
//! from before the first byte until after the last. A start that finds it waits for who is filling,
//! or, when that one died, takes back what came of it and fills again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use overlayfs::LayerId;
use overlayfs::stack::Merged;
use serde::{Deserialize, Serialize};
use sys::fs::{Dir, Kind};
use sys::lock::Lock;

use super::Volume;
use crate::Engine;
use crate::error::{Error, Result};
use crate::store::{read_json, replace_json};

/// Where a volume's content comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    /// The image's layers, bottom first.
    pub(super) layers: Vec<LayerId>,
    /// The volume's place in the container.
    pub(super) place: PathBuf,
}

impl Engine {
    /// The image's directory at a place, links followed; `None` where there is none.
    pub(super) fn image_directory(&self, content: &Content) -> Result<Option<Merged>> {
        if content.layers.is_empty() {
            return Ok(None);
        }
        let fault = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::system(
                format!("cannot look at the image's {:?}", content.place),
                error,
            )
        };
        let images = self.images();
        let stack = images.layers().stack(&content.layers);
        stack
            .map_err(|error| fault(error.into()))?
            .follow(&content.place)
            .map_err(|error| fault(error.into()))
    }

    /// Fills a volume that was there already, if it is empty. `data` is where its content lies,
    /// which need not be its own directory, held open: no name leads elsewhere meanwhile.
    pub(super) fn fill(&self, volume: &Volume, data: &Dir, content: &Content) -> Result<()> {
        if !is_empty(data)? {
            return Ok(());
        }
        let Some(from) = self.image_directory(content)? else {
            return Ok(());
        };
        let marker = marker(volume);
        let _lock = lock(volume)?;
        if !is_empty(data)? {
            return Ok(());
        }
        replace_json(&marker, content)?;
        let copied = copy(&from, data, &volume.name, !volume.record.anonymous);
        if copied.is_err() {
            take_back(&from, data)?;
        }
        remove(&marker)?;
        copied
    }

    /// Brings to its end what another began: waits while that one lives.
    pub(super) fn finish_filling(&self, volume: &Volume, data: &Dir) -> Result<()> {
        let marker = marker(volume);
        let _lock = lock(volume)?;
        let Some(content) = read_json::<Content>(&marker)? else {
            return Ok(());
        };
        if let Some(from) = self.image_directory(&content)? {
            take_back(&from, data)?;
            copy(&from, data, &volume.name, !volume.record.anonymous)?;
        }
        remove(&marker)
    }
}

/// Whether somebody fills the volume, or died while he did.
pub(super) fn is_filling(volume: &Volume) -> bool {
    marker(volume).exists()
}

fn marker(volume: &Volume) -> PathBuf {
    volume.data.with_file_name("filling")
}

fn lock(volume: &Volume) -> Result<Lock> {
    let path = volume.data.parent().unwrap_or(&volume.data);
    Lock::wait_directory(path)
        .map_err(|error| Error::system(format!("cannot lock {path:?}"), error))
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::file("remove", path, error))
        }
        _ => Ok(()),
    }
}

fn is_empty(data: &Dir) -> Result<bool> {
    data.is_empty().map_err(|error| {
        Error::system(
            format!("cannot read the directory {:?}", data.path()),
            error,
        )
    })
}

/// Copies content, owner, mode, times and attributes; `durable` waits for the disk.
pub(super) fn copy(from: &Merged, data: &Dir, name: &str, durable: bool) -> Result<()> {
    let copied = overlayfs::copy::copy_merged(from, data).and_then(|()| match durable {
        true => data.sync_file_system(),
        false => Ok(()),
    });
    copied.map_err(|error| {
        let full = error.errno() == 28;
        let error = Error::system(
            format!("cannot copy the image's content into volume {name:?}"),
            error,
        );
        match full {
            true => error.hint("free space, or mount the volume with nocopy"),
            false => error,
        }
    })
}

/// Removes what the image's directory has from the volume; what others put there stays.
fn take_back(from: &Merged, dir: &Dir) -> Result<()> {
    let fault = |error| Error::system(format!("cannot clear {:?}", dir.path()), error);
    for (entry, _) in from.entries().map_err(fault)? {
        match dir.find(&entry.name).map_err(fault)? {
            None => {}
            Some(stat) if stat.kind == Kind::Directory => {
                dir.remove_tree(&entry.name).map_err(fault)?;
            }
            Some(_) => dir.unlink(&entry.name).map_err(fault)?,
        }
    }
    Ok(())
}

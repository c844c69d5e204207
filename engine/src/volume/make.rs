//! Making a volume: aside, filled, then renamed into place.

use std::fs;
use std::path::{Path, PathBuf};

use overlayfs::stack::Merged;
use sys::fs::Dir;
use sys::lock::Lock;

use super::fill::copy;
use super::{Volume, VolumeRecord, make_directory};
use crate::error::{Error, ErrorKind, Result};
use crate::id::random_hex;
use crate::store::{Store, replace_json};

impl Store {
    /// Makes a volume unless there is one of this name; says whether it was made. A new one gets
    /// the content, owner and mode of the image's directory, if given.
    ///
    /// It is made aside and renamed into place: nobody sees a half-made volume, and of two makers
    /// one finds the other's.
    ///
    /// # Errors
    /// When the root directory is full or not writable; then nothing is left.
    pub fn make_volume(
        &self,
        name: &str,
        record: &VolumeRecord,
        content: Option<&Merged>,
    ) -> Result<(Volume, bool)> {
        match self.volume(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            found => return found.map(|volume| (volume, false)),
        }
        let (aside, lock) = self.aside_volume()?;
        let made = write(&aside, record, name, content).and_then(|()| self.place(&aside, name));
        if !matches!(made, Ok(true)) {
            // whatever cannot be removed now is swept later
            let _ = fs::remove_dir_all(&aside);
        }
        drop(lock);
        let made = made?;
        Ok((self.volume(name)?, made))
    }

    /// An empty directory aside, locked.
    fn aside_volume(&self) -> Result<(PathBuf, Lock)> {
        let aside = self.root().join("aside");
        make_directory(&aside, 0o711, true)?;
        loop {
            let path = aside.join(format!("{}.volume", random_hex()?));
            make_directory(&path, 0o701, false)?;
            match Lock::wait_directory(&path) {
                Ok(lock) if path.exists() => return Ok((path, lock)),
                // a sweep came between the two and took it for a crash's remains
                Ok(_) => {}
                Err(_) if !path.exists() => {}
                Err(error) => return Err(Error::system(format!("cannot lock {path:?}"), error)),
            }
        }
    }

    /// Gives the volume its place; `false` when another was faster.
    fn place(&self, aside: &Path, name: &str) -> Result<bool> {
        let volumes = self.volumes();
        make_directory(&volumes, 0o701, true)?;
        let place = volumes.join(name);
        match fs::rename(aside, &place) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(17 | 39)) => Ok(false),
            Err(error) => Err(Error::file("make the volume", &place, error)),
        }
    }
}

fn write(aside: &Path, record: &VolumeRecord, name: &str, content: Option<&Merged>) -> Result<()> {
    let data = aside.join("_data");
    make_directory(&data, 0o755, false)?;
    if let Some(content) = content {
        let dir = Dir::open(&data)
            .map_err(|error| Error::system(format!("cannot open the directory {data:?}"), error))?;
        copy(content, &dir, name, !record.anonymous)?;
    }
    replace_json(&aside.join("volume.json"), record)
}

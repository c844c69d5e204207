//! A container's volumes: there when it is made, and there again when it starts.

use std::path::{Path, PathBuf};

use sys::fs::Dir;

use super::driver::{DriverMount, driver_mount};
use super::fill::{Content, is_filling};
use super::{Volume, VolumeDriver, VolumeRecord, refused};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::mount::{MountKind, MountPoint, open_source};
use crate::store::Container;
use crate::time::Time;

impl Engine {
    /// Makes those volumes of a container that are not there yet, and gives the image's content to
    /// those that are empty.
    ///
    /// # Errors
    /// When the root directory is full or not writable; a volume is then as it was before.
    pub fn make_volumes(&self, container: &Container) -> Result<()> {
        for mount in volumes(container) {
            match self.store().volume(&mount.name) {
                Ok(volume) => self.fill_for(container, mount, &volume)?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.make_for(container, mount)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a start makes sure of: every volume is there, and none is half filled. A crash between
    /// a container's making and its volumes' leaves such.
    ///
    /// # Errors
    /// As [`Engine::make_volumes`].
    pub(crate) fn ready_volumes(&self, container: &Container) -> Result<()> {
        for mount in volumes(container) {
            match self.store().volume(&mount.name) {
                Ok(volume) if is_filling(&volume) => {
                    if let Some(data) = self.data(&volume)? {
                        self.finish_filling(&volume, &data)?;
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.make_for(container, mount)?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn make_for(&self, container: &Container, mount: &MountPoint) -> Result<()> {
        let options = mount.volume.clone().unwrap_or_default();
        let config = options.driver_config.unwrap_or_default();
        let driver =
            VolumeDriver::named(&config.name).map_err(|error| refused(&mount.name, &error))?;
        let record = VolumeRecord {
            created_at: Time::now(),
            anonymous: mount.anonymous,
            labels: options.labels,
            driver,
            options: config.options,
        };
        let content = content(container, mount);
        // what lies elsewhere is filled there, as if it had been there before
        let own = record.options.is_empty();
        let from = match own && !mount.no_copy {
            true => self.image_directory(&content)?,
            false => None,
        };
        let (volume, made) = self
            .store()
            .make_volume(&mount.name, &record, from.as_ref())?;
        if made {
            let driver = [("driver", driver.as_str())];
            self.events()
                .append(&Event::new("volume", "create", &volume.name, &driver))?;
        }
        if made && own {
            return Ok(());
        }
        self.fill_for(container, mount, &volume)
    }

    fn fill_for(&self, container: &Container, mount: &MountPoint, volume: &Volume) -> Result<()> {
        if mount.no_copy {
            return Ok(());
        }
        match self.data(volume)? {
            Some(data) => self.fill(volume, &data, &content(container, mount)),
            None => Ok(()),
        }
    }

    /// Where a volume's content lies on this host; `None` where it is mounted for containers only.
    fn data(&self, volume: &Volume) -> Result<Option<Dir>> {
        if volume.record.driver == VolumeDriver::Union {
            return Ok(None);
        }
        match driver_mount(&volume.record.options) {
            None => Dir::open(&volume.data).map(Some).map_err(|error| {
                Error::system(
                    format!("cannot open the directory {:?}", volume.data),
                    error,
                )
            }),
            Some(DriverMount::Bind { device, .. }) => {
                open_source(self, Path::new(device)).map(Some)
            }
            Some(DriverMount::FileSystem { .. }) => Ok(None),
        }
    }
}

fn volumes(container: &Container) -> impl Iterator<Item = &MountPoint> {
    let mounts = container.record.mounts.iter();
    mounts.filter(|mount| mount.kind == MountKind::Volume)
}

fn content(container: &Container, mount: &MountPoint) -> Content {
    Content {
        layers: container.record.layers.clone(),
        place: PathBuf::from(&mount.destination),
    }
}

#[cfg(test)]
mod tests;

//! Where a container's volume is and how it is mounted, settled when the container is made.

use std::collections::BTreeMap;

use super::{VolumeDriver, check_branches, refused};
use crate::Engine;
use crate::error::{ErrorKind, Result};
use crate::mount::{DriverConfig, MountPoint, VolumeOptions};

impl Engine {
    /// Says where a volume lies, and how it is mounted if that is not its own directory.
    pub(crate) fn place_volume(&self, mount: &mut MountPoint) -> Result<()> {
        let (driver, options) = match self.store().volume(&mount.name) {
            Ok(volume) => {
                if let Some(asked) = asked(mount).filter(|asked| !asked.name.is_empty()) {
                    let driver = named(&mount.name, &asked.name)?;
                    self.check_driver(&mount.name, driver)?;
                }
                (volume.record.driver, volume.record.options)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => self.new_volume(mount)?,
            Err(error) => return Err(error),
        };
        let place = match driver {
            VolumeDriver::Local => self.store().volume_data(&mount.name),
            VolumeDriver::Union => self.store().union_of_volume(&mount.name),
        };
        mount.source = place.display().to_string();
        // a volume that is there is as it was made, whatever is asked for now
        let volume = mount.volume.take().unwrap_or_default();
        let driver = DriverConfig {
            name: driver.as_str().to_owned(),
            options,
        };
        mount.volume = Some(VolumeOptions {
            driver_config: Some(driver).filter(|driver| !driver.options.is_empty()),
            ..volume
        })
        .filter(|volume| *volume != VolumeOptions::default());
        Ok(())
    }

    /// Driver and options of a volume that is to be made for a container.
    fn new_volume(&self, mount: &MountPoint) -> Result<(VolumeDriver, BTreeMap<String, String>)> {
        let config = asked(mount).cloned().unwrap_or_default();
        let name = &mount.name;
        let driver = named(name, &config.name)?;
        driver
            .check(&config.options)
            .map_err(|error| refused(name, &error))?;
        if driver == VolumeDriver::Union {
            let target = self.store().union_of_volume(name);
            check_branches(name, &config.options, &target)?;
        }
        Ok((driver, config.options))
    }
}

/// The driver that the user asks for, and its options.
fn asked(mount: &MountPoint) -> Option<&DriverConfig> {
    mount.volume.as_ref()?.driver_config.as_ref()
}

fn named(volume: &str, driver: &str) -> Result<VolumeDriver> {
    VolumeDriver::named(driver).map_err(|error| refused(volume, &error))
}

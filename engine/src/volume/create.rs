//! Making volumes at the user's wish.

use std::collections::BTreeMap;

use super::{DriverError, Volume, VolumeDriver, VolumeRecord, check_branches};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::random_hex;
use crate::mount::volume_name;
use crate::time::Time;

impl Engine {
    /// Makes a volume; one of this name that is there already stays as it is. Without a name one
    /// is drawn.
    ///
    /// # Errors
    /// A name, a driver or options that are none, in Docker's words; branches that cannot be a
    /// union; when the root directory is full or not writable.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        driver: &str,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<Volume> {
        let name = match name {
            Some(name) => volume_name(name).map_err(|error| Error::invalid(error.to_string()))?,
            None => random_hex()?,
        };
        let driver = VolumeDriver::named(driver).map_err(|error| refused(&name, &error))?;
        driver
            .check(options)
            .map_err(|error| refused(&name, &error))?;
        self.check_driver(&name, driver)?;
        if driver == VolumeDriver::Union {
            check_branches(&name, options, &self.store().union_of_volume(&name))?;
        }
        let record = VolumeRecord {
            created_at: Time::now(),
            driver,
            labels: labels.clone(),
            options: options.clone(),
            ..VolumeRecord::default()
        };
        let (volume, made) = self.store().make_volume(&name, &record, None)?;
        if made {
            self.events().append(&Event::new(
                "volume",
                "create",
                &name,
                &[("driver", driver.as_str())],
            ))?;
        }
        Ok(volume)
    }

    /// A volume of this name has another driver.
    pub(super) fn check_driver(&self, name: &str, wanted: VolumeDriver) -> Result<()> {
        let has = match self.store().volume(name) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            found => found?.record.driver.as_str(),
        };
        if has == wanted.as_str() {
            return Ok(());
        }
        let text = format!(
            "create {name}: driver '{has}' already has volume '{name}': volume name must be unique"
        );
        Err(Error::conflict(text).hint(format!(
            "choose another name, or remove it with 'rbox volume rm {name}'"
        )))
    }
}

/// A driver's refusal as that of a volume.
pub(super) fn refused(name: &str, error: &DriverError) -> Error {
    let failure = Error::invalid(format!("create {name}: {error}"));
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Options;

    #[test]
    fn a_volume_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let engine = Engine::open(Options {
            root: directory.path().join("root"),
            state: directory.path().join("run"),
            ..Options::default()
        });
        let none = BTreeMap::new();
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let first = engine
            .create_volume(Some("data"), "", &labels, &none)
            .unwrap();
        assert_eq!(first.record.labels, labels);
        let again = engine
            .create_volume(Some("data"), "", &none, &none)
            .unwrap();
        assert_eq!(again, first);
        let drawn = engine.create_volume(None, "", &labels, &none).unwrap();
        assert_eq!(drawn.name.len(), 64);
        assert_eq!(engine.events().read().unwrap().len(), 2);
        for (name, want) in [("x", "too short"), ("a/b", "includes invalid characters")] {
            let error = engine
                .create_volume(Some(name), "local", &labels, &none)
                .unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
        let odd = BTreeMap::from([("foo".to_owned(), "1".to_owned())]);
        let error = engine
            .create_volume(Some("odd"), "local", &none, &odd)
            .unwrap_err();
        assert_eq!(error.to_string(), "create odd: invalid option: \"foo\"");
        for (name, driver, expected) in [
            (
                "odd",
                "nosuch",
                "create odd: error looking up volume plugin nosuch: plugin \"nosuch\" not found",
            ),
            (
                "odd",
                "union",
                "create odd: a union volume needs branches: -o dirs=PATH=rw:PATH=ro",
            ),
        ] {
            let error = engine.create_volume(Some(name), driver, &none, &none);
            assert_eq!(error.unwrap_err().to_string(), expected);
        }
    }
}

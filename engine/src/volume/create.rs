//! Making volumes at the user's wish.

use std::collections::BTreeMap;

use super::{Volume, VolumeRecord, check_options};
use crate::Engine;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::id::random_hex;
use crate::mount::volume_name;
use crate::time::Time;

impl Engine {
    /// Makes a volume; one of this name that is there already stays as it is. Without a name one
    /// is drawn.
    ///
    /// # Errors
    /// A name or options that are none, in Docker's words; when the root directory is full or not writable.
    pub fn create_volume(
        &self,
        name: Option<&str>,
        labels: &BTreeMap<String, String>,
        options: &BTreeMap<String, String>,
    ) -> Result<Volume> {
        let name = match name {
            Some(name) => volume_name(name).map_err(|error| Error::invalid(error.to_string()))?,
            None => random_hex()?,
        };
        check_options(options)
            .map_err(|error| Error::invalid(format!("create {name}: {error}")))?;
        let record = VolumeRecord {
            created_at: Time::now(),
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
                &[("driver", "local")],
            ))?;
        }
        Ok(volume)
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
        let first = engine.create_volume(Some("data"), &labels, &none).unwrap();
        assert_eq!(first.record.labels, labels);
        let again = engine.create_volume(Some("data"), &none, &none).unwrap();
        assert_eq!(again, first);
        let drawn = engine.create_volume(None, &labels, &none).unwrap();
        assert_eq!(drawn.name.len(), 64);
        assert_eq!(engine.events().read().unwrap().len(), 2);
        for (name, want) in [("x", "too short"), ("a/b", "includes invalid characters")] {
            let error = engine
                .create_volume(Some(name), &labels, &none)
                .unwrap_err();
            assert!(error.to_string().contains(want), "{error}");
        }
        let odd = BTreeMap::from([("foo".to_owned(), "1".to_owned())]);
        let error = engine.create_volume(Some("odd"), &none, &odd).unwrap_err();
        assert_eq!(error.to_string(), "create odd: invalid option: \"foo\"");
    }
}

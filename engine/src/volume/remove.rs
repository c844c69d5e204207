//! Removing volumes, never one that a container uses.

use std::fs;

use sys::lock::Lock;

use super::Volume;
use crate::error::{Error, Result};
use crate::id::random_hex;
use crate::store::{Record, Store};

impl Store {
    /// Removes a volume.
    ///
    /// # Errors
    /// `get nope: no such volume`; `remove nn: volume is in use - [<id>,…]`.
    pub fn remove_volume(&self, name: &str) -> Result<()> {
        let volume = self.volume(name)?;
        let _lock = self.own_volumes()?;
        self.remove_unused(&volume)
    }

    /// Removes those volumes of a container (which is out of sight already) that the user gave no
    /// name and that no other container uses.
    ///
    /// # Errors
    /// When a record cannot be read or a directory not be removed.
    pub fn remove_anonymous_volumes(&self, record: &Record) -> Result<Vec<Volume>> {
        let mut removed = Vec::new();
        let mounts = record.mounts.iter().filter(|mount| mount.anonymous);
        let names: Vec<&String> = mounts.map(|mount| &mount.name).collect();
        if names.is_empty() {
            return Ok(removed);
        }
        let _lock = self.own_volumes()?;
        for name in names {
            let Some(volume) = missing_is_none(self.volume(name))? else {
                continue;
            };
            match self.remove_unused(&volume) {
                Ok(()) => removed.push(volume),
                // another container has inherited it
                Err(error) if error.kind() == crate::ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Removes all volumes that no container uses and the condition accepts.
    ///
    /// # Errors
    /// When a record cannot be read or a directory not be removed.
    pub fn prune_volumes(&self, wanted: impl Fn(&Volume) -> bool) -> Result<Vec<Volume>> {
        let mut removed = Vec::new();
        let candidates = self.all_volumes()?;
        if candidates.is_empty() {
            return Ok(removed);
        }
        let _lock = self.own_volumes()?;
        for volume in candidates.into_iter().filter(wanted) {
            match self.remove_unused(&volume) {
                Ok(()) => removed.push(volume),
                Err(error) if error.kind() == crate::ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    fn own_volumes(&self) -> Result<Lock> {
        let volumes = self.volumes();
        Lock::wait_directory(&volumes)
            .map_err(|error| Error::system(format!("cannot lock {volumes:?}"), error))
    }

    /// With the lock held: nobody can begin to use it between the look and the removal.
    fn remove_unused(&self, volume: &Volume) -> Result<()> {
        let users = self.users_of_volume(&volume.name)?;
        if !users.is_empty() {
            let ids: Vec<&str> = users.iter().map(|user| user.id().as_str()).collect();
            return Err(Error::conflict(format!(
                "remove {}: volume is in use - [{}]",
                volume.name,
                ids.join(", ")
            ))
            .hint(format!(
                "remove the container first: 'rbox rm -v {}'",
                users[0].name
            )));
        }
        let place = self.volumes().join(&volume.name);
        let gone = self
            .root()
            .join("aside")
            .join(format!("{}.gone", random_hex()?));
        let fault = |error| Error::file("remove", &place, error);
        fs::rename(&place, &gone).map_err(fault)?;
        fs::remove_dir_all(&gone).map_err(|error| Error::file("remove", &gone, error))
    }
}

fn missing_is_none(found: Result<Volume>) -> Result<Option<Volume>> {
    match found {
        Ok(volume) => Ok(Some(volume)),
        Err(error) if error.kind() == crate::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{MountKind, MountPoint};
    use crate::store::record::tests::record;
    use crate::store::{Container, replace_json};
    use crate::volume::VolumeRecord;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        (directory, store)
    }

    fn container(store: &Store, name: &str, volume: &str, anonymous: bool) -> Container {
        let mut record = record(name);
        record.mounts = vec![MountPoint {
            name: volume.to_owned(),
            anonymous,
            ..MountPoint::new(MountKind::Volume, "", "/data")
        }];
        let aside = store.make_aside(&record.id).unwrap();
        replace_json(&aside.dir().config(), &record).unwrap();
        aside.publish(store).unwrap();
        store.load(&record.id).unwrap()
    }

    #[test]
    fn making_twice_gives_the_first() {
        let (_directory, store) = store();
        let first = VolumeRecord {
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..VolumeRecord::default()
        };
        assert!(store.make_volume("data", &first, None).unwrap().1);
        let (again, made) = store
            .make_volume("data", &VolumeRecord::default(), None)
            .unwrap();
        assert!(!made);
        assert_eq!(again.record, first);
        assert_eq!(store.all_volumes().unwrap(), [again]);
        assert_eq!(fs::read_dir(store.root().join("aside")).unwrap().count(), 0);
    }

    #[test]
    fn many_makers_of_one_name_make_one_volume() {
        let (_directory, store) = store();
        let made: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        store
                            .make_volume("data", &VolumeRecord::default(), None)
                            .unwrap()
                            .1
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| usize::from(thread.join().unwrap()))
                .sum()
        });
        assert_eq!(made, 1);
        assert_eq!(fs::read_dir(store.root().join("aside")).unwrap().count(), 0);
    }

    #[test]
    fn a_volume_in_use_stays() {
        let (_directory, store) = store();
        store
            .make_volume("data", &VolumeRecord::default(), None)
            .unwrap();
        let user = container(&store, "user", "data", false);
        let error = store.remove_volume("data").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Conflict);
        assert_eq!(
            error.to_string(),
            format!("remove data: volume is in use - [{}]", user.id())
        );
        assert!(store.prune_volumes(|_| true).unwrap().is_empty());
        store.discard(user.id(), false).unwrap();
        store.remove_volume("data").unwrap();
        let error = store.remove_volume("data").unwrap_err();
        assert_eq!(error.to_string(), "get data: no such volume");
    }

    #[test]
    fn the_last_user_takes_an_anonymous_volume_along() {
        let (_directory, store) = store();
        let name = random_hex().unwrap();
        store
            .make_volume(&name, &VolumeRecord::default(), None)
            .unwrap();
        store
            .make_volume("named", &VolumeRecord::default(), None)
            .unwrap();
        let first = container(&store, "first", &name, true);
        let heir = container(&store, "heir", &name, true);
        let other = container(&store, "other", "named", false);
        for (user, removed) in [(first, 0), (heir, 1), (other, 0)] {
            assert_eq!(store.discard(user.id(), true).unwrap().len(), removed);
        }
        assert_eq!(store.all_volumes().unwrap().len(), 1);
    }

    #[test]
    fn a_removal_that_died_on_its_way_is_finished_by_the_next_sweep() {
        let (_directory, store) = store();
        let name = random_hex().unwrap();
        store
            .make_volume(&name, &VolumeRecord::default(), None)
            .unwrap();
        let user = container(&store, "user", &name, true);
        let gone = store.root().join(format!("aside/{}.gone-v", user.id()));
        fs::rename(user.dir.path(), &gone).unwrap();
        store.sweep().unwrap();
        assert!(!gone.exists());
        assert!(store.all_volumes().unwrap().is_empty());
    }
}

//! `aside/`: containers that are being made or being removed, invisible to everybody.
//!
//! A directory made here is locked by its maker until it has been renamed into place. What nobody
//! holds locked was left by a crash and may be removed by anyone.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use sys::lock::Lock;

use super::{ContainerDir, Store, read_json};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::volume::Volume;

/// Marks a removed container whose volumes without a name go with it.
const WITH_VOLUMES: &str = "gone-v";

/// No such file or directory.
const ENOENT: i32 = 2;

/// A container's directory before anyone can see it; removed again unless published.
#[derive(Debug)]
pub struct Aside {
    id: ContainerId,
    dir: ContainerDir,
    // falls last: while it is held nobody takes the directory for a crash's remains
    lock: Option<Lock>,
}

impl Aside {
    /// The paths inside, as they are now.
    pub fn dir(&self) -> &ContainerDir {
        &self.dir
    }

    /// Gives the directory its place: from here on the container exists.
    ///
    /// # Errors
    /// When the rename fails; the directory is then removed.
    pub fn publish(mut self, store: &Store) -> Result<ContainerDir> {
        let place = store.container(&self.id);
        let rename = || fs::rename(self.dir.path(), place.path());
        or_parent(&store.containers(), rename)
            .map_err(|error| Error::file("make the directory", place.path(), error))?;
        self.lock = None;
        Ok(place)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // whatever cannot be removed now is swept later
            let _ = fs::remove_dir_all(self.dir.path());
        }
    }
}

/// A container out of sight that is to be deleted.
#[derive(Debug)]
pub struct Hidden {
    path: PathBuf,
    lock: Lock,
}

impl Store {
    fn aside_dir(&self) -> PathBuf {
        self.root().join("aside")
    }

    /// Makes a container's directory aside, locked and empty.
    ///
    /// # Errors
    /// When the root directory is full or not writable.
    pub fn make_aside(&self, id: &ContainerId) -> Result<Aside> {
        let path = self.aside_dir().join(id.as_str());
        loop {
            let make = || fs::DirBuilder::new().mode(0o710).create(&path);
            or_parent(&self.aside_dir(), make)
                .map_err(|error| Error::file("make the directory", &path, error))?;
            match Lock::wait_directory(&path) {
                // A sweep may have come between the two and taken it for a crash's remains.
                Ok(lock) if path.exists() => {
                    return Ok(Aside {
                        id: id.clone(),
                        dir: ContainerDir::at(path),
                        lock: Some(lock),
                    });
                }
                Ok(_) => {}
                Err(error) if error.errno() == ENOENT => {}
                Err(error) => {
                    return Err(Error::system(format!("cannot lock {path:?}"), error));
                }
            }
        }
    }

    /// A container with this id is being made right now.
    pub(crate) fn is_being_made(&self, id: &ContainerId) -> bool {
        let path = self.aside_dir().join(id.as_str());
        matches!(Lock::attempt_directory(&path), Ok(None))
    }

    /// Takes a container out of sight by one rename, then deletes it; with `volumes` also those
    /// volumes of it that have no name and no other user. Gives the volumes that are gone.
    ///
    /// A crash in between is made good by the next sweep, volumes included.
    ///
    /// # Errors
    /// `No such container` when it is gone already; [`crate::ErrorKind::System`] when it cannot be
    /// renamed or, being out of sight, not be deleted whole.
    pub fn discard(&self, id: &ContainerId, volumes: bool) -> Result<Vec<Volume>> {
        let hidden = self.hide(id, volumes)?;
        self.delete(hidden)
    }

    /// Takes a container out of sight by one rename; returns what [`Store::delete`] is to delete.
    /// It is held locked until then: no sweep of another command does our work for us.
    ///
    /// # Errors
    /// `No such container` when it is gone already; [`crate::ErrorKind::System`] when it cannot be
    /// renamed.
    pub fn hide(&self, id: &ContainerId, volumes: bool) -> Result<Hidden> {
        let place = self.container(id);
        let lock = match Lock::wait_directory(place.path()) {
            Ok(lock) => lock,
            Err(error) if error.errno() == ENOENT => {
                return Err(Error::not_found(format!("No such container: {id}")));
            }
            Err(error) => {
                return Err(Error::system(
                    format!("cannot lock {:?}", place.path()),
                    error,
                ));
            }
        };
        let suffix = if volumes { WITH_VOLUMES } else { "gone" };
        let gone = self.aside_dir().join(format!("{id}.{suffix}"));
        let rename = || match fs::rename(place.path(), &gone) {
            // the container or the directory aside: only the latter can be mended
            Err(error) if error.kind() == io::ErrorKind::NotFound && !place.path().exists() => {
                Ok(false)
            }
            other => other.map(|()| true),
        };
        let moved = or_parent(&self.aside_dir(), rename)
            .map_err(|error| Error::file("remove", place.path(), error))?;
        if !moved {
            return Err(Error::not_found(format!("No such container: {id}")));
        }
        Ok(Hidden { path: gone, lock })
    }

    /// Deletes what was hidden; gives the volumes that went with it.
    ///
    /// # Errors
    /// When something cannot be deleted; the next sweep tries again.
    pub fn delete(&self, hidden: Hidden) -> Result<Vec<Volume>> {
        let removed = self.delete_locked(&hidden.path);
        drop(hidden.lock);
        removed
    }

    fn delete_locked(&self, path: &Path) -> Result<Vec<Volume>> {
        let mut removed = Vec::new();
        if path
            .extension()
            .is_some_and(|suffix| suffix == WITH_VOLUMES)
        {
            let config = ContainerDir::at(path.to_owned()).config();
            if let Some(record) = read_json(&config)? {
                removed = self.remove_anonymous_volumes(&record)?;
            }
        }
        fs::remove_dir_all(path).map_err(|error| Error::file("remove", path, error))?;
        Ok(removed)
    }

    /// Removes what crashes left aside, and the names of that; what someone works on is left alone.
    ///
    /// # Errors
    /// When `aside/` exists and cannot be read. What cannot be removed waits for the next sweep.
    pub fn sweep(&self) -> Result<()> {
        let aside = self.aside_dir();
        let entries = match fs::read_dir(&aside) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("read the directory", &aside, error)),
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let Ok(Some(lock)) = Lock::attempt_directory(&path) else {
                continue;
            };
            let id = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .and_then(|stem| stem.parse().ok());
            if self.delete_locked(&path).is_ok()
                && let Some(id) = id
            {
                let _ = self.release_all(&id);
            }
            drop(lock);
        }
        Ok(())
    }
}

/// Does it; when the parent directory is missing, makes that and tries again.
pub(super) fn or_parent<T>(
    parent: &Path,
    mut operation: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    match operation() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o711)
                .create(parent)?;
            operation()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        (directory, store)
    }

    fn aside(store: &Store) -> usize {
        fs::read_dir(store.aside_dir()).unwrap().count()
    }

    #[test]
    fn published_is_seen_whole_and_not_before() {
        let (_directory, store) = store();
        let id = ContainerId::random().unwrap();
        let made = store.make_aside(&id).unwrap();
        fs::write(made.dir().config(), "{}").unwrap();
        assert!(store.ids().unwrap().is_empty());
        assert!(store.is_being_made(&id));
        let place = made.publish(&store).unwrap();
        assert_eq!(fs::read_to_string(place.config()).unwrap(), "{}");
        assert_eq!(store.ids().unwrap(), [id]);
        assert_eq!(aside(&store), 0);
    }

    #[test]
    fn what_is_not_published_vanishes() {
        let (_directory, store) = store();
        drop(store.make_aside(&ContainerId::random().unwrap()).unwrap());
        assert_eq!(aside(&store), 0);
    }

    #[test]
    fn a_sweep_takes_the_remains_of_a_crash_and_leaves_work_alone() {
        let (_directory, store) = store();
        store.sweep().unwrap();
        let busy = store.make_aside(&ContainerId::random().unwrap()).unwrap();
        let mut crashed = store.make_aside(&ContainerId::random().unwrap()).unwrap();
        crashed.lock = None; // as the kernel does when the process dies
        let remains = store.aside_dir().join("x.gone");
        fs::create_dir(&remains).unwrap();
        fs::write(remains.join("file"), "").unwrap();
        store.sweep().unwrap();
        assert_eq!(aside(&store), 1, "{remains:?}");
        assert!(busy.dir().path().exists());
    }

    #[test]
    fn discarding_twice_finds_nothing_the_second_time() {
        let (_directory, store) = store();
        let id = ContainerId::random().unwrap();
        store.make_aside(&id).unwrap().publish(&store).unwrap();
        store.discard(&id, false).unwrap();
        let error = store.discard(&id, false).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::NotFound);
        assert_eq!(aside(&store), 0);
    }
}

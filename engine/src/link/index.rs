//! Which containers have a link to one of a certain name: marks that count only while the
//! receiver's own document agrees.
//!
//! A mark is made before the receiver can be seen and taken away after it is gone: a crash leaves
//! a mark too many, never one too few. Whoever meets one that nobody stands behind removes it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::Store;

impl Store {
    fn receivers_dir(&self, source: &str) -> PathBuf {
        self.root().join("links").join(source)
    }

    /// Marks a container as a receiver of whoever has this name.
    ///
    /// # Errors
    /// When the root directory is full or not writable.
    pub(crate) fn mark_receiver(&self, source: &str, receiver: &ContainerId) -> Result<()> {
        let directory = self.receivers_dir(source);
        let mark = directory.join(receiver.as_str());
        let failed = |error| Error::file("make the mark", &mark, error);
        loop {
            match fs::write(&mark, "") {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
            match fs::create_dir_all(&directory) {
                Ok(()) => {}
                // the last mark was taken away meanwhile, and the directory with it
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists
                    ) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Takes a mark away; one that is gone is as good.
    ///
    /// # Errors
    /// When the mark cannot be removed.
    pub(crate) fn unmark_receiver(&self, source: &str, receiver: &ContainerId) -> Result<()> {
        let directory = self.receivers_dir(source);
        let mark = directory.join(receiver.as_str());
        match fs::remove_file(&mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::file("remove the mark", &mark, error));
            }
            _ => {}
        }
        remove_empty(&directory);
        Ok(())
    }

    /// Who may have a link to a container of this name: one look, which finds nothing at all for
    /// almost every container.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub(crate) fn receivers(&self, source: &str) -> Result<Vec<ContainerId>> {
        let path = self.receivers_dir(source);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read the directory", &path, error)),
        };
        let id = |entry: fs::DirEntry| entry.file_name().to_str()?.parse().ok();
        Ok(entries.flatten().filter_map(id).collect())
    }
}

/// A directory without marks goes; one that has got a mark again stays.
fn remove_empty(directory: &Path) {
    let _ = fs::remove_dir(directory);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_and_go_and_leave_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        let [one, two] = [(); 2].map(|()| ContainerId::random().unwrap());
        assert!(store.receivers("db").unwrap().is_empty());
        store.mark_receiver("db", &one).unwrap();
        store.mark_receiver("db", &two).unwrap();
        store.mark_receiver("db", &two).unwrap();
        store.mark_receiver("db.x", &one).unwrap();
        let mut found = store.receivers("db").unwrap();
        found.sort();
        let mut both = vec![one.clone(), two.clone()];
        both.sort();
        assert_eq!(found, both);
        assert_eq!(store.receivers("db.x").unwrap(), std::slice::from_ref(&one));
        for (source, id) in [("db", &one), ("db", &two), ("db", &two), ("db.x", &one)] {
            store.unmark_receiver(source, id).unwrap();
        }
        let left = fs::read_dir(directory.path().join("links")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_mark_is_made_while_others_take_theirs_away() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let id = ContainerId::random().unwrap();
                    for _ in 0..200 {
                        store.mark_receiver("db", &id).unwrap();
                        assert!(store.receivers("db").unwrap().contains(&id));
                        store.unmark_receiver("db", &id).unwrap();
                    }
                });
            }
        });
    }
}

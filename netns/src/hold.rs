//! Reservations on disk: a symbolic link whose name is what is held and whose target is the owner.
//!
//! A link is made atomically and counts only while its owner lives, which is the caller's word. A
//! dead owner's link is replaced, and every link removed, under a lock of the directory, so that no
//! process takes away what another has just taken over.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// The link on its way to replace a dead owner's.
const TEMPORARY: &str = "new~";

/// Says whether the owner of a reservation lives.
pub type Alive<'a> = &'a dyn Fn(&str) -> bool;

/// A reservation that could not be made, read or taken back.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the reservation {path:?}")]
pub struct HoldError {
    verb: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// One reservation: the link and its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The link.
    pub path: PathBuf,
    /// What it points to.
    pub owner: String,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// It is ours.
    Taken(Hold),
    /// It belongs to this one, who lives.
    HeldBy(String),
}

impl Hold {
    /// Tries to take a name in a directory, which is made if it is missing.
    ///
    /// # Errors
    /// [`HoldError`] when the directory cannot be made or written.
    pub fn take(
        directory: &Path,
        name: &str,
        owner: &str,
        alive: Alive<'_>,
    ) -> Result<Attempt, HoldError> {
        let hold = Hold {
            path: directory.join(name),
            owner: owner.to_owned(),
        };
        match hold.attempt(directory, alive) {
            Ok(None) => Ok(Attempt::Taken(hold)),
            Ok(Some(other)) => Ok(Attempt::HeldBy(other)),
            Err(source) => Err(hold.error("take", source)),
        }
    }

    /// The owner that holds it against us, if any.
    fn attempt(&self, directory: &Path, alive: Alive<'_>) -> io::Result<Option<String>> {
        match symlink(&self.owner, &self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(directory)?;
                return self.attempt(directory, alive);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(None),
        }
        if let Some(other) = self.current()?
            && other != self.owner
            && alive(&other)
        {
            return Ok(Some(other));
        }
        let _lock = lock(directory)?;
        // Somebody may have taken it over while we waited.
        if let Some(other) = self.current()?
            && other != self.owner
            && alive(&other)
        {
            return Ok(Some(other));
        }
        // Only the lock's holder has one, so that one name is enough.
        let temporary = directory.join(TEMPORARY);
        let _ = fs::remove_file(&temporary);
        symlink(&self.owner, &temporary)?;
        fs::rename(&temporary, &self.path)?;
        Ok(None)
    }

    /// Takes the reservation back if it is still the owner's.
    ///
    /// # Errors
    /// [`HoldError`] when the link is there but cannot be removed.
    pub fn release(&self) -> Result<(), HoldError> {
        let attempt = || -> io::Result<()> {
            let Some(directory) = self.path.parent() else {
                return Ok(());
            };
            if self.current()?.as_deref() != Some(self.owner.as_str()) {
                return Ok(());
            }
            let _lock = lock(directory)?;
            if self.current()?.as_deref() == Some(self.owner.as_str()) {
                fs::remove_file(&self.path)?;
            }
            Ok(())
        };
        attempt().map_err(|source| self.error("release", source))
    }

    /// Makes the link where it is missing: the owner confirms what it holds.
    ///
    /// # Errors
    /// [`HoldError`]; also when another has it.
    pub fn confirm(&self) -> Result<(), HoldError> {
        match self.current() {
            Ok(Some(owner)) if owner == self.owner => Ok(()),
            Ok(Some(_)) => Err(self.error("confirm", io::ErrorKind::AlreadyExists.into())),
            Ok(None) => {
                symlink(&self.owner, &self.path).map_err(|source| self.error("confirm", source))
            }
            Err(source) => Err(self.error("confirm", source)),
        }
    }

    fn current(&self) -> io::Result<Option<String>> {
        match fs::read_link(&self.path) {
            Ok(target) => Ok(Some(target.to_string_lossy().into_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn error(&self, verb: &'static str, source: io::Error) -> HoldError {
        HoldError {
            verb,
            path: self.path.clone(),
            source,
        }
    }
}

/// All names held in a directory with their owners, dead ones included; a missing directory is
/// empty.
///
/// # Errors
/// [`HoldError`] when the directory cannot be read.
pub fn held(directory: &Path) -> Result<Vec<(String, String)>, HoldError> {
    let error = |source| HoldError {
        verb: "list",
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(error)?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.map_err(error)?;
        if entry.file_name() == TEMPORARY {
            continue;
        }
        if let Ok(owner) = fs::read_link(entry.path()) {
            all.push((
                entry.file_name().to_string_lossy().into_owned(),
                owner.to_string_lossy().into_owned(),
            ));
        }
    }
    all.sort();
    Ok(all)
}

/// The lock goes with the descriptor.
fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_only_while_its_owner_lives() {
        let scratch = tempfile::tempdir().unwrap();
        let directory = scratch.path().join("networks/rbox0");
        let take = |owner: &str, alive: bool| {
            Hold::take(&directory, "172.17.0.2", owner, &|_| alive).unwrap()
        };
        let first = Hold {
            path: directory.join("172.17.0.2"),
            owner: "first".to_owned(),
        };
        assert_eq!(take("first", true), Attempt::Taken(first.clone()));
        assert_eq!(take("first", true), Attempt::Taken(first.clone()));
        assert_eq!(take("second", true), Attempt::HeldBy("first".to_owned()));
        let Attempt::Taken(second) = take("second", false) else {
            panic!("a dead owner holds nothing");
        };
        first.release().unwrap();
        assert_eq!(
            held(&directory).unwrap(),
            [("172.17.0.2".to_owned(), "second".to_owned())]
        );
        second.confirm().unwrap();
        assert!(first.confirm().is_err());
        second.release().unwrap();
        second.release().unwrap();
        assert!(held(&directory).unwrap().is_empty());
    }

    #[test]
    fn one_of_many_takes_what_a_dead_owner_left() {
        let scratch = tempfile::tempdir().unwrap();
        symlink("dead", scratch.path().join("x")).unwrap();
        let winners: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|index| {
                    let directory = scratch.path();
                    scope.spawn(move || {
                        let owner = format!("owner{index}");
                        let alive = |other: &str| other != "dead";
                        matches!(
                            Hold::take(directory, "x", &owner, &alive).unwrap(),
                            Attempt::Taken(_)
                        )
                    })
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(winners.iter().filter(|won| **won).count(), 1);
    }
}

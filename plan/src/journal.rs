//! The plan on disk: what another process needs to take a container's changes back.
//!
//! The file holds all steps of the plan as one JSON array, written whole before the first step is
//! applied (temporary file, then rename, so that it is never seen in part). It lies on a tmpfs with
//! the changes it describes: both are gone after a power loss, hence no sync. Since undoing a step
//! that was never applied succeeds, no progress is kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What can go wrong with a journal's file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file could not be read or written.
    #[error("cannot {verb} the plan {path:?}")]
    File {
        /// `read`, `write` or `remove`.
        verb: &'static str,
        /// The journal's file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The file is not a list of steps.
    #[error("the plan {path:?} cannot be understood")]
    Content {
        /// The journal's file.
        path: PathBuf,
        /// Where it goes wrong.
        #[source]
        source: serde_json::Error,
    },
}

/// The file that keeps a plan.
#[derive(Debug, Clone)]
pub struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The journal at this path; nothing is touched yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The journal's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the plan, replacing an earlier one.
    ///
    /// # Errors
    /// [`JournalError::File`] when the directory is missing, full or not writable.
    pub fn write<S: Serialize>(&self, steps: &[S]) -> Result<(), JournalError> {
        let content = serde_json::to_vec(steps).map_err(|source| self.content(source))?;
        let temporary = self.path.with_extension("new");
        fs::write(&temporary, content).map_err(|source| self.file("write", source))?;
        fs::rename(&temporary, &self.path).map_err(|source| self.file("write", source))
    }

    /// Reads the plan; a journal that was never written is an empty plan.
    ///
    /// # Errors
    /// [`JournalError`] when the file cannot be read or is not a list of steps.
    pub fn read<S: DeserializeOwned>(&self) -> Result<Vec<S>, JournalError> {
        match fs::read(&self.path) {
            Ok(content) => serde_json::from_slice(&content).map_err(|source| self.content(source)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(self.file("read", source)),
        }
    }

    /// Removes the journal: the plan was undone, or its changes have gone with their owner.
    ///
    /// # Errors
    /// [`JournalError::File`]; a file that is gone already is no error.
    pub fn remove(&self) -> Result<(), JournalError> {
        match fs::remove_file(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(self.file("remove", source))
            }
            _ => Ok(()),
        }
    }

    fn file(&self, verb: &'static str, source: io::Error) -> JournalError {
        JournalError::File {
            verb,
            path: self.path.clone(),
            source,
        }
    }

    fn content(&self, source: serde_json::Error) -> JournalError {
        JournalError::Content {
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path().join("plan.json"));
        assert_eq!(journal.read::<String>().unwrap(), Vec::<String>::new());
        journal.write(&["a".to_owned(), "b".to_owned()]).unwrap();
        assert_eq!(journal.read::<String>().unwrap(), ["a", "b"]);
        journal.remove().unwrap();
        journal.remove().unwrap();
        assert!(journal.read::<String>().unwrap().is_empty());
    }

    #[test]
    fn a_damaged_plan_names_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let journal = Journal::at(directory.path().join("plan.json"));
        fs::write(journal.path(), "[1,").unwrap();
        let error = journal.read::<u32>().unwrap_err();
        assert!(error.to_string().contains("plan.json"));
    }
}

//! The engine's files: where they lie, how they are written whole, and who owns a name.
//!
//! ```text
//! root/containers/<id>/config.json   Record: written once, replaced by `update`
//! root/containers/<id>/name          its present name, after a rename only
//! root/containers/<id>/updated       there once `update` has replaced config.json
//! root/containers/<id>/state.json    State: replaced by temporary + rename
//! root/containers/<id>/networks.json [NetworkWish]: likewise; absent until it differs
//! root/containers/<id>/links.json    Links: of a container made with links
//! root/links/<source>/<id>           mark: that container has a link to one of this name
//! root/names/<name>                  symlink → id; counts while that container has that name
//! root/aside/<id>                    a container being made (locked) or half made
//! root/aside/<id>.gone               a container being removed
//! state/containers/<id>/…            see `run`
//! ```
//!
//! Readers never lock. A name is taken by making its symlink, which is atomic and needs no lock;
//! only who takes a name's link *away* holds the lock on `names/`. A directory in `aside/` that
//! nobody holds locked was left by a crash and is swept by whoever comes next.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};
use crate::id::ContainerId;

pub mod aside;
pub mod names;
pub mod record;
pub mod run;
pub mod status;

pub use aside::Hidden;
pub use record::{Container, Health, HealthResult, Record, State};
pub use run::{EndpointRecord, InitRecord, NetworkRecord, PortRecord, ProcessMark, RunDir};
pub use status::{Facts, Status};

/// The root and the state directory of an engine.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    state: PathBuf,
}

impl Store {
    /// The store in these directories; nothing is read or made.
    pub fn at(root: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            state: state.into(),
        }
    }

    /// The durable directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The volatile directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The directory that holds all containers.
    pub fn containers(&self) -> PathBuf {
        self.root.join("containers")
    }

    /// The durable directory of a container.
    pub fn container(&self, id: &ContainerId) -> ContainerDir {
        ContainerDir::at(self.containers().join(id.as_str()))
    }

    /// The volatile directory of a container.
    pub fn run(&self, id: &ContainerId) -> RunDir {
        RunDir::at(self.state.join("containers").join(id.as_str()))
    }

    /// The ids of all containers, in no order.
    ///
    /// # Errors
    /// When the directory exists and cannot be read.
    pub fn ids(&self) -> Result<Vec<ContainerId>> {
        let path = self.containers();
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file("read the directory", &path, error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| Error::file("read the directory", &path, error))?;
            // whatever is no id is not ours: a stray file must not make `ps` fail
            if let Some(id) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }
}

/// The durable directory of one container: its paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerDir(PathBuf);

impl ContainerDir {
    /// The directory at this path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// What it was made from.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    /// There once what it was made from has become other.
    pub fn updated(&self) -> PathBuf {
        self.0.join("updated")
    }

    /// Its name after a rename.
    pub fn name(&self) -> PathBuf {
        self.0.join("name")
    }

    /// What became of it.
    pub fn state(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// The writable layer.
    pub fn upper(&self) -> PathBuf {
        self.0.join("upper")
    }

    /// Overlayfs's work directory.
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// `/etc/hosts` of the container.
    pub fn hosts(&self) -> PathBuf {
        self.0.join("hosts")
    }

    /// `/etc/hostname` of the container.
    pub fn hostname(&self) -> PathBuf {
        self.0.join("hostname")
    }

    /// `/etc/resolv.conf` of the container.
    pub fn resolv_conf(&self) -> PathBuf {
        self.0.join("resolv.conf")
    }

    /// The networks it is to be on, once they differ from what it was made with.
    pub fn networks(&self) -> PathBuf {
        self.0.join("networks.json")
    }

    /// Its links, where it has any.
    pub fn links(&self) -> PathBuf {
        self.0.join("links.json")
    }

    /// Held by who changes its links or its hosts file.
    pub fn links_lock(&self) -> PathBuf {
        self.0.join("links.lock")
    }

    /// The log.
    pub fn log(&self) -> PathBuf {
        self.0.join("json.log")
    }
}

/// Reads a JSON document; `None` when the file is missing.
///
/// # Errors
/// When it cannot be read or understood; the message names the file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(content) => serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| Error::system(format!("cannot understand {path:?}"), error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::file("read", path, error)),
    }
}

/// Replaces a JSON document by temporary + rename; a reader sees the old or the new, never a part.
///
/// The temporary's name carries the writer's process id: two writers do not disturb one another.
///
/// # Errors
/// When the directory is missing, full or not writable.
pub fn replace_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let content = serde_json::to_vec(value)
        .map_err(|error| Error::system(format!("cannot encode {path:?}"), error))?;
    replace(path, &content)
}

/// Replaces a file by temporary + rename.
///
/// # Errors
/// When the directory is missing, full or not writable.
pub fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = fs::write(&temporary, content)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|error| Error::file("write", path, error));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_document_is_none_and_a_broken_one_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        replace_json(&path, &7_u32).unwrap();
        assert_eq!(read_json::<u32>(&path).unwrap(), Some(7));
        fs::write(&path, "{").unwrap();
        assert!(
            read_json::<u32>(&path)
                .unwrap_err()
                .to_string()
                .contains("x.json")
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn strangers_in_the_directory_are_not_containers() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        assert!(store.ids().unwrap().is_empty());
        let id = ContainerId::random().unwrap();
        fs::create_dir_all(store.container(&id).path()).unwrap();
        fs::create_dir_all(store.containers().join("lost+found")).unwrap();
        assert_eq!(store.ids().unwrap(), [id]);
    }
}

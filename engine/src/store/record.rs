//! What is kept of a container: the record that never changes and the state that does.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;

use overlayfs::LayerId;
use serde::{Deserialize, Serialize};

use super::run::RunDir;
use super::status::{Facts, Status};
use super::{ContainerDir, Store, read_json, replace_json};
use crate::config::{Config, HostConfig};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::mount::MountPoint;
use crate::time::Time;

/// What a container was made from: `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Record {
    /// Of this document's form.
    pub version: u32,
    /// Its id.
    pub id: ContainerId,
    /// When it was made.
    pub created: Time,
    /// The name it was made with; `name` beside this file overrides it after a rename.
    pub name: String,
    /// The image's id: `sha256:…`.
    pub image: String,
    /// The image's layers, bottom layer first.
    pub layers: Vec<LayerId>,
    /// What runs, merged with the image's config.
    pub config: Config,
    /// How it meets the host.
    pub host: HostConfig,
    /// Everything mounted by the user's wish, sorted by destination's depth.
    pub mounts: Vec<MountPoint>,
    /// Networks of the user's wish with aliases and address; for the default network empty.
    #[serde(default)]
    pub endpoint: EndpointWish,
}

/// What the user wants of the container's place on its network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointWish {
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--ip`.
    pub address: Option<std::net::Ipv4Addr>,
    /// `--ip6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address6: Option<std::net::Ipv6Addr>,
    /// `--mac-address`.
    pub mac_address: Option<String>,
    /// `--link-local-ip`: further addresses, which nobody else is asked about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub link_local: Vec<IpAddr>,
    /// `--driver-opt`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub driver_options: BTreeMap<String, String>,
    /// `--gw-priority`: of the networks that lead outside the one with the highest is the way out.
    pub priority: i64,
    /// `name:alias`: names that only this container knows others by.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<String>,
}

impl Record {
    /// The version this program writes.
    pub const VERSION: u32 = 1;

    /// The whole command line: entrypoint, then arguments.
    pub fn command(&self) -> Vec<String> {
        let part = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let mut all = part(&self.config.entrypoint);
        all.extend(part(&self.config.cmd));
        all
    }
}

/// What became of a container: `state.json`; missing means never started.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    /// When its process last began.
    pub started_at: Time,
    /// When its process last ended.
    pub finished_at: Time,
    /// What the process ended with; 125 to 128 when it could not be started.
    pub exit_code: i32,
    /// Why it could not be started, Docker's text.
    pub error: String,
    /// The kernel killed it for memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Restarts by policy since the user's last start.
    pub restart_count: u32,
    /// The monitor waits to start it again; counts while the monitor lives.
    pub restarting: bool,
    /// The user stopped it: no policy may start it again.
    pub manually_stopped: bool,
    /// What the health check says; `None` without a check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// What the health check says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Health {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five results.
    pub log: Vec<HealthResult>,
}

/// One result of the health check.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthResult {
    /// When it began.
    pub start: Time,
    /// When it ended.
    pub end: Time,
    /// 0 healthy, 1 not.
    pub exit_code: i32,
    /// The first 4096 bytes of what it printed.
    pub output: String,
}

/// A container as it lies on disk.
#[derive(Debug, Clone)]
pub struct Container {
    /// What it was made from.
    pub record: Record,
    /// Its present name, without slash.
    pub name: String,
    /// Its durable directory.
    pub dir: ContainerDir,
    /// Its volatile directory.
    pub run: RunDir,
}

impl Container {
    /// Its id.
    pub fn id(&self) -> &ContainerId {
        &self.record.id
    }

    /// Its name now: it may have been renamed since this value was read.
    pub fn current_name(&self) -> String {
        fs::read_to_string(self.dir.name()).unwrap_or_else(|_| self.name.clone())
    }

    /// What became of it.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn state(&self) -> Result<State> {
        Ok(read_json(&self.dir.state())?.unwrap_or_default())
    }

    /// Replaces what became of it.
    ///
    /// # Errors
    /// When the directory is gone or full.
    pub fn write_state(&self, state: &State) -> Result<()> {
        replace_json(&self.dir.state(), state)
    }

    /// Its status now, with the state it was derived from.
    ///
    /// # Errors
    /// When a record is there and cannot be read.
    pub fn status(&self) -> Result<(Status, State)> {
        // the facts first: a monitor that ends in between has written the state before
        let facts = Facts::gather(&self.run)?;
        let state = self.state()?;
        Ok((facts.status(&state), state))
    }
}

impl Store {
    /// Reads a container.
    ///
    /// # Errors
    /// `No such container` when it does not exist (any more); an error that names the file when it
    /// is damaged.
    pub fn load(&self, id: &ContainerId) -> Result<Container> {
        let dir = self.container(id);
        let record: Record = read_json(&dir.config())?
            .ok_or_else(|| Error::not_found(format!("No such container: {id}")))?;
        let name = match fs::read_to_string(dir.name()) {
            Ok(name) => name,
            Err(error) if error.kind() == io::ErrorKind::NotFound => record.name.clone(),
            Err(error) => return Err(Error::file("read", &dir.name(), error)),
        };
        let run = self.run(id);
        Ok(Container {
            record,
            name,
            dir,
            run,
        })
    }

    /// Reads all containers, newest first; one that vanishes meanwhile is left out.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn load_all(&self) -> Result<Vec<Container>> {
        let (all, damaged) = self.load_sound()?;
        match damaged.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(all),
        }
    }

    /// Reads all containers, newest first, and says which cannot be read.
    ///
    /// # Errors
    /// When the directory of containers cannot be read.
    pub fn load_sound(&self) -> Result<(Vec<Container>, Vec<crate::Error>)> {
        let (mut all, mut damaged) = (Vec::new(), Vec::new());
        for id in self.ids()? {
            match self.load(&id) {
                Ok(container) => all.push(container),
                Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                Err(error) => damaged
                    .push(error.hint(format!("what is left of it goes with 'rbox rm -f {id}'"))),
            }
        }
        all.sort_by_key(|container| Reverse(container.record.created));
        Ok((all, damaged))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A record with this name and nothing else.
    pub(crate) fn record(name: &str) -> Record {
        Record {
            version: Record::VERSION,
            id: ContainerId::random().unwrap(),
            created: Time::now(),
            name: name.to_owned(),
            image: "sha256:0".to_owned(),
            layers: Vec::new(),
            config: Config::default(),
            host: HostConfig::default(),
            mounts: Vec::new(),
            endpoint: EndpointWish::default(),
        }
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        let record = record("web");
        let aside = store.make_aside(&record.id).unwrap();
        replace_json(&aside.dir().config(), &record).unwrap();
        aside.publish(&store).unwrap();
        let container = store.load(&record.id).unwrap();
        assert_eq!(container.record, record);
        assert_eq!(container.name, "web");
        assert_eq!(
            container.status().unwrap(),
            (Status::Created, State::default())
        );
        container
            .write_state(&State {
                started_at: Time::now(),
                exit_code: 3,
                ..State::default()
            })
            .unwrap();
        let (status, state) = container.status().unwrap();
        assert_eq!((status, state.exit_code), (Status::Exited, 3));
    }

    #[test]
    fn a_damaged_record_names_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        let id = ContainerId::random().unwrap();
        let dir = store.container(&id);
        std::fs::create_dir_all(dir.path()).unwrap();
        assert_eq!(
            store.load(&id).unwrap_err().kind(),
            crate::ErrorKind::NotFound
        );
        std::fs::write(dir.config(), "").unwrap();
        assert!(
            store
                .load(&id)
                .unwrap_err()
                .to_string()
                .contains("config.json")
        );
    }
}

//! `inspect`: Docker's document of a container, from its record and what is true now.

use std::collections::BTreeMap;
use std::path::PathBuf;

use netns::port::PortMap;
use serde::Serialize;
use serde_json::Value;

use super::network::{NetworkSettings, network_settings};
use crate::Engine;
use crate::config::Config;
use crate::error::Result;
use crate::id::ContainerId;
use crate::mount::{MountKind, MountPoint, volume_driver};
use crate::spec::Files;
use crate::store::record::Health;
use crate::store::{Container, Facts, State, Status};
use crate::time::Time;

mod host;

/// The whole document; fields and their order are Docker's.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Document {
    /// All 64 digits.
    pub id: ContainerId,
    /// When it was made.
    pub created: Time,
    /// The program.
    pub path: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// What it does.
    pub state: StateDocument,
    /// The image's id.
    pub image: String,
    /// On the host.
    pub resolv_conf_path: PathBuf,
    /// On the host.
    pub hostname_path: PathBuf,
    /// On the host.
    pub hosts_path: PathBuf,
    /// On the host; empty without a log.
    pub log_path: PathBuf,
    /// With a leading slash.
    pub name: String,
    /// Restarts by policy.
    pub restart_count: u32,
    /// Of the file system.
    pub driver: &'static str,
    /// The operating system.
    pub platform: &'static str,
    /// Always empty.
    pub mount_label: &'static str,
    /// Always empty.
    pub process_label: &'static str,
    /// Always empty.
    pub app_armor_profile: &'static str,
    /// Always null: exec processes are not kept.
    #[serde(rename = "ExecIDs")]
    pub exec_ids: Option<Vec<String>>,
    /// How it meets the host.
    pub host_config: Value,
    /// Where its layers lie.
    pub graph_driver: GraphDriver,
    /// Bytes of the writable layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_rw: Option<u64>,
    /// Bytes of all layers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_root_fs: Option<u64>,
    /// Volumes and host paths.
    pub mounts: Vec<MountDocument>,
    /// What runs.
    pub config: Config,
    /// Where it can be reached.
    pub network_settings: NetworkSettings,
}

/// `State`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct StateDocument {
    /// Docker's word.
    pub status: Status,
    /// Also while paused or restarting.
    pub running: bool,
    /// It is frozen.
    pub paused: bool,
    /// It ended and will be started again.
    pub restarting: bool,
    /// The kernel killed it for memory.
    #[serde(rename = "OOMKilled")]
    pub oom_killed: bool,
    /// Its removal failed.
    pub dead: bool,
    /// Of its first process; 0 without one.
    pub pid: i32,
    /// What it ended with.
    pub exit_code: i32,
    /// Why it could not be started.
    pub error: String,
    /// When it last began.
    pub started_at: Time,
    /// When it last ended.
    pub finished_at: Time,
    /// What its check says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// `GraphDriver`.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct GraphDriver {
    /// Directories.
    pub data: BTreeMap<&'static str, String>,
    /// `overlay2`.
    pub name: &'static str,
}

/// An entry of `Mounts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountDocument {
    /// What it is.
    #[serde(rename = "Type")]
    pub kind: MountKind,
    /// The volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// On the host.
    pub source: String,
    /// In the container.
    pub destination: String,
    /// The volume's driver.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub driver: &'static str,
    /// As typed.
    pub mode: String,
    /// It can be written.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// Of binds.
    pub propagation: String,
}

impl From<&MountPoint> for MountDocument {
    fn from(mount: &MountPoint) -> Self {
        Self {
            kind: mount.kind,
            name: mount.name.clone(),
            source: mount.source.clone(),
            destination: mount.destination.clone(),
            driver: volume_driver(mount),
            mode: mount.mode.clone(),
            writable: mount.writable,
            propagation: mount.propagation.clone(),
        }
    }
}

impl Engine {
    /// Docker's document of a container; with `size` also the bytes that it occupies.
    ///
    /// # Errors
    /// `No such container: X`; when a record is damaged.
    pub fn inspect(&self, text: &str, size: bool) -> Result<Document> {
        let container = self.find(text)?;
        self.document(&container, size)
    }

    /// The published ports of a running container, with those that are only exposed.
    ///
    /// # Errors
    /// `No such container: X`; when a record is damaged.
    pub fn ports(&self, text: &str) -> Result<PortMap> {
        let container = self.find(text)?;
        let (status, _) = container.status()?;
        Ok(network_settings(&container, status)?.ports)
    }

    fn document(&self, container: &Container, size: bool) -> Result<Document> {
        let record = &container.record;
        let facts = Facts::gather(&container.run)?;
        let state = container.state()?;
        let status = facts.status(&state);
        let mut command = record.command().into_iter();
        let files = self.files_of(container)?;
        let sizes = size.then(|| self.sizes(container)).transpose()?;
        Ok(Document {
            id: record.id.clone(),
            created: record.created,
            path: command.next().unwrap_or_default(),
            args: command.collect(),
            image: record.image.clone(),
            resolv_conf_path: files.resolv_conf,
            hostname_path: files.hostname,
            hosts_path: files.hosts,
            log_path: match record.host.log_config.driver.as_str() {
                "none" => PathBuf::new(),
                _ => container.dir.log(),
            },
            name: format!("/{}", container.name),
            restart_count: state.restart_count,
            driver: match record.host.rootfs_union.as_str() {
                "" => "overlay2",
                _ => "union",
            },
            platform: "linux",
            mount_label: "",
            process_label: "",
            app_armor_profile: "",
            exec_ids: None,
            host_config: host::host_config(&record.host, self.shown_links(container)?)?,
            graph_driver: self.graph_driver(container),
            size_rw: sizes.map(|sizes| sizes.writable),
            size_root_fs: sizes.map(|sizes| sizes.all),
            mounts: record.mounts.iter().map(MountDocument::from).collect(),
            config: record.config.clone(),
            network_settings: network_settings(container, status)?,
            state: state_document(&facts, state),
        })
    }

    /// The generated files of a container: its own, or those of the one whose network it shares.
    ///
    /// # Errors
    /// `No such container` when that one is gone.
    fn files_of(&self, container: &Container) -> Result<Files> {
        let dir = match container
            .record
            .host
            .network_mode
            .strip_prefix("container:")
        {
            Some(donor) => match self.find(donor) {
                Ok(donor) => donor.dir,
                Err(error) if error.kind() == crate::ErrorKind::NotFound => container.dir.clone(),
                Err(error) => return Err(error),
            },
            None => container.dir.clone(),
        };
        Ok(Files {
            resolv_conf: dir.resolv_conf(),
            hostname: dir.hostname(),
            hosts: dir.hosts(),
        })
    }

    fn graph_driver(&self, container: &Container) -> GraphDriver {
        let text = |path: PathBuf| path.display().to_string();
        let union = &container.record.host.rootfs_union;
        if !union.is_empty() {
            let merged = text(self.store().union_of(container.id(), "root"));
            return GraphDriver {
                data: [("MergedDir", merged), ("Options", union.clone())].into(),
                name: "union",
            };
        }
        let trees = self.images().layers().trees(&container.record.layers);
        let lower: Vec<String> = trees.into_iter().map(text).collect();
        GraphDriver {
            data: [
                ("LowerDir", lower.join(":")),
                ("MergedDir", text(container.dir.path().join("merged"))),
                ("UpperDir", text(container.dir.upper())),
                ("WorkDir", text(container.dir.work())),
            ]
            .into(),
            name: "overlay2",
        }
    }
}

/// `State` from the facts and the record.
fn state_document(facts: &Facts, state: State) -> StateDocument {
    let status = facts.status(&state);
    let init = facts.init.filter(|_| status.has_process());
    // a monitor that was killed took its process along and could not write that down
    let unrecorded = status == Status::Exited
        && facts
            .init
            .is_some_and(|init| state.finished_at < init.started_at);
    StateDocument {
        status,
        running: status.is_running(),
        paused: status == Status::Paused,
        restarting: status == Status::Restarting,
        oom_killed: state.oom_killed,
        dead: status == Status::Dead,
        pid: init.map_or(0, |init| init.process.pid),
        exit_code: match (init, unrecorded) {
            (Some(_), _) => 0,
            (None, true) => 137,
            (None, false) => state.exit_code,
        },
        error: state.error,
        started_at: facts.init.map_or(state.started_at, |init| init.started_at),
        finished_at: state.finished_at,
        health: state.health,
    }
}

#[cfg(test)]
mod tests;

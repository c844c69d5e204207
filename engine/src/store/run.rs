//! The run directory of a container: what is true only while its monitor lives.
//!
//! ```text
//! state/containers/<id>/
//!     monitor       "<pid> <start time>"; flock held by the monitor for its whole life
//!     init          InitRecord
//!     network.json  NetworkRecord
//!     paused        marker, while frozen
//!     plan.json     the journal
//!     gates.json    what links have opened for it, where containers may not talk
//!     attach.sock   the monitor's socket
//! ```
//!
//! The lock on `monitor` decides who may start a container; readers do not touch it but compare
//! the process's start time with the recorded one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::process::Stat;

use super::aside::or_parent;
use super::{read_json, replace, replace_json};
use crate::error::{Error, Result};
use crate::time::Time;

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ProcessMark {
    /// Its number.
    pub pid: i32,
    /// When it began, in clock ticks since the machine did.
    pub start_time: u64,
}

impl ProcessMark {
    /// The mark of a living process; `None` when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        let start_time = Stat::of(pid).ok()?.start_time;
        Some(Self { pid, start_time })
    }

    /// This process lives: the number is in use, by the same process, and it is no zombie.
    pub fn alive(self) -> bool {
        Stat::of(self.pid).is_ok_and(|stat| stat.start_time == self.start_time && !stat.zombie)
    }
}

/// The container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct InitRecord {
    /// Which process.
    #[serde(flatten)]
    pub process: ProcessMark,
    /// When it began.
    pub started_at: Time,
}

/// The container's place on its networks, as the start path left it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkRecord {
    /// An id for the network namespace.
    pub sandbox_id: String,
    /// Where the namespace can be found: `/proc/<pid>/ns/net`; empty when it is another's.
    pub sandbox_key: String,
    /// One per network, in order of attachment.
    pub endpoints: Vec<EndpointRecord>,
    /// Published ports that are bound.
    pub ports: Vec<PortRecord>,
}

/// One container on one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointRecord {
    /// The network's name.
    pub network: String,
    /// The network's driver.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// The network's id.
    pub network_id: String,
    /// The endpoint's id.
    pub endpoint_id: String,
    /// The address; `None` on `host` and `none`.
    pub address: Option<Ipv4Addr>,
    /// Bits of the network part; 0 without address.
    pub prefix: u8,
    /// The default route.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// Bits of the IPv6 network part.
    pub prefix6: u8,
    /// IPv6 default route.
    pub gateway6: Option<Ipv6Addr>,
    /// `02:42:ac:11:00:02`.
    pub mac_address: String,
    /// Other names on this network.
    pub aliases: Option<Vec<String>>,
    /// Links on a network of the user's.
    pub links: Option<Vec<String>>,
    /// Options for the driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_options: Option<BTreeMap<String, String>>,
    /// How much it is the way out.
    pub priority: i64,
    /// The interface inside: `eth0`.
    pub interface: String,
}

impl NetworkRecord {
    /// The name of the next interface: the number after the highest that is in use.
    pub(crate) fn next_interface(&self, prefix: &str) -> String {
        let used = self.endpoints.iter();
        let used = used.filter_map(|one| one.interface.strip_prefix(prefix)?.parse::<u32>().ok());
        format!("{prefix}{}", used.max().map_or(0, |highest| highest + 1))
    }
}

/// A published port that is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortRecord {
    /// Of the container.
    pub container_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Of the host.
    pub host_ip: IpAddr,
    /// Of the host.
    pub host_port: u16,
}

/// The volatile directory of one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunDir(PathBuf);

impl RunDir {
    /// The directory at this path.
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The monitor's record and lock.
    pub fn monitor_path(&self) -> PathBuf {
        self.0.join("monitor")
    }

    /// The first process's record.
    pub fn init_path(&self) -> PathBuf {
        self.0.join("init")
    }

    /// The network's record.
    pub fn network_path(&self) -> PathBuf {
        self.0.join("network.json")
    }

    /// The mark of a frozen container.
    pub fn paused_path(&self) -> PathBuf {
        self.0.join("paused")
    }

    /// The journal.
    pub fn plan_path(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// What its links have opened.
    pub fn gates_path(&self) -> PathBuf {
        self.0.join("gates.json")
    }

    /// The monitor's socket.
    pub fn socket_path(&self) -> PathBuf {
        self.0.join("attach.sock")
    }

    /// Makes the directory, 0700.
    ///
    /// # Errors
    /// When the state directory is not writable.
    pub fn make(&self) -> Result<()> {
        let make = || match fs::DirBuilder::new().mode(0o700).create(&self.0) {
            // another made it; that it may be gone again is the next step's matter
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        };
        let parent = self.0.parent().unwrap_or(&self.0);
        or_parent(parent, make).map_err(|error| Error::file("make the directory", &self.0, error))
    }

    /// The monitor, living or dead; `None` where none was.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn monitor(&self) -> Result<Option<ProcessMark>> {
        let path = self.monitor_path();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(parse_mark(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &path, error)),
        }
    }

    /// The text that the monitor writes into its locked file.
    pub fn monitor_text(mark: ProcessMark) -> String {
        format!("{} {}\n", mark.pid, mark.start_time)
    }

    /// The first process, living or dead; `None` where none was.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn init(&self) -> Result<Option<InitRecord>> {
        read_json(&self.init_path())
    }

    /// Records the first process.
    ///
    /// # Errors
    /// When the directory is gone or full.
    pub fn write_init(&self, init: &InitRecord) -> Result<()> {
        replace_json(&self.init_path(), init)
    }

    /// The container's place on its networks; `None` where it has none now.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn network(&self) -> Result<Option<NetworkRecord>> {
        read_json(&self.network_path())
    }

    /// Records the container's place on its networks.
    ///
    /// # Errors
    /// When the directory is gone or full.
    pub fn write_network(&self, network: &NetworkRecord) -> Result<()> {
        replace_json(&self.network_path(), network)
    }

    /// Marks the container as frozen, or no longer.
    ///
    /// # Errors
    /// When the directory is gone or full.
    pub fn set_paused(&self, paused: bool) -> Result<()> {
        let path = self.paused_path();
        if paused {
            return replace(&path, b"");
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", &path, error))
            }
            _ => Ok(()),
        }
    }
}

/// `"<pid> <start time>"`; a file still empty (the monitor is just being born) is no mark.
fn parse_mark(text: &str) -> Option<ProcessMark> {
    let (pid, start_time) = text.trim_end().split_once(' ')?;
    Some(ProcessMark {
        pid: pid.parse().ok()?,
        start_time: start_time.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives_and_its_twin_does_not() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let mark = ProcessMark::of(pid).unwrap();
        assert!(mark.alive());
        let twin = ProcessMark {
            start_time: mark.start_time + 1,
            ..mark
        };
        assert!(!twin.alive());
        assert_eq!(parse_mark(&RunDir::monitor_text(mark)), Some(mark));
        assert_eq!(parse_mark(""), None);
    }

    #[test]
    fn a_zombie_is_dead() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let mark = ProcessMark::of(pid).unwrap();
        while mark.alive() {
            std::thread::yield_now();
        }
        assert!(ProcessMark::of(pid).is_some(), "not reaped yet");
        child.wait().unwrap();
        assert!(!mark.alive());
    }

    #[test]
    fn records_come_back_and_absent_ones_are_none() {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::at(directory.path().join("a/b"));
        assert_eq!(run.init().unwrap(), None);
        assert_eq!(run.monitor().unwrap(), None);
        run.make().unwrap();
        let init = InitRecord {
            process: ProcessMark {
                pid: 3,
                start_time: 9,
            },
            started_at: "2026-01-02T03:04:05Z".parse().unwrap(),
        };
        run.write_init(&init).unwrap();
        assert_eq!(run.init().unwrap(), Some(init));
        assert_eq!(
            fs::read_to_string(run.init_path()).unwrap(),
            r#"{"Pid":3,"StartTime":9,"StartedAt":"2026-01-02T03:04:05Z"}"#
        );
        run.set_paused(true).unwrap();
        assert!(run.paused_path().exists());
        run.set_paused(false).unwrap();
        run.set_paused(false).unwrap();
    }
}

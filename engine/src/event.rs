//! Events: what happened to containers, networks and volumes, one JSON document per line.
//!
//! ```text
//! state/events       appended to, one write per event
//! state/events.old   the file before, once the present one has grown past its limit
//! ```

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::lock::Lock;

use crate::error::{Error, Result};
use crate::time::Time;

mod filter;
mod follow;

pub use filter::EventFilter;
pub use follow::Span;

/// Docker's event document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Of containers and images: the action again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Of containers and images: the object's id again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Of containers: the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// `container`, `image`, `network`, `volume`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `create`, `start`, `die`, …
    #[serde(rename = "Action")]
    pub action: String,
    /// To what it happened.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Always `local`.
    pub scope: String,
    /// Seconds since 1970.
    pub time: i64,
    /// Nanoseconds since 1970.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// To what an event happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What is known of it, sorted.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// An event now, of anything but a container or an image.
    pub fn new(kind: &str, action: &str, id: &str, attributes: &[(&str, &str)]) -> Self {
        let now = Time::now();
        Self {
            status: None,
            id: None,
            from: None,
            kind: kind.to_owned(),
            action: action.to_owned(),
            actor: Actor {
                id: id.to_owned(),
                attributes: attributes
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            },
            scope: "local".to_owned(),
            time: now.as_second(),
            time_nano: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
        }
    }

    /// An event now, of a container: its image, name and labels are attributes beside `extra`.
    pub fn of_container(
        container: &crate::store::Container,
        action: &str,
        extra: &[(&str, &str)],
    ) -> Self {
        let record = &container.record;
        let mut event = Self::new("container", action, record.id.as_str(), &[]);
        let attributes = &mut event.actor.attributes;
        attributes.extend(record.config.labels.clone());
        attributes.insert("image".to_owned(), record.config.image.clone());
        attributes.insert("name".to_owned(), container.current_name());
        for (key, value) in extra {
            attributes.insert((*key).to_owned(), (*value).to_owned());
        }
        event.status = Some(action.to_owned());
        event.id = Some(record.id.to_string());
        event.from = Some(record.config.image.clone());
        event
    }
}

/// The files that hold the events.
#[derive(Debug, Clone)]
pub struct EventLog {
    path: PathBuf,
    limit: u64,
}

impl EventLog {
    /// Bytes after which the file is put aside.
    const LIMIT: u64 = 1 << 20;

    /// The log in this state directory.
    pub fn at(state: &Path) -> Self {
        Self {
            path: state.join("events"),
            limit: Self::LIMIT,
        }
    }

    /// The file that grows: a follower watches it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds an event by one write, so that writers do not mix their lines.
    ///
    /// # Errors
    /// When the state directory is full or not writable.
    pub fn append(&self, event: &Event) -> Result<()> {
        self.append_all(std::slice::from_ref(event))
    }

    /// Adds events that belong together by one write.
    ///
    /// # Errors
    /// When the state directory is full or not writable.
    pub fn append_all(&self, events: &[Event]) -> Result<()> {
        let mut lines = Vec::new();
        for event in events {
            serde_json::to_writer(&mut lines, event)
                .map_err(|error| Error::system("cannot encode an event", error))?;
            lines.push(b'\n');
        }
        let size = self
            .write(&lines)
            .map_err(|error| Error::file("write", &self.path, error))?;
        if size > self.limit {
            self.rotate()
                .map_err(|error| Error::file("put aside", &self.path, error))?;
        }
        Ok(())
    }

    fn write(&self, line: &[u8]) -> io::Result<u64> {
        let open = || {
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)
        };
        let mut file = match (open(), self.path.parent()) {
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(parent)?;
                open()?
            }
            (other, _) => other?,
        };
        file.write_all(line)?;
        Ok(file.metadata()?.size())
    }

    /// Puts the file aside, unless another writer has just done so.
    fn rotate(&self) -> io::Result<()> {
        let Some(parent) = self.path.parent() else {
            return Ok(());
        };
        let _lock = Lock::wait_directory(parent).map_err(io::Error::other)?;
        match fs::metadata(&self.path) {
            Ok(metadata) if metadata.size() > self.limit => fs::rename(&self.path, self.old()),
            _ => Ok(()),
        }
    }

    fn old(&self) -> PathBuf {
        self.path.with_extension("old")
    }

    /// All events still kept, oldest first; a line that a crash cut short is left out.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn read(&self) -> Result<Vec<Event>> {
        let mut all = Vec::new();
        for path in [self.old(), self.path.clone()] {
            match fs::read(&path) {
                Ok(content) => all.extend(
                    content
                        .split(|byte| *byte == b'\n')
                        .filter_map(|line| serde_json::from_slice(line).ok()),
                ),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::file("read", &path, error)),
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_event_has_dockers_form() {
        let mut event = Event::new(
            "network",
            "connect",
            "ab",
            &[("name", "bridge"), ("container", "c")],
        );
        event.time = 1;
        event.time_nano = 1_000_000_002;
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"Type":"network","Action":"connect","Actor":{"ID":"ab","Attributes":{"container":"c","name":"bridge"}},"scope":"local","time":1,"timeNano":1000000002}"#
        );
    }

    #[test]
    fn the_log_is_bounded_and_survives_a_cut_line() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = EventLog::at(&directory.path().join("state"));
        log.limit = 2000;
        assert!(log.read().unwrap().is_empty());
        for number in 0..100 {
            log.append(&Event::new("volume", "create", &number.to_string(), &[]))
                .unwrap();
        }
        let events = log.read().unwrap();
        assert!(events.len() < 50, "{}", events.len());
        assert_eq!(events.last().unwrap().actor.id, "99");
        log.write(b"{\"Type\":\"vol").unwrap();
        assert_eq!(log.read().unwrap().len(), events.len());
    }

    #[test]
    fn writers_do_not_mix_their_lines() {
        let directory = tempfile::tempdir().unwrap();
        let log = EventLog::at(directory.path());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        log.append(&Event::new("volume", "create", "x", &[]))
                            .unwrap();
                    }
                });
            }
        });
        assert_eq!(log.read().unwrap().len(), 200);
    }
}

//! `ps`: one row per container, newest first.

use std::collections::{BTreeMap, HashMap};

use image::ImageStore;
use netns::port::PortMap;

use super::network::{NetworkSettings, network_settings};
use super::size::Sizes;
use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::mount::MountPoint;
use crate::store::{Container, Facts, Record, State, Status};
use crate::time::Time;

mod filter;
mod status;

pub use filter::Filters;
pub use status::{duration_text, status_text};

/// Which containers, and what of them.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Also those that do not run.
    pub all: bool,
    /// Only the newest so many, of any state.
    pub last: Option<usize>,
    /// With their sizes.
    pub size: bool,
    /// What they have to be.
    pub filters: Filters,
}

/// One container.
#[derive(Debug, Clone)]
pub struct Row {
    /// Its id.
    pub id: ContainerId,
    /// Its names, without slash, sorted: its own and those that links give it (`receiver/alias`).
    pub names: Vec<String>,
    /// The image as it was typed, or its short id where that name means another image by now.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// The whole command line.
    pub command: Vec<String>,
    /// When it was made.
    pub created: Time,
    /// Docker's word.
    pub status: Status,
    /// `Up 5 seconds (healthy)`.
    pub status_text: String,
    /// Published and exposed ports; none unless it runs on a network of its own.
    pub ports: PortMap,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is mounted.
    pub mounts: Vec<MountPoint>,
    /// The networks it is on, or would be.
    pub networks: Vec<String>,
    /// `default`, `host`, `container:<id>`, …
    pub network_mode: String,
    /// Where it can be reached.
    pub network_settings: NetworkSettings,
    /// Its bytes, when asked for.
    pub size: Option<Sizes>,
}

/// A container with what is true of it now, as the filters see it.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) container: Container,
    pub(crate) facts: Facts,
    pub(crate) state: State,
    pub(crate) status: Status,
    pub(crate) settings: NetworkSettings,
}

impl Engine {
    /// Lists containers, newest first.
    ///
    /// # Errors
    /// `Invalid filter '…'`; `no such container X` of `before` and `since`.
    pub fn list(&self, request: &ListRequest) -> Result<Vec<Row>> {
        self.list_and_damaged(request).map(|(rows, _)| rows)
    }

    /// Lists containers, newest first, and says which cannot be read.
    ///
    /// # Errors
    /// As [`Engine::list`].
    pub fn list_and_damaged(&self, request: &ListRequest) -> Result<(Vec<Row>, Vec<Error>)> {
        let filter = self.filter(&request.filters)?;
        let all = request.all || request.last.is_some() || filter.implies_all();
        let now = Time::now();
        let mut rows = Vec::new();
        let mut names = ImageNames::of(self);
        let (containers, mut damaged) = self.store().load_sound()?;
        let mut links = self.link_names(&containers);
        for container in containers {
            if request.last.is_some_and(|last| rows.len() >= last) {
                break;
            }
            let seen = match see(container) {
                Ok(seen) => seen,
                Err(error) => {
                    damaged.push(error);
                    continue;
                }
            };
            if !(all || seen.status.is_running()) || !filter.accepts(&seen) {
                continue;
            }
            let image = names.text(&seen.container.record);
            let id = seen.container.id().clone();
            let mut row = self.row(seen, image, request.size, now)?;
            row.names.extend(links.remove(&id).unwrap_or_default());
            row.names.sort();
            rows.push(row);
        }
        Ok((rows, damaged))
    }

    fn row(&self, seen: Seen, image: String, size: bool, now: Time) -> Result<Row> {
        let size = size.then(|| self.sizes(&seen.container)).transpose()?;
        let record = seen.container.record;
        Ok(Row {
            names: vec![seen.container.name],
            image,
            image_id: record.image.clone(),
            command: record.command(),
            created: record.created,
            status: seen.status,
            status_text: status_text(seen.status, &seen.facts, &seen.state, now),
            ports: seen.settings.ports.clone(),
            labels: record.config.labels,
            mounts: record.mounts,
            networks: seen.settings.networks.keys().cloned().collect(),
            network_mode: record.host.network_mode,
            network_settings: seen.settings,
            size,
            id: record.id,
        })
    }
}

/// What images are called, each name looked up once.
struct ImageNames {
    images: ImageStore,
    known: HashMap<String, Option<String>>,
}

impl ImageNames {
    fn of(engine: &Engine) -> Self {
        Self {
            images: engine.images(),
            known: HashMap::new(),
        }
    }

    /// The image's name as typed while it still means that image, else its short id.
    fn text(&mut self, record: &Record) -> String {
        let name = &record.config.image;
        if record.image.is_empty() {
            // made of no image
            return name.clone();
        }
        let (images, known) = (&self.images, &mut self.known);
        let means = known
            .entry(name.clone())
            .or_insert_with(|| images.find(name).ok().map(|id| id.to_string()));
        if means.as_ref() == Some(&record.image) {
            return name.clone();
        }
        let digits = record.image.trim_start_matches("sha256:");
        digits.get(..12).unwrap_or(digits).to_owned()
    }
}

fn see(container: Container) -> Result<Seen> {
    let facts = Facts::gather(&container.run)?;
    let state = container.state()?;
    let status = facts.status(&state);
    let settings = network_settings(&container, status)?;
    Ok(Seen {
        container,
        facts,
        state,
        status,
        settings,
    })
}

#[cfg(test)]
mod tests;

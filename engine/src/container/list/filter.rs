//! `ps --filter`: different keys all have to hold, of one key one value (of labels: all).

use std::ops::RangeInclusive;

use netns::port::Port;
use overlayfs::LayerId;
use regex_lite::Regex;

use super::Seen;
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Container, Status};
use crate::time::Time;

/// Filters as typed: key and value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(pub Vec<(String, String)>);

/// Filters, understood.
#[derive(Debug, Default)]
pub(super) struct Filter {
    ids: Vec<Pattern>,
    names: Vec<Pattern>,
    labels: Vec<String>,
    exited: Vec<i32>,
    status: Vec<Status>,
    health: Vec<String>,
    images: Vec<Ancestor>,
    before: Vec<Time>,
    since: Vec<Time>,
    volumes: Vec<String>,
    networks: Vec<String>,
    published: Vec<Ports>,
    exposed: Vec<Ports>,
    nothing: bool,
}

/// Text that is to be equal or to match as a regular expression.
#[derive(Debug)]
struct Pattern {
    text: String,
    regex: Option<Regex>,
}

impl Pattern {
    fn new(text: &str) -> Self {
        Self {
            text: text.to_owned(),
            regex: Regex::new(text).ok(),
        }
    }

    fn matches(&self, subject: &str) -> bool {
        self.text == subject
            || self
                .regex
                .as_ref()
                .is_some_and(|regex| regex.is_match(subject))
    }
}

/// An image as the filter names it.
#[derive(Debug)]
struct Ancestor {
    /// Its id, where the name means an image.
    id: Option<String>,
    /// Its layers: an image that stands on them descends from it.
    layers: Vec<LayerId>,
    /// As typed.
    text: String,
}

/// Ports of one protocol.
#[derive(Debug)]
struct Ports {
    numbers: RangeInclusive<u16>,
    protocol: netns::port::Protocol,
}

impl Ports {
    /// Reads `80`, `80/udp`, `1-90/tcp`.
    fn parse(text: &str) -> Option<Self> {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        Some(Self {
            numbers: first.parse().ok()?..=last.parse().ok()?,
            protocol: protocol.parse().ok()?,
        })
    }

    fn holds(&self, port: Port) -> bool {
        self.protocol == port.protocol && self.numbers.contains(&port.number)
    }
}

fn invalid(key: &str, value: &str) -> Error {
    Error::invalid(format!("Invalid filter '{key}={value}'"))
}

impl Engine {
    /// Understands the filters.
    pub(super) fn filter(&self, typed: &Filters) -> Result<Filter> {
        let mut filter = Filter::default();
        for (key, value) in &typed.0 {
            match key.as_str() {
                "ancestor" => filter.images.push(self.ancestor(value)),
                "before" => filter.before.push(self.created(value)?),
                "since" => filter.since.push(self.created(value)?),
                _ => filter.add(key, value)?,
            }
        }
        Ok(filter)
    }

    /// The image that the filter names; one that is not there has no descendants but by name.
    fn ancestor(&self, text: &str) -> Ancestor {
        let image = self.images().resolve(text).ok();
        Ancestor {
            id: image.as_ref().map(|image| image.id.to_string()),
            layers: image.map(|image| image.layers).unwrap_or_default(),
            text: text.to_owned(),
        }
    }

    fn created(&self, text: &str) -> Result<Time> {
        match self.find(text) {
            Ok(container) => Ok(container.record.created),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Err(Error::not_found(format!("no such container {text}")))
            }
            Err(error) => Err(error),
        }
    }
}

impl Filter {
    fn add(&mut self, key: &str, value: &str) -> Result<()> {
        let wrong = || invalid(key, value);
        match key {
            "id" => self.ids.push(Pattern::new(value)),
            "name" => self.names.push(Pattern::new(value)),
            "label" => self.labels.push(value.to_owned()),
            "exited" => self.exited.push(value.parse().map_err(|_| wrong())?),
            "status" => {
                let status = Status::ALL
                    .into_iter()
                    .find(|status| status.as_str() == value);
                self.status.push(status.ok_or_else(wrong)?);
            }
            "health" => match value {
                "starting" | "healthy" | "unhealthy" | "none" => self.health.push(value.to_owned()),
                _ => return Err(wrong()),
            },
            "volume" => self.volumes.push(value.to_owned()),
            "network" => self.networks.push(value.to_owned()),
            "publish" => self.published.push(Ports::parse(value).ok_or_else(wrong)?),
            "expose" => self.exposed.push(Ports::parse(value).ok_or_else(wrong)?),
            "is-task" => match value {
                "true" | "1" => self.nothing = true,
                "false" | "0" => {}
                _ => return Err(wrong()),
            },
            _ => return Err(Error::invalid(format!("Invalid filter '{key}'"))),
        }
        Ok(())
    }

    /// Asking for a status is asking for containers that do not run.
    pub(super) fn implies_all(&self) -> bool {
        !self.status.is_empty()
    }

    pub(super) fn accepts(&self, seen: &Seen) -> bool {
        let record = &seen.container.record;
        let id = record.id.as_str();
        let name = seen.container.name.as_str();
        !self.nothing
            && any(&self.ids, |pattern| pattern.matches(id))
            && any(&self.names, |pattern| {
                pattern.matches(name) || pattern.matches(&format!("/{name}"))
            })
            && self
                .labels
                .iter()
                .all(|label| has_label(&seen.container, label))
            && any(&self.exited, |code| {
                !seen.status.is_running()
                    && !seen.state.started_at.is_never()
                    && seen.state.exit_code == *code
            })
            && any(&self.status, |status| seen.status == *status)
            && any(&self.health, |word| health(seen) == word)
            && any(&self.images, |image| descends(&seen.container, image))
            && any(&self.before, |time| record.created < *time)
            && any(&self.since, |time| record.created > *time)
            && any(&self.volumes, |volume| mounts(&seen.container, volume))
            && any(&self.networks, |network| on_network(seen, network))
            && any(&self.published, |ports| {
                holds(ports, record.host.port_bindings.keys())
            })
            && any(&self.exposed, |ports| {
                holds(ports, record.config.exposed_ports.keys())
            })
    }
}

/// No value at all is no condition.
fn any<T>(values: &[T], accepts: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(accepts)
}

fn has_label(container: &Container, label: &str) -> bool {
    let labels = &container.record.config.labels;
    match label.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|have| have == value),
        None => labels.contains_key(label),
    }
}

fn health(seen: &Seen) -> &str {
    match seen.state.health.as_ref() {
        Some(health) if !health.status.is_empty() => &health.status,
        _ => "none",
    }
}

fn descends(container: &Container, image: &Ancestor) -> bool {
    let record = &container.record;
    image.id.as_ref().is_some_and(|id| *id == record.image)
        || (!image.layers.is_empty() && record.layers.starts_with(&image.layers))
        || record.config.image == image.text
}

fn mounts(container: &Container, text: &str) -> bool {
    container.record.mounts.iter().any(|mount| {
        mount.destination == text
            || (mount.name == text && !text.is_empty())
            || mount.source == text
    })
}

fn on_network(seen: &Seen, text: &str) -> bool {
    seen.settings.networks.iter().any(|(name, endpoint)| {
        name == text || (!text.is_empty() && endpoint.network_id.starts_with(text))
    })
}

fn holds<'a>(ports: &Ports, mut names: impl Iterator<Item = &'a String>) -> bool {
    names.any(|name| name.parse().is_ok_and(|port| ports.holds(port)))
}

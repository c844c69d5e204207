//! The names that links give: `receiver/alias` means the source.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use super::Link;
use crate::Engine;
use crate::error::Result;
use crate::id::ContainerId;
use crate::name::ContainerName;
use crate::store::{Container, read_json};

/// What of a receiver's document a list needs: the rest is passed over, for there may be many.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Brief {
    links: Vec<BriefLink>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BriefLink {
    alias: String,
    source: ContainerId,
    name: String,
}

impl BriefLink {
    fn whole(&self) -> Link {
        Link {
            alias: self.alias.clone(),
            source: self.source.clone(),
            name: self.name.clone(),
            seen: None,
        }
    }
}

/// `receiver/alias`, with or without a slash before it; `None` for a plain name.
pub(super) fn split(text: &str) -> Option<(&str, &str)> {
    let (receiver, alias) = text.strip_prefix('/').unwrap_or(text).split_once('/')?;
    (!receiver.is_empty() && !alias.is_empty()).then_some((receiver, alias))
}

impl Engine {
    /// The receiver and the link that a path names.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub(super) fn link_at(&self, path: &str) -> Result<Option<(Container, Link)>> {
        let Some((receiver, alias)) = split(path) else {
            return Ok(None);
        };
        let Ok(name) = receiver.parse::<ContainerName>() else {
            return Ok(None);
        };
        let Some(id) = self.store().owner(&name)? else {
            return Ok(None);
        };
        let receiver = self.store().load(&id)?;
        let link = self.links_of(&receiver)?.by_alias(alias).cloned();
        Ok(link.map(|link| (receiver, link)))
    }

    /// The source that a path of a link names.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub(crate) fn at_link(&self, path: &str) -> Result<Option<ContainerId>> {
        let Some((receiver, link)) = self.link_at(path)? else {
            return Ok(None);
        };
        let source = self.source_of(receiver.id(), &link)?;
        Ok(source.map(|source| source.id().clone()))
    }

    /// `HostConfig.Links` of a container, with the names of now: `/source:/receiver/alias`.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub(crate) fn shown_links(&self, receiver: &Container) -> Result<Option<Vec<String>>> {
        let mut all = Vec::new();
        for link in self.links_of(receiver)?.links {
            let source = self.source_of(receiver.id(), &link)?;
            let name = source.map_or(link.name, |source| source.name);
            all.push(format!("/{name}:/{}/{}", receiver.name, link.alias));
        }
        Ok((!all.is_empty()).then_some(all))
    }

    /// The names that links give to the containers of a list, without the first slash. A document
    /// that cannot be read gives none.
    pub(crate) fn link_names(&self, containers: &[Container]) -> HashMap<ContainerId, Vec<String>> {
        let read = |container: &Container| {
            let brief: Option<Brief> = read_json(&container.dir.links()).ok().flatten();
            brief.unwrap_or_default()
        };
        let links: Vec<(&Container, Brief)> = containers
            .iter()
            .filter(|container| super::has_links(container))
            .map(|container| (container, read(container)))
            .collect();
        let mut names: HashMap<ContainerId, Vec<String>> = HashMap::new();
        if links.is_empty() {
            return names;
        }
        let ids: HashSet<&ContainerId> = containers.iter().map(Container::id).collect();
        for (receiver, links) in links {
            for link in links.links {
                let path = format!("{}/{}", receiver.name, link.alias);
                let source = match ids.contains(&link.source) {
                    true => Some(link.source),
                    false => self
                        .source_of(receiver.id(), &link.whole())
                        .ok()
                        .flatten()
                        .map(|source| source.id().clone()),
                };
                if let Some(source) = source {
                    names.entry(source).or_default().push(path);
                }
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (text, parts) in [
            ("rcv/db", Some(("rcv", "db"))),
            ("/rcv/db", Some(("rcv", "db"))),
            ("rcv/db/x", Some(("rcv", "db/x"))),
            ("rcv", None),
            ("/rcv", None),
            ("/rcv/", None),
            ("//db", None),
            ("", None),
        ] {
            assert_eq!(split(text), parts, "{text}");
        }
    }
}

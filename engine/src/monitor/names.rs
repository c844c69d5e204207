//! What a container is called on its users' networks, and the resolver that looks such names up.

use std::net::IpAddr;
use std::path::Path;

use netns::NetStep;
use netns::dns::{Config, Membership, Names, Registry, Resolver, Servers, Sockets, registry};
use netns::hosts::parse_dns;

use super::files;
use super::life::Life;
use crate::Engine;
use crate::error::{Error, Result};
use crate::name::ContainerName;
use crate::store::{Container, EndpointRecord, NetworkRecord};

/// Where the host's servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The steps for a container that joins one more network while it runs.
pub(super) fn steps(
    engine: &Engine,
    container: &Container,
    endpoint: &EndpointRecord,
    is_resolved: bool,
) -> Vec<NetStep> {
    let Some(names) = step(engine, container, endpoint) else {
        return Vec::new();
    };
    match is_resolved {
        true => vec![names],
        false => vec![names, NetStep::Resolver],
    }
}

/// Lets the resolver of a container that runs know its networks as they are now. One that has just
/// got its sockets begins to serve, and becomes the container's only server.
///
/// # Errors
/// When it cannot be set up; when the container's resolv.conf cannot be written.
pub(super) fn follow(
    engine: &Engine,
    container: &Container,
    record: &NetworkRecord,
    life: &mut Life,
) -> Result<()> {
    let sockets = life.network_host().and_then(netns::Host::take_resolver);
    if let Some(sockets) = sockets {
        let resolver = resolver(engine, container, sockets, record)?;
        *life.resolver_slot() = Some(resolver);
        return files::embed_resolver(container);
    }
    if let Some(resolver) = life.resolver_slot() {
        resolver.configure(config(engine, container, record));
    }
    Ok(())
}

/// The step that tells a container's names to all others on a network; on networks that are no
/// user's there is nothing to tell.
pub(super) fn step(
    engine: &Engine,
    container: &Container,
    endpoint: &EndpointRecord,
) -> Option<NetStep> {
    // The plain path does not even look for the name.
    endpoint.aliases.as_ref()?;
    let name = container.current_name();
    names(engine, container, &name, endpoint).map(NetStep::Names)
}

fn names(
    engine: &Engine,
    container: &Container,
    name: &str,
    endpoint: &EndpointRecord,
) -> Option<Names> {
    let aliases = endpoint.aliases.clone()?;
    let v4 = endpoint.address.map(IpAddr::V4);
    let v6 = endpoint.address6.map(IpAddr::V6);
    Some(Names {
        directory: registry::directory(engine.store().state()).join(&endpoint.network_id),
        owner: container.id().to_string(),
        name: name.to_owned(),
        aliases,
        addresses: v4.into_iter().chain(v6).collect(),
    })
}

/// The resolver on these sockets, which lie in the container's namespace.
///
/// # Errors
/// When descriptors have run out.
pub(super) fn resolver(
    engine: &Engine,
    container: &Container,
    sockets: Sockets,
    record: &NetworkRecord,
) -> Result<Resolver> {
    let lives = engine.clone();
    let directory = registry::directory(engine.store().state());
    let names = Registry::new(directory, move |owner| lives.lives(owner));
    Resolver::new(sockets, names, config(engine, container, record))
        .map_err(|error| Error::system("cannot serve the container's name look-ups", error))
}

/// What the resolver of a container with these places knows.
fn config(engine: &Engine, container: &Container, record: &NetworkRecord) -> Config {
    let of_users = record.endpoints.iter().filter(|one| one.aliases.is_some());
    Config {
        networks: of_users
            .map(|endpoint| membership(endpoint, |source| engine.short_id(source)))
            .collect(),
        servers: servers(engine, container, record),
    }
}

/// A source of a link is known by its id first, which stays when it is renamed, and then by what
/// the user called it, which stays when it is made anew.
fn membership(endpoint: &EndpointRecord, id_of: impl Fn(&str) -> Option<String>) -> Membership {
    let mut links = Vec::new();
    for link in endpoint.links.iter().flatten() {
        let (source, alias) = link.split_once(':').unwrap_or((link, link));
        let id = id_of(source).map(|id| (bare(alias), id));
        links.extend(id);
        links.push((bare(alias), bare(source)));
    }
    Membership {
        id: endpoint.network_id.clone(),
        name: endpoint.network.clone(),
        links,
    }
}

/// A name as it is looked up.
fn bare(name: &str) -> String {
    name.strip_prefix('/').unwrap_or(name).to_owned()
}

/// Who is asked for other names. They are asked from the host's side: who is on internal networks
/// alone must not reach the world by way of them.
fn servers(engine: &Engine, container: &Container, record: &NetworkRecord) -> Servers {
    let is_internal = |endpoint: &EndpointRecord| {
        let network = engine.store().user_network(&endpoint.network);
        network.is_ok_and(|network| network.is_some_and(|network| network.internal))
    };
    if record.endpoints.iter().all(is_internal) {
        return Servers::none();
    }
    let asked = &container.record.host.dns;
    match asked.is_empty() {
        true => Servers::of_file(Path::new(RESOLV_CONF)),
        false => {
            // What is no address was refused when the container was made.
            let given = asked.iter().filter_map(|text| parse_dns(text).ok());
            Servers::given(&given.collect::<Vec<_>>())
        }
    }
}

impl Engine {
    /// By which the container that the user means is known on all of its networks.
    fn short_id(&self, text: &str) -> Option<String> {
        let container = self.find(text).ok()?;
        Some(container.id().short().to_owned())
    }

    /// Lets the others on a container's networks find it by its new name, if it runs.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub(crate) fn rename_on_networks(
        &self,
        container: &Container,
        new: &ContainerName,
    ) -> Result<()> {
        let record = container.run.network()?.unwrap_or_default();
        for endpoint in &record.endpoints {
            if let Some(names) = names(self, container, &container.name, endpoint) {
                names.rename(new.as_str()).map_err(|error| {
                    Error::system("the other containers do not learn of the new name", error)
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_the_sources_name_and_what_it_is_called_here() {
        let endpoint = EndpointRecord {
            network: "net".to_owned(),
            network_id: "1".to_owned(),
            links: Some(vec!["us:db".to_owned(), "/plain".to_owned()]),
            ..EndpointRecord::default()
        };
        let pair = |alias: &str, source: &str| (alias.to_owned(), source.to_owned());
        let id_of = |source: &str| (source == "us").then(|| "0123456789ab".to_owned());
        assert_eq!(
            membership(&endpoint, id_of),
            Membership {
                id: "1".to_owned(),
                name: "net".to_owned(),
                links: vec![
                    pair("db", "0123456789ab"),
                    pair("db", "us"),
                    pair("plain", "plain"),
                ],
            }
        );
    }
}

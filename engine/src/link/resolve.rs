//! Whom a link leads to: when it is typed, and again whenever somebody asks.

use netns::link::LinkArgument;

use super::{DEFAULT_NETWORK, Link, Seen};
use crate::Engine;
use crate::config::HostConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::monitor::join::Mode;
use crate::name::ContainerName;
use crate::store::Container;

/// What a link's source is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sight {
    /// It runs on the default network.
    Here(Seen),
    /// It does not run.
    Stopped,
    /// It runs, but not on the default network.
    Elsewhere,
}

/// Takes the links out of a request for a network of the user's: there they are further names for
/// the embedded resolver and nothing more, and whether they lead anywhere shows at each look-up.
///
/// # Errors
/// Docker's texts for a link that cannot be read; an alias that is no host name.
pub(crate) fn aliases_of_links(host: &mut HostConfig) -> Result<Vec<String>> {
    match Mode::of(host) {
        Mode::Bridge(DEFAULT_NETWORK) | Mode::Host | Mode::None | Mode::Container(_) => {
            Ok(Vec::new())
        }
        Mode::Bridge(_) => {
            let links = host.links.take().unwrap_or_default();
            check_links(&links)?;
            Ok(links)
        }
    }
}

/// Checks links that are names for the embedded resolver.
///
/// # Errors
/// Docker's texts for a link that cannot be read; an alias that is no host name.
pub(crate) fn check_links(links: &[String]) -> Result<()> {
    for link in links {
        check_alias(&read(link)?.alias)?;
    }
    Ok(())
}

/// What to tell of links whose alias another has already: as with Docker the first one counts.
pub(crate) fn shadowed(links: &[String]) -> Vec<String> {
    let mut seen: Vec<LinkArgument> = Vec::new();
    let mut told = Vec::new();
    for (typed, link) in links
        .iter()
        .filter_map(|text| Some((text, read(text).ok()?)))
    {
        match seen.iter().find(|first| first.alias == link.alias) {
            Some(first) if first.target != link.target => told.push(format!(
                "Link {typed} is discarded: {} leads to {}",
                link.alias, first.target
            )),
            Some(_) => {}
            None => seen.push(link),
        }
    }
    told
}

fn read(typed: &str) -> Result<LinkArgument> {
    typed
        .parse()
        .map_err(|error: netns::link::LinkError| Error::invalid(error.to_string()))
}

impl Engine {
    /// Reads `--link` of a container that is to be made; of two equal aliases the first one counts.
    ///
    /// # Errors
    /// Docker's texts for a link that cannot be read, a container that does not exist, one on the
    /// host's network; an alias that is no host name.
    pub(crate) fn resolve_links(&self, host: &HostConfig) -> Result<Vec<Link>> {
        let mut links: Vec<Link> = Vec::new();
        for text in host.links.iter().flatten() {
            let typed = read(text)?;
            let source = self.source(&typed.target)?;
            check_alias(&typed.alias)?;
            if !links.iter().any(|link| link.alias == typed.alias) {
                links.push(Link {
                    alias: typed.alias,
                    source: source.id().clone(),
                    name: source.name,
                    seen: None,
                });
            }
        }
        Ok(links)
    }

    /// The container that a typed target means: of one without a network of its own, the one whose
    /// network it shares.
    fn source(&self, target: &str) -> Result<Container> {
        let mut source = self
            .find(target)
            .map_err(|error| not_gotten(target, error))?;
        loop {
            let next = match Mode::of(&source.record.host) {
                Mode::Container(id) => id.to_owned(),
                Mode::Host => {
                    return Err(Error::invalid(
                        "conflicting options: host type networking can't be used with links. This \
                         would result in undefined behavior",
                    )
                    .hint(format!(
                        "{} is on the host's network: reach it at the host's address",
                        source.name
                    )));
                }
                Mode::Bridge(_) | Mode::None => return Ok(source),
            };
            source = self
                .find(&next)
                .map_err(|error| not_gotten(target, error))?;
        }
    }

    /// The source of a link: the container it was made with or, once that is gone, the one that has
    /// its name by now. One that in turn has a link to the receiver is none: neither could start
    /// first.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub(super) fn source_of(
        &self,
        receiver: &ContainerId,
        link: &Link,
    ) -> Result<Option<Container>> {
        let gone = |error: Error| match error.kind() {
            ErrorKind::NotFound => Ok(None),
            _ => Err(error),
        };
        if let Some(source) = self.store().load(&link.source).map(Some).or_else(gone)? {
            return Ok(Some(source));
        }
        let Ok(name) = link.name.parse::<ContainerName>() else {
            return Ok(None);
        };
        let Some(id) = self.store().owner(&name)? else {
            return Ok(None);
        };
        if self.leads_to(&id, receiver, &mut Vec::new())? {
            return Ok(None);
        }
        self.store().load(&id).map(Some).or_else(gone)
    }

    /// What to do about a link whose source is gone.
    pub(super) fn advice(&self, receiver: &Container, link: &Link) -> String {
        let path = format!("{}/{}", receiver.current_name(), link.alias);
        let taken = link.name.parse::<ContainerName>();
        match taken.map(|name| self.store().owner(&name)) {
            Ok(Ok(Some(_))) => format!(
                "{} has a link back, so neither could start first: remove one of the two, as with \
                 'rbox rm --link {path}'",
                link.name
            ),
            _ => format!(
                "it is gone: make it again under the name {}, or remove the link with \
                 'rbox rm --link {path}'",
                link.name
            ),
        }
    }

    /// Whether a container is another, or has a link to it, or to one that has.
    fn leads_to(
        &self,
        from: &ContainerId,
        to: &ContainerId,
        seen: &mut Vec<ContainerId>,
    ) -> Result<bool> {
        if from == to {
            return Ok(true);
        }
        if seen.contains(from) {
            return Ok(false);
        }
        seen.push(from.clone());
        let container = match self.store().load(from) {
            Ok(container) => container,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        for link in self.links_of(&container)?.links {
            if self.leads_to(&link.source, to, seen)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// What a source is doing now.
///
/// # Errors
/// When a record cannot be read.
pub(super) fn look(source: &Container) -> Result<Sight> {
    if !source.status()?.0.has_process() {
        return Ok(Sight::Stopped);
    }
    let network = source.run.network()?.unwrap_or_default();
    let endpoint = network
        .endpoints
        .iter()
        .find(|endpoint| endpoint.network == DEFAULT_NETWORK);
    Ok(match endpoint {
        Some(endpoint) => Sight::Here(Seen::of(source, endpoint)),
        None => Sight::Elsewhere,
    })
}

/// Docker's words around why a source was not found.
fn not_gotten(target: &str, error: Error) -> Error {
    if error.kind() == ErrorKind::System {
        return error;
    }
    let failure = Error::invalid(format!("could not get container for {target}: {error}"));
    match error.hint_text() {
        Some(hint) => failure.hint(format!("a link leads to another container: {hint}")),
        None => failure,
    }
}

/// An alias becomes a word of the hosts file and the beginning of variables' names.
fn check_alias(alias: &str) -> Result<()> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && !label.starts_with('-') && label.bytes().all(fits)
    };
    // A look-up takes an address for itself, whatever the hosts file says.
    let is_address = alias.parse::<std::net::Ipv4Addr>().is_ok();
    if alias.len() <= 253 && !is_address && alias.split('.').all(is_label) {
        return Ok(());
    }
    Err(
        Error::invalid(format!("invalid link alias {alias:?}: it is no host name")).hint(
            "an alias is made of letters, digits, '-' and '_', with single dots between words of \
             at most 63: --link NAME:ALIAS",
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::create::tests::{engine, image, request};
    use crate::container::remove::RemoveOptions;

    fn links(engine: &Engine, typed: &[&str]) -> Result<Vec<(String, String)>> {
        let host = HostConfig {
            links: Some(typed.iter().map(|&text| text.to_owned()).collect()),
            ..HostConfig::default()
        };
        let links = engine.resolve_links(&host)?;
        Ok(links
            .into_iter()
            .map(|link| (link.name, link.alias))
            .collect())
    }

    fn make(engine: &Engine, name: &str, mode: &str, links: &[&str]) -> Container {
        let mut request = request(name);
        mode.clone_into(&mut request.host.network_mode);
        if !links.is_empty() {
            request.host.links = Some(links.iter().map(|&text| text.to_owned()).collect());
        }
        engine.create_from(&request, &image()).unwrap();
        engine.find(name).unwrap()
    }

    #[test]
    fn every_form_that_docker_reads() {
        let (_directory, engine) = engine();
        let src = make(&engine, "src", "", &[]);
        let prefix = src.id().short();
        let pair = |name: &str, alias: &str| (name.to_owned(), alias.to_owned());
        for (typed, alias) in [
            ("src", "src"),
            ("/src", "src"),
            ("src:db", "db"),
            ("src:/rcv/zz", "zz"),
            (prefix, prefix),
            (&format!("{prefix}:db"), "db"),
            (&format!("{}:db", src.id()), "db"),
        ] {
            assert_eq!(links(&engine, &[typed]).unwrap(), [pair("src", alias)]);
        }
        make(&engine, "two", "", &[]);
        assert_eq!(
            links(&engine, &["src:a", "two:a", "src:b"]).unwrap(),
            [pair("src", "a"), pair("src", "b")],
            "of two equal aliases the first one counts"
        );
    }

    #[test]
    fn what_cannot_be_linked_to() {
        let (_directory, engine) = engine();
        make(&engine, "src", "", &[]);
        make(&engine, "at-host", "host", &[]);
        let host = "conflicting options: host type networking can't be used with links. This would \
                    result in undefined behavior";
        for (typed, text) in [
            (
                "nope",
                "could not get container for nope: No such container: nope",
            ),
            (
                ":a",
                "could not get container for : invalid name or ID supplied: \"\"",
            ),
            ("", "empty string specified for links"),
            ("a:b:c", "bad format for links: a:b:c"),
            ("at-host:db", host),
            ("src:a b", "invalid link alias \"a b\": it is no host name"),
            (
                "src:a\n1.2.3.4\tx",
                "invalid link alias \"a\\n1.2.3.4\\tx\": it is no host name",
            ),
            ("src:", "invalid link alias \"\": it is no host name"),
            ("src:-a", "invalid link alias \"-a\": it is no host name"),
            (
                "src:a..b",
                "invalid link alias \"a..b\": it is no host name",
            ),
            (
                "src:1.2.3.4",
                "invalid link alias \"1.2.3.4\": it is no host name",
            ),
        ] {
            let error = links(&engine, &[typed]).unwrap_err();
            assert_eq!(error.to_string(), text);
            assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        }
    }

    #[test]
    fn one_that_shares_a_network_stands_for_whose_it_is() {
        let (_directory, engine) = engine();
        make(&engine, "src", "", &[]);
        make(&engine, "join", "container:src", &[]);
        make(&engine, "twice", "container:join", &[]);
        let found = links(&engine, &["twice:db"]).unwrap();
        assert_eq!(found, [("src".to_owned(), "db".to_owned())]);
    }

    #[test]
    fn who_takes_a_name_takes_its_links_but_never_in_a_circle() {
        let (_directory, engine) = engine();
        let first = make(&engine, "src", "", &[]);
        let receiver = make(&engine, "rcv", "", &["src:db"]);
        let link = engine.links_of(&receiver).unwrap().links.remove(0);
        let source = |link: &Link| {
            let found = engine.source_of(receiver.id(), link).unwrap();
            found.map(|container| container.id().clone())
        };
        assert_eq!(source(&link).as_ref(), Some(first.id()));
        engine.rename("src", "other").unwrap();
        make(&engine, "src", "", &[]);
        assert_eq!(
            source(&link).as_ref(),
            Some(first.id()),
            "it is still there"
        );
        let force = RemoveOptions {
            force: true,
            ..RemoveOptions::default()
        };
        engine.remove("other", force).unwrap();
        engine.remove("src", force).unwrap();
        let link = engine.links_of(&receiver).unwrap().links.remove(0);
        assert_eq!(link.name, "other", "the link went with the rename");
        assert_eq!(source(&link), None);
        let again = make(&engine, "other", "", &[]);
        assert_eq!(source(&link).as_ref(), Some(again.id()));
        engine.remove("other", force).unwrap();
        make(&engine, "between", "", &["rcv"]);
        make(&engine, "other", "", &["between"]);
        assert_eq!(source(&link), None, "neither could start first");
    }
}

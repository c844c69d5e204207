//! `network connect` and `network disconnect`: of a running container by its monitor, of a stopped
//! one by a change of its wishes.

use super::check::{check, unjoinable};
use super::{HOST, NONE, NetworkWish, is_predefined};
use crate::Engine;
use crate::container::control::{ask, connect, refused};
use crate::error::{Error, ErrorKind, Result};
use crate::link::resolve::check_links;
use crate::monitor::claim::{Claim, Claimed};
use crate::monitor::join::Mode;
use crate::stdio::protocol::{Answer, Request};
use crate::store::Container;
use crate::store::record::EndpointWish;

/// A change of a container's wishes.
type Change<'a> = &'a dyn Fn(&mut Vec<NetworkWish>) -> Result<()>;

impl Engine {
    /// Connects a container to a network.
    ///
    /// # Errors
    /// Docker's texts for a network that does not exist or cannot be joined, and for a container
    /// that is on it already or has no network of its own.
    pub fn connect_network(
        &self,
        network: &str,
        container: &str,
        endpoint: &EndpointWish,
    ) -> Result<()> {
        let network = self.network(network)?;
        let container = self.find(container)?;
        if is_predefined(&network.name) && !endpoint.aliases.is_empty() {
            return Err(Error::invalid(
                "network-scoped alias is supported only for containers in user defined networks",
            )
            .hint("make a network with 'rbox network create'"));
        }
        if [HOST, NONE].contains(&network.name.as_str()) {
            return Err(unjoinable(&network.name));
        }
        match Mode::of(&container.record.host) {
            Mode::None if container.is_alone()? => {
                return Err(unjoinable(NONE).hint(format!(
                    "take it off first: 'rbox network disconnect none {}'",
                    container.name
                )));
            }
            Mode::Bridge(_) | Mode::None => {}
            Mode::Host | Mode::Container(_) => return Err(unjoinable("container:")),
        }
        check(&network, endpoint)?;
        check_links(&endpoint.links)?;
        let wish = NetworkWish {
            network: network.name,
            endpoint: endpoint.clone(),
        };
        let message = Request::Connect(encode(&wish)?);
        let change = |wishes: &mut Vec<NetworkWish>| add_wish(wishes, wish.clone(), &container);
        self.change_networks(&container, &message, &change)
    }

    /// Takes a container off a network.
    ///
    /// # Errors
    /// `container <id> is not connected to network <name>`; Docker's texts for what does not exist
    /// or cannot be left.
    pub fn disconnect_network(&self, network: &str, container: &str) -> Result<()> {
        let container = self.find(container)?;
        let wishes = container.networks()?;
        // a stopped container may name a network that is gone
        let name = match wishes.iter().find(|wish| wish.network == network) {
            Some(wish) => wish.network.clone(),
            None => self.network(network)?.name,
        };
        match Mode::of(&container.record.host) {
            Mode::Bridge(_) | Mode::None => {}
            _ if name == HOST => return Err(unjoinable(HOST)),
            Mode::Host | Mode::Container(_) => {
                return Err(not_connected(&container, &name));
            }
        }
        let message = Request::Disconnect(encode(&NetworkWish::on(&name))?);
        let change = |wishes: &mut Vec<NetworkWish>| take_wish(wishes, &name, &container);
        self.change_networks(&container, &message, &change)
    }

    fn change_networks(
        &self,
        container: &Container,
        message: &Request,
        change: Change<'_>,
    ) -> Result<()> {
        loop {
            match Claim::of(container)? {
                Claimed::Ours(claim) if container.run.plan_path().exists() => {
                    // what a dead monitor left
                    self.clear_up(container.id(), claim)?;
                }
                Claimed::Ours(claim) => {
                    let changed = container.networks().and_then(|mut wishes| {
                        change(&mut wishes)?;
                        container.write_networks(&wishes)
                    });
                    claim.clear()?;
                    return changed;
                }
                Claimed::Lives(_) => {
                    let answer = match connect(container)? {
                        Some(socket) => ask(&socket, message)?,
                        None => None,
                    };
                    match answer {
                        Some(Answer::Refused(refusal)) => return Err(refused(refusal)),
                        Some(_) => return Ok(()),
                        // it ended meanwhile
                        None => {}
                    }
                }
            }
        }
    }
}

fn encode(wish: &NetworkWish) -> Result<Vec<u8>> {
    serde_json::to_vec(wish).map_err(|error| Error::system("cannot encode a wish", error))
}

/// Adds a network to those that a container is to be on.
///
/// # Errors
/// Docker's text where it is on it already.
pub(crate) fn add_wish(
    wishes: &mut Vec<NetworkWish>,
    wish: NetworkWish,
    container: &Container,
) -> Result<()> {
    if wishes.iter().any(|other| other.network == wish.network) {
        return Err(Error::new(
            ErrorKind::Forbidden,
            format!(
                "endpoint with name {} already exists in network {}",
                container.current_name(),
                wish.network
            ),
        ));
    }
    wishes.push(wish);
    Ok(())
}

/// Takes a network from those that a container is to be on.
///
/// # Errors
/// Docker's text where it is not.
pub(crate) fn take_wish(
    wishes: &mut Vec<NetworkWish>,
    name: &str,
    container: &Container,
) -> Result<()> {
    match wishes.iter().position(|wish| wish.network == name) {
        Some(at) => {
            wishes.remove(at);
            Ok(())
        }
        None => Err(not_connected(container, name)),
    }
}

fn not_connected(container: &Container, name: &str) -> Error {
    let failure = Error::new(
        ErrorKind::Forbidden,
        format!(
            "container {} is not connected to network {name}",
            container.id()
        ),
    );
    failure.hint(format!(
        "see its networks with 'rbox inspect -f \"{{{{json .NetworkSettings.Networks}}}}\" {}'",
        container.name
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::create::tests::{engine, image, request};

    fn names(container: &Container) -> Vec<String> {
        let wishes = container.networks().unwrap().into_iter();
        wishes.map(|wish| wish.network).collect()
    }

    #[test]
    fn a_stopped_container_changes_its_wishes() {
        let (_directory, engine) = engine();
        engine.create_from(&request("web"), &image()).unwrap();
        let networks = engine.store().networks();
        std::fs::create_dir_all(&networks).unwrap();
        std::fs::write(networks.join("un.json"), r#"{"Name":"un","Id":"ab"}"#).unwrap();
        let container = engine.find("web").unwrap();
        assert!(!container.dir.networks().exists());
        let wish = EndpointWish {
            aliases: vec!["db".to_owned()],
            ..EndpointWish::default()
        };
        engine.connect_network("ab", "web", &wish).unwrap();
        assert_eq!(names(&container), ["bridge", "un"]);
        assert_eq!(container.networks().unwrap()[1].endpoint, wish);
        assert_eq!(
            engine
                .connect_network("un", "web", &wish)
                .unwrap_err()
                .to_string(),
            "endpoint with name web already exists in network un"
        );
        // also where the network is gone
        std::fs::remove_file(networks.join("un.json")).unwrap();
        engine.disconnect_network("un", "web").unwrap();
        engine.disconnect_network("bridge", "web").unwrap();
        assert!(names(&container).is_empty());
        let error = engine.disconnect_network("bridge", "web").unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "container {} is not connected to network bridge",
                container.id()
            )
        );
        assert!(!container.run.path().exists());
    }

    #[test]
    fn some_networks_are_had_alone() {
        let (_directory, engine) = engine();
        for (mode, network, expected) in [
            (
                "host",
                "bridge",
                "container sharing network namespace with another container or host cannot be connected to any other network",
            ),
            (
                "none",
                "bridge",
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ),
            (
                "bridge",
                "host",
                "container cannot be disconnected from host network or connected to host network",
            ),
            (
                "bridge",
                "none",
                "container cannot be connected to multiple networks with one of the networks in private (none) mode",
            ),
            ("bridge", "nope", "network nope not found"),
        ] {
            let name = format!("on-{mode}-{network}");
            let mut request = request(&name);
            request.host.network_mode = mode.to_owned();
            engine.create_from(&request, &image()).unwrap();
            let wish = EndpointWish::default();
            let error = engine.connect_network(network, &name, &wish).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}

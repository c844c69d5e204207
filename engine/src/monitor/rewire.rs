//! Networks of a container that runs: joined and left while its process lives.
//!
//! What is done is in the journal before it is done, and in the wishes after: a monitor that dies
//! in between leaves a container that starts as it was asked for last.

use std::net::IpAddr;

use netns::{NetStep, Sandbox};

use super::life::Life;
use super::wire::attach::Attacher;
use super::wire::place::{Place, Rank, leader, rank};
use super::{Monitor, files, names};
use crate::Engine;
use crate::error::{Error, Result};
use crate::link::DEFAULT_NETWORK;
use crate::network::{NONE, NetworkWish, add_wish, take_wish};
use crate::store::{Container, EndpointRecord, NetworkRecord};

impl Monitor<'_> {
    /// Connects the container to a network; without a process only from the next start on.
    pub(super) fn connect(&mut self, wish: &[u8], life: Option<&mut Life>) -> Result<()> {
        let (engine, container) = (self.engine, self.container);
        let wish = read(wish)?;
        let mut wishes = container.networks()?;
        add_wish(&mut wishes, wish.clone(), container)?;
        if let Some(life) = life {
            join(engine, container, wish, life)?;
        }
        container.write_networks(&wishes)
    }

    /// Takes the container off a network.
    pub(super) fn disconnect(&mut self, wish: &[u8], life: Option<&mut Life>) -> Result<()> {
        let (engine, container) = (self.engine, self.container);
        let name = read(wish)?.network;
        let mut wishes = container.networks()?;
        take_wish(&mut wishes, &name, container)?;
        if let Some(life) = life {
            leave(engine, container, &name, life)?;
        }
        container.write_networks(&wishes)
    }
}

fn read(wish: &[u8]) -> Result<NetworkWish> {
    serde_json::from_slice(wish)
        .map_err(|error| Error::system("cannot understand what network is meant", error))
}

fn inside(life: &mut Life) -> Result<&mut netns::Host> {
    life.network_host().ok_or_else(|| {
        Error::conflict("the container has no network of its own that could be changed")
    })
}

fn join(engine: &Engine, container: &Container, wish: NetworkWish, life: &mut Life) -> Result<()> {
    let mut record = container.run.network()?.unwrap_or_default();
    let led = way_out(engine, &record)?;
    // until an address is held on it, the network may not go
    let lock = engine.store().share_networks()?;
    let host = inside(life)?;
    let place = Place::of(engine, container, wish, host)?;
    let own = rank(place.network.internal, place.wish.endpoint.priority);
    let leads = led.is_none_or(|(_, leader)| own < leader);
    // what is published moves once there is a place to move to
    let shifted = led.filter(|(_, leader)| leads && !is_internal(leader));
    let attacher = Attacher::new(engine, container, &place)?
        .with_interface(record.next_interface(&place.prefix))
        .with_gateway(leads && shifted.is_none())
        .with_sandbox(Sandbox::Wired);
    let prepared = attacher.prepare(host)?;
    drop(lock);
    let (endpoint, ports) = attacher.records(&prepared);
    let addresses = addresses(&endpoint);
    let mut steps = prepared.steps;
    let is_resolved = life.resolver().is_some();
    steps.extend(names::steps(engine, container, &endpoint, is_resolved));
    life.extend(container, steps)?;
    if !prepared.sockets.is_empty() {
        life.publish(prepared.sockets, &addresses)?;
        record.ports = ports;
    }
    if let Some((leader, _)) = shifted {
        shift(
            engine,
            container,
            (&record.endpoints[leader], &endpoint),
            life,
        )?;
    }
    record.endpoints.push(endpoint.clone());
    container.run.write_network(&record)?;
    files::add_own(engine, container, &addresses)?;
    if endpoint.network == DEFAULT_NETWORK {
        engine.tell_receivers(container);
    }
    names::follow(engine, container, &record, life)?;
    engine.note_connected(container, &endpoint, "connect");
    Ok(())
}

fn leave(engine: &Engine, container: &Container, name: &str, life: &mut Life) -> Result<()> {
    let mut record = container.run.network()?.unwrap_or_default();
    let Some(at) = record.endpoints.iter().position(|one| one.network == name) else {
        return Ok(());
    };
    let led = way_out(engine, &record)?.is_some_and(|(leader, _)| leader == at);
    let endpoint = record.endpoints.remove(at);
    if name == NONE {
        // there is nothing to take back
        container.run.write_network(&record)?;
        engine.note_connected(container, &endpoint, "disconnect");
        return Ok(());
    }
    let next = way_out(engine, &record)?;
    let host = inside(life)?;
    let place = Place::of(engine, container, NetworkWish::on(name), host)?;
    if name == DEFAULT_NETWORK {
        // before another container gets its address
        engine.close_gates(container.id(), &container.run)?;
        engine.leave_receivers(container, &container.current_name());
    }
    let (held, ports) = (host.addresses_directory(name), host.ports_directory());
    let publishes = next.is_some_and(|(_, leader)| !is_internal(&leader));
    let closes = led && !publishes;
    // what cannot be taken back is told, but does not keep the rest from its turn
    let undone = life.take_back(container, |step| {
        netns::is_of(step, &place.network, &endpoint.interface, &held)
            || (closes && matches!(step, NetStep::Hold(hold) if hold.path.parent() == Some(&ports)))
    });
    if closes {
        life.publish(Vec::new(), &[])?;
        record.ports.clear();
    }
    if let Some((next, _)) = next.filter(|_| led) {
        lead(engine, container, &record.endpoints[next], life)?;
    }
    container.run.write_network(&record)?;
    files::remove_own(engine, container, &addresses(&endpoint))?;
    if name == DEFAULT_NETWORK {
        // again: a receiver may have looked before the record said so
        engine.tell_receivers(container);
    }
    names::follow(engine, container, &record, life)?;
    engine.note_connected(container, &endpoint, "disconnect");
    undone
}

/// Moves the way out and what is published from one network to another, and back where that
/// fails: then the container is not on the other.
fn shift(
    engine: &Engine,
    container: &Container,
    (from, to): (&EndpointRecord, &EndpointRecord),
    life: &mut Life,
) -> Result<()> {
    let host = inside(life)?;
    let old = Place::of(engine, container, NetworkWish::on(&from.network), host)?;
    let moved = life
        .unpublish(container, &old.network)
        .and_then(|()| lead(engine, container, to, life));
    let Err(error) = moved else {
        return Ok(());
    };
    let host = inside(life)?;
    let new = Place::of(engine, container, NetworkWish::on(&to.network), host)?;
    let held = host.addresses_directory(&to.network);
    // the first error is the one to tell
    let _ = life.take_back(container, |step| {
        netns::is_of(step, &new.network, &to.interface, &held)
    });
    let _ = lead(engine, container, from, life);
    Err(error)
}

/// Makes a network that the container is on its way out and the place of its published ports.
fn lead(
    engine: &Engine,
    container: &Container,
    endpoint: &EndpointRecord,
    life: &mut Life,
) -> Result<()> {
    let bindings = life.bindings();
    let host = inside(life)?;
    let wish = NetworkWish::on(&endpoint.network);
    let place = Place::of(engine, container, wish, host)?;
    let own = addresses(endpoint);
    let interface = &endpoint.interface;
    let steps = netns::way_out(host, &place.network, interface, &own, &bindings)
        .map_err(|error| super::wire::failed(&error, container))?;
    life.extend(container, steps)?;
    life.retarget(&own);
    Ok(())
}

/// Which of its networks leads outside, and its rank: the rule of the start.
fn way_out(engine: &Engine, record: &NetworkRecord) -> Result<Option<(usize, Rank)>> {
    let mut ranks = Vec::with_capacity(record.endpoints.len());
    for endpoint in &record.endpoints {
        let network = engine.store().user_network(&endpoint.network)?;
        let internal = network.is_some_and(|network| network.internal);
        ranks.push(rank(internal, endpoint.priority));
    }
    Ok(leader(ranks))
}

fn is_internal((internal, _): &Rank) -> bool {
    *internal
}

fn addresses(endpoint: &EndpointRecord) -> Vec<IpAddr> {
    let v4 = endpoint.address.map(IpAddr::V4);
    let v6 = endpoint.address6.map(IpAddr::V6);
    v4.into_iter().chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::create::tests::engine;

    fn record(names: &[(&str, &str)]) -> NetworkRecord {
        NetworkRecord {
            endpoints: names
                .iter()
                .map(|(network, interface)| EndpointRecord {
                    network: (*network).to_owned(),
                    interface: (*interface).to_owned(),
                    ..EndpointRecord::default()
                })
                .collect(),
            ..NetworkRecord::default()
        }
    }

    #[test]
    fn interfaces_count_on() {
        for (names, prefix, expected) in [
            (&[][..], "eth", "eth0"),
            (&[("a", "eth0")], "eth", "eth1"),
            (&[("b", "eth2"), ("a", "eth0")], "eth", "eth3"),
            (&[("b", "lan2"), ("a", "eth0")], "lan", "lan3"),
        ] {
            assert_eq!(record(names).next_interface(prefix), expected);
        }
    }

    #[test]
    fn the_first_network_that_is_not_internal_leads_out() {
        let (_directory, engine) = engine();
        let networks = engine.store().networks();
        std::fs::create_dir_all(&networks).unwrap();
        std::fs::write(networks.join("in.json"), r#"{"Name":"in","Internal":true}"#).unwrap();
        for (names, expected) in [
            (&[][..], None),
            (&[("bridge", "eth0")], Some((0, rank(false, 0)))),
            (&[("in", "eth0")], Some((0, rank(true, 0)))),
            (
                &[("in", "eth0"), ("bridge", "eth1")],
                Some((1, rank(false, 0))),
            ),
        ] {
            assert_eq!(way_out(&engine, &record(names)).unwrap(), expected);
        }
    }

    #[test]
    fn a_priority_goes_before_the_order_but_leads_out_of_nothing_internal() {
        let (_directory, engine) = engine();
        let networks = engine.store().networks();
        std::fs::create_dir_all(&networks).unwrap();
        std::fs::write(networks.join("in.json"), r#"{"Name":"in","Internal":true}"#).unwrap();
        let mut record = record(&[("bridge", "eth0"), ("un", "eth1"), ("in", "eth2")]);
        record.endpoints[2].priority = 9;
        assert_eq!(way_out(&engine, &record).unwrap().unwrap().0, 0);
        record.endpoints[1].priority = 1;
        assert_eq!(way_out(&engine, &record).unwrap().unwrap().0, 1);
        record.endpoints[1].priority = -1;
        assert_eq!(way_out(&engine, &record).unwrap().unwrap().0, 0);
    }
}

//! The events of a container's start and end: what happened to its network and its volumes, too.

use crate::Engine;
use crate::event::Event;
use crate::mount::{MountKind, volume_driver};
use crate::network::{HOST, NONE};
use crate::store::{Container, EndpointRecord};

impl Engine {
    /// Writes the events of a start, in Docker's order; `attached` when somebody watched from the
    /// beginning. A log of events that cannot be written stops nothing.
    pub(crate) fn note_started(&self, container: &Container, attached: bool) {
        let mut events = Vec::new();
        if attached {
            events.push(Event::of_container(container, "attach", &[]));
        }
        events.extend(of_networks(container, "connect"));
        for mount in volumes(container) {
            let writable = mount.writable.to_string();
            let attributes = [
                ("container", container.id().as_str()),
                ("destination", &mount.destination),
                ("driver", volume_driver(mount)),
                ("propagation", &mount.propagation),
                ("read/write", &writable),
            ];
            events.push(Event::new("volume", "mount", &mount.name, &attributes));
        }
        events.push(Event::of_container(container, "start", &[]));
        let _ = self.events().append_all(&events);
    }

    /// Writes the events of an end, in Docker's order, while the run directory still says which
    /// networks the container was on.
    pub(crate) fn note_ended(&self, container: &Container, code: i32) {
        let code = code.to_string();
        let mut events = vec![Event::of_container(
            container,
            "die",
            &[("exitCode", &code)],
        )];
        events.extend(of_networks(container, "disconnect"));
        for mount in volumes(container) {
            let attributes = [
                ("container", container.id().as_str()),
                ("driver", volume_driver(mount)),
            ];
            events.push(Event::new("volume", "unmount", &mount.name, &attributes));
        }
        let _ = self.events().append_all(&events);
    }
}

impl Engine {
    /// Writes the event of a network joined or left by a container that runs.
    pub(crate) fn note_connected(
        &self,
        container: &Container,
        endpoint: &EndpointRecord,
        action: &str,
    ) {
        let event = of_network(container, endpoint, action);
        let _ = self.events().append(&event);
    }
}

fn of_networks(container: &Container, action: &str) -> Vec<Event> {
    let record = container.run.network().ok().flatten().unwrap_or_default();
    let event = |endpoint: &EndpointRecord| of_network(container, endpoint, action);
    record.endpoints.iter().map(event).collect()
}

fn of_network(container: &Container, endpoint: &EndpointRecord, action: &str) -> Event {
    let kind = match endpoint.network.as_str() {
        HOST => "host",
        NONE => "null",
        _ if endpoint.driver.is_empty() => "bridge",
        _ => &endpoint.driver,
    };
    let attributes = [
        ("container", container.id().as_str()),
        ("name", &endpoint.network),
        ("type", kind),
    ];
    Event::new("network", action, &endpoint.network_id, &attributes)
}

fn volumes(container: &Container) -> impl Iterator<Item = &crate::mount::MountPoint> {
    let mounts = container.record.mounts.iter();
    mounts.filter(|mount| mount.kind == MountKind::Volume)
}

#[cfg(test)]
mod tests {
    use crate::container::create::tests::{engine, image, request};
    use crate::store::{EndpointRecord, NetworkRecord};

    #[test]
    fn the_order_is_dockers() {
        let (_directory, engine) = engine();
        let mut request = request("web");
        request.host.binds = Some(vec!["data:/data:ro".to_owned()]);
        engine.create_from(&request, &image()).unwrap();
        let container = engine.find("web").unwrap();
        container.run.make().unwrap();
        let network = NetworkRecord {
            endpoints: vec![EndpointRecord {
                network: "bridge".to_owned(),
                network_id: "n".to_owned(),
                ..EndpointRecord::default()
            }],
            ..NetworkRecord::default()
        };
        container.run.write_network(&network).unwrap();
        engine.rename("web", "new").unwrap();
        engine.note_started(&container, true);
        engine.note_ended(&container, 3);
        let events = engine.events().read().unwrap();
        let words: Vec<String> = events
            .iter()
            .map(|event| format!("{} {}", event.kind, event.action))
            .collect();
        assert_eq!(
            words.join(" · "),
            "volume create · container create · container rename · container attach · \
             network connect · volume mount · container start · container die · \
             network disconnect · volume unmount"
        );
        let mount = &events[5].actor;
        assert_eq!(mount.id, "data");
        assert_eq!(mount.attributes["read/write"], "false");
        assert_eq!(events[4].actor.attributes["type"], "bridge");
        let die = &events[7].actor;
        assert_eq!(die.attributes["exitCode"], "3");
        assert_eq!(die.attributes["name"], "new", "renamed while it ran");
    }
}

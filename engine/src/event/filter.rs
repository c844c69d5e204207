//! Which events are wanted (pure): Docker's filters.

use std::collections::BTreeMap;

use super::Event;

/// What `--filter` asked for: one of the values of a key has to fit, and so every key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    wanted: BTreeMap<String, Vec<String>>,
}

/// Actions that carry more behind a colon: asked for without it, the rest does not matter.
const LONGER: [&str; 3] = ["health_status", "exec_create", "exec_start"];

impl EventFilter {
    /// From pairs of key and value; keys that nobody knows are no hindrance, as in Docker.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, value) in pairs {
            wanted.entry(key).or_default().push(value);
        }
        Self { wanted }
    }

    /// Whether an event is wanted.
    pub fn admits(&self, event: &Event) -> bool {
        self.wanted.iter().all(|(key, values)| {
            let mut values = values.iter();
            match key.as_str() {
                "event" => values.any(|value| is_action(&event.action, value)),
                "type" => values.any(|value| *value == event.kind),
                "scope" => values.any(|value| *value == event.scope),
                "container" | "volume" | "network" => values.any(|value| is_actor(event, value)),
                "image" => values.any(|value| is_image(event, value)),
                // here every one has to fit
                "label" => values.all(|value| has_label(event, value)),
                _ => true,
            }
        })
    }
}

fn is_action(action: &str, wanted: &str) -> bool {
    action == wanted || LONGER.contains(&wanted) && action.starts_with(wanted)
}

/// Docker takes the beginning of an id or a name.
fn is_actor(event: &Event, wanted: &str) -> bool {
    let name = event.actor.attributes.get("name");
    event.actor.id.starts_with(wanted) || name.is_some_and(|name| name.starts_with(wanted))
}

fn is_image(event: &Event, wanted: &str) -> bool {
    let attribute = match event.kind.as_str() {
        "image" => "name",
        _ => "image",
    };
    let name = event.actor.attributes.get(attribute);
    let name = name.map_or("", String::as_str);
    let without_tag = |text: &str| match text.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare == wanted,
        _ => text == wanted,
    };
    event.actor.id == wanted || name == wanted || without_tag(&event.actor.id) || without_tag(name)
}

fn has_label(event: &Event, wanted: &str) -> bool {
    let labels = &event.actor.attributes;
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_truth_table_of_filters() {
        let start = Event::new(
            "container",
            "exec_start: sh",
            "abcdef",
            &[("image", "busybox:1"), ("name", "web"), ("tier", "front")],
        );
        let volume = Event::new("volume", "create", "data", &[("driver", "local")]);
        for (filters, of_container, of_volume) in [
            (&[][..], true, true),
            (&["event=exec_start"], true, false),
            (&["event=exec_start: sh"], true, false),
            (&["event=exec"], false, false),
            (&["event=create"], false, true),
            (&["event=create", "event=exec_start"], true, true),
            (&["event=create", "type=container"], false, false),
            (&["type=volume"], false, true),
            (&["container=web"], true, false),
            (&["container=abc"], true, false),
            (&["container=x", "container=we"], true, false),
            (&["volume=data"], false, true),
            (&["image=busybox"], true, false),
            (&["image=busybox:1"], true, false),
            (&["image=busy"], false, false),
            (&["label=tier"], true, false),
            (&["label=tier=front"], true, false),
            (&["label=tier=front", "label=none"], false, false),
            (&["scope=local"], true, true),
            (&["scope=swarm"], false, false),
            (&["nonsense=1"], true, true),
        ] {
            let pairs = filters.iter().filter_map(|text| text.split_once('='));
            let filter =
                EventFilter::new(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())));
            assert_eq!(filter.admits(&start), of_container, "{filters:?}");
            assert_eq!(filter.admits(&volume), of_volume, "{filters:?}");
        }
    }
}

//! `rbox volume …`.

use std::collections::{BTreeMap, BTreeSet};

use engine::Engine;
use engine::volume::Volume;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::app::Entry;
use crate::error::{DAEMON, Failure, Result};

pub(crate) mod create;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

/// The verbs of the noun.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry::new("create", &create::LEAF),
    Entry::new("inspect", &inspect::LEAF),
    Entry::new("ls", &ls::LEAF).or(&["list"]),
    Entry::new("prune", &prune::LEAF),
    Entry::new("rm", &rm::LEAF).or(&["remove"]),
];

/// The reach of every volume.
const LOCAL: &str = "local";

/// One volume's document.
pub(crate) fn document(engine: &Engine, volume: &Volume) -> Value {
    let empty_is_null = |map: &BTreeMap<String, String>| match map.is_empty() {
        true => Value::Null,
        false => json!(map),
    };
    let created: Timestamp = volume.record.created_at.timestamp();
    json!({
        "CreatedAt": crate::output::time::rfc3339(created),
        "Driver": volume.record.driver.as_str(),
        "Labels": empty_is_null(&volume.record.labels),
        "Mountpoint": engine.store().mount_point(volume),
        "Name": volume.name,
        "Options": empty_is_null(&volume.record.options),
        "Scope": LOCAL,
    })
}

/// One volume's document by its name.
pub(crate) fn inspect(engine: &Engine, name: &str) -> Result<Value> {
    Ok(document(engine, &engine.store().volume(name)?))
}

/// The names of volumes that containers use.
pub(crate) fn used(engine: &Engine) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for container in engine.store().load_all()? {
        names.extend(container.record.mounts.into_iter().map(|mount| mount.name));
    }
    Ok(names)
}

/// `--filter` of `volume ls`; words of one name are alternatives.
#[derive(Debug, Default)]
struct Filters {
    dangling: Option<bool>,
    names: Vec<String>,
    labels: Vec<String>,
    drivers: Vec<String>,
}

impl Filters {
    fn parse(words: &[(String, String)]) -> Result<Self> {
        let mut filters = Self::default();
        for (key, value) in words {
            match key.as_str() {
                "dangling" => {
                    filters.dangling = Some(match value.as_str() {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => {
                            let text = format!("{DAEMON}Invalid filter 'dangling=[{value}]'");
                            return Err(Failure::said(text));
                        }
                    });
                }
                "name" => filters.names.push(value.clone()),
                "label" => filters.labels.push(value.clone()),
                "driver" => filters.drivers.push(value.clone()),
                _ => return Err(Failure::said(format!("{DAEMON}Invalid filter '{key}'"))),
            }
        }
        Ok(filters)
    }

    fn admits(&self, volume: &Volume, used: &BTreeSet<String>) -> bool {
        let labels = &volume.record.labels;
        let driver = volume.record.driver.as_str();
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(label),
        };
        self.dangling
            .is_none_or(|wanted| wanted != used.contains(&volume.name))
            && (self.names.is_empty() || self.names.iter().any(|part| volume.name.contains(part)))
            && (self.drivers.is_empty() || self.drivers.iter().any(|one| one == driver))
            && self.labels.iter().all(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::volume::VolumeRecord;

    #[test]
    fn filters() {
        let volume = Volume {
            name: "data1".to_owned(),
            data: "/v/data1/_data".into(),
            record: VolumeRecord {
                labels: BTreeMap::from([("a".to_owned(), "1".to_owned())]),
                ..VolumeRecord::default()
            },
        };
        let used = BTreeSet::from(["data1".to_owned()]);
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("dangling", "true")], false),
            (&[("dangling", "0")], true),
            (&[("name", "ta")], true),
            (&[("name", "x"), ("name", "data")], true),
            (&[("name", "x")], false),
            (&[("label", "a=1")], true),
            (&[("label", "a=2")], false),
            (&[("driver", "local")], true),
            (&[("driver", "nfs")], false),
        ];
        for (words, want) in cases {
            let words: Vec<_> = words
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            let filters = Filters::parse(&words).unwrap();
            assert_eq!(filters.admits(&volume, &used), *want, "{words:?}");
        }
        assert!(Filters::parse(&[("foo".to_owned(), String::new())]).is_err());
        let keys: Vec<String> = document(&Engine::open(engine::Options::default()), &volume)
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        assert_eq!(
            keys,
            [
                "CreatedAt",
                "Driver",
                "Labels",
                "Mountpoint",
                "Name",
                "Options",
                "Scope"
            ]
        );
    }
}

//! `rbox network …`.

use engine::Engine;
use engine::network::{Network, is_predefined};
use serde_json::Value;

use crate::app::Entry;
use crate::error::{DAEMON, Failure, Result};

pub(crate) mod connect;
pub(crate) mod create;
pub(crate) mod disconnect;
pub(crate) mod inspect;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;

/// The verbs of the noun.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry::new("connect", &connect::LEAF),
    Entry::new("create", &create::LEAF),
    Entry::new("disconnect", &disconnect::LEAF),
    Entry::new("inspect", &inspect::LEAF),
    Entry::new("ls", &ls::LEAF).or(&["list"]),
    Entry::new("prune", &prune::LEAF),
    Entry::new("rm", &rm::LEAF).or(&["remove"]),
];

/// One network's document.
pub(crate) fn document(engine: &Engine, name: &str) -> Result<Value> {
    let document = engine.inspect_network(name)?;
    Ok(serde_json::to_value(document).map_err(std::io::Error::from)?)
}

/// `--filter` of `network ls`; words of one name are alternatives, but for labels.
#[derive(Debug, Default)]
struct Filters {
    drivers: Vec<String>,
    ids: Vec<String>,
    labels: Vec<String>,
    names: Vec<String>,
    scopes: Vec<String>,
    builtin: Option<bool>,
    dangling: Option<bool>,
}

impl Filters {
    fn parse(words: &[(String, String)]) -> Result<Self> {
        let mut filters = Self::default();
        for (key, value) in words {
            let wrong = || Failure::said(format!("{DAEMON}Invalid filter '{key}={value}'"));
            match key.as_str() {
                "driver" => filters.drivers.push(value.clone()),
                "id" => filters.ids.push(value.clone()),
                "label" => filters.labels.push(value.clone()),
                "name" => filters.names.push(value.clone()),
                "scope" => filters.scopes.push(value.clone()),
                "type" => match value.as_str() {
                    "builtin" => filters.builtin = Some(true),
                    "custom" => filters.builtin = Some(false),
                    _ => return Err(wrong()),
                },
                "dangling" => match value.as_str() {
                    "true" | "1" => filters.dangling = Some(true),
                    "false" | "0" => filters.dangling = Some(false),
                    _ => return Err(wrong()),
                },
                _ => return Err(Failure::said(format!("{DAEMON}Invalid filter '{key}'"))),
            }
        }
        Ok(filters)
    }

    /// `used` says whether a running container is on it; only asked where that matters.
    fn admits(&self, network: &Network, used: impl Fn(&Network) -> Result<bool>) -> Result<bool> {
        let has = |label: &String| match label.split_once('=') {
            Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
            None => network.labels.contains_key(label),
        };
        let any = |words: &[String], fits: &dyn Fn(&String) -> bool| {
            words.is_empty() || words.iter().any(fits)
        };
        let builtin = is_predefined(&network.name);
        let plain = any(&self.drivers, &|driver| network.driver == *driver)
            && any(&self.ids, &|part| network.id.contains(part.as_str()))
            && any(&self.names, &|part| network.name.contains(part.as_str()))
            && any(&self.scopes, &|scope| scope == "local")
            && self.labels.iter().all(has)
            && self.builtin.is_none_or(|wanted| wanted == builtin);
        match self.dangling {
            Some(wanted) if plain => Ok(!builtin && used(network)? != wanted),
            _ => Ok(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        let network = Network {
            name: "front".to_owned(),
            id: "abcd".to_owned(),
            driver: "bridge".to_owned(),
            labels: [("a".to_owned(), "1".to_owned())].into(),
            ..Network::default()
        };
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("name", "ron")], true),
            (&[("name", "x"), ("name", "fr")], true),
            (&[("id", "bc")], true),
            (&[("driver", "host")], false),
            (&[("label", "a=1"), ("label", "b")], false),
            (&[("scope", "swarm")], false),
            (&[("type", "custom")], true),
            (&[("type", "builtin")], false),
            (&[("dangling", "true")], false),
            (&[("dangling", "false")], true),
        ];
        for (words, want) in cases {
            let words: Vec<_> = words
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect();
            let filters = Filters::parse(&words).unwrap();
            let got = filters.admits(&network, |_| Ok(true)).unwrap();
            assert_eq!(got, *want, "{words:?}");
        }
        for wrong in [("foo", "1"), ("type", "x"), ("dangling", "x")] {
            let words = [(wrong.0.to_owned(), wrong.1.to_owned())];
            assert!(Filters::parse(&words).is_err(), "{wrong:?}");
        }
    }
}

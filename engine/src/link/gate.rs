//! Gates: what links open for a receiver on a bridge whose containers may not talk.
//!
//! The file `gates.json` in the receiver's run directory is both the present state and the journal:
//! it is written before the firewall is changed and names at least what is open. It exists from
//! before the receiver's process begins until after it has ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;

use netns::NetStep;
use netns::firewall::{LinkRule, Opening};
use netns::link::LinkSource;
use netns::step::{Firewall, Openings};
use plan::Step;
use serde::{Deserialize, Serialize};
use sys::error::with_causes;

use super::Seen;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::{RunDir, read_json, replace_json};

/// What is open for one receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Gates {
    /// The receiver's addresses on the bridge.
    pub(crate) addresses: Vec<IpAddr>,
    /// The bridge's rules, and whose hand writes them.
    pub(crate) firewall: Firewall,
    /// By source; several links to one source open the same.
    #[serde(default)]
    pub(crate) open: BTreeMap<String, Vec<LinkRule>>,
}

/// What has to be opened and closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Change {
    open: Vec<LinkRule>,
    close: Vec<LinkRule>,
}

impl Gates {
    /// A receiver with these addresses, for which nothing is open yet.
    pub(crate) fn new(addresses: Vec<IpAddr>, firewall: Firewall) -> Self {
        Self {
            addresses,
            firewall,
            open: BTreeMap::new(),
        }
    }

    /// Those of a receiver that runs; `None` where containers may talk or it does not run.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn read(run: &RunDir) -> Result<Option<Self>> {
        read_json(&run.gates_path())
    }

    /// The rules of a source.
    fn rules(&self, source: &Seen) -> Vec<LinkRule> {
        let mut all = Vec::new();
        for own in &self.addresses {
            let same = |address: &&IpAddr| address.is_ipv4() == own.is_ipv4();
            for address in source.addresses.iter().filter(same) {
                let link = LinkSource {
                    receiver: "",
                    alias: "",
                    address: *address,
                    ports: &source.ports,
                    environment: &[],
                };
                all.extend(link.rules(&self.firewall.rules.bridge, *own));
            }
        }
        all
    }

    /// Takes a source's present rules over; `None` is a source that does not run.
    fn change(&mut self, source: &ContainerId, seen: Option<&Seen>) -> Change {
        let wanted = seen.map(|seen| self.rules(seen)).unwrap_or_default();
        let before: Vec<LinkRule> = self.open.values().flatten().cloned().collect();
        match wanted.is_empty() {
            true => self.open.remove(source.as_str()),
            false => self.open.insert(source.as_str().to_owned(), wanted),
        };
        // Another source may have the same rule: it got the address of one that crashed.
        let mut change = Change::default();
        for rule in self.open.values().flatten() {
            if !before.contains(rule) && !change.open.contains(rule) {
                change.open.push(rule.clone());
            }
        }
        for rule in before {
            let stays = self.open.values().any(|rules| rules.contains(&rule));
            if !stays && !change.close.contains(&rule) {
                change.close.push(rule);
            }
        }
        change
    }

    /// Opens what several sources need, for the first time.
    ///
    /// # Errors
    /// When the file cannot be written or the firewall refuses; nothing stays open then.
    pub(crate) fn begin<'a>(
        mut self,
        run: &RunDir,
        sources: impl Iterator<Item = (&'a ContainerId, &'a Seen)>,
        host: &mut netns::Host,
    ) -> Result<()> {
        let mut open = Vec::new();
        for (source, seen) in sources {
            open.extend(self.change(source, Some(seen)).open);
        }
        replace_json(&run.gates_path(), &self)?;
        self.apply(open, host).inspect_err(|_| {
            // What cannot be taken back now is left to the recovery.
            let _ = Self::close(run, host);
        })
    }

    /// Makes what is open for a source agree with where it is now; `None` is nowhere.
    ///
    /// # Errors
    /// When the file cannot be written or the firewall refuses.
    pub(crate) fn set(
        mut self,
        run: &RunDir,
        (source, seen): (&ContainerId, Option<&Seen>),
        host: &mut netns::Host,
    ) -> Result<()> {
        let before = self.open.get(source.as_str()).cloned();
        let change = self.change(source, seen);
        if change == Change::default() {
            return replace_json(&run.gates_path(), &self);
        }
        let now = self.open.get(source.as_str()).cloned().unwrap_or_default();
        let both = before.into_iter().flatten().chain(now).collect();
        let mut journal = self.clone();
        journal.open.insert(source.as_str().to_owned(), both);
        replace_json(&run.gates_path(), &journal)?;
        let closed = self.undo(change.close, host);
        self.apply(change.open, host)?;
        closed?;
        replace_json(&run.gates_path(), &self)
    }

    /// Closes everything that is open for a receiver.
    ///
    /// # Errors
    /// When the firewall refuses or the file cannot be removed.
    pub(crate) fn close(run: &RunDir, host: &mut netns::Host) -> Result<()> {
        let Some(gates) = Self::read(run)? else {
            return Ok(());
        };
        gates.undo(gates.open.values().flatten().cloned().collect(), host)?;
        let path = run.gates_path();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// The step that opens these rules.
    pub(crate) fn step(&self, rules: Vec<LinkRule>) -> Option<NetStep> {
        let openings = rules.into_iter().map(Opening::Link).collect();
        let step = NetStep::Openings(Openings {
            network: self.firewall.clone(),
            openings,
        });
        match &step {
            NetStep::Openings(openings) if openings.openings.is_empty() => None,
            _ => Some(step),
        }
    }

    /// The steps that a receiver of these sources begins with, for who only wants to see them.
    pub(crate) fn steps<'a>(
        mut self,
        sources: impl Iterator<Item = (&'a ContainerId, &'a Seen)>,
    ) -> Option<NetStep> {
        let mut open = Vec::new();
        for (source, seen) in sources {
            open.extend(self.change(source, Some(seen)).open);
        }
        self.step(open)
    }

    fn apply(&self, rules: Vec<LinkRule>, host: &mut netns::Host) -> Result<()> {
        match self.step(rules) {
            Some(step) => step.apply(host).map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }

    fn undo(&self, rules: Vec<LinkRule>, host: &mut netns::Host) -> Result<()> {
        match self.step(rules) {
            Some(step) => step.undo(host).map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }
}

fn failed(error: &netns::NetError) -> Error {
    Error::conflict(format!(
        "cannot change what links open: {}",
        with_causes(error)
    ))
}

#[cfg(test)]
mod tests {
    use netns::firewall::NetworkRules;
    use netns::port::Port;

    use super::*;

    fn gates() -> Gates {
        let mark = "rbox firewall=nft table=rbox address=172.17.0.1/16,fd00::1/64 icc=off \
                    masquerade=on internal=off";
        let firewall = Firewall {
            rules: NetworkRules {
                bridge: "rbox0".to_owned(),
                subnets: Vec::new(),
                icc: false,
                masquerade: true,
                internal: false,
            },
            mark: mark.parse().unwrap(),
        };
        let own = ["172.17.0.9", "fd00::9"].map(|text| text.parse().unwrap());
        Gates::new(own.to_vec(), firewall)
    }

    fn seen(addresses: &[&str], ports: &[u16]) -> Seen {
        Seen {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            ports: ports.iter().map(|port| Port::tcp(*port)).collect(),
            ..Seen::default()
        }
    }

    fn shown(rules: &[LinkRule]) -> Vec<String> {
        rules
            .iter()
            .map(|rule| format!("{} to {}:{}", rule.receiver, rule.source, rule.port))
            .collect()
    }

    #[test]
    fn a_source_that_moves_moves_its_gates() {
        let mut gates = gates();
        let [db, web] = [(); 2].map(|()| ContainerId::random().unwrap());
        let change = gates.change(&db, Some(&seen(&["172.17.0.2", "fd00::2"], &[80, 81])));
        assert_eq!(
            shown(&change.open),
            [
                "172.17.0.9 to 172.17.0.2:80",
                "172.17.0.9 to 172.17.0.2:81",
                "fd00::9 to fd00::2:80",
                "fd00::9 to fd00::2:81"
            ]
        );
        gates.change(&web, Some(&seen(&["172.17.0.3"], &[80])));
        let change = gates.change(&db, Some(&seen(&["172.17.0.4"], &[80, 81])));
        assert_eq!(change.open.len(), 2);
        assert_eq!(change.close.len(), 4);
        assert_eq!(
            gates.change(&db, Some(&seen(&["172.17.0.4"], &[80, 81]))),
            Change::default()
        );
        let change = gates.change(&db, None);
        assert_eq!(
            shown(&change.close),
            ["172.17.0.9 to 172.17.0.4:80", "172.17.0.9 to 172.17.0.4:81"]
        );
        assert_eq!(gates.open.len(), 1, "the other's stay");
    }

    #[test]
    fn what_two_sources_open_stays_while_one_of_them_does() {
        let mut gates = gates();
        let [crashed, next] = [(); 2].map(|()| ContainerId::random().unwrap());
        let place = seen(&["172.17.0.2"], &[80]);
        gates.change(&crashed, Some(&place));
        assert_eq!(gates.change(&next, Some(&place)), Change::default());
        assert_eq!(gates.change(&crashed, None), Change::default());
        assert_eq!(gates.change(&next, None).close.len(), 1);
    }
}

//! Who is called what on the networks of one container (pure).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::message::{Data, KIND_A, KIND_AAAA, KIND_PTR, Question, reverse_address};

/// How long an answer may be kept, as Docker has it.
pub const TTL: u32 = 600;

/// One container on one network, as the others on it see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The network's name.
    pub network: String,
    /// The container's name; its addresses lead back to this one.
    pub name: String,
    /// What else it is called: short id, host name, aliases.
    pub aliases: Vec<String>,
    /// Its addresses there.
    pub addresses: Vec<IpAddr>,
}

/// All names that one container can look up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zone {
    names: BTreeMap<String, Vec<IpAddr>>,
    reverse: BTreeMap<IpAddr, String>,
}

/// What the zone knows of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// These records; none where the name is known but has nothing of the kind.
    Known(Vec<Data>),
    /// Others have to be asked.
    Unknown,
}

impl Zone {
    /// The zone of a container on these members' networks. Links of its own are names only it
    /// knows: what it calls another, and that one's addresses; they go before all others.
    pub fn new(members: &[Member], links: &[(String, Vec<IpAddr>)]) -> Self {
        let mut zone = Self::default();
        for member in members {
            for name in std::iter::once(&member.name).chain(&member.aliases) {
                zone.add(name, &member.addresses);
                zone.add(&format!("{name}.{}", member.network), &member.addresses);
            }
            for address in &member.addresses {
                let full = format!("{}.{}", member.name, member.network);
                zone.reverse.insert(*address, full);
            }
        }
        for (alias, addresses) in links {
            zone.names
                .insert(alias.to_ascii_lowercase(), addresses.clone());
        }
        zone
    }

    fn add(&mut self, name: &str, addresses: &[IpAddr]) {
        let known = self.names.entry(name.to_ascii_lowercase()).or_default();
        for address in addresses {
            if !known.contains(address) {
                known.push(*address);
            }
        }
    }

    /// Answers a question. `turn` is a number that goes up with every question: a name that several
    /// containers share leads to another one first each time.
    pub fn look_up(&self, question: &Question, turn: usize) -> Lookup {
        if question.kind == KIND_PTR {
            let name = reverse_address(&question.name).and_then(|ip| self.reverse.get(&ip));
            return match name {
                Some(name) => Lookup::Known(vec![Data::Ptr(name.clone())]),
                None => Lookup::Unknown,
            };
        }
        let Some(addresses) = self.names.get(&question.name) else {
            return Lookup::Unknown;
        };
        let mut records: Vec<Data> = addresses
            .iter()
            .filter_map(|address| match (question.kind, address) {
                (KIND_A, IpAddr::V4(address)) => Some(Data::A(*address)),
                (KIND_AAAA, IpAddr::V6(address)) => Some(Data::Aaaa(*address)),
                _ => None,
            })
            .collect();
        if !records.is_empty() {
            let middle = turn % records.len();
            records.rotate_left(middle);
        }
        Lookup::Known(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(zone: &Zone, name: &str, kind: u16, turn: usize) -> Option<Vec<String>> {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        match zone.look_up(&Question::parse(&message).unwrap(), turn) {
            Lookup::Unknown => None,
            Lookup::Known(records) => Some(
                records
                    .iter()
                    .map(|record| match record {
                        Data::A(ip) => ip.to_string(),
                        Data::Aaaa(ip) => ip.to_string(),
                        Data::Ptr(name) => name.clone(),
                    })
                    .collect(),
            ),
        }
    }

    fn member(name: &str, alias: &str, addresses: &[&str]) -> Member {
        Member {
            network: "net1".to_owned(),
            name: name.to_owned(),
            aliases: vec![alias.to_owned()],
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn strings(list: &[&str]) -> Option<Vec<String>> {
        Some(list.iter().map(|text| (*text).to_owned()).collect())
    }

    #[test]
    fn names_aliases_networks_and_the_way_back() {
        let zone = Zone::new(
            &[
                member("web1", "Web", &["10.0.0.2", "fd00::2"]),
                member("web2", "web", &["10.0.0.3"]),
            ],
            &[("db".to_owned(), vec!["10.0.0.3".parse().unwrap()])],
        );
        assert_eq!(ask(&zone, "web1", KIND_A, 0), strings(&["10.0.0.2"]));
        assert_eq!(ask(&zone, "WEB1.net1", KIND_A, 0), strings(&["10.0.0.2"]));
        assert_eq!(ask(&zone, "web1", KIND_AAAA, 0), strings(&["fd00::2"]));
        // Known, but nothing of the kind: an empty answer, not a refusal.
        assert_eq!(ask(&zone, "web2", KIND_AAAA, 0), strings(&[]));
        assert_eq!(ask(&zone, "db", KIND_A, 0), strings(&["10.0.0.3"]));
        assert_eq!(ask(&zone, "db.net1", KIND_A, 0), None);
        assert_eq!(ask(&zone, "example.org", KIND_A, 0), None);
        assert_eq!(
            ask(&zone, "2.0.0.10.in-addr.arpa", KIND_PTR, 0),
            strings(&["web1.net1"])
        );
        assert_eq!(ask(&zone, "9.0.0.10.in-addr.arpa", KIND_PTR, 0), None);
    }

    #[test]
    fn a_shared_name_goes_round() {
        let zone = Zone::new(
            &[
                member("a", "web", &["10.0.0.2"]),
                member("b", "web", &["10.0.0.3"]),
            ],
            &[],
        );
        assert_eq!(
            ask(&zone, "web", KIND_A, 0),
            strings(&["10.0.0.2", "10.0.0.3"])
        );
        assert_eq!(
            ask(&zone, "web", KIND_A, 1),
            strings(&["10.0.0.3", "10.0.0.2"])
        );
        assert_eq!(
            ask(&zone, "web", KIND_A, 2),
            strings(&["10.0.0.2", "10.0.0.3"])
        );
    }
}

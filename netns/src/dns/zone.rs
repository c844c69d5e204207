//! Which question a container gets which answer to, from what its networks know (pure).

use std::net::IpAddr;

use super::message::{Data, KIND_A, KIND_AAAA, KIND_PTR, Question, reverse_address};

/// How long an answer may be kept, as Docker has it.
pub const TTL: u32 = 600;
/// No answer has the addresses of more containers: the rest get their turn.
const MOST: usize = 1000;

/// Who is called what on the networks of one engine.
pub trait Directory: std::fmt::Debug {
    /// The addresses of containers that are called so on a network; none where nobody is. The name
    /// is in lower case.
    fn named(&self, network: &str, name: &str, pick: Pick) -> Vec<IpAddr>;
    /// The name of the container that has an address on a network.
    fn name_of(&self, network: &str, address: IpAddr) -> Option<String>;
}

/// Which of many containers that share a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pick {
    /// Goes up with every question: it begins with another one each time.
    pub turn: usize,
    /// No more than so many, so that a look-up takes no longer than its answer is long.
    pub most: usize,
}

/// One network of the container that asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Membership {
    /// The network's id.
    pub id: String,
    /// The network's name, behind the container's in full names.
    pub name: String,
    /// Links: what the container calls others here, and how they are called by all; of several for
    /// one alias the first that is known. They go before all other names, and nobody else knows
    /// them.
    pub links: Vec<(String, String)>,
}

/// What is known about a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// These records; none where the name is known but has nothing of the kind.
    Known(Vec<Data>),
    /// Others have to be asked.
    Unknown,
}

/// Answers a question. `turn` is a number that goes up with every question: a name that several
/// containers share leads to another one first each time. Of a `limited` answer, which goes in one
/// datagram, no more is looked up than shows that there is more.
pub fn look_up(
    question: &Question,
    networks: &[Membership],
    directory: &dyn Directory,
    (turn, limited): (usize, bool),
) -> Lookup {
    if !question.internet {
        return Lookup::Unknown;
    }
    if question.kind == KIND_PTR {
        return match reverse(&question.name, networks, directory) {
            Some(name) => Lookup::Known(vec![Data::Ptr(name)]),
            None => Lookup::Unknown,
        };
    }
    let most = if limited { question.fits() + 1 } else { MOST };
    let pick = Pick { turn, most };
    let addresses = find(&question.name, networks, directory, pick);
    if addresses.is_empty() {
        return Lookup::Unknown;
    }
    let records = addresses
        .iter()
        .filter_map(|address| match (question.kind, address) {
            (KIND_A, IpAddr::V4(address)) => Some(Data::A(*address)),
            (KIND_AAAA, IpAddr::V6(address)) => Some(Data::Aaaa(*address)),
            _ => None,
        })
        .collect();
    Lookup::Known(records)
}

fn reverse(name: &str, networks: &[Membership], directory: &dyn Directory) -> Option<String> {
    let address = reverse_address(name)?;
    networks.iter().find_map(|network| {
        let container = directory.name_of(&network.id, address)?;
        Some(format!("{container}.{}", network.name))
    })
}

/// The addresses of the first network that knows the name: links first, then what all know; at
/// each the whole name, then all that ends in a network's name. Both may have dots in them.
fn find(name: &str, networks: &[Membership], directory: &dyn Directory, pick: Pick) -> Vec<IpAddr> {
    let linked = spellings(name, networks).find_map(|(network, name)| {
        let is_alias = |link: &&(String, String)| link.0.eq_ignore_ascii_case(name);
        let mut sources = network.links.iter().filter(is_alias);
        sources.find_map(|(_, source)| {
            some(directory.named(&network.id, &source.to_ascii_lowercase(), pick))
        })
    });
    linked
        .or_else(|| {
            spellings(name, networks)
                .find_map(|(network, name)| some(directory.named(&network.id, name, pick)))
        })
        .unwrap_or_default()
}

fn some(addresses: Vec<IpAddr>) -> Option<Vec<IpAddr>> {
    (!addresses.is_empty()).then_some(addresses)
}

/// What a name can mean: the name on each network, and what stands before a network's name there.
fn spellings<'a>(
    name: &'a str,
    networks: &'a [Membership],
) -> impl Iterator<Item = (&'a Membership, &'a str)> {
    let whole = networks.iter().map(move |network| (network, name));
    let before = networks.iter().filter_map(move |network| {
        let (split, rest) = name
            .len()
            .checked_sub(network.name.len())
            .and_then(|at| name.split_at_checked(at))?;
        let container = split.strip_suffix('.').filter(|text| !text.is_empty())?;
        rest.eq_ignore_ascii_case(&network.name)
            .then_some((network, container))
    });
    whole.chain(before)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Network, name, addresses; the first entry of an address is its container.
    #[derive(Debug, Default)]
    struct Table(BTreeMap<(String, String), Vec<IpAddr>>);

    impl Directory for Table {
        fn named(&self, network: &str, name: &str, pick: Pick) -> Vec<IpAddr> {
            let key = (network.to_owned(), name.to_owned());
            let mut list = self.0.get(&key).cloned().unwrap_or_default();
            let middle = pick.turn % list.len().max(1);
            list.rotate_left(middle);
            list.truncate(pick.most);
            list
        }

        fn name_of(&self, network: &str, address: IpAddr) -> Option<String> {
            self.0
                .iter()
                .find(|((id, _), list)| id == network && list.contains(&address))
                .map(|((_, name), _)| name.clone())
        }
    }

    fn table(entries: &[(&str, &str, &[&str])]) -> Table {
        let entries = entries.iter().map(|(network, name, addresses)| {
            let list = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
            (((*network).to_owned(), (*name).to_owned()), list)
        });
        Table(entries.collect())
    }

    fn network(id: &str, name: &str, links: &[(&str, &str)]) -> Membership {
        Membership {
            id: id.to_owned(),
            name: name.to_owned(),
            links: links
                .iter()
                .map(|(alias, source)| ((*alias).to_owned(), (*source).to_owned()))
                .collect(),
        }
    }

    fn asked(name: &str, kind: u16) -> Question {
        let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            message.push(label.len() as u8);
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
        Question::parse(&message).unwrap()
    }

    /// The answer as text; `-` where others have to be asked.
    fn ask(networks: &[Membership], table: &Table, name: &str, kind: u16, turn: usize) -> String {
        match look_up(&asked(name, kind), networks, table, (turn, true)) {
            Lookup::Unknown => "-".to_owned(),
            Lookup::Known(records) => records
                .iter()
                .map(|record| match record {
                    Data::A(ip) => ip.to_string(),
                    Data::Aaaa(ip) => ip.to_string(),
                    Data::Ptr(name) => name.clone(),
                })
                .collect::<Vec<_>>()
                .join(" "),
        }
    }

    #[test]
    fn names_full_names_links_and_the_way_back() {
        let table = table(&[
            ("1", "web1", &["10.0.0.2", "fd00::2"]),
            ("1", "web", &["10.0.0.2", "10.0.0.3"]),
            ("1", "a.b", &["10.0.0.4"]),
            ("2", "db", &["10.1.0.2"]),
            ("3", "secret", &["10.2.0.2"]),
        ]);
        let networks = [
            network(
                "1",
                "Net.one",
                &[("DB", "stopped"), ("DB", "Web1"), ("gone", "stopped")],
            ),
            network("2", "two", &[]),
        ];
        for (name, kind, want) in [
            ("web1", KIND_A, "10.0.0.2"),
            ("WEB1.NET.ONE", KIND_A, "10.0.0.2"),
            ("web1", KIND_AAAA, "fd00::2"),
            // Known, but nothing of the kind: an empty answer, not a refusal.
            ("a.b", KIND_AAAA, ""),
            ("a.b", 15, ""),
            ("a.b.net.one", KIND_A, "10.0.0.4"),
            ("web1.two", KIND_A, "-"),
            ("net.one", KIND_A, "-"),
            // The link goes before the container of that name on another network.
            ("db", KIND_A, "10.0.0.2"),
            ("db.net.one", KIND_A, "10.0.0.2"),
            ("db.two", KIND_A, "10.1.0.2"),
            ("gone", KIND_A, "-"),
            ("secret", KIND_A, "-"),
            ("example.org", KIND_A, "-"),
            ("4.0.0.10.in-addr.arpa", KIND_PTR, "a.b.Net.one"),
            ("2.0.1.10.in-addr.arpa", KIND_PTR, "db.two"),
            ("9.0.0.10.in-addr.arpa", KIND_PTR, "-"),
            ("2.0.2.10.in-addr.arpa", KIND_PTR, "-"),
        ] {
            assert_eq!(ask(&networks, &table, name, kind, 0), want, "{name} {kind}");
        }
    }

    #[test]
    fn a_shared_name_goes_round() {
        let table = table(&[("1", "web", &["10.0.0.2", "10.0.0.3"])]);
        let networks = [network("1", "one", &[])];
        for (turn, want) in [
            (0, "10.0.0.2 10.0.0.3"),
            (1, "10.0.0.3 10.0.0.2"),
            (2, "10.0.0.2 10.0.0.3"),
        ] {
            assert_eq!(ask(&networks, &table, "web", KIND_A, turn), want);
        }
    }
}

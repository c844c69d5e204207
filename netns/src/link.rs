//! Docker's classic links as values: their syntax, their environment, the ports they open (pure).

use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::firewall::LinkRule;
use crate::port::Port;

/// One `--link` as typed: a container and what the receiver calls it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LinkArgument {
    /// Name, id or the beginning of an id.
    pub target: String,
    /// The alias; the target as typed where none was given.
    pub alias: String,
}

/// What is wrong with a `--link`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Nothing.
    #[error("empty string specified for links")]
    Empty,
    /// More than two parts.
    #[error("bad format for links: {0}")]
    Format(String),
}

impl FromStr for LinkArgument {
    type Err = LinkError;

    /// Reads `name`, `name:alias`, and inspect's `/name:/receiver/alias`.
    fn from_str(text: &str) -> Result<Self, LinkError> {
        if text.is_empty() {
            return Err(LinkError::Empty);
        }
        let (target, alias) = text.split_once(':').unwrap_or((text, text));
        if alias.contains(':') {
            return Err(LinkError::Format(text.to_owned()));
        }
        let alias = alias.rsplit('/').next().unwrap_or_default();
        Ok(Self {
            target: target.strip_prefix('/').unwrap_or(target).to_owned(),
            alias: alias.to_owned(),
        })
    }
}

/// What a receiver learns of a source.
#[derive(Debug, Clone, Copy)]
pub struct LinkSource<'a> {
    /// The receiver's name, without a slash.
    pub receiver: &'a str,
    /// What the receiver calls the source.
    pub alias: &'a str,
    /// The source's address.
    pub address: IpAddr,
    /// The source's exposed ports, in any order.
    pub ports: &'a [Port],
    /// The source's environment: `KEY=value`.
    pub environment: &'a [String],
}

/// The variables of a list: a name that comes again keeps its first place and takes the new value.
#[derive(Debug, Default)]
struct Variables(Vec<(String, String)>);

impl Variables {
    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

impl LinkSource<'_> {
    /// The variables of the receiver, in Docker's order, as `KEY=value`.
    pub fn variables(&self) -> Vec<String> {
        let mut ports = self.ports.to_vec();
        ports.sort();
        ports.dedup();
        let prefix = self.alias.to_uppercase().replace('-', "_");
        let mut list = Variables::default();
        if let Some(first) = ports.first() {
            list.set(format!("{prefix}_PORT"), self.url(*first));
        }
        for (first, last) in runs(&ports) {
            self.range(&prefix, first, last, &mut list);
        }
        for port in &ports {
            self.single(&prefix, *port, &mut list);
        }
        list.set(
            format!("{prefix}_NAME"),
            format!("/{}/{}", self.receiver, self.alias),
        );
        for variable in self.environment {
            if let Some((name, value)) = variable.split_once('=')
                && !matches!(name, "HOME" | "PATH")
            {
                list.set(format!("{prefix}_ENV_{name}"), value.to_owned());
            }
        }
        list.0
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }

    /// What the link opens on a bridge whose containers may not talk.
    pub fn rules(&self, bridge: &str, receiver: IpAddr) -> Vec<LinkRule> {
        self.ports
            .iter()
            .map(|port| LinkRule {
                bridge: bridge.to_owned(),
                receiver,
                source: self.address,
                protocol: port.protocol,
                port: port.number,
            })
            .collect()
    }

    fn url(&self, port: Port) -> String {
        match self.address {
            IpAddr::V4(ip) => format!("{}://{ip}:{}", port.protocol, port.number),
            IpAddr::V6(ip) => format!("{}://[{ip}]:{}", port.protocol, port.number),
        }
    }

    fn range(&self, prefix: &str, first: Port, last: Port, list: &mut Variables) {
        let name = |port: Port, rest: &str| {
            let protocol = port.protocol.as_str().to_uppercase();
            format!("{prefix}_PORT_{}_{protocol}_{rest}", first.number)
        };
        list.set(name(first, "START"), self.url(first));
        list.set(name(first, "ADDR"), self.address.to_string());
        list.set(name(first, "PROTO"), first.protocol.to_string());
        list.set(name(first, "PORT_START"), first.number.to_string());
        list.set(name(last, "END"), self.url(last));
        list.set(name(last, "PORT_END"), last.number.to_string());
    }

    fn single(&self, prefix: &str, port: Port, list: &mut Variables) {
        let protocol = port.protocol.as_str().to_uppercase();
        let name = format!("{prefix}_PORT_{}_{protocol}", port.number);
        list.set(name.clone(), self.url(port));
        list.set(format!("{name}_ADDR"), self.address.to_string());
        list.set(format!("{name}_PORT"), port.number.to_string());
        list.set(format!("{name}_PROTO"), port.protocol.to_string());
    }
}

/// Runs of at least three ports whose numbers follow one another, whatever their protocols.
fn runs(ports: &[Port]) -> Vec<(Port, Port)> {
    let mut found = Vec::new();
    let mut rest = ports;
    while let Some(first) = rest.first() {
        let length = (1u32..)
            .zip(&rest[1..])
            .take_while(|(offset, port)| u32::from(port.number) <= u32::from(first.number) + offset)
            .count();
        if length >= 2 {
            found.push((*first, rest[length]));
            rest = &rest[length + 1..];
        } else {
            rest = &rest[1..];
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::parse_expose;

    fn ports(specs: &[&str]) -> Vec<Port> {
        specs
            .iter()
            .flat_map(|spec| parse_expose(spec).unwrap())
            .collect()
    }

    fn variables(alias: &str, specs: &[&str], environment: &[&str]) -> Vec<String> {
        let environment: Vec<String> = environment.iter().map(|v| (*v).to_owned()).collect();
        LinkSource {
            receiver: "rcv",
            alias,
            address: "172.17.0.2".parse().unwrap(),
            ports: &ports(specs),
            environment: &environment,
        }
        .variables()
    }

    #[test]
    fn the_variables_are_dockers_in_dockers_order() {
        let found = variables(
            "my-db",
            &["80", "53/udp", "8000-8003"],
            &[
                "FOO=bar",
                "HOME=/x",
                "PATH=/bin",
                "BARE",
                "MULTI=a b=c",
                "E=",
            ],
        );
        let want = "\
MY_DB_PORT=udp://172.17.0.2:53
MY_DB_PORT_8000_TCP_START=tcp://172.17.0.2:8000
MY_DB_PORT_8000_TCP_ADDR=172.17.0.2
MY_DB_PORT_8000_TCP_PROTO=tcp
MY_DB_PORT_8000_TCP_PORT_START=8000
MY_DB_PORT_8000_TCP_END=tcp://172.17.0.2:8003
MY_DB_PORT_8000_TCP_PORT_END=8003
MY_DB_PORT_53_UDP=udp://172.17.0.2:53
MY_DB_PORT_53_UDP_ADDR=172.17.0.2
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_PORT_80_TCP=tcp://172.17.0.2:80
MY_DB_PORT_80_TCP_ADDR=172.17.0.2
MY_DB_PORT_80_TCP_PORT=80
MY_DB_PORT_80_TCP_PROTO=tcp
MY_DB_PORT_8000_TCP=tcp://172.17.0.2:8000
MY_DB_PORT_8000_TCP_PORT=8000";
        let want: Vec<&str> = want.lines().collect();
        assert_eq!(found[..want.len()], want);
        assert_eq!(
            found[found.len() - 4..],
            [
                "MY_DB_NAME=/rcv/my-db",
                "MY_DB_ENV_FOO=bar",
                "MY_DB_ENV_MULTI=a b=c",
                "MY_DB_ENV_E=",
            ]
        );
        assert_eq!(found.len(), 17 + 3 * 4 + 4, "{found:#?}");
    }

    #[test]
    fn two_ports_are_no_range_and_the_alias_keeps_its_dots() {
        let found = variables("my-db.v1", &["80-81"], &[]);
        assert!(!found.iter().any(|v| v.contains("START")), "{found:?}");
        assert_eq!(found[0], "MY_DB.V1_PORT=tcp://172.17.0.2:80");
        assert_eq!(variables("x", &[], &[]), ["X_NAME=/rcv/x"]);
        let mixed = variables("x", &["1", "2/udp", "3/sctp"], &[]);
        assert!(mixed.contains(&"X_PORT_1_SCTP_END=sctp://172.17.0.2:3".to_owned()));
    }

    #[test]
    fn reads_links_as_typed_and_as_inspected() {
        let shown = |text: &str| match text.parse::<LinkArgument>() {
            Ok(link) => format!("{} as {}", link.target, link.alias),
            Err(error) => error.to_string(),
        };
        for (text, want) in [
            ("name", "name as name"),
            ("/name", "name as name"),
            ("name:alias", "name as alias"),
            ("/src:/rcv/zz", "src as zz"),
            ("src:/rcv/zz", "src as zz"),
            (":a", " as a"),
            ("", "empty string specified for links"),
            ("a:b:c", "bad format for links: a:b:c"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }
}

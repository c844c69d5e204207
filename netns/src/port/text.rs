//! Published ports as `docker port` and `docker ps` print them (pure).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{HostPort, Port, PortMap, Protocol};

/// All lines of `docker port CONTAINER`: `80/tcp -> 0.0.0.0:8080`, sorted by port, then address.
pub fn port_lines(ports: &PortMap) -> Vec<String> {
    let mut lines = Vec::new();
    for (port, hosts) in ports {
        for host in sorted(hosts.as_deref()) {
            lines.push(format!("{port} -> {host}"));
        }
    }
    lines
}

/// `docker port CONTAINER PORT` where that port is not published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("No public port '{port}' published for {container}")]
pub struct NoPublicPort {
    /// The port as typed.
    pub port: String,
    /// The container as typed.
    pub container: String,
}

/// The lines of `docker port CONTAINER PORT`: `0.0.0.0:8080`. The port's protocol is optional.
///
/// # Errors
/// [`NoPublicPort`], also where the text is no port at all.
pub fn port_lines_of(
    ports: &PortMap,
    container: &str,
    port: &str,
) -> Result<Vec<String>, NoPublicPort> {
    let hosts = match port.parse::<Port>() {
        Ok(port) => ports.get(&port).and_then(Option::as_deref),
        Err(_) => None,
    };
    let lines: Vec<String> = sorted(hosts).iter().map(ToString::to_string).collect();
    if lines.is_empty() {
        return Err(NoPublicPort {
            port: port.to_owned(),
            container: container.to_owned(),
        });
    }
    Ok(lines)
}

fn sorted(hosts: Option<&[HostPort]>) -> Vec<HostPort> {
    let mut hosts = hosts.unwrap_or_default().to_vec();
    hosts.sort();
    hosts
}

/// One line of the API's `Ports`: a port of the container and, if published, the host's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PsPort {
    /// The container's port.
    pub port: Port,
    /// The host's end; `None` is exposed only.
    pub host: Option<HostPort>,
}

impl PsPort {
    /// All of a container, in no particular order.
    pub fn all(ports: &PortMap) -> Vec<Self> {
        let mut all = Vec::new();
        for (&port, hosts) in ports {
            match hosts.as_deref() {
                None | Some([]) => all.push(Self { port, host: None }),
                Some(hosts) => all.extend(hosts.iter().map(|&host| Self {
                    port,
                    host: Some(host),
                })),
            }
        }
        all
    }

    fn ip(&self) -> String {
        self.host
            .map(|host| host.ip.to_string())
            .unwrap_or_default()
    }
}

/// A run of equal ports that `ps` prints as one: `0.0.0.0:8000-8003->8000-8003/tcp`.
#[derive(Debug, Clone, Copy)]
struct Group {
    first: u16,
    last: u16,
}

/// What runs are grouped by: the protocol and, if published, the address.
type Key = (Option<IpAddr>, Protocol);

/// The PORTS column of `docker ps`.
pub fn ps_text(ports: &PortMap) -> String {
    let mut all = PsPort::all(ports);
    all.sort_by_key(|entry| {
        (
            entry.port.number,
            entry.ip(),
            entry.host.map_or(0, |host| host.port),
            entry.port.protocol.as_str(),
        )
    });
    let mut groups: BTreeMap<Key, Group> = BTreeMap::new();
    let mut order: Vec<Key> = Vec::new();
    let mut printed: Vec<String> = Vec::new();
    let mut mapped: Vec<String> = Vec::new();
    for entry in all {
        let number = entry.port.number;
        if let Some(host) = entry.host
            && host.port != number
        {
            mapped.push(format!("{host}->{}", entry.port));
            continue;
        }
        let key = (entry.host.map(|host| host.ip), entry.port.protocol);
        let single = Group {
            first: number,
            last: number,
        };
        match groups.get_mut(&key) {
            None => {
                groups.insert(key, single);
                order.push(key);
            }
            Some(group) if u32::from(number) == u32::from(group.last) + 1 => group.last = number,
            Some(group) => {
                printed.push(group_text(key, *group));
                *group = single;
            }
        }
    }
    printed.extend(order.iter().map(|key| group_text(*key, groups[key])));
    printed.extend(mapped);
    printed.join(", ")
}

fn group_text((ip, protocol): Key, group: Group) -> String {
    let range = if group.first == group.last {
        group.first.to_string()
    } else {
        format!("{}-{}", group.first, group.last)
    };
    match ip {
        None => format!("{range}/{protocol}"),
        Some(IpAddr::V4(ip)) => format!("{ip}:{range}->{range}/{protocol}"),
        Some(IpAddr::V6(ip)) => format!("[{ip}]:{range}->{range}/{protocol}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{ANY_V4, ANY_V6};

    fn both(port: u16) -> Option<Vec<HostPort>> {
        Some(vec![
            HostPort { ip: ANY_V6, port },
            HostPort { ip: ANY_V4, port },
        ])
    }

    fn map(entries: &[(&str, Option<Vec<HostPort>>)]) -> PortMap {
        entries
            .iter()
            .map(|(port, hosts)| (port.parse().unwrap(), hosts.clone()))
            .collect()
    }

    #[test]
    fn prints_ports_as_ps_does() {
        for (ports, want) in [
            (map(&[]), ""),
            (
                map(&[
                    ("53/udp", None),
                    ("80", None),
                    ("443", None),
                    ("7777", both(32768)),
                    ("8000", None),
                    ("8001", None),
                    ("8002", None),
                    ("8003", None),
                    ("9000/sctp", None),
                ]),
                "80/tcp, 443/tcp, 53/udp, 8000-8003/tcp, 9000/sctp, \
                 0.0.0.0:32768->7777/tcp, [::]:32768->7777/tcp",
            ),
            (
                map(&[
                    ("1", None),
                    ("2", None),
                    ("3", None),
                    ("4", None),
                    ("5/udp", None),
                    ("6/udp", None),
                    ("8000", both(8000)),
                    ("8001", both(8001)),
                    ("8002", both(8002)),
                    ("8003", both(8003)),
                ]),
                "1-4/tcp, 5-6/udp, 0.0.0.0:8000-8003->8000-8003/tcp, \
                 [::]:8000-8003->8000-8003/tcp",
            ),
            (
                map(&[("9000", both(8000)), ("9001", both(8001))]),
                "0.0.0.0:8000->9000/tcp, [::]:8000->9000/tcp, \
                 0.0.0.0:8001->9001/tcp, [::]:8001->9001/tcp",
            ),
        ] {
            assert_eq!(ps_text(&ports), want);
        }
    }

    #[test]
    fn prints_ports_as_docker_port_does() {
        let ports = map(&[("443", None), ("80", both(8080)), ("80/udp", both(8081))]);
        assert_eq!(
            port_lines(&ports),
            [
                "80/tcp -> 0.0.0.0:8080",
                "80/tcp -> [::]:8080",
                "80/udp -> 0.0.0.0:8081",
                "80/udp -> [::]:8081",
            ]
        );
        assert_eq!(
            port_lines_of(&ports, "c", "80").unwrap(),
            ["0.0.0.0:8080", "[::]:8080"]
        );
        for port in ["81", "443/tcp", "80/sctp", "nonsense"] {
            assert_eq!(
                port_lines_of(&ports, "c", port).unwrap_err().to_string(),
                format!("No public port '{port}' published for c")
            );
        }
    }

    #[test]
    fn has_the_json_of_inspect() {
        let ports = map(&[("443", None), ("80", both(8080))]);
        let json = serde_json::to_string(&ports).unwrap();
        assert_eq!(
            json,
            r#"{"80/tcp":[{"HostIp":"::","HostPort":"8080"},{"HostIp":"0.0.0.0","HostPort":"8080"}],"443/tcp":null}"#
        );
        assert_eq!(serde_json::from_str::<PortMap>(&json).unwrap(), ports);
    }
}

//! What networks and openings put into the sets (pure).

use std::net::IpAddr;

use ipnet::IpNet;
use sys::nftables::{Change, Element, Family, Table};

use super::sets::{
    BRIDGES, CLOSED, INTERNAL, LINKED, LINKED_BACK, MASQUERADED, OPEN, PUBLISHED, PUBLISHED_AT,
    TALKING, family, frame_sets, table,
};
use crate::firewall::{LinkRule, NetworkRules, Opening, PublishRule};
use crate::port::Protocol;

/// An element and where it belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) family: Family,
    pub(super) set: &'static str,
    pub(super) element: Element,
}

impl Placed {
    pub(super) fn table<'a>(&self, instance: &'a str) -> Table<'a> {
        table(instance, self.family)
    }

    pub(super) fn added<'a>(&'a self, instance: &'a str) -> Change<'a> {
        Change::AddElement(self.table(instance), self.set, &self.element)
    }

    pub(super) fn removed<'a>(&'a self, instance: &'a str) -> Change<'a> {
        Change::DeleteElement(self.table(instance), self.set, &self.element)
    }
}

pub(super) fn network_elements(network: &NetworkRules) -> Vec<Placed> {
    let mut all = Vec::new();
    let name = name_element(&network.bridge);
    let mut families: Vec<bool> = network
        .subnets
        .iter()
        .map(|subnet| subnet.addr().is_ipv4())
        .collect();
    families.dedup();
    for v4 in families {
        let mut place = |set, element: &Element| {
            all.push(Placed {
                family: family(v4),
                set,
                element: element.clone(),
            });
        };
        place(BRIDGES, &name);
        if network.icc {
            place(TALKING, &pair_element(&network.bridge));
        }
        if network.internal {
            place(INTERNAL, &name);
        }
    }
    if network.masquerade && !network.internal {
        all.extend(network.subnets.iter().map(|subnet| Placed {
            family: family(subnet.addr().is_ipv4()),
            set: MASQUERADED,
            element: range_element(subnet),
        }));
    }
    all
}

pub(super) fn opening_elements(openings: &[Opening]) -> Vec<Placed> {
    let mut all: Vec<Placed> = Vec::new();
    for opening in openings {
        let elements = match opening {
            Opening::Publish(publish) => publish_elements(publish).to_vec(),
            Opening::Link(link) => link_elements(link),
            Opening::Closed(port) => vec![Placed {
                family: Family::Bridge,
                set: CLOSED,
                element: name_element(port),
            }],
        };
        for placed in elements {
            // Two bindings of one container port open it once.
            if !all.contains(&placed) {
                all.push(placed);
            }
        }
    }
    all
}

fn publish_elements(publish: &PublishRule) -> [Placed; 2] {
    let mut key = Key::default();
    let map = match publish.host_ip {
        Some(address) => {
            key.address(address);
            PUBLISHED_AT
        }
        None => PUBLISHED,
    };
    key.protocol(publish.protocol);
    key.port(publish.host_port);
    let mut value = Key::default();
    value.address(publish.address);
    value.port(publish.port);
    let mut open = Key::default();
    open.address(publish.address);
    open.protocol(publish.protocol);
    open.port(publish.port);
    [(map, key.with(value)), (OPEN, open.element())].map(|(set, element)| Placed {
        family: family(publish.address.is_ipv4()),
        set,
        element,
    })
}

/// Frames between two ports of the bridge are let through; so are packets, since a host may send
/// frames through its packet filter too.
fn link_elements(link: &LinkRule) -> Vec<Placed> {
    let element = |from, to| {
        let mut key = Key::default();
        key.address(from);
        key.address(to);
        key.protocol(link.protocol);
        key.port(link.port);
        key.element()
    };
    let v4 = link.source.is_ipv4();
    let (there, back) = frame_sets(v4);
    [
        (family(v4), LINKED, element(link.receiver, link.source)),
        (family(v4), LINKED_BACK, element(link.source, link.receiver)),
        (Family::Bridge, there, element(link.receiver, link.source)),
        (Family::Bridge, back, element(link.source, link.receiver)),
    ]
    .map(|(family, set, element)| Placed {
        family,
        set,
        element,
    })
    .to_vec()
}

/// A key or value being put together, as bytes and as text.
#[derive(Debug, Default)]
struct Key {
    bytes: Vec<u8>,
    parts: Vec<String>,
}

impl Key {
    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.bytes.extend(address.octets()),
            IpAddr::V6(address) => self.bytes.extend(address.octets()),
        }
        self.parts.push(address.to_string());
    }

    fn protocol(&mut self, protocol: Protocol) {
        self.bytes.extend([protocol.number(), 0, 0, 0]);
        self.parts.push(protocol.to_string());
    }

    fn port(&mut self, port: u16) {
        self.bytes.extend(port.to_be_bytes());
        self.bytes.extend([0, 0]);
        self.parts.push(port.to_string());
    }

    fn name(&mut self, device: &str) {
        self.bytes.extend(name_bytes(device));
        self.parts.push(format!("\"{device}\""));
    }

    fn element(self) -> Element {
        Element {
            key: self.bytes,
            end: None,
            value: Vec::new(),
            text: self.parts.join(" . "),
        }
    }

    fn with(self, value: Key) -> Element {
        let text = format!("{} : {}", self.parts.join(" . "), value.parts.join(" . "));
        Element {
            value: value.bytes,
            text,
            ..self.element()
        }
    }
}

fn name_bytes(device: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    for (place, byte) in bytes.iter_mut().take(15).zip(device.bytes()) {
        *place = byte;
    }
    bytes
}

fn name_element(device: &str) -> Element {
    let mut key = Key::default();
    key.name(device);
    key.element()
}

fn pair_element(device: &str) -> Element {
    let mut key = Key::default();
    key.name(device);
    key.name(device);
    key.element()
}

/// A subnet as a range: its first address and the first after it.
fn range_element(subnet: &IpNet) -> Element {
    let mut key = Key::default();
    key.address(subnet.network());
    let end = match subnet.broadcast() {
        IpAddr::V4(last) => u32::from(last)
            .checked_add(1)
            .map(|next| next.to_be_bytes().to_vec()),
        IpAddr::V6(last) => u128::from(last)
            .checked_add(1)
            .map(|next| next.to_be_bytes().to_vec()),
    };
    Element {
        end,
        text: subnet.to_string(),
        ..key.element()
    }
}

#[cfg(test)]
mod tests {
    use sys::nftables::{DataType, Set};

    use super::*;
    use crate::firewall::nft::sets::{SETS_FRAMES, SETS_V4, SETS_V6};
    use crate::firewall::nft::{network_shell, shell};

    #[test]
    fn a_published_port_is_two_elements() {
        let mut publish = PublishRule {
            bridge: "rbox0".to_owned(),
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port: 8080,
            address: "172.17.0.2".parse().unwrap(),
            port: 80,
        };
        let mut second = publish.clone();
        second.host_port = 8081;
        let openings = [Opening::Publish(publish.clone()), Opening::Publish(second)];
        assert_eq!(
            shell("rbox", &openings),
            [
                "nft add element ip rbox published '{ tcp . 8080 : 172.17.0.2 . 80 }'",
                "nft add element ip rbox open '{ 172.17.0.2 . tcp . 80 }'",
                "nft add element ip rbox published '{ tcp . 8081 : 172.17.0.2 . 80 }'",
            ]
        );
        let [Placed { set, element, .. }, _] = publish_elements(&publish);
        assert_eq!(set, PUBLISHED);
        assert_eq!(element.key, [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.value, [172, 17, 0, 2, 0, 80, 0, 0]);
        publish.host_ip = "fd00::9".parse().ok();
        publish.address = "fd00::2".parse().unwrap();
        assert_eq!(
            shell("rbox", &[Opening::Publish(publish)])[0],
            "nft add element ip6 rbox published_at '{ fd00::9 . tcp . 8080 : fd00::2 . 80 }'"
        );
    }

    #[test]
    fn a_network_is_a_few_elements() {
        let network = NetworkRules {
            bridge: "rbox0".to_owned(),
            subnets: vec!["172.17.0.0/16".parse().unwrap()],
            icc: true,
            masquerade: true,
            internal: false,
        };
        assert_eq!(
            network_shell("rbox", &network),
            [
                "nft add element ip rbox bridges '{ \"rbox0\" }'",
                "nft add element ip rbox talking '{ \"rbox0\" . \"rbox0\" }'",
                "nft add element ip rbox masqueraded '{ 172.17.0.0/16 }'",
            ]
        );
        let range = range_element(&"172.17.0.0/16".parse().unwrap());
        assert_eq!(range.end.unwrap(), [172, 18, 0, 0]);
        assert_eq!(range_element(&"255.0.0.0/8".parse().unwrap()).end, None);
    }

    #[test]
    fn keys_fit_the_sets() {
        for (v4, sets) in [(true, &SETS_V4), (false, &SETS_V6)] {
            let ip =
                |v4: bool| -> IpAddr { if v4 { "10.0.0.2" } else { "fd00::2" }.parse().unwrap() };
            let openings = [
                Opening::Publish(PublishRule {
                    bridge: "b".to_owned(),
                    protocol: Protocol::Udp,
                    host_ip: Some(ip(v4)),
                    host_port: 1,
                    address: ip(v4),
                    port: 2,
                }),
                Opening::Link(LinkRule {
                    bridge: "b".to_owned(),
                    receiver: ip(v4),
                    source: ip(v4),
                    protocol: Protocol::Tcp,
                    port: 3,
                }),
            ];
            for placed in opening_elements(&openings) {
                let sets: &[Set<'_>] = match placed.family {
                    Family::Bridge => &SETS_FRAMES,
                    _ => sets,
                };
                let set = sets.iter().find(|set| set.name == placed.set).unwrap();
                let width = |types: &[DataType]| -> usize {
                    types
                        .iter()
                        .map(|kind| match kind {
                            DataType::Ipv6 | DataType::DeviceName => 16,
                            _ => 4,
                        })
                        .sum()
                };
                assert_eq!(placed.element.key.len(), width(set.key), "{}", placed.set);
                assert_eq!(placed.element.value.len(), width(set.value));
            }
        }
    }
}

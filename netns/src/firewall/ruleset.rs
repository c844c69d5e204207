//! Rules as values in iptables' terms, printed as `iptables -S` prints them (pure).
//!
//! What each network, published port and link needs is Docker's, rule for rule.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{LinkRule, NetworkRules, Opening, PublishRule};
use crate::port::Protocol;

/// A table of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Which packets pass.
    Filter,
    /// Which addresses they get.
    Nat,
}

impl Table {
    /// iptables' word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Table::Filter => "filter",
            Table::Nat => "nat",
        }
    }
}

/// One condition of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// Where it comes from, or not.
    Source(IpNet, bool),
    /// Where it goes, or not.
    Destination(IpNet, bool),
    /// The device it came in by, or not.
    Input(String, bool),
    /// The device it leaves by, or not.
    Output(String, bool),
    /// The protocol and the port it goes to.
    ToPort(Protocol, u16),
    /// The protocol and the port it comes from.
    FromPort(Protocol, u16),
    /// The destination is an address of the host.
    ToLocal,
    /// It answers something.
    Answer,
    /// It is ICMPv6 of this kind.
    Icmp6(u8),
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// It passes.
    Accept,
    /// It is thrown away.
    Drop,
    /// Back to the calling chain.
    Return,
    /// It gets the address of the device it leaves by.
    Masquerade,
    /// It goes to another address and port.
    Dnat(IpAddr, u16),
    /// On to a chain.
    Jump(&'static str),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its table.
    pub table: Table,
    /// Its chain.
    pub chain: &'static str,
    /// Its conditions, in iptables' order.
    pub matches: Vec<Match>,
    /// What happens if all hold.
    pub target: Target,
    /// It stands before those that the chain has already.
    pub first: bool,
}

/// Docker's chain of containers.
pub const DOCKER: &str = "DOCKER";
/// Docker's chain of the administrator.
pub const DOCKER_USER: &str = "DOCKER-USER";
/// Docker's first chain of isolation.
pub const STAGE_1: &str = "DOCKER-ISOLATION-STAGE-1";
/// Docker's second chain of isolation.
pub const STAGE_2: &str = "DOCKER-ISOLATION-STAGE-2";

/// The chains that must exist, by table.
pub const CHAINS: [(Table, &str); 5] = [
    (Table::Filter, DOCKER),
    (Table::Filter, STAGE_1),
    (Table::Filter, STAGE_2),
    (Table::Filter, DOCKER_USER),
    (Table::Nat, DOCKER),
];

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = |inverted: &bool| if *inverted { "! " } else { "" };
        match self {
            Match::Source(net, inverted) => write!(f, "{}-s {net}", not(inverted)),
            Match::Destination(net, inverted) => write!(f, "{}-d {net}", not(inverted)),
            Match::Input(device, inverted) => write!(f, "{}-i {device}", not(inverted)),
            Match::Output(device, inverted) => write!(f, "{}-o {device}", not(inverted)),
            Match::ToPort(protocol, port) => {
                write!(f, "-p {protocol} -m {protocol} --dport {port}")
            }
            Match::FromPort(protocol, port) => {
                write!(f, "-p {protocol} -m {protocol} --sport {port}")
            }
            Match::ToLocal => f.write_str("-m addrtype --dst-type LOCAL"),
            Match::Answer => f.write_str("-m conntrack --ctstate RELATED,ESTABLISHED"),
            Match::Icmp6(kind) => write!(f, "-p ipv6-icmp -m icmp6 --icmpv6-type {kind}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Accept => f.write_str("-j ACCEPT"),
            Target::Drop => f.write_str("-j DROP"),
            Target::Return => f.write_str("-j RETURN"),
            Target::Masquerade => f.write_str("-j MASQUERADE"),
            Target::Dnat(IpAddr::V4(address), port) => {
                write!(f, "-j DNAT --to-destination {address}:{port}")
            }
            Target::Dnat(IpAddr::V6(address), port) => {
                write!(f, "-j DNAT --to-destination [{address}]:{port}")
            }
            Target::Jump(chain) => write!(f, "-j {chain}"),
        }
    }
}

impl Rule {
    fn new(table: Table, chain: &'static str, matches: Vec<Match>, target: Target) -> Self {
        Self {
            table,
            chain,
            matches,
            target,
            first: false,
        }
    }

    fn before_others(mut self) -> Self {
        self.first = true;
        self
    }

    /// The rule after its command and chain: `-i rbox0 -j RETURN`.
    pub fn body(&self) -> String {
        let mut text = String::new();
        for one in &self.matches {
            text.push_str(&format!("{one} "));
        }
        text.push_str(&self.target.to_string());
        text
    }

    /// The rule as `iptables -S` shows it: `-A DOCKER -i rbox0 -j RETURN`.
    pub fn listed(&self) -> String {
        format!("-A {} {}", self.chain, self.body())
    }

    /// The line that adds it.
    pub fn added(&self) -> String {
        let command = if self.first { "-I" } else { "-A" };
        format!("{command} {} {}", self.chain, self.body())
    }

    /// The line that removes it.
    pub fn removed(&self) -> String {
        format!("-D {} {}", self.chain, self.body())
    }
}

/// The jumps from the kernel's chains to Docker's that no network owns: the first two stand at the
/// head of `FORWARD`.
pub fn base_rules(v6: bool) -> Vec<Rule> {
    let loopback: IpNet = if v6 {
        IpNet::new_assert(std::net::Ipv6Addr::LOCALHOST.into(), 128)
    } else {
        IpNet::new_assert([127, 0, 0, 0].into(), 8)
    };
    vec![
        Rule::new(Table::Filter, "FORWARD", vec![], Target::Jump(DOCKER_USER)).before_others(),
        Rule::new(Table::Filter, "FORWARD", vec![], Target::Jump(STAGE_1)).before_others(),
        Rule::new(Table::Filter, STAGE_1, vec![], Target::Return),
        Rule::new(Table::Filter, STAGE_2, vec![], Target::Return),
        Rule::new(Table::Filter, DOCKER_USER, vec![], Target::Return),
        Rule::new(
            Table::Nat,
            "PREROUTING",
            vec![Match::ToLocal],
            Target::Jump(DOCKER),
        ),
        Rule::new(
            Table::Nat,
            "OUTPUT",
            vec![Match::Destination(loopback, true), Match::ToLocal],
            Target::Jump(DOCKER),
        ),
    ]
}

/// The question for a neighbour's hardware address, and its answer.
const NEIGHBOURS: [u8; 2] = [135, 136];

/// What one network needs in one family: Docker's eight rules, or three for an internal one; in the
/// second family also that neighbours find each other where something is dropped between them,
/// since bridges show their frames to these chains (br_netfilter).
pub fn network_rules(network: &NetworkRules, subnet: IpNet) -> Vec<Rule> {
    let bridge = &network.bridge;
    let input = |inverted| Match::Input(bridge.clone(), inverted);
    let output = |inverted| Match::Output(bridge.clone(), inverted);
    let filter = |chain, matches, target| Rule::new(Table::Filter, chain, matches, target);
    let between = if network.icc {
        Target::Accept
    } else {
        Target::Drop
    };
    let among = filter("FORWARD", vec![input(false), output(false)], between).before_others();
    let neighbours = |chain| {
        let kinds = match subnet {
            IpNet::V6(_) if network.internal || !network.icc => &NEIGHBOURS[..],
            _ => &[],
        };
        let rule = move |kind: &u8| {
            let matches = vec![input(false), output(false), Match::Icmp6(*kind)];
            filter(chain, matches, Target::Accept).before_others()
        };
        kinds.iter().map(rule)
    };
    if network.internal {
        let mut rules: Vec<Rule> = neighbours(STAGE_1).collect();
        rules.extend([
            filter(
                STAGE_1,
                vec![Match::Source(subnet, true), output(false)],
                Target::Drop,
            )
            .before_others(),
            filter(
                STAGE_1,
                vec![Match::Destination(subnet, true), input(false)],
                Target::Drop,
            )
            .before_others(),
            among,
        ]);
        return rules;
    }
    let mut rules: Vec<Rule> = neighbours("FORWARD").collect();
    rules.extend([
        filter(
            "FORWARD",
            vec![output(false), Match::Answer],
            Target::Accept,
        )
        .before_others(),
        filter("FORWARD", vec![output(false)], Target::Jump(DOCKER)).before_others(),
        filter("FORWARD", vec![input(false), output(true)], Target::Accept).before_others(),
        among,
        filter(
            STAGE_1,
            vec![input(false), output(true)],
            Target::Jump(STAGE_2),
        )
        .before_others(),
        filter(STAGE_2, vec![output(false)], Target::Drop).before_others(),
    ]);
    if network.masquerade {
        rules.push(
            Rule::new(
                Table::Nat,
                "POSTROUTING",
                vec![Match::Source(subnet, false), output(true)],
                Target::Masquerade,
            )
            .before_others(),
        );
    }
    rules.push(Rule::new(Table::Nat, DOCKER, vec![input(false)], Target::Return).before_others());
    rules
}

/// What one opening needs: Docker's three rules for a published port, two for a link's.
pub fn opening_rules(opening: &Opening) -> Vec<Rule> {
    match opening {
        Opening::Publish(publish) => publish_rules(publish),
        Opening::Link(link) => link_rules(link),
        Opening::Closed(_) => Vec::new(),
    }
}

fn publish_rules(publish: &PublishRule) -> Vec<Rule> {
    let bridge = &publish.bridge;
    let own = IpNet::from(publish.address);
    let outside = || Match::Input(bridge.clone(), true);
    let port = || Match::ToPort(publish.protocol, publish.port);
    let mut dnat = Vec::new();
    if let Some(address) = publish.host_ip {
        dnat.push(Match::Destination(IpNet::from(address), false));
    }
    dnat.push(outside());
    dnat.push(Match::ToPort(publish.protocol, publish.host_port));
    vec![
        Rule::new(
            Table::Filter,
            DOCKER,
            vec![
                Match::Destination(own, false),
                outside(),
                Match::Output(bridge.clone(), false),
                port(),
            ],
            Target::Accept,
        ),
        Rule::new(
            Table::Nat,
            "POSTROUTING",
            vec![
                Match::Source(own, false),
                Match::Destination(own, false),
                port(),
            ],
            Target::Masquerade,
        ),
        Rule::new(
            Table::Nat,
            DOCKER,
            dnat,
            Target::Dnat(publish.address, publish.port),
        ),
    ]
}

fn link_rules(link: &LinkRule) -> Vec<Rule> {
    let rule = |from: IpAddr, to: IpAddr, port: Match| {
        Rule::new(
            Table::Filter,
            DOCKER,
            vec![
                Match::Source(IpNet::from(from), false),
                Match::Destination(IpNet::from(to), false),
                Match::Input(link.bridge.clone(), false),
                Match::Output(link.bridge.clone(), false),
                port,
            ],
            Target::Accept,
        )
    };
    let (receiver, source) = (link.receiver, link.source);
    vec![
        rule(receiver, source, Match::ToPort(link.protocol, link.port)),
        rule(source, receiver, Match::FromPort(link.protocol, link.port)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(rules: &[Rule]) -> Vec<String> {
        rules
            .iter()
            .map(|rule| format!("{} {}", rule.table.as_str(), rule.listed()))
            .collect()
    }

    fn network(icc: bool, internal: bool) -> NetworkRules {
        NetworkRules {
            bridge: "docker0".to_owned(),
            subnets: vec!["172.17.0.0/16".parse().unwrap()],
            icc,
            masquerade: true,
            internal,
        }
    }

    #[test]
    fn the_rules_of_a_network_are_dockers() {
        let subnet = "172.17.0.0/16".parse().unwrap();
        assert_eq!(
            listed(&base_rules(false)),
            [
                "filter -A FORWARD -j DOCKER-USER",
                "filter -A FORWARD -j DOCKER-ISOLATION-STAGE-1",
                "filter -A DOCKER-ISOLATION-STAGE-1 -j RETURN",
                "filter -A DOCKER-ISOLATION-STAGE-2 -j RETURN",
                "filter -A DOCKER-USER -j RETURN",
                "nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
                "nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
            ]
        );
        assert_eq!(
            listed(&network_rules(&network(true, false), subnet)),
            [
                "filter -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
                "filter -A FORWARD -o docker0 -j DOCKER",
                "filter -A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
                "filter -A FORWARD -i docker0 -o docker0 -j ACCEPT",
                "filter -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
                "filter -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP",
                "nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
                "nat -A DOCKER -i docker0 -j RETURN",
            ]
        );
        let closed = listed(&network_rules(&network(false, false), subnet));
        assert!(closed.contains(&"filter -A FORWARD -i docker0 -o docker0 -j DROP".to_owned()));
        let subnet = "10.78.0.0/24".parse().unwrap();
        assert_eq!(
            listed(&network_rules(&network(true, true), subnet)),
            [
                "filter -A DOCKER-ISOLATION-STAGE-1 ! -s 10.78.0.0/24 -o docker0 -j DROP",
                "filter -A DOCKER-ISOLATION-STAGE-1 ! -d 10.78.0.0/24 -i docker0 -j DROP",
                "filter -A FORWARD -i docker0 -o docker0 -j ACCEPT",
            ]
        );
    }

    #[test]
    fn neighbours_find_each_other_where_the_rest_is_dropped() {
        let subnet: IpNet = "fd00:9::/64".parse().unwrap();
        let kinds = |chain: &str, icc: bool, internal: bool| {
            let rules = listed(&network_rules(&network(icc, internal), subnet));
            let prefix = format!(
                "filter -A {chain} -i docker0 -o docker0 -p ipv6-icmp -m icmp6 --icmpv6-type "
            );
            let kinds = rules.iter().take_while(|rule| rule.starts_with(&prefix));
            kinds.count()
        };
        assert_eq!(kinds("FORWARD", false, false), 2);
        assert_eq!(kinds("DOCKER-ISOLATION-STAGE-1", true, true), 2);
        assert_eq!(kinds("FORWARD", true, false), 0, "nothing is dropped");
        let v4 = network_rules(&network(false, false), "172.17.0.0/16".parse().unwrap());
        assert!(!listed(&v4).iter().any(|rule| rule.contains("icmp6")));
    }

    #[test]
    fn the_rules_of_a_port_are_dockers() {
        let mut publish = PublishRule {
            bridge: "docker0".to_owned(),
            protocol: Protocol::Tcp,
            host_ip: None,
            host_port: 8080,
            address: "172.17.0.2".parse().unwrap(),
            port: 80,
        };
        assert_eq!(
            listed(&publish_rules(&publish)),
            [
                "filter -A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
                "nat -A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
                "nat -A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            ]
        );
        publish.host_ip = "127.0.0.1".parse().ok();
        assert_eq!(
            publish_rules(&publish)[2].listed(),
            "-A DOCKER -d 127.0.0.1/32 ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80"
        );
        publish.host_ip = None;
        publish.address = "fd00::2".parse().unwrap();
        assert_eq!(
            publish_rules(&publish)[2].removed(),
            "-D DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination [fd00::2]:80"
        );
    }

    #[test]
    fn the_rules_of_a_link_are_dockers() {
        let link = Opening::Link(LinkRule {
            bridge: "docker0".to_owned(),
            receiver: "172.17.0.4".parse().unwrap(),
            source: "172.17.0.2".parse().unwrap(),
            protocol: Protocol::Tcp,
            port: 80,
        });
        assert_eq!(
            listed(&opening_rules(&link)),
            [
                "filter -A DOCKER -s 172.17.0.4/32 -d 172.17.0.2/32 -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT",
                "filter -A DOCKER -s 172.17.0.2/32 -d 172.17.0.4/32 -i docker0 -o docker0 -p tcp -m tcp --sport 80 -j ACCEPT",
            ]
        );
    }
}

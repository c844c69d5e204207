//! One container on one network: what is reserved, and the pure plan of the steps.

use std::net::IpAddr;

use ipnet::IpNet;
use sys::netlink::Mac;

use crate::error::NetError;
use crate::firewall::mark::Mark;
use crate::firewall::{Hand, LinkRule, NetworkRules, Opening, PublishRule};
use crate::hold::{Alive, Hold};
use crate::host::{Facts, Host};
use crate::ipam::{self, mac_of};
use crate::network::Network;
use crate::port::{Allocator, Binding, Port, PortMap, PortRange, Publish, Socket, to_bind};
use crate::step::{Bridge, Family, Firewall, Interface, NetStep, Openings, Settings, Veth};

/// A container that is to be attached to a network with a bridge.
#[derive(Clone, Copy)]
pub struct Attach<'a> {
    /// The network.
    pub network: &'a Network,
    /// The container's id: the owner of what is reserved.
    pub container: &'a str,
    /// The container's name, for messages.
    pub name: &'a str,
    /// The endpoint's id, for messages and inspect.
    pub endpoint: &'a str,
    /// The interface in the container: `eth0`.
    pub interface: &'a str,
    /// Addresses asked for, at most one per family.
    pub addresses: &'a [IpAddr],
    /// The hardware address asked for.
    pub mac: Option<Mac>,
    /// Its ports that are to be published.
    pub publish: &'a [Publish],
    /// Its exposed ports.
    pub exposed: &'a [Port],
    /// Every exposed port is to be published.
    pub publish_all: bool,
    /// What links open, where containers may not talk.
    pub links: &'a [LinkRule],
    /// Its default route goes over this network.
    pub default_route: bool,
    /// Whether another owner lives.
    pub alive: Alive<'a>,
}

impl std::fmt::Debug for Attach<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attach")
            .field("network", &self.network.name)
            .field("container", &self.container)
            .field("interface", &self.interface)
            .finish_non_exhaustive()
    }
}

/// What a container has on a network, for inspect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses with the subnets' prefixes, IPv4 first.
    pub addresses: Vec<IpNet>,
    /// The gateways, in the same order.
    pub gateways: Vec<IpAddr>,
    /// Its hardware address.
    pub mac: Mac,
    /// The host's end of the pair.
    pub veth: String,
    /// Its exposed and published ports.
    pub ports: PortMap,
}

/// Everything that can be had before the container exists: addresses and ports are held, the
/// listening sockets are open, and the plan is made.
#[derive(Debug)]
pub struct Prepared {
    /// To be applied once the container's namespace is known.
    pub steps: Vec<NetStep>,
    /// The sockets of published ports, for the proxy.
    pub sockets: Vec<Socket>,
    /// What the container gets.
    pub endpoint: Endpoint,
}

/// Reserves addresses and ports, opens the sockets of published ports and plans the rest. The
/// reservations are steps of the plan: undoing it releases them.
///
/// # Errors
/// [`NetError`]; what was reserved until then is released.
pub fn prepare(host: &mut Host, attach: &Attach<'_>) -> Result<Prepared, NetError> {
    let facts = host.facts(attach.network)?;
    let mut holds = Vec::new();
    let outcome = reserve(host, attach, &mut holds);
    match outcome {
        Ok((addresses, sockets)) => {
            let entropy = entropy();
            Ok(prepared(
                attach,
                &facts,
                (addresses, sockets, holds),
                entropy,
            ))
        }
        Err(error) => {
            for hold in &holds {
                // On the way out of another error; what stays counts only while its owner lives.
                let _ = hold.release();
            }
            Err(error)
        }
    }
}

/// Takes addresses and ports; `holds` has what was taken also when it fails.
fn reserve(
    host: &Host,
    attach: &Attach<'_>,
    holds: &mut Vec<Hold>,
) -> Result<(Vec<IpNet>, Vec<Socket>), NetError> {
    let network = attach.network;
    let directory = host.addresses_directory(&network.name);
    let mut addresses = Vec::new();
    for pool in &network.pools {
        let wanted = attach
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == pool.gateway.is_ipv4())
            .copied();
        let held = ipam::reserve(&directory, pool, attach.container, attach.alive, wanted)?;
        addresses.push(held.address);
        holds.push(held.hold);
    }
    let publish = to_bind(attach.publish, attach.exposed, attach.publish_all);
    let mut sockets = Vec::new();
    // Without a bridge there is nothing to publish; Docker ignores the wish.
    if !publish.is_empty() && network.bridge.is_some() {
        let directory = host.ports_directory();
        let allocator = Allocator {
            directory: &directory,
            owner: attach.container,
            alive: attach.alive,
            range: PortRange::ephemeral(),
            default_ip: network
                .bridge
                .as_ref()
                .map_or(crate::port::ANY_V4, |bridge| bridge.host_binding),
        };
        let held = allocator
            .open(&publish)
            .map_err(|reason| NetError::Publish {
                name: attach.name.to_owned(),
                endpoint: attach.endpoint.to_owned(),
                reason,
            })?;
        for one in held {
            holds.push(one.hold);
            sockets.push(one.socket);
        }
    }
    Ok((addresses, sockets))
}

type Reserved = (Vec<IpNet>, Vec<Socket>, Vec<Hold>);

fn prepared(
    attach: &Attach<'_>,
    facts: &Facts,
    (addresses, sockets, holds): Reserved,
    entropy: [u8; 8],
) -> Prepared {
    let bindings: Vec<Binding> = sockets.iter().map(|socket| socket.binding).collect();
    let mac = attach
        .mac
        .or_else(|| addresses.first().map(|net| mac_of(net.addr())))
        .unwrap_or_default();
    let request = Request {
        network: attach.network,
        interface: attach.interface,
        addresses: &addresses,
        mac,
        holds: &holds,
        bindings: &bindings,
        links: attach.links,
        default_route: attach.default_route,
        entropy,
    };
    let steps = plan(&request, facts);
    Prepared {
        steps,
        endpoint: Endpoint {
            mac,
            veth: veth_name(entropy),
            gateways: attach
                .network
                .pools
                .iter()
                .map(|pool| pool.gateway)
                .collect(),
            ports: Socket::map(&sockets, attach.exposed),
            addresses,
        },
        sockets,
    }
}

/// What a plan is made from.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The network.
    pub network: &'a Network,
    /// The interface in the container.
    pub interface: &'a str,
    /// Its addresses.
    pub addresses: &'a [IpNet],
    /// Its hardware address.
    pub mac: Mac,
    /// What is reserved for it.
    pub holds: &'a [Hold],
    /// Its published ports.
    pub bindings: &'a [Binding],
    /// What links open.
    pub links: &'a [LinkRule],
    /// Its default route goes over this network.
    pub default_route: bool,
    /// For names and addresses that only have to differ from others.
    pub entropy: [u8; 8],
}

/// The steps that attach a container to a network, in order; what is there already is left out.
/// Without a bridge (the driver `null`) only loopback is set up.
pub fn plan(request: &Request<'_>, facts: &Facts) -> Vec<NetStep> {
    let mut steps: Vec<NetStep> = request.holds.iter().cloned().map(NetStep::Hold).collect();
    let network = request.network;
    let (Some(bridge), Some(rules), Some(mark)) = (
        &network.bridge,
        NetworkRules::of(network),
        Mark::of(network, facts.hand, &facts.instance),
    ) else {
        steps.push(NetStep::Settings(settings(network)));
        steps.push(NetStep::Interface(loopback()));
        return steps;
    };
    steps.extend(forwarding(request.network, facts));
    let addresses: Vec<IpNet> = request
        .network
        .pools
        .iter()
        .map(crate::network::Pool::gateway_net)
        .collect();
    let there = facts.bridge.as_ref().is_some_and(|known| {
        known.up
            && addresses
                .iter()
                .all(|wanted| known.addresses.contains(wanted))
    });
    if !there {
        let [_, _, _, a, b, c, d, e] = request.entropy;
        steps.push(NetStep::Bridge(Bridge {
            name: bridge.device.clone(),
            mac: [0x02, 0x42, a ^ b, c, d, e],
            mtu: bridge.mtu,
            addresses,
            filtered: !bridge.icc && facts.hand == Hand::Iptables,
        }));
    }
    let firewall = Firewall { rules, mark };
    if !there || !facts.firewall_ready {
        steps.push(NetStep::NetworkFirewall(firewall.clone()));
    }
    steps.push(NetStep::Settings(settings(request.network)));
    steps.push(NetStep::Veth(Veth {
        name: veth_name(request.entropy),
        bridge: bridge.device.clone(),
        peer: request.interface.to_owned(),
        mac: request.mac,
        mtu: bridge.mtu,
    }));
    steps.push(NetStep::Interface(interface(request)));
    let mut openings = openings(request, &bridge.device);
    if !bridge.icc && facts.hand == Hand::Nft {
        openings.push(Opening::Closed(veth_name(request.entropy)));
    }
    if !openings.is_empty() && facts.hand != Hand::Off {
        steps.push(NetStep::Openings(Openings {
            network: firewall,
            openings,
        }));
    }
    steps
}

fn forwarding(network: &Network, facts: &Facts) -> Vec<NetStep> {
    if network.internal {
        return Vec::new();
    }
    let [v4, v6] = facts.forwarding;
    let mut steps = Vec::new();
    if network.v4().is_some() && !v4 {
        steps.push(NetStep::Forwarding(Family::V4));
    }
    if network.v6().is_some() && !v6 {
        steps.push(NetStep::Forwarding(Family::V6));
    }
    steps
}

/// Loopback alone, for a container without a network.
fn loopback() -> Interface {
    Interface {
        device: None,
        addresses: Vec::new(),
        gateways: Vec::new(),
    }
}

/// The settings of a container's own network namespace: any port without privilege, ping for
/// everybody, and no IPv6 where the network has none.
fn settings(network: &Network) -> Settings {
    let mut list = vec![
        ("net/ipv4/ip_unprivileged_port_start", "0"),
        ("net/ipv4/ping_group_range", "0 2147483647"),
    ];
    if network.v6().is_none() {
        list.push(("net/ipv6/conf/all/disable_ipv6", "1"));
    }
    Settings {
        list: list
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    }
}

fn interface(request: &Request<'_>) -> Interface {
    let gateways = if request.default_route {
        request
            .network
            .pools
            .iter()
            .map(|pool| pool.gateway)
            .collect()
    } else {
        Vec::new()
    };
    Interface {
        device: Some(request.interface.to_owned()),
        addresses: request.addresses.to_vec(),
        gateways,
    }
}

fn openings(request: &Request<'_>, bridge: &str) -> Vec<Opening> {
    let addresses: Vec<IpAddr> = request.addresses.iter().map(IpNet::addr).collect();
    let published = request
        .bindings
        .iter()
        .filter_map(|binding| PublishRule::of(binding, bridge, &addresses))
        .map(Opening::Publish);
    let linked = request.links.iter().cloned().map(Opening::Link);
    published.chain(linked).collect()
}

/// `veth` and seven hexadecimal digits.
fn veth_name([a, b, c, d, ..]: [u8; 8]) -> String {
    let number = u32::from_be_bytes([a, b, c, d]) & 0x0fff_ffff;
    format!("veth{number:07x}")
}

fn entropy() -> [u8; 8] {
    let mut bytes = [0; 8];
    sys::random::fill(&mut bytes).expect("the kernel has random numbers once it runs programs");
    bytes
}

#[cfg(test)]
mod tests {
    use plan::Step;

    use super::*;
    use crate::host::BridgeFacts;
    use crate::network::{BridgeOptions, Driver, Pool};
    use crate::port::{HostPort, parse_publish};

    fn network(pools: &[&str]) -> Network {
        Network {
            id: "0".to_owned(),
            name: "bridge".to_owned(),
            driver: Driver::Bridge,
            pools: pools
                .iter()
                .map(|subnet| Pool::of(subnet.parse().unwrap()))
                .collect(),
            internal: false,
            bridge: Some(BridgeOptions::of("rbox0")),
        }
    }

    fn facts(hand: Hand, ready: bool) -> Facts {
        Facts {
            bridge: ready.then(|| BridgeFacts {
                up: true,
                addresses: vec!["172.17.0.1/16".parse().unwrap()],
            }),
            forwarding: [ready, true],
            hand,
            instance: "rbox".to_owned(),
            firewall_ready: ready,
        }
    }

    fn bindings(specs: &[&str]) -> Vec<Binding> {
        specs
            .iter()
            .flat_map(|spec| parse_publish(spec).unwrap())
            .map(|publish| Binding {
                port: publish.port,
                host: HostPort {
                    ip: crate::port::ANY_V4,
                    port: publish.host_port.parse().unwrap(),
                },
            })
            .collect()
    }

    fn steps(network: &Network, facts: &Facts, publish: &[&str]) -> Vec<NetStep> {
        let hold = Hold {
            path: "/run/rbox/networks/bridge/172.17.0.2".into(),
            owner: "c1".to_owned(),
        };
        let addresses = match network.v4() {
            Some(_) => vec!["172.17.0.2/16".parse().unwrap()],
            None => Vec::new(),
        };
        let request = Request {
            network,
            interface: "eth0",
            addresses: &addresses,
            mac: [0x02, 0x42, 172, 17, 0, 2],
            holds: &[hold],
            bindings: &bindings(publish),
            links: &[],
            default_route: true,
            entropy: [1, 2, 3, 4, 5, 6, 7, 8],
        };
        plan(&request, facts)
    }

    fn names(steps: &[NetStep]) -> Vec<&'static str> {
        steps.iter().map(Step::name).collect()
    }

    #[test]
    fn the_first_start_makes_what_later_ones_find() {
        let first = steps(
            &network(&["172.17.0.0/16"]),
            &facts(Hand::Nft, false),
            &["8080:80"],
        );
        assert_eq!(
            names(&first),
            [
                "net-hold",
                "net-forward",
                "bridge-create",
                "network-firewall",
                "net-settings",
                "veth-create",
                "interface-up",
                "firewall-open",
            ]
        );
        let later = steps(&network(&["172.17.0.0/16"]), &facts(Hand::Nft, true), &[]);
        assert_eq!(
            names(&later),
            ["net-hold", "net-settings", "veth-create", "interface-up"]
        );
    }

    #[test]
    fn without_a_bridge_only_loopback_is_set_up() {
        let mut none = network(&[]);
        none.driver = Driver::None;
        none.bridge = None;
        let list = steps(&none, &facts(Hand::Nft, true), &["8080:80"]);
        assert_eq!(names(&list), ["net-hold", "net-settings", "interface-up"]);
        assert_eq!(
            list[2].shell(),
            ["nsenter --net=/proc/$PID/ns/net ip link set lo up"]
        );
    }

    #[test]
    fn without_a_firewall_nothing_is_opened() {
        let list = steps(
            &network(&["172.17.0.0/16"]),
            &facts(Hand::Off, true),
            &["8080:80"],
        );
        assert!(!names(&list).contains(&"firewall-open"));
    }

    #[test]
    fn the_plan_reads_as_shell_commands() {
        let list = steps(
            &network(&["172.17.0.0/16"]),
            &facts(Hand::Iptables, true),
            &["8080:80"],
        );
        let lines: Vec<String> = list.iter().flat_map(Step::shell).collect();
        assert_eq!(
            lines,
            [
                "ln -s c1 /run/rbox/networks/bridge/172.17.0.2",
                "nsenter --net=/proc/$PID/ns/net sh -c 'echo 0 > /proc/sys/net/ipv4/ip_unprivileged_port_start'",
                "nsenter --net=/proc/$PID/ns/net sh -c 'echo 0 2147483647 > /proc/sys/net/ipv4/ping_group_range'",
                "nsenter --net=/proc/$PID/ns/net sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'",
                "ip link add veth1020304 mtu 1500 master rbox0 type veth peer name eth0 address 02:42:ac:11:00:02 mtu 1500 netns $PID",
                "ip link set veth1020304 up",
                "nsenter --net=/proc/$PID/ns/net ip link set lo up",
                "nsenter --net=/proc/$PID/ns/net ip address add 172.17.0.2/16 dev eth0",
                "nsenter --net=/proc/$PID/ns/net ip link set eth0 up",
                "nsenter --net=/proc/$PID/ns/net ip route add default via 172.17.0.1",
                "iptables -A DOCKER -d 172.17.0.2/32 ! -i rbox0 -o rbox0 -p tcp -m tcp --dport 80 -j ACCEPT",
                "iptables -t nat -A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
                "iptables -t nat -A DOCKER ! -i rbox0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            ]
        );
        for step in &list {
            let description = step.describe();
            assert!(!description.what.is_empty() && !description.why.is_empty());
            assert!(!description.calls.is_empty(), "{}", step.name());
        }
    }

    #[test]
    fn a_plan_is_read_again_from_the_journal() {
        let list = steps(
            &network(&["172.17.0.0/16"]),
            &facts(Hand::Nft, false),
            &["8080:80"],
        );
        let text = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<Vec<NetStep>>(&text).unwrap(), list);
    }
}

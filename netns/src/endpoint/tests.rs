//! Plans as lists of steps and as shell commands.

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
        uplink: None,
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
        further: &[],
        network,
        interface: "eth0",
        addresses: &addresses,
        mac: [0x02, 0x42, 172, 17, 0, 2],
        holds: &[hold],
        bindings: &bindings(publish),
        links: &[],
        default_route: true,
        sandbox: Sandbox::New {
            ipv6: network.v6().is_some(),
        },
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

#[test]
fn a_shared_wire_needs_no_bridge_and_no_rules() {
    let mut wire = network(&["172.17.0.0/16"]);
    wire.driver = Driver::Macvlan;
    wire.bridge = None;
    wire.uplink = Some(crate::uplink::Uplink {
        parent: "lan0".to_owned(),
        mode: crate::uplink::Mode::Bridge,
        mtu: None,
    });
    let list = steps(&wire, &facts(Hand::Nft, true), &["8080:80"]);
    assert_eq!(
        names(&list),
        ["net-hold", "net-settings", "sublink-create", "interface-up"]
    );
    assert_eq!(
        list[2].shell(),
        [
            "ip link add link lan0 name eth0 netns $PID address 02:42:ac:11:00:02 type macvlan mode bridge"
        ]
    );
    let last = |list: &[NetStep]| list.last().unwrap().shell().pop().unwrap();
    assert_eq!(
        last(&list),
        "nsenter --net=/proc/$PID/ns/net ip route add default via 172.17.0.1"
    );
    if let Some(uplink) = &mut wire.uplink {
        uplink.mode = crate::uplink::Mode::L3;
    }
    let list = steps(&wire, &facts(Hand::Nft, true), &[]);
    assert_eq!(
        last(&list),
        "nsenter --net=/proc/$PID/ns/net ip route add default dev eth0"
    );
    assert!(!list[2].shell()[0].contains("02:42"));
}

#[test]
fn a_network_that_is_left_takes_all_of_its_steps_along() {
    let net = network(&["172.17.0.0/16"]);
    let held = std::path::Path::new("/run/rbox/networks/bridge");
    let list = steps(&net, &facts(Hand::Nft, false), &["8080:80"]);
    let kept: Vec<&NetStep> = list
        .iter()
        .filter(|step| !crate::is_of(step, &net, "eth0", held))
        .collect();
    // the namespace's own settings and forwarding belong to no network
    let names: Vec<&str> = kept.into_iter().map(Step::name).collect();
    assert_eq!(names, ["net-forward", "net-settings"]);
    let mut other = network(&["10.1.0.0/16"]);
    other.id = "1".to_owned();
    other.bridge = Some(BridgeOptions::of("br-1"));
    let elsewhere = std::path::Path::new("/run/rbox/networks/other");
    assert!(
        !list
            .iter()
            .any(|step| crate::is_of(step, &other, "eth1", elsewhere))
    );
}

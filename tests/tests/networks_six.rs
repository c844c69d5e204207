//! Networks with IPv6 beside IPv4: addresses, names, published ports.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;
use lab::echo::{echoes, lab_with_echo};

/// Runs `rbox` and gives what it wrote.
fn rbox(lab: &Lab, line: &str) -> String {
    lab.rbox(line.split_whitespace()).run().success().text()
}

fn pings6(lab: &Lab, from: &str, to: &str) -> bool {
    lab.rbox(["exec", from, "ping6", "-c1", "-W1", to])
        .run()
        .status
        .success()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_six_addresses_of_both_families() {
    for firewall in ["nft", "iptables"] {
        let lab = Lab::with_busybox();
        lab.have_firewall(firewall);
        rbox(
            &lab,
            "network create --ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 a",
        );
        rbox(&lab, "network create --ipv6 drawn");
        rbox(&lab, "network create --subnet 10.2.0.0/24 four");
        assert!(lab.sh("ip link").contains(&format!("firewall={firewall}")));
        let drawn = rbox(
            &lab,
            "network inspect drawn -f {{(index(.IPAM.Config)(1)).Subnet}}",
        );
        assert!(
            drawn.starts_with("fd") && drawn.ends_with("::/64"),
            "{drawn}"
        );
        rbox(
            &lab,
            "run -d --name one --network a --ip6 fd00:1::9 -h me busybox sleep 1000",
        );
        rbox(&lab, "run -d --name two --network a busybox sleep 1000");
        rbox(&lab, "run -d --name far --network drawn busybox sleep 1000");
        let shown = rbox(
            &lab,
            "inspect -f {{.NetworkSettings.Networks.a.GlobalIPv6Address}}/{{.NetworkSettings.Networks.a.GlobalIPv6PrefixLen}}|{{.NetworkSettings.Networks.a.IPv6Gateway}} one",
        );
        assert_eq!(shown, "fd00:1::9/64|fd00:1::1");
        assert!(pings6(&lab, "two", "fd00:1::9"), "{firewall}");
        assert!(pings6(&lab, "two", "fd00:1::1"), "{firewall}");
        assert!(!pings6(&lab, "far", "fd00:1::9"), "{firewall}: isolation");
        let hosts = rbox(&lab, "exec one tail -n2 /etc/hosts");
        assert_eq!(hosts, "10.1.0.2\tme\nfd00:1::9\tme");
        // a container without IPv6 gets it with the network that has it, and on that alone
        rbox(&lab, "run -d --name four --network four busybox sleep 1000");
        let six = "exec four ip -6 address show scope global";
        assert_eq!(rbox(&lab, six), "");
        rbox(&lab, "network connect --ip6 fd00:1::77 a four");
        assert!(rbox(&lab, six).contains("fd00:1::77/64"));
        assert!(pings6(&lab, "four", "fd00:1::9"), "{firewall}: connected");
        assert!(!rbox(&lab, "exec four ip -6 address show dev eth0").contains("inet6"));
        rbox(
            &lab,
            "run -d --name both --network four --network a busybox sleep 1000",
        );
        assert!(pings6(&lab, "both", "fd00:1::9"), "{firewall}: both");
        assert!(!rbox(&lab, "exec both ip -6 address show dev eth0").contains("inet6"));
        lab.rbox([
            "run",
            "--rm",
            "--network",
            "four",
            "--ip6",
            "fd00:1::5",
            "busybox",
            "true",
        ])
        .run()
        .code(125)
        .says("Invalid address fd00:1::5: It does not belong to any of this network's subnets");
        lab.rbox(["network", "create", "--subnet", "fd00:9::/64", "x"])
            .run()
            .code(1)
            .says("an IPv6 subnet needs a network with IPv6");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_six_ports_are_published_to_the_container_itself() {
    for firewall in ["nft", "iptables"] {
        let (lab, outside) = lab_with_echo();
        lab.have_firewall(firewall);
        rbox(
            &lab,
            "network create --ipv6 --subnet 10.1.0.0/24 --subnet fd00:1::/64 a",
        );
        rbox(&lab, "run -d --name one --network a -p 2345:2345 echo");
        echoes(&outside, outside.lab, 2345).unwrap();
        echoes(&outside, outside.lab6, 2345).unwrap();
        echoes(&lab, std::net::Ipv6Addr::LOCALHOST, 2345).unwrap();
        let rules = lab.sh("ip6tables-save -t nat; nft list ruleset");
        assert!(rules.contains("fd00:1::2"), "{firewall}: {rules}");
        rbox(&lab, "rm -f one");
        rbox(&lab, "network rm a");
        let rules = lab.sh("ip6tables-save; nft list ruleset");
        assert!(!rules.contains("fd00:1::"), "{firewall}: {rules}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_six_on_the_default_bridge() {
    for firewall in ["nft", "iptables"] {
        let (lab, outside) = lab_with_echo();
        let on = |line: &str| rbox(&lab, &format!("--firewall {firewall} {line}"));
        // the bridge is there already, without IPv6
        on("run -d --name four echo");
        on("--bridge-subnet6 fd00:17::/64 run -d --name six -p 2345:2345 echo");
        // from now on it has it, whether or not a command says so again
        on("run -d --name again busybox sleep 1000");
        let address = "{{.NetworkSettings.GlobalIPv6Address}}";
        let of = |name: &str| rbox(&lab, &format!("inspect -f {address} {name}"));
        assert_eq!(of("four"), "", "{firewall}");
        assert_eq!(of("six"), "fd00:17::2", "{firewall}");
        assert_eq!(of("again"), "fd00:17::3", "{firewall}");
        assert!(pings6(&lab, "again", "fd00:17::2"), "{firewall}");
        echoes(&outside, outside.lab6, 2345).unwrap();
        echoes(&outside, outside.lab, 2345).unwrap();
        rbox(&lab, "rm -f four six again");
    }
}

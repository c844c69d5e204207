//! Networks of users: made, listed, joined, kept apart, removed.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};
use serde_json::Value;

/// Runs `rbox` and gives what it wrote.
fn rbox(lab: &Lab, line: &str) -> String {
    lab.rbox(line.split_whitespace()).run().success().text()
}

/// A container that waits on a network.
fn wait_on(lab: &Lab, name: &str, options: &str) {
    rbox(
        lab,
        &format!("run -d --name {name} {options} busybox sleep 1000"),
    );
}

/// Whether a container gets an answer from an address.
fn pings(lab: &Lab, from: &str, to: &str) -> bool {
    lab.rbox(["exec", from, "ping", "-c1", "-W1", to])
        .run()
        .status
        .success()
}

fn place(lab: &Lab, name: &str, network: &str) -> Value {
    let documents = lab.rbox(["inspect", name]).run().success().json();
    documents[0]["NetworkSettings"]["Networks"][network].clone()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_are_made_listed_and_removed() {
    let lab = Lab::new();
    let id = rbox(&lab, "network create --label a=b un1");
    rbox(
        &lab,
        "network create --subnet 10.77.0.0/24 --ip-range 10.77.0.128/25 --internal un2",
    );
    assert_eq!(id.len(), 64);
    let list = rbox(&lab, "network ls --format {{.Name}}:{{.Driver}}");
    assert_eq!(
        list,
        "bridge:bridge\nhost:host\nnone:null\nun1:bridge\nun2:bridge"
    );
    assert_eq!(rbox(&lab, "network ls -q -f name=un1"), &id[..12]);
    assert_eq!(rbox(&lab, "network ls -q --no-trunc -f label=a"), id);
    assert_eq!(
        rbox(&lab, "network ls -f type=builtin --format {{.Name}}"),
        "bridge\nhost\nnone"
    );
    let document = &lab
        .rbox(["network", "inspect", &id[..5]])
        .run()
        .success()
        .json()[0];
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "Name",
            "Id",
            "Created",
            "Scope",
            "Driver",
            "EnableIPv6",
            "IPAM",
            "Internal",
            "Attachable",
            "Ingress",
            "ConfigFrom",
            "ConfigOnly",
            "Containers",
            "Options",
            "Labels"
        ]
    );
    assert_eq!(document["IPAM"]["Config"][0]["Gateway"], "172.18.0.1");
    let device = format!("br-{}", &id[..12]);
    assert!(
        lab.sh(&format!("ip -4 address show {device}"))
            .contains("172.18.0.1/16")
    );
    assert_eq!(
        lab.rbox(["inspect", "-f", "{{json .IPAM.Config}}", "un2"])
            .run()
            .text(),
        r#"[{"Subnet":"10.77.0.0/24","IPRange":"10.77.0.128/25"}]"#
    );
    assert_eq!(rbox(&lab, "network rm un1"), "un1");
    assert_eq!(rbox(&lab, "network prune -f"), "Deleted Networks:\nun2");
    assert_eq!(rbox(&lab, "network prune -f"), "");
    assert!(!lab.sh("ip link").contains("br-"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_refuse_in_dockers_words() {
    let lab = Lab::new();
    rbox(&lab, "network create --subnet 10.77.0.0/24 un1");
    lab.sh(
        "ip link add mine type bridge; ip address add 10.99.0.1/24 dev mine; ip link set mine up",
    );
    for (line, text) in [
        ("create un1", "network with name un1 already exists"),
        (
            "create bridge",
            "operation is not permitted on predefined bridge network",
        ),
        (
            "create --subnet 10.77.0.128/25 x",
            "Pool overlaps with other one on this address space",
        ),
        ("create --subnet 10.99.0.0/16 x", "10.99.0.0/24 dev mine"),
        ("create -d foo x", "plugin \"foo\" not found"),
        (
            "create -d host x",
            "only one instance of \"host\" network is allowed",
        ),
        (
            "create --gateway 10.1.1.1 x",
            "every ip-range or gateway must have a corresponding subnet",
        ),
        (
            "create -o com.docker.network.bridge.enable_icc=perhaps x",
            "failed to parse com.docker.network.bridge.enable_icc value: perhaps",
        ),
        (
            "create -o com.docker.network.bridge.name=mine --subnet 10.99.0.0/24 mine",
            "",
        ),
        (
            "create -o com.docker.network.bridge.name=mine x",
            "networks have same bridge name",
        ),
        (
            "rm bridge",
            "bridge is a pre-defined network and cannot be removed",
        ),
        ("rm nope", "network nope not found"),
        ("rm nope", "exit status 1"),
        ("inspect nope", "network nope not found"),
    ] {
        let output = lab.rbox(["network"]).args(line.split(' ')).run();
        match text {
            "" => output.success(),
            text => output.code(1).says(text),
        };
    }
    // what was there before the network stays
    rbox(&lab, "network rm mine un1");
    assert!(lab.sh("ip address show mine").contains("10.99.0.1/24"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_give_what_run_asks_for() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create --subnet 10.78.0.0/24 un1");
    rbox(&lab, "network create un2");
    wait_on(
        &lab,
        "one",
        "--network un1 --network-alias web --ip 10.78.0.9 --mac-address 02:42:0a:4e:00:77 -h myhost",
    );
    let place = place(&lab, "one", "un1");
    let id = rbox(&lab, "inspect -f {{.Id}} one");
    assert_eq!(place["IPAddress"], "10.78.0.9");
    assert_eq!(place["IPAMConfig"]["IPv4Address"], "10.78.0.9");
    assert_eq!(place["MacAddress"], "02:42:0a:4e:00:77");
    assert_eq!(
        place["Aliases"],
        serde_json::json!(["web", &id[..12], "myhost"])
    );
    let seen = rbox(&lab, "exec one cat /sys/class/net/eth0/address");
    assert_eq!(seen, "02:42:0a:4e:00:77");
    let hosts = rbox(&lab, "exec one cat /etc/hosts");
    assert!(hosts.ends_with("\n10.78.0.9\tmyhost"), "{hosts}");
    let members = rbox(
        &lab,
        "network inspect -f {{range.Containers}}{{.Name}}={{.IPv4Address}}{{end}} un1",
    );
    assert_eq!(members, "one=10.78.0.9/24");
    assert_eq!(rbox(&lab, "ps -q -f network=un1"), &id[..12]);
    for (options, text) in [
        ("--network un1 --ip 10.78.0.9", "Address already in use"),
        (
            "--network un1 --ip 10.79.0.9",
            "Invalid address 10.79.0.9: It does not belong to any of this network's subnets",
        ),
        (
            "--network un2 --ip 172.18.0.9",
            "user specified IP address is supported only when connecting to networks with user configured subnets",
        ),
        (
            "--ip 172.17.0.9",
            "user specified IP address is supported on user defined networks only",
        ),
        (
            "--network-alias x",
            "network-scoped aliases are only supported for user-defined networks",
        ),
        (
            "--network un1 --ip 999.1.1.1",
            "invalid IPv4 address: 999.1.1.1",
        ),
        (
            "--network un1 --mac-address zz",
            "zz is not a valid mac address",
        ),
        ("--network nope", "network nope not found"),
    ] {
        lab.rbox(["run", "--rm"])
            .args(options.split(' '))
            .args(["busybox", "true"])
            .run()
            .code(125)
            .says(text);
    }
    lab.rbox(["network", "rm", "un1"])
        .run()
        .code(1)
        .says("error while removing network: network un1 id ")
        .says(" has active endpoints");
    rbox(&lab, "rm -f one");
    rbox(&lab, "network rm un1 un2");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_keep_containers_apart() {
    for firewall in ["nft", "iptables"] {
        let lab = Lab::with_busybox();
        if firewall == "iptables" {
            lab.sh("iptables -A FORWARD -p icmp -j ACCEPT -m comment --comment mine; iptables -D FORWARD -p icmp -j ACCEPT -m comment --comment mine");
        }
        let on = |line: &str| rbox(&lab, &format!("--firewall {firewall} {line}"));
        let before = lab.sh("ip -br link | awk '{print $1}' | sort");
        on("network create --subnet 10.1.0.0/24 a");
        on("network create --subnet 10.2.0.0/24 b");
        on("network create --subnet 10.3.0.0/24 --internal in");
        on(
            "network create --subnet 10.4.0.0/24 -o com.docker.network.bridge.enable_icc=false shut",
        );
        for (name, network) in [
            ("a1", "a"),
            ("a2", "a"),
            ("b1", "b"),
            ("i1", "in"),
            ("i2", "in"),
            ("s1", "shut"),
            ("s2", "shut"),
        ] {
            on(&format!(
                "run -d --rm --name {name} --network {network} busybox sleep 1000"
            ));
        }
        wait_on(&lab, "ab", "--rm --network a --network b");
        for (from, to, reaches) in [
            ("a1", "10.1.0.3", true),
            ("a1", "10.2.0.2", false),
            ("a1", "10.2.0.1", true),
            ("b1", "10.1.0.2", false),
            ("i1", "10.3.0.3", true),
            ("i1", "10.1.0.2", false),
            ("a1", "10.3.0.2", false),
            ("s1", "10.4.0.3", false),
            ("s1", "10.4.0.1", true),
            ("ab", "10.1.0.2", true),
            ("ab", "10.2.0.2", true),
        ] {
            assert_eq!(pings(&lab, from, to), reaches, "{firewall}: {from} → {to}");
        }
        let interfaces = rbox(&lab, "exec ab ls /sys/class/net");
        assert_eq!(interfaces, "eth0\neth1\nlo");
        rbox(&lab, "stop -t 0 a1 a2 b1 i1 i2 s1 s2 ab");
        rbox(&lab, "network rm a b in shut");
        eventually("no device is left", || {
            lab.sh("ip -br link | awk '{print $1}' | sort") == before
        });
        let rules = lab.sh("iptables-save; nft list ruleset");
        for left in ["br-", "10.1.0", "10.2.0", "10.3.0", "10.4.0", "veth"] {
            assert!(!rules.contains(left), "{firewall}: {left} in\n{rules}");
        }
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_come_back_with_the_machine() {
    for firewall in ["nft", "iptables"] {
        let lab = Lab::with_busybox();
        let on = |line: &str| rbox(&lab, &format!("--firewall {firewall} {line}"));
        on("network create --subnet 10.1.0.0/24 a");
        on("network create --subnet 10.2.0.0/24 b");
        // what is left after a restart of the machine
        lab.sh(
            "for one in $(ip -br link | grep -o '^br-[0-9a-f]*'); do ip link delete $one; done
             nft flush ruleset
             rm -rf /run/rbox",
        );
        for name in ["a", "b"] {
            on(&format!(
                "run -d --name on-{name} --network {name} busybox sleep 1000"
            ));
        }
        assert!(pings(&lab, "on-a", "10.1.0.1"), "{firewall}");
        assert!(!pings(&lab, "on-a", "10.2.0.2"), "{firewall}: isolation");
        on("rm -f on-a on-b");
        on("network rm a b");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_do_what_their_options_say() {
    let lab = Lab::with_busybox();
    rbox(
        &lab,
        "network create -o com.docker.network.bridge.name=mine0 -o com.docker.network.driver.mtu=1400 -o com.docker.network.bridge.host_binding_ipv4=127.0.0.1 a",
    );
    wait_on(&lab, "one", "--network a -p 8080:80");
    let mtu = rbox(&lab, "exec one cat /sys/class/net/eth0/mtu");
    assert_eq!(mtu, "1400");
    assert!(lab.sh("ip link show mine0").contains("mtu 1400"));
    assert_eq!(rbox(&lab, "port one 80"), "127.0.0.1:8080");
    lab.rbox([
        "network",
        "create",
        "-o",
        "com.docker.network.bridge.name=rbox0",
        "b",
    ])
    .run()
    .code(1)
    .says("networks have same bridge name");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_made_at_once_have_subnets_of_their_own() {
    let lab = Lab::with_busybox();
    let many: Vec<_> = (0..6)
        .map(|number| {
            let name = format!("n{}", number % 4);
            lab.rbox(["network", "create", &name]).spawn()
        })
        .collect();
    let made = many
        .into_iter()
        .map(lab::Running::finish)
        .filter(|output| output.status.success())
        .count();
    assert_eq!(made, 4);
    let subnets = rbox(
        &lab,
        "network inspect n0 n1 n2 n3 -f {{json(.IPAM.Config)}}",
    );
    let mut subnets: Vec<&str> = subnets.lines().collect();
    subnets.sort_unstable();
    subnets.dedup();
    assert_eq!(subnets.len(), 4);
    // while some start on a network, others try to remove it: it goes, or they run on it
    let starts: Vec<_> = (0..4)
        .map(|number| {
            let name = format!("c{number}");
            lab.rbox([
                "run",
                "-d",
                "--name",
                &name,
                "--network",
                "n0",
                "busybox",
                "sleep",
                "1000",
            ])
            .spawn()
        })
        .collect();
    let removed = lab.rbox(["network", "rm", "n0"]).run().status.success();
    let running = starts
        .into_iter()
        .map(lab::Running::finish)
        .filter(|output| output.status.success())
        .count();
    assert!(
        running == 0 || !removed,
        "{running} run on a removed network"
    );
    let bridges = lab.sh("ip -br link | grep -c ^br-");
    assert_eq!(bridges.trim(), if removed { "3" } else { "4" });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_networks_the_default_bridge_keeps_its_setting() {
    for firewall in ["nft", "iptables"] {
        let lab = Lab::with_busybox();
        let run = |flags: &str, name: &str| {
            let line = "busybox sleep 1000";
            rbox(
                &lab,
                &format!("--firewall {firewall} {flags} run -d --name {name} {line}"),
            )
        };
        run("", "first");
        // from now on containers do not talk, whether or not a command says so again
        run("--icc=false", "one");
        run("", "two");
        assert!(!pings(&lab, "one", "172.17.0.4"), "{firewall}: one → two");
        assert!(!pings(&lab, "two", "172.17.0.3"), "{firewall}: two → one");
        assert!(pings(&lab, "two", "172.17.0.1"), "{firewall}: host");
        let icc = |line: &str| {
            let shown = rbox(&lab, line);
            shown.contains("enable_icc:false")
        };
        assert!(icc("network inspect bridge -f {{.Options}}"), "{firewall}");
        run("--icc=true", "three");
        run("", "four");
        assert!(pings(&lab, "three", "172.17.0.6"), "{firewall}: open again");
        assert!(!icc("network inspect bridge -f {{.Options}}"), "{firewall}");
    }
}

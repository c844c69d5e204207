//! Networks: what a container has of them, whom it reaches, and what is left when it is over.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::net::IpAddr;

use lab::echo::{LOCAL, echoes, lab_with_echo, serve};
use lab::{Lab, eventually};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_network_a_container_has_what_docker_gives() {
    let lab = Lab::with_busybox();
    lab.sh("printf 'search example.org\\nnameserver 127.0.0.53\\nnameserver 192.0.2.53\\noptions ndots:2\\n' > resolv; mount --bind resolv /etc/resolv.conf");
    let output = lab
        .rbox(["run", "--name", "one", "--add-host", "other:192.0.2.9", "busybox", "sh", "-c"])
        .arg("ip -o -4 address show eth0; cat /sys/class/net/eth0/address /sys/class/net/eth0/mtu; ip route; echo --; cat /etc/hosts; echo --; cat /etc/resolv.conf")
        .run()
        .success()
        .text();
    let parts: Vec<&str> = output.split("--\n").collect();
    assert!(
        parts[0].contains("172.17.0.2/16") && parts[0].contains("02:42:ac:11:00:02\n1500"),
        "{output}"
    );
    assert!(
        parts[0].contains("default via 172.17.0.1 dev eth0"),
        "{output}"
    );
    let id = lab.rbox(["inspect", "-f", "{{.Id}}", "one"]).run().text();
    let hosts = format!(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n192.0.2.9\tother\n172.17.0.2\t{}\n",
        &id[..12]
    );
    assert_eq!(parts[1], hosts);
    assert_eq!(
        parts[2],
        "search example.org\nnameserver 192.0.2.53\noptions ndots:2"
    );
    let text = lab
        .rbox([
            "run",
            "--rm",
            "--dns",
            "192.0.2.1",
            "--dns-search",
            "a.b",
            "--dns-option",
            "ndots:3",
            "busybox",
            "cat",
            "/etc/resolv.conf",
        ])
        .run()
        .success()
        .text();
    assert_eq!(text, "search a.b\nnameserver 192.0.2.1\noptions ndots:3");
    // The lowest free address, given back when the container stops.
    let address = |name: &str| {
        lab.rbox(["run", "-d", "--name", name, "busybox", "sleep", "1000"])
            .run()
            .success();
        lab.rbox(["inspect", "-f", "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.Gateway}} {{.NetworkSettings.MacAddress}}", name]).run().text()
    };
    assert_eq!(address("first"), "172.17.0.2 172.17.0.1 02:42:ac:11:00:02");
    assert_eq!(address("second"), "172.17.0.3 172.17.0.1 02:42:ac:11:00:03");
    lab.rbox(["stop", "-t", "0", "first"]).run().success();
    assert_eq!(address("third"), "172.17.0.2 172.17.0.1 02:42:ac:11:00:02");
    lab.rbox(["start", "first"]).run().success();
    assert_eq!(
        lab.rbox(["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "first"])
            .run()
            .text(),
        "172.17.0.4"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_network_containers_reach_the_outside_masqueraded() {
    let (lab, outside) = lab_with_echo();
    let listener = outside.enter(|| std::net::TcpListener::bind("0.0.0.0:7000").unwrap());
    let to = outside.address.to_string();
    let client = lab
        .rbox(["run", "--rm", "busybox", "nc", "-w", "3", &to, "7000"])
        .spawn();
    listener.set_nonblocking(false).unwrap();
    let (_, peer) = listener.accept().unwrap();
    assert_eq!(
        peer.ip(),
        IpAddr::from(outside.lab),
        "the outside sees a container's own address"
    );
    drop(client);
    let output = lab
        .rbox(["run", "--rm", "busybox", "ping", "-c1", "-W2", &to])
        .run();
    assert!(output.status.success(), "{}", output.text());
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_network_modes() {
    let (lab, outside) = lab_with_echo();
    // host: the host's own network, nothing published.
    let output = lab
        .rbox([
            "run",
            "-d",
            "--name",
            "at-host",
            "--network",
            "host",
            "-p",
            "80:80",
            "echo",
        ])
        .run()
        .success();
    assert!(
        output
            .errors()
            .contains("WARNING: Published ports are discarded when using host network mode")
    );
    eventually("the server answers on the host", || {
        echoes(&lab, LOCAL, 2345).is_ok()
    });
    echoes(&outside, outside.lab, 2345).unwrap();
    assert_eq!(lab.rbox(["port", "at-host"]).run().success().text(), "");
    let inspected = lab
        .rbox([
            "inspect",
            "-f",
            "{{.HostConfig.NetworkMode}}|{{.NetworkSettings.IPAddress}}",
            "at-host",
        ])
        .run();
    assert_eq!(inspected.text(), "host|");
    lab.rbox(["rm", "-f", "at-host"]).run().success();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_network_none_and_container() {
    let (lab, _outside) = lab_with_echo();
    // none: a loopback and nothing else.
    let text = lab
        .rbox([
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "ls /sys/class/net; ping -c1 127.0.0.1 > /dev/null && echo up; wc -l < /etc/hosts",
        ])
        .run()
        .success()
        .text();
    assert_eq!(text, "lo\nup\n6");
    // container: the other's network, names included.
    serve(&lab, "server", &["-h", "its-name"]);
    let text = lab
        .rbox([
            "run",
            "--rm",
            "--network",
            "container:server",
            "busybox",
            "sh",
            "-c",
            "hostname; grep -c its-name /etc/hosts; echo hello | nc 127.0.0.1 2345 | head -n1",
        ])
        .run()
        .success()
        .text();
    assert_eq!(text, "its-name\n1\nhello");
    for (options, text) in [
        (
            vec!["--network", "container:nope"],
            "No such container: nope",
        ),
        (vec!["--network", "nope"], "network nope not found"),
        (
            vec!["--network", "container:server", "-p", "1:1"],
            "conflicting options: port publishing and the container type network mode",
        ),
        (
            vec!["--network", "container:server", "-h", "x"],
            "conflicting options: hostname and the network mode",
        ),
        (
            vec!["--network", "container:server", "--dns", "1.1.1.1"],
            "conflicting options: dns and the network mode",
        ),
        (
            vec!["--uts", "host", "-h", "x"],
            "conflicting options: hostname and the UTS mode",
        ),
    ] {
        lab.rbox(["run", "--rm"])
            .args(options)
            .args(["busybox", "true"])
            .run()
            .code(125)
            .says(text);
    }
    lab.rbox(["create", "--name", "stopped", "busybox", "true"])
        .run()
        .success();
    lab.rbox([
        "run",
        "--rm",
        "--network",
        "container:stopped",
        "busybox",
        "true",
    ])
    .run()
    .code(125)
    .says("cannot join network of a non running container");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_network_takes_the_next_subnet_when_its_own_is_taken() {
    let lab = Lab::with_busybox();
    lab.sh(
        "ip link add mine type bridge; ip address add 172.17.5.1/24 dev mine; ip link set mine up",
    );
    let output = lab
        .rbox([
            "run", "--rm", "busybox", "ip", "-o", "-4", "address", "show", "eth0",
        ])
        .run()
        .success();
    assert!(output.text().contains("172.18.0.2/16"), "{}", output.text());
    assert!(
        output.errors().contains("172.17"),
        "the conflict is not named: {}",
        output.errors()
    );
    assert!(lab.sh("ip -4 address show mine").contains("172.17.5.1/24"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_network_changes_no_policy_and_no_foreign_rule() {
    let lab = Lab::with_busybox();
    lab.sh("iptables -P FORWARD DROP; iptables -N MINE; iptables -A MINE -j RETURN; iptables -A FORWARD -p icmp -j MINE; iptables -t nat -A PREROUTING -p tcp --dport 7 -j ACCEPT");
    lab.rbox(["run", "--rm", "-p", "8080:80", "busybox", "true"])
        .run()
        .success();
    let rules = lab.sh("iptables -S; iptables -t nat -S");
    for rule in [
        "-P FORWARD DROP",
        "-A MINE -j RETURN",
        "-A FORWARD -p icmp -j MINE",
        "-A PREROUTING -p tcp -m tcp --dport 7 -j ACCEPT",
    ] {
        assert!(rules.contains(rule), "{rule}\n{rules}");
    }
    assert!(!rules.contains("8080"), "{rules}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_network_of_ones_own_is_not_joined() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "--rm", "--name", "me", "--network", "container:me"])
        .args(["busybox", "true"])
        .run()
        .code(125)
        .says("cannot join own network");
}

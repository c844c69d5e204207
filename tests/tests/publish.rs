//! Published ports: in all of their forms, from everywhere, by both hands of the firewall.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::net::IpAddr;

use lab::echo::{LOCAL, LOCAL6, echoes, echoes_udp, lab_with_echo, serve};
use lab::{Lab, Snapshot, eventually};

/// The address of the bridge on the host.
const GATEWAY: [u8; 4] = [172, 17, 0, 1];

/// From inside of a container: the same question by busybox.
#[track_caller]
fn echoes_inside(lab: &Lab, container: &str, address: &str, port: u16) {
    let script = format!("echo hello | timeout 3 nc {address} {port} | head -n 1");
    let output = lab
        .rbox(["run", "--rm", "--network"])
        .arg(format!("container:{container}"))
        .args(["busybox", "sh", "-c", &script])
        .run();
    assert_eq!(
        output.text(),
        "hello",
        "{container} → {address}:{port}: {}",
        output.errors()
    );
}

/// Everything that must work with one published port, and that nothing is left of it.
fn published_port(hand: Option<&str>) {
    let (lab, outside) = lab_with_echo();
    let firewall: Vec<&str> = hand.map_or(vec![], |name| vec!["--firewall", name]);
    let rbox = |words: &[&str]| lab.rbox(firewall.iter().chain(words)).run();
    rbox(&["run", "--rm", "busybox", "true"]).success();
    let before = Snapshot::take(&lab);
    rbox(&[
        "run",
        "-d",
        "--name",
        "server",
        "-p",
        "2345:2345",
        "-p",
        "2345:2345/udp",
        "echo",
    ])
    .success();
    rbox(&["run", "-d", "--name", "sibling", "busybox", "sleep", "1000"]).success();
    eventually("the server listens", || {
        rbox(&["logs", "server"]).text().contains("listening")
    });
    assert_eq!(
        rbox(&["port", "server"]).success().text(),
        "2345/tcp -> 0.0.0.0:2345\n2345/tcp -> [::]:2345\n2345/udp -> 0.0.0.0:2345\n2345/udp -> [::]:2345"
    );
    let address: IpAddr = rbox(&["inspect", "-f", "{{.NetworkSettings.IPAddress}}", "server"])
        .text()
        .parse()
        .unwrap();
    assert_eq!(address, IpAddr::from([172, 17, 0, 2]));
    // From another host, from this host by every address it has.
    echoes(&outside, outside.lab, 2345).unwrap();
    echoes(&outside, outside.lab6, 2345).unwrap();
    for to in [
        IpAddr::from(LOCAL),
        IpAddr::from(LOCAL6),
        outside.lab.into(),
        GATEWAY.into(),
        address,
    ] {
        echoes(&lab, to, 2345).unwrap();
    }
    // From the container itself and from its sibling, by the host's addresses and directly.
    for from in ["server", "sibling"] {
        for to in [
            outside.lab.to_string(),
            "172.17.0.1".to_owned(),
            address.to_string(),
        ] {
            echoes_inside(&lab, from, &to, 2345);
        }
    }
    echoes_udp(&outside, outside.lab, 2345).unwrap();
    echoes_udp(&outside, outside.lab6, 2345).unwrap();
    for to in [
        IpAddr::from(LOCAL),
        IpAddr::from(LOCAL6),
        outside.lab.into(),
        address,
    ] {
        echoes_udp(&lab, to, 2345).unwrap();
    }
    rbox(&["rm", "-f", "server", "sibling"]).success();
    assert!(echoes(&lab, LOCAL, 2345).is_err());
    assert!(echoes(&outside, outside.lab, 2345).is_err());
    before.nothing_left_in(&lab, "a published port");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_publish_port_is_reached_from_everywhere() {
    published_port(None);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_publish_port_with_iptables() {
    published_port(Some("iptables"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_publish_port_with_nftables() {
    published_port(Some("nft"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_publish_iptables_shows_the_rules_of_docker() {
    let lab = Lab::with_busybox();
    lab.rbox([
        "--firewall",
        "iptables",
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "8080:80",
        "-p",
        "127.0.0.1:8081:81",
    ])
    .args(["busybox", "sleep", "1000"])
    .run()
    .success();
    let rules = lab.sh("iptables -S; iptables -t nat -S");
    for rule in [
        "-A FORWARD -o rbox0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -i rbox0 ! -o rbox0 -j ACCEPT",
        "-A FORWARD -i rbox0 -o rbox0 -j ACCEPT",
        "-A POSTROUTING -s 172.17.0.0/16 ! -o rbox0 -j MASQUERADE",
        "-d 172.17.0.2/32 ! -i rbox0 -o rbox0 -p tcp -m tcp --dport 80",
        "--dport 8080",
        "-j DNAT --to-destination 172.17.0.2:80",
        "-d 127.0.0.1/32",
    ] {
        assert!(rules.contains(rule), "{rule}\nis not among\n{rules}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_publish_forms() {
    let (lab, outside) = lab_with_echo();
    let cases: &[(&[&str], &str)] = &[
        (&["-p", "127.0.0.1:8001:2345"], "2345/tcp -> 127.0.0.1:8001"),
        (&["-p", "[::1]:8002:2345"], "2345/tcp -> [::1]:8002"),
        (&["-p", "0.0.0.0:8003:2345"], "2345/tcp -> 0.0.0.0:8003"),
        (
            &["-p", "8004-8005:9004-9005"],
            "9004/tcp -> 0.0.0.0:8004\n9004/tcp -> [::]:8004\n9005/tcp -> 0.0.0.0:8005\n9005/tcp -> [::]:8005",
        ),
        (
            &["-p", "8006:2345", "-p", "8007:2345"],
            "2345/tcp -> 0.0.0.0:8006\n2345/tcp -> 0.0.0.0:8007\n2345/tcp -> [::]:8006\n2345/tcp -> [::]:8007",
        ),
        (
            &["-p", "8008:53/udp"],
            "53/udp -> 0.0.0.0:8008\n53/udp -> [::]:8008",
        ),
        (
            &["-p", "8010-8012:2345"],
            "2345/tcp -> 0.0.0.0:8010\n2345/tcp -> [::]:8010",
        ),
        (
            &["-p", "published=8013,target=2345"],
            "2345/tcp -> 0.0.0.0:8013\n2345/tcp -> [::]:8013",
        ),
    ];
    for (options, wanted) in cases {
        serve(&lab, "server", options);
        let ports = lab.rbox(["port", "server"]).run().success();
        assert_eq!(ports.text(), *wanted, "{options:?}");
        lab.rbox(["rm", "-f", "server"]).run().success();
    }
    // Only the address that was named answers.
    serve(
        &lab,
        "server",
        &["-p", "127.0.0.1:8001:2345", "-p", "[::1]:8002:2345"],
    );
    echoes(&lab, LOCAL, 8001).unwrap();
    echoes(&lab, LOCAL6, 8002).unwrap();
    assert!(echoes(&outside, outside.lab, 8001).is_err());
    assert!(echoes(&lab, LOCAL6, 8001).is_err());
    assert!(echoes(&lab, LOCAL, 8002).is_err());
    lab.rbox(["rm", "-f", "server"]).run().success();
    // Chosen by the engine, out of the kernel's range, the same number for both families.
    let range = lab.sh("cat /proc/sys/net/ipv4/ip_local_port_range");
    let range: Vec<u16> = range
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    for options in [
        vec!["-P"],
        vec!["-p", "2345"],
        vec!["-p", ":2345"],
        vec!["-p", "0:2345"],
    ] {
        serve(&lab, "server", &options);
        let ports = lab.rbox(["port", "server", "2345"]).run().success().lines();
        let port: u16 = ports[0].strip_prefix("0.0.0.0:").unwrap().parse().unwrap();
        assert!((range[0]..=range[1]).contains(&port), "{port}");
        assert_eq!(ports[1], format!("[::]:{port}"));
        echoes(&outside, outside.lab, port).unwrap();
        lab.rbox(["rm", "-f", "server"]).run().success();
    }
    serve(&lab, "server", &["-p", "8080:2345"]);
    lab.rbox(["port", "server", "81"])
        .run()
        .code(1)
        .says("Error: No public port '81' published for server");
    let ps = lab
        .rbox(["ps", "--format", "{{.Ports}}"])
        .run()
        .success()
        .text();
    assert_eq!(ps, "0.0.0.0:8080->2345/tcp, [::]:8080->2345/tcp");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_publish_conflicts_are_named_and_leave_nothing() {
    let (lab, _) = lab_with_echo();
    serve(
        &lab,
        "server",
        &["-p", "8080:2345", "-p", "127.0.0.1:8081:2345"],
    );
    let taken = lab.enter(|| std::net::TcpListener::bind("0.0.0.0:9999").unwrap());
    let before = Snapshot::take(&lab);
    for (option, text) in [
        (
            "8080:80",
            "Bind for 0.0.0.0:8080 failed: port is already allocated",
        ),
        (
            "127.0.0.1:8081:80",
            "Bind for 127.0.0.1:8081 failed: port is already allocated",
        ),
        ("9999:80", "0.0.0.0:9999: bind: address already in use"),
        (
            "203.0.113.9:8081:80",
            "203.0.113.9:8081: bind: cannot assign requested address",
        ),
    ] {
        lab.rbox([
            "run", "--rm", "-p", "8500:85", "-p", option, "busybox", "true",
        ])
        .run()
        .code(125)
        .says(text);
        before.nothing_left_in(&lab, option);
    }
    // These differ enough.
    lab.rbox([
        "run",
        "--rm",
        "-p",
        "127.0.0.2:8081:80",
        "-p",
        "[::1]:8081:80",
        "-p",
        "127.0.0.1:8081:80/udp",
        "busybox",
        "true",
    ])
    .run()
    .success();
    // Without --rm what failed to start stays as created, as in Docker.
    lab.rbox([
        "run", "--name", "failed", "-p", "8080:80", "busybox", "true",
    ])
    .run()
    .code(125);
    let state = lab
        .rbox([
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.ExitCode}}",
            "failed",
        ])
        .run()
        .success();
    assert_eq!(state.text(), "created 128");
    drop(taken);
    lab.rbox(["rm", "-f", "server"]).run().success();
    lab.rbox(["start", "-a", "failed"]).run().success();
    for (option, text) in [
        (
            "8000-8003:9000-9001",
            "invalid ranges specified for container and host Ports: 9000-9001 and 8000-8003",
        ),
        ("80:80/foo", "invalid proto: foo"),
        ("99999:80", "invalid hostPort: 99999"),
        ("localhost:80:80", "invalid IP address: localhost"),
    ] {
        lab.rbox(["run", "--rm", "-p", option, "busybox", "true"])
            .run()
            .code(125)
            .says(text);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_publish_that_fails_tells_what_was_made() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run -d -p 8080:80 busybox sleep 1000");
    let run = ["run", "-d", "-p", "8080:80", "busybox", "true"];
    let output = lab.rbox(run).run().code(125);
    let id = output.text();
    assert!(output.errors().contains("the container is kept"));
    lab.rbox(["rm", &id]).run().success();
    let run = ["run", "--rm", "-p", "8080:80", "busybox", "true"];
    let output = lab.rbox(run).run().code(125);
    assert_eq!(output.text(), "");
    assert!(!output.errors().contains("is kept"), "{}", output.errors());
    assert_eq!(lab.sh("rbox ps -aq | wc -l"), "1");
}

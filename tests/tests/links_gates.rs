//! Links through a bridge whose containers may not talk: exactly the exposed ports, exactly while
//! both run, with either hand.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod linked;

use lab::{Snapshot, eventually};
use linked::apart::Apart;
use linked::{address, field, hosts, rbox, short_id, wait_in};

fn opens_exposed_ports_alone(hand: &'static str) {
    let host = Apart::new(hand);
    host.serve("src", "");
    host.wait_in("rcv", "--link src:db --link src:again");
    host.wait_in("other", "");
    eventually("the exposed port answers", || host.reaches("rcv", "db", 80));
    assert!(!host.reaches("rcv", "db", 81), "81 is not exposed");
    let source = address(&host.lab, "src");
    assert!(!host.reaches("other", &source, 80), "no link, no way");
    host.lab
        .command("apart")
        .args(["exec", "rcv", "ping", "-c1", "-W1", "db"])
        .run()
        .code(1);
    host.has(&[("rcv", "src")]);
    // One of two links to the same source opens what both do.
    host.run("rm --link rcv/again");
    host.has(&[("rcv", "src")]);
    host.run("rm --link rcv/db");
    host.has(&[]);
    assert!(!host.reaches("rcv", &source, 80));
}

fn follows_both_sides(hand: &'static str) {
    let host = Apart::new(hand);
    host.wait_in("warm", "");
    host.run("rm -f warm");
    let before = Snapshot::take(&host.lab);
    host.serve("src", "");
    host.wait_in("rcv", "--link src:db");
    host.wait_in("two", "--link src:db");
    host.has(&[("rcv", "src"), ("two", "src")]);
    // The source stops first, and comes back elsewhere.
    host.run("stop -t 0 src");
    assert_eq!(host.rules(), Vec::<String>::new());
    host.wait_in("taker", "");
    host.run("start src");
    assert_ne!(address(&host.lab, "src"), "172.17.0.2");
    host.has(&[("rcv", "src"), ("two", "src")]);
    eventually("the exposed port answers", || host.reaches("rcv", "db", 80));
    // A receiver stops, and comes back elsewhere.
    host.run("stop -t 0 rcv");
    host.has(&[("two", "src")]);
    host.wait_in("third", "");
    host.run("start rcv");
    host.has(&[("rcv", "src"), ("two", "src")]);
    // The source is made anew.
    host.run("rm -f src");
    assert_eq!(host.rules(), Vec::<String>::new());
    host.serve("src", "--rm");
    host.has(&[("rcv", "src"), ("two", "src")]);
    host.run("kill src");
    eventually("it is gone", || {
        host.lab
            .rbox(["inspect", "src"])
            .run()
            .code(1)
            .status
            .code()
            == Some(1)
    });
    eventually("its rules are gone", || host.rules().is_empty());
    host.run("rm -f rcv two third taker");
    before.nothing_left_in(&host.lab, "everything was removed");
}

fn a_crash_of_either_side_leaves_nothing(hand: &'static str) {
    let host = Apart::new(hand);
    host.serve("src", "");
    host.wait_in("rcv", "--link src:db");
    host.wait_in("two", "--link src:db");
    let crash = |name: &str| {
        host.lab.sh(&format!(
            "kill -9 $(cut -d' ' -f1 /run/rbox/containers/$(rbox inspect -f '{{{{.Id}}}}' {name})/monitor)"
        ));
        eventually("the crash is seen and cleared up", || {
            rbox(
                &host.lab,
                "ps -a --filter status=exited --format {{.Names}}",
            ) == name
        });
    };
    crash("rcv");
    host.has(&[("two", "src")]);
    host.run("start rcv");
    host.has(&[("rcv", "src"), ("two", "src")]);
    crash("src");
    assert_eq!(host.rules(), Vec::<String>::new());
    host.run("start src");
    host.has(&[("rcv", "src"), ("two", "src")]);
    eventually("the exposed port answers", || host.reaches("rcv", "db", 80));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_nft_open_exposed_ports_alone() {
    opens_exposed_ports_alone("nft");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_iptables_open_exposed_ports_alone() {
    opens_exposed_ports_alone("iptables");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_nft_follow_both_sides() {
    follows_both_sides("nft");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_iptables_follow_both_sides() {
    follows_both_sides("iptables");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_nft_a_crash_leaves_nothing() {
    a_crash_of_either_side_leaves_nothing("nft");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_iptables_a_crash_leaves_nothing() {
    a_crash_of_either_side_leaves_nothing("iptables");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_are_explained() {
    let host = Apart::new("iptables");
    wait_in(&host.lab, "warm", &[], "busybox");
    host.serve("src", "");
    let text = host.run("explain run --link src:db busybox true");
    assert!(
        text.contains("a link opens the source's exposed ports"),
        "{text}"
    );
    let shell = host.run("explain --shell run --link src:db busybox true");
    let rule = "iptables -A DOCKER -s 172.17.0.4/32 -d 172.17.0.3/32 -i rbox0 -o rbox0 -p tcp -m tcp --dport 80 -j ACCEPT";
    assert!(shell.contains(rule), "{shell}");
    assert_eq!(host.rules(), Vec::<String>::new(), "nothing is done");
}

/// Networks are joined and left while both sides run.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_follow_networks_that_are_joined_and_left() {
    let host = Apart::new("nft");
    host.run("network create un");
    host.wait_in("taker", "");
    host.serve("src", "");
    host.wait_in("rcv", "--link src:db");
    let own = short_id(&host.lab, "rcv");
    host.run("network connect un rcv");
    let on_un = field(
        &host.lab,
        "rcv",
        "{{.NetworkSettings.Networks.un.IPAddress}}",
    );
    let source = short_id(&host.lab, "src");
    let lines = |source_at: &str, further: &str| {
        format!("{source_at}\tdb {source} src\n172.17.0.4\t{own}\n{further}")
    };
    let further = format!("{on_un}\t{own}\n");
    assert_eq!(hosts(&host.lab, "rcv"), lines("172.17.0.3", &further));
    // The source leaves the default network, and comes back elsewhere.
    host.run("network disconnect bridge src");
    assert_eq!(host.rules(), Vec::<String>::new());
    host.wait_in("second", "");
    host.run("rm -f taker");
    host.run("network connect bridge src");
    assert_eq!(address(&host.lab, "src"), "172.17.0.2");
    host.has(&[("rcv", "src")]);
    assert_eq!(hosts(&host.lab, "rcv"), lines("172.17.0.2", &further));
    host.run("network disconnect un rcv");
    assert_eq!(hosts(&host.lab, "rcv"), lines("172.17.0.2", ""));
    host.run("network disconnect bridge rcv");
    assert_eq!(host.rules(), Vec::<String>::new());
    host.run("restart -t 0 src");
    assert_eq!(host.rules(), Vec::<String>::new());
}

/// A bridge of both families: a line, and gates, for each.
fn both_families(hand: &'static str) {
    let host = Apart::new(hand);
    host.lab.sh("ip link add rbox0 type bridge
         ip address add 172.17.0.1/16 dev rbox0
         ip address add fd00:17::1/64 dev rbox0 nodad
         ip link set rbox0 up");
    host.serve("src", "");
    host.wait_in("rcv", "--link src:db");
    let place = "{{.NetworkSettings.IPAddress}} {{.NetworkSettings.GlobalIPv6Address}}";
    let both = |name: &str| {
        let text = field(&host.lab, name, place);
        let (v4, v6) = text.split_once(' ').unwrap();
        assert!(v6.starts_with("fd00:17::"), "{text}");
        (v4.to_owned(), v6.to_owned())
    };
    let id = short_id(&host.lab, "src");
    let lines = |(v4, v6): &(String, String)| format!("{v4}\tdb {id} src\n{v6}\tdb {id} src\n");
    let first = both("src");
    assert!(hosts(&host.lab, "rcv").starts_with(&lines(&first)));
    let opened = |to: &str| {
        match hand {
        "iptables" => host.lab.sh(&format!(
            "ip6tables -S DOCKER | grep -c -e '-d {to}/128 -i rbox0 -o rbox0 -p tcp -m tcp --dport 80 -j ACCEPT' || :"
        )),
        _ => host.lab.sh(&format!(
            "nft list set ip6 rbox0 linked | grep -c -e '{to} . tcp . ' || :"
        )),
    }
    };
    assert_eq!(opened(&first.1), "1");
    eventually("the exposed port answers", || {
        host.reaches("rcv", &first.0, 80)
    });
    eventually("and in the second family", || {
        host.reaches("rcv", &first.1, 80)
    });
    assert!(!host.reaches("rcv", &first.1, 81));
    host.run("stop -t 0 src");
    assert_eq!(opened(&first.1), "0");
    host.wait_in("taker", "");
    host.run("start src");
    let second = both("src");
    assert_ne!(first.1, second.1);
    assert!(hosts(&host.lab, "rcv").starts_with(&lines(&second)));
    assert_eq!(opened(&second.1), "1");
    let variables = host.run("exec rcv env");
    assert!(variables.contains(&format!("DB_PORT_80_TCP_ADDR={}\n", second.0)));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_nft_in_both_families() {
    both_families("nft");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_gates_iptables_in_both_families() {
    both_families("iptables");
}

//! Links through a bridge whose containers may not talk: exactly the exposed ports, exactly while
//! both run, with either hand.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod linked;

use lab::{Lab, Snapshot, eventually};
use linked::{address, lab, rbox, wait_in};

/// `rbox` that keeps containers apart, with one of the two hands.
struct Apart {
    lab: Lab,
    hand: &'static str,
}

impl Apart {
    fn new(hand: &'static str) -> Self {
        let lab = lab();
        if hand == "iptables" {
            // what container hosts do anyway: frames of bridges pass iptables
            lab.sh("iptables -S > /dev/null");
        }
        let script = format!("#!/bin/sh\nexec rbox --icc=false --firewall={hand} \"$@\"\n");
        let path = lab.file("bin/apart", script);
        lab.sh(&format!("chmod 755 {path}"));
        Self { lab, hand }
    }

    #[track_caller]
    fn run(&self, line: &str) -> String {
        let words = line.split_whitespace();
        self.lab.command("apart").args(words).run().success().text()
    }

    /// Starts a container that listens on 80 and 81 and answers.
    #[track_caller]
    fn serve(&self, name: &str, options: &str) {
        self.lab
            .command("apart")
            .args(["run", "-d", "--name", name])
            .args(options.split_whitespace())
            .args(["app", "sh", "-c"])
            .arg("for p in 80 81; do nc -ll -p $p -e echo yes & done; wait")
            .run()
            .success();
    }

    fn reaches(&self, from: &str, to: &str, port: u16) -> bool {
        let line = format!("exec {from} nc -w 1 {to} {port}");
        let output = self.lab.command("apart").args(line.split(' ')).run();
        output.text() == "yes"
    }

    /// The rules of links, in pairs of receiver and source; sorted.
    fn rules(&self) -> Vec<String> {
        let text = match self.hand {
            "iptables" => self.lab.sh(
                "iptables -S DOCKER | sed -n 's|^-A DOCKER -s \\([0-9.]*\\)/32 -d \\([0-9.]*\\)/32 -i rbox0 -o rbox0 -p \\([a-z]*\\) -m [a-z]* --\\([sd]\\)port \\([0-9]*\\) -j ACCEPT$|\\1 \\2 \\3 \\4 \\5|p'",
            ),
            _ => self.lab.sh(
                "for set in linked linked_back; do nft list set ip rbox0 $set | tr ',{}' '\\n\\n\\n' | sed -n \"s/^[ \\t]*\\([0-9.]*\\) \\. \\([0-9.]*\\) \\. \\([a-z]*\\) \\. \\([a-z0-9]*\\)[ \\t]*$/\\1 \\2 \\3 $set \\4/p\"; done | sed 's/linked_back/s/; s/linked/d/; s/http$/80/; s/domain$/53/'",
            ),
        };
        let mut rules: Vec<String> = text.lines().map(str::to_owned).collect();
        rules.sort();
        rules
    }

    /// What the links of these pairs of receiver and source open.
    #[track_caller]
    fn wanted(&self, pairs: &[(&str, &str)]) -> Vec<String> {
        let mut rules = Vec::new();
        for (receiver, source) in pairs {
            let (to, from) = (address(&self.lab, source), address(&self.lab, receiver));
            for port in ["tcp 80", "udp 53"] {
                let (protocol, number) = port.split_once(' ').unwrap();
                rules.push(format!("{from} {to} {protocol} d {number}"));
                rules.push(format!("{to} {from} {protocol} s {number}"));
            }
        }
        rules.sort();
        rules
    }

    #[track_caller]
    fn has(&self, pairs: &[(&str, &str)]) {
        assert_eq!(self.rules(), self.wanted(pairs));
    }
}

fn opens_exposed_ports_alone(hand: &'static str) {
    let host = Apart::new(hand);
    host.serve("src", "");
    wait_in_apart(&host, "rcv", "--link src:db --link src:again");
    wait_in_apart(&host, "other", "");
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

#[track_caller]
fn wait_in_apart(host: &Apart, name: &str, options: &str) {
    host.run(&format!(
        "run -d --name {name} {options} busybox sleep 1000"
    ));
}

fn follows_both_sides(hand: &'static str) {
    let host = Apart::new(hand);
    wait_in_apart(&host, "warm", "");
    host.run("rm -f warm");
    let before = Snapshot::take(&host.lab);
    host.serve("src", "");
    wait_in_apart(&host, "rcv", "--link src:db");
    wait_in_apart(&host, "two", "--link src:db");
    host.has(&[("rcv", "src"), ("two", "src")]);
    // The source stops first, and comes back elsewhere.
    host.run("stop -t 0 src");
    assert_eq!(host.rules(), Vec::<String>::new());
    wait_in_apart(&host, "taker", "");
    host.run("start src");
    assert_ne!(address(&host.lab, "src"), "172.17.0.2");
    host.has(&[("rcv", "src"), ("two", "src")]);
    eventually("the exposed port answers", || host.reaches("rcv", "db", 80));
    // A receiver stops, and comes back elsewhere.
    host.run("stop -t 0 rcv");
    host.has(&[("two", "src")]);
    wait_in_apart(&host, "third", "");
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
    Snapshot::take(&host.lab).nothing_left_since(&before, "everything was removed");
}

fn a_crash_of_either_side_leaves_nothing(hand: &'static str) {
    let host = Apart::new(hand);
    host.serve("src", "");
    wait_in_apart(&host, "rcv", "--link src:db");
    wait_in_apart(&host, "two", "--link src:db");
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

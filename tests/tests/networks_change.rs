//! Networks joined and left by containers, running and stopped.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::echo::{echoes, lab_with_echo};
use lab::{Lab, eventually};

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

/// The names of the networks that inspect shows, with their addresses.
fn places(lab: &Lab, name: &str) -> String {
    let format = "{{range $n, $e := .NetworkSettings.Networks}}{{$n}}={{$e.IPAddress}} {{end}}";
    lab.rbox(["inspect", "-f", format, name])
        .run()
        .success()
        .text()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_connect_plugs_a_running_container_in_and_out() {
    for firewall in ["nft", "iptables"] {
        let lab = Lab::with_busybox();
        lab.have_firewall(firewall);
        let before = lab.sh("ip -br link | awk '{print $1}' | sort");
        rbox(&lab, "network create --subnet 10.1.0.0/24 a");
        rbox(&lab, "network create --subnet 10.2.0.0/24 b");
        wait_on(&lab, "other", "--network b");
        wait_on(&lab, "one", "--network a -h me");
        assert!(!pings(&lab, "one", "10.2.0.2"));
        rbox(&lab, "network connect --ip 10.2.0.77 --alias x b one");
        assert_eq!(places(&lab, "one"), "a=10.1.0.2 b=10.2.0.77 ");
        assert!(pings(&lab, "one", "10.2.0.2"));
        assert!(pings(&lab, "other", "10.2.0.77"));
        let hosts = rbox(&lab, "exec one tail -n2 /etc/hosts");
        assert_eq!(hosts, "10.1.0.2\tme\n10.2.0.77\tme");
        let routes = rbox(&lab, "exec one ip route");
        assert_eq!(
            routes.lines().next().unwrap().trim(),
            "default via 10.1.0.1 dev eth0"
        );
        lab.rbox(["network", "connect", "b", "one"])
            .run()
            .code(1)
            .says("endpoint with name one already exists in network b");
        lab.rbox(["network", "rm", "b"]).run().code(1);
        // the way out moves to the network that is left
        rbox(&lab, "network disconnect a one");
        assert_eq!(places(&lab, "one"), "b=10.2.0.77 ");
        let routes = rbox(&lab, "exec one ip route");
        assert_eq!(
            routes.lines().next().unwrap().trim(),
            "default via 10.2.0.1 dev eth1"
        );
        assert_eq!(rbox(&lab, "exec one tail -n1 /etc/hosts"), "10.2.0.77\tme");
        let seen = rbox(&lab, "exec one grep -c me /etc/hosts");
        assert_eq!(seen, "1");
        rbox(&lab, "network rm a");
        rbox(&lab, "network disconnect b one");
        assert_eq!(places(&lab, "one"), "");
        assert_eq!(rbox(&lab, "exec one ls /sys/class/net"), "lo");
        rbox(&lab, "network connect bridge one");
        assert_eq!(places(&lab, "one"), "bridge=172.17.0.2 ");
        // a restart finds what was asked for last
        rbox(&lab, "restart -t 0 one");
        assert_eq!(places(&lab, "one"), "bridge=172.17.0.2 ");
        rbox(&lab, "rm -f one other");
        rbox(&lab, "network rm b");
        eventually("no device is left but the default bridge", || {
            lab.sh("ip -br link | awk '{print $1}' | grep -v rbox0 | sort") == before
        });
        assert!(!lab.sh("iptables-save; nft list ruleset").contains("10.2.0"));
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_connect_of_a_stopped_container_counts_at_its_start() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create --subnet 10.1.0.0/24 a");
    rbox(&lab, "create --name one busybox sleep 1000");
    rbox(&lab, "network connect --ip 10.1.0.9 a one");
    rbox(&lab, "network disconnect bridge one");
    assert_eq!(places(&lab, "one"), "a= ");
    rbox(&lab, "start one");
    assert_eq!(places(&lab, "one"), "a=10.1.0.9 ");
    rbox(&lab, "stop -t 0 one");
    rbox(&lab, "network rm a");
    lab.rbox(["start", "one"])
        .run()
        .code(1)
        .says("network a not found");
    rbox(&lab, "network disconnect a one");
    rbox(&lab, "start one");
    assert_eq!(rbox(&lab, "exec one ls /sys/class/net"), "lo");
    rbox(&lab, "rm -f one");
    for (line, text) in [
        ("connect nope one", "network nope not found"),
        ("connect bridge nope", "No such container: nope"),
        ("disconnect nope nope", "No such container: nope"),
    ] {
        lab.rbox(["network"])
            .args(line.split(' '))
            .run()
            .code(1)
            .says(text);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_connect_moves_published_ports() {
    for firewall in ["nft", "iptables"] {
        let (lab, outside) = lab_with_echo();
        lab.have_firewall(firewall);
        rbox(&lab, "network create --subnet 10.1.0.0/24 a");
        rbox(&lab, "network create --subnet 10.2.0.0/24 b");
        rbox(&lab, "network create --subnet 10.3.0.0/24 --internal in");
        rbox(&lab, "run -d --name one --network in -p 2345:2345 echo");
        assert!(
            echoes(&outside, outside.lab, 2345).is_err(),
            "{firewall}: internal"
        );
        for network in ["a", "b"] {
            rbox(&lab, &format!("network connect {network} one"));
        }
        echoes(&outside, outside.lab, 2345).unwrap();
        let rules = lab.sh("iptables-save -t nat; nft list ruleset");
        assert!(rules.contains("10.1.0.2"), "{rules}");
        rbox(&lab, "network disconnect a one");
        echoes(&outside, outside.lab, 2345).unwrap();
        echoes(&lab, std::net::Ipv4Addr::LOCALHOST, 2345).unwrap();
        let rules = lab.sh("iptables-save -t nat; nft list ruleset");
        assert!(
            !rules.contains("10.1.0.2") && rules.contains("10.2.0.2"),
            "{rules}"
        );
        assert_eq!(rbox(&lab, "port one 2345"), "0.0.0.0:2345\n[::]:2345");
        rbox(&lab, "network disconnect b one");
        assert!(
            echoes(&outside, outside.lab, 2345).is_err(),
            "{firewall}: closed"
        );
        assert_eq!(rbox(&lab, "port one"), "");
        rbox(&lab, "network connect b one");
        echoes(&outside, outside.lab, 2345).unwrap();
        rbox(&lab, "rm -f one");
        rbox(&lab, "network rm a b in");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_connect_is_undone_when_the_monitor_is_killed() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create --subnet 10.1.0.0/24 a");
    let before = lab.sh("ip -br link | awk '{print $1}' | sort");
    wait_on(&lab, "one", "--network a");
    rbox(&lab, "network create --subnet 10.2.0.0/24 b");
    rbox(&lab, "network connect b one");
    let id = rbox(&lab, "inspect -f {{.Id}} one");
    lab.sh(&format!(
        "kill -9 $(cut -d' ' -f1 /run/rbox/containers/{id}/monitor)"
    ));
    eventually("the container is gone", || rbox(&lab, "ps -q").is_empty());
    rbox(&lab, "network rm b");
    assert_eq!(lab.sh("ip -br link | awk '{print $1}' | sort"), before);
    rbox(&lab, "network disconnect b one");
    rbox(&lab, "start one");
    assert_eq!(places(&lab, "one"), "a=10.1.0.2 ");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_connect_a_hundred_times_leaves_nothing() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create --subnet 10.1.0.0/24 a");
    rbox(&lab, "network create --subnet 10.2.0.0/24 b");
    wait_on(&lab, "one", "--network a -p 8080:80");
    let id = rbox(&lab, "inspect -f {{.Id}} one");
    let state = || {
        lab.sh(&format!(
            "find /run/rbox/networks /run/rbox/names /run/rbox/ports -type l | sort
             nft list ruleset
             cat /run/rbox/containers/{id}/plan.json | wc -c
             ls /proc/$(cut -d' ' -f1 /run/rbox/containers/{id}/monitor)/fd | wc -l"
        ))
    };
    // the first time opens what stays open
    rbox(&lab, "network connect b one");
    rbox(&lab, "network disconnect b one");
    let before = state();
    for _ in 0..50 {
        rbox(&lab, "network connect --alias x b one");
        rbox(&lab, "network disconnect b one");
    }
    assert_eq!(state(), before);
    assert_eq!(places(&lab, "one"), "a=10.1.0.2 ");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_connect_of_a_container_that_was_on_none() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create --subnet 10.1.0.0/24 un");
    rbox(&lab, "network create --ipv6 --subnet fd00:5::/64 six");
    wait_on(&lab, "one", "--network none -p 8080:80");
    let output = lab.rbox(["network", "connect", "un", "one"]).run().code(1);
    let errors = output.errors();
    assert!(
        errors.contains("one of the networks in private (none) mode")
            && errors.contains("rbox network disconnect none one"),
        "{errors}"
    );
    rbox(&lab, "network disconnect none one");
    assert_eq!(places(&lab, "one"), "");
    rbox(&lab, "network connect un one");
    rbox(&lab, "network connect six one");
    assert_eq!(
        rbox(&lab, "port one"),
        "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080"
    );
    rbox(&lab, "exec one ping -c1 -W5 10.1.0.1");
    rbox(&lab, "exec one ping -c1 -W5 fd00:5::1");
    // it stays so
    rbox(&lab, "restart -t 0 one");
    assert!(places(&lab, "one").contains("un=10.1.0.2"));
    rbox(&lab, "exec one ping -c1 -W5 fd00:5::1");
    // a stopped one
    rbox(&lab, "create --name two --network none busybox true");
    rbox(&lab, "network disconnect none two");
    rbox(&lab, "network connect un two");
    rbox(&lab, "start -a two");
    let errors = lab.rbox(["network", "disconnect", "none", "two"]).run();
    let errors = errors.code(1).errors();
    assert!(
        errors.contains("is not connected to network none"),
        "{errors}"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_connect_gives_interfaces_the_names_of_the_network() {
    let lab = Lab::with_busybox();
    let option = "com.docker.network.container_iface_prefix";
    rbox(&lab, &format!("network create -o {option}=lan un"));
    rbox(&lab, &format!("network create -o {option}=lan deux"));
    wait_on(&lab, "one", "--network un --network deux");
    rbox(&lab, "network connect bridge one");
    assert_eq!(
        rbox(&lab, "exec one ls /sys/class/net"),
        "eth0\nlan0\nlan1\nlo"
    );
    rbox(&lab, "network disconnect un one");
    assert_eq!(rbox(&lab, "exec one ls /sys/class/net"), "eth0\nlan1\nlo");
    let output = lab.rbox(["network", "create", "-o", &format!("{option}=a/b"), "bad"]);
    output.run().code(1);
    let unknown = "com.docker.network.host_ipv4=192.0.2.9";
    let output = lab.rbox(["network", "create", "-o", unknown, "bad"]).run();
    let errors = output.code(1).errors();
    assert!(errors.contains("is not supported"), "{errors}");
}

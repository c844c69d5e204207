//! Networks on a wire of the host's.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

/// Runs `rbox` and gives what it wrote.
fn rbox(lab: &Lab, line: &str) -> String {
    lab.rbox(line.split_whitespace()).run().success().text()
}

/// A lab with the device `lan0`, at whose other end a neighbour has 192.168.77.1.
fn lab_with_wire() -> Lab {
    let lab = Lab::with_busybox();
    lab.sh("ip netns add neighbour
         ip link add lan0 type veth peer name eth0 netns neighbour
         ip link set lan0 up
         ip -n neighbour address add 192.168.77.1/24 dev eth0
         ip -n neighbour address add fd00:77::1/64 dev eth0 nodad
         ip -n neighbour link set eth0 up
         ip -n neighbour link set lo up");
    lab
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_wire_macvlan_puts_containers_beside_the_host() {
    let lab = lab_with_wire();
    rbox(
        &lab,
        "network create -d macvlan --ipv6 --subnet 192.168.77.0/24 --ip-range 192.168.77.128/25 --subnet fd00:77::/64 -o parent=lan0 lan",
    );
    rbox(&lab, "network create --subnet 10.1.0.0/24 a");
    rbox(
        &lab,
        "run -d --name one --network lan --ip6 fd00:77::9 busybox sleep 1000",
    );
    rbox(&lab, "run -d --name two --network a busybox sleep 1000");
    let routes = rbox(&lab, "exec one ip route");
    assert!(
        routes.contains("default via 192.168.77.1 dev eth0"),
        "{routes}"
    );
    let mac = rbox(&lab, "exec one cat /sys/class/net/eth0/address");
    assert_eq!(mac, "02:42:c0:a8:4d:80");
    for line in [
        "exec one ping -c1 -W2 192.168.77.1",
        "exec one ping6 -c1 -W2 fd00:77::1",
    ] {
        rbox(&lab, line);
    }
    lab.sh("ip netns exec neighbour busybox ping -c1 -W2 192.168.77.128");
    lab.sh("ip netns exec neighbour busybox ping6 -c1 -W2 fd00:77::9");
    // plugged in and out while it runs
    rbox(&lab, "network connect --ip 192.168.77.200 lan two");
    rbox(&lab, "exec two ping -c1 -W2 192.168.77.128");
    rbox(&lab, "network disconnect lan two");
    assert_eq!(rbox(&lab, "exec two ls /sys/class/net"), "eth0\nlo");
    let driver = rbox(&lab, "network ls -f driver=macvlan --format {{.Name}}");
    assert_eq!(driver, "lan");
    rbox(&lab, "rm -f one two");
    eventually("the wire is free", || {
        lab.sh("ip -d link show type macvlan").is_empty()
    });
    rbox(&lab, "network rm lan a");
    assert!(lab.sh("ip link").contains("lan0"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_wire_refusals() {
    let lab = lab_with_wire();
    rbox(
        &lab,
        "network create -d macvlan --subnet 192.168.77.0/24 -o parent=lan0 lan",
    );
    for (options, text) in [
        ("-d macvlan", "a macvlan network needs a device of the host"),
        (
            "-d ipvlan -o parent=nope",
            "there is no device \"nope\" on this host",
        ),
        (
            "-d ipvlan -o parent=lan0",
            "is already using parent interface lan0",
        ),
        (
            "-d macvlan -o parent=lo -o macvlan_mode=l2",
            "failed to parse macvlan_mode value: l2 (invalid value)",
        ),
        (
            "-d macvlan -o parent=lo --internal",
            "a macvlan network cannot be internal: its wire leads outside",
        ),
    ] {
        lab.rbox(["network", "create"])
            .args(options.split(' '))
            .arg("x")
            .run()
            .code(1)
            .says(text);
    }
    // the wire goes, the network stays; who starts on it or joins it is told
    lab.sh("ip link delete lan0");
    rbox(&lab, "run -d --name one busybox sleep 1000");
    lab.rbox(["network", "connect", "lan", "one"])
        .run()
        .code(1)
        .says("there is no device \"lan0\" on this host");
    assert_eq!(rbox(&lab, "exec one ls /sys/class/net"), "eth0\nlo");
    assert_eq!(lab.sh("ls /run/rbox/networks/lan"), "");
    assert_eq!(rbox(&lab, "ps --format {{.Networks}}"), "bridge");
    lab.rbox(["run", "--rm", "--network", "lan", "busybox", "true"])
        .run()
        .code(125)
        .says("there is no device \"lan0\" on this host");
    rbox(&lab, "network rm lan");
}

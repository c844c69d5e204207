//! What a container's place on a network can be asked to be like: reserved and further addresses,
//! the way out, options; and networks that are made from a configuration.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;
use lab::echo::{echoes, lab_with_echo};
use serde_json::{Value, json};

/// Runs `rbox` and gives what it wrote.
fn rbox(lab: &Lab, line: &str) -> String {
    lab.rbox(line.split_whitespace()).run().success().text()
}

/// What `rbox` says when it refuses.
fn refused(lab: &Lab, line: &str, code: i32) -> String {
    let output = lab.rbox(line.split_whitespace()).run();
    output.code(code).errors()
}

/// A container that waits on a network.
fn wait_on(lab: &Lab, name: &str, options: &str) {
    rbox(
        lab,
        &format!("run -d --name {name} {options} busybox sleep 1000"),
    );
}

fn network(lab: &Lab, name: &str) -> Value {
    let documents = lab.rbox(["network", "inspect", name]).run().success();
    documents.json()[0].clone()
}

fn place(lab: &Lab, name: &str, network: &str) -> Value {
    let documents = lab.rbox(["inspect", name]).run().success().json();
    documents[0]["NetworkSettings"]["Networks"][network].clone()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_places_reserved_addresses_are_nobodys() {
    let lab = Lab::with_busybox();
    rbox(
        &lab,
        "network create --subnet 10.1.0.0/16 --ip-range 10.1.5.0/29 --aux-address host=10.1.5.0 \
         --aux-address printer=10.1.5.2 --aux-address DefaultGatewayIPv4=10.1.0.254 un",
    );
    assert_eq!(
        network(&lab, "un")["IPAM"]["Config"],
        json!([{
            "Subnet": "10.1.0.0/16",
            "IPRange": "10.1.5.0/29",
            "AuxiliaryAddresses": {
                "DefaultGatewayIPv4": "10.1.0.254",
                "host": "10.1.5.0",
                "printer": "10.1.5.2",
            },
        }])
    );
    for (name, address) in [("one", "10.1.5.1"), ("two", "10.1.5.3")] {
        wait_on(&lab, name, "--network un");
        assert_eq!(place(&lab, name, "un")["IPAddress"], address);
    }
    assert_eq!(place(&lab, "one", "un")["Gateway"], "10.1.0.254");
    let routes = rbox(&lab, "exec one ip route show default");
    assert!(routes.starts_with("default via 10.1.0.254 "), "{routes}");
    let errors = refused(
        &lab,
        "run --rm --network un --ip 10.1.5.2 busybox true",
        125,
    );
    assert!(errors.contains("Address already in use"), "{errors}");
    // the range's other four, then nothing
    for name in ["n4", "n5", "n6", "n7"] {
        wait_on(&lab, name, "--network un");
    }
    let errors = refused(&lab, "run --rm --network un busybox true", 125);
    let id = rbox(&lab, "network inspect -f {{.Id}} un");
    let text = format!("no available IPv4 addresses on this network's address pools: un ({id})");
    assert!(errors.contains(&text), "{errors}");
    for (line, text) in [
        (
            "network create --aux-address a=10.9.0.2 x",
            "no matching subnet for aux-address 10.9.0.2",
        ),
        (
            "network create --subnet 10.9.0.0/24 --aux-address a=10.9.0.1 x",
            "failed to allocate secondary ip address (a:10.9.0.1): Address already in use",
        ),
    ] {
        let errors = refused(&lab, line, 1);
        assert!(errors.contains(text), "{errors}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_places_have_link_local_addresses() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create --subnet 10.1.0.0/16 un");
    rbox(&lab, "network create --ipv6 --subnet fd00:9::/64 six");
    wait_on(&lab, "one", "--network un --link-local-ip 169.254.1.5");
    wait_on(&lab, "two", "--network name=un,link-local-ip=169.254.1.6");
    rbox(&lab, "exec one ping -c1 -W5 169.254.1.6");
    assert_eq!(
        place(&lab, "one", "un")["IPAMConfig"],
        json!({"LinkLocalIPs": ["169.254.1.5"]})
    );
    rbox(
        &lab,
        "network connect --link-local-ip fe80::99 --link-local-ip 169.254.2.2 six one",
    );
    let addresses = rbox(&lab, "exec one ip -o addr show eth1");
    for address in ["inet 169.254.2.2/16", "inet6 fe80::99/64"] {
        assert!(addresses.contains(address), "{addresses}");
    }
    // on the default network too, and after another start
    wait_on(&lab, "plain", "--link-local-ip 169.254.9.9");
    rbox(&lab, "restart -t 0 plain");
    let addresses = rbox(&lab, "exec plain ip -o addr show eth0");
    assert!(addresses.contains("inet 169.254.9.9/16"), "{addresses}");
    for (line, text) in [
        (
            "run --rm --network un --link-local-ip 1.2.3.4 busybox true",
            "invalid link local IP address: 1.2.3.4",
        ),
        (
            "run --rm --network un --link-local-ip foo busybox true",
            "Invalid link-local IP address: [foo]",
        ),
        (
            "run --rm --network un --link-local-ip fe80::9 busybox true",
            "network un has no IPv6",
        ),
        (
            "run --rm --network name=un,link-local-ip=169.254.1.9 --link-local-ip 169.254.1.9 busybox true",
            "conflicting options: cannot specify both --link-local-ip and per-network link-local IP addresses",
        ),
    ] {
        let errors = refused(&lab, line, 125);
        assert!(errors.contains(text), "{errors}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_places_have_options_that_inspect_shows() {
    let lab = Lab::with_busybox();
    for name in ["un", "deux"] {
        rbox(&lab, &format!("network create {name}"));
    }
    wait_on(&lab, "one", "--network name=un,driver-opt=A.b=C");
    assert_eq!(place(&lab, "one", "un")["DriverOpts"], json!({"a.b": "C"}));
    rbox(
        &lab,
        "network connect --driver-opt x=y --driver-opt z= deux one",
    );
    assert_eq!(
        place(&lab, "one", "deux")["DriverOpts"],
        json!({"x": "y", "z": ""})
    );
    rbox(&lab, "stop -t 0 one");
    assert_eq!(
        place(&lab, "one", "deux")["DriverOpts"],
        json!({"x": "y", "z": ""})
    );
    let errors = refused(&lab, "network connect --driver-opt a bridge one", 1);
    assert!(
        errors.contains("invalid key/value pair format in driver options"),
        "{errors}"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_places_with_the_highest_priority_are_the_way_out() {
    for firewall in ["nft", "iptables"] {
        let (lab, outside) = lab_with_echo();
        lab.have_firewall(firewall);
        rbox(
            &lab,
            "network create --subnet 10.1.0.0/24 -o com.docker.network.bridge.enable_icc=false aa",
        );
        rbox(&lab, "network create --subnet 10.2.0.0/24 bb");
        rbox(&lab, "network create --subnet 10.3.0.0/24 cc");
        rbox(&lab, "network create --subnet 10.4.0.0/24 --internal in");
        rbox(
            &lab,
            "run -d --name one --network aa --network name=bb,gw-priority=1 -p 2345:2345 echo",
        );
        let routes = || {
            lab.sh("nsenter --net=/proc/$(rbox inspect -f '{{.State.Pid}}' one)/ns/net ip route show default")
        };
        let leads = |gateway: &str| {
            let routes = routes();
            let wanted = format!("default via {gateway} ");
            assert!(routes.starts_with(&wanted), "{firewall}: {routes}");
            echoes(&outside, outside.lab, 2345).unwrap();
            echoes(&lab, std::net::Ipv4Addr::LOCALHOST, 2345).unwrap();
            let rules = lab.sh("iptables-save -t nat; nft list ruleset");
            for other in ["10.1.0.2", "10.2.0.2", "10.3.0.2"] {
                let here = other.rsplit_once('.').unwrap().0 == gateway.rsplit_once('.').unwrap().0;
                assert_eq!(rules.contains(other), here, "{firewall}: {rules}");
            }
        };
        leads("10.2.0.1");
        // one that is as good changes nothing, a better one does, and a worse one takes over when
        // that goes
        rbox(&lab, "network connect --gw-priority 1 cc one");
        leads("10.2.0.1");
        rbox(&lab, "network disconnect cc one");
        rbox(&lab, "network connect --gw-priority 2 cc one");
        leads("10.3.0.1");
        rbox(&lab, "network connect --gw-priority 9 in one");
        leads("10.3.0.1");
        rbox(&lab, "restart -t 0 one");
        leads("10.3.0.1");
        rbox(&lab, "network disconnect cc one");
        leads("10.2.0.1");
        rbox(&lab, "network disconnect bb one");
        leads("10.1.0.1");
        // the closed bridge stays closed while what is published moves away from it
        rbox(&lab, "network connect --gw-priority 5 bb one");
        leads("10.2.0.1");
        rbox(&lab, "run -d --name two --network aa echo");
        let address = place(&lab, "two", "aa")["IPAddress"]
            .as_str()
            .unwrap()
            .to_owned();
        let inside =
            "nsenter --net=/proc/$(rbox inspect -f '{{.State.Pid}}' one)/ns/net ping -c1 -W1";
        let reached = lab
            .command("sh")
            .args(["-c", &format!("{inside} {address}")]);
        assert!(!reached.run().status.success(), "{firewall}: icc is off");
        rbox(&lab, "rm -f one two");
        rbox(&lab, "network rm aa bb cc in");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_places_on_networks_that_are_made_from_a_configuration() {
    let lab = Lab::with_busybox();
    rbox(
        &lab,
        "network create --config-only --subnet 10.5.0.0/16 --ip-range 10.5.7.0/24 --label a=b \
         -o com.docker.network.bridge.name=brx --ipam-opt c=d conf",
    );
    let document = network(&lab, "conf");
    assert_eq!(document["Driver"], "null");
    assert_eq!(document["ConfigOnly"], true);
    assert!(!lab.sh("ip -br link").contains("brx"));
    rbox(&lab, "network create --config-from conf un");
    let document = network(&lab, "un");
    assert_eq!(document["ConfigFrom"], json!({"Network": "conf"}));
    assert_eq!(document["ConfigOnly"], false);
    assert_eq!(document["Labels"], json!({"a": "b"}));
    assert_eq!(
        document["IPAM"],
        json!({
            "Driver": "default",
            "Options": {"c": "d"},
            "Config": [{"Subnet": "10.5.0.0/16", "IPRange": "10.5.7.0/24"}],
        })
    );
    assert!(lab.sh("ip -br link").contains("brx"));
    wait_on(&lab, "one", "--network un");
    assert_eq!(place(&lab, "one", "un")["IPAddress"], "10.5.7.0");
    let errors = refused(&lab, "run --rm --network conf busybox true", 125);
    assert!(
        errors.contains("cannot create endpoint on configuration-only network"),
        "{errors}"
    );
    let errors = refused(&lab, "network rm conf", 1);
    let text = "error while removing network: configuration network \"conf\" is in use";
    assert!(errors.contains(text), "{errors}");
    // pruning takes what is unused, and a configuration is used by being there
    rbox(&lab, "rm -f one");
    assert_eq!(rbox(&lab, "network prune -f"), "Deleted Networks:\nun");
    assert_eq!(rbox(&lab, "network rm conf"), "conf");
}

//! Links when many things happen at once, and when something dies at the worst moment.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod linked;

use std::time::Duration;

use linked::apart::Apart;
use linked::{address, hosts, short_id};

/// The fault points of starting a container with a link, and of ending it.
fn points(host: &Apart) -> Vec<String> {
    let list = host.lab.directory().join("points").display().to_string();
    let fault = format!("*:any:list:{list}");
    let line = "run -d --name rcv --link src:db busybox sleep 1000";
    for line in [line, "stop -t 0 rcv", "rm rcv"] {
        host.lab
            .command("apart")
            .args(line.split(' '))
            .env("RBOX_FAULT", &fault)
            .run()
            .success();
    }
    let text = host.lab.read(&list).unwrap();
    let mut points: Vec<String> = text.lines().map(str::to_owned).collect();
    points.sort();
    points.dedup();
    points
}

/// Whatever dies while a receiver starts or ends, what is open is what the running pairs need.
fn every_fault(hand: &'static str, action: &str) {
    let host = Apart::new(hand);
    host.serve("src", "");
    host.wait_in("two", "--link src:db");
    let points = points(&host);
    assert!(
        points.iter().any(|point| point.starts_with("links")),
        "{points:?}"
    );
    for point in points {
        let fault = format!("{point}:{action}");
        for line in [
            "run -d --name rcv --link src:db busybox sleep 1000",
            "stop -t 0 rcv",
            "rm -f rcv",
        ] {
            host.lab
                .command("apart")
                .args(line.split(' '))
                .env("RBOX_FAULT", &fault)
                .limit(Duration::from_secs(20))
                .run();
            host.settles(&[("rcv", "src"), ("two", "src")]);
        }
        host.lab.sh("rbox rm -f rcv > /dev/null 2>&1 || :");
        host.settles(&[("two", "src")]);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft_a_receivers_monitor_is_killed() {
    every_fault("nft", "kill");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft_a_receivers_step_fails() {
    every_fault("nft", "error");
}

/// A source that dies at any moment of its own restart.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft_a_source_is_killed_at_random_moments() {
    let host = Apart::new("nft");
    host.serve("src", "");
    host.wait_in("rcv", "--link src:db");
    host.wait_in("two", "--link src:db");
    let id = host.run("inspect -f {{.Id}} src");
    for pause in 0..24 {
        host.lab.sh(&format!(
            "apart restart -t 0 src > /dev/null 2>&1 & command=$!
             sleep 0.{:03}
             kill -9 $command $(cut -d' ' -f1 /run/rbox/containers/{id}/monitor 2> /dev/null) 2> /dev/null || :
             wait",
            pause * 4
        ));
        host.settles(&[("rcv", "src"), ("two", "src")]);
    }
    host.lab.sh("apart start src > /dev/null 2>&1 || :");
    host.settles(&[("rcv", "src"), ("two", "src")]);
    let line = format!("{}\tdb ", address(&host.lab, "src"));
    assert!(hosts(&host.lab, "rcv").starts_with(&line));
}

/// Containers that are all linked to those before them start and stop at once, in no order.
fn storm(hand: &'static str) {
    let host = Apart::new(hand);
    let names: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        let links: Vec<String> = names[..number]
            .iter()
            .map(|source| format!("--link {source}"))
            .collect();
        host.run(&format!(
            "run -d --name {name} {} app sleep 1000",
            links.join(" ")
        ));
        pairs.extend(
            names[..number]
                .iter()
                .map(|source| (name.as_str(), source.as_str())),
        );
    }
    host.settles(&pairs);
    for seed in 1..5 {
        // Four at once walk through all containers in steps of their own.
        let walks: String = (0..4)
            .map(|walk| {
                let list: Vec<String> = (0..6)
                    .map(|step| format!("c{}", (step * (2 * walk + seed) + walk) % 6))
                    .collect();
                format!(
                    "(for c in {}; do apart stop -t 0 $c; apart start $c; done) > /dev/null 2>&1 &\n",
                    list.join(" ")
                )
            })
            .collect();
        host.lab.sh(&format!(
            "{walks}
             (apart rename c0 x0; apart rename x0 c0) > /dev/null 2>&1 &
             wait"
        ));
        host.settles(&pairs);
    }
    for name in &names {
        host.lab.sh(&format!("apart start {name} > /dev/null"));
    }
    host.settles(&pairs);
    for (number, name) in names.iter().enumerate() {
        let mut want = String::new();
        for source in &names[..number] {
            let place = (address(&host.lab, source), short_id(&host.lab, source));
            want.push_str(&format!("{}\t{source} {}\n", place.0, place.1));
        }
        let found = hosts(&host.lab, name);
        assert!(
            found.starts_with(&want),
            "{name}:\n{found}\nwanted:\n{want}"
        );
        assert_eq!(found.lines().count(), number + 1, "{name}:\n{found}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft() {
    storm("nft");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_iptables() {
    storm("iptables");
}

//! Links when many things happen at once, and when something dies at the worst moment.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod linked;

use std::time::Duration;

use linked::apart::Apart;
use linked::{address, hosts, short_id};

/// What a receiver does in its life, and a source in the middle of its.
const RECEIVER: [&str; 3] = [
    "run -d --name rcv --link src:db busybox sleep 1000",
    "stop -t 0 rcv",
    "rm -f rcv",
];
const SOURCE: [&str; 3] = ["stop -t 0 src", "start src", "restart -t 0 src"];

/// Where something happens that the other side may see.
const POINTS: [&str; 7] = [
    "links",
    "spawn",
    "firewall-open",
    "run-record",
    "exit-record",
    "exit-release",
    "exit-undo",
];

/// Runs lines with a fault armed in the commands and in the monitors that they start.
fn with_fault(host: &Apart, fault: &str, line: &str) -> lab::Output {
    let command = host.lab.command("apart").args(line.split(' '));
    command
        .env("RBOX_FAULT", fault)
        .limit(Duration::from_secs(20))
        .run()
}

/// The fault points that these lines pass.
fn points(host: &Apart, lines: &[&str]) -> Vec<String> {
    let list = host.lab.directory().join("points").display().to_string();
    let fault = format!("*:any:list:{list}");
    for line in lines {
        with_fault(host, &fault, line).success();
    }
    let text = host.lab.read(&list).unwrap();
    let mut points: Vec<String> = text.lines().map(str::to_owned).collect();
    points.sort();
    points.dedup();
    points.retain(|point| POINTS.iter().any(|name| point.starts_with(name)));
    points
}

/// Whatever fails or dies on the way, what is open is what the running pairs need.
fn every_fault(lines: &[&str], action: &str) {
    let host = Apart::new("nft");
    host.serve("src", "");
    host.run("run -d --name two --link src:db app sleep 1000");
    host.wait_in("too", "--link src:db --link two:x");
    let pairs = [
        ("rcv", "src"),
        ("two", "src"),
        ("too", "src"),
        ("too", "two"),
    ];
    let points = points(&host, lines);
    assert!(points.len() > 5, "{points:?}");
    for point in points {
        for line in lines {
            with_fault(&host, &format!("{point}:{action}"), line);
            host.settles(&pairs);
        }
        host.lab.sh("rbox rm -f rcv > /dev/null 2>&1 || :
             for name in src two too; do apart start $name > /dev/null 2>&1 || :; done");
        host.settles(&pairs);
        let line = format!("{}\tdb ", address(&host.lab, "src"));
        for name in ["two", "too"] {
            assert!(hosts(&host.lab, name).starts_with(&line), "{point} {name}");
        }
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft_a_receivers_monitor_is_killed() {
    every_fault(&RECEIVER, "kill");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft_a_sources_monitor_is_killed() {
    every_fault(&SOURCE, "kill");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft_a_sources_step_fails() {
    every_fault(&SOURCE, "error");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_storm_nft_a_receivers_step_fails() {
    every_fault(&RECEIVER, "error");
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

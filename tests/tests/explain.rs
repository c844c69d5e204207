//! `rbox explain`: what is told is what is done, and nothing is done by telling.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;

use lab::{Lab, Snapshot};
use serde_json::Value;

/// Steps whose time nobody tells: the child's last words come before them, and what the monitor
/// does beside the child counts as its birth.
const UNTIMED: [&str; 5] = [
    "child/seccomp",
    "child/credentials",
    "child/exec",
    "monitor/cgroup-limits",
    "monitor/cgroup-devices",
];

/// Steps as `lane/name`.
type Steps = BTreeSet<String>;

fn explained(lab: &Lab, options: &[&str]) -> Steps {
    let output = lab
        .rbox(["explain", "--json", "run", "--rm"])
        .args(options)
        .args(["busybox", "true"])
        .run()
        .success();
    let steps = output.json();
    let steps = steps.as_array().unwrap();
    assert!(steps.len() > 10, "{}", output.text());
    for step in steps {
        assert_ne!(step["What"], "", "{step}");
        assert_ne!(step["Why"], "", "{step}");
    }
    let name = |step: &Value| {
        format!(
            "{}/{}",
            step["Lane"].as_str().unwrap(),
            step["Step"].as_str().unwrap()
        )
    };
    steps.iter().map(name).collect()
}

fn done(lab: &Lab, options: &[&str]) -> Steps {
    let path = lab.file("timings", "");
    lab.rbox(["run", "--rm"])
        .args(options)
        .args(["busybox", "true"])
        .env("RBOX_TIMINGS", &path)
        .run()
        .success();
    let text = std::fs::read_to_string(lab.directory().join("timings")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|step| {
            format!(
                "{}/{}",
                step["lane"].as_str().unwrap(),
                step["step"].as_str().unwrap()
            )
        })
        .collect()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_explain_tells_what_run_does() {
    let lab = Lab::with_busybox();
    for options in [
        &["--network", "none"][..],
        &["--network", "host", "--init"],
        &["-m", "64m", "--read-only", "--tmpfs", "/run", "-u", "user"],
        &["-p", "8080:80", "-v", "/tmp:/here:ro", "--pids-limit", "20"],
    ] {
        let told = explained(&lab, options);
        let done = done(&lab, options);
        let missing: Vec<_> = told
            .iter()
            .filter(|step| !UNTIMED.contains(&step.as_str()) && !done.contains(*step))
            .collect();
        assert!(
            missing.is_empty(),
            "{options:?}: told, not done: {missing:?}\ndone: {done:?}"
        );
        let silent: Vec<_> = done
            .iter()
            .filter(|step| step.starts_with("child/") && !told.contains(*step))
            .collect();
        assert!(silent.is_empty(), "{options:?}: done, not told: {silent:?}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_explain_does_nothing() {
    let lab = Lab::with_busybox();
    // the network's id is chosen once and stays
    lab.rbox(["run", "--rm", "-p", "8080:80", "busybox", "true"])
        .run()
        .success();
    let before = Snapshot::take(&lab);
    let output = lab
        .rbox([
            "explain", "run", "-p", "8080:80", "--name", "web", "busybox", "true",
        ])
        .run()
        .success();
    assert!(output.text().contains("0.0.0.0-8080"), "{}", output.text());
    before.nothing_left_in(&lab, "an explanation");
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
    // what run would refuse is refused
    lab.rbox(["explain", "run", "nope"])
        .run()
        .code(1)
        .says("No such image: nope:latest");
    let server = lab.rbox(["run", "-d", "-p", "8080:80", "busybox", "sleep", "100"]);
    server.run().success();
    lab.rbox(["explain", "run", "-p", "8080:80", "busybox", "true"])
        .run()
        .code(1)
        .says("port is already allocated");
    lab.sh("rbox rm -f $(rbox ps -aq)");
}

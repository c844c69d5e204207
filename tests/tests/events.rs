//! `rbox events`: what happened, in Docker's order and Docker's words.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_events_of_a_life() {
    let lab = Lab::with_busybox();
    let run = [
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "-v",
        "data:/d",
        "-l",
        "tier=front",
    ];
    lab.rbox(run).args(["busybox", "true"]).run().success();
    lab.sh("rbox cp box:/etc/passwd /var/tmp/p; rbox commit box made; rbox rename box new; rbox rm new");
    let told = |words: &[&str]| {
        let events = lab.rbox(["events", "--since", "1h", "--until", "0s"]);
        events.args(words).run().success().lines()
    };
    let format = ["--format", "{{.Type}} {{.Action}}"];
    assert_eq!(
        told(&format),
        [
            "volume create",
            "container create",
            "container attach",
            "network connect",
            "volume mount",
            "container start",
            "container die",
            "network disconnect",
            "volume unmount",
            "container archive-path",
            "image tag",
            "container commit",
            "container rename",
            "container destroy",
        ]
    );
    let of = |filters: &[&str]| {
        let mut words = vec!["--format", "{{.Action}}"];
        for filter in filters {
            words.extend(["-f", filter]);
        }
        told(&words).join(" ")
    };
    assert_eq!(of(&["type=volume"]), "create mount unmount");
    assert_eq!(
        of(&["label=tier=front", "event=die", "event=start"]),
        "start die"
    );
    assert_eq!(of(&["container=new"]), "rename destroy");
    assert_eq!(of(&["type=network", "event=die"]), "");
    let line = told(&["-f", "event=die"]).concat();
    let (time, rest) = line.split_once(' ').unwrap();
    assert_eq!(time.len(), "2026-11-21T05:14:00.123456789Z".len(), "{line}");
    assert!(
        rest.starts_with("container die ")
            && rest.ends_with("(exitCode=0, image=busybox, name=box, tier=front)"),
        "{line}"
    );
    let json = told(&["--format", "json", "-f", "event=die"]).concat();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["Actor"]["Attributes"]["exitCode"], "0");
    assert_eq!(value["status"], "die");
    lab.rbox(["events", "--since", "yesterday"])
        .run()
        .code(1)
        .says("failed to parse value as time or duration: \"yesterday\"");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_events_as_they_come() {
    let lab = Lab::with_busybox();
    let events = [
        "events",
        "--since",
        "1", // "0" would be a duration: from now on, while the first event may be older
        "--format",
        "{{.Action}} {{.Actor.ID}}",
        "-f",
        "type=volume",
    ];
    let mut follower = lab.rbox(events).spawn();
    for name in ["one", "two", "three"] {
        lab.sh(&format!("rbox volume create {name}"));
        assert_eq!(follower.line(), format!("create {name}"));
    }
    follower.signal(nix::sys::signal::Signal::SIGINT);
    assert!(!follower.finish().status.success());
    // Until a time that is to come.
    let mut until = lab
        .rbox(["events", "--until", "-700ms", "-f", "type=volume"])
        .spawn();
    until.close();
    let output = until.finish().success();
    assert_eq!(output.text(), "");
}

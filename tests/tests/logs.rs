//! What `rbox logs` shows of what a container wrote.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_logs_show_parts_of_themselves() {
    let lab = Lab::with_busybox();
    let script = "echo one; sleep 0.1; echo two >&2; sleep 0.1; printf three";
    let words = [
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
    ];
    lab.rbox(words).arg(script).run().success();
    let logs = |words: &[&str]| {
        let output = lab.rbox(["logs"]).args(words).arg("box").run().success();
        (output.text(), output.errors())
    };
    let all = ("one\nthree".to_owned(), "two".to_owned());
    assert_eq!(logs(&[]), all);
    for same in [
        ["--tail", "all"],
        ["--tail", "x"],
        ["--since", "1h"],
        ["-n", "3"],
    ] {
        assert_eq!(logs(&same), all, "{same:?}");
    }
    assert_eq!(logs(&["-f"]), all);
    assert_eq!(logs(&["--tail", "1"]), ("three".to_owned(), String::new()));
    assert_eq!(logs(&["--tail", "0"]), (String::new(), String::new()));
    let (_, second) = logs(&["-t"]);
    let (time, text) = second.split_once(' ').unwrap();
    assert_eq!(
        (time.len(), text),
        ("2026-01-02T03:04:05.123456789Z".len(), "two")
    );
    let until = logs(&["--until", time]);
    assert_eq!(until, ("one".to_owned(), "two".to_owned()));
    let since = logs(&["--since", time]);
    assert_eq!(since, ("three".to_owned(), "two".to_owned()));
    assert_eq!(logs(&["--until", "1h"]), (String::new(), String::new()));
    for (flag, why) in [("--since", "since"), ("--until", "until")] {
        lab.rbox(["logs", flag, "foo", "box"])
            .run()
            .code(1)
            .says(&format!("invalid value for \"{why}\""));
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_logs_are_followed_to_the_end() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run -d --name box --network none busybox sh -c 'echo one; until [ -e /go ]; do sleep 0.05; done; echo two'");
    let mut follower = lab.rbox(["logs", "-f", "box"]).spawn();
    follower.expect("one\n");
    lab.sh("rbox exec box touch /go");
    assert_eq!(follower.finish().success().text(), "one\ntwo");
    // One that ends its container's log ends by the clock alone.
    lab.sh(
        "rbox run -d --name on --network none busybox sh -c 'while :; do echo x; sleep 0.05; done'",
    );
    lab.rbox(["logs", "-f", "--until", "200ms", "on"])
        .run()
        .success();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_logs_carry_what_log_opt_chooses() {
    let lab = Lab::with_busybox();
    let options = [
        "--log-opt",
        "labels=team,none",
        "--log-opt",
        "env-regex=^APP_",
        "--log-opt",
        "tag={{.Name}}/{{.ImageName}}",
        "--label",
        "team=d b",
        "-e",
        "APP_X=1",
        "-e",
        "B=2",
    ];
    lab.rbox(["run", "--name", "box", "--network", "none"])
        .args(options)
        .args(["busybox", "echo", "hello"])
        .run()
        .success();
    let show = |words: &[&str]| lab.rbox(words).run().success().text();
    assert_eq!(
        show(&["logs", "--details", "box"]),
        "APP_X=1,tag=box%2Fbusybox,team=d+b hello"
    );
    assert_eq!(show(&["logs", "box"]), "hello");
    let file = lab.sh("cat $(rbox inspect -f '{{.LogPath}}' box)");
    let start = r#"{"log":"hello\n","stream":"stdout","attrs":{"APP_X":"1","tag":"box/busybox","team":"d b"},"time":""#;
    assert!(file.starts_with(start), "{file}");
    lab.sh("rbox run --name plain --network none busybox echo hello");
    let plain = lab.rbox(["logs", "--details", "plain"]).run().success();
    assert_eq!(plain.stdout, b" hello\n");
    for (option, why) in [
        ("tag={{.Foo}}", "invalid log tag '{{.Foo}}'"),
        ("env-regex=(", "invalid log opt pattern '('"),
        ("compress=true", "leave 'compress=true' out"),
        ("mode=x", "logging mode not supported: x"),
        ("max-size=-1", "invalid size: '-1'"),
        ("foo=1", "unknown log opt 'foo' for json-file log driver"),
    ] {
        lab.rbox(["run", "--rm", "--log-opt", option, "busybox", "true"])
            .run()
            .code(125)
            .says(why);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_logs_are_put_aside_at_their_size() {
    let lab = Lab::with_busybox();
    lab.sh(
        "rbox run -d --name box --network none --log-opt max-size=4k --log-opt max-file=2 \
            busybox sh -c 'for i in $(seq 1 500); do echo line $i; done; sleep 1000'",
    );
    eventually("the last line is there", || {
        lab.sh("rbox logs --tail 1 box") == "line 500"
    });
    let first = lab.sh("rbox logs box | head -n 1");
    assert_ne!(first, "line 1");
    let files = lab.sh("cd $(dirname $(rbox inspect -f '{{.LogPath}}' box)); ls json.log*");
    assert_eq!(files, "json.log\njson.log.1");
}

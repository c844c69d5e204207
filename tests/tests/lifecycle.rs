//! The life of a container: created, started, stopped, looked at, talked to, removed.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::Duration;

use lab::{Lab, Snapshot, eventually};

/// One field of `rbox inspect`.
#[track_caller]
fn field(lab: &Lab, name: &str, template: &str) -> String {
    lab.rbox(["inspect", "-f", template, name])
        .run()
        .success()
        .text()
}

#[track_caller]
fn status(lab: &Lab, name: &str) -> String {
    field(lab, name, "{{.State.Status}}")
}

/// A detached container that sleeps.
#[track_caller]
fn sleeper(lab: &Lab, name: &str) -> String {
    lab.rbox(["run", "-d", "--name", name, "busybox", "sleep", "1000"])
        .run()
        .success()
        .text()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_from_create_to_rm() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox([
            "create",
            "--name",
            "one",
            "busybox",
            "sh",
            "-c",
            "echo run $((1+1)); exit 4",
        ])
        .run()
        .success()
        .text();
    assert_eq!(id.len(), 64);
    assert_eq!(status(&lab, "one"), "created");
    assert_eq!(
        field(&lab, "one", "{{.State.Pid}} {{.State.StartedAt}}"),
        "0 0001-01-01T00:00:00Z"
    );
    assert_eq!(lab.rbox(["wait", "one"]).run().success().text(), "0");
    assert_eq!(lab.rbox(["start", "one"]).run().success().text(), "one");
    assert_eq!(lab.rbox(["wait", "one"]).run().success().text(), "4");
    assert_eq!(status(&lab, "one"), "exited");
    assert_eq!(field(&lab, "one", "{{.State.ExitCode}}"), "4");
    let output = lab.rbox(["start", "-a", "one"]).run().code(4);
    assert_eq!(output.text(), "run 2");
    assert_eq!(
        lab.rbox(["logs", "one"]).run().success().text(),
        "run 2\nrun 2"
    );
    assert_eq!(lab.rbox(["rm", "one"]).run().success().text(), "one");
    lab.rbox(["rm", "one"])
        .run()
        .code(1)
        .says("No such container: one");
    lab.rbox(["inspect", "one"])
        .run()
        .code(1)
        .says("No such object: one");
    lab.rbox(["start", "one"])
        .run()
        .code(1)
        .says("No such container: one");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_stop_restart_kill() {
    let lab = Lab::with_busybox();
    let trap = "trap 'echo stopped; exit 12' TERM; trap 'echo int; exit 13' INT; echo ready; while :; do sleep 0.05; done";
    let run = |name: &str, options: &[&str]| {
        lab.rbox(["run", "-d", "--name", name])
            .args(options)
            .args(["busybox", "sh", "-c", trap])
            .run()
            .success();
        eventually("the program is ready", || {
            lab.rbox(["logs", name]).run().text().contains("ready")
        });
    };
    run("polite", &[]);
    let output = lab.rbox(["stop", "polite"]).run().success();
    assert_eq!(output.text(), "polite");
    assert!(output.took < Duration::from_secs(5));
    assert_eq!(
        field(&lab, "polite", "{{.State.Status}} {{.State.ExitCode}}"),
        "exited 12"
    );
    lab.rbox(["stop", "polite"]).run().success();
    lab.rbox(["restart", "polite"]).run().success();
    assert_eq!(status(&lab, "polite"), "running");
    lab.rbox(["start", "polite"]).run().success();

    run("other", &["--stop-signal", "INT"]);
    lab.rbox(["stop", "other"]).run().success();
    assert_eq!(field(&lab, "other", "{{.State.ExitCode}}"), "13");

    sleeper(&lab, "deaf");
    let output = lab.rbox(["stop", "-t", "1", "deaf"]).run().success();
    assert!(output.took >= Duration::from_millis(900) && output.took < Duration::from_secs(6));
    assert_eq!(field(&lab, "deaf", "{{.State.ExitCode}}"), "137");
    lab.rbox(["kill", "deaf"])
        .run()
        .code(1)
        .says("is not running");

    sleeper(&lab, "victim");
    lab.rbox(["kill", "-s", "FOO", "victim"])
        .run()
        .code(1)
        .says("Invalid signal: FOO");
    assert_eq!(
        lab.rbox(["kill", "victim"]).run().success().text(),
        "victim"
    );
    eventually("it ends", || status(&lab, "victim") == "exited");
    assert_eq!(field(&lab, "victim", "{{.State.ExitCode}}"), "137");
    let output = lab.rbox(["stop", "polite", "nope", "other"]).run().code(1);
    assert_eq!(output.lines(), ["polite", "other"]);
    assert!(output.errors().contains("No such container: nope"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_pause_holds_every_process() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox(["run", "-d", "--name", "ticks", "busybox", "sh", "-c"])
        .arg("while :; do echo tick; sleep 0.05; done")
        .run()
        .success()
        .text();
    eventually("it ticks", || {
        lab.rbox(["logs", "ticks"]).run().text().contains("tick")
    });
    assert_eq!(lab.rbox(["pause", "ticks"]).run().success().text(), "ticks");
    assert_eq!(
        field(
            &lab,
            "ticks",
            "{{.State.Status}} {{.State.Running}} {{.State.Paused}}"
        ),
        "paused true true"
    );
    assert!(lab.rbox(["ps"]).run().text().contains("(Paused)"));
    let count = || lab.rbox(["logs", "ticks"]).run().lines().len();
    let first = count();
    std::thread::sleep(Duration::from_millis(400));
    assert_eq!(count(), first, "a paused container ticks");
    lab.rbox(["pause", "ticks"])
        .run()
        .code(1)
        .says(&format!("Container {id} is already paused"));
    lab.rbox(["exec", "ticks", "true"])
        .run()
        .code(1)
        .says("is paused, unpause the container before exec");
    lab.rbox(["rm", "ticks"])
        .run()
        .code(1)
        .says("You cannot remove a paused container");
    lab.rbox(["start", "ticks"])
        .run()
        .code(1)
        .says("cannot start a paused container, try unpause instead");
    lab.rbox(["unpause", "ticks"]).run().success();
    lab.rbox(["unpause", "ticks"])
        .run()
        .code(1)
        .says("is not paused");
    eventually("it ticks again", || count() > first);
    lab.rbox(["pause", "ticks"]).run().success();
    lab.rbox(["kill", "ticks"]).run().success();
    eventually("KILL works on a paused container", || {
        status(&lab, "ticks") == "exited"
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_names_are_unique_and_change() {
    let lab = Lab::with_busybox();
    let id = sleeper(&lab, "taken");
    let conflict = format!(
        "Conflict. The container name \"/taken\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    );
    lab.rbox(["run", "--name", "taken", "busybox", "true"])
        .run()
        .code(125)
        .says(&conflict);
    lab.rbox(["create", "--name", "taken", "busybox", "true"])
        .run()
        .code(1)
        .says(&conflict);
    lab.rbox(["run", "--name", "a!", "busybox", "true"])
        .run()
        .code(125)
        .says("Invalid container name (a!), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed");
    lab.rbox(["create", "--name", "other", "busybox", "true"])
        .run()
        .success();
    lab.rbox(["rename", "other", "taken"])
        .run()
        .code(1)
        .says("Conflict.");
    assert_eq!(
        lab.rbox(["rename", "taken", "free"]).run().success().text(),
        ""
    );
    assert_eq!(field(&lab, &id, "{{.Name}}"), "/free");
    lab.rbox(["rename", "other", "taken"]).run().success();
    assert_eq!(field(&lab, "/free", "{{.Id}}"), id);
    let names = lab
        .rbox(["ps", "-a", "--format", "{{.Names}}"])
        .run()
        .success();
    assert_eq!(names.lines(), ["taken", "free"]);
    lab.rbox(["create", "busybox", "true"]).run().success();
    let name = lab
        .rbox(["ps", "-a", "-l", "--format", "{{.Names}}"])
        .run()
        .success()
        .text();
    let (left, right) = name.split_once('_').unwrap();
    assert!(
        left.bytes().all(|byte| byte.is_ascii_lowercase()) && !right.is_empty(),
        "{name}"
    );
    // Two at once for one name: one of them gets it.
    lab.rbox(["rm", "-f", "free"]).run().success();
    let script = "for i in 1 2 3 4 5 6 7 8; do rbox create --name race busybox true > out$i 2>&1 & done; wait; cat out*";
    let text = lab.sh(script);
    assert_eq!(
        text.lines().filter(|line| line.len() == 64).count(),
        1,
        "{text}"
    );
    assert_eq!(text.matches("is already in use").count(), 7, "{text}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_ps_and_inspect() {
    let lab = Lab::with_busybox();
    sleeper(&lab, "runs");
    lab.rbox(["run", "--name", "ended", "busybox", "sh", "-c", "exit 3"])
        .run()
        .code(3);
    lab.rbox([
        "create",
        "--name",
        "made",
        "-l",
        "k=v",
        "busybox",
        "echo",
        "a long argument list",
    ])
    .run()
    .success();
    let ps = lab.rbox(["ps"]).run().success().lines();
    assert_eq!(ps.len(), 2, "{ps:?}");
    let header = "CONTAINER ID   IMAGE     COMMAND        CREATED";
    assert!(ps[0].starts_with(header), "{}", ps[0]);
    assert!(
        ps[1].contains("busybox   \"sleep 1000\"") && ps[1].ends_with("runs"),
        "{}",
        ps[1]
    );
    let all = lab
        .rbox([
            "ps",
            "-a",
            "--format",
            "{{.Names}}|{{.Status}}|{{.Command}}",
        ])
        .run()
        .success()
        .lines();
    assert_eq!(all[0], "made|Created|\"echo 'a long argume…\"");
    assert!(all[1].starts_with("ended|Exited (3) "), "{}", all[1]);
    assert!(all[2].starts_with("runs|Up "), "{}", all[2]);
    for (filter, names) in [
        ("status=exited", "ended"),
        ("name=run", "runs"),
        ("label=k=v", "made"),
        ("label=k", "made"),
        ("status=created", "made"),
    ] {
        let output = lab
            .rbox(["ps", "-a", "-f", filter, "--format", "{{.Names}}"])
            .run()
            .success();
        assert_eq!(output.text(), names, "{filter}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_inspect() {
    let lab = Lab::with_busybox();
    sleeper(&lab, "runs");
    lab.rbox(["run", "--name", "ended", "busybox", "sh", "-c", "exit 3"])
        .run()
        .code(3);
    let json = lab
        .rbox(["inspect", "runs", "ended"])
        .run()
        .success()
        .json();
    assert_eq!(json[0]["Name"], "/runs");
    assert_eq!(json[1]["State"]["ExitCode"], 3);
    assert_eq!(json[0]["Config"]["Image"], "busybox");
    assert_eq!(json[0]["Path"], "sleep");
    assert_eq!(json[0]["Args"][0], "1000");
    let pid = json[0]["State"]["Pid"].as_i64().unwrap();
    assert_eq!(
        lab.sh(&format!("tr '\\0' ' ' < /proc/{pid}/cmdline")),
        "sleep 1000 "
    );
    assert_eq!(field(&lab, "runs", "{{json .State.Running}}"), "true");
    let output = lab
        .rbox(["inspect", "runs", "nope"])
        .run()
        .code(1)
        .says("No such object: nope");
    assert_eq!(output.json()[0]["Name"], "/runs");
    lab.rbox(["inspect", "-f", "{{.Nope}}", "runs"])
        .run()
        .code(1)
        .says("map has no entry for key \"Nope\"");
    lab.rbox(["inspect", "-f", "{{.Nope", "runs"])
        .run()
        .code(64)
        .says("unclosed action");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_rm() {
    let lab = Lab::with_busybox();
    let id = sleeper(&lab, "one");
    let before = Snapshot::take(&lab);
    lab.rbox(["rm", "one"]).run().code(1).says(&format!(
        "You cannot remove a running container {id}. Stop the container before attempting removal or force remove"
    ));
    sleeper(&lab, "two");
    lab.rbox(["create", "--name", "three", "busybox"])
        .run()
        .success();
    let output = lab.rbox(["rm", "-f", "two", "three"]).run().success();
    assert_eq!(output.lines(), ["two", "three"]);
    before.nothing_left_in(&lab, "rm -f of two containers");
    let output = lab.rbox(["rm", "-f", "nope"]).run().success();
    assert!(output.errors().contains("No such container: nope"));
    let output = lab.rbox(["rm", "nope", &id[..8]]).run().code(1);
    assert_eq!(output.text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_prefixes_name_one_container() {
    let lab = Lab::with_busybox();
    let mut ids: Vec<String> = Vec::new();
    // Seventeen ids: two of them share their first digit.
    for _ in 0..17 {
        ids.push(
            lab.rbox(["create", "busybox", "true"])
                .run()
                .success()
                .text(),
        );
    }
    let twins = ids
        .iter()
        .find(|id| ids.iter().filter(|other| other[..1] == id[..1]).count() > 1);
    let prefix = &twins.unwrap()[..1];
    lab.rbox(["start", prefix]).run().code(1).says(&format!(
        "Multiple IDs found with provided prefix: {prefix}"
    ));
    for id in &ids {
        assert_eq!(field(&lab, &id[..12], "{{.Id}}"), *id);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_init_reaps_and_forwards() {
    let lab = Lab::with_busybox();
    lab.rbox([
        "run", "-d", "--init", "--name", "tended", "busybox", "sh", "-c",
    ])
    .arg("trap 'exit 21' TERM; (sleep 0.1 &) ; echo ready; while :; do sleep 0.05; done")
    .run()
    .success();
    eventually("it is ready", || {
        lab.rbox(["logs", "tended"]).run().text().contains("ready")
    });
    let first = lab
        .rbox(["exec", "tended", "cat", "/proc/1/cmdline"])
        .run()
        .success()
        .text();
    assert!(
        !first.starts_with("sh"),
        "the program itself is process 1: {first:?}"
    );
    std::thread::sleep(Duration::from_millis(300));
    let zombies = lab
        .rbox([
            "exec",
            "tended",
            "sh",
            "-c",
            "grep -l 'State:.Z' /proc/[0-9]*/status | wc -l",
        ])
        .run();
    assert_eq!(zombies.success().text(), "0");
    lab.rbox(["stop", "tended"]).run().success();
    assert_eq!(field(&lab, "tended", "{{.State.ExitCode}}"), "21");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_many_at_once() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "--rm", "busybox", "true"]).run().success();
    let before = Snapshot::take(&lab);
    let script = "for i in $(seq 1 20); do rbox run --rm -p $((9000+i)):80 --name c$i busybox sh -c 'exit 0' > o$i 2>&1 || echo $i: $(cat o$i) & done; wait";
    assert_eq!(
        lab.command("sh")
            .args(["-c", script])
            .run()
            .success()
            .text(),
        ""
    );
    before.nothing_left_in(&lab, "twenty containers at once");
    let script = "for i in $(seq 1 20); do rbox run -d --name c$i busybox sleep 1000 > o$i 2>&1 || echo $i: $(cat o$i) & done; wait";
    assert_eq!(
        lab.command("sh")
            .args(["-c", script])
            .run()
            .success()
            .text(),
        ""
    );
    let all = lab.sh("for i in $(seq 1 20); do rbox inspect -f '{{.NetworkSettings.IPAddress}}' c$i; done | sort -u | wc -l");
    assert_eq!(all, "20", "addresses were given twice");
    lab.sh("rbox rm -f $(rbox ps -aq) > /dev/null");
    before.nothing_left_in(&lab, "removing twenty containers");
}

/// A start makes the run directory, and takes its lock a moment later: whoever looks in between
/// must not take the container for one whose monitor died, which with `--rm` would remove it.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lifecycle_a_start_that_has_just_begun_is_left_alone() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run --rm busybox true");
    let id = lab.sh("rbox create --rm --name begun busybox echo works");
    let run = format!("/run/rbox/containers/{id}");
    lab.sh(&format!("mkdir {run}"));
    assert_eq!(lab.sh("rbox ps -a --format '{{.Names}}'"), "begun");
    assert_eq!(lab.sh("rbox start -a begun"), "works");
    assert_eq!(lab.sh("rbox ps -aq"), "");
}

//! Talking to a container that runs: logs, attach, exec, top.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::Duration;

use lab::{Lab, eventually};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_talk_logs() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "--name", "talks", "busybox", "sh", "-c"])
        .arg("for i in 1 2 3 4 5; do echo line $i; done; sleep 0.3; echo oops >&2; sleep 0.3; printf partial")
        .run()
        .success();
    let logs = |words: &[&str]| lab.rbox(["logs"]).args(words).arg("talks").run().success();
    let all = logs(&[]);
    assert_eq!(
        all.stdout,
        b"line 1\nline 2\nline 3\nline 4\nline 5\npartial"
    );
    assert_eq!(all.errors(), "oops");
    assert_eq!(logs(&["--tail", "0"]).text(), "");
    let tail = logs(&["--tail", "2"]);
    assert_eq!(
        (tail.text(), tail.errors()),
        ("partial".to_owned(), "oops".to_owned())
    );
    let stamped = logs(&["-t", "--tail", "all"]).lines();
    assert!(
        stamped[0].ends_with("Z line 1") && stamped[0].as_bytes()[10] == b'T',
        "{}",
        stamped[0]
    );
    assert_eq!(logs(&["--since", "2100-01-01T00:00:00Z"]).text(), "");
    assert_eq!(logs(&["--since", "10m"]).lines().len(), 6);
    assert_eq!(logs(&["--until", "10m"]).text(), "");
    // -f goes on to the end of the container and then ends too.
    lab.rbox(["run", "-d", "--name", "slow", "busybox", "sh", "-c"])
        .arg("echo one; while [ ! -e /go ]; do sleep 0.05; done; echo two")
        .run()
        .success();
    let mut follower = lab.rbox(["logs", "-f", "slow"]).spawn();
    follower.expect("one");
    lab.rbox(["exec", "slow", "touch", "/go"]).run().success();
    follower.expect("two");
    assert_eq!(follower.finish().success().text(), "one\ntwo");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_talk_attach_without_a_terminal() {
    let lab = Lab::with_busybox();
    lab.rbox([
        "run",
        "-d",
        "-i",
        "--name",
        "echoes",
        "busybox",
        "sh",
        "-c",
        "while read x; do [ $x = quit ] && exit 6; echo got $x; done",
    ])
    .run()
    .success();
    let mut first = lab.rbox(["attach", "--no-stdin", "echoes"]).spawn();
    let mut second = lab.rbox(["attach", "echoes"]).spawn();
    eventually("both are attached", || {
        second.send("word\n");
        std::thread::sleep(Duration::from_millis(50));
        [&mut first, &mut second]
            .into_iter()
            .all(|one| one.seen().contains("got word"))
    });
    // The container was started without us: our end of file is not its own.
    second.send("quit\n");
    first.finish().code(6);
    second.finish().code(6);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_talk_exec() {
    let lab = Lab::with_busybox();
    lab.rbox([
        "run", "-d", "--name", "host", "-e", "A=1", "-w", "/tmp", "-h", "inner", "busybox",
        "sleep", "1000",
    ])
    .run()
    .success();
    let exec = |words: &[&str]| lab.rbox(["exec"]).args(words).run();
    assert_eq!(
        exec(&["host", "sh", "-c", "echo $A; pwd; hostname"])
            .success()
            .text(),
        "1\n/tmp\ninner"
    );
    assert_eq!(
        exec(&["-e", "A=2", "-e", "B=3", "host", "sh", "-c", "echo $A $B"])
            .success()
            .text(),
        "2 3"
    );
    assert_eq!(
        exec(&[
            "-u",
            "user",
            "-w",
            "/etc",
            "host",
            "sh",
            "-c",
            "id -un; pwd; echo $HOME"
        ])
        .success()
        .text(),
        "user\n/etc\n/home/user"
    );
    exec(&["host", "sh", "-c", "exit 11"]).code(11);
    exec(&["host", "no-such-command"]).code(126);
    exec(&["host", "/etc"]).code(126);
    exec(&["nope", "true"])
        .code(1)
        .says("No such container: nope");
    let output = lab
        .rbox(["exec", "-i", "host", "cat"])
        .input(vec![7; 300_000])
        .run()
        .success();
    assert_eq!(output.stdout, vec![7; 300_000]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_talk_exec_shares_everything() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "-d", "--name", "host", "busybox", "sleep", "1000"])
        .run()
        .success();
    let exec = |words: &[&str]| lab.rbox(["exec"]).args(words).run();
    // All of the container's namespaces and limits are the process's too.
    for kind in ["mnt", "net", "pid", "ipc", "uts"] {
        let path = format!("/proc/1/ns/{kind}");
        let own = exec(&["host", "readlink", &path]).success().text();
        assert_eq!(
            exec(&["host", "readlink", &format!("/proc/self/ns/{kind}")])
                .success()
                .text(),
            own
        );
    }
    let capabilities = |pid: &str| {
        exec(&["host", "grep", "Cap", &format!("/proc/{pid}/status")])
            .success()
            .text()
    };
    assert_eq!(capabilities("self"), capabilities("1"));
    assert_eq!(
        exec(&["-d", "host", "sh", "-c", "touch /made; sleep 1000"])
            .success()
            .text(),
        ""
    );
    eventually("the detached command runs", || {
        exec(&["host", "ls", "/made"]).status.success()
    });
    let top = lab.rbox(["top", "host"]).run().success().lines();
    assert!(
        top[0].starts_with("UID                 PID                 PPID"),
        "{}",
        top[0]
    );
    assert!(
        top.iter()
            .filter(|line| line.contains("sleep 1000"))
            .count()
            >= 2,
        "{top:?}"
    );
    assert_eq!(
        lab.rbox(["top", "host", "-o", "pid"])
            .run()
            .success()
            .lines()[0]
            .trim(),
        "PID"
    );
    // A container that ends takes what was executed in it along.
    let mut inside = lab
        .rbox(["exec", "host", "sh", "-c", "echo up; sleep 1000"])
        .spawn();
    inside.expect("up");
    lab.rbox(["kill", "host"]).run().success();
    inside.finish().code(137);
    exec(&["host", "true"]).code(1).says("is not running");
}

//! `-v A=rw:B=ro:/data`: union mounts that containers use, and that end with them.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

/// A lab with two directories of files and a place in which no union is mounted.
fn branches() -> Lab {
    let lab = Lab::with_busybox();
    lab.sh("mkdir -p /run/b/top /run/b/low/dir
         echo top > /run/b/top/one; echo low > /run/b/low/one
         echo low > /run/b/low/two; echo low > /run/b/low/dir/three");
    lab
}

fn nothing_is_left(lab: &Lab) {
    eventually("the union has gone", || {
        lab.sh("grep -c rbox-union /proc/self/mounts || :; ls /run/rbox/unions") == "0"
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_volume_shows_branches_and_keeps_the_lower() {
    let lab = branches();
    let output = lab
        .rbox(["run", "--rm", "-v", "/run/b/top=rw:/run/b/low=ro:/data"])
        .args(["busybox", "sh", "-ec"])
        .arg(
            "cd /data; cat one two dir/three; echo new > new; echo more >> two; rm dir/three
             touch dir/four; ls dir",
        )
        .run();
    assert_eq!(output.success().text(), "top\nlow\nlow\nfour");
    assert_eq!(
        lab.sh("cd /run/b; cat low/one low/two low/dir/three top/new top/two; ls low low/dir"),
        "low\nlow\nlow\nnew\nlow\nmore\nlow:\ndir\none\ntwo\n\nlow/dir:\nthree"
    );
    nothing_is_left(&lab);
    // What was done is there for the next.
    let next = lab
        .rbox(["run", "--rm", "-v", "/run/b/top=rw:/run/b/low=ro:/data:ro"])
        .args([
            "busybox",
            "sh",
            "-c",
            "cat /data/two; ls /data/dir; touch /data/x",
        ])
        .run();
    assert_eq!(next.code(1).text(), "low\nmore\nfour");
    nothing_is_left(&lab);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_volume_takes_turns_and_is_told() {
    let lab = branches();
    lab.sh("mkdir /run/b/third");
    let volume = "./top=rw:./low=rw:/run/b/third=rw:/data:create=rr";
    lab.rbox([
        "run", "-d", "--name", "turns", "-v", volume, "busybox", "sleep", "1000",
    ])
    .directory("/run/b")
    .run()
    .success();
    lab.sh("rbox exec turns touch /data/a /data/b /data/c");
    assert_eq!(
        lab.sh("cd /run/b; for f in a b c; do ls -d */$f; done"),
        "top/a\nthird/b\nlow/c"
    );
    let mounts = lab
        .rbox(["inspect", "-f", "{{json .Mounts}}", "turns"])
        .run()
        .json();
    assert_eq!(mounts[0]["Type"], "union");
    assert_eq!(
        mounts[0]["Source"],
        "/run/b/top=rw:/run/b/low=rw:/run/b/third=rw"
    );
    assert_eq!(mounts[0]["RW"], true);
    lab.sh("rbox restart -t 0 turns; rbox exec turns ls /data/a");
    lab.sh("rbox cp turns:/data/c /run/copied; rbox stop -t 0 turns");
    nothing_is_left(&lab);
    // For a copy it is mounted meanwhile.
    lab.sh("rbox cp turns:/data/c /run/again; echo in > /run/in; rbox cp /run/in turns:/data/in");
    nothing_is_left(&lab);
    assert_eq!(lab.sh("cat /run/b/*/in"), "in");
    lab.rbox(["explain", "run", "-v", "/run/b/top=rw:/run/b/low=ro:/data"])
        .args(["busybox", "true"])
        .run()
        .success()
        .text()
        .find("rbox union mount -o dirs=/run/b/top=rw:/run/b/low=ro")
        .unwrap();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_volume_bad_branches_leave_nothing() {
    let lab = branches();
    for (volume, says) in [
        ("/run/b/top=rw:/run/b/none=ro:/data", "/run/b/none"),
        ("/run/b=rw:/run/b/low=ro:/data", "/run/b/low"),
        (
            "/run/b/top=ro:/run/b/low=ro:/data:create=mfs",
            "no branch is writable",
        ),
        (
            "/run/b/top=rw:/run/b/low=ro:/data:create=best",
            "create=best",
        ),
    ] {
        lab.rbox(["run", "--rm", "-v", volume, "busybox", "true"])
            .run()
            .code(125)
            .says(says);
    }
    assert_eq!(lab.rbox(["ps", "-aq"]).run().text(), "");
    lab.sh("[ ! -e /run/rbox/unions ] || [ -z \"$(ls /run/rbox/unions)\" ]");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_volume_outlives_no_monitor() {
    let lab = branches();
    lab.rbox([
        "run",
        "-d",
        "--name",
        "dies",
        "-v",
        "/run/b/top=rw:/run/b/low=ro:/data",
    ])
    .args(["busybox", "sleep", "1000"])
    .run()
    .success();
    // Neither its lock nor its streams are kept by the union's server.
    lab.sh("kill -9 $(cut -d' ' -f1 /run/rbox/containers/*/monitor)");
    eventually("it is seen to be dead", || {
        lab.sh("rbox inspect -f '{{.State.Status}}' dies") == "exited"
    });
    nothing_is_left(&lab);
    assert_eq!(lab.sh("cat /run/b/top/one /run/b/low/two"), "top\nlow");
    lab.sh("rbox start dies; rbox exec dies cat /data/two; rbox rm -f dies");
    nothing_is_left(&lab);
    assert_eq!(lab.sh("cat /run/b/top/one /run/b/low/two"), "top\nlow");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_volume_with_recover_outlives_its_server() {
    let lab = branches();
    let volume = "/run/b/top=rw:/run/b/low=ro:/data:recover";
    lab.rbox([
        "run",
        "-d",
        "--name",
        "lives",
        "-v",
        volume,
        "-w",
        "/data/dir",
    ])
    .args(["busybox", "sh", "-c"])
    .arg("exec 3>../log; while sleep 0.05; do cat three >&3 || exit 1; done")
    .run()
    .success();
    let lines = || {
        lab.sh("cat /run/b/top/log | wc -l")
            .parse::<usize>()
            .unwrap()
    };
    for _ in 0..3 {
        lab.sh("kill -9 $(rbox union ls --json | sed 's/.*server.:\\([0-9]*\\).*/\\1/')");
        let before = lines();
        eventually("it goes on in its directory", || lines() > before + 2);
    }
    assert_eq!(
        lab.sh("rbox exec lives cat /data/one; rbox rm -f lives"),
        "top\nlives"
    );
    assert_eq!(lab.sh("sort -u /run/b/top/log"), "low");
    nothing_is_left(&lab);
    eventually("neither server nor holder is left", || {
        lab.sh("pgrep -c rbox || :") == "0"
    });
}

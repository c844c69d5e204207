//! Volumes whose driver is `union`: made, listed, shared by containers, and gone with the last one.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

/// A lab with a volume `data` of two directories.
fn with_volume() -> Lab {
    let lab = Lab::with_busybox();
    lab.sh("mkdir -p /run/b/top /run/b/low
         echo top > /run/b/top/one; echo low > /run/b/low/one; echo low > /run/b/low/two");
    lab.rbox(["volume", "create", "-d", "union", "-o"])
        .args(["dirs=./top=rw:./low=ro", "-o", "create=mfs", "data"])
        .directory("/run/b")
        .run()
        .success();
    lab
}

fn start(lab: &Lab, name: &str, more: &[&str]) {
    lab.rbox(["run", "-d", "--name", name])
        .args(more)
        .args(["busybox", "sleep", "1000"])
        .run()
        .success();
}

fn nothing_is_left(lab: &Lab) {
    eventually("the union has gone", || {
        lab.sh("grep -c rbox-union /proc/self/mounts || :; ls /run/rbox/volumes 2> /dev/null || :")
            == "0"
    });
    eventually("so has its server", || {
        lab.sh("ps -eo stat=,args= | grep -v ^Z | grep -c '[r]box.*union\\|[r]box run' || :") == "0"
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_driver_is_listed_and_inspected() {
    let lab = with_volume();
    assert_eq!(
        lab.sh("rbox volume ls --format '{{.Driver}} {{.Name}} {{.Mountpoint}}'"),
        "union data /run/rbox/volumes/data/union"
    );
    assert_eq!(
        lab.sh("rbox volume ls -q -f driver=union; rbox volume ls -q -f driver=local"),
        "data"
    );
    let document = lab.rbox(["volume", "inspect", "data"]).run().json();
    assert_eq!(document[0]["Driver"], "union");
    assert_eq!(
        document[0]["Options"]["dirs"],
        "/run/b/top=rw:/run/b/low=ro"
    );
    assert_eq!(document[0]["Options"]["create"], "mfs");
    assert_eq!(
        lab.rbox(["inspect", "data"]).run().json()[0]["Driver"],
        "union"
    );
    // Made again it is the same; another driver's it is not.
    lab.sh("rbox volume create -d union -o dirs=/run/b/low data");
    assert_eq!(
        lab.sh("rbox volume inspect -f '{{.Options.dirs}}' data"),
        "/run/b/top=rw:/run/b/low=ro"
    );
    lab.rbox(["volume", "create", "data"])
        .run()
        .code(1)
        .says("driver 'union' already has volume 'data': volume name must be unique");
    assert_eq!(
        lab.sh("rbox events --since 1 --until 0s -f event=create -f type=volume --format '{{json .Actor.Attributes}}'"),
        r#"{"driver":"union"}"#
    );
    assert_eq!(
        lab.sh("rbox volume prune -f; rbox volume ls -q"),
        "Total reclaimed space: 0B\ndata"
    );
    lab.sh("rbox volume rm data");
    assert_eq!(
        lab.sh("cat /run/b/top/one /run/b/low/two; ls /var/lib/rbox/volumes"),
        "top\nlow"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_driver_is_shared() {
    let lab = with_volume();
    start(&lab, "one", &["-v", "data:/data"]);
    start(
        &lab,
        "two",
        &["-v", "data:/else:ro", "--volumes-from", "one"],
    );
    assert_eq!(
        lab.sh("grep -c rbox-union /proc/self/mounts; ls /run/rbox/volumes/data/users | wc -l"),
        "1\n2"
    );
    assert_eq!(
        lab.sh("rbox exec one sh -c 'echo new > /data/new; cat /data/one /data/two'; rbox exec two cat /else/new"),
        "top\nlow\nnew"
    );
    // One server: a lock of one is seen by the other.
    let inside = |name: &str, path: &str| {
        format!(
            "/proc/{}/root{path}",
            lab.sh(&format!("rbox inspect -f '{{{{.State.Pid}}}}' {name}"))
        )
    };
    let mut holder = lab
        .command("flock")
        .args([&inside("one", "/data/new"), "sh", "-c", "echo held; read x"])
        .spawn();
    holder.expect("held");
    let other = [inside("two", "/else/new"), "true".to_owned()];
    lab.command("flock").arg("-n").args(&other).run().code(1);
    holder.send("\n");
    holder.finish();
    lab.command("flock").args(&other).run().success();
    lab.rbox(["exec", "two", "touch", "/else/no"])
        .run()
        .code(1)
        .says("Read-only file system");
    let mounts = lab
        .rbox(["inspect", "-f", "{{json .Mounts}}", "one"])
        .run()
        .json();
    assert_eq!(mounts[0]["Type"], "volume");
    assert_eq!(mounts[0]["Driver"], "union");
    assert_eq!(mounts[0]["Name"], "data");
    lab.sh("rbox cp one:/data/two /run/copied; echo in > /run/in; rbox cp /run/in two:/data/in");
    assert_eq!(lab.sh("cat /run/copied /run/b/top/in"), "low\nin");
    lab.rbox(["volume", "rm", "data"])
        .run()
        .code(1)
        .says("volume is in use");
    lab.sh("rbox stop -t 0 one; rbox exec two cat /data/one; rbox start one; rbox exec one cat /data/new");
    // A copy of one that does not run shares the union of those that do.
    lab.sh("rbox stop -t 0 one; rbox cp one:/data/one /run/copied; rbox exec two cat /data/one");
    assert_eq!(
        lab.sh("cat /run/copied; ls /run/rbox/volumes/data/users | wc -l"),
        "top\n1"
    );
    lab.sh("rbox rm -f one two");
    nothing_is_left(&lab);
    assert_eq!(
        lab.sh("cat /run/b/top/new; ls /run/b/low; rbox volume rm data"),
        "new\none\ntwo\ndata"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_driver_by_mount() {
    let lab = with_volume();
    lab.sh(
        "mkdir -p /run/b/top/part; echo part > /run/b/top/part/file; ln -s part /run/b/top/link",
    );
    let output = lab
        .rbox(["run", "--rm", "--mount"])
        .arg("type=volume,src=made,dst=/v,volume-driver=union,volume-opt=dirs=./top=rw:./low=ro,volume-opt=create=tdp")
        .args(["--mount", "type=union,dirs=./top=rw:./low=ro,create=rr,dst=/u,ro"])
        .args(["--mount", "src=data,dst=/p,volume-subpath=part"])
        .args(["busybox", "sh", "-c", "cat /v/one /u/two /p/file; touch /u/x"])
        .directory("/run/b")
        .run();
    assert_eq!(output.code(1).text(), "top\nlow\npart");
    nothing_is_left(&lab);
    assert_eq!(
        lab.sh("rbox volume ls --format '{{.Driver}} {{.Name}}'"),
        "union data\nunion made"
    );
    lab.rbox([
        "run",
        "--rm",
        "--mount",
        "src=data,dst=/p,volume-subpath=link",
        "busybox",
        "true",
    ])
    .run()
    .code(125);
    nothing_is_left(&lab);
    // Without a name it goes with its container.
    lab.rbox(["run", "--rm", "--mount"])
        .arg("type=volume,dst=/v,volume-driver=union,volume-opt=dirs=/run/b/top=rw:/run/b/low=ro")
        .args(["busybox", "test", "-e", "/v/two"])
        .run()
        .success();
    eventually("the volume has gone", || {
        lab.sh("rbox volume ls -q | wc -l") == "2"
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_driver_bad_input() {
    let lab = with_volume();
    for (options, says) in [
        (
            &[][..],
            "create bad: a union volume needs branches: -o dirs=PATH=rw:PATH=ro",
        ),
        (&["create=mfs"], "create bad: a union volume needs branches"),
        (&["dirs=/run/b/top=rx"], "unknown permission \"rx\""),
        (
            &["dirs=/run/b/top", "create=best"],
            "unknown policy \"best\"",
        ),
        (&["dirs=/run/b/top", "frob=1"], "unknown option \"frob=1\""),
        (
            &["dirs=/run/b/top", "append=/run/b/low"],
            "branches are named once, by dirs=",
        ),
        (
            &["dirs=/run/b/top:/run/b/none"],
            "branch \"/run/b/none\": No such file or directory",
        ),
        (
            &["dirs=/run/b:/run/b/low"],
            "branch \"/run/b/low\": it is inside branch /run/b",
        ),
        (
            &["dirs=/run/b/top:/run/b/top/"],
            "it is the same directory as branch /run/b/top",
        ),
        (
            &["dirs=/run/b/top=ro", "create=mfs"],
            "create= was given, but no branch is writable",
        ),
        (&["dirs=/run/b/top/one"], "not a directory"),
    ] {
        let words = options.iter().flat_map(|option| ["-o", option]);
        let answer = lab
            .rbox(["volume", "create", "-d", "union"])
            .args(words)
            .arg("bad")
            .run()
            .code(1)
            .says(says);
        let errors = answer.errors();
        let lines: Vec<&str> = errors.lines().collect();
        assert!(
            lines.len() <= 2 && lines[1..].iter().all(|line| line.starts_with("hint: ")),
            "{errors}"
        );
    }
    lab.rbox(["volume", "create", "-d", "nosuch", "bad"])
        .run()
        .code(1)
        .says("create bad: error looking up volume plugin nosuch: plugin \"nosuch\" not found");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_driver_bad_mounts() {
    let lab = with_volume();
    for (mount, says) in [
        (
            "src=bad,dst=/d,volume-driver=nosuch",
            "plugin \"nosuch\" not found",
        ),
        ("src=bad,dst=/d,volume-driver=union", "needs branches"),
        (
            "src=bad,dst=/d,volume-driver=union,volume-opt=dirs=/run/none",
            "/run/none",
        ),
        (
            "src=data,dst=/d,volume-driver=local",
            "already has volume 'data'",
        ),
        ("type=union,dst=/d", "needs branches"),
        (
            "type=union,src=/a,dst=/d,dirs=/run/b/top",
            "field Source must not be specified",
        ),
        (
            "type=union,dst=/d,dirs=/run/b/top,create=x",
            "unknown policy",
        ),
        (
            "type=bind,src=/run,dst=/d,dirs=/run/b/top",
            "cannot mix 'dirs'",
        ),
    ] {
        lab.rbox(["run", "--rm", "--mount", mount, "busybox", "true"])
            .run()
            .code(125)
            .says(says);
    }
    assert_eq!(lab.sh("rbox ps -aq; rbox volume ls -q"), "data");
    // A branch that has gone since is said when it is needed.
    lab.sh("rm -r /run/b/low");
    lab.rbox(["run", "--rm", "-v", "data:/data", "busybox", "true"])
        .run()
        .code(125)
        .says("there is no branch /run/b/low")
        .says("mkdir -p /run/b/low");
    nothing_is_left(&lab);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_driver_outlives_nothing() {
    let lab = with_volume();
    start(&lab, "one", &["-v", "data:/data"]);
    start(&lab, "two", &["-v", "data:/data"]);
    // A monitor that dies leaves the other's union alone.
    lab.sh(
        "kill -9 $(cut -d' ' -f1 /run/rbox/containers/$(rbox inspect -f '{{.Id}}' one)/monitor)",
    );
    eventually("it is seen to be dead", || {
        lab.sh("rbox inspect -f '{{.State.Status}}' one") == "exited"
    });
    lab.sh("rbox ps -a; rbox exec two cat /data/one");
    // A server that dies takes no other with it, and the next start has a new one.
    let server = lab.sh("rbox union ls --json /run/rbox/volumes/data/union | grep -o '\"server\": *[0-9]*' | grep -o '[0-9]*'");
    lab.sh(&format!("kill -9 {server}"));
    eventually("the mount says so", || {
        lab.rbox(["exec", "two", "cat", "/data/one"])
            .run()
            .errors()
            .contains("not connected")
    });
    lab.sh("rbox restart -t 0 two; rbox exec two cat /data/one; rbox start one");
    lab.sh("rbox exec one cat /data/one; rbox rm -f one two");
    nothing_is_left(&lab);
    assert_eq!(lab.sh("cat /run/b/top/one /run/b/low/two"), "top\nlow");
}

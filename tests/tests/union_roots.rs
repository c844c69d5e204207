//! `--rootfs-union`: containers whose root is a union of directories above their image.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

const BRANCHES: &str = "/run/b/top=rw:/run/b/low=ro";

/// A lab with an upper and a lower branch for a root.
fn branches() -> Lab {
    let lab = Lab::with_busybox();
    lab.sh("mkdir -p /run/b/top /run/b/low/etc /run/b/low/opt
         echo low > /run/b/low/etc/motd; echo tool > /run/b/low/opt/tool; chmod 4755 /run/b/low/opt/tool");
    lab
}

fn start(lab: &Lab, name: &str, more: &[&str]) {
    lab.rbox(["run", "-d", "--name", name, "--rootfs-union", BRANCHES])
        .args(more)
        .args(["busybox", "sleep", "1000"])
        .run()
        .success();
}

fn nothing_is_left(lab: &Lab) {
    eventually("the union has gone", || {
        lab.sh("grep -c 'rbox-union\\|root.image' /proc/self/mounts || :; ls /run/rbox/unions 2> /dev/null || :") == "0"
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_root_is_above_the_image() {
    let lab = branches();
    let output = lab
        .rbox(["run", "--rm", "--rootfs-union", "./top=rw:./low=ro"])
        .args(["busybox", "sh", "-ec"])
        .arg(
            "cat /etc/motd /opt/tool; ls /bin/busybox; stat -c %a /opt/tool; echo new > /new
             rm /opt/tool; [ ! -e /opt/tool ]; stat -f -c %T /; grep ' / ' /proc/self/mounts
             mkdir /dir; ln /new /dir/new; [ -c /dev/null ]; [ -d /sys/kernel ]; hostname > /dev/null
             grep -q $(hostname) /etc/hosts; head -c 1 /etc/resolv.conf > /dev/null",
        )
        .directory("/run/b")
        .run()
        .success();
    let text = output.text();
    assert!(
        text.starts_with("low\ntool\n/bin/busybox\n4755\n"),
        "{text}"
    );
    assert!(text.contains(" / fuse.rbox-union rw,"), "{text}");
    assert_eq!(
        lab.sh("cd /run/b; cat top/new low/opt/tool; ls top/opt/.wh.tool; ls -d top/bin low/new 2> /dev/null || :"),
        "new\ntool\ntop/opt/.wh.tool"
    );
    nothing_is_left(&lab);
    // What was done is there for the next; with --read-only nothing more is.
    lab.rbox(["run", "--rm", "--read-only", "--rootfs-union", BRANCHES])
        .args(["busybox", "sh", "-c", "cat /dir/new; ls /opt; touch /x"])
        .run()
        .code(1)
        .says("Read-only file system");
    nothing_is_left(&lab);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_root_lives_as_every_container_does() {
    let lab = branches();
    lab.rbox(["create", "--name", "box", "--rootfs-union", BRANCHES])
        .args(["busybox", "sleep", "1000"])
        .run()
        .success();
    nothing_is_left(&lab);
    lab.sh("rbox start box; rbox exec box sh -c 'echo 1 > /file; mkdir /data; rm -r /opt; echo x >> /etc/motd'");
    assert_eq!(
        lab.sh(
            "rbox inspect -f '{{.Driver}} {{.GraphDriver.Name}} {{.HostConfig.RootfsUnion}}' box"
        ),
        format!("union union dirs={BRANCHES}")
    );
    let diff = "C /etc\nA /etc/motd\nA /data\nA /file";
    let changes = |lab: &Lab| lab.sh("rbox diff box | sort");
    assert_eq!(changes(&lab), sorted(diff));
    lab.sh("rbox restart -t 0 box; rbox exec box cat /file; rbox cp box:/file /run/out; echo in > /run/in; rbox cp /run/in box:/in");
    assert_eq!(
        lab.sh("cat /run/out /run/b/top/in; rm /run/b/top/in"),
        "1\nin"
    );
    let tree = lab.sh("rbox export box | tar t | sort");
    lab.sh("rbox commit box made; rbox stop -t 0 box");
    nothing_is_left(&lab);
    assert_eq!(changes(&lab), sorted(diff));
    assert_eq!(lab.sh("rbox export box | tar t | sort"), tree);
    assert_eq!(
        lab.sh("rbox commit box again > /dev/null; rbox run --rm again cat /file"),
        "1"
    );
    nothing_is_left(&lab);
    assert_eq!(
        lab.sh(
            "rbox run --rm made sh -c 'cat /file /etc/motd; ls -d /data /opt 2> /dev/null || :'"
        ),
        "1\nlow\nx\n/data"
    );
    lab.sh("rbox cp box:/file /run/again; echo late > /run/late; rbox cp /run/late box:/late");
    assert_eq!(lab.sh("cat /run/again /run/b/top/late"), "1\nlate");
    nothing_is_left(&lab);
    lab.sh("rbox start box; rbox rm -f box");
    nothing_is_left(&lab);
    assert_eq!(
        lab.sh("cat /run/b/top/file /run/b/low/opt/tool; rbox system check"),
        "1\ntool\n3 images, 2 layers, 0 containers checked, 0 damaged"
    );
}

fn sorted(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_root_of_many_layers_and_of_none() {
    let lab = branches();
    // Two layers more: the image is stacked before it becomes the lowest branch.
    lab.sh("rbox run --name base busybox sh -c 'echo one > /one; echo two > /two'; rbox commit base first
         rbox run --name next first sh -c 'rm /one; echo 2 > /two; chmod 700 /bin'; rbox commit next second");
    assert_eq!(
        lab.sh(&format!("rbox run --rm --rootfs-union {BRANCHES} second sh -c 'cat /two; ls /one 2> /dev/null; cat /etc/motd; stat -c %a /bin; echo 3 > /two'; cat /run/b/top/two")),
        "2\nlow\n700\n3"
    );
    nothing_is_left(&lab);
    // Without an image the branches hold all.
    lab.sh("mkdir /run/b/whole; rbox export base | tar x -C /run/b/whole");
    let whole = "/run/b/top=rw:/run/b/whole=ro,create=mfs";
    lab.rbox(["run", "--name", "bare", "--rootfs-union", whole])
        .args(["scratch", "/bin/sh", "-c", "cat /one; echo bare > /bare"])
        .run()
        .success();
    assert_eq!(
        lab.sh("cat /run/b/top/bare; rbox ps -a --format '{{.Image}}' -f name=bare"),
        "bare\nscratch"
    );
    lab.rbox(["commit", "bare"])
        .run()
        .code(1)
        .says("rbox export");
    assert_eq!(
        lab.sh("rbox export bare | tar x -O bare; rbox diff bare | grep -c '^A /bin/sh$'"),
        "bare\n1"
    );
    lab.rbox(["run", "--rm", "scratch", "true"]).run().code(125);
    nothing_is_left(&lab);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_root_is_explained_and_refused() {
    let lab = branches();
    let shell = lab
        .rbox([
            "explain",
            "--shell",
            "run",
            "--rootfs-union",
            BRANCHES,
            "busybox",
            "true",
        ])
        .run()
        .success()
        .text();
    assert!(
        shell.contains(&format!(
            "rbox union mount -o dirs={BRANCHES}:/var/lib/rbox/layers/"
        )),
        "{shell}"
    );
    for (branches, says) in [
        ("/run/b/top=rx", "unknown permission \"rx\""),
        ("/run/b/top=rw,create=best", "unknown policy \"best\""),
        ("/run/b/top=rw,frob", "unknown option \"frob\""),
        (
            "/run/b/top=rw:/run/b/none=ro",
            "branch \"/run/b/none\": No such file or directory",
        ),
        ("/run/b=rw:/run/b/low=ro", "it is inside branch /run/b"),
        ("/run/b/low=ro,create=rr", "no branch is writable"),
        ("", "a branch must follow"),
    ] {
        lab.rbox(["create", "--rootfs-union", branches, "busybox", "true"])
            .run()
            .code(if says.starts_with("unknown") || branches.is_empty() {
                125
            } else {
                1
            })
            .says(says);
    }
    assert_eq!(lab.sh("rbox ps -aq"), "");
    start(&lab, "dies", &[]);
    lab.sh("kill -9 $(cut -d' ' -f1 /run/rbox/containers/*/monitor)");
    eventually("it is seen to be dead", || {
        lab.sh("rbox inspect -f '{{.State.Status}}' dies") == "exited"
    });
    nothing_is_left(&lab);
    lab.sh("rbox start dies; rbox exec dies cat /etc/motd; rbox rm -f dies");
    nothing_is_left(&lab);
}

/// Its restart finds the marks of the state directory gone and the branches as they were.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_root_and_volume_after_the_machine_has_restarted() {
    let lab = branches();
    lab.sh("rbox volume create -d union -o dirs=/run/b/low=ro data");
    start(&lab, "box", &["-v", "data:/data"]);
    lab.sh("rbox exec box sh -c 'echo kept > /kept'
         kill -9 $(cut -d' ' -f1 /run/rbox/containers/*/monitor)
         for place in /run/rbox/unions/* /run/rbox/volumes/*/union; do umount -l $place; done; rm -r /run/rbox");
    lab.sh("rbox start box");
    assert_eq!(
        lab.sh("rbox exec box cat /kept /data/etc/motd; rbox rm -f box"),
        "kept\nlow\nbox"
    );
    nothing_is_left(&lab);
}

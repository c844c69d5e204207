//! `rbox diff`, `export` and `commit`: what a container made of its image.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

/// Changes of every kind, volumes that must not show, and what a start itself makes.
const CHANGES: &str = "echo new > /new; echo more >> /etc/passwd; rm /etc/group; mkdir -p /d/e; \
    chmod 700 /home/user; echo in > /vol/in; echo in > /bound/in; : > /tmp/x; rm /tmp/x; \
    ln /new /linked; echo made > /ready";

const SHOWN: [&str; 12] = [
    "A /bound",
    "A /d",
    "A /d/e",
    "C /etc",
    "D /etc/group",
    "C /etc/passwd",
    "C /home",
    "C /home/user",
    "A /linked",
    "A /new",
    "A /ready",
    "A /vol",
];

/// A container that made its changes and goes on; its name is `box`.
fn running(lab: &Lab) {
    let script = format!("{CHANGES}; exec sleep 1000");
    lab.rbox(["run", "-d", "--name", "box", "--network", "none", "--init"])
        .args([
            "-v",
            "/vol",
            "-v",
            "/var/tmp/bound:/bound",
            "-e",
            "A=1",
            "-u",
            "root",
        ])
        .args(["busybox", "sh", "-c", &script])
        .run()
        .success();
    eventually("the container made its changes", || {
        lab.rbox(["exec", "box", "cat", "/ready"])
            .run()
            .status
            .success()
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_diff_shows_what_changed_and_nothing_of_the_start() {
    let lab = Lab::with_busybox();
    lab.rbox(["create", "--name", "fresh", "busybox", "true"])
        .run()
        .success();
    assert_eq!(lab.rbox(["diff", "fresh"]).run().success().text(), "");
    running(&lab);
    assert_eq!(lab.rbox(["diff", "box"]).run().success().lines(), SHOWN);
    lab.rbox(["kill", "box"]).run().success();
    lab.rbox(["wait", "box"]).run().success();
    let stopped = lab.rbox(["container", "diff", "box"]).run().success();
    assert_eq!(stopped.lines(), SHOWN);
    lab.rbox(["diff", "nope"])
        .run()
        .code(1)
        .says("Error response from daemon: No such container: nope");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_export_is_the_whole_tree_without_volumes() {
    let lab = Lab::with_busybox();
    running(&lab);
    let script = "cd /var/tmp; rbox export box | tar -tf - | sort > live
        rbox kill box > /dev/null; rbox wait box > /dev/null
        rbox export -o whole.tar box; tar -tf whole.tar | sort > dead; cmp live dead
        mkdir t; tar -C t -xf whole.tar; cat t/new; test ! -e t/etc/group; tail -n 1 t/etc/passwd
        stat -c %a:%u t/home/user; ls -A t/vol t/bound; test t/new -ef t/linked; ls";
    assert_eq!(
        lab.sh(script).lines().collect::<Vec<_>>(),
        [
            "new",
            "more",
            "700:1000",
            "t/bound:",
            "",
            "t/vol:",
            "bound",
            "dead",
            "live",
            "t",
            "whole.tar"
        ]
    );
    lab.rbox(["export", "-o", "/nowhere/x", "box"])
        .run()
        .code(1)
        .says("failed to export container: invalid output path: stat /nowhere: no such file");
    // A stream that nobody reads to its end is no failure that would be told.
    assert_eq!(lab.sh("rbox export box | head -c 10 | wc -c"), "10");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_commit_makes_an_image_that_runs() {
    let lab = Lab::with_busybox();
    running(&lab);
    let made = lab
        .rbox([
            "commit",
            "-a",
            "me",
            "-m",
            "why",
            "-c",
            "ENV B=2",
            "-c",
            "CMD [\"env\"]",
        ])
        .args(["box", "made:1"])
        .run()
        .success()
        .text();
    let inspect = |format: &str| {
        let output = lab.rbox(["inspect", "-f", format, "made:1"]).run();
        output.success().text()
    };
    assert_eq!(inspect("{{.Id}}"), made);
    assert_eq!(inspect("{{.Author}} {{.Comment}}"), "me why");
    let base = lab
        .rbox(["inspect", "-f", "{{.Id}}", "busybox"])
        .run()
        .success()
        .text();
    assert_eq!(inspect("{{.Parent}}"), base);
    assert_eq!(inspect("{{len .RootFS.Layers}}"), "2");
    let history = lab
        .rbox(["history", "--no-trunc", "--format", "{{.ID}} {{.Comment}}"])
        .arg("made:1")
        .run()
        .success()
        .lines();
    assert_eq!(history[0], format!("{made} why"));
    assert_eq!(history[1], format!("{base} Imported from -"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_commit_keeps_files_and_config() {
    let lab = Lab::with_busybox();
    running(&lab);
    let commit = [
        "commit",
        "-c",
        "ENV B=2",
        "-c",
        "CMD [\"env\"]",
        "box",
        "made:1",
    ];
    let made = lab.rbox(commit).run().success().text();
    // It goes on, and was not harmed.
    assert_eq!(
        lab.rbox(["exec", "box", "cat", "/new"])
            .run()
            .success()
            .text(),
        "new"
    );
    let script = "cat /new /vol/in 2>&1; ls -A /bound; test ! -e /etc/group; id -u; \
        test /new -ef /linked; stat -c %a:%u /home/user";
    let seen = lab.rbox([
        "run",
        "--rm",
        "--network",
        "none",
        "made:1",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        seen.run().success().lines(),
        [
            "new",
            "cat: can't open '/vol/in': No such file or directory",
            "0",
            "700:1000"
        ]
    );
    let env = lab
        .rbox(["run", "--rm", "--network", "none", "made:1"])
        .run();
    let env = env.success().lines();
    assert!(
        env.contains(&"A=1".to_owned()) && env.contains(&"B=2".to_owned()),
        "{env:?}"
    );
    // What runs on it shows only its own changes.
    lab.rbox([
        "run",
        "--name",
        "on",
        "--network",
        "none",
        "made:1",
        "rm",
        "/new",
    ])
    .run()
    .success();
    assert_eq!(lab.rbox(["diff", "on"]).run().success().text(), "D /new");
    // The archive that `save` writes is whole: it can be loaded again under the same id.
    lab.sh(
        "rbox save -o /var/tmp/made.tar made:1; rbox rm -f on box; rbox rmi made:1 busybox
        rbox load -i /var/tmp/made.tar",
    );
    let id = lab.rbox(["inspect", "-f", "{{.Id}}", "made:1"]).run();
    assert_eq!(id.success().text(), made);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_commit_of_stopped_containers_and_what_is_refused() {
    let lab = Lab::with_busybox();
    lab.rbox([
        "run",
        "--name",
        "box",
        "--network",
        "none",
        "busybox",
        "true",
    ])
    .run()
    .success();
    let made = lab.rbox(["commit", "box"]).run().success().text();
    let layers = |image: &str| {
        let format = "{{len .RootFS.Layers}}";
        lab.rbox(["inspect", "-f", format, image])
            .run()
            .success()
            .text()
    };
    assert_eq!(layers(&made), "1", "nothing changed makes no layer");
    for (words, message) in [
        (
            &["-c", "RUN x", "box"][..],
            "run is not a valid change command",
        ),
        (
            &["box", "UPPER"],
            "invalid reference format: repository name (library/UPPER) must be lowercase",
        ),
        (&["nope"], "No such container: nope"),
        (
            &[],
            "'rbox commit' requires at least 1 and at most 2 arguments",
        ),
    ] {
        lab.rbox(["commit"]).args(words).run().code(1).says(message);
    }
    // Deleted in a directory that was replaced: the layer hides what was below.
    lab.rbox([
        "run",
        "--name",
        "rep",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
    ])
    .arg("rm -r /home; mkdir /home; echo x > /home/x")
    .run()
    .success();
    lab.rbox(["commit", "-p=false", "rep", "replaced"])
        .run()
        .success();
    let ls = lab.rbox([
        "run",
        "--rm",
        "--network",
        "none",
        "replaced",
        "ls",
        "/home",
    ]);
    assert_eq!(ls.run().success().text(), "x");
    let events = "rbox rmi replaced; grep -c '\"Action\":\"commit\"' /run/rbox/events";
    assert_eq!(lab.sh(events).lines().last().unwrap(), "2");
    // The parent of an image loses its name only, and goes with its last child.
    lab.rbox(["rm", "box", "rep"]).run().success();
    let untagged = lab.rbox(["rmi", "busybox"]).run().success().text();
    assert_eq!(untagged, "Untagged: busybox:latest");
    lab.rbox(["rmi", &made]).run().success();
    assert_eq!(lab.rbox(["images", "-aq"]).run().success().text(), "");
    assert_eq!(lab.sh("ls /var/lib/rbox/layers/sha256"), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_commit_freezes_and_lets_go() {
    let lab = Lab::with_busybox();
    running(&lab);
    lab.rbox(["commit", "box"]).run().success();
    let actions =
        || lab.sh("sed 's/.*\"Action\":\"\\([a-z]*\\)\".*/\\1/' /run/rbox/events | tail -n 3");
    assert_eq!(actions(), "pause\nunpause\ncommit");
    // A full disk: nothing is left, and the container goes on.
    lab.sh("mkdir -p /var/tmp/layers; rbox exec box sh -c 'dd if=/dev/zero of=/big bs=1M count=8 2> /dev/null'
        mount --bind /var/lib/rbox/layers /var/tmp/layers
        mount -t tmpfs -o size=2m full /var/lib/rbox/layers
        cp -a /var/tmp/layers/. /var/lib/rbox/layers/ 2> /dev/null || true");
    let before = lab.rbox(["images", "-aq"]).run().success().text();
    lab.rbox(["commit", "box"]).run().code(1);
    let status = lab
        .rbox(["inspect", "-f", "{{.State.Status}}", "box"])
        .run();
    assert_eq!(status.success().text(), "running");
    lab.sh("umount /var/lib/rbox/layers");
    assert_eq!(lab.rbox(["images", "-aq"]).run().success().text(), before);
    lab.rbox(["commit", "box"]).run().success();
}

/// A file of which only the mode changed, and a directory that was only moved, are whole in the layer.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_commit_has_whole_files() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox([
            "run",
            "-d",
            "--name",
            "box",
            "--network",
            "none",
            "busybox",
            "sleep",
            "1000",
        ])
        .run()
        .success()
        .text();
    lab.sh("rbox exec box sh -c 'chmod 700 /bin/busybox; mv /home/user /home/moved'");
    let upper = format!("/var/lib/rbox/containers/{id}/upper");
    let seen = lab.sh(&format!(
        "cmp {upper}/bin/busybox $(find /var/lib/rbox/layers -path '*/bin/busybox') && rbox commit box made > /dev/null
         rbox run --rm --network none made sh -c 'ls /home; stat -c %a /bin/busybox'"
    ));
    assert_eq!(seen, "moved\n700");
}

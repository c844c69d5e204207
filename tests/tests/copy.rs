//! `rbox cp`: files into containers and out of them, running or not, volumes and all.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::archive::Tar;
use lab::{Lab, Output, eventually};

/// A container `box` with a volume, a read-only volume and a host path; it runs.
fn running(lab: &Lab) {
    lab.sh("mkdir /var/tmp/bound");
    lab.rbox(["run", "-d", "--name", "box", "--network", "none", "--init"])
        .args([
            "-v",
            "vol:/vol",
            "-v",
            "fix:/fix:ro",
            "-v",
            "/var/tmp/bound:/bound",
        ])
        .args(["--tmpfs", "/mem", "busybox", "sleep", "1000"])
        .run()
        .success();
}

fn stop(lab: &Lab) {
    lab.sh("rbox kill box; rbox wait box");
}

fn cp(lab: &Lab, words: &[&str]) -> Output {
    lab.rbox(["cp"]).args(words).directory("/var/tmp").run()
}

/// The same copies while it runs and when it does not.
fn both_ways(lab: &Lab, state: &str) {
    let file = format!("/var/tmp/{state}");
    lab.sh(&format!(
        "mkdir -p {file}/d/e; echo 1 > {file}/f; echo 2 > {file}/d/g; ln -s g {file}/d/l
        ln {file}/d/g {file}/d/h; chown -R 7:8 {file}/d; chmod 640 {file}/d/g; ln -s d {file}/link"
    ));
    for (words, lands) in [
        (["f", "box:/tmp"], "/tmp/f"),
        (["f", "box:/tmp/new"], "/tmp/new"),
        (["f", "box:vol/x"], "/vol/x"),
        (["d", "box:/vol"], "/vol/d/g"),
        (["d/.", "box:/bound"], "/bound/g"),
        (["d", "box:/root/d2"], "/root/d2/g"),
        (["link", "box:/tmp/sym"], "/tmp/sym"),
        (["link/.", "box:/tmp/through"], "/tmp/through/g"),
    ] {
        let from = format!("{file}/{}", words[0]);
        cp(lab, &[&from, words[1]]).success();
        let back = format!("{file}/back");
        cp(lab, &[&format!("box:{lands}"), &back]).success();
        let script =
            format!("if [ -L {back} ]; then readlink {back}; else cat {back}; fi; rm {back}");
        let content = match words[0] {
            "f" => "1",
            "link" => "d",
            _ => "2",
        };
        assert_eq!(lab.sh(&script), content, "{state} {words:?}");
    }
    // Owner, mode, links and hard links of a directory survive; out of the container they are the
    // caller's unless asked for.
    let out = format!("{file}/out");
    cp(lab, &["box:/vol/d", &out]).success();
    cp(lab, &["-a", "box:/vol/d/.", &format!("{out}-a")]).success();
    let seen = lab.sh(&format!(
        "stat -c '%u:%g %a' {out}/g {out}-a/g; readlink {out}/l; test {out}/g -ef {out}/h; ls {out}-a"
    ));
    assert_eq!(seen, "0:0 640\n7:8 640\ng\ne\ng\nh\nl", "{state}");
    // A link is copied as such, or what it leads to, under the name that was typed.
    cp(lab, &["box:/vol/d/l", &format!("{file}/as-link")]).success();
    cp(lab, &["-L", "box:/vol/d/l", &format!("{file}/d")]).success();
    assert_eq!(
        lab.sh(&format!(
            "readlink {file}/as-link; cat {file}/d/l; test ! -L {file}/d/l"
        )),
        "g\n2"
    );
    assert_eq!(lab.sh("ls /var/tmp/bound"), "e\ng\nh\nl");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_both_ways_running_and_stopped() {
    let lab = Lab::with_busybox();
    running(&lab);
    both_ways(&lab, "running");
    // Made by a copy, seen by the processes.
    assert_eq!(
        lab.sh("rbox exec box cat /vol/x /bound/g /tmp/new"),
        "1\n2\n1"
    );
    // What lies in memory is there as long as the container runs.
    lab.sh("echo m > /var/tmp/m; rbox cp /var/tmp/m box:/mem/m; rbox exec box cat /mem/m");
    stop(&lab);
    lab.sh("rm -r /var/tmp/bound/*; rbox run --rm -v vol:/v busybox sh -c 'rm -r /v/*'");
    both_ways(&lab, "stopped");
    // Nothing is left of it, and the container starts as ever.
    assert_eq!(
        lab.sh("ls /run/rbox/containers; grep -c overlay /proc/mounts || :"),
        "0"
    );
    assert_eq!(
        lab.sh("rbox start box; rbox exec box cat /vol/x /bound/g /tmp/new"),
        "box\n1\n2\n1"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_streams() {
    let lab = Lab::with_busybox();
    running(&lab);
    for _ in ["running", "stopped"] {
        let archive = Tar::new().directory("in/").file("in/f", "streamed").bytes();
        lab.rbox(["cp", "-", "box:/vol"])
            .input(archive)
            .run()
            .success();
        let names =
            lab.sh("rbox cp box:/vol/in - | tar -tf -; rbox cp box:/vol/in/. - | tar -tf -");
        assert_eq!(names, "in/\nin/f\n./\n./f");
        assert_eq!(lab.sh("rbox cp box:/vol/in/f - | tar -xOf -"), "streamed");
        // A container's files reach another through two streams.
        lab.sh(
            "rbox create --name two busybox true; rbox cp box:/vol/in - | rbox cp - two:/root
            rbox cp two:/root/in/f /var/tmp/via; rbox rm two",
        );
        assert_eq!(lab.sh("cat /var/tmp/via; rm /var/tmp/via"), "streamed");
        lab.rbox(["cp", "-", "box:/vol/in/f"])
            .input(Vec::new())
            .run()
            .code(1)
            .says("destination \"box:/vol/in/f\" must be a directory");
        let cut = &Tar::new().file("cut", "x".repeat(5000)).bytes()[..2000];
        lab.rbox(["cp", "-", "box:/tmp"]).input(cut).run().code(1);
        if !lab.sh("rbox ps -q").is_empty() {
            stop(&lab);
        }
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_refusals_are_dockers() {
    let lab = Lab::with_busybox();
    running(&lab);
    lab.sh("mkdir -p /var/tmp/dir; echo f > /var/tmp/file; ln -s nowhere /var/tmp/dangling");
    let refused = |words: &[&str], message: &str| {
        let output = cp(&lab, words).code(1);
        assert!(
            output.errors().contains(message),
            "{words:?}: {}",
            output.errors()
        );
    };
    for _ in ["running", "stopped"] {
        refused(
            &["box:/nosuch", "out"],
            "Error response from daemon: Could not find the file /nosuch in container box",
        );
        refused(&["none:/x", "out"], "No such container: none");
        refused(
            &["file", "box:/nosuch/x"],
            "Could not find the file /nosuch in container box",
        );
        refused(&["file", "box:/tmp/new/"], "no such directory");
        refused(&["dir", "box:/etc/passwd"], "cannot copy directory");
        refused(&["box:/etc", "file"], "cannot copy directory");
        refused(&["box:/etc/passwd/", "out"], "not a directory");
        refused(&["file", "box:/fix"], "mounted volume is marked read-only");
        refused(
            &["absent", "box:/tmp"],
            "lstat /var/tmp/absent: no such file or directory",
        );
        refused(
            &["box:/etc/passwd", "no/x"],
            "invalid output path: directory \"/var/tmp/no\" does not exist",
        );
        refused(
            &["box:/etc", "two:/x"],
            "copying between containers is not supported",
        );
        refused(
            &["dir", "file"],
            "must specify at least one container source",
        );
        refused(&["", "box:/x"], "source can not be empty");
        refused(&["file", ""], "destination can not be empty");
        lab.sh("mkdir -p /var/tmp/clash/dir; : > /var/tmp/over; rbox cp /var/tmp/clash/dir box:/tmp/clash");
        lab.sh("rm -rf /var/tmp/as; mkdir /var/tmp/as; : > /var/tmp/as/clash");
        refused(
            &["as/.", "box:/tmp"],
            "cannot overwrite directory \"/tmp/clash\" with non-directory",
        );
        if !lab.sh("rbox ps -q").is_empty() {
            stop(&lab);
        }
    }
    lab.sh("rbox run -d --name fixed --read-only --network none -v vol:/vol busybox sleep 1000");
    refused(
        &["file", "fixed:/tmp"],
        "container rootfs is marked read-only",
    );
    cp(&lab, &["file", "fixed:/vol"]).success();
    // The container's user, where it has one and -a was given.
    lab.sh(
        "rbox create --name user -u user busybox true; chown 3:4 /var/tmp/file
        rbox cp /var/tmp/file user:/plain; rbox cp -a /var/tmp/file user:/own
        rbox cp -a user:/plain /var/tmp/plain; rbox cp -a user:/own /var/tmp/own",
    );
    assert_eq!(
        lab.sh("stat -c %u:%g /var/tmp/plain /var/tmp/own"),
        "3:4\n1000:1000"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_of_a_stopped_container_keeps_others_off() {
    let lab = Lab::with_busybox();
    lab.rbox(["create", "--name", "box", "busybox", "sleep", "1000"])
        .run()
        .success();
    let mut copy = lab.rbox(["cp", "-", "box:/tmp"]).spawn();
    let archive = Tar::new().file("f", "late").bytes();
    copy.send(&archive[..512]);
    eventually("the copy holds the container", || {
        !lab.sh("ls /run/rbox/containers 2> /dev/null || :")
            .is_empty()
    });
    // A start waits for it: never is the writable layer mounted twice.
    let start = lab.rbox(["start", "box"]).spawn();
    copy.send(&archive[512..]);
    copy.close();
    copy.finish().success();
    start.finish().success();
    assert_eq!(lab.sh("rbox exec box cat /tmp/f"), "late");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_from_a_container_whose_monitor_was_killed() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run -d --name box --network none busybox sh -c 'echo made > /f; exec sleep 1000'
        until rbox exec box test -s /f; do :; done
        read pid start < /run/rbox/containers/$(rbox inspect -f '{{.Id}}' box)/monitor; kill -9 $pid");
    assert_eq!(lab.sh("rbox cp box:/f - | tar -xO"), "made");
    let state = "{{.State.Status}} {{.State.ExitCode}}";
    let state = lab.rbox(["inspect", "-f", state, "box"]).run().success();
    assert_eq!(state.text(), "exited 137");
    assert_eq!(lab.sh("rbox start box; rbox exec box cat /f"), "box\nmade");
}

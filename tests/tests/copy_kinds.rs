//! `rbox cp` of what is no ordinary file: compressed streams, holes, the kernel's views, files that
//! rbox itself makes; and of readers that leave early.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;

fn running() -> Lab {
    let lab = Lab::with_busybox();
    lab.sh("rbox run -d --name box --network none busybox sleep 1000");
    lab
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_of_compressed_streams() {
    let lab = running();
    lab.sh("mkdir -p /var/tmp/in/d; echo 1 > /var/tmp/in/f; echo 2 > /var/tmp/in/d/g");
    for (how, place) in [("", "/tmp"), ("z", "/root"), ("J", "/home"), ("j", "/var")] {
        let script = format!(
            "tar -C /var/tmp/in -c{how}f - f d | rbox cp - box:{place}
            rbox exec box cat {place}/f {place}/d/g"
        );
        assert_eq!(lab.sh(&script), "1\n2", "{how}");
    }
    for script in [
        "echo garbage | rbox cp - box:/tmp",
        "echo garbage | gzip | rbox cp - box:/tmp",
        "tar -C /var/tmp/in -czf - f d | head -c 60 | rbox cp - box:/tmp",
    ] {
        let output = lab.command("sh").args(["-c", script]).run();
        output.code(1).says("cannot copy into the container");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_of_files_with_holes() {
    let lab = running();
    lab.sh(
        "rbox exec box sh -c 'dd if=/dev/zero of=/s bs=1 count=1 seek=8G 2> /dev/null
            echo middle | dd of=/s bs=1 seek=4G conv=notrunc 2> /dev/null; truncate -s 5G /hole'
        cd /var/tmp; rbox cp box:/s s; rbox cp box:/hole hole; rbox cp s box:/back",
    );
    assert_eq!(
        lab.sh("cd /var/tmp; stat -c %s s hole"),
        "8589934593\n5368709120"
    );
    let read = "dd if=FILE bs=1 skip=4G count=6 2> /dev/null; stat -c ' %s' FILE";
    let read = |file: &str| read.replace("FILE", file);
    assert_eq!(lab.sh(&read("/var/tmp/s")), "middle 8589934593");
    let back = ["exec", "box", "sh", "-c", &read("/back")];
    assert_eq!(lab.rbox(back).run().success().text(), "middle 8589934593");
    // Not a thousandth of it is on the disk.
    let script = "stat -c %b /back | { read n; test $n -lt 8000; }";
    lab.rbox(["exec", "box", "sh", "-c", script])
        .run()
        .success();
    lab.sh("for f in s hole; do test $(stat -c %b /var/tmp/$f) -lt 8000; done");
    // On a stream every reader gets every byte.
    let sent = lab.sh("rbox exec box truncate -s 9M /nine; rbox cp box:/nine - | tar -xO | wc -c");
    assert_eq!(sent, "9437184");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_of_the_kernel_s_views() {
    let lab = running();
    // One file has what can be read of it, whatever length it claims.
    lab.sh(
        "cd /var/tmp; rbox cp box:/proc/version version; cmp version /proc/version
        rbox cp box:/sys/kernel/mm/transparent_hugepage/enabled -
        rbox cp box:/sys/kernel/mm/transparent_hugepage/enabled - | tar -xO | grep -q never
        rbox cp box:/proc/1/status - | tar -xO | grep -q '^Name:.sleep'",
    );
    let lost = lab.rbox(["cp", "box:/proc/self/status", "-"]).run();
    lost.code(1)
        .says("Could not find the file /proc/self/status in container box");
    let log = lab.rbox(["cp", "box:/proc/kmsg", "-"]).run();
    log.code(1).says("cannot copy \"/proc/kmsg\"");
    // A whole container comes without them.
    lab.sh("cd /var/tmp; rbox exec box touch /made; rbox cp box:/ all; test -f all/made -a -f all/bin/busybox");
    assert_eq!(
        lab.sh("ls -A /var/tmp/all/proc /var/tmp/all/sys"),
        "/var/tmp/all/proc:\n\n/var/tmp/all/sys:"
    );
    assert_eq!(lab.sh("rbox cp box:/proc - | tar -t"), "proc/");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_of_generated_files_of_a_container_that_ended() {
    let lab = running();
    let take =
        "for f in hosts hostname resolv.conf; do rbox cp box:/etc/$f - | tar -xO | md5sum; done";
    let running = lab.sh(take);
    assert_eq!(
        lab.sh("rbox cp box:/etc/hosts - | tar -xO | head -1"),
        "127.0.0.1\tlocalhost"
    );
    lab.sh("rbox kill box; rbox wait box");
    assert_eq!(lab.sh(take), running);
    assert_eq!(lab.sh("rbox diff box"), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_to_and_from_no_place() {
    let lab = running();
    lab.sh("echo f > /var/tmp/f; rbox cp /var/tmp/f box:/tmp/f");
    for (words, text) in [
        (
            ["/var/tmp/f", "box:"],
            "bad parameter: path cannot be empty",
        ),
        (
            ["box:", "/var/tmp/out"],
            "bad parameter: path cannot be empty",
        ),
        (["/var/tmp/f", "box:/tmp/f/"], "no such directory"),
        (["/var/tmp/f", "none:/tmp"], "No such container: none"),
    ] {
        lab.rbox(["cp"]).args(words).run().code(1).says(text);
    }
}

/// Whoever reads may stop, whoever writes may be cut off: the command ends, and the container is
/// as free as before.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_copy_with_readers_that_leave() {
    let lab = running();
    lab.sh("rbox exec box dd if=/dev/zero of=/big bs=1M count=20 2> /dev/null");
    for state in ["running", "ended"] {
        assert_eq!(
            lab.sh("rbox cp box:/big - 2> /dev/null | head -c 1000 | wc -c"),
            "1000",
            "{state}"
        );
        assert_eq!(
            lab.sh("rbox export box 2> /dev/null | head -c 1000 | wc -c"),
            "1000",
            "{state}"
        );
        let full = lab
            .command("sh")
            .args(["-c", "rbox cp box:/big - > /dev/full"])
            .run();
        full.code(1).says("No space left on device");
        if state == "running" {
            lab.sh("rbox kill box; rbox wait box");
        }
    }
    assert_eq!(lab.sh("ls /run/rbox/containers; rbox start box"), "box");
}

//! Union mounts: how the kernel and the server talk, and that a long request holds nobody up.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::os::unix::fs::FileExt;

use lab::{Lab, eventually, rings};

mod unions;
use unions::Union;

/// A union that nobody has mounted yet.
fn prepared() -> Union {
    let union = Union { lab: Lab::new() };
    union.sh("mkdir a b m; echo b > b/f");
    union
}

fn mount(union: &Union, options: &str) -> lab::Output {
    let options = format!("dirs=a=rw:b=ro{options}");
    union.rbox(&["mount", "-o", &options, "m"]).run()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_talks_by_rings_where_the_kernel_offers_them() {
    let union = prepared();
    if !rings::exist() {
        mount(&union, ",transport=ring")
            .code(1)
            .says("the kernel does not offer FUSE over io_uring");
        mount(&union, "").success();
        assert_eq!(union.status()["transport"], "device");
        return;
    }
    for (on, option, transport) in [
        (true, "", "ring"),
        (true, ",transport=ring", "ring"),
        (true, ",transport=auto", "ring"),
        (true, ",transport=device", "device"),
        (false, "", "device"),
        (false, ",transport=device", "device"),
    ] {
        rings::switched(on, || mount(&union, option).success());
        assert_eq!(union.sh("cat m/f; echo new > m/new; rm m/new"), "b");
        let status = union.status();
        assert_eq!(status["transport"], transport, "{on} {option:?}");
        let by_ring = status["ring_requests"].as_u64().unwrap();
        assert_eq!(by_ring > 5, transport == "ring", "{status}");
        union.rbox(&["umount", "m"]).run().success();
    }
    let refused = rings::switched(false, || mount(&union, ",transport=ring"));
    let refused = refused.code(1).says("enable_uring");
    assert_eq!(refused.errors().lines().count(), 1);
    assert_eq!(union.sh("grep -c rbox-union /proc/mounts || :"), "0");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_the_transport_it_was_mounted_with() {
    let union = prepared();
    mount(&union, ",transport=device").success();
    union
        .rbox(&["remount", "-o", "transport=ring", "m"])
        .run()
        .code(1)
        .says("a mounted union keeps the one it has");
    union
        .rbox(&["remount", "-o", "transport=device,create=rr", "m"])
        .run()
        .success();
    mount(&union, ",transport=pigeon")
        .code(1)
        .says("auto, ring or device must follow");
}

/// Many wait for a file that is being copied up, and all others are served meanwhile.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_serves_others_during_a_long_copy() {
    let union = Union::new("echo small > b/small", "dirs=a=rw:b=ro");
    // A quick machine may have copied the file before the others had their turn on a busy one; if the
    // copy holds them up, they have it never.
    let served = (1..=8).any(|attempt| {
        let served = others_are_served_during_a_long_copy(&union);
        assert_eq!(union.status()["copy_ups"], attempt);
        served
    });
    assert!(served, "each copy took longer than the others' work");
}

/// Whether others came and went before twenty openers of a large file had it copied.
fn others_are_served_during_a_long_copy(union: &Union) -> bool {
    union.sh("rm -f m/large a/.wh.large; truncate -s 40G b/large");
    // A sparse file is copied at once; a hole in every page makes it long.
    union.enter(|at| {
        let file = fs::OpenOptions::new().write(true).open(at.join("b/large"));
        let file = file.unwrap();
        for page in 0..40_000_u64 {
            file.write_all_at(b"x", page << 20).unwrap();
        }
    });
    let server = union.status()["server"].as_u64().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let opener = union.lab.command("sh").args(["-c", "exec 9>>m/large"]);
        waiting.push(opener.directory(union.lab.directory()).spawn());
    }
    // What is being made has no name yet: only the server's descriptor shows it.
    let descriptors = format!("ls -l /proc/{server}/fd | grep -c deleted || :");
    let mut ended = |some: usize| {
        let ended = waiting.iter_mut().filter_map(|one| one.ended()).count();
        ended >= some
    };
    eventually("the copy has begun", || {
        union.sh(&descriptors) != "0" || ended(20)
    });
    union.sh("cat m/small; ls m; echo new > m/new; cat m/new; mv m/new m/other; rm m/other");
    let served = !ended(1);
    for one in waiting {
        one.finish().success();
    }
    served
}

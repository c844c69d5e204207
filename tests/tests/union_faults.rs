//! Union mounts: live changes, full branches, dead servers, bad input, many files.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::time::Duration;

use lab::{Lab, eventually};
use rustix::io::Errno;

mod unions;
use unions::Union;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_changes_while_mounted() {
    let union = Union::new(
        "echo a > a/f; echo c > c/f; echo c > c/only",
        "dirs=a=rw:b=ro",
    );
    union
        .rbox(&["add", "--index", "0", "m", "c=rw"])
        .run()
        .success();
    assert_eq!(
        union.sh("cat m/f; ls m; cd m; echo new > new; cat ../c/new"),
        "c\nf\nonly\nnew"
    );
    union
        .rbox(&["add", "m", "c"])
        .run()
        .code(1)
        .says("the same directory as branch");
    let mut holder = union
        .lab
        .command("sh")
        .args(["-c", "exec 9>>m/held; echo ready; read x"]);
    holder = holder.directory(union.lab.directory());
    let mut holder = holder.spawn();
    holder.expect("ready");
    for (line, why) in [
        (&["del", "m", "c"][..], "files of it are open"),
        (
            &["mode", "m", "c", "ro"],
            "files of it are open for writing",
        ),
        (&["del", "m", "nope"], "is no branch of this union"),
        (
            &["remount", "-o", "add:9:b", "m"],
            "index 9 is beyond the last branch",
        ),
        (
            &["remount", "-o", "create=no", "m"],
            "unknown policy \"no\"",
        ),
    ] {
        union.rbox(line).run().code(1).says(why);
    }
    holder.send("\n");
    holder.finish();
    eventually("the branch is not in use any more", || {
        union.rbox(&["del", "m", "c"]).run().status.success()
    });
    assert_eq!(union.sh("cat m/f; ls m; ls c"), "a\nf\nf\nheld\nnew\nonly");
    union.rbox(&["remount", "-o", "ro", "m"]).run().success();
    assert!(
        union
            .sh("touch m/x 2>&1 || :")
            .contains("Read-only file system")
    );
    union
        .rbox(&["remount", "-o", "rw,create=rr", "m"])
        .run()
        .success();
    union.sh("touch m/x");
    assert_eq!(union.status()["create"], "rr");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_sees_direct_changes_at_once() {
    let union = Union::new("mkdir b/d; echo 1 > b/d/f", "dirs=a=rw:b=ro");
    for round in 0..50 {
        let said = union.sh(&format!(
            "cat m/d/f > /dev/null; echo {round} > b/new; mv b/new b/d/f; cat m/d/f
             test ! -e m/d/q; touch b/d/q; test -e m/d/q; rm b/d/q; test ! -e m/d/q"
        ));
        assert_eq!(said, round.to_string());
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_falls_over_to_a_branch_with_room() {
    let union = Union::new(
        "mount -t tmpfs -o size=1m,nr_inodes=20 none a; mount -t tmpfs -o nr_inodes=100 none b",
        "dirs=a=rw:b=rw",
    );
    union.sh("for n in $(seq 100); do echo $n > m/$n; done");
    assert_eq!(
        union.sh("ls m | wc -l; test $(ls b | wc -l) -gt 80 && echo over"),
        "100\nover"
    );
    let full = union.sh("for n in $(seq 101 130); do touch m/$n || :; done 2>&1 | tail -n 1");
    assert!(full.contains("No space left on device"), "{full}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_dies_without_harm() {
    let union = Union::new("echo b > b/f", "dirs=a=rw:b=ro");
    let server = union.status()["server"].as_u64().unwrap();
    union.sh(&format!("kill -9 {server}"));
    eventually("the mount says that its server is gone", || {
        union.enter(|at| {
            fs::metadata(at.join("m/f"))
                .is_err_and(|error| error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()))
        })
    });
    union.mount("dirs=a=rw:b=ro");
    assert_eq!(union.sh("cat m/f; grep -c rbox-union /proc/mounts"), "b\n1");
    let server = union.status()["server"].as_u64().unwrap();
    union.sh(&format!("kill -TERM {server}"));
    eventually("asked to end, the server unmounts", || {
        union.sh("grep -c rbox-union /proc/mounts || :") == "0"
    });
    eventually("the server is gone", || {
        union
            .sh(&format!("test -e /proc/{server} && echo there || :"))
            .is_empty()
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_lists_and_walks_many_files_with_few_descriptors() {
    let union = Union::new(
        "mkdir a/many; cd a/many; seq -f f%06g 60000 | xargs touch; cd ../..
         mkdir b/many; cd b/many; seq -f g%06g 40000 | xargs touch; cd ../..
         for n in $(seq 300); do mkdir -p b/tree/$n/x/y; touch b/tree/$n/x/y/f; done",
        "dirs=a=rw:b=ro",
    );
    assert_eq!(
        union.sh("ls -U m/many | wc -l; ls -U m/many | sort -u | wc -l"),
        "100000\n100000"
    );
    union.sh("find m -ls > all");
    let status = union.status();
    let server = status["server"].as_u64().unwrap();
    let descriptors: u64 = union
        .sh(&format!("ls /proc/{server}/fd | wc -l"))
        .parse()
        .unwrap();
    assert!(descriptors < 4300, "{descriptors} descriptors");
    assert!(status["nodes"].as_u64().unwrap() > 10_000, "{status}");
    let remove = union
        .lab
        .command("rm")
        .args(["-r", "m/many"])
        .directory(union.lab.directory());
    remove.limit(Duration::from_secs(300)).run().success();
    assert_eq!(
        union.sh("ls m; ls -A a; ls b/many | wc -l"),
        "tree\n.wh..wh.aufs\n.wh.many\n40000"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_refuses_in_one_line() {
    let union = Union { lab: Lab::new() };
    union.sh("mkdir a b m m/in; touch file");
    for (options, why) in [
        ("frob", "unknown option \"frob\""),
        ("dirs=a=rw:nope=ro", "nope\": No such file or directory"),
        ("dirs=file=rw", "file\": not a directory"),
        ("dirs=a=rx", "unknown permission \"rx\""),
        (
            "dirs=a=rw+wh",
            "attribute \"wh\" does not fit permission \"rw\"",
        ),
        ("dirs=a=rw,create=wat", "unknown policy \"wat\""),
        ("dirs=.=rw:a=ro", "it is inside branch"),
        ("dirs=a=rw:./a=ro", "it is the same directory as branch"),
        ("dirs=m=rw", "it is the mount point"),
        ("dirs=m/in=rw", "or lies inside it"),
        ("dirs=a=ro:b=ro,create=rr", "no branch is writable"),
        ("create=rr", "no branch was given"),
    ] {
        let answer = union
            .rbox(&["mount", "-o", options, "m"])
            .run()
            .code(1)
            .says(why);
        assert_eq!(answer.errors().lines().count(), 1, "{options}");
    }
    assert_eq!(union.sh("grep -c rbox-union /proc/mounts || :"), "0");
    union
        .rbox(&["umount", "m"])
        .run()
        .code(1)
        .says("is not in a union mounted by rbox");
}

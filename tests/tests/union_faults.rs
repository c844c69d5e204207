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

/// What a server has open and keeps in memory, in kB.
fn footprint(union: &Union, server: u64) -> (u64, u64) {
    let said = union.sh(&format!(
        "ls /proc/{server}/fd | wc -l; sed -n 's/VmHWM:[^0-9]*\\([0-9]*\\).*/\\1/p' /proc/{server}/status"
    ));
    let mut numbers = said.lines().map(|line| line.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// `LAB_UNION_FILES=1000000` walks over a million; it takes some minutes.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_is_bounded_by_floods() {
    let files: u64 =
        std::env::var("LAB_UNION_FILES").map_or(50_000, |number| number.parse().unwrap());
    let union = Union::new(
        &format!(
            "mount -t tmpfs -o nr_inodes=0 none b; mkdir b/d; cd b/d
                  seq {files} | awk '{{ print int($1 / 2000) \"/\" $1 }}' > ../list
                  seq 0 {} | xargs mkdir; xargs touch < ../list; rm ../list",
            files / 2000
        ),
        "dirs=a=rw:b=ro",
    );
    let server = union.status()["server"].as_u64().unwrap();
    let (_, before) = footprint(&union, server);
    let walk = union
        .lab
        .command("sh")
        .args(["-c", "find m/d -type f -size 0 | wc -l"]);
    let walk = walk
        .directory(union.lab.directory())
        .limit(Duration::from_secs(1800));
    assert_eq!(walk.run().success().text(), files.to_string());
    let (descriptors, memory) = footprint(&union, server);
    assert!(descriptors < 4300, "{descriptors} descriptors");
    let limit = before + 20_000 + files;
    assert!(
        memory < limit,
        "{memory} kB for {files} files, {before} kB before"
    );
    // Many at once that make, look for what is not there, and remove.
    let flood = "for p in 1 2 3 4 5 6 7 8; do
            { mkdir m/p$p; for n in $(seq 400); do echo $n > m/p$p/$n; [ ! -e m/p$p/no$n ]; done; rm -r m/p$p; } &
        done; wait; ls m";
    assert_eq!(union.sh(flood), "d");
    let (descriptors, memory) = footprint(&union, server);
    assert!(descriptors < 4300, "{descriptors} descriptors");
    assert!(memory < limit + 20_000, "{memory} kB after the flood");
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
        ("dirs=a=rw,add:1:file", "change a mounted union"),
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

/// Each line says what was asked, of which object, and what is wrong with it; nothing changes.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_refuses_changes_in_one_line() {
    let union = Union::new("mkdir m2 out; touch file", "dirs=a=rw:b=ro");
    let before = union.rbox(&["ls", "m"]).run().text();
    for (line, why) in [
        (
            &["add", "--index", "9", "m", "c"][..],
            "index 9 is beyond the last branch",
        ),
        (&["add", "m", "nope"], "nope\": No such file or directory"),
        (&["add", "m", "file"], "file\": not a directory"),
        (&["add", "m", "a"], "it is the same directory as branch"),
        (&["add", "m", "."], "is inside branch"),
        (&["add", "m", "m"], "it is the mount point"),
        (&["add", "m", "c=rx"], "unknown permission \"rx\""),
        (&["del", "m", "c"], "c is no branch of this union"),
        (&["mode", "m", "a", "best"], "unknown permission \"best\""),
        (&["mode", "m", "c", "ro"], "c is no branch of this union"),
        (&["remount", "-o", "frob", "m"], "unknown option \"frob\""),
        (
            &["remount", "-o", "add:c", "m"],
            "an index and a branch must follow",
        ),
        (
            &["remount", "-o", "create=mfsrr", "m"],
            "a size must follow the policy",
        ),
        (
            &["remount", "-o", "append=c,del=nope", "m"],
            "nope is no branch of this union",
        ),
        (
            &["remount", "-o", "del=a,del=b", "m"],
            "a union needs a branch",
        ),
        (&["ls", "out"], "is not in a union mounted by rbox"),
        (&["umount", "out"], "is not in a union mounted by rbox"),
    ] {
        let answer = union.rbox(line).run().code(1).says(why);
        assert_eq!(answer.errors().lines().count(), 1, "{line:?}");
    }
    assert_eq!(union.rbox(&["ls", "m"]).run().text(), before);
    // By mount(8), too, and with its exit code for a failure.
    for (options, why) in [
        ("dirs=a=rw:nope=ro", "nope"),
        ("dirs=a=rw,frob", "frob"),
        ("remount,del:nope", "is not in a union"),
    ] {
        let words = format!("mount.aufs none m2 -o {options}");
        union.sh("ln -sf $(command -v rbox) mount.aufs");
        let output = union.lab.command("sh").args(["-c", &format!("./{words}")]);
        output
            .directory(union.lab.directory())
            .run()
            .code(32)
            .says(why);
    }
    assert_eq!(union.sh("grep -c rbox-union /proc/mounts"), "1");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_goes_on_without_a_branch() {
    let union = Union::new(
        "mkdir x; mount -t tmpfs none a; mount -t tmpfs none b; echo a > a/f; echo b > b/g; echo c > c/h",
        "dirs=x=rw:a=rw:b=rw:c=ro",
    );
    let refused = |script: &str, why: &str| {
        let said = union.sh(&format!("sh -c '{script}' 2>&1 || :"));
        assert!(said.contains(why), "{script}: {said}");
    };
    // Read-only: what lies there can be read, new files go elsewhere.
    union.sh("mount -o remount,ro a");
    refused("echo x > m/f", "Read-only file system");
    assert_eq!(union.sh("cat m/f; echo 1 > m/one; ls x"), "a\none");
    // Removed: its files are gone, the next branch that can takes what is new.
    union.sh("rm -r x");
    assert_eq!(
        union.sh("echo 2 > m/two; mkdir m/dir; cat b/two; ls b"),
        "2\ndir\ng\ntwo"
    );
    refused("cat m/one", "No such file or directory");
    assert_eq!(
        union.sh("cat m/f m/g m/h; ls m"),
        "a\nb\nc\ndir\nf\ng\nh\ntwo"
    );
    // Unmounted: the union holds it. Writable again: it is used again.
    union.sh("mount -o remount,rw a; umount -l b; echo more >> m/f; echo 3 > m/three");
    assert_eq!(union.sh("cat m/g a/f a/three"), "b\na\nmore\n3");
    union.sh("rm -r c");
    refused("cat m/h", "No such file or directory");
    assert_eq!(union.sh("ls m; find m | wc -l"), "dir\nf\ng\nthree\ntwo\n6");
    // And it can be taken out.
    union.rbox(&["del", "m", "x"]).run().success();
    union.rbox(&["del", "m", "c"]).run().success();
    assert_eq!(union.sh("echo 4 > m/four; cat a/four"), "4");
}

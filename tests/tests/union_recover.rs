//! Union mounts with `recover`: servers are killed while the union is idle, written, copied up and
//! changed, and it goes on; too many deaths in a row end it.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lab::eventually;
use rustix::io::Errno;

mod unions;
use unions::Union;

const BRANCHES: &str = "dirs=a=rw:b=ro,recover";

/// Kills the server; returns when another one answers.
fn kill(union: &Union) {
    let before = union.status();
    union.sh(&format!("kill -9 {}", before["server"]));
    let after = union.status();
    assert_ne!(after["server"], before["server"]);
    let restarts = before["restarts"].as_u64().unwrap();
    assert_eq!(after["restarts"], restarts + 1);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_goes_on_where_its_server_died() {
    let prepare =
        "mkdir -p b/d/e c/inside; echo lower > b/d/e/f; echo top > a/t; echo x > b/d/gone";
    let union = Union::new(prepare, BRANCHES);
    let said = union.sh(r"exec 5<m/d/e/f 6>m/new 7<>m/unlinked 8<>m/d/dir-gone
        rm m/unlinked m/d/dir-gone m/d/gone
        mkdir m/d/bound; mount --bind c/inside m/d/bound
        echo before >&7; echo one >&6
        flock -n 6 || echo no lock
        cd m/d/e; exec 9<..
        kill -9 $(rbox union ls --json ../.. | sed 's/.*server.:\([0-9]*\).*/\1/')
        cat f; echo two >&6; cat ../../new; cat <&5; echo after >&7; cat /proc/self/fd/7
        echo hidden >&8; cat /proc/self/fd/8
        ls ..; ls /proc/self/fd/9/e; test -e ../gone && echo it is back
        touch ../bound/seen
        flock -n ../../new true && echo lock is lost
        echo changed >> f; cat f; cat ../../t; mv ../../t t; cat t; cd ..; cat e/t");
    let want = "lower\none\ntwo\nlower\nbefore\nafter\nhidden\nbound\ne\nf\n\
                lower\nchanged\ntop\ntop\ntop";
    assert_eq!(said, want);
    assert_eq!(
        union.sh("ls c/inside; cat b/d/e/f a/d/e/f"),
        "seen\nlower\nlower\nchanged"
    );
    let status = union.status();
    assert_eq!(
        (&status["restarts"], &status["open"]),
        (&1.into(), &0.into())
    );
    let shown = union.rbox(&["ls"]).run().success().text();
    assert!(shown.contains("recover (restarted 1 times)"), "{shown}");
    union.sh("umount m/d/bound");
    union.rbox(&["umount", "m"]).run().success();
    eventually("server and holder are gone", || {
        union.sh("pgrep -c rbox || :") == "0"
    });
}

/// What a thread has written, and what may not have been.
#[derive(Default)]
struct Written {
    files: BTreeMap<String, Vec<u8>>,
    refused: usize,
}

fn bytes(seed: usize, length: usize) -> Vec<u8> {
    let mut state = seed as u64 | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33).to_le_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

/// Only what may have been done already is refused.
#[track_caller]
fn is_refused(error: &Error) -> bool {
    assert_eq!(
        error.raw_os_error(),
        Some(Errno::IO.raw_os_error()),
        "{error}"
    );
    true
}

/// Makes files, renames them, appends to lower ones, until it is told to stop.
fn write(top: &Path, thread: usize, stop: &AtomicBool, done: &AtomicUsize) -> Written {
    let mut written = Written::default();
    let log = OpenOptions::new()
        .create(true)
        .append(false)
        .truncate(true)
        .write(true)
        .read(true)
        .open(top.join(format!("log{thread}")))
        .unwrap();
    let mut logged = Vec::new();
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let data = bytes(thread << 20 | number, 1 + number * 37 % 30_000);
        // By one that is open all the time nothing is ever refused.
        log.write_all_at(&data, logged.len() as u64).unwrap();
        logged.extend_from_slice(&data);
        let work = top.join(format!("work{thread}"));
        let name = format!("f{thread}.{}", number % 50);
        let made = File::create(&work).and_then(|mut file| {
            file.write_all(&data)?;
            file.sync_all()
        });
        match made.and_then(|()| fs::rename(&work, top.join(&name))) {
            Ok(()) => drop(written.files.insert(name, data)),
            Err(error) if is_refused(&error) => {
                written.refused += 1;
                let old = written.files.get(&name);
                let now = fs::read(top.join(&name)).ok();
                assert!(now.as_ref() == Some(&data) || now.as_ref() == old, "{name}");
                written.files.extend(now.map(|now| (name, now)));
            }
            Err(error) => panic!("{error}"),
        }
        let name = format!("d{thread}/l{}", number % 100);
        let place = top.join(&name);
        let mut old = fs::read(&place).unwrap();
        if let Some(before) = written.files.get(&name) {
            assert!(*before == old, "{name}");
        }
        let appended = OpenOptions::new().append(true).open(&place);
        let appended = appended.and_then(|mut file| file.write_all(b"more"));
        let new = [&old[..], b"more"].concat();
        match appended {
            Ok(()) => old = new,
            Err(error) if is_refused(&error) => {
                written.refused += 1;
                let now = fs::read(&place).unwrap();
                assert!(now == new || now == old, "{name}");
                old = now;
            }
            Err(error) => panic!("{error}"),
        }
        written.files.insert(name, old);
        done.fetch_add(1, Ordering::Relaxed);
    }
    log.sync_all().unwrap();
    written.files.insert(format!("log{thread}"), logged);
    written
}

/// Lets the threads end, also when the test fails.
struct Stopping<'a>(&'a AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Kills servers while threads write; what they were told is written is there.
fn keeps_what_is_written(options: &str) {
    let prepare = "for t in 0 1 2; do mkdir -p b/d$t
        for n in $(seq 0 99); do seq $n 4000 > b/d$t/l$n; done; done";
    let union = Union::new(prepare, &format!("{BRANCHES}{options}"));
    let lower = union.sh("cat b/*/* | cksum");
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let written: Vec<Written> = std::thread::scope(|scope| {
        let (union, stop, done) = (&union, &stop, &done);
        let run = move |thread| move || union.enter(|at| write(&at.join("m"), thread, stop, done));
        let threads: Vec<_> = (0..3).map(|thread| scope.spawn(run(thread))).collect();
        let stopping = Stopping(stop);
        for _ in 0..9 {
            let before = done.load(Ordering::Relaxed);
            eventually("something is written", || {
                done.load(Ordering::Relaxed) > before + 10
            });
            kill(union);
        }
        drop(stopping);
        let written = threads.into_iter().map(|thread| thread.join().unwrap());
        written.collect()
    });
    for written in &written {
        union.enter(|at| {
            for (name, data) in &written.files {
                assert!(
                    fs::read(at.join("m").join(name)).unwrap() == *data,
                    "{name}"
                );
            }
        });
        // Of each death at most one request.
        assert!(written.refused <= 9, "{}", written.refused);
    }
    assert_eq!(union.sh("cat b/*/* | cksum"), lower);
    assert_eq!(union.status()["open"], 0);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_what_is_written_while_servers_die() {
    keeps_what_is_written("");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_what_is_written_through_servers_that_die() {
    keeps_what_is_written(",passthrough=off");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_its_changed_branches_when_its_server_dies() {
    let union = Union::new(
        "mkdir extra b/d; echo 1 > extra/e; echo low > b/d/f",
        BRANCHES,
    );
    for words in [
        ["add", "--index", "0", "m", "c=rw"].as_slice(),
        &["add", "--index", "2", "m", "extra"],
        &["remount", "-o", "create=rr,sum", "m"],
        &["mode", "m", "b", "rw"],
        &["del", "m", "a"],
        &["mode", "m", "b", "ro+wh"],
    ] {
        union.rbox(words).run().success();
    }
    // A branch is held, not named.
    union.sh("mv extra elsewhere; mv c moved");
    let tell = |status: &serde_json::Value| {
        let branches = status["branches"].as_array().unwrap().iter();
        let branches = branches.map(|it| format!("{}={}", it["path"], it["permission"]));
        (branches.collect::<Vec<_>>(), status["create"].clone())
    };
    let before = tell(&union.status());
    kill(&union);
    assert_eq!(tell(&union.status()), before);
    assert_eq!(
        union.sh("cat m/e; echo new >> m/d/f; touch m/made; ls -R moved a"),
        "1\na:\n\nmoved:\nd\nmade\n\nmoved/d:\nf"
    );
    union.sh("mkdir more");
    union.rbox(&["add", "m", "more=rw"]).run().success();
    kill(&union);
    union.sh("for n in 1 2 3 4; do touch m/r$n; done");
    assert_eq!(union.sh("ls more | wc -l; ls moved | grep -c ^r"), "2\n2");
    // Files that a dead server had opened hold their branch as ever.
    union.sh(
        "exec 5>>m/made; kill -9 $(rbox union ls --json m | sed 's/.*server.:\\([0-9]*\\).*/\\1/')
        rbox union del m $PWD/c && echo taken out; :",
    );
    assert!(union.status()["branches"].to_string().contains("/c\""));
    union.rbox(&["del", "m", "more"]).run().success();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_is_left_dead_when_servers_die_again_and_again() {
    let union = Union::new("echo 1 > b/f", BRANCHES);
    for _ in 0..10 {
        kill(&union);
        assert_eq!(union.sh("cat m/f"), "1");
    }
    union.sh(&format!("kill -9 {}", union.status()["server"]));
    eventually("the mount is dead", || {
        union.sh("cat m/f 2>&1 || :").contains("not connected")
    });
    assert_eq!(union.sh("pgrep -c rbox || :"), "0");
    union.rbox(&["umount", "m"]).run().success();
    union.mount("dirs=a=rw:b=ro");
    assert_eq!(union.status()["recovers"], false);
    union.sh(&format!("kill -9 {}", union.status()["server"]));
    eventually("without the word one death is enough", || {
        union.sh("cat m/f 2>&1 || :").contains("not connected")
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_that_recovers_ends_when_it_is_told_to() {
    let union = Union::new("echo 1 > b/f", BRANCHES);
    let holder = |union: &Union| {
        let server = &union.status()["server"];
        union
            .sh(&format!("ps -o ppid= -p {server}"))
            .trim()
            .to_owned()
    };
    for tell_holder in [false, true] {
        kill(&union);
        let holder = holder(&union);
        let server = union.status()["server"].to_string();
        let told = if tell_holder { &holder } else { &server };
        union.sh(&format!("kill -TERM {told}"));
        eventually("it is unmounted", || {
            union
                .sh("mount")
                .lines()
                .all(|line| !line.contains("rbox-union"))
        });
        eventually("server and holder are gone", || {
            union.sh("pgrep -c rbox || :") == "0"
        });
        union.mount(BRANCHES);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_refuses_what_does_not_go_with_recovery() {
    let union = Union::new("echo 1 > b/f", BRANCHES);
    let refused = |words: &[&str], want: &str| {
        let output = union.rbox(words).run().code(1);
        assert!(
            output.errors().contains(want),
            "{words:?}: {}",
            output.errors()
        );
    };
    for (options, want) in [
        ("udba=notify", "it goes with udba=reval only"),
        ("udba=none", "it goes with udba=reval only"),
        ("norecover", "a mounted union stays as it is"),
    ] {
        refused(&["remount", "-o", options, "m"], want);
    }
    union
        .rbox(&["remount", "-o", "recover,create=mfs", "m"])
        .run()
        .success();
    union.sh("umount m");
    for (options, want) in [
        ("transport=ring", "it goes with transport=device only"),
        ("udba=notify", "it goes with udba=reval only"),
    ] {
        let options = format!("dirs=a=rw:b=ro,recover,{options}");
        refused(&["mount", "-o", &options, "m"], want);
    }
    assert_eq!(union.sh("ls m"), "");
}

/// Lists a directory, of which a part is read before the server dies and something is done.
fn lists(union: &Union, meanwhile: &str) -> Result<usize, Error> {
    let (begun, killed) = (Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        let list = scope.spawn(|| {
            union.enter(|at| {
                let mut entries = fs::read_dir(at.join("m")).unwrap();
                let first = entries.next().unwrap();
                begun.wait();
                killed.wait();
                let mut names = BTreeSet::from([first?.file_name()]);
                for entry in entries {
                    assert!(names.insert(entry?.file_name()), "twice");
                }
                Ok(names.len())
            })
        });
        begun.wait();
        kill(union);
        union.sh(meanwhile);
        killed.wait();
        list.join().unwrap()
    })
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_listing_that_a_server_began_is_whole_or_fails() {
    let prepare = "for n in $(seq 3000); do echo > b/a-rather-long-name-$n; done
        touch -d 2020-01-01 a b; echo > a/a-rather-long-name-1";
    let union = Union::new(prepare, BRANCHES);
    // Nothing is known of a directory that was changed just before it was opened.
    let changed = "until [ $(($(date +%s) - $(stat -c %Z a))) -gt 1 ]; do sleep 0.1; done";
    union.sh(changed);
    assert_eq!(lists(&union, "").unwrap(), 3000);
    let failed = lists(&union, "rm b/a-rather-long-name-7");
    let errno = failed.unwrap_err().raw_os_error();
    assert_eq!(errno, Some(Errno::IO.raw_os_error()));
    assert_eq!(union.sh("ls m | wc -l"), "2999");
}

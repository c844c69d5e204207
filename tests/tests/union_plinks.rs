//! Hard links of branches that are not written: after a copy-up all names still show one file.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use lab::{Lab, eventually};
use rustix::fs::{XattrFlags, lsetxattr};

mod unions;
use unions::Union;

const STATE: &str = "a/.wh..wh.plnk";

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| format!("{}: {error}", path.display()))
}

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// What the union shows of names: content, number and links of each.
fn seen(dir: &Path, names: &[&str]) -> Vec<(String, u64, u64)> {
    let one = |name: &&str| {
        let stat = fs::symlink_metadata(dir.join(name)).unwrap();
        (text(&dir.join(name)), stat.ino(), stat.nlink())
    };
    names.iter().map(one).collect()
}

#[track_caller]
fn all_show(dir: &Path, names: &[&str], content: &str, links: u64) -> u64 {
    let all = seen(dir, names);
    for (name, (text, ino, nlink)) in names.iter().zip(&all) {
        assert_eq!((text.as_str(), *nlink), (content, links), "{name}: {all:?}");
        assert_eq!(*ino, all[0].1, "{name}: {all:?}");
    }
    all[0].1
}

/// The names kept aside in the top branch.
fn kept(at: &Path) -> usize {
    fs::read_dir(at.join(STATE)).map_or(0, Iterator::count)
}

const THREE: &str = "mkdir -p b/d b/e; echo low > b/x; ln b/x b/d/y; ln b/x b/e/z";
const NAMES: &[&str] = &["x", "d/y", "e/z"];

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hard_links_stay_one_file() {
    for udba in ["reval", "notify", "none"] {
        let union = Union::new(THREE, &format!("dirs=a=rw:b=ro,udba={udba}"));
        union.enter(|at| {
            let m = at.join("m");
            let ino = all_show(&m, NAMES, "low\n", 3);
            append(&m.join("d/y"), "one\n");
            assert_eq!(all_show(&m, NAMES, "low\none\n", 3), ino, "{udba}");
            append(&m.join("x"), "two\n");
            append(&m.join("e/z"), "three\n");
            let content = "low\none\ntwo\nthree\n";
            all_show(&m, NAMES, content, 3);
            fs::set_permissions(m.join("e/z"), fs::Permissions::from_mode(0o4711)).unwrap();
            lsetxattr(m.join("x"), "user.k", b"v", XattrFlags::empty()).unwrap();
            for name in NAMES {
                let mode = fs::metadata(m.join(name)).unwrap().mode();
                assert_eq!(mode & 0o7777, 0o4711, "{name}");
                let mut value = [0_u8; 8];
                assert_eq!(
                    rustix::fs::lgetxattr(m.join(name), "user.k", &mut value),
                    Ok(1)
                );
            }
            // a listing tells the same number
            for entry in fs::read_dir(m.join("e")).unwrap() {
                use std::os::unix::fs::DirEntryExt;
                assert_eq!(entry.unwrap().ino(), ino);
            }
            fs::hard_link(m.join("e/z"), m.join("new")).unwrap();
            all_show(&m, &["x", "d/y", "e/z", "new"], content, 4);
            fs::remove_file(m.join("x")).unwrap();
            all_show(&m, &["d/y", "e/z", "new"], content, 3);
            fs::rename(m.join("e/z"), m.join("d/moved")).unwrap();
            all_show(&m, &["d/y", "d/moved", "new"], content, 3);
            assert!(!m.join("e/z").exists());
            // two names of one file: nothing happens
            fs::rename(m.join("d/moved"), m.join("new")).unwrap();
            all_show(&m, &["d/y", "d/moved", "new"], content, 3);
            fs::write(m.join("other"), "other").unwrap();
            fs::rename(m.join("other"), m.join("d/y")).unwrap();
            assert_eq!(text(&m.join("d/y")), "other");
            all_show(&m, &["d/moved", "new"], content, 2);
            assert_eq!(kept(at), 0, "no name of the origin needs it any more");
            File::create(m.join("new")).unwrap().set_len(3).unwrap();
            all_show(&m, &["d/moved", "new"], "\0\0\0", 2);
            assert_eq!(text(&at.join("b/x")), "low\n");
            assert_eq!(fs::metadata(at.join("b/x")).unwrap().nlink(), 3);
        });
        assert_eq!(
            union.sh("find m | sort | tr '\\n' ' '"),
            "m m/d m/d/moved m/d/y m/e m/new "
        );
        union.sh("rm -r m/d m/e m/new");
        assert_eq!(union.sh("ls -A m"), "");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hard_links_of_all_kinds_stay_one() {
    let prepare =
        "ln -s to b/l; ln b/l b/l2; mknod b/n c 1 3; ln b/n b/n2; mkfifo b/p; ln b/p b/p2";
    let union = Union::new(prepare, "dirs=a=rw:b=ro");
    union.sh("chown -h 7 m/l2; chmod 600 m/n; chown 8 m/p2");
    let stat = "stat -c '%u %a %h %i' m/";
    for (one, two, want) in [
        ("l", "l2", "7 777 2"),
        ("n", "n2", "0 600 2"),
        ("p", "p2", "8 644 2"),
    ] {
        let first = union.sh(&format!("{stat}{one}"));
        assert!(first.starts_with(want), "{one}: {first}");
        assert_eq!(first, union.sh(&format!("{stat}{two}")));
    }
    assert_eq!(
        union.sh("readlink m/l m/l2; rm m/l m/n m/p; readlink m/l2"),
        "to\nto\nto"
    );
    assert_eq!(union.sh("stat -c %h m/l2 m/n2 m/p2"), "1\n1\n1");
}

/// Readers and writers from before, by any name, see what is written by another.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_open_files_follow_by_every_name() {
    for mode in ["safe", "off"] {
        let union = Union::new(THREE, &format!("dirs=a=rw:b=ro,passthrough={mode}"));
        union.enter(|at| {
            let m = at.join("m");
            let mut readers: Vec<File> = NAMES
                .iter()
                .map(|name| File::open(m.join(name)).unwrap())
                .collect();
            append(&m.join("e/z"), "more\n");
            for (name, reader) in NAMES.iter().zip(&mut readers) {
                let mut all = String::new();
                reader.read_to_string(&mut all).unwrap();
                assert_eq!(all, "low\nmore\n", "{mode} {name}");
                assert_eq!(reader.metadata().unwrap().nlink(), 3);
            }
            let writer = OpenOptions::new().write(true).open(m.join("d/y")).unwrap();
            for name in NAMES {
                fs::remove_file(m.join(name)).unwrap();
            }
            assert_eq!(writer.metadata().unwrap().nlink(), 0);
            writer.write_all_at(b"LOW", 0).unwrap();
            let mut bytes = [0; 9];
            readers[1].read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes, b"LOW\nmore\n");
            assert_eq!(kept(at), 0);
        });
        assert_eq!(union.sh("find m -type f"), "");
    }
    let union = Union::new(THREE, "dirs=a=rw:b=ro,passthrough=all");
    union.enter(|at| {
        let m = at.join("m");
        let reader = File::open(m.join("x")).unwrap();
        append(&m.join("d/y"), "more\n");
        all_show(&m, NAMES, "low\nmore\n", 3);
        let mut old = String::new();
        (&reader).read_to_string(&mut old).unwrap();
        assert_eq!(old, "low\n", "as documented for passthrough=all");
    });
}

/// What is kept on disk survives the server's end, however it ends.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hard_links_survive_the_server() {
    let options = "dirs=a=rw:b=ro";
    let union = Union::new(THREE, options);
    let kill = |union: &Union| {
        let server = union.status()["server"].as_u64().unwrap();
        union.sh(&format!(
            "kill -9 {server}; while [ -d /proc/{server} ]; do sleep 0.01; done"
        ));
        union.mount(options);
    };
    let again = |union: &Union| {
        union.rbox(&["umount", "m"]).run().success();
        union.mount(options);
    };
    let restarts: [&dyn Fn(&Union); 2] = [&kill, &again];
    for restart in restarts {
        union.sh("rm -rf a; mkdir a");
        again(&union);
        union.enter(|at| append(&at.join("m/d/y"), "up\n"));
        let before = union.enter(|at| all_show(&at.join("m"), NAMES, "low\nup\n", 3));
        restart(&union);
        union.enter(|at| {
            let m = at.join("m");
            assert_eq!(all_show(&m, NAMES, "low\nup\n", 3), before);
            fs::remove_file(m.join("d/y")).unwrap();
        });
        restart(&union);
        union.enter(|at| {
            let m = at.join("m");
            all_show(&m, &["x", "e/z"], "low\nup\n", 2);
            append(&m.join("x"), "x\n");
            fs::rename(m.join("x"), m.join("d/y")).unwrap();
        });
        restart(&union);
        union.enter(|at| {
            let m = at.join("m");
            all_show(&m, &["d/y", "e/z"], "low\nup\nx\n", 2);
            fs::remove_file(m.join("e/z")).unwrap();
            assert_eq!(kept(at), 0);
        });
        restart(&union);
        union.enter(|at| {
            all_show(&at.join("m"), &["d/y"], "low\nup\nx\n", 1);
        });
        assert_eq!(union.status()["pseudo_links"], 0);
    }
}

/// Branches changed behind the union's back: the names show what is there, and nothing is mixed up.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hard_links_bear_direct_changes() {
    for udba in ["reval", "notify"] {
        let union = Union::new(THREE, &format!("dirs=a=rw:b=ro,udba={udba}"));
        union.enter(|at| {
            let (m, a, b) = (at.join("m"), at.join("a"), at.join("b"));
            let see = |what: &str, path: &str, want: Option<&str>| {
                eventually(what, || {
                    fs::read_to_string(m.join(path)).ok().as_deref() == want
                });
            };
            append(&m.join("x"), "up\n");
            // an origin's names go: down to one, of which the file system says that it is alone
            fs::remove_file(b.join("x")).unwrap();
            fs::remove_file(b.join("d/y")).unwrap();
            see("a name that is gone", "d/y", None);
            see("one that the copy has", "x", Some("low\nup\n"));
            see("the last one", "e/z", Some("low\nup\n"));
            // another file with that name is another file
            fs::write(b.join("d/y"), "other").unwrap();
            see("another file", "d/y", Some("other"));
            fs::remove_file(b.join("e/z")).unwrap();
            fs::write(b.join("e/z"), "new").unwrap();
            see("another file", "e/z", Some("new"));
            see("the copy", "x", Some("low\nup\n"));
            // the copy's own name goes: other names still show it
            for name in ["f", "g"] {
                let _ = fs::remove_file(b.join(name));
            }
            fs::write(b.join("f"), "two\n").unwrap();
            fs::hard_link(b.join("f"), b.join("g")).unwrap();
            see("two", "g", Some("two\n"));
            append(&m.join("f"), "up\n");
            fs::remove_file(a.join("f")).unwrap();
            see("by the origin's name", "f", Some("two\nup\n"));
            see("by the other", "g", Some("two\nup\n"));
            append(&m.join("g"), "g\n");
            see("still one file", "f", Some("two\nup\ng\n"));
            // what is kept aside goes: the copy's name has the copy, the others the origin
            append(&m.join("f"), "f\n");
            fs::hard_link(m.join("f"), m.join("h")).unwrap();
            fs::remove_dir_all(at.join(STATE)).unwrap();
            see("the copy's name", "h", Some("two\nup\ng\nf\n"));
            see("the origin's", "g", Some("two\n"));
            append(&m.join("g"), "again\n");
            see("copied anew", "g", Some("two\nagain\n"));
            see("with its other name", "f", Some("two\nagain\n"));
            see("and apart from", "h", Some("two\nup\ng\nf\n"));
        });
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_noplink_parts_names() {
    let union = Union::new(THREE, "dirs=a=rw:b=ro,noplink");
    union.enter(|at| {
        let m = at.join("m");
        append(&m.join("x"), "up\n");
        all_show(&m, &["d/y", "e/z"], "low\n", 3);
        assert_eq!((text(&m.join("x")), kept(at)), ("low\nup\n".into(), 0));
    });
    // what was made with pseudo-links stays so without
    union.sh("umount m; rm -rf a; mkdir a");
    union.mount("dirs=a=rw:b=ro,noplink");
    union.rbox(&["remount", "-o", "plink", "m"]).run().success();
    union.enter(|at| append(&at.join("m/x"), "up\n"));
    union
        .rbox(&["remount", "-o", "noplink", "m"])
        .run()
        .success();
    union.enter(|at| {
        all_show(&at.join("m"), NAMES, "low\nup\n", 3);
    });
}

/// Several writable branches, and several lower ones of one file system.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hard_links_over_many_branches() {
    let prepare = "echo low > b/x; mkdir lower other; ln b/x lower/y; ln b/x lower/z; mkdir c/sub; echo t > c/t";
    let union = Union::new(prepare, "dirs=a=rw:c=rw:b=ro:lower=ro,cpup=bu");
    union.enter(|at| {
        let m = at.join("m");
        all_show(&m, &["x", "y", "z"], "low\n", 3);
        append(&m.join("y"), "up\n");
        assert!(at.join("c/y").exists(), "the nearest above");
        all_show(&m, &["x", "y", "z"], "low\nup\n", 3);
        // a target in the top branch: the file is copied once more, with all its names
        fs::write(at.join("a/top"), "top").unwrap();
        fs::rename(m.join("y"), m.join("top")).unwrap();
        all_show(&m, &["x", "top", "z"], "low\nup\n", 3);
        assert!(!m.join("y").exists());
        append(&m.join("z"), "z\n");
        all_show(&m, &["x", "top", "z"], "low\nup\nz\n", 3);
        fs::write(at.join("a/second"), "second").unwrap();
        fs::rename(m.join("x"), m.join("second")).unwrap();
        all_show(&m, &["second", "top", "z"], "low\nup\nz\n", 3);
        fs::remove_file(m.join("z")).unwrap();
        all_show(&m, &["second", "top"], "low\nup\nz\n", 2);
        for branch in ["a", "c"] {
            let left =
                fs::read_dir(at.join(branch).join(".wh..wh.plnk")).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{branch}");
        }
    });
    // a branch with pseudo-links below another one, its marks in force or not
    union.sh(
        "umount m; rm -rf a c; mkdir a c; rm b/* lower/*; echo low > b/x; ln b/x b/y; ln b/x b/z",
    );
    union.mount("dirs=c=rw:b=ro");
    union.enter(|at| append(&at.join("m/x"), "up\n"));
    union.sh("umount m");
    union.mount("dirs=a=rw:c=ro+wh:b=ro");
    union.enter(|at| {
        let m = at.join("m");
        all_show(&m, &["x", "y", "z"], "low\nup\n", 3);
        append(&m.join("y"), "y\n");
        all_show(&m, &["x", "y", "z"], "low\nup\ny\n", 3);
        fs::rename(m.join("z"), m.join("w")).unwrap();
        all_show(&m, &["x", "y", "w"], "low\nup\ny\n", 3);
    });
    assert_eq!(union.sh("cat c/x b/x"), "low\nup\nlow");
    // in a branch above the copy
    union.sh("umount m; rm -rf a c; mkdir a c; mkdir top; ln b/x top/t");
    union.mount("dirs=top=ro:a=rw:b=ro");
    union.enter(|at| {
        let m = at.join("m");
        append(&m.join("x"), "up\n");
        all_show(&m, &["x", "y", "z", "t"], "low\nup\n", 4);
        append(&m.join("t"), "t\n");
        all_show(&m, &["x", "y", "z", "t"], "low\nup\nt\n", 4);
        assert_eq!(
            fs::remove_file(m.join("t")).unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::ROFS.raw_os_error())
        );
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_flush_links_makes_real_ones() {
    let union = Union::new(
        &format!("{THREE}; mkdir -p b/deep/er c/d; ln b/x b/deep/er/v; echo own > c/own"),
        "dirs=a=rw:b=ro:c=ro",
    );
    let names: &[&str] = &["x", "d/y", "e/z", "deep/er/v"];
    union.enter(|at| append(&at.join("m/d/y"), "up\n"));
    union.sh("mount -t tmpfs none m/deep"); // nothing hides a name from it
    let refused = union.rbox(&["del", "m", "b"]).run().code(1);
    assert!(
        refused.errors().contains("rbox union flush-links"),
        "{}",
        refused.errors()
    );
    let refused = union.rbox(&["mode", "m", "a", "ro"]).run().code(1);
    assert!(
        refused.errors().contains("rbox union flush-links"),
        "{}",
        refused.errors()
    );
    union.rbox(&["del", "m", "c"]).run().success();
    assert_eq!(union.status()["pseudo_links"], 1);
    union.rbox(&["flush-links", "m"]).run().success();
    union.sh("umount m/deep");
    assert_eq!(union.status()["pseudo_links"], 0);
    union.enter(|at| {
        all_show(&at.join("m"), names, "low\nup\n", 4);
        all_show(&at.join("a"), names, "low\nup\n", 4);
        assert_eq!(kept(at), 0);
    });
    union.rbox(&["flush-links", "m"]).run().success();
    union.rbox(&["del", "m", "b"]).run().success();
    union.enter(|at| {
        all_show(&at.join("m"), names, "low\nup\n", 4);
    });
    let refused = union.rbox(&["flush-links", "a"]).run().code(1);
    assert!(
        refused.errors().contains("is not in a union"),
        "{}",
        refused.errors()
    );
}

/// A file whose other names are all gone by hand is freed by flush-links at the latest.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_flush_links_frees_what_nobody_sees() {
    let union = Union::new(&format!("{THREE}; ln b/x outside"), "dirs=a=rw:b=ro");
    union.enter(|at| {
        let m = at.join("m");
        append(&m.join("x"), "up\n");
        for name in NAMES {
            fs::remove_file(m.join(name)).unwrap();
        }
        assert_eq!(
            kept(at),
            1,
            "a name of the origin lies outside of the branch"
        );
    });
    union.rbox(&["flush-links", "m"]).run().success();
    assert_eq!(union.sh("ls -A a/.wh..wh.plnk"), "");
}

/// Writers by all names at once make one copy, and none of them is lost.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hard_links_are_copied_once() {
    for passthrough in ["safe", "all"] {
        let prepare = "mkdir b/0 b/1 b/2 b/3
            for n in $(seq 30); do echo low > b/0/$n; for d in 1 2 3; do ln b/0/$n b/$d/$n; done; done";
        let options = format!("dirs=a=rw:b=ro,passthrough={passthrough}");
        let union = Union::new(prepare, &options);
        union.sh(
            "all=; for d in 0 1 2 3; do
                (for n in $(seq 30); do echo $d >> m/$d/$n; done) & all=\"$all $!\"
                (for n in $(seq 30); do cat m/$d/$n > /dev/null; ln m/$d/$n m/$d/new$n; rm m/$d/new$n; done) & all=\"$all $!\"
             done
             for p in $all; do wait $p; done",
        );
        union.enter(|at| {
            let m = at.join("m");
            for n in 1..=30 {
                let names = [0, 1, 2, 3].map(|dir| format!("{dir}/{n}"));
                let names = names.each_ref().map(String::as_str);
                let mut lines: Vec<String> =
                    text(&m.join(names[0])).lines().map(str::to_owned).collect();
                lines.sort();
                assert_eq!(lines, ["0", "1", "2", "3", "low"], "{passthrough} {n}");
                all_show(&m, &names, &text(&m.join(names[0])), 4);
            }
        });
        assert_eq!(
            union.status()["copy_ups"].as_u64(),
            Some(30),
            "{passthrough}"
        );
        assert_eq!(
            union.sh("rm m/1/* m/2/* m/3/*; stat -c %h m/0/* | sort -u"),
            "1"
        );
        assert_eq!(union.sh("rm m/0/*; ls -A a/.wh..wh.plnk"), "");
    }
}

/// Words of options reach a union by every way to make one.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hard_links_of_containers_stay_one_file() {
    let lab = Lab::with_busybox();
    lab.sh("mkdir -p /run/b/low; echo low > /run/b/low/x; ln /run/b/low/x /run/b/low/y");
    let work = "echo up >> /data/x; cat /data/y; stat -c %h /data/x";
    let run = |words: &[&str]| {
        lab.sh("rm -rf /run/b/top; mkdir /run/b/top");
        let words = [&["run", "--rm"], words, &["busybox", "sh", "-ec", work]].concat();
        lab.rbox(words).run().success().text()
    };
    let both = "/run/b/top=rw:/run/b/low=ro";
    for (word, want) in [("plink", "low\nup\n2"), ("noplink", "low\n1")] {
        assert_eq!(run(&["-v", &format!("{both}:/data:{word}")]), want);
        let mount = format!("type=union,dirs={both},{word},dst=/data");
        assert_eq!(run(&["--mount", &mount]), want);
        lab.sh("mkdir -p /run/b/top");
        lab.rbox(["volume", "create", "-d", "union", "-o"])
            .args([&format!("dirs={both}"), "-o", word, word])
            .run()
            .success();
        assert_eq!(run(&["-v", &format!("{word}:/data")]), want);
    }
    assert_eq!(run(&["-v", &format!("{both}:/data")]), "low\nup\n2");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_root_exports_hard_links_as_such() {
    let lab = Lab::with_busybox();
    lab.sh("mkdir -p /run/b/top /run/b/low; cd /run/b/low; echo low > x; ln x y; ln x z");
    lab.sh(
        "rbox run --name image busybox sh -c 'mkdir /i; echo image > /i/1; ln /i/1 /i/2; ln /i/1 /i/3'
         rbox commit image linked; rbox rm image
         rbox run --name box --rootfs-union /run/b/top=rw:/run/b/low=ro linked \\
            sh -ec 'echo up >> /x; rm /z; echo up >> /i/2; rm /i/3'",
    );
    assert_eq!(
        lab.sh("rbox diff box | sort | tr '\\n' ' '"),
        "A /x A /y C /i C /i/1 C /i/2 D /i/3 "
    );
    lab.sh("rbox commit box made");
    let seen = "cat /y /i/1; stat -c %h /x /y /i/1 /i/2; [ /x -ef /y ]; [ /i/1 -ef /i/2 ]; ls -A / | grep -c ^.wh || :";
    assert_eq!(
        lab.sh(&format!("rbox run --rm made sh -ec '{seen}'")),
        "low\nup\nimage\nup\n2\n2\n2\n2\n0"
    );
    let listed = lab.sh("rbox export box | tar tv | grep ' link to ' | grep -c ' x\\| y\\| i/' ; rbox export box | tar t | grep -c plnk || :");
    assert_eq!(listed, "2\n0");
}

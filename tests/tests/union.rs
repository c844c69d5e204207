//! Union mounts: priority, permissions, policies, marks, open files, callers.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use lab::Lab;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

mod unions;
use unions::Union;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_mounts_as_aufs_did() {
    let union = Union { lab: Lab::new() };
    union.sh("mkdir a b c up work sbin
         echo from-b > b/f
         mount -t overlay none -o lowerdir=/usr/sbin,upperdir=up,workdir=work /usr/sbin
         ln -s $(command -v rbox) /usr/sbin/mount.aufs
         ln -s $(command -v rbox) /usr/sbin/mount.fuse.rbox-union
         mount -t aufs -o dirs=./a=rw:./b=ro none ./c");
    assert_eq!(
        union.sh("cat c/f; echo changed >> c/f; cat b/f a/f"),
        "from-b\nfrom-b\nfrom-b\nchanged"
    );
    union.sh("mkdir x; echo new > x/g; mount -o remount,add:1:$PWD/x=ro ./c");
    assert_eq!(
        union.sh("cat c/g; grep -c ' fuse.rbox-union ' /proc/mounts"),
        "new\n1"
    );
    union.sh("umount ./c; echo 'none '$PWD'/c aufs dirs='$PWD'/a=rw:'$PWD'/b=ro 0 0' > fstab; mount -a -T fstab");
    assert_eq!(union.sh("ls c"), "f");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_serves_the_first_and_writes_the_writable() {
    let union = Union::new(
        "echo a > a/both; echo b > b/both; echo b > b/only; mkdir b/d; echo deep > b/d/deep
         chmod 640 b/only; chown 3:4 b/only; touch -d '2001-02-03 04:05:06.789' b/only
         setfattr -n user.x -v y b/only; mkdir a/as-dir; touch b/as-dir; touch a/as-file; mkdir b/as-file",
        "dirs=a=rw:b=ro",
    );
    assert_eq!(
        union.sh("cat m/both; ls m; ls m/as-dir"),
        "a\nas-dir\nas-file\nboth\nd\nonly"
    );
    assert_eq!(
        union.sh("cat m/only; ls a"),
        "b\nas-dir\nas-file\nboth",
        "reading copies nothing"
    );
    let before = union.sh("stat -c '%i %a %u %g %h %y' m/only");
    union.sh("chmod 600 m/only; chmod 640 m/only");
    assert_eq!(
        union.sh("stat -c '%i %a %u %g %h %y' m/only"),
        before,
        "a copy-up is not seen"
    );
    assert_eq!(union.sh("getfattr --only-values -n user.x a/only"), "y");
    union.sh("echo more >> m/d/deep");
    assert_eq!(union.sh("cat a/d/deep; cat b/d/deep"), "deep\nmore\ndeep");
    assert_eq!(
        union.sh("getfattr -m - m/d m/only | grep -c rbox || :"),
        "0",
        "own notes are hidden"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hides_what_was_removed() {
    let union = Union::new(
        "for n in 1 2 3; do echo $n > b/$n; done; mkdir -p b/d/e; touch b/d/x b/d/e/y",
        "dirs=a=rw:b=ro",
    );
    union.sh("rm m/1; rm -r m/d");
    assert_eq!(
        union.sh("ls m; ls -A a"),
        "2\n3\n.wh..wh.aufs\n.wh.1\n.wh.d"
    );
    assert_eq!(union.sh("stat -c '%a %s %h' a/.wh.1"), "444 0 3");
    union.sh("echo new > m/1; mkdir m/d");
    assert_eq!(
        union.sh("cat m/1; ls -A m/d; ls -A a a/d | sort"),
        "new\n\n.wh..wh.aufs\n.wh..wh.opq\n1\na/d:\na:\nd"
    );
    union.sh("touch a/.wh.2");
    assert_eq!(
        union.sh("ls m"),
        "1\n3\nd",
        "a mark made by hand counts at once"
    );
    assert_eq!(
        union.sh("touch m/.wh.q 2>&1 || :"),
        "touch: cannot touch 'm/.wh.q': Operation not permitted"
    );
    union.sh("rmdir m/d");
    assert_eq!(union.sh("ls m; ls b"), "1\n3\n1\n2\n3\nd");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_heeds_marks_by_permission() {
    let prepare = "echo b > b/f; touch a/.wh.f; mkdir b/d a/d; touch b/d/x a/d/.wh..wh.opq";
    let plain = Union::new(prepare, "dirs=a=ro:b=ro");
    assert_eq!(plain.sh("ls m m/d"), "m:\nd\nf\n\nm/d:\nx");
    let heeded = Union::new(prepare, "dirs=a=ro+wh:b=ro");
    assert_eq!(heeded.sh("ls m m/d"), "m:\nd\n\nm/d:");
    let bounded = Union::new("touch b/.wh.x", "dirs=a=rw:b=ro+wh:c=rw,create=lus");
    bounded.sh("echo x > m/x");
    assert_eq!(bounded.sh("ls a"), "x", "below the mark it would be hidden");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_places_by_policy() {
    let turn = Union::new("", "dirs=a=rw:b=rw:c=rw,create=rr");
    turn.sh("for n in 1 2 3; do echo $n > m/$n; done");
    assert_eq!(turn.sh("cat a/1 c/2 b/3"), "1\n2\n3", "branches 1, 3, 2");
    turn.sh("for n in 4 5 6 7 8 9; do echo > m/$n; done; for n in 0 1 2 3 4; do mkdir m/d$n; done");
    assert_eq!(
        turn.sh("ls -d a/? | wc -l; ls -d b/? | wc -l; ls -d c/? | wc -l"),
        "3\n3\n3"
    );
    assert_eq!(
        turn.sh("ls -d [abc]/d? | cut -c1 | sort -u | wc -l"),
        "1",
        "directories do not turn"
    );

    let roomy = Union::new(
        "mount -t tmpfs -o size=8m none a; mount -t tmpfs -o size=32m none b",
        "dirs=a=rw:b=rw,create=mfs:0",
    );
    roomy.sh("echo 1 > m/1; head -c 28M /dev/zero > b/fill; echo 2 > m/2");
    assert_eq!(roomy.sh("ls a b"), "a:\n2\n\nb:\n1\nfill");
    roomy
        .rbox(&["remount", "-o", "create=mfsrr:1G:0", "m"])
        .run()
        .success();
    assert_eq!(roomy.status()["create"], "mfsrr:1073741824:0");
    roomy.sh("for n in 3 4 5 6; do echo > m/$n; done");
    assert_eq!(
        roomy.sh("ls a | wc -l; ls b | wc -l"),
        "3\n4",
        "all are below the limit: in turn"
    );

    let down = Union::new(
        "mkdir -m 750 b/d; chown 5:6 b/d; mkdir -m 700 a/z",
        "dirs=a=rw:b=rw:c=ro",
    );
    down.sh("echo > m/d/new; echo > m/top; echo > m/z/low");
    assert_eq!(
        down.sh("ls a a/z b b/d"),
        "a:\ntop\nz\n\na/z:\nlow\n\nb:\nd\n\nb/d:\nnew"
    );
    down.rbox(&["mode", "m", "b", "ro"]).run().success();
    down.sh("echo > m/d/up");
    assert_eq!(
        down.sh("stat -c '%a %u %g' a/d; ls a/d"),
        "750 5 6\nup",
        "made like the one below"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_writes_below_what_hides_nothing() {
    let union = Union::new("mkdir a/d; touch a/f", "dirs=a=ro:b=rw");
    union.sh("echo x > m/d/x");
    assert_eq!(union.sh("cat b/d/x; ls a/d"), "x");
    let refused = union
        .sh("{ rm m/f || :; sh -c 'echo x > m/f' || :; } 2>&1 | grep -c 'Read-only file system'");
    assert_eq!(refused, "2");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_renames() {
    let union = Union::new(
        "echo low > b/f; echo other > b/g; mkdir -p b/merged a/merged b/lower; touch b/lower/x a/merged/y",
        "dirs=a=rw:b=ro",
    );
    union.sh("mv m/f m/f2; mv m/f2 m/g");
    assert_eq!(
        union.sh("cat m/g; ls m; cat b/f b/g"),
        "low\ng\nlower\nmerged\nlow\nother"
    );
    let renamed = union.enter(|at| fs::rename(at.join("m/merged"), at.join("m/else")));
    assert_eq!(
        renamed.unwrap_err().raw_os_error(),
        Some(Errno::XDEV.raw_os_error())
    );
    union.sh("mv m/merged m/else; ls m/else");
    assert_eq!(union.sh("ls m m/else"), "m:\nelse\ng\nlower\n\nm/else:\ny");
    union.sh("rm -r m/lower; mkdir m/new; echo n > m/new/n; mv m/new m/lower");
    assert_eq!(
        union.sh("ls m/lower"),
        "n",
        "the lower directory does not shine through"
    );
    let full = union.enter(|at| fs::rename(at.join("m/else"), at.join("m/lower")));
    assert_eq!(
        full.unwrap_err().raw_os_error(),
        Some(Errno::NOTEMPTY.raw_os_error())
    );
    union.sh("rm m/lower/n; mv -T m/else m/lower");
    assert_eq!(union.sh("ls m m/lower"), "m:\ng\nlower\n\nm/lower:\ny");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_open_files_and_numbers() {
    for mode in ["safe", "all", "off"] {
        let union = Union::new(
            "printf 'line\\n' > b/log; ln b/log b/log2; printf 'one\\n' > b/one",
            &format!("dirs=a=rw:b=ro,passthrough={mode}"),
        );
        union.enter(|at| {
            let path = |name: &str| at.join("m").join(name);
            let read_write = |name: &str| {
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .write(true)
                    .create(true)
                    .open(path(name))
                    .unwrap()
            };
            // the number stays over copy-up and renaming, and is the listing's
            let number = fs::metadata(path("one")).unwrap().ino();
            let mut reader = File::open(path("one")).unwrap();
            OpenOptions::new()
                .append(true)
                .open(path("one"))
                .unwrap()
                .write_all(b"two\n")
                .unwrap();
            fs::rename(path("one"), path("uno")).unwrap();
            assert_eq!(fs::metadata(path("uno")).unwrap().ino(), number, "{mode}");
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let wanted = if mode == "all" { "one\n" } else { "one\ntwo\n" };
            assert_eq!(text, wanted, "{mode}: a reader from before the copy-up");
            // unlinked but open
            let mut gone = read_write("gone");
            gone.write_all(b"still here").unwrap();
            fs::remove_file(path("gone")).unwrap();
            gone.seek(SeekFrom::Start(0)).unwrap();
            text.clear();
            gone.read_to_string(&mut text).unwrap();
            assert_eq!(text, "still here");
            assert_eq!(gone.metadata().unwrap().nlink(), 0);
            gone.set_len(3).unwrap();
            gone.set_permissions(fs::Permissions::from_mode(0o600))
                .unwrap();
            assert_eq!(gone.metadata().unwrap().len(), 3);
            assert_eq!(gone.metadata().unwrap().mode() & 0o777, 0o600);
            // hard links are one file
            fs::write(path("l1"), "x").unwrap();
            fs::hard_link(path("l1"), path("l2")).unwrap();
            let (one, two) = (
                fs::metadata(path("l1")).unwrap(),
                fs::metadata(path("l2")).unwrap(),
            );
            assert_eq!((one.ino(), one.nlink()), (two.ino(), 2));
            // two that append never overwrite one another
            let append = || {
                OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path("app"))
                    .unwrap()
            };
            let (mut first, mut second) = (append(), append());
            for _ in 0..100 {
                first.write_all(b"1").unwrap();
                second.write_all(b"2").unwrap();
            }
            assert_eq!(fs::metadata(path("app")).unwrap().len(), 200);
        });
        let listed = union.sh("cd m; ls -i uno | cut -d' ' -f1; stat -c %i uno");
        let numbers: Vec<&str> = listed.lines().collect();
        assert_eq!(numbers[0], numbers[1], "{mode}");
        let before = union.sh("stat -c %i m/uno");
        union.sh("umount m");
        union.mount(&format!("dirs=a=rw:b=ro,passthrough={mode}"));
        assert_eq!(union.sh("stat -c %i m/uno"), before, "after a remount");
    }
}

/// Listing a directory that had been removed once made a thread of the server wait for itself.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_outlives_a_removed_working_directory() {
    let union = Union::new("mkdir b/low", "dirs=a=rw:b=ro");
    for name in ["new", "low"] {
        let said = union.sh(&format!(
            "mkdir -p m/{name}; cd m/{name}; rmdir ../{name}; ls; stat -c %h .; touch x 2>&1 || :"
        ));
        assert!(
            said.ends_with("touch: cannot touch 'x': No such file or directory"),
            "{said}"
        );
    }
    assert_eq!(union.sh("ls m"), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_acts_for_its_callers() {
    let union = Union::new(
        "mkdir -m 2775 a/team; chown 0:77 a/team; chmod 777 a",
        "dirs=a=rw:b=ro",
    );
    union.sh(
        "cd m; setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'umask 027; touch mine; mkdir dir'
         setpriv --reuid 65534 --regid 65534 --groups 77 sh -c 'umask 002; touch team/ours'
         setfacl -d -m u:5:rw team; setpriv --reuid 65534 --regid 65534 --groups 77 sh -c 'umask 077; touch team/acl'",
    );
    assert_eq!(
        union.sh("stat -c '%a %u %g' m/mine m/dir m/team/ours"),
        "640 65534 65534\n750 65534 65534\n664 65534 77"
    );
    assert_eq!(
        union.sh("getfacl -cn m/team/acl | grep -c '^user:5:rw'"),
        "1"
    );
    union.sh("cp /bin/true m/suid; chmod 4777 m/suid; setpriv --reuid 65534 --regid 65534 --clear-groups sh -c 'echo >> m/suid'");
    assert_eq!(
        union.sh("stat -c %a m/suid"),
        "777",
        "a write by somebody else takes setuid away"
    );
    let denied =
        union.sh("chmod 700 m/dir; setpriv --reuid 5 --regid 5 --clear-groups ls m/dir 2>&1 || :");
    assert!(denied.contains("Permission denied"), "{denied}");
}

/// Every file's content and times, access time included.
fn tree(at: &Path, found: &mut BTreeMap<String, (u64, i64, i64, i64, i64)>) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        let times = (
            about.len(),
            about.mtime_nsec(),
            about.ctime_nsec(),
            about.atime(),
            about.atime_nsec(),
        );
        found.insert(path.display().to_string(), times);
        if about.is_dir() {
            tree(&path, found);
        }
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_never_writes_a_read_only_branch() {
    let union = Union::new(
        "mkdir -p b/d/e; for n in 1 2 3 4 5; do echo $n > b/d/$n; done; ln -s 1 b/d/l; mkfifo b/d/p
         find b -exec touch -h -d '2001-01-01' {} +",
        "dirs=a=rw:b=ro",
    );
    let look = |union: &Union| {
        union.enter(|at| {
            let mut found = BTreeMap::new();
            tree(&at.join("b"), &mut found);
            found
        })
    };
    // reading what one compares would change access times of directories: look twice first
    look(&union);
    let before = look(&union);
    union.sh(
        "cat m/d/[1-5] > all; ls -lR m > list; readlink m/d/l > link; chmod 600 m/d/1; echo >> m/d/2; rm m/d/3
         mv m/d/4 m/four; ln m/d/5 m/five; truncate -s 0 m/d/5; touch m/d/l; rm -r m/d/e",
    );
    assert_eq!(look(&union), before);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_holes_links_and_special_files() {
    let union = Union::new(
        "truncate -s 64M b/sparse; printf x | dd of=b/sparse bs=1 seek=33554432 conv=notrunc 2> /dev/null
         ln -s to b/link; mkfifo b/pipe; mknod b/dev c 1 3; setcap cap_net_raw+ep b/sparse",
        "dirs=a=rw:b=ro",
    );
    union.sh("for n in sparse link pipe dev; do chown -h 7:8 m/$n; done");
    assert_eq!(
        union.sh("stat -c '%F %u %g %s' a/sparse a/link a/pipe; stat -c '%F %t %T' a/dev"),
        "regular file 7 8 67108864\nsymbolic link 7 8 2\nfifo 7 8 0\ncharacter special file 1 3"
    );
    let blocks: u64 = union.sh("stat -c %b a/sparse").parse().unwrap();
    assert!(blocks < 1000, "{blocks} blocks: the holes were filled");
    assert_eq!(union.sh("(echo through > m/pipe &); cat m/pipe; readlink m/link; echo > m/dev; flock m/sparse echo locked"), "through\nto\nlocked");
    union.enter(|at| {
        let mut options = OpenOptions::new();
        let unnamed = options
            .read(true)
            .write(true)
            .custom_flags(OFlags::TMPFILE.bits().cast_signed())
            .open(at.join("m"));
        unnamed.unwrap().write_all(b"x").unwrap();
    });
}

/// The kernel asks for the truncation before it finds that the file is being executed.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_does_not_truncate_what_runs() {
    for mode in ["safe", "all", "off"] {
        let union = Union::new(
            "cp /bin/sh b/low; cp b/low a/high",
            &format!("dirs=a=rw:b=ro,passthrough={mode}"),
        );
        for name in ["m/low", "m/high"] {
            let program = union.lab.command(&format!("./{name}"));
            let program = program.args(["-c", "echo ready; read x"]);
            let mut running = program.directory(union.lab.directory()).spawn();
            running.expect("ready");
            union.enter(|at| {
                for flags in [OFlags::WRONLY, OFlags::RDWR, OFlags::TRUNC] {
                    let opened = rustix::fs::open(at.join(name), flags, Mode::empty());
                    assert_eq!(opened.err(), Some(Errno::TXTBSY), "{mode} {name} {flags:?}");
                }
                assert!(fs::metadata(at.join(name)).unwrap().len() > 1000);
            });
            running.send("\n");
            running.finish();
        }
    }
}

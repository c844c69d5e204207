//! Union mounts: policies by measure, sizes, what `df` counts, marks shown, flags of inodes, owners.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;

use lab::Lab;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

mod unions;
use unions::Union;

/// Two file systems of 8 and 32 MiB as branches.
const TWO_SIZES: &str = "mount -t tmpfs -o size=8m none a; mount -t tmpfs -o size=32m none b";

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_places_by_mergerfs_measures() {
    let union = Union::new(
        &format!("{TWO_SIZES}; mkdir a/d; head -c 4M /dev/zero > b/fill"),
        "dirs=a=rw:b=rw,create=lfs",
    );
    for (policy, want) in [
        ("ff", "a"),
        ("lfs", "a"),
        ("mfs:0", "b"),
        ("lus", "a"),
        ("lup", "a"),
        ("tdmfs:50%:0", "a"),
        ("tdmfs:20000000:0", "b"),
        ("mfsrr:9000000:0", "b"),
    ] {
        let change = format!("create={policy}");
        union.rbox(&["remount", "-o", &change, "m"]).run().success();
        assert_eq!(union.status()["create"], policy);
        union.sh(&format!("echo > m/{policy}; test -e {want}/{policy}"));
    }
    union
        .rbox(&["remount", "-o", "create=epmfs", "m"])
        .run()
        .success();
    union.sh("for n in 1 2 3; do echo > m/d/$n; done; test $(ls a/d | wc -l) = 3; test ! -e b/d");
    union.sh("mkdir c/lower");
    union.rbox(&["add", "m", "c=ro"]).run().success();
    assert_eq!(
        union.sh("touch m/lower/x 2>&1 || :"),
        "touch: cannot touch 'm/lower/x': Read-only file system",
        "no writable branch has the directory"
    );
    union
        .rbox(&["remount", "-o", "create=pfrd", "m"])
        .run()
        .success();
    union.sh("mkdir m/many; for n in $(seq 100); do echo > m/many/$n; done; ls a/many > x; test -s x; ls b/many > x; test -s x");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_counts_space_as_told() {
    let blocks = |union: &Union| union.sh("stat -f -c '%S %b' m");
    let union = Union::new(TWO_SIZES, "dirs=a=rw:b=ro");
    assert_eq!(blocks(&union), "4096 2048", "the first");
    for (option, want) in [
        ("sum", "4096 10240"),
        ("sum,statfs_ignore=ro", "4096 2048"),
        ("statfs_ignore=none", "4096 10240"),
        ("nosum", "4096 2048"),
    ] {
        union.rbox(&["remount", "-o", option, "m"]).run().success();
        assert_eq!(blocks(&union), want, "{option}");
    }
    union.sh("umount m; mkdir e; truncate -s 16M image; mkfs.ext4 -q -b 1024 image; mount -o loop image e; mkdir e/x e/y");
    union.mount("dirs=a=rw:e/x=rw:e/y=rw,sum");
    let unit = blocks(&union);
    let (unit, count) = unit.split_once(' ').unwrap();
    assert_eq!(unit, "1024", "the smallest unit");
    let (_, own) = union
        .sh("stat -f -c '%S %b' e")
        .split_once(' ')
        .map(|(a, b)| (a.to_owned(), b.parse::<u64>().unwrap()))
        .unwrap();
    assert_eq!(
        count.parse::<u64>().unwrap(),
        8192 + own,
        "each file system once"
    );
    union.sh("umount m; umount e");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_shows_marks_where_nobody_writes() {
    let union = Union::new("echo b > b/f; touch a/.wh.f", "dirs=a=ro+wh:b=ro,shwh");
    assert_eq!(
        union.sh("ls -A m; stat -c %s m/.wh.f; ls m/f 2>&1 | wc -l"),
        ".wh.f\n0\n1"
    );
    union
        .rbox(&["add", "--index", "0", "m", "c=rw"])
        .run()
        .code(1)
        .says("marks are shown where no branch is writable");
    union
        .rbox(&["remount", "-o", "noshwh", "m"])
        .run()
        .success();
    assert_eq!(union.sh("ls -A m"), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hands_flags_of_inodes_on() {
    let union = Union::new(
        "mkdir e; truncate -s 32M image; mkfs.ext4 -q image; mount -o loop image e
         mkdir e/a e/b e/b/d; echo low > e/b/f",
        "dirs=e/a=rw:e/b=ro",
    );
    union.sh("chattr +i m/f; lsattr m/f | grep -q '^----i'; lsattr e/a/f | grep -q '^----i'");
    assert_eq!(
        union.sh("lsattr e/b/f | cut -c 5"),
        "-",
        "a copy got the flag"
    );
    let refused = union.sh("{ rm -f m/f || :; sh -c 'echo x > m/f' || :; mv m/f m/g || :; } 2>&1 | grep -c 'not permitted'");
    assert_eq!(refused, "3");
    union.sh("chattr -i m/f; echo more >> m/f; chattr +a m/d; touch m/d/new; lsattr -d m/d | grep -q '^-----a'");
    assert_eq!(
        union.sh("rm m/d/new 2>&1 || :; setpriv --reuid 5 --regid 5 --clear-groups chattr +d m/f 2>&1 || :"),
        "rm: cannot remove 'm/d/new': Operation not permitted\n\
         chattr: Operation not permitted while setting flags on m/f"
    );
    union.sh("chattr -a m/d; rm -r m/d; umount m; umount e");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_makes_unnamed_files_where_the_policy_says() {
    let union = Union::new("mkdir -p b/d", "dirs=a=rw:b=ro:c=rw,create=rr");
    union.enter(|at| {
        for number in 0..4 {
            let flags = OFlags::TMPFILE | OFlags::RDWR;
            let file = rustix::fs::open(at.join("m/d"), flags, Mode::from_raw_mode(0o640)).unwrap();
            rustix::io::write(&file, b"unnamed").unwrap();
            let before = rustix::fs::fstat(&file).unwrap();
            assert_eq!(before.st_nlink, 0);
            let name = at.join(format!("m/d/{number}"));
            rustix::fs::linkat(&file, "", CWD, &name, AtFlags::EMPTY_PATH).unwrap();
            assert_eq!(fs::read_to_string(&name).unwrap(), "unnamed");
            assert_eq!(rustix::fs::stat(&name).unwrap().st_ino, before.st_ino);
        }
    });
    assert_eq!(union.sh("ls a/d | wc -l; ls c/d | wc -l; ls b/d"), "2\n2");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_is_given_other_owners() {
    let union = Union {
        lab: Lab::with_busybox(),
    };
    union.sh("mkdir a b m; echo low > b/f; chown 1000:1000 a b b/f");
    union.mount("dirs=a=rw:b=ro");
    let place = union.lab.directory().display();
    let volume = format!("{place}/m:/data:idmap=1000");
    let script = "cd /data; stat -c '%u %g' f; echo more >> f; echo new > new; mkdir dir; ln -s f link; stat -c %u new dir link";
    let output = union
        .lab
        .rbox(["run", "--rm", "-v", &volume, "busybox", "sh", "-c", script])
        .run()
        .success();
    assert_eq!(output.text(), "0 0\n0\n0\n0");
    assert_eq!(
        union.sh("stat -c '%n %u %g' a/f a/new a/dir a/link; cat a/f"),
        "a/f 1000 1000\na/new 1000 1000\na/dir 1000 1000\na/link 1000 1000\nlow\nmore"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_moves_files_off_a_full_branch() {
    for order in ["a=rw:b=rw", "b=rw:a=rw"] {
        let union = Union::new(
            "mount -t tmpfs -o size=4m none a; mount -t tmpfs -o size=64m none b
             mkdir a/d; chmod 750 a/d",
            &format!("dirs={order},moveonenospc=mfs:0,moveonenospc_guard=100%"),
        );
        let fill = "head -c 3000000 /dev/urandom > random; cp random m/d/f; chmod 640 m/d/f
             setfattr -n trusted.x -v y m/d/f; ln m/d/f m/d/linked; rm m/d/linked; exec 9<m/d/f
             stat -c %i m/d/f > before; cat random >> m/d/f; cat random random | cmp - m/d/f
             stat -c %i m/d/f | cmp - before; cat <&9 | cmp - m/d/f";
        union.sh(fill);
        assert_eq!(
            union.sh("ls a/d; ls b/d; stat -c '%a %s' b/d/f; stat -c %a b/d
                 getfattr --only-values -n trusted.x b/d/f"),
            "f\n640 6000000\n750\ny"
        );
        assert_eq!(union.status()["moves"], 1);
        // several links stay, and the caller learns of it
        let said = union.sh(
            "until test $(stat -f -c %f a) -ge 1000; do :; done; head -c 3000000 random > a/d/g; ln m/d/g m/d/h; { cat random >> m/d/g; } 2>&1 || :",
        );
        assert!(said.contains("No space left on device"), "{said}");
        assert_eq!(union.sh("ls a/d; cmp -n 3000000 random m/d/h"), "g\nh");
        union
            .rbox(&["remount", "-o", "nomoveonenospc", "m"])
            .run()
            .success();
        union.sh("rm m/d/g m/d/h; until test $(stat -f -c %f a) -ge 1000; do :; done; head -c 3000000 random > a/d/g");
        let said = union.sh("{ cat random >> m/d/g; } 2>&1 || :");
        assert!(said.contains("No space left on device"), "{said}");
    }
}

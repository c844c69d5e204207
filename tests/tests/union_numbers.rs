//! Inode numbers of unions: one for each object, the same in every mount.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};

mod unions;

use unions::Union;

/// Three file systems, which have the same numbers.
const THREE: &str = "for d in a b c; do
    mount -t tmpfs none $d; mkdir $d/$d; for i in 1 2 3; do echo $d > $d/$d/$i; done
done";

fn number(union: &Union, path: &str) -> u64 {
    union.sh(&format!("stat -c %i m/{path}")).parse().unwrap()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_numbers_do_not_depend_on_what_is_seen_first() {
    const LIST: &str = "dirs=a=rw:b=ro:c=ro";
    let union = Union::new(THREE, LIST);
    let see = |paths: [&str; 3]| paths.map(|path| number(&union, path));
    let [a, b, c] = see(["a/1", "b/1", "c/1"]);
    assert!(a != b && b != c && a != c, "{a} {b} {c}");
    union.again(LIST);
    assert_eq!(see(["c/1", "b/1", "a/1"]), [c, b, a]);
    union.sh("echo more >> m/c/1");
    assert_eq!(number(&union, "c/1"), c, "copied");
    union.again(LIST);
    assert_eq!(see(["c/1", "a/1", "b/1"]), [c, a, b]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_numbers_have_32_bits_where_programs_know_no_more() {
    let files = format!("{THREE}\nfor i in $(seq 200); do touch b/b/n$i c/c/n$i; done");
    let union = Union::new(&files, "dirs=a=rw:b=ro:c=ro,inode32");
    let numbers = "find m -printf '%i %p\\n' | sed s/n700$/n7/ | sort";
    let seen = union.sh(numbers);
    let lines = seen.lines().map(|line| line.split_once(' ').unwrap());
    let shown: Vec<u64> = lines.map(|(number, _)| number.parse().unwrap()).collect();
    assert!(shown.iter().all(|number| number >> 32 == 0), "{seen}");
    assert!(shown.iter().filter(|number| *number >> 31 == 1).count() > 400);
    let different: HashSet<&u64> = shown.iter().collect();
    assert_eq!(different.len(), shown.len(), "{seen}");
    union.enter(|place| {
        for dir in ["m", "m/a", "m/b", "m/c"] {
            for entry in fs::read_dir(place.join(dir)).unwrap() {
                let entry = entry.unwrap();
                assert_eq!(entry.ino(), entry.metadata().unwrap().ino(), "{entry:?}");
            }
        }
    });
    union.sh("for i in m/b/*; do echo more >> $i; done; mv m/c/n7 m/c/n700");
    assert!(union.sh(numbers) == seen, "copied and renamed");
    assert_eq!(union.status()["inode32"], true);
    let plain = union.rbox(&["ls", "m"]).run().success();
    assert!(plain.text().contains("udba=reval,inode32"));
    let remount = |words| union.rbox(&["remount", "-o", words, "m"]).run();
    remount("inode32,sum").success();
    remount("inode64")
        .code(1)
        .says("inode32 and inode64 are for union mount");
}

/// What `path` of a branch has, whose file system is the how manieth in the list.
fn number_of_origin(union: &Union, path: &str, index: u64) -> u64 {
    let own: u64 = union.sh(&format!("stat -c %i {path}")).parse().unwrap();
    own ^ (index << 48)
}

/// No two objects have one number, and listings say what stat says.
fn check_all(union: &Union) {
    let seen = union.sh("find m -printf '%i %p\\n'");
    let numbers: HashSet<&str> = seen
        .lines()
        .map(|it| it.split_once(' ').unwrap().0)
        .collect();
    assert_eq!(numbers.len(), seen.lines().count(), "{seen}");
    union.enter(|place| {
        for dir in ["m", "m/a", "m/b"] {
            for entry in fs::read_dir(place.join(dir)).unwrap() {
                let entry = entry.unwrap();
                assert_eq!(entry.ino(), entry.metadata().unwrap().ino(), "{entry:?}");
            }
        }
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_copies_have_the_numbers_of_their_origins_in_every_list() {
    // Roots are told apart by their time of birth.
    let files =
        format!("mkdir d; {THREE}; sleep 0.1; mount -t tmpfs none d; mkdir d/d; touch d/d/1");
    let files = files.replace("mount", "sleep 0.1; mount");
    let union = Union::new(&files, "dirs=a=rw:b=ro:c=ro");
    union.sh("echo more >> m/b/1; echo more >> m/c/1");
    let see = |list: &str, b: u64, c: u64| {
        union.again(list);
        for (dir, index) in [("b", b), ("c", c)] {
            for path in [format!("{dir}/1"), format!("{dir}/2"), dir.to_owned()] {
                let origin = number_of_origin(&union, &format!("{dir}/{path}"), index);
                assert_eq!(number(&union, &path), origin, "{path} of {list}");
            }
        }
        check_all(&union);
    };
    see("dirs=d=rw:a=ro:b=ro:c=ro", 2, 3);
    union.sh("echo again >> m/c/1"); // a copy of a copy
    see("dirs=d=rw:a=ro:b=ro:c=ro", 2, 3);
    see("dirs=d=rw:a=ro:c=ro:b=ro", 3, 2);
    see("dirs=c=ro:a=ro:d=ro:b=ro", 3, 0);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_copies_of_what_is_gone_keep_a_number_of_their_own() {
    let files = format!("mkdir d; {THREE}; mount -t tmpfs none d; mkdir d/d; touch d/d/1");
    let files = files.replace("mount", "sleep 0.1; mount");
    let union = Union::new(&files, "dirs=a=rw:b=ro:c=ro");
    union.sh("echo more >> m/c/1; echo more >> m/b/1");
    union.again("dirs=a=rw:b=ro");
    check_all(&union);
    let gone = number(&union, "c/1");
    union
        .rbox(&["remount", "-o", "append=c=ro", "m"])
        .run()
        .success();
    assert_eq!(number(&union, "c/1"), gone, "while mounted");
    check_all(&union);
    union.again("dirs=d=rw:a=ro:b=ro");
    assert_eq!(number(&union, "c/1"), gone, "in another list");
    check_all(&union);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_notes_of_earlier_versions_are_read() {
    const LIST: &str = "dirs=a=rw:b=ro:c=ro";
    let union = Union::new(THREE, LIST);
    union.sh("echo more >> m/c/1");
    union.enter(|place| {
        let copy = place.join("a/c/1");
        let mut note = copy.metadata().unwrap().ino().to_le_bytes().to_vec();
        note.extend_from_slice(&0x1234_5678_u64.to_le_bytes());
        let flags = rustix::fs::XattrFlags::REPLACE;
        rustix::fs::setxattr(&copy, "trusted.rbox.origin", &note, flags).unwrap();
    });
    union.again(LIST);
    assert_eq!(number(&union, "c/1"), 0x1234_5678);
}

//! Inode numbers of unions: one for each object, the same in every mount.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

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

//! Union mounts with overlayfs's marks: their branches are its layers, and its layers their branches.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::Path;

use lab::eventually;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, linkat, mkdirat, mknodat, open,
    renameat_with, rmdir, symlinkat, unlinkat,
};
use rustix::io::{Errno, write};

mod unions;
use unions::Union;

/// All that can be seen of a tree, a line per entry.
fn tree(union: &Union, at: &str) -> String {
    union.sh(&format!(
        "cd {at}; find . -mindepth 1 -printf '%P %y %m %U:%G %s %l %n\n' | sed 's/ d \\(.*\\) [0-9]* *[0-9]*$/ d \\1/' | sort
         find . -type f | sort | xargs -r -d '\n' cksum; find . -mindepth 1 | sort | xargs -r -d '\n' getfattr -h -d -m '^user|^trusted.overlay'"
    ))
}

/// What the kernel's overlayfs shows of the same directories, for a moment.
#[track_caller]
fn assert_is_overlay(union: &Union, layers: &str) {
    union.sh(&format!(
        "mkdir -p k; mount -t overlay none -o ro,lowerdir={layers} k"
    ));
    let (ours, kernel) = (tree(union, "m"), tree(union, "k"));
    union.sh("umount k");
    assert_eq!(
        ours, kernel,
        "the union above, the kernel's overlayfs below"
    );
}

const LOWER: &str = "mkdir -p b/d/sub b/e b/gone/deep b/x; echo 1 > b/f; echo 2 > b/g; echo 3 > b/h
    echo 4 > b/d/one; echo 5 > b/d/two; echo 6 > b/d/sub/three; echo 7 > b/gone/deep/f; echo 8 > b/x/y
    echo 9 > b/.wh.name; ln -s f b/link; mkfifo b/pipe; echo keep > b/moved; echo linked > b/l1; ln b/l1 b/l2
    long=$(printf 'n%.0s' $(seq 255)); echo long > b/$long";

/// Takes away, puts over what was taken away, and moves there, in a tree like `LOWER`.
const CHANGES: &str = "rm f; rm .wh.name; rm -r gone; rm d/one; rm pipe; rm link; rm n*
    rm g; echo new > g; rm h; mkdir h; echo in > h/in; rm -r e; mkdir e; echo over > e/over
    rm -r x; echo file > x; mv moved d/moved; rm d/two; mv d/moved d/two; rm l1; ln l2 l1
    mkdir made; echo made > made/f; rm -r d/sub; mv made d/sub; ln -s new pipe; mkdir over; rmdir over
    echo again > f; echo more >> f; mkdir gone; mv f gone/f; echo user > gone/u; setfattr -n user.x -v y gone
    mkdir two; touch two/a; mv -T two link; rm -r link; mkdir t1 t2; rmdir t1; mv t2 t1";

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_writes_layers_of_overlayfs() {
    for (options, layers) in [
        ("dirs=a=rw:b=ro,whform=overlay", "a:b"),
        ("lowerdir=b,upperdir=a,workdir=w", "a:b"),
        ("dirs=c=rw:a=rw:b=ro,whform=overlay,create=rr", "c:a:b"),
        (
            "dirs=a=rw:b=ro,whform=overlay,diropq=always,udba=notify",
            "a:b",
        ),
    ] {
        let union = Union::new(LOWER, options);
        assert_is_overlay(&union, layers);
        union.sh(&format!("cd m; {CHANGES}"));
        let before = tree(&union, "m");
        assert_is_overlay(&union, layers);
        assert_eq!(
            union.sh("find a b c -name '.wh.*' -type f ! -path b/.wh.name"),
            "",
            "{options}: no mark by name"
        );
        union.sh("umount m");
        union.mount(options);
        assert_eq!(tree(&union, "m"), before, "{options}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_takes_layers_of_overlayfs_as_branches() {
    let union = Union {
        lab: lab::Lab::new(),
    };
    union.sh("mkdir a b m w k");
    union.sh(LOWER);
    union.sh(&format!(
        "mount -t overlay none -o lowerdir=b,upperdir=a,workdir=w,metacopy=off,redirect_dir=off k
         cd k; {CHANGES}; cd ..; umount k"
    ));
    union.mount("dirs=a=rw:b=ro,whform=overlay");
    assert_is_overlay(&union, "a:b");
    union.sh("cd m; rm -r d e; echo back > d; mkdir e; mv gone e/gone; rm g; ln l2 g");
    assert_is_overlay(&union, "a:b");
    union.sh("umount m");
    // and as an upper again
    union.sh("mount -t overlay none -o lowerdir=b,upperdir=a,workdir=w k; cd k; rm d; mkdir d; echo x > e/x; cd ..; umount k");
    union.mount("dirs=a=rw:b=ro,whform=overlay");
    assert_eq!(union.sh("ls m/d; cat m/e/x"), "x");
    assert_is_overlay(&union, "a:b");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_reads_whiteouts_that_are_files() {
    let union = Union::new(
        "mkdir -p a/d b/d; echo 1 > b/d/f; echo 2 > b/d/g; touch a/d/f a/d/h
         setfattr -n trusted.overlay.whiteout a/d/f; setfattr -n trusted.overlay.opaque -v x a/d a",
        "dirs=a=ro+wh:b=ro,whform=overlay",
    );
    assert_eq!(
        union.sh("ls m/d; cat m/d/f 2>&1 || :"),
        "g\nh\ncat: m/d/f: No such file or directory"
    );
    assert_is_overlay(&union, "a:b");
    union.sh("umount m");
    union.mount("dirs=c=rw:a=ro+wh:b=ro,whform=overlay");
    union.sh("echo new > m/d/f; rm m/d/g; rm m/d/h; rm -r m/d; mkdir m/d");
    assert_eq!(union.sh("ls m/d"), "");
    assert_is_overlay(&union, "c:a:b");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_hides_overlayfs_marks_and_takes_none_from_users() {
    let union = Union::new(
        "mkdir b/d a/d; echo f > b/d/f; echo low > b/g; truncate -s 4K a/meta
         setfattr -n trusted.overlay.origin -v x a/d; setfattr -n trusted.overlay.metacopy -v x a/meta",
        "dirs=a=rw:b=ro,whform=overlay",
    );
    assert_eq!(union.sh("getfattr -m - m/d 2>&1"), "");
    // what a user calls so is kept under another name and is no mark
    union.sh("setfattr -n trusted.overlay.opaque -v y m/d; setfattr -n trusted.overlay.whiteout m/g; : > m/g
        touch m/empty; setfattr -n trusted.overlay.whiteout -v x m/empty");
    assert_eq!(
        union.sh("ls m m/d; getfattr --only-values -n trusted.overlay.opaque m/d; echo; getfattr -m - m/empty | grep trusted
             getfattr -m overlay a/empty | grep trusted; cat m/meta 2>&1 || :"),
        "m:\nd\nempty\ng\nmeta\n\nm/d:\nf\ny\ntrusted.overlay.whiteout\ntrusted.overlay.overlay.whiteout\n\
         cat: m/meta: Operation not permitted"
    );
    union.sh("setfattr -x trusted.overlay.opaque m/d; rm -r m/d m/empty m/g; mkdir m/d");
    union.enter(|at| {
        let made = mknodat(
            CWD,
            at.join("m/whiteout"),
            FileType::CharacterDevice,
            Mode::empty(),
            0,
        );
        assert_eq!(made, Err(Errno::PERM), "as overlayfs answers");
        let name = at.join("m/.wh..wh.tmp.x");
        assert_eq!(
            fs::write(&name, "").unwrap_err().raw_os_error(),
            Some(Errno::PERM.raw_os_error())
        );
    });
    union.sh("mknod m/null c 1 3; echo x > m/null; touch m/.wh.mine; ls -A m | grep -q '^.wh.mine$'; rm m/.wh.mine m/null a/meta
        mkdir a/renamed b/renamed; setfattr -n trusted.overlay.redirect -v d a/renamed
        ls m/renamed 2>&1 | grep -q 'Operation not permitted'; rmdir a/renamed b/renamed");
    assert_is_overlay(&union, "a:b");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_the_form_of_its_marks() {
    let union = Union::new(
        "echo b > b/f; mkdir b/d; mknod a/f c 0 0; mkdir w x y; echo c > c/f",
        "dirs=a=ro+wh:b=ro,whform=overlay,shwh",
    );
    assert_eq!(
        union.sh("ls -A m; stat -c %F m/f; rbox union where m/d"),
        format!(
            "d\nf\ncharacter special file\n{}/b",
            union.lab.directory().display()
        )
    );
    union
        .rbox(&["remount", "-o", "noshwh", "m"])
        .run()
        .success();
    assert_eq!(union.sh("ls -A m"), "d");
    union
        .rbox(&["remount", "-o", "whform=aufs", "m"])
        .run()
        .code(1)
        .says("this union's branches hold marks in the form overlay");
    union
        .rbox(&["remount", "-o", "whform=overlay,udba=none", "m"])
        .run()
        .success();
    let listed = union.rbox(&["ls", "m"]).run().success().text();
    assert!(listed.contains("udba=none,whform=overlay"), "{listed}");
    union.sh("umount m");
    // where whiteouts do not count they are not there
    union.mount("dirs=a=ro:c=ro:b=ro,whform=overlay");
    assert_eq!(
        union.sh("ls -A m; cat m/f; rbox union where m/f | wc -l"),
        "d\nf\nc\n2"
    );
    union.sh("umount m; mount -t overlay none -o lowerdir=b,upperdir=x,workdir=w y");
    union
        .rbox(&["mount", "-o", "dirs=y=rw:b=ro,whform=overlay", "m"])
        .run()
        .code(1)
        .says("y\": it cannot be written with whform=overlay: its file system");
    union.sh("umount y; test -z \"$(ls -A x)\"");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_is_told_of_overlayfs_marks() {
    let union = Union::new(
        "mkdir a/d b/d b/e; echo f > b/f; echo g > b/d/g; echo h > b/e/h",
        "dirs=a=rw:b=ro,whform=overlay,udba=notify",
    );
    let look = || union.sh("cat m/f 2> /dev/null || echo none; ls m/d m/e 2> /dev/null || :");
    assert_eq!(look(), "f\nm/d:\ng\n\nm/e:\nh");
    for (change, seen) in [
        ("mknod a/f c 0 0", "none\nm/d:\ng\n\nm/e:\nh"),
        (
            "setfattr -n trusted.overlay.opaque -v y a/d",
            "none\nm/d:\n\nm/e:\nh",
        ),
        ("rm a/f; mknod a/e c 0 0", "f\nm/d:"),
        (
            "setfattr -x trusted.overlay.opaque a/d; rm a/e",
            "f\nm/d:\ng\n\nm/e:\nh",
        ),
    ] {
        union.sh(change);
        eventually(change, || look() == seen);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_reads_both_forms_and_writes_the_first() {
    let union = Union::new(
        "mkdir -p a/d b/d b/e; touch b/1 b/2 b/3 b/d/4; touch a/.wh.1; mknod a/2 c 0 0; mknod a/e c 0 0
         setfattr -n trusted.overlay.opaque -v y a/d",
        "dirs=a=rw:b=ro,whform=auto",
    );
    assert_eq!(union.sh("find m | sort"), "m\nm/3\nm/d");
    union.sh("rm m/3; echo 1 > m/1; echo 2 > m/2; mkdir m/e; rmdir m/d; mkdir m/d");
    assert_eq!(
        union.sh("cat m/1 m/2; find m | sort; cd a; find . -type c; find . -name '.wh.*' ! -name .wh..wh.aufs | sort"),
        "1\n2\nm\nm/1\nm/2\nm/d\nm/e\n./.wh.3\n./d/.wh..wh.opq\n./e/.wh..wh.opq"
    );
}

/// Chooses the next step; the same seed gives the same steps.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % limit
    }

    fn path(&mut self) -> String {
        let names = ["p", "q", "r", "s"];
        let depth = 1 + self.below(3);
        let words: Vec<_> = (0..depth)
            .map(|_| names[usize::try_from(self.below(4)).unwrap()])
            .collect();
        words.join("/")
    }
}

/// Carries one step out below `top`.
fn step(what: u64, top: &Path, one: &str, two: &str) -> Result<(), Errno> {
    let (one, two) = (top.join(one), top.join(two));
    let mode = Mode::from_raw_mode(0o755);
    match what {
        0 | 1 => {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND;
            write(&open(&one, flags, mode)?, b"text").map(drop)
        }
        2 | 3 => mkdirat(CWD, &one, mode),
        4 | 5 => unlinkat(CWD, &one, AtFlags::empty()),
        6 | 7 => rmdir(&one),
        8 => symlinkat("q/r", CWD, &one),
        9 => linkat(CWD, &one, CWD, &two, AtFlags::empty()),
        10 => renameat_with(CWD, &one, CWD, &two, RenameFlags::EXCHANGE),
        11 => renameat_with(CWD, &one, CWD, &two, RenameFlags::NOREPLACE),
        _ => renameat_with(CWD, &one, CWD, &two, RenameFlags::empty()),
    }
}

/// Steps by chance in a directory and in `plain`, which answers the same.
fn steps(at: &Path, (place, dice): (&str, &mut Dice), count: usize) {
    for number in 0..count {
        let (what, one, two) = (dice.below(15), dice.path(), dice.path());
        let got = step(what, &at.join(place), &one, &two);
        if got == Err(Errno::XDEV) {
            continue; // a tree that mv would copy
        }
        let wanted = step(what, &at.join("plain"), &one, &two);
        assert_eq!(got, wanted, "{place}, step {number}: {what} {one} {two}");
    }
}

const GARDEN: &str = "mkdir plain k w; for d in p q r s; do for e in p q r; do mkdir -p b/$d/$e; echo $d > b/$d/$e/p; done; done
    echo s > b/p/s; mkdir c/p; mknod c/p/q c 0 0; echo c > c/p/r2; mknod c/s c 0 0";

/// Thousands of steps by chance on a union and on a plain directory that looks the same: they answer
/// the same, look the same at last, and overlayfs shows of the branches what the union does.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_with_overlayfs_marks_does_what_a_plain_directory_does_by_chance() {
    for (options, layers) in [
        ("dirs=a=rw:b=ro,whform=overlay", "a:b"),
        ("dirs=a=rw:c=rw:b=ro,whform=overlay,create=rr", "a:c:b"),
        ("dirs=a=rw:c=ro+wh:b=ro,whform=overlay,udba=notify", "a:c:b"),
    ] {
        let union = Union::new(GARDEN, options);
        union.sh("cp -a m/. plain");
        let mut dice = Dice(options.len() as u64);
        union.enter(|at| steps(at, ("m", &mut dice), 6000));
        assert_eq!(tree(&union, "m"), tree(&union, "plain"), "{options}");
        assert_is_overlay(&union, layers);
    }
}

/// The union and overlayfs have the same branches in turn, and change them by chance.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_and_overlayfs_work_on_the_same_branches_in_turn() {
    let options = "dirs=a=rw:c=ro+wh:b=ro,whform=overlay";
    let union = Union::new(GARDEN, options);
    union.sh("cp -a m/. plain; umount m");
    let mut dice = Dice(11);
    for round in 0..16 {
        let place = if round % 2 == 0 {
            union.mount(options);
            "m"
        } else {
            union.sh(
                "mount -t overlay none -o lowerdir=c:b,upperdir=a,workdir=w,redirect_dir=off k",
            );
            "k"
        };
        union.enter(|at| steps(at, (place, &mut dice), 500));
        assert_eq!(tree(&union, place), tree(&union, "plain"), "round {round}");
        union.sh(&format!("umount {place}"));
    }
}

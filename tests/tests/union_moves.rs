//! Union mounts: directories that lower branches have too are renamed (`dirren`), and nothing is copied.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

mod unions;
use unions::Union;

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_renames_directories_of_lower_branches() {
    for (form, hidden) in [("aufs", "test -f a/.wh.d"), ("overlay", "test -c a/d")] {
        let options = format!("dirs=a=rw:b=ro,whform={form}");
        let union = Union::new(
            "mkdir -p b/d/sub b/empty; echo f > b/d/f; echo g > b/d/sub/g; chmod 750 b/d",
            &options,
        );
        union.enter(|at| {
            let refused = fs::rename(at.join("m/d"), at.join("m/new")).unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(18), "EXDEV without dirren");
        });
        union
            .rbox(&["remount", "-o", "dirren", "m"])
            .run()
            .success();
        union.enter(|at| {
            let m = at.join("m");
            let read = |path: &str| fs::read_to_string(m.join(path)).unwrap();
            let number = |path: &str| fs::metadata(m.join(path)).unwrap().ino();
            let before = (number("d"), number("d/f"), number("d/sub"));
            fs::rename(m.join("d"), m.join("new")).unwrap();
            assert_eq!(names(&m), ["empty", "new"]);
            assert_eq!(names(&m.join("new")), ["f", "sub"]);
            assert_eq!(
                (read("new/f"), read("new/sub/g")),
                ("f\n".into(), "g\n".into())
            );
            assert_eq!((number("new"), number("new/f"), number("new/sub")), before);
            assert_eq!(fs::metadata(m.join("new")).unwrap().mode() & 0o7777, 0o750);
            assert!(names(&at.join("a/new")).is_empty(), "something was copied");
            // Its own changes, a child that goes elsewhere, and one more renaming.
            fs::File::options()
                .append(true)
                .open(m.join("new/f"))
                .unwrap()
                .write_all(b"+")
                .unwrap();
            fs::rename(m.join("new/sub"), m.join("out")).unwrap();
            fs::rename(m.join("new"), m.join("empty")).unwrap();
            fs::write(m.join("empty/own"), "own").unwrap();
            assert_eq!(names(&m.join("empty")), ["f", "own"]);
            assert_eq!(
                (read("empty/f"), read("out/g")),
                ("f\n+".into(), "g\n".into())
            );
            // The old name is free, and what is made there is empty.
            fs::create_dir(m.join("d")).unwrap();
            assert!(names(&m.join("d")).is_empty());
            fs::create_dir_all(m.join("deep/er")).unwrap();
            fs::rename(m.join("out"), m.join("deep/er/out")).unwrap();
            assert_eq!(read("deep/er/out/g"), "g\n");
        });
        // What was renamed is found by whoever mounts the branches, and below others.
        let view = "cd m; find . | sort; cat deep/er/out/g empty/f";
        let seen = union.sh(view);
        if form == "aufs" {
            union.again(&options);
            assert_eq!(union.sh(view), seen);
        }
        union.again(&format!("dirs=c=rw:a=ro+wh:b=ro,dirren,whform={form}"));
        assert_eq!(union.sh(view), seen);
        union.enter(|at| {
            fs::rename(at.join("m/deep"), at.join("m/empty/deep")).unwrap();
            fs::rename(at.join("m/empty"), at.join("m/last")).unwrap();
        });
        assert_eq!(
            union.sh("cat m/last/deep/er/out/g m/last/f; ls m"),
            "g\nf\n+d\nlast"
        );
        union.sh("rm -r m/last m/d; test -z \"$(ls -A m)\"; cat b/d/f b/d/sub/g");
        union.sh("mkdir m/last m/empty m/d; test -z \"$(find m -mindepth 2)\"");
        union.sh(&format!("umount m; {hidden} || test -d a/d"));
    }
}

/// A redirect that somebody else wrote leads nowhere but into the branches.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_believes_no_redirect_out_of_a_branch() {
    let union = Union::new(
        "mkdir -p a/up a/far b/d c/secret; echo secret > c/secret/f; ln -s ../c/secret b/link
         setfattr -n trusted.rbox.moves -v y a
         setfattr -n trusted.rbox.redirect -v /../c/secret a/up
         setfattr -n trusted.rbox.redirect -v /link a/far",
        "dirs=a=rw:b=ro",
    );
    union.sh("! ls m/up 2> out; grep 'Input/output error' out; ls -A m/far; ls m/d");
    assert_eq!(union.sh("ls -A m/far"), "");
}

/// A number that looks like chance.
struct Chance(u64);

impl Chance {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }

    fn path(&mut self) -> PathBuf {
        let depth = 1 + self.below(3);
        (0..depth)
            .map(|_| ["p", "q", "r", "s"][self.below(4)])
            .collect()
    }
}

/// What one thing that is done by chance answers, in the tree at `top`.
fn act(top: &Path, what: usize, one: &Path, two: &Path, round: usize) -> Option<i32> {
    let (one, two) = (top.join(one), top.join(two));
    let done = match what {
        0 | 1 => fs::create_dir(&one),
        2 => fs::File::options()
            .append(true)
            .create(true)
            .open(&one)
            .and_then(|mut file| write!(file, "{round} ")),
        3 => fs::remove_file(&one),
        4 => fs::remove_dir(&one),
        _ => fs::rename(&one, &two),
    };
    done.err().and_then(|error| error.raw_os_error())
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_renames_by_chance_as_a_plain_directory_does() {
    let view = |top: &str| {
        format!("cd {top}; find . -printf '%p %y %m\\n' | sort; find . -type f | sort | xargs cat")
    };
    for (seed, ways) in [
        (1, ""),
        (2, ",udba=notify"),
        (3, ",whform=overlay"),
        (4, ",passthrough=off"),
    ] {
        let union = Union::new(
            "mkdir plain; cd b
             for one in p q r s; do mkdir -p $one/p/q $one/r; for f in $one/q $one/p/r $one/r/s; do echo $f > $f; done; done
             cp -a . ../plain",
            &format!("dirs=a=rw:b=ro,dirren{ways}"),
        );
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15 ^ seed);
        for part in 0..3 {
            if part == 1 {
                union.again(&format!("dirs=c=rw:a=ro+wh:b=ro,dirren{ways}"));
            }
            if part == 2 {
                union.again(&format!("dirs=c=rw:a=rw:b=ro,dirren{ways}"));
            }
            for round in 0..400 {
                let (what, one, two) = (chance.below(9), chance.path(), chance.path());
                union.enter(|at| {
                    let own = act(&at.join("m"), what, &one, &two, round);
                    let plain = act(&at.join("plain"), what, &one, &two, round);
                    assert_eq!(
                        own, plain,
                        "seed {seed} part {part} round {round}: {what} {one:?} {two:?}"
                    );
                });
                if round % 20 == 0 {
                    assert_eq!(
                        union.sh(&view("m")),
                        union.sh(&view("plain")),
                        "seed {seed} part {part} round {round}"
                    );
                }
            }
            assert_eq!(
                union.sh(&view("m")),
                union.sh(&view("plain")),
                "seed {seed} part {part}"
            );
        }
        if ways.contains("overlay") {
            // Overlayfs finds all of it in the same places.
            union.sh("mkdir o; mount -t overlay -o lowerdir=c:a:b,redirect_dir=follow none o");
            assert_eq!(union.sh(&view("o")), union.sh(&view("plain")), "overlayfs");
        }
        union.sh("cd b; for one in p q r s; do grep -qx $one/r/s $one/r/s; done");
    }
}

//! Union mounts: what the kernel keeps of them, direct changes with `udba=notify`, and branches that
//! change below mounts and open directories.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs;
use std::path::Path;

use lab::eventually;
use rustix::fs::{RawDir, SeekFrom, seek};

mod unions;
use unions::Union;

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn requests(union: &Union) -> u64 {
    union.status()["requests"].as_u64().unwrap()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_notices_direct_changes_of_what_it_keeps() {
    let union = Union::new(
        "mkdir b/d; echo 1 > b/d/f; echo 22 > b/g",
        "dirs=a=rw:b=ro,udba=notify",
    );
    union.enter(|at| {
        let (m, a, b) = (at.join("m"), at.join("a"), at.join("b"));
        let see = |what: &str, path: &str, want: Option<&str>| {
            eventually(what, || text(&m.join(path)).as_deref() == want);
        };
        see("at first", "d/f", Some("1\n"));
        see("a missing name", "new", None);
        fs::write(b.join("new"), "x").unwrap();
        see("a missing name that is there now", "new", Some("x"));
        fs::write(b.join("new"), "longer").unwrap();
        see("new content", "new", Some("longer"));
        fs::remove_file(b.join("new")).unwrap();
        see("a file that is gone", "new", None);
        see("what will be hidden", "g", Some("22\n"));
        fs::write(a.join(".wh.g"), "").unwrap();
        see("a whiteout", "g", None);
        fs::remove_file(a.join(".wh.g")).unwrap();
        see("a whiteout that is gone", "g", Some("22\n"));
        see("a name missing in a directory", "d/up", None);
        fs::create_dir(at.join("prepared")).unwrap();
        fs::write(at.join("prepared/up"), "u").unwrap();
        fs::rename(at.join("prepared"), a.join("d")).unwrap();
        see("a directory that merges now", "d/up", Some("u"));
        see("and what it had", "d/f", Some("1\n"));
        fs::write(a.join("d/.wh..wh.opq"), "").unwrap();
        see("an opaque mark", "d/f", None);
        fs::remove_file(a.join("d/.wh..wh.opq")).unwrap();
        see("an opaque mark that is gone", "d/f", Some("1\n"));
        fs::rename(b.join("d"), b.join("e")).unwrap();
        see("a lower directory that has another name", "d/f", None);
        see("its new name", "e/f", Some("1\n"));
        see("what stays of the old one", "d/up", Some("u"));
        let names = |dir: &str| {
            let mut names: Vec<String> = fs::read_dir(m.join(dir))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(names("e"), ["f"]);
        fs::write(b.join("e/g"), "").unwrap();
        eventually("a listing with a new name", || names("e") == ["f", "g"]);
        // a further link is written where nobody watches
        fs::hard_link(b.join("g"), at.join("c/elsewhere")).unwrap();
        eventually("two links", || {
            use std::os::unix::fs::MetadataExt;
            fs::metadata(m.join("g")).unwrap().nlink() == 2
        });
        fs::write(at.join("c/elsewhere"), "by another name").unwrap();
        see("a change by another name", "g", Some("by another name"));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_what_nobody_changes() {
    let union = Union::new("mkdir b/d; echo 1 > b/d/f", "dirs=a=rw:b=ro,udba=notify");
    let look =
        "for n in $(seq 100); do stat m m/d m/d/f m/mine m/none m/d/none || :; done > out 2>&1";
    union.sh("echo own > m/mine; ls m m/d; stat m/none m/d/none m/mine 2>&1 | cat");
    let before = requests(&union);
    union.sh(look);
    let asked = requests(&union) - before;
    assert!(asked < 30, "{asked} requests for 600 looks");
    let status = union.status();
    assert!(status["watched"].as_u64().unwrap() >= 3, "{status}");
    assert_eq!(status["unwatched"], "");
    // what the union does itself is no change to be told of
    union.sh("for n in $(seq 200); do echo > m/d/n$n; done; ls m/d > out; stat m/d/* > out");
    let before = requests(&union);
    union.sh("stat m/d/* > out");
    let asked = requests(&union) - before;
    assert!(asked < 50, "{asked} requests for 200 files of its own");
    // nor is what the kernel writes for it, but what others write to the same file is
    let told = || union.status()["changes_seen"].as_u64().unwrap();
    union.sh("dd if=/dev/zero of=m/mine bs=4k count=1000 conv=notrunc status=none; sleep 0.1");
    assert_eq!(told(), 0);
    union.sh("echo more >> a/mine");
    eventually("a write that others made", || told() > 0);
    eventually("its size", || {
        union.sh("stat -c %s m/mine") == (4096 * 1000 + 5).to_string()
    });
    union.sh("rm -r m/d");
    assert_eq!(union.sh("ls m"), "mine");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_says_what_it_cannot_watch() {
    let union = Union::new(
        "echo low > b/f; rbox union mount -o dirs=a=rw:b=ro c",
        "dirs=c=rw,udba=notify",
    );
    let status = union.status();
    assert_eq!(status["watched"], 0);
    let why = "is on a file system that is changed from elsewhere";
    assert!(status["unwatched"].as_str().unwrap().ends_with(why));
    let shown = union.rbox(&["ls", "m"]).run().success();
    assert!(shown.text().contains(why), "{}", shown.text());
    for round in 0..20 {
        union.sh(&format!("cat m/f > out; echo {round} > b/f"));
        assert_eq!(
            union.sh("cat m/f"),
            round.to_string(),
            "the next look sees it"
        );
    }
}

/// Telling the kernel to forget all names once took away what was mounted in the union.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_changes_below_what_is_mounted_in_it() {
    for changes in ["reval", "notify", "none"] {
        let union = Union::new(
            "mkdir -p b/d/e a/t; echo c > c/f; mkdir c/d; echo c > c/d/q",
            &format!("dirs=a=rw:b=ro,udba={changes}"),
        );
        union.sh(
            "mount -t tmpfs none m/d/e; mount -t tmpfs none m/t; touch m/d/e/in m/t/in
             ls m/f m/d/q 2>&1 | cat",
        );
        union.rbox(&["add", "m", "c=ro"]).run().success();
        assert_eq!(
            union.sh("ls m/d/e m/t; cat m/f m/d/q"),
            "m/d/e:\nin\n\nm/t:\nin\nc\nc",
            "{changes}"
        );
        union.rbox(&["del", "m", "c"]).run().success();
        assert_eq!(
            union.sh("ls m/d/e m/t m/d m"),
            "m:\nd\nt\n\nm/d:\ne\n\nm/d/e:\nin\n\nm/t:\nin"
        );
        union.sh("umount m/d/e m/t");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_that_is_read_only_changes_its_branches() {
    let union = Union::new("echo b > b/f; echo c > c/f", "dirs=a=ro:b=ro");
    union
        .rbox(&["add", "--index", "0", "m", "c"])
        .run()
        .success();
    assert_eq!(union.sh("cat m/f"), "c");
    let status = union.status();
    assert_eq!(status["branches"][0]["permission"], "ro", "as the union is");
    union.rbox(&["del", "m", "c"]).run().success();
    let long = "x".repeat(200);
    union.sh(&format!(
        "mkdir {long} {long}/{long}; echo long > {long}/{long}/f"
    ));
    let branch = format!("{long}/{long}");
    union
        .rbox(&["add", "--index", "0", "m", &branch])
        .run()
        .success();
    assert_eq!(union.sh("cat m/f"), "long");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_keeps_branches_of_open_directories() {
    let union = Union::new("mkdir b/only b/both a/both", "dirs=a=rw:b=ro");
    let hold = |dir: &str| {
        let script = format!("exec 9<m/{dir}; echo ready; read x");
        let holder = union.lab.command("sh").args(["-c", &script]);
        let mut holder = holder.directory(union.lab.directory()).spawn();
        holder.expect("ready");
        holder
    };
    let mut both = hold("both");
    union.rbox(&["del", "m", "b"]).run().success();
    both.send("\n");
    both.finish();
    union.rbox(&["add", "m", "b"]).run().success();
    let mut only = hold("only");
    union
        .rbox(&["del", "m", "b"])
        .run()
        .code(1)
        .says("directories of it are open");
    only.send("\n");
    only.finish();
    eventually("the branch is free", || {
        union.rbox(&["del", "m", "b"]).run().status.success()
    });
}

fn names(dir: &Path) -> String {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.join(" ")
}

/// The kernel may keep listings under `udba=reval`, but none of a directory that was changed directly.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_lists_direct_changes_at_once() {
    let union = Union::new("mkdir a/d b/d; touch a/d/up b/d/low", "dirs=a=rw:b=ro");
    union.sh("mkdir b/many; cd b/many; seq 5000 | xargs touch");
    let count = || union.enter(|at| fs::read_dir(at.join("m/many")).unwrap().count());
    // Long unchanged, the listing comes to be kept: then it is not asked for any more.
    eventually("a listing is kept", || {
        assert_eq!(count(), 5000);
        let before = requests(&union);
        let question = requests(&union) - before;
        let before = before + question;
        assert_eq!(count(), 5000);
        // The way there, an open and its end; reading takes five more at least.
        requests(&union) - before <= 4 + question
    });
    union.enter(|at| {
        let list = || names(&at.join("m/d"));
        for round in 0..100 {
            let branch = if round % 2 == 0 { "a/d" } else { "b/d" };
            let new = at.join(branch).join("new");
            fs::write(&new, "").unwrap();
            assert_eq!(list(), "low new up", "{round}");
            assert_eq!(list(), "low new up", "{round}");
            fs::remove_file(&new).unwrap();
            assert_eq!(list(), "low up", "{round}");
            fs::write(at.join("a/d/.wh.low"), "").unwrap();
            assert_eq!(list(), "up", "{round}");
            fs::remove_file(at.join("a/d/.wh.low")).unwrap();
            fs::write(at.join("m/d/through"), "").unwrap();
            assert_eq!(list(), "low through up", "{round}");
            fs::remove_file(at.join("m/d/through")).unwrap();
        }
    });
}

/// The rest of a large directory is read while its first entries are used already.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_lists_large_directories_that_are_emptied_meanwhile() {
    let union = Union::new(
        "mkdir a/d b/d; cd a/d; seq 15000 | xargs touch; cd ../../b/d; seq 10001 20000 | xargs touch",
        "dirs=a=rw:b=ro",
    );
    union.enter(|at| {
        let path = at.join("m/d");
        let mut all: Vec<u32> = Vec::new();
        for (index, entry) in fs::read_dir(&path).unwrap().enumerate() {
            let name = entry.unwrap().file_name();
            all.push(name.to_str().unwrap().parse().unwrap());
            if index % 3 == 0 {
                fs::remove_file(path.join(name)).unwrap();
            }
        }
        all.sort_unstable();
        assert!(all.iter().copied().eq(1..=20000), "{} names", all.len());
        let left = all.len() - all.len().div_ceil(3);
        assert_eq!(fs::read_dir(&path).unwrap().count(), left);
        assert_eq!(fs::read_dir(at.join("b/d")).unwrap().count(), 10000);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_goes_back_in_a_listing() {
    let union = Union::new(
        "mkdir b/d; cd b/d; seq 3000 | xargs touch",
        "dirs=a=rw:b=ro",
    );
    union.enter(|at| {
        let dir = fs::File::open(at.join("m/d")).unwrap();
        let read = |from: u64, count: usize| {
            seek(&dir, SeekFrom::Start(from)).unwrap();
            let mut buffer = Vec::with_capacity(8192);
            let mut entries = RawDir::new(&dir, buffer.spare_capacity_mut());
            let mut found = Vec::new();
            while let Some(Ok(entry)) = (found.len() < count).then(|| entries.next()).flatten() {
                found.push((entry.file_name().to_owned(), entry.next_entry_cookie()));
            }
            found
        };
        let whole = read(0, usize::MAX);
        assert_eq!(whole.len(), 3002);
        for place in [1, 2, 700, 2000, 3000] {
            let rest = read(whole[place - 1].1, 50);
            assert_eq!(rest[..], whole[place..3002.min(place + 50)], "{place}");
        }
        assert!(read(whole[3001].1, 50).is_empty());
        fs::write(at.join("m/d/new"), "").unwrap();
        assert_eq!(read(0, usize::MAX).len(), 3003, "from the beginning anew");
    });
}

/// What a copy-up left behind once kept its branch busy until the files were closed.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_counts_open_files_where_they_are() {
    let union = Union::new("echo 1 > b/f; echo 2 > b/g", "dirs=a=rw:b=ro");
    let open = |union: &Union| {
        let status = union.status();
        [0, 1].map(|at| status["branches"][at]["open"].as_u64().unwrap())
    };
    let files =
        union.enter(|at| ["m/f", "m/f", "m/g"].map(|name| fs::File::open(at.join(name)).unwrap()));
    assert_eq!(open(&union), [0, 3]);
    union.sh("echo more >> m/f");
    assert_eq!(open(&union), [2, 1]);
    let refused = union.rbox(&["del", "m", "b"]).run().code(1);
    assert!(
        refused.errors().contains("files of it are open"),
        "{}",
        refused.errors()
    );
    union.sh("chmod 600 m/g");
    assert_eq!(open(&union), [3, 0]);
    union.rbox(&["del", "m", "b"]).run().success();
    let [f, again, g] = files.map(|mut file| {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        text
    });
    assert_eq!(
        (f.as_str(), again.as_str(), g.as_str()),
        ("1\nmore\n", "1\nmore\n", "2\n")
    );
    eventually("all are closed", || {
        union.status()["branches"][0]["open"] == 0
    });
}

/// A directory was copied up and its origin then moved in its branch: both had one number, the kernel
/// took them for one, and what was done to one of them was done to the other.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_tells_a_copy_from_its_origin_that_moved() {
    let union = Union::new(
        "mkdir b/one; echo x > b/one/x; echo f > b/f",
        "dirs=a=rw:b=ro",
    );
    union.sh("chmod 711 m/one; chmod 600 m/f; mv b/one b/two; mv b/f b/g");
    assert_eq!(
        union
            .sh("ls -i m | sort -u -k 1,1 | wc -l; mv m/two/x m/one/y; mv m/g m/one/g; ls m m/one"),
        "4\nm:\nf\none\ntwo\n\nm/one:\ng\ny"
    );
    assert_eq!(union.sh("ls m/two; ls -A a/two; ls a/one"), ".wh.x\ng\ny");
}

/// Opens paths by their handles, those that were written down the first time.
const BY_HANDLE: &str = r#"
use strict;
my ($mount, $keep, @paths) = @ARGV;
my $room = pack("Ii", 128, 0) . "\0" x 128;
my @handles;
if (-e $keep) {
    open(my $in, "<", $keep) or die; local $/; @handles = split(/\n/, <$in>);
} else {
    for my $path (@paths) {
        my ($handle, $id) = ($room, pack("i", 0));
        syscall(303, -100, $path, $handle, $id, 0) == 0 or die "$path: $!";
        push @handles, unpack("H*", $handle);
    }
    open(my $out, ">", $keep) or die; print $out join("\n", @handles);
}
open(my $at, "<", $mount) or die;
for my $handle (@handles) {
    my $fd = syscall(304, fileno($at), pack("H*", $handle), 0);
    print $fd < 0 ? ($!{ESTALE} ? "stale" : "$!") : readlink("/proc/self/fd/$fd") =~ s/.*m\///r;
    if ($fd >= 0 && -f "/proc/self/fd/$fd") { open(my $in, "<&=", $fd); print " ", <$in> } else { print "\n" }
}
"#;

#[test]
#[cfg(target_arch = "x86_64")]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_opens_by_handle() {
    let union = Union::new(
        "mkdir -p b/d/e a/d/up; echo low > b/d/e/f; echo up > a/d/up/g",
        "dirs=a=rw:b=ro",
    );
    union.enter(|at| fs::write(at.join("by-handle.pl"), BY_HANDLE).unwrap());
    let open = "perl -MErrno by-handle.pl m handles m/d/e/f m/d/up/g m/d m/d/e";
    let first = union.sh(open);
    assert_eq!(first, "d/e/f low\nd/up/g up\nd\nd/e");
    assert_eq!(union.sh(open), first, "by what was written down");
    // the name is another, the content changed, the copy in another branch
    union.sh("echo more >> m/d/e/f; mv m/d/up m/d/moved");
    assert_eq!(union.sh(open), "d/e/f low\nmore\nd/moved/g up\nd\nd/e");
    union.sh("umount m");
    union.mount("dirs=a=rw:b=ro");
    union.sh("ls -R m; cat m/d/moved/g m/d/e/f");
    assert_eq!(
        union.sh(open),
        "stale\nstale\nstale\nstale",
        "of another mount"
    );
}

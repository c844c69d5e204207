//! Files in and out of trees that somebody changes meanwhile.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use overlayfs::copy::{copy_merged, copy_tree};
use overlayfs::diff::Form;
use overlayfs::tar::{Kind, Reader, TarError};
use overlayfs::transfer::{PutIn, put_in, take_out};
use support::stage::Stage;
use support::{Tar, picture, same_pictures, shell};
use sys::fs::Dir;
use tempfile::TempDir;

fn contents(archive: &[u8]) -> BTreeMap<String, (Kind, String)> {
    let mut reader = Reader::new(archive);
    let mut all = BTreeMap::new();
    while let Some(member) = reader.next().unwrap() {
        let mut text = member.link.clone();
        reader
            .content::<TarError>(|piece| {
                text.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        let name = String::from_utf8(member.path).unwrap();
        all.insert(
            name,
            (member.kind, String::from_utf8_lossy(&text).into_owned()),
        );
    }
    all
}

fn place(script: &str) -> (TempDir, Dir) {
    let place = tempfile::tempdir().unwrap();
    shell(place.path(), &format!("mkdir root; cd root; {script}"));
    let root = Dir::open(place.path().join("root")).unwrap();
    (place, root)
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_goes_out_has_the_name_that_was_asked_for() {
    let (_place, root) = place("mkdir -p d/e; echo f > d/e/f; ln -s /d/e link; ln -s e/f d/soft");
    let out = |path: &str, follow, name: &str| {
        let out = take_out(
            &root,
            Path::new(path),
            follow,
            Form::plain(Path::new(name)),
            Vec::new(),
        );
        out.unwrap().map(|archive| contents(&archive))
    };
    let file = |name: &str| (name.to_owned(), (Kind::File, "f\n".to_owned()));
    let directory = |name: &str| (name.to_owned(), (Kind::Directory, String::new()));
    let link = |name: &str, to: &str| (name.to_owned(), (Kind::Symlink, to.to_owned()));
    let all = |members: &[(String, (Kind, String))]| Some(members.iter().cloned().collect());
    assert_eq!(out("/d/e/f", false, "g"), all(&[file("g")]));
    assert_eq!(
        out("/d/e", false, "x"),
        all(&[directory("x/"), file("x/f")])
    );
    assert_eq!(out("link", false, "l"), all(&[link("l", "/d/e")]));
    assert_eq!(out("link", true, "l"), all(&[directory("l/"), file("l/f")]));
    assert_eq!(out("link/f", false, "f"), all(&[file("f")]));
    assert_eq!(out("d/soft", true, "s"), all(&[file("s")]));
    assert_eq!(out("/none", false, "n"), None);
    assert_eq!(
        out("/", false, "r"),
        all(&[
            directory("r/"),
            directory("r/d/"),
            directory("r/d/e/"),
            file("r/d/e/f"),
            link("r/d/soft", "e/f"),
            link("r/link", "/d/e"),
        ])
    );
}

/// Holes are left out of the archive and are holes again, whoever reads it.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_holes_go_out_and_in() {
    let (place, root) = place(
        "echo begin > s; truncate -s 1G s; echo end >> s; truncate -s 5M hole; echo x > plain
        cd ..; mkdir in tar",
    );
    let form = Form {
        name: Path::new("."),
        holes: true,
    };
    let archive = take_out(&root, Path::new("/"), false, form, Vec::new());
    let archive = archive.unwrap().unwrap();
    assert!(archive.len() < 100_000, "{} bytes", archive.len());
    let inside = Dir::open(place.path().join("in")).unwrap();
    put_in(&inside, Path::new("/"), &archive[..], PutIn::default()).unwrap();
    std::fs::write(place.path().join("archive"), &archive).unwrap();
    shell(
        place.path(),
        "tar -C tar -xf archive
        for d in in tar; do for f in s hole plain; do cmp root/$f $d/$f; done
            test $(stat -c %b $d/s) -lt 200 -a $(stat -c %b $d/hole) -lt 200; done",
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_goes_in_follows_links_from_the_root() {
    let (place, root) =
        place("mkdir -p d/e var; ln -s /d/e link; ln -s /var d/e/inner; echo o > d/e/o");
    let archive = Tar::new()
        .directory("./")
        .file("f", "f")
        .file("inner/g", "g")
        .bytes();
    let how = PutIn {
        owner: Some((7, 8)),
        kinds_stay: true,
    };
    put_in(&root, Path::new("/link"), &archive[..], how).unwrap();
    let seen = picture(&place.path().join("root"));
    assert_eq!(seen[Path::new("d/e/f")].owner, (7, 8));
    assert_eq!(seen[Path::new("var/g")].content, b"g");
    assert_eq!(seen[Path::new("link")].kind, sys::fs::Kind::Symlink);
    for (archive, message) in [
        (
            Tar::new().file("e", ""),
            "cannot overwrite directory \"/d/e\" with non-directory",
        ),
        (
            Tar::new().directory("e/o"),
            "cannot overwrite non-directory \"/d/e/o\" with directory",
        ),
        (
            Tar::new().file("../x", ""),
            "the archive holds \"../x\", which would lie outside of its root",
        ),
    ] {
        let error = put_in(&root, Path::new("/d"), &archive.bytes()[..], how).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let error = put_in(&root, Path::new("/none"), &archive[..], how).unwrap_err();
    assert_eq!(error.to_string(), "cannot unpack \"/none\"");
}

/// Swaps names in a tree as fast as it can while `work` goes on.
fn attacked(root: &Path, outside: &Path, work: impl Fn()) {
    let over = AtomicBool::new(false);
    let (over, target) = (&over, outside.to_owned());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let (real, victim) = (root.join("a/real"), root.join("a/victim"));
            while !over.load(Ordering::Relaxed) {
                // The directory is a link to the outside half of the time.
                let _ = std::fs::rename(&victim, &real);
                let _ = std::os::unix::fs::symlink(&target, &victim);
                let _ = std::fs::remove_file(&victim);
                let _ = std::fs::rename(&real, &victim);
                // What was put in may have taken the place of either.
                let _ = std::fs::remove_dir_all(&real);
                let _ = std::fs::create_dir_all(victim.join("d"));
            }
        });
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            work();
        }
        over.store(true, Ordering::Relaxed);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_live_attacker_gets_nothing_in_or_out() {
    let outside = tempfile::tempdir().unwrap();
    shell(
        outside.path(),
        "echo secret > secret; mkdir d; echo secret > d/secret; chmod 700 .",
    );
    let before = picture(outside.path());
    let (place, root) =
        place("mkdir -p a/victim/d; echo mine > a/victim/secret; echo mine > a/victim/d/secret");
    let archive = Tar::new()
        .directory("victim")
        .file("victim/secret", "evil")
        .file("victim/new", "evil")
        .directory("victim/d")
        .file("victim/d/secret", "evil")
        .link("victim/hard", "victim/secret")
        .bytes();
    let copies = tempfile::tempdir().unwrap();
    attacked(&place.path().join("root"), outside.path(), || {
        for path in ["a", "a/victim", "a/victim/d", "a/victim/secret"] {
            let out = take_out(
                &root,
                Path::new(path),
                true,
                Form::plain(Path::new("x")),
                Vec::new(),
            );
            if let Ok(Some(archive)) = out {
                for (name, (_, content)) in contents(&archive) {
                    assert!(!content.contains("secret\n"), "{name} got out");
                }
            }
        }
        let _ = put_in(&root, Path::new("a"), &archive[..], PutIn::default());
        let _ = put_in(&root, Path::new("a/victim"), &archive[..], PutIn::default());
        let copy = Dir::open(copies.path()).unwrap();
        let _ = copy_tree(&root, &copy);
        shell(copies.path(), "! grep -rq '^secret' .");
        copy.empty().unwrap();
    });
    same_pictures(&before, &picture(outside.path()));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_volume_gets_what_the_layers_show() {
    let stage = Stage::new();
    let lower = Tar::new()
        .directory("data")
        .file("data/one", "1")
        .link("data/two", "data/one")
        .file("data/gone", "")
        .directory("data/sub")
        .file("data/sub/old", "")
        .symlink("data/soft", "one")
        .symlink("srv", "/data")
        .bytes();
    let lower = stage.unpack(&lower, &[]);
    let upper = Tar::new()
        .directory("data")
        .file("data/.wh.gone", "")
        .directory("data/sub")
        .file("data/sub/.wh..wh..opq", "")
        .file("data/sub/new", "n")
        .bytes();
    let upper = stage.unpack(&upper, std::slice::from_ref(&lower));
    let stack = stage.store.stack(&[lower.id, upper.id]).unwrap();
    for path in ["/data", "srv", "/srv/../data/./sub/.."] {
        let volume = tempfile::tempdir().unwrap();
        std::fs::create_dir(volume.path().join("v")).unwrap();
        let into = Dir::open(volume.path().join("v")).unwrap();
        copy_merged(&stack.follow(Path::new(path)).unwrap().unwrap(), &into).unwrap();
        let seen = picture(&volume.path().join("v"));
        let names: Vec<&str> = seen.keys().filter_map(|path| path.to_str()).collect();
        assert_eq!(names, ["", "one", "soft", "sub", "sub/new", "two"]);
        assert_eq!(seen[Path::new("two")].linked, Some("one".into()));
        let tree = picture(&stage.store.tree(upper.id).join("data"));
        assert_eq!(seen[Path::new("")].mtime, tree[Path::new("")].mtime);
        assert_eq!(seen[Path::new("")].xattrs, []);
        assert_eq!(seen[Path::new("sub")].xattrs, [], "no mark of the layers");
    }
    for path in ["/data/gone", "/data/one", "/none", "/data/sub/old"] {
        assert!(stack.follow(Path::new(path)).unwrap().is_none(), "{path}");
    }
}

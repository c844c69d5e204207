//! What a writable layer changed: shown, made into a layer, and put on the layers again.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::path::{Path, PathBuf};

use overlayfs::copy::copy_tree;
use overlayfs::diff::{
    Extent, Form, MountPoints, changes, export_layer, export_stack, export_tree,
};
use overlayfs::stack::Stack;
use overlayfs::store::Expected;
use overlayfs::tar::Kind;
use overlayfs::unpack::{Marks, Tree};
use proptest::prelude::*;
use support::stage::Stage;
use support::{Tar, named, picture, same_pictures, shell, with_own_mounts};
use sys::fs::Dir;

const LOWER: &str = "
    mkdir -p t/etc t/opt/d/e t/data t/gone t/same; cd t
    echo one > etc/one; ln etc/one etc/link; ln -s one etc/soft; echo keep > opt/keep
    echo f > opt/d/e/f; echo old > data/old; echo gone > gone/f; echo x > file; echo y > mode
    echo touched > touched; echo same > same/f; mkfifo pipe; touch -d '2001-02-03 04:05:06.7' *";

const CHANGES: &str = "
    rm gone/f; rmdir gone; rm etc/soft; echo two > etc/one; echo new > etc/new
    rm -r opt/d; mkdir opt/d; echo inside > opt/d/new; rm -r data; echo file > data
    rm file; mkdir file; echo in > file/f; chmod 600 mode; ln etc/new new-link; mkdir empty
    : >> touched; touch -r opt/keep -c touched; mkdir same/sub; rmdir same/sub
    touch -d '2020-02-03 04:05:06.789' etc/new; mknod dev c 1 3; chown 4:5 empty
    python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"sock\")' || true";

/// Mounts an overlay over the first layer, makes the changes in it, and gives its merged tree's
/// place with the upper directory's.
fn changed(stage: &Stage, script: &str) -> (PathBuf, PathBuf) {
    let lower = stage.store.layers().unwrap()[0];
    let place = stage.path();
    shell(place, "mkdir upper work merged");
    let options = format!(
        "lowerdir={},upperdir={p}/upper,workdir={p}/work,redirect_dir=off,metacopy=off,index=off",
        stage.store.tree(lower).display(),
        p = place.display(),
    );
    shell(place, &format!("mount -t overlay -o {options} none merged"));
    shell(&place.join("merged"), script);
    (place.join("upper"), place.join("merged"))
}

fn stack(paths: &[&Path]) -> Stack {
    let paths: Vec<PathBuf> = paths.iter().map(|&path| path.to_owned()).collect();
    Stack::open(&paths).unwrap()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_changed_tree_becomes_a_layer_that_makes_it_again() {
    let name = "privileged_a_changed_tree_becomes_a_layer_that_makes_it_again";
    with_own_mounts(name, || {
        let stage = Stage::new();
        shell(
            stage.path(),
            &format!("{LOWER}; tar --format=posix -cf ../lower.tar ."),
        );
        let archive = std::fs::read(stage.path().join("lower.tar")).unwrap();
        let lower = stage.unpack(&archive, &[]);
        let (upper, merged) = changed(&stage, CHANGES);
        let upper_dir = Dir::open(&upper).unwrap();
        let below = stage.store.stack(&[lower.id]).unwrap();

        let shown = changes(&upper_dir, Extent::Layer, &below, &MountPoints::none()).unwrap();
        let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
        let sockets = if merged.join("sock").exists() {
            "A /sock"
        } else {
            ""
        };
        let expected = [
            "C /data",
            "A /dev",
            "A /empty",
            "C /etc",
            "C /etc/link",
            "A /etc/new",
            "C /etc/one",
            "D /etc/soft",
            "C /file",
            "A /file/f",
            "D /gone",
            "C /mode",
            "A /new-link",
            "C /opt",
            "C /opt/d",
            "D /opt/d/e",
            "A /opt/d/new",
            sockets,
            "C /touched",
        ];
        let expected: Vec<&str> = expected
            .into_iter()
            // Overlayfs breaks hard links: the other name is as it was.
            .filter(|line| !line.is_empty() && *line != "C /etc/link")
            .collect();
        assert_eq!(shown, expected);

        let none = MountPoints::none();
        let layer = export_layer(&upper_dir, Extent::Layer, &below, &none, Vec::new()).unwrap();
        let again = export_layer(&upper_dir, Extent::Layer, &below, &none, Vec::new()).unwrap();
        assert!(layer == again);
        let new = stage.unpack(&layer, std::slice::from_ref(&lower));
        let again = stack(&[&stage.store.tree(new.id), &stage.store.tree(lower.id)]);
        let before = stack(&[&upper, &stage.store.tree(lower.id)]);
        let before = export_stack(&before, Vec::new()).unwrap();
        let after = export_stack(&again, Vec::new()).unwrap();
        let trees = [before, after].map(|archive| {
            let place = tempfile::tempdir().unwrap();
            std::fs::create_dir(place.path().join("t")).unwrap();
            let root = Dir::open(place.path().join("t")).unwrap();
            let tree = Tree::new(root, Marks::Plain, &()).unwrap();
            tree.fill(&archive[..]).unwrap();
            picture(&place.path().join("t"))
        });
        let mut trees = trees.map(|mut tree| {
            tree.remove(Path::new(""));
            tree
        });
        // A directory in which nothing but a name came and went keeps its lower time.
        for path in ["same", "etc"] {
            for tree in &mut trees {
                tree.get_mut(Path::new(path)).unwrap().mtime = named("", Kind::File).mtime;
            }
        }
        same_pictures(&trees[0], &trees[1]);
        // What the kernel shows is what we read without a mount.
        let mut kernel = picture(&merged);
        kernel.retain(|path, _| path != Path::new("") && path != Path::new("sock"));
        for path in ["same", "etc"] {
            kernel.get_mut(Path::new(path)).unwrap().mtime = named("", Kind::File).mtime;
        }
        same_pictures(&kernel, &trees[0]);
        stage.is_clean();
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_tree_is_exported_and_copied_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let script = format!(
        "{LOWER}; mkdir -p deep/{}; echo x > deep/f",
        "d/".repeat(50)
    );
    shell(place.path(), &script);
    let root = Dir::open(place.path().join("t")).unwrap();
    root.set_xattr("file", c"user.x", b"\n\0").unwrap();
    root.set_xattr("opt", c"trusted.y", b"z").unwrap();
    let archive = export_tree(&root, Form::plain(Path::new("top")), Vec::new()).unwrap();
    std::fs::create_dir(place.path().join("out")).unwrap();
    let out = Dir::open(place.path().join("out")).unwrap();
    let tree = Tree::new(out, Marks::Plain, &()).unwrap();
    tree.fill(&archive[..]).unwrap();
    let original = picture(&place.path().join("t"));
    same_pictures(&original, &picture(&place.path().join("out/top")));

    std::fs::create_dir(place.path().join("copy")).unwrap();
    let copy = Dir::open(place.path().join("copy")).unwrap();
    copy_tree(&root, &copy).unwrap();
    same_pictures(&original, &picture(&place.path().join("copy")));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_was_made_to_be_mounted_on_is_no_change() {
    let place = tempfile::tempdir().unwrap();
    let script =
        "mkdir -p lower/etc upper/etc/deep upper/dev/pts upper/data; echo own > lower/etc/own
        : > lower/etc/given; : > upper/etc/given; chmod 755 upper/etc/given
        : > upper/etc/hosts; : > upper/.env; : > upper/dev/console";
    shell(place.path(), script);
    let lower = stack(&[&place.path().join("lower")]);
    let upper = Dir::open(place.path().join("upper")).unwrap();
    let mounts = [
        "/dev",
        "/dev/pts",
        "dev/console",
        "/etc/hosts",
        "/etc/given",
        "/.env",
    ];
    let mounts = MountPoints::new(mounts);
    let shown = || -> Vec<String> {
        let all = changes(&upper, Extent::Layer, &lower, &mounts).unwrap();
        all.iter().map(ToString::to_string).collect()
    };
    let members = || {
        let archive = export_layer(&upper, Extent::Layer, &lower, &mounts, Vec::new()).unwrap();
        let mut reader = overlayfs::tar::Reader::new(&archive[..]);
        let mut names = Vec::new();
        while let Some(member) = reader.next().unwrap() {
            names.push(String::from_utf8(member.path).unwrap());
        }
        names
    };
    // What the layers below have has a content that counts; so has what was written into.
    assert_eq!(
        shown(),
        ["A /data", "C /etc", "A /etc/deep", "C /etc/given"]
    );
    assert_eq!(members(), ["data/", "etc/", "etc/deep/", "etc/given"]);
    shell(
        place.path(),
        "echo 1 > upper/etc/hosts; echo 1 > upper/dev/console",
    );
    let all = shown();
    for line in ["A /dev", "A /dev/console", "A /etc/hosts"] {
        assert!(all.contains(&line.to_owned()), "{line} in {all:?}");
    }
    assert!(!all.contains(&"A /dev/pts".to_owned()), "{all:?}");
}

/// A few random members; later ones may replace, link to or lie beneath earlier ones.
fn any_archive() -> impl Strategy<Value = Vec<u8>> {
    let path = prop::collection::vec(prop_oneof!["[ab]", "c", "with blank", "ü"], 1..4)
        .prop_map(|parts| parts.join("/"));
    let kind = prop_oneof![
        3 => Just(Kind::File),
        2 => Just(Kind::Directory),
        1 => Just(Kind::Symlink),
        1 => Just(Kind::HardLink),
        1 => Just(Kind::Fifo),
    ];
    let member = (path.clone(), kind, path, 0..0o10000_u32, "[a-z]{0,600}");
    prop::collection::vec(member, 0..12).prop_map(|members| {
        let mut tar = Tar::new();
        for (path, kind, link, mode, content) in members {
            let mut member = named(&path, kind);
            member.mode = mode;
            member.link = link.into_bytes();
            let content = if kind == Kind::File {
                content
            } else {
                String::new()
            };
            tar = tar.member(member, content.as_bytes());
        }
        tar.bytes()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    #[ignore = "needs root: run by cargo xtask test"]
    fn privileged_archives_become_trees_become_archives(archive in any_archive()) {
        let stage = Stage::new();
        let Ok((layer, _)) = stage.store.unpack(&archive[..], &Expected::default()) else {
            // A link to nowhere, or something beneath a file.
            stage.is_clean();
            return Ok(());
        };
        stage.writes_again(&layer, &archive);
        let tree = stage.store.tree(layer.id);
        let exported = export_stack(&stack(&[&tree]), Vec::new()).unwrap();
        let again = stage.unpack(&exported, &[]);
        let exported_again = export_stack(&stack(&[&stage.store.tree(again.id)]), Vec::new()).unwrap();
        prop_assert!(exported == exported_again);
        let mut before = picture(&tree);
        let mut after = picture(&stage.store.tree(again.id));
        // The root has no member of its own.
        before.remove(Path::new(""));
        after.remove(Path::new(""));
        same_pictures(&before, &after);
        stage.is_clean();
    }
}

/// A whole tree says by what it lacks what is gone, at every depth.
#[test]
fn what_a_whole_tree_lacks_is_gone() {
    let place = tempfile::tempdir().unwrap();
    let script =
        "mkdir -p lower/etc/deep lower/gone/in; echo 1 > lower/etc/same; echo 1 > lower/etc/deep/f
        echo 1 > lower/gone/in/f; echo 1 > lower/other; cp -a lower upper
        rm -r upper/gone upper/etc/deep/f; echo 22 > upper/other; mkdir upper/new; : > upper/new/f";
    shell(place.path(), script);
    let lower = stack(&[&place.path().join("lower")]);
    let upper = Dir::open(place.path().join("upper")).unwrap();
    let none = MountPoints::none();
    let all = changes(&upper, Extent::Whole, &lower, &none).unwrap();
    let all: Vec<String> = all.iter().map(ToString::to_string).collect();
    let wanted = "C /etc,C /etc/deep,D /etc/deep/f,D /gone,A /new,A /new/f,C /other";
    assert_eq!(all.join(","), wanted);
    let archive = export_layer(&upper, Extent::Whole, &lower, &none, Vec::new()).unwrap();
    let mut reader = overlayfs::tar::Reader::new(&archive[..]);
    let mut names = Vec::new();
    while let Some(member) = reader.next().unwrap() {
        names.push(String::from_utf8(member.path).unwrap());
    }
    names.sort();
    let wanted = ".wh.gone,etc/,etc/deep/,etc/deep/.wh.f,new/,new/f,other";
    assert_eq!(names.join(","), wanted);
}

//! Layers: what archives become, what is refused, and what is left when something fails.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::path::Path;

use overlayfs::tar::Kind;
use overlayfs::{DiffId, Digest, LayerId};
use support::stage::Stage;
use support::{Tar, named, picture, same_pictures, shell};

/// A tree with everything that a root file system has.
const TREE: &str = "
    mkdir -p t/a/b t/empty t/sticky; chmod 1777 t/sticky; cd t
    echo content > a/file; ln a/file a/b/link; ln -s ../file a/b/soft; ln -s /etc/passwd absolute
    ln -s nowhere dangling; ln a/b/soft soft-link
    mkfifo pipe; mknod null c 1 3; mknod loop b 7 0
    head -c 300000 /dev/urandom > large
    truncate -s 5M sparse; echo middle | dd of=sparse bs=1 seek=2000000 conv=notrunc status=none
    truncate -s 1M hole
    for n in $(seq 60); do echo x | dd of=many bs=1 seek=$((n * 40000)) conv=notrunc status=none; done
    touch setuid setgid; chown 12:34 setuid setgid a/file; chmod 4755 setuid; chmod 2750 setgid
    chown 5:6 a/b; chmod 2711 a/b
    L=$(printf 'n%.0s' $(seq 200)); mkdir -p $L/$L; echo long > $L/$L/$L; ln -s $L/$L/$L long-link
    echo ü > 'name with ü and blanks'; : > zero
    touch -h -d '2001-02-03 04:05:06.123456789' a/file soft-link pipe a/b a
    touch -d '1969-12-31 23:59:58.25' old; touch -d '2001-01-01' .
";

fn tree(stage: &Stage) {
    shell(stage.path(), TREE);
    let root = sys::fs::Dir::open(stage.path().join("t")).unwrap();
    let capability = b"\x01\0\0\x02\0 \n\0\0\0\0\0\n\n\0\0\0\0\0\0";
    for (name, key, value) in [
        ("a", c"user.text", &b"a=b\nc"[..]),
        ("empty", c"trusted.x", b"y"),
        ("large", c"security.capability", capability),
        ("soft-link", c"trusted.of-a-link", b"z"),
        ("zero", c"user.empty", b""),
    ] {
        root.set_xattr(name, key, value).unwrap();
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_unpacks_all_that_tar_packs() {
    let stage = Stage::new();
    tree(&stage);
    let xattrs = "--xattrs --xattrs-include='*'";
    for (format, exact) in [
        (format!("--format=posix {xattrs}"), true),
        (format!("--format=posix --sparse {xattrs}"), true),
        (
            format!("--format=posix --sparse --sparse-version=0.1 {xattrs}"),
            true,
        ),
        (
            format!("--format=posix --sparse --sparse-version=0.0 {xattrs}"),
            true,
        ),
        ("--format=gnu".to_owned(), false),
        ("--format=gnu --sparse".to_owned(), false),
    ] {
        shell(stage.path(), &format!("tar -C t -cf x.tar {format} ."));
        let archive = std::fs::read(stage.path().join("x.tar")).unwrap();
        let layer = stage.unpack(&archive, &[]);
        assert_eq!(layer.diff_id, DiffId(Digest::of(&archive)));
        let mut original = picture(&stage.path().join("t"));
        let mut unpacked = picture(&stage.store.tree(layer.id));
        if !exact {
            // The old formats have neither attributes nor parts of seconds.
            for seen in original.values_mut().chain(unpacked.values_mut()) {
                seen.xattrs.clear();
                seen.mtime.nanoseconds = 0;
            }
        }
        same_pictures(&original, &unpacked);
        let blocks = |path: &Path| {
            let path = path.join("sparse");
            std::os::unix::fs::MetadataExt::blocks(&path.metadata().unwrap())
        };
        if format.contains("--sparse") {
            let tree = stage.store.tree(layer.id);
            assert_eq!(blocks(&tree), blocks(&stage.path().join("t")), "{format}");
        }
        stage.writes_again(&layer, &archive);
    }
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_same_layer_is_stored_once() {
    let stage = Stage::new();
    let archive = Tar::new().file("a", "x").bytes();
    let packed = zstd::encode_all(&archive[..], 3).unwrap();
    let (one, two) = (stage.unpack(&archive, &[]), stage.unpack(&packed, &[]));
    assert_eq!(one, two);
    assert_eq!(stage.store.layers().unwrap(), [one.id]);
    assert_eq!(stage.store.find(&[], one.diff_id).unwrap(), Some(one));
    stage.is_clean();
}

/// What a path of the unpacked layer is.
#[derive(Debug, PartialEq)]
enum Is {
    Whiteout,
    Opaque,
    Directory,
    File(&'static str),
    Nothing,
}

#[track_caller]
fn assert_is(tree: &Path, path: &str, expected: &Is) {
    let pictures = picture(tree);
    let found = match pictures.get(Path::new(path)) {
        None => Is::Nothing,
        Some(seen) => {
            let opaque = seen
                .xattrs
                .iter()
                .any(|(key, _)| key == "trusted.overlay.opaque");
            match seen.kind {
                sys::fs::Kind::CharDevice if seen.device == (0, 0) => Is::Whiteout,
                sys::fs::Kind::Directory if opaque => Is::Opaque,
                sys::fs::Kind::Directory => Is::Directory,
                _ => Is::File(String::from_utf8_lossy(&seen.content).into_owned().leak()),
            }
        }
    };
    assert_eq!(found, *expected, "{path}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
#[allow(clippy::too_many_lines, reason = "a table")]
fn privileged_whiteouts_become_overlay_marks() {
    let stage = Stage::new();
    let lower = Tar::new()
        .file("x", "lower")
        .directory("d")
        .file("d/f", "lower")
        .bytes();
    let lower = stage.unpack(&lower, &[]);
    let tar = Tar::new;
    for (what, archive, expected) in [
        ("a file", tar().file(".wh.x", ""), vec![("x", Is::Whiteout)]),
        (
            "in a directory",
            tar().directory("d").file("d/.wh.f", ""),
            vec![("d/f", Is::Whiteout)],
        ),
        (
            "without its directory",
            tar().file("d/.wh.f", ""),
            vec![("d", Is::Directory), ("d/f", Is::Whiteout)],
        ),
        (
            "opaque",
            tar()
                .directory("d")
                .file("d/.wh..wh..opq", "")
                .file("d/n", "new"),
            vec![
                ("d", Is::Opaque),
                ("d/n", Is::File("new")),
                ("d/.wh..wh..opq", Is::Nothing),
            ],
        ),
        (
            "opaque after its files",
            tar()
                .directory("d")
                .file("d/n", "new")
                .file("d/.wh..wh..opq", ""),
            vec![("d", Is::Opaque), ("d/n", Is::File("new"))],
        ),
        (
            "opaque root",
            tar().file(".wh..wh..opq", "").file("n", ""),
            vec![("", Is::Opaque)],
        ),
        (
            "a file and its whiteout",
            tar().file(".wh.x", "").file("x", "new"),
            vec![("x", Is::File("new"))],
        ),
        (
            "the other way round",
            tar().file("x", "new").file(".wh.x", ""),
            vec![("x", Is::File("new"))],
        ),
        (
            "a directory and its whiteout",
            tar().file(".wh.d", "").directory("d").file("d/n", ""),
            vec![("d", Is::Opaque), ("d/n", Is::File(""))],
        ),
        (
            "the other way round",
            tar().directory("d").file("d/n", "").file(".wh.d", ""),
            vec![("d", Is::Opaque), ("d/n", Is::File(""))],
        ),
        (
            "files beneath a whiteout",
            tar().file(".wh.d", "").file("d/n", ""),
            vec![("d", Is::Opaque), ("d/n", Is::File(""))],
        ),
        (
            "a directory for a file",
            tar().file(".wh.x", "").directory("x"),
            vec![("x", Is::Opaque)],
        ),
        (
            "bookkeeping of aufs",
            tar()
                .file(".wh..wh.aufs", "")
                .directory(".wh..wh.plnk")
                .file(".wh..wh.plnk/1.2", "")
                .file("n", ""),
            vec![
                (".wh..wh.aufs", Is::Nothing),
                (".wh..wh.plnk", Is::Nothing),
                ("n", Is::File("")),
            ],
        ),
        (
            "twice",
            tar().file(".wh.x", "").file(".wh.x", ""),
            vec![("x", Is::Whiteout)],
        ),
    ] {
        let archive = archive.bytes();
        let layer = stage.unpack(&archive, std::slice::from_ref(&lower));
        println!("{what}");
        for (path, expected) in expected {
            assert_is(&stage.store.tree(layer.id), path, &expected);
        }
        stage.writes_again(&layer, &archive);
    }
    // Nothing is below the lowest layer, so nothing is hidden, and nothing is listed.
    let archive = tar().file(".wh.x", "").file("n", "").bytes();
    let bottom = stage.unpack(&archive, &[]);
    let upper = stage.unpack(&archive, &[lower]);
    assert_is(&stage.store.tree(bottom.id), "x", &Is::Nothing);
    assert_is(&stage.store.tree(upper.id), "x", &Is::Whiteout);
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_later_members_replace_earlier_ones() {
    let stage = Stage::new();
    for archive in [
        Tar::new().file("x", "one").file("x", "two"),
        Tar::new()
            .directory("x")
            .file("x/f", "one")
            .file("x", "two"),
        Tar::new()
            .file("x", "one")
            .symlink("x", "y")
            .file("x", "two"),
        Tar::new().symlink("x", "/etc/passwd").file("x", "two"),
        Tar::new().file("y", "two").file("x", "one").link("x", "y"),
        Tar::new().file("x", "two").link("x", "x"),
        Tar::new().file("x", "two").link("y", "x").link("y", "x"),
    ] {
        let archive = archive.bytes();
        let layer = stage.unpack(&archive, &[]);
        assert_is(&stage.store.tree(layer.id), "x", &Is::File("two"));
        stage.writes_again(&layer, &archive);
    }
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_members_lie_where_links_lead_within_the_tree() {
    let stage = Stage::new();
    let archive = Tar::new()
        .directory("usr/lib")
        .symlink("lib", "usr/lib")
        .symlink("abs", "/usr/lib")
        .file("lib/one", "1")
        .file("abs/two", "2")
        .directory("lib/deep")
        .link("lib/three", "abs/one")
        .bytes();
    let layer = stage.unpack(&archive, &[]);
    let tree = stage.store.tree(layer.id);
    for (path, expected) in [
        ("usr/lib/one", Is::File("1")),
        ("usr/lib/two", Is::File("2")),
        ("usr/lib/three", Is::File("1")),
        ("usr/lib/deep", Is::Directory),
        ("lib", Is::File("usr/lib")),
    ] {
        assert_is(&tree, path, &expected);
    }
    let pictures = picture(&tree);
    let time = named("", Kind::File).mtime;
    assert_eq!(pictures[Path::new("usr/lib/deep")].mtime, time);
    stage.writes_again(&layer, &archive);
}

/// What an archive put somewhere through a link is found again whatever becomes of the link, and of
/// the file through another name.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_that_are_replaced_lose_nothing() {
    let stage = Stage::new();
    let linked = || Tar::new().directory("d").symlink("l", "d");
    for (archive, path, expected) in [
        (linked().file("l/f", "1").file("l", "2"), "d/f", "1"),
        (linked().file("l/f", "1").directory("l"), "d/f", "1"),
        (linked().file("l/f", "1").file("d/f", "2"), "d/f", "2"),
        (linked().file("d/f", "1").file("l/f", "2"), "d/f", "2"),
        (linked().file("l/f", "1").file("d", "2"), "d", "2"),
        (linked().file("l/f", "1").link("d/g", "l/f"), "d/g", "1"),
        (linked().file("l/m/f", "1").file("l", "2"), "d/m/f", "1"),
        (
            // The link lies in the directory that it leads to, and is replaced through itself.
            Tar::new()
                .directory("d")
                .symlink("d/loop", "/d")
                .file("d/loop/f", "1")
                .directory("d/loop/loop")
                .file("d/loop/f", "2"),
            "d/loop/f",
            "2",
        ),
    ] {
        let archive = archive.bytes();
        let layer = stage.unpack(&archive, &[]);
        assert_is(&stage.store.tree(layer.id), path, &Is::File(expected));
        stage.writes_again(&layer, &archive);
    }
    let archive = linked().directory("l/deep").file("l/deep/f", "1");
    let layer = stage.unpack(&archive.file("l", "2").bytes(), &[]);
    let pictures = picture(&stage.store.tree(layer.id));
    let time = named("", Kind::File).mtime;
    assert_eq!(pictures[Path::new("d/deep")].mtime, time);

    let below = stage.unpack(&Tar::new().directory("d").file("d/f", "1").bytes(), &[]);
    let opaque = linked().file("l/.wh..wh..opq", "").bytes();
    let layer = stage.unpack(&opaque, std::slice::from_ref(&below));
    let pictures = picture(&stage.store.tree(layer.id));
    let mark = ("trusted.overlay.opaque".to_owned(), b"y".to_vec());
    assert_eq!(pictures[Path::new("d")].xattrs, [mark]);
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_a_layer_leaves_out_comes_from_below() {
    let stage = Stage::new();
    let mut private = named("d", Kind::Directory);
    (private.mode, private.uid, private.gid) = (0o700, 7, 8);
    private.xattrs = vec![(b"user.x".to_vec(), b"y".to_vec())];
    let mut program = named("d/f", Kind::File);
    (program.mode, program.uid) = (0o4755, 3);
    program.xattrs = vec![(b"user.p".to_vec(), b"\n\0".to_vec())];
    let archive = Tar::new()
        .member(private, b"")
        .member(program, b"lower")
        .bytes();
    let lower = stage.unpack(&archive, &[]);
    let archive = Tar::new().file("d/new", "x").link("again", "d/f").bytes();
    let upper = stage.unpack(&archive, std::slice::from_ref(&lower));
    let below = picture(&stage.store.tree(lower.id));
    let above = picture(&stage.store.tree(upper.id));
    for (mine, other) in [("d", "d"), ("again", "d/f")] {
        assert_eq!(above[Path::new(mine)], below[Path::new(other)], "{mine}");
    }
    assert_eq!(upper.diff_id, DiffId(Digest::of(&archive)));
    assert_ne!(upper.id, LayerId::independent(upper.diff_id));
    let found = stage
        .store
        .find(std::slice::from_ref(&lower), upper.diff_id);
    assert_eq!(found.unwrap(), Some(upper.clone()));
    // Above nothing it is another tree, and the link leads nowhere.
    assert_eq!(stage.store.find(&[], upper.diff_id).unwrap(), None);
    assert_eq!(
        stage.refuse(&archive[..]),
        r#"the archive links "again" to "d/f", which does not exist"#
    );
    stage.writes_again(&upper, &archive);
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_an_archive_cannot_direct_the_kernel_to_other_files() {
    let stage = Stage::new();
    let mut member = named("f", Kind::File);
    for name in ["redirect", "metacopy", "opaque", "whiteout"] {
        let name = format!("trusted.overlay.{name}");
        member.xattrs.push((name.into_bytes(), b"/etc".to_vec()));
    }
    let layer = stage.unpack(&Tar::new().member(member, b"x").bytes(), &[]);
    let seen = picture(&stage.store.tree(layer.id));
    for (key, _) in &seen[Path::new("f")].xattrs {
        assert!(key.starts_with("trusted.overlay.overlay."), "{key}");
    }
    assert_eq!(seen[Path::new("f")].xattrs.len(), 4);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_a_crash_left_goes_and_what_lives_stays() {
    let stage = Stage::new();
    stage.unpack(&Tar::new().file("a", "x").bytes(), &[]);
    let unpacking = stage.path().join("layers/unpacking");
    shell(
        &unpacking,
        "mkdir -p dead/diff/d living/diff; echo x > dead/diff/d/f",
    );
    let living = sys::fs::Dir::open(unpacking.join("living")).unwrap();
    assert!(living.try_lock().unwrap());
    stage.unpack(&Tar::new().file("b", "x").bytes(), &[]);
    let left: Vec<_> = std::fs::read_dir(&unpacking).unwrap().collect();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].as_ref().unwrap().file_name(), "living");
    drop(living);
    stage.store.sweep().unwrap();
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_check_says_what_is_damaged_and_never_cries_wolf() {
    let stage = Stage::new();
    let lower = stage.unpack(
        &Tar::new().directory("d").file("d/f", "content").bytes(),
        &[],
    );
    let second = stage.unpack(&Tar::new().file("g", "content").bytes(), &[]);
    stage.is_clean();
    let damages = |contents| {
        let ids = [lower.id, second.id];
        let damages = stage.store.check(&ids, contents).unwrap();
        damages
            .into_iter()
            .map(|d| (d.layer, d.what))
            .collect::<Vec<_>>()
    };
    std::fs::write(stage.store.tree(second.id).join("g"), "CONTENT").unwrap();
    assert_eq!(damages(false), []);
    let damaged = format!(
        "layer {} is damaged: its files no longer make up the archive it came from",
        second.diff_id
    );
    assert_eq!(damages(true), [(second.id, damaged)]);
    std::fs::remove_file(stage.store.tree(lower.id).join("d/f")).unwrap();
    let shrunk = "it has 1 names and 0 bytes, recorded were 2 and 7".to_owned();
    assert_eq!(damages(false), [(lower.id, shrunk)]);
    std::fs::remove_dir_all(stage.store.tree(lower.id)).unwrap();
    let gone = "its tree cannot be opened: No such file or directory".to_owned();
    assert_eq!(damages(false), [(lower.id, gone)]);
    stage.store.remove(lower.id).unwrap();
    stage.store.remove(lower.id).unwrap();
    let missing = format!("layer {} is not in the store", lower.id);
    assert_eq!(damages(false), [(lower.id, missing)]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_collection_keeps_what_is_used() {
    let stage = Stage::new();
    let one = stage.unpack(&Tar::new().file("a", "1").bytes(), &[]);
    let two = stage.unpack(&Tar::new().file("a", "2").bytes(), &[]);
    let used = [one.id].into();
    assert_eq!(stage.store.collect(&used).unwrap(), [two.id]);
    assert_eq!(stage.store.layers().unwrap(), [one.id]);
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_owners_and_devices_beyond_the_old_limits() {
    let stage = Stage::new();
    let mut member = named("f", Kind::File);
    (member.uid, member.gid) = (4_000_000_000, 3_000_000);
    let device = named("dev", Kind::Char(4000, 1_000_000));
    let archive = Tar::new().member(member, b"").member(device, b"").bytes();
    let layer = stage.unpack(&archive, &[]);
    let seen = picture(&stage.store.tree(layer.id));
    assert_eq!(seen[Path::new("f")].owner, (4_000_000_000, 3_000_000));
    assert_eq!(seen[Path::new("dev")].device, (4000, 1_000_000));
}

//! Other programs' archives: what skopeo and umoci make is loaded, what is saved they read, and the
//! trees are the same as those that umoci unpacks.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use image::ImageStore;
use overlayfs::diff::export_stack;
use overlayfs::tar::{Kind, Member, Reader, TarError};
use tempfile::TempDir;

#[track_caller]
fn shell(directory: &Path, command: &str) -> String {
    let output = Command::new("bash")
        .args(["-e", "-c", command])
        .current_dir(directory)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// An image of three layers, made by umoci from a bundle that is changed between them.
fn umoci_image() -> TempDir {
    let place = tempfile::tempdir().unwrap();
    let script = "
        umoci init --layout oci; umoci new --image oci:x
        umoci unpack --image oci:x bundle; cd bundle/rootfs
        mkdir -p etc opt/d/e data gone; echo one > etc/one; echo keep > opt/keep; echo x > opt/d/e/f
        echo old > data/old; echo gone > gone/f; ln etc/one etc/link; ln -s one etc/soft
        chown 12:34 etc/one; chmod 4755 opt/keep; mkfifo pipe; mknod null c 1 3; chmod 1777 data
        truncate -s 3M sparse; echo end >> sparse
        touch -d '2001-02-03 04:05:06.5' opt/keep opt; cd ../..
        umoci repack --image oci:x bundle; rm -rf bundle
        umoci unpack --image oci:x bundle; cd bundle/rootfs
        rm opt/keep; rm -r gone; rm -r opt/d; mkdir opt/d; echo new > opt/d/new
        rm data/old; echo replaced > etc/soft; rm etc/link; ln opt/d/new etc/link; cd ../..
        umoci repack --image oci:x bundle; rm -rf bundle
        umoci unpack --image oci:x bundle; cd bundle/rootfs
        rm -r data; echo file > data; mkdir gone; rm null; mkdir null; echo in > null/in; cd ../..
        umoci repack --image oci:x bundle; rm -rf bundle
        umoci config --image oci:x --config.cmd sh --config.env A=b
        umoci unpack --image oci:x bundle";
    shell(place.path(), script);
    place
}

/// What an archive holds, with the links' targets and without the order.
fn members(archive: &[u8]) -> BTreeMap<PathBuf, (Member, Vec<u8>)> {
    let mut reader = Reader::new(archive);
    let mut members = BTreeMap::new();
    let mut contents: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    while let Some(mut member) = reader.next().unwrap() {
        let mut content = Vec::new();
        reader
            .content::<TarError>(|piece| {
                content.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        let path = overlayfs::unpack::clean(&member.path).unwrap();
        contents.insert(
            path.as_os_str().as_encoded_bytes().to_vec(),
            content.clone(),
        );
        if member.kind == Kind::HardLink {
            // Which of the names comes first depends on the order only.
            let target = overlayfs::unpack::clean(&member.link).unwrap();
            content = contents[target.as_os_str().as_encoded_bytes()].clone();
            member.kind = Kind::File;
            member.link.clear();
            member.size = content.len() as u64;
        }
        member.atime = None;
        member.path.clear();
        members.insert(path, (member, content));
    }
    members
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_tree_is_the_one_that_umoci_unpacks() {
    let place = umoci_image();
    let root = tempfile::tempdir().unwrap();
    let store = ImageStore::open(root.path());
    let loaded = store.load_path(&place.path().join("oci")).unwrap();
    let image = store.get(loaded[0].image).unwrap();
    assert_eq!(image.layers.len(), 3);
    assert_eq!(image.config.config.env, ["A=b"]);
    let stack = store.layers().stack(&image.layers).unwrap();
    let ours = members(&export_stack(&stack, Vec::new()).unwrap());
    shell(
        place.path(),
        "tar -C bundle/rootfs --format=posix --xattrs --xattrs-include='*' -cf theirs.tar .",
    );
    let mut theirs = members(&std::fs::read(place.path().join("theirs.tar")).unwrap());
    theirs.remove(Path::new(""));
    for (path, (member, content)) in &mut theirs {
        let (our_member, our_content) = &ours.get(path).unwrap_or_else(|| panic!("{path:?}"));
        // The owner unpacked this with its own mark of where a name came from.
        member
            .xattrs
            .retain(|(key, _)| !key.starts_with(b"user.rootlesscontainers"));
        if member.kind == Kind::Directory {
            // A directory that a layer touches without describing it gets that moment's time.
            member.mtime = our_member.mtime;
        }
        assert_eq!(our_member, member, "{path:?}");
        assert!(our_content == content, "{path:?}");
    }
    let (ours, theirs): (Vec<_>, Vec<_>) = (ours.keys().collect(), theirs.keys().collect());
    assert_eq!(ours, theirs);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_loads_what_skopeo_writes_and_skopeo_reads_what_is_saved() {
    let place = umoci_image();
    let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
    std::fs::write(place.path().join("policy.json"), policy).unwrap();
    let skopeo = |arguments: &str| {
        let command = format!("skopeo --policy policy.json --tmpdir . {arguments}");
        shell(place.path(), &command)
    };
    let root = tempfile::tempdir().unwrap();
    let store = ImageStore::open(root.path());
    for (kind, file) in [
        ("docker-archive:d.tar:me/x:1", "d.tar"),
        ("oci-archive:o.tar:me/y:1", "o.tar"),
        ("oci:layout:me/z:1", "layout"),
        ("--dest-compress-format zstd oci:zstd:me/w:1", "zstd"),
    ] {
        let (flags, target) = kind.rsplit_once(' ').unwrap_or(("", kind));
        skopeo(&format!("copy -q {flags} oci:oci:x {target}"));
        let loaded = store.load_path(&place.path().join(file)).unwrap();
        let name = loaded[0].name.as_ref().unwrap().familiar();
        assert!(target.ends_with(&name), "{name}");
    }
    // All have the same layers, whatever their packing.
    assert_eq!(store.layers().layers().unwrap().len(), 3);
    let mut saved = Vec::new();
    store.save(&["me/x:1".to_owned()], &mut saved).unwrap();
    std::fs::write(place.path().join("saved.tar"), saved).unwrap();
    let id = store.find("me/x:1").unwrap();
    // From one format to the other skopeo rewrites the config; within one it stays.
    for (source, target) in [
        ("docker-archive:saved.tar:me/x:1", "docker-archive:again"),
        ("oci-archive:saved.tar:1", "oci:again:x"),
    ] {
        skopeo(&format!("copy -q {source} {target}"));
        let again = ImageStore::open(&place.path().join("again-store"));
        let loaded = again.load_path(&place.path().join("again")).unwrap();
        assert_eq!(loaded[0].image, id, "{source}");
        shell(place.path(), "rm -rf again again-store");
    }
}

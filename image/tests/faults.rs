//! A store that loses its disk at every point in turn: what is there afterwards is whole.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::path::Path;
use std::process::Command;

use image::{ImageStore, ImportRequest};
use support::{chain, docker, image_id, layer, two_layers};

/// Runs a test again in a process with a mount namespace of its own.
fn with_own_mounts(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "RBOX_OWN_MOUNTS";
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare of util-linux is needed");
    assert!(status.success(), "{name} failed in its mount namespace");
}

fn mount(place: &Path, options: &str) {
    let arguments = ["-t", "tmpfs", "-o", options, "none"];
    let status = Command::new("mount").args(arguments).arg(place).status();
    assert!(status.unwrap().success());
}

fn unmount(place: &Path) {
    let status = Command::new("umount").arg(place).status();
    assert!(status.unwrap().success());
}

/// Names lead to images, images to layers, layers are what they were; nothing else is there.
#[track_caller]
fn is_whole(store: &ImageStore, root: &Path) {
    for tag in store.tags().unwrap() {
        store.get(tag.image).unwrap();
    }
    for id in store.ids().unwrap() {
        let image = store.get(id).unwrap();
        assert_eq!(store.layers().check(&image.layers, true).unwrap(), []);
    }
    let left = std::fs::read_dir(root.join("layers/unpacking"));
    assert_eq!(left.map_or(0, Iterator::count), 0, "a layer was left");
    let used = store.used_layers().unwrap();
    let layers = store.layers().layers().unwrap();
    assert!(
        layers.iter().all(|layer| used.contains(layer)),
        "a layer of nobody was left"
    );
}

/// Tries with ever more of what `limit` gives until nothing is in the way any more.
fn until_it_fits(limit: impl Fn(u32) -> String, work: impl Fn(&ImageStore) -> Result<(), String>) {
    let place = tempfile::tempdir().unwrap();
    for step in 1..200 {
        mount(place.path(), &limit(step));
        let store = ImageStore::open(place.path());
        let worked = work(&store);
        is_whole(&store, place.path());
        if let Err(error) = &worked {
            let space = error.contains("o space left");
            assert!(space && !error.contains('\n'), "{error}");
            assert!(store.ids().unwrap().is_empty() || store.tags().unwrap().is_empty());
        }
        unmount(place.path());
        if worked.is_ok() {
            assert!(step > 5, "nothing was in the way");
            return;
        }
    }
    panic!("it never fits");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_every_file_that_cannot_be_made_leaves_the_store_whole() {
    let name = "privileged_every_file_that_cannot_be_made_leaves_the_store_whole";
    with_own_mounts(name, || {
        let inodes = |step| format!("size=32m,nr_inodes={}", step + 1);
        let archive = docker(&two_layers(), &["x:1"]).tar();
        until_it_fits(inodes, |store| match store.load(&archive[..]) {
            Ok(loaded) => {
                assert_eq!(loaded[0].image, image_id(&two_layers()));
                Ok(())
            }
            Err(error) => Err(chain(&error)),
        });
        let request = ImportRequest {
            name: Some("x".to_owned()),
            ..ImportRequest::default()
        };
        let archive = layer("a", "content");
        until_it_fits(inodes, |store| {
            let imported = store.import(&archive[..], &request);
            imported.map(drop).map_err(|error| chain(&error))
        });
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_every_page_that_cannot_be_written_leaves_the_store_whole() {
    let name = "privileged_every_page_that_cannot_be_written_leaves_the_store_whole";
    with_own_mounts(name, || {
        let pages = |step| format!("size={}k", step * 4);
        let layers = [layer("a", &"one".repeat(5000)), layer("b", "two")];
        let archive = docker(&layers, &["x:1"]).tar();
        until_it_fits(pages, |store| {
            let loaded = store.load(&archive[..]);
            loaded.map(drop).map_err(|error| chain(&error))
        });
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_killed_import_leaves_nothing_that_stays() {
    // The second run of this very test is the victim.
    const VICTIM: &str = "RBOX_IMPORT_VICTIM";
    let content = layer("a", &"x".repeat(3 << 20));
    if let Some(root) = std::env::var_os(VICTIM) {
        let store = ImageStore::open(Path::new(&root));
        let request = ImportRequest {
            name: Some("x".to_owned()),
            ..ImportRequest::default()
        };
        store.import(&content[..], &request).unwrap();
        return;
    }
    let name = "privileged_a_killed_import_leaves_nothing_that_stays";
    let root = tempfile::tempdir().unwrap();
    let store = ImageStore::open(root.path());
    for wait in 0..30 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--ignored"])
            .env(VICTIM, root.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait * 3));
        victim.kill().unwrap();
        victim.wait().unwrap();
        // Any name leads to something whole at once; the rest goes with the next writer.
        for tag in store.tags().unwrap() {
            let image = store.get(tag.image).unwrap();
            assert_eq!(store.layers().check(&image.layers, true).unwrap(), []);
        }
        store.collect(&[]).unwrap();
        is_whole(&store, root.path());
    }
}

//! Images in and out: every kind of archive, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use std::io::{self, Read};

use image::Digest;
use overlayfs::tar::{Kind, Reader, TarError};
use serde_json::{Value, json};
use support::{
    Failing, Files, Stage, chain, config, docker, gzip, image_id, layer, lines, oci, two_layers,
    zstd,
};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_loads_every_kind_of_archive() {
    let layers = two_layers();
    let id = image_id(&layers);
    let full = json!({"io.containerd.image.name": "docker.io/library/x:1",
                      "org.opencontainers.image.ref.name": "1"});
    let named = docker(&layers, &["x:1"]);
    let mut renamed = oci(&layers, <[u8]>::to_vec, &full);
    renamed.add("manifest.json", b"[]".to_vec());
    for (what, archive) in [
        ("docker", named.tar()),
        ("docker, packed", gzip(&named.tar())),
        ("docker, packed otherwise", zstd(&named.tar())),
        ("docker with packed layers", {
            let mut files = named.clone();
            for (name, content) in &mut files.0 {
                if name.ends_with("layer.tar") {
                    *content = gzip(content);
                }
            }
            files.tar()
        }),
        ("oci", oci(&layers, <[u8]>::to_vec, &full).tar()),
        ("oci, gzip", oci(&layers, gzip, &full).tar()),
        ("oci, zstd", oci(&layers, zstd, &full).tar()),
        (
            "oci, named otherwise",
            oci(
                &layers,
                gzip,
                &json!({"org.opencontainers.image.ref.name": "x:1"}),
            )
            .tar(),
        ),
    ] {
        let stage = Stage::new();
        assert_eq!(stage.load(&archive), ["x:1"], "{what}");
        let image = stage.store.resolve("x:1").unwrap();
        assert_eq!(image.id, id, "{what}");
        assert_eq!(
            stage.store.config_text(id).unwrap(),
            config(&layers),
            "{what}"
        );
        assert_eq!(image.size, 8);
        let trees = stage.store.layers().trees(&image.layers);
        assert_eq!(
            std::fs::read_to_string(trees[0].join("b")).unwrap(),
            "three"
        );
        assert_eq!(std::fs::read_to_string(trees[1].join("a")).unwrap(), "one");
        stage.is_clean();
        // Once more changes nothing.
        let again = stage.store.load(&archive[..]).unwrap();
        assert_eq!(again[0].replaced, None);
        assert_eq!(stage.store.layers().layers().unwrap().len(), 2);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_loads_files_directories_and_nameless_images() {
    let layers = two_layers();
    let stage = Stage::new();
    let place = tempfile::tempdir().unwrap();
    let files = oci(
        &layers,
        gzip,
        &json!({"org.opencontainers.image.ref.name": "latest"}),
    );
    files.write(&place.path().join("layout"));
    let loaded = stage.store.load_path(&place.path().join("layout")).unwrap();
    assert_eq!(
        lines(&loaded),
        [image_id(&layers).to_string()],
        "a tag alone is no name"
    );
    for (name, bytes) in [
        ("x.tar", docker(&layers, &["x"]).tar()),
        ("y.tar.gz", gzip(&docker(&layers, &["y:2", "z"]).tar())),
    ] {
        std::fs::write(place.path().join(name), bytes).unwrap();
    }
    let loaded = stage.store.load_path(&place.path().join("x.tar")).unwrap();
    assert_eq!(lines(&loaded), ["x:latest"]);
    let loaded = stage
        .store
        .load_path(&place.path().join("y.tar.gz"))
        .unwrap();
    assert_eq!(lines(&loaded), ["y:2", "z:latest"]);
    assert_eq!(stage.store.list().unwrap().len(), 1);
    let other = docker(&[layer("c", "")], &["x"]).tar();
    let loaded = stage.store.load(&other[..]).unwrap();
    assert_eq!(loaded[0].replaced, Some(image_id(&layers)));
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_takes_this_machines_image_of_an_index() {
    let stage = Stage::new();
    let mut files = oci(&two_layers(), gzip, &json!({}));
    let other = vec![layer("other", "")];
    let foreign = oci(&other, gzip, &json!({}));
    let entry = |files: &Files| -> Value {
        let index: Value = serde_json::from_slice(&files.0["index.json"]).unwrap();
        index["manifests"][0].clone()
    };
    let (mut mine, mut theirs, mut about) = (entry(&files), entry(&foreign), entry(&foreign));
    let here = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    mine["platform"] = json!({"os": "linux", "architecture": here});
    theirs["platform"] = json!({"os": "linux", "architecture": "s390x"});
    about["annotations"] = json!({"vnd.docker.reference.type": "attestation-manifest"});
    let media = "application/vnd.oci.image.index.v1+json";
    let index = |entries: &[&Value]| json!({"schemaVersion": 2, "manifests": entries}).to_string();
    let mut inner = files.blob(index(&[&theirs, &about, &mine]).as_bytes(), media);
    inner["annotations"] = json!({"io.containerd.image.name": "docker.io/me/x:1"});
    files.add("index.json", index(&[&inner]));
    assert_eq!(stage.load(&files.tar()), ["me/x:1"]);
    assert_eq!(stage.store.find("me/x:1").unwrap(), image_id(&two_layers()));
    let inner = files.blob(index(&[&theirs]).as_bytes(), media);
    files.add("index.json", index(&[&inner]));
    assert_eq!(
        stage.refuse(&files.tar()),
        format!("no image for linux/{here} in the archive's index")
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
#[allow(clippy::too_many_lines, reason = "a table")]
fn privileged_refuses_broken_archives_and_keeps_nothing() {
    let layers = two_layers();
    let names = json!({"io.containerd.image.name": "x:1"});
    let good = oci(&layers, gzip, &names);
    let old = docker(&layers, &["x:1"]);
    let stage = Stage::new();
    let change = |files: &Files, name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut files = files.clone();
        let matching = |key: &&String| key.contains(name);
        let key = files.0.keys().find(matching).unwrap().clone();
        change(files.0.get_mut(&key).unwrap());
        files.tar()
    };
    let without = |files: &Files, name: &str| {
        let mut files = files.clone();
        files.0.retain(|key, _| !key.contains(name));
        files.tar()
    };
    let layer_name = format!("blobs/sha256/{}", Digest::of(&gzip(&layers[1])).hex());
    let config_name = Digest::of(&config(&layers)).hex();
    let flip: &dyn Fn(&mut Vec<u8>) = &|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    };
    for (archive, message) in [
        (
            b"no archive".to_vec(),
            "not a tar archive: no header at byte 0",
        ),
        (
            layer("etc/passwd", "root"),
            "the archive holds no image: it has neither manifest.json nor index.json",
        ),
        (
            without(&good, &layer_name),
            "the archive is incomplete: it has no ",
        ),
        (
            without(&good, &config_name),
            "the archive is incomplete: it has no ",
        ),
        (
            without(&old, "layer.tar"),
            "the archive is incomplete: it has no ",
        ),
        (
            change(&good, &layer_name, &|bytes| *bytes = gzip(b"else")),
            "not a tar archive",
        ),
        (
            change(&good, &layer_name, &|bytes| {
                *bytes = gzip(&layer("else", ""))
            }),
            "layer digest is ",
        ),
        (
            change(&old, "1/layer.tar", &|bytes| *bytes = layer("else", "")),
            "layer digest is ",
        ),
        (change(&good, &config_name, flip), "\"blobs/sha256/"),
        (
            change(&old, &config_name, flip),
            &format!("\"{config_name}.json\" is damaged"),
        ),
        (
            change(&good, "index.json", &|bytes| bytes.truncate(20)),
            "\"index.json\" is malformed",
        ),
        (
            change(&old, "manifest.json", &|bytes| bytes.truncate(20)),
            "\"manifest.json\" is malformed",
        ),
        (
            change(&old, "manifest.json", &|bytes| *bytes = b"[]".to_vec()),
            "the archive holds no image: its list of images is empty",
        ),
        (
            change(&old, "manifest.json", &|bytes| {
                *bytes = String::from_utf8_lossy(bytes)
                    .replace("x:1", "X Y")
                    .into_bytes();
            }),
            "invalid reference format",
        ),
        (
            change(&old, "manifest.json", &|bytes| {
                let mut text: Value = serde_json::from_slice(bytes).unwrap();
                text[0]["Layers"].as_array_mut().unwrap().pop();
                *bytes = text.to_string().into_bytes();
            }),
            "invalid manifest, layers length mismatch: expected 2, got 1",
        ),
        (
            change(&old, "manifest.json", &|bytes| {
                let mut text: Value = serde_json::from_slice(bytes).unwrap();
                text[0]["Config"] = json!("../../../../../../etc/passwd");
                *bytes = text.to_string().into_bytes();
            }),
            "the archive is incomplete: it has no \"../../../../../../etc/passwd\"",
        ),
    ] {
        let text = stage.refuse(&archive);
        assert!(text.starts_with(message), "{text}\n{message}");
        assert!(!text.contains('\n'));
        stage.is_empty();
    }
    let whole = old.tar();
    for cut in (0..whole.len() - 1024).step_by(500) {
        let text = stage.refuse(&whole[..cut]);
        assert!(!text.contains('\n'), "{text}");
        stage.is_empty();
    }
    for good in (0..whole.len()).step_by(3000) {
        let failing = whole[..good].chain(Failing);
        let text = chain(&stage.store.load(failing).unwrap_err());
        assert_eq!(text, "cannot read the archive: the disk is on fire");
        stage.is_empty();
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_layout_directory_cannot_lead_outside() {
    let place = tempfile::tempdir().unwrap();
    let stage = Stage::new();
    let layers = two_layers();
    let files = oci(&layers, gzip, &json!({}));
    let layout = place.path().join("layout");
    files.write(&layout);
    let blob = layout.join(format!(
        "blobs/sha256/{}",
        Digest::of(&gzip(&layers[0])).hex()
    ));
    std::fs::rename(&blob, place.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path().join("elsewhere"), &blob).unwrap();
    let text = chain(&stage.store.load_path(&layout).unwrap_err());
    assert!(
        text.starts_with("the archive is incomplete: it has no \"blobs/"),
        "{text}"
    );
    std::fs::remove_file(&blob).unwrap();
    let status = std::process::Command::new("mkfifo").arg(&blob).status();
    assert!(status.unwrap().success());
    let text = chain(&stage.store.load_path(&layout).unwrap_err());
    assert!(
        text.starts_with("the archive is incomplete: it has no \"blobs/"),
        "{text}"
    );
    stage.is_empty();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_is_saved_loads_elsewhere_with_the_same_ids() {
    let stage = Stage::new();
    let layers = two_layers();
    stage.load(&docker(&layers, &["x:1", "x:2", "me/y"]).tar());
    stage.load(&docker(&layers[..1], &[]).tar());
    let bare = image_id(&layers[..1]);
    let names = |names: &[&str]| -> Vec<String> { names.iter().map(|&n| n.to_owned()).collect() };
    for (asked, expected) in [
        (names(&["x:1"]), names(&["x:1"])),
        (names(&["x"]), names(&["x:1", "x:2"])),
        (names(&["x:2", "me/y"]), names(&["me/y:latest", "x:2"])),
        (names(&[&bare.hex()]), names(&[&bare.to_string()])),
        (
            names(&[&bare.hex()[..12], "x:1"]),
            names(&[&bare.to_string(), "x:1"]),
        ),
    ] {
        let mut archive = Vec::new();
        stage.store.save(&asked, &mut archive).unwrap();
        let mut again = Vec::new();
        stage.store.save(&asked, &mut again).unwrap();
        assert!(archive == again, "the same images make the same archive");
        let other = Stage::new();
        let mut sorted = other.load(&archive);
        sorted.sort();
        let mut expected = expected;
        expected.sort();
        assert_eq!(sorted, expected);
        // The same bytes are an OCI layout as well.
        let oci = Stage::new();
        let mut sorted = oci.load(&without_docker(&archive));
        sorted.sort();
        assert_eq!(sorted, expected);
        for place in [&other, &oci] {
            for summary in place.store.list().unwrap() {
                let text = stage.store.config_text(summary.image.id).unwrap();
                assert_eq!(place.store.config_text(summary.image.id).unwrap(), text);
            }
            place.is_clean();
        }
    }
    let error = stage.store.save(&names(&["nope"]), io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "No such image: nope:latest");
}

fn without_docker(archive: &[u8]) -> Vec<u8> {
    let mut reader = Reader::new(archive);
    let mut files = Files::default();
    while let Some(member) = reader.next().unwrap() {
        let mut content = Vec::new();
        reader
            .content::<TarError>(|piece| {
                content.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
        let name = String::from_utf8(member.path).unwrap();
        if member.kind == Kind::File && name != "manifest.json" {
            files.add(name, content);
        }
    }
    files.tar()
}

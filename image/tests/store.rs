//! Images in the store: how they are made by hand, shown and removed.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod support;

use image::{Digest, ImageUser, ImportRequest};
use serde_json::json;
use support::{Failing, Stage, docker, gzip, image_id, layer, two_layers};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_imports_a_tree_with_changes() {
    let stage = Stage::new();
    let request = ImportRequest {
        name: Some("x".to_owned()),
        changes: vec!["CMD [\"a\"]".to_owned(), "ENV K=v".to_owned()],
        source: "-".to_owned(),
        ..ImportRequest::default()
    };
    for packed in [layer("bin/a", "12345"), gzip(&layer("bin/a", "12345"))] {
        let id = stage.store.import(&packed[..], &request).unwrap();
        let shown = serde_json::to_value(stage.store.inspect("x").unwrap()).unwrap();
        assert_eq!(shown["Id"], json!(id));
        assert_eq!(shown["Comment"], "Imported from -");
        assert_eq!(shown["Config"]["Cmd"], json!(["a"]));
        assert_eq!(shown["Config"]["Env"], json!(["K=v"]));
        assert_eq!(shown["RepoTags"], json!(["x:latest"]));
        assert_eq!(shown["RootFS"]["Type"], "layers");
        assert_eq!(shown["RootFS"]["Layers"].as_array().unwrap().len(), 1);
        assert_eq!(
            (&shown["Size"], &shown["VirtualSize"]),
            (&json!(5), &json!(5))
        );
        assert_eq!(shown["Os"], "linux");
        let keys: Vec<_> = shown.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            keys.join(" "),
            "Id RepoTags RepoDigests Parent Comment Created Container ContainerConfig \
             DockerVersion Author Config Architecture Os Size VirtualSize GraphDriver RootFS \
             Metadata"
        );
    }
    assert_eq!(
        stage.store.layers().layers().unwrap().len(),
        1,
        "one layer for both"
    );
    for (change, message) in [
        (
            ImportRequest {
                name: Some("X".to_owned()),
                ..request.clone()
            },
            "invalid reference format: repository name (library/X) must be lowercase",
        ),
        (
            ImportRequest {
                changes: vec!["RUN x".to_owned()],
                ..request.clone()
            },
            "run is not a valid change command",
        ),
        (
            ImportRequest {
                platform: Some("windows/amd64".to_owned()),
                ..request.clone()
            },
            "operating system is not supported: windows",
        ),
    ] {
        // What cannot be is said before anything is read.
        let error = stage.store.import(Failing, &change).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
    let error = stage.store.import(&b"rubbish"[..], &request).unwrap_err();
    assert_eq!(error.to_string(), "not a tar archive: no header at byte 0");
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_history_is_newest_first_with_the_layers_sizes() {
    let stage = Stage::new();
    stage.load(&docker(&two_layers(), &["x:1"]).tar());
    let history = stage.store.history("x:1").unwrap();
    let shown: Vec<_> = history
        .iter()
        .map(|entry| (entry.image.is_some(), entry.created_by.as_str(), entry.size))
        .collect();
    assert_eq!(
        shown,
        [
            (true, "CMD", 0),
            (false, "ADD 1", 5),
            (false, "CMD", 0),
            (false, "ADD 0", 3)
        ]
    );
    assert_eq!(history[0].tags[0].familiar(), "x:1");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
#[allow(clippy::too_many_lines, reason = "a table")]
fn privileged_removing_says_what_docker_says() {
    let layers = two_layers();
    let id = image_id(&layers);
    let chain = overlayfs::ChainId::of_each(&[
        overlayfs::DiffId(Digest::of(&layers[0])),
        overlayfs::DiffId(Digest::of(&layers[1])),
    ]);
    let fresh = |names: &[&str]| {
        let stage = Stage::new();
        stage.load(&docker(&layers, names).tar());
        stage
    };
    let container = "c".repeat(64);
    let (image_short, short) = (id.short(), "c".repeat(12));
    let user = |stage: &Stage, running| ImageUser {
        container: container.clone(),
        image: id,
        layers: stage.store.get(id).unwrap().layers,
        running,
    };
    let text = |removed: image::store::Result<Vec<image::Removed>>| match removed {
        Ok(lines) => lines.iter().map(ToString::to_string).collect::<Vec<_>>(),
        Err(error) => vec![error.to_string()],
    };
    let gone = [
        format!("Deleted: {id}"),
        format!("Deleted: {}", chain[1]),
        format!("Deleted: {}", chain[0]),
    ];
    let all = |untagged: &[&str]| -> Vec<String> {
        let untagged = untagged.iter().map(|name| format!("Untagged: {name}"));
        untagged.chain(gone.iter().cloned()).collect()
    };
    let stage = fresh(&["x:1"]);
    assert_eq!(
        text(stage.store.remove("x:1", false, &|| Ok(Vec::new()))),
        all(&["x:1"])
    );
    stage.is_empty();
    let stage = fresh(&["x:1", "x:2"]);
    assert_eq!(
        text(stage.store.remove("x:1", false, &|| Ok(Vec::new()))),
        ["Untagged: x:1"]
    );
    assert_eq!(
        text(stage.store.remove(&id.hex(), false, &|| Ok(Vec::new()))),
        all(&["x:2"])
    );
    let stage = fresh(&["x:1", "y:1"]);
    assert_eq!(
        text(
            stage
                .store
                .remove(&id.hex()[..9], false, &|| Ok(Vec::new()))
        ),
        [format!(
            "conflict: unable to delete {image_short} (must be forced) - image is \
                  referenced in multiple repositories"
        )]
    );
    assert_eq!(
        text(
            stage
                .store
                .remove(&id.to_string(), true, &|| Ok(Vec::new()))
        ),
        all(&["x:1", "y:1"])
    );
    let stage = fresh(&["x:1"]);
    let (stopped, running) = (user(&stage, false), user(&stage, true));
    assert_eq!(
        text(
            stage
                .store
                .remove("x:1", false, &|| Ok(vec![stopped.clone()]))
        ),
        [format!(
            "conflict: unable to remove repository reference \"x:1\" (must force) - \
                  container {short} is using its referenced image {image_short}"
        )]
    );
    assert_eq!(
        text(
            stage
                .store
                .remove(&id.hex(), true, &|| Ok(vec![running.clone()]))
        ),
        [format!(
            "conflict: unable to delete {image_short} (cannot be forced) - image is being \
                  used by running container {short}"
        )]
    );
    assert_eq!(
        text(
            stage
                .store
                .remove(&id.hex(), false, &|| Ok(vec![stopped.clone()]))
        ),
        [format!(
            "conflict: unable to delete {image_short} (must be forced) - image is being \
                  used by stopped container {short}"
        )]
    );
    // By force the image goes; what the container stands on stays.
    assert_eq!(
        text(
            stage
                .store
                .remove("x:1", true, &|| Ok(vec![stopped.clone()]))
        ),
        ["Untagged: x:1".to_owned(), gone[0].clone()]
    );
    assert_eq!(stage.store.layers().layers().unwrap().len(), 2);
    assert_eq!(stage.store.collect(&[stopped]).unwrap(), []);
    assert_eq!(stage.store.collect(&[]).unwrap().len(), 2);
    assert_eq!(
        text(stage.store.remove("x:1", false, &|| Ok(Vec::new()))),
        ["No such image: x:1"]
    );
    // So does what a container stands on that was made while its image went.
    let stage = fresh(&["x:1"]);
    let (late, looks) = (user(&stage, false), std::cell::Cell::new(0));
    let look = || {
        looks.set(looks.get() + 1);
        Ok(vec![late.clone(); looks.get() - 1])
    };
    assert_eq!(
        text(stage.store.remove("x:1", false, &look)),
        ["Untagged: x:1".to_owned(), gone[0].clone()]
    );
    assert_eq!(stage.store.layers().layers().unwrap().len(), 2);
    // A layer that another image stands on stays.
    let stage = fresh(&["x:1"]);
    stage.load(&docker(&layers[..1], &["base"]).tar());
    assert_eq!(
        text(stage.store.remove("x:1", false, &|| Ok(Vec::new()))).last(),
        Some(&gone[1])
    );
    stage.store.inspect("base").unwrap();
    stage.is_clean();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_damaged_image_can_be_removed_and_harms_no_other() {
    let stage = Stage::new();
    stage.load(&docker(&two_layers(), &["x:1"]).tar());
    stage.load(&docker(&[layer("c", "")], &["y:1"]).tar());
    let broken = stage.store.find("x:1").unwrap();
    let place = stage
        .directory
        .path()
        .join("images/sha256")
        .join(broken.hex());
    std::fs::remove_file(place.join("image.json")).unwrap();
    std::fs::write(place.join("config.json"), "{").unwrap();
    assert_eq!(stage.store.list().unwrap().len(), 1);
    let removed = stage
        .store
        .remove("y:1", false, &|| Ok(Vec::new()))
        .unwrap();
    assert_eq!(
        removed.len(),
        2,
        "the layers stay while nobody knows whose they are"
    );
    assert!(stage.store.collect(&[]).is_err());
    stage
        .store
        .remove("x:1", false, &|| Ok(Vec::new()))
        .unwrap();
    assert_eq!(stage.store.collect(&[]).unwrap().len(), 3);
    stage.is_empty();
}

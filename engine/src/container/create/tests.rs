//! Containers made in a store on a temporary directory.

use super::*;
use crate::Options;
use crate::container::remove::RemoveOptions;

pub(crate) fn engine() -> (tempfile::TempDir, Engine) {
    let directory = tempfile::tempdir().unwrap();
    let engine = Engine::open(Options {
        root: directory.path().join("root"),
        state: directory.path().join("state"),
        ..Options::default()
    });
    (directory, engine)
}

pub(crate) fn image() -> ImageParts {
    ImageParts {
        id: "sha256:1".to_owned(),
        config: RunConfig {
            cmd: Some(vec!["sh".to_owned()]),
            ..RunConfig::default()
        },
        layers: Vec::new(),
    }
}

pub(crate) fn request(name: &str) -> CreateRequest {
    CreateRequest {
        name: (!name.is_empty()).then(|| name.parse().unwrap()),
        config: Config {
            image: "busybox".to_owned(),
            ..Config::default()
        },
        ..CreateRequest::default()
    }
}

fn actions(engine: &Engine) -> Vec<String> {
    let events = engine.events().read().unwrap();
    events
        .iter()
        .map(|event| format!("{} {}", event.kind, event.action))
        .collect()
}

/// Everything under the root but the lock directories: what a request left behind.
fn left(engine: &Engine) -> usize {
    ["containers", "names", "aside", "volumes"]
        .iter()
        .filter_map(|part| fs::read_dir(engine.options().root.join(part)).ok())
        .map(Iterator::count)
        .sum()
}

#[test]
fn a_container_is_made_whole() {
    let (_directory, engine) = engine();
    let made = engine.create_from(&request("web"), &image()).unwrap();
    let container = engine.find("web").unwrap();
    assert_eq!(container.id(), &made.id);
    assert_eq!(container.record.config.hostname, made.id.short());
    assert_eq!(container.record.host.network_mode, "default");
    assert!(container.dir.upper().is_dir() && container.dir.work().is_dir());
    assert_eq!(container.status().unwrap().0, crate::store::Status::Created);
    assert_eq!(actions(&engine), ["container create"]);
    engine.remove("web", RemoveOptions::default()).unwrap();
    assert_eq!(left(&engine), 0);
    assert_eq!(actions(&engine), ["container create", "container destroy"]);
}

#[test]
fn without_a_name_one_is_drawn() {
    let (_directory, engine) = engine();
    let made = engine.create_from(&request(""), &image()).unwrap();
    assert!(made.name.as_str().contains('_'));
    assert_eq!(engine.resolve(made.name.as_str()).unwrap(), made.id);
}

#[test]
fn what_is_refused_leaves_nothing() {
    let (_directory, engine) = engine();
    engine.create_from(&request("taken"), &image()).unwrap();
    let before = left(&engine);
    let mut bad = request("bad");
    bad.host.memory = 1;
    let mut missing = request("missing");
    missing.host.volumes_from = Some(vec!["nope".to_owned()]);
    let mut twice = request("twice");
    twice.host.binds = Some(vec!["aa:/d".to_owned(), "bb:/d".to_owned()]);
    let mut taken = request("taken");
    taken.config.volumes = Some([("/v".to_owned(), crate::config::Empty {})].into());
    for (request, text) in [
        (bad, "Minimum memory limit allowed is 6MB"),
        (missing, "No such container: nope"),
        (twice, "Duplicate mount point: /d"),
        (
            taken,
            "Conflict. The container name \"/taken\" is already in use",
        ),
    ] {
        let error = engine.create_from(&request, &image()).unwrap_err();
        assert!(error.to_string().starts_with(text), "{error}");
        assert_eq!(left(&engine), before, "{text}");
    }
}

#[test]
fn volumes_come_and_go_with_their_containers() {
    let (_directory, engine) = engine();
    let mut first = request("first");
    first.config.volumes = Some([("/anonymous".to_owned(), crate::config::Empty {})].into());
    first.host.binds = Some(vec!["named:/named".to_owned()]);
    engine.create_from(&first, &image()).unwrap();
    let mut heir = request("heir");
    heir.host.volumes_from = Some(vec!["first:ro".to_owned()]);
    engine.create_from(&heir, &image()).unwrap();
    let mounts = engine.find("heir").unwrap().record.mounts;
    assert_eq!(mounts.len(), 2);
    assert!(mounts.iter().all(|mount| !mount.writable));
    assert_eq!(engine.store().all_volumes().unwrap().len(), 2);
    let with_volumes = RemoveOptions {
        volumes: true,
        ..RemoveOptions::default()
    };
    engine.remove("first", with_volumes).unwrap();
    assert_eq!(
        engine.store().all_volumes().unwrap().len(),
        2,
        "the heir uses it"
    );
    engine.remove("heir", with_volumes).unwrap();
    let names: Vec<String> = engine
        .store()
        .all_volumes()
        .unwrap()
        .into_iter()
        .map(|volume| volume.name)
        .collect();
    assert_eq!(names, ["named"]);
}

#[test]
fn modes_that_name_a_container_keep_its_id() {
    let (_directory, engine) = engine();
    let donor = engine.create_from(&request("donor"), &image()).unwrap();
    let mut joined = request("joined");
    joined.host.network_mode = "container:donor".to_owned();
    joined.host.pid_mode = format!("container:{}", donor.id.short());
    engine.create_from(&joined, &image()).unwrap();
    let record = engine.find("joined").unwrap().record;
    assert_eq!(record.host.network_mode, format!("container:{}", donor.id));
    assert_eq!(record.host.pid_mode, format!("container:{}", donor.id));
    assert_eq!(record.config.hostname, donor.id.short());
}

#[test]
fn a_rename_is_seen_and_its_faults_are_dockers() {
    let (_directory, engine) = engine();
    let id = engine.create_from(&request("one"), &image()).unwrap().id;
    let other = engine.create_from(&request("two"), &image()).unwrap().id;
    engine.rename("one", "uno").unwrap();
    assert_eq!(engine.resolve("uno").unwrap(), id);
    assert!(engine.resolve("one").is_err());
    for (new, text) in [
        ("", "Neither old nor new names may be empty".to_owned()),
        (
            "uno",
            "Renaming a container with the same name as its current name".to_owned(),
        ),
        (
            "two",
            format!(
                "Error when allocating new name: Conflict. The container name \"/two\" is \
                 already in use by container \"{other}\". You have to remove (or rename) that \
                 container to be able to reuse that name."
            ),
        ),
        (
            "a!",
            "Error when allocating new name: Invalid container name (a!), only \
             [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
                .to_owned(),
        ),
    ] {
        assert_eq!(engine.rename("uno", new).unwrap_err().to_string(), text);
    }
}

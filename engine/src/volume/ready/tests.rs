//! What goes into volumes, from layers that are plain directories here.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use overlayfs::{DiffId, Digest, LayerId};

use super::*;
use crate::config::Empty;
use crate::container::create::tests::{engine, image, request};
use crate::container::create::{CreateRequest, ImageParts};

/// An image of two layers: `/data` with a file, a directory and two names of one file; the upper
/// layer changes the file and makes `/link` lead to `/data`.
fn layers(engine: &Engine) -> ImageParts {
    let id = |text: &[u8]| LayerId::independent(DiffId(Digest::of(text)));
    let parts = ImageParts {
        layers: vec![id(b"lower"), id(b"upper")],
        ..image()
    };
    let tree = |index: usize| engine.images().layers().tree(parts.layers[index]);
    fs::create_dir_all(tree(0).join("data/inner")).unwrap();
    fs::write(tree(0).join("data/file"), "old").unwrap();
    fs::write(tree(0).join("data/inner/one"), "same").unwrap();
    fs::hard_link(tree(0).join("data/inner/one"), tree(0).join("data/two")).unwrap();
    fs::create_dir_all(tree(1).join("data")).unwrap();
    fs::write(tree(1).join("data/file"), "new").unwrap();
    fs::set_permissions(tree(1).join("data"), fs::Permissions::from_mode(0o750)).unwrap();
    std::os::unix::fs::symlink("data", tree(1).join("link")).unwrap();
    parts
}

fn with(name: &str, binds: &[&str]) -> CreateRequest {
    let mut request = request(name);
    request.host.binds = Some(binds.iter().map(|&text| text.to_owned()).collect());
    request
}

fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn assert_filled(data: &Path) {
    assert_eq!(names(data), ["file", "inner", "two"]);
    assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "new");
    let inode = |name: &str| fs::metadata(data.join(name)).unwrap().ino();
    assert_eq!(inode("two"), inode("inner/one"), "one file with two names");
    assert_eq!(fs::metadata(data).unwrap().mode() & 0o777, 0o750);
}

#[test]
fn a_new_volume_gets_what_the_image_has() {
    let (_directory, engine) = engine();
    let image = layers(&engine);
    let mut request = with("web", &["named:/data", "through:/link", "other:/nosuch"]);
    request.config.volumes = Some([("/data/inner".to_owned(), Empty {})].into());
    engine.create_from(&request, &image).unwrap();
    let data = |name: &str| engine.store().volume_data(name);
    assert_filled(&data("named"));
    assert_filled(&data("through"));
    assert!(names(&data("other")).is_empty());
    let mounts = engine.find("web").unwrap().record.mounts;
    let anonymous = mounts.iter().find(|mount| mount.anonymous).unwrap();
    assert_eq!(names(Path::new(&anonymous.source)), ["one"]);
}

#[test]
fn what_shall_not_be_filled_is_not() {
    let (_directory, engine) = engine();
    let image = layers(&engine);
    let data = |name: &str| engine.store().volume_data(name);
    engine
        .create_from(&with("one", &["none:/data:nocopy"]), &image)
        .unwrap();
    assert!(names(&data("none")).is_empty());
    let label = Default::default();
    engine
        .create_volume(Some("full"), "", &label, &label)
        .unwrap();
    fs::write(data("full").join("mine"), "").unwrap();
    engine
        .create_from(&with("two", &["full:/data"]), &image)
        .unwrap();
    assert_eq!(names(&data("full")), ["mine"]);
    // an heir does not fill what its donor left empty
    let mut heir = request("heir");
    heir.host.volumes_from = Some(vec!["one".to_owned()]);
    engine.create_from(&heir, &image).unwrap();
    assert!(names(&data("none")).is_empty());
}

#[test]
fn an_empty_volume_that_was_there_is_filled() {
    let (_directory, engine) = engine();
    let image = layers(&engine);
    let none = Default::default();
    engine
        .create_volume(Some("empty"), "", &none, &none)
        .unwrap();
    engine
        .create_from(&with("web", &["empty:/data:ro"]), &image)
        .unwrap();
    assert_filled(&engine.store().volume_data("empty"));
    assert_eq!(
        names(&engine.store().volumes().join("empty")),
        ["_data", "volume.json"]
    );
}

#[test]
fn a_bound_directory_is_filled_where_it_lies() {
    let (directory, engine) = engine();
    let image = layers(&engine);
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let options = [
        ("type", "none".to_owned()),
        ("o", "bind".to_owned()),
        ("device", elsewhere.display().to_string()),
    ];
    let options = options.map(|(name, value)| (name.to_owned(), value)).into();
    engine
        .create_volume(Some("bound"), "", &Default::default(), &options)
        .unwrap();
    engine
        .create_from(&with("web", &["bound:/data"]), &image)
        .unwrap();
    assert_filled(&elsewhere);
    assert!(names(&engine.store().volume_data("bound")).is_empty());
    let mount = &engine.find("web").unwrap().record.mounts[0];
    let kept = mount.volume.clone().unwrap().driver_config.unwrap().options;
    assert_eq!(kept, options);
}

#[test]
fn what_a_crash_left_half_filled_is_filled_again_at_the_start() {
    let (_directory, engine) = engine();
    let image = layers(&engine);
    engine
        .create_from(&with("web", &["data:/data"]), &image)
        .unwrap();
    let container = engine.find("web").unwrap();
    let data = engine.store().volume_data("data");
    let marker = data.with_file_name("filling");
    // as it is in the middle of filling a volume that was there: half a file, none of the others
    fs::remove_file(data.join("two")).unwrap();
    fs::write(data.join("file"), "ne").unwrap();
    fs::write(data.join("mine"), "").unwrap();
    let content = content(&container, &container.record.mounts[0]);
    crate::store::replace_json(&marker, &content).unwrap();
    engine.ready_volumes(&container).unwrap();
    fs::remove_file(data.join("mine")).unwrap();
    assert_filled(&data);
    assert!(!marker.exists());
}

#[test]
fn a_volume_that_a_crash_left_out_is_made_at_the_start() {
    let (_directory, engine) = engine();
    let image = layers(&engine);
    engine
        .create_from(&with("web", &["data:/data"]), &image)
        .unwrap();
    let container = engine.find("web").unwrap();
    fs::remove_dir_all(engine.store().volumes().join("data")).unwrap();
    engine.ready_volumes(&container).unwrap();
    assert_filled(&engine.store().volume_data("data"));
}

#[test]
fn a_volume_that_cannot_be_filled_is_not_left_behind() {
    let (_directory, engine) = engine();
    let image = layers(&engine);
    // a layer that is missing: the content cannot be read
    fs::remove_dir_all(engine.images().layers().tree(image.layers[0])).unwrap();
    let error = engine
        .create_from(&with("web", &["data:/data"]), &image)
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::System);
    assert!(engine.store().all_volumes().unwrap().is_empty());
    assert!(engine.store().ids().unwrap().is_empty());
    assert!(names(&engine.store().root().join("aside")).is_empty());
}

#[test]
fn many_containers_fill_one_volume_once() {
    let (_directory, engine) = engine();
    let image = layers(&engine);
    let none = Default::default();
    engine
        .create_volume(Some("data"), "", &none, &none)
        .unwrap();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (engine, image) = (&engine, &image);
            scope.spawn(move || {
                let request = with(&format!("web{number}"), &["data:/data"]);
                engine.create_from(&request, image).unwrap();
            });
        }
    });
    assert_filled(&engine.store().volume_data("data"));
}

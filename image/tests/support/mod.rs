//! What the tests of images share: archives by hand, a store on a scratch directory.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::Path;

use image::{Digest, ImageId, ImageStore, Loaded};
use overlayfs::tar::{Member, Writer};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) store: ImageStore,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(directory.path());
        Self { directory, store }
    }

    #[track_caller]
    pub(crate) fn load(&self, archive: &[u8]) -> Vec<String> {
        lines(&self.store.load(archive).unwrap())
    }

    pub(crate) fn refuse(&self, archive: &[u8]) -> String {
        chain(&self.store.load(archive).unwrap_err())
    }

    /// No image, no name, no layer, nothing half done.
    #[track_caller]
    pub(crate) fn is_empty(&self) {
        assert!(self.store.list().unwrap().is_empty());
        assert!(self.store.tags().unwrap().is_empty());
        self.is_clean();
        assert!(self.store.layers().layers().unwrap().is_empty());
    }

    #[track_caller]
    pub(crate) fn is_clean(&self) {
        for place in ["images/making", "layers/unpacking"] {
            let left = std::fs::read_dir(self.directory.path().join(place));
            assert_eq!(left.map_or(0, Iterator::count), 0, "{place}");
        }
        let spooled = std::fs::read_dir(self.directory.path().join("images"));
        for entry in spooled.into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.starts_with('.'), "{name} was left");
        }
        let layers = self.store.layers().layers().unwrap();
        assert_eq!(self.store.layers().check(&layers, true).unwrap(), []);
    }
}

pub(crate) fn lines(loaded: &[Loaded]) -> Vec<String> {
    let name = |one: &Loaded| match &one.name {
        Some(name) => name.familiar(),
        None => one.image.to_string(),
    };
    loaded.iter().map(name).collect()
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
        text = format!("{text}: {source}");
    }
    text
}

/// Files of an archive that is made by hand.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, Vec<u8>>);

impl Files {
    pub(crate) fn add(&mut self, name: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.0.insert(name.into(), content.into());
    }

    pub(crate) fn blob(&mut self, content: &[u8], media_type: &str) -> Value {
        let digest = Digest::of(content);
        self.add(format!("blobs/sha256/{}", digest.hex()), content);
        json!({"mediaType": media_type, "digest": digest, "size": content.len()})
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (path, content) in &self.0 {
            let member = member(path, content.len());
            writer.append(&member, &content[..]).unwrap();
        }
        writer.finish().unwrap()
    }

    pub(crate) fn write(&self, top: &Path) {
        for (path, content) in &self.0 {
            let path = top.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
    }
}

pub(crate) fn member(path: &str, size: usize) -> Member {
    Member {
        path: path.as_bytes().to_vec(),
        size: size as u64,
        ..Member::default()
    }
}

/// An archive of one layer with one file.
pub(crate) fn layer(name: &str, content: &str) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let member = member(name, content.len());
    writer.append(&member, content.as_bytes()).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let history: Vec<Value> = (0..layers.len())
        .flat_map(|n| {
            [
                json!({"created": "2026-01-01T00:00:00Z", "created_by": format!("ADD {n}")}),
                json!({"created_by": "CMD", "empty_layer": true}),
            ]
        })
        .collect();
    // Blanks and an unknown field: the bytes must stay as they are.
    let text = json!({"architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05Z",
        "config": {"Cmd": ["sh"], "Env": ["A=b"]}, "x-unknown": [1, 2],
        "rootfs": {"type": "layers", "diff_ids": ids}, "history": history});
    serde_json::to_vec_pretty(&text).unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

pub(crate) fn two_layers() -> Vec<Vec<u8>> {
    vec![layer("a", "one"), layer("b", "three")]
}

/// What old engines wrote: a directory per layer.
pub(crate) fn docker(layers: &[Vec<u8>], names: &[&str]) -> Files {
    let mut files = Files::default();
    let config = config(layers);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    files.add(&config_name, config);
    let mut paths = Vec::new();
    for (n, layer) in layers.iter().enumerate() {
        let path = format!("{n:064}/layer.tar");
        files.add(&path, layer.clone());
        paths.push(path);
    }
    let manifest = json!([{"Config": config_name, "RepoTags": names, "Layers": paths}]);
    files.add("manifest.json", manifest.to_string());
    files.add("repositories", "{}");
    files
}

pub(crate) fn oci(
    layers: &[Vec<u8>],
    pack: impl Fn(&[u8]) -> Vec<u8>,
    annotations: &Value,
) -> Files {
    let mut files = Files::default();
    let config = files.blob(&config(layers), "application/vnd.oci.image.config.v1+json");
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| files.blob(&pack(layer), "application/vnd.oci.image.layer.v1.tar+any"))
        .collect();
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let media = "application/vnd.oci.image.manifest.v1+json";
    let mut entry = files.blob(manifest.to_string().as_bytes(), media);
    entry["annotations"] = annotations.clone();
    files.add(
        "index.json",
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string(),
    );
    files.add("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    files
}

pub(crate) fn image_id(layers: &[Vec<u8>]) -> ImageId {
    ImageId(Digest::of(&config(layers)))
}

pub(crate) struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the disk is on fire"))
    }
}

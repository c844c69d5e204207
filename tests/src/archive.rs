//! Archives of images written byte by byte, so that they can be wrong in every way.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest, Sha256};

/// A tar archive that checks nothing: names and kinds are written as given.
#[derive(Debug, Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

impl Tar {
    /// An empty archive.
    pub fn new() -> Self {
        Self::default()
    }

    /// One entry: `kind` is the header's type flag, `link` where it points to.
    pub fn entry(mut self, kind: u8, name: &str, mode: u32, link: &str, content: &[u8]) -> Self {
        self.bytes
            .extend(header(kind, name, mode, link, content.len()));
        self.bytes.extend(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
        self
    }

    /// A file.
    pub fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name, 0o644, "", content.as_ref())
    }

    /// A program.
    pub fn program(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(b'0', name, 0o755, "", content.as_ref())
    }

    /// A directory.
    pub fn directory(self, name: &str) -> Self {
        self.entry(b'5', name, 0o755, "", b"")
    }

    /// A symbolic link.
    pub fn symlink(self, name: &str, target: &str) -> Self {
        self.entry(b'2', name, 0o777, target, b"")
    }

    /// A hard link.
    pub fn hardlink(self, name: &str, target: &str) -> Self {
        self.entry(b'1', name, 0o755, target, b"")
    }

    /// The archive, ended as the format wants.
    pub fn bytes(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }
}

fn header(kind: u8, name: &str, mode: u32, link: &str, size: usize) -> [u8; 512] {
    let mut header = [0_u8; 512];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    assert!(
        name.len() <= 100 && link.len() <= 100,
        "names of tests are short"
    );
    put(0, name);
    put(100, &format!("{mode:07o}\0"));
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "14000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    // Numbers of a device, for those kinds that have them: c 1:3.
    put(329, "0000001\0");
    put(337, "0000003\0");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

/// `sha256:` and 64 digits.
pub fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digits}")
}

/// How a layer is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// Packs bytes.
///
/// # Panics
/// Never: it writes to memory.
pub fn pack(bytes: &[u8], packing: Packing) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_owned(),
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(bytes).expect("memory takes all");
            encoder.finish().expect("memory takes all")
        }
        Packing::Zstd => zstd::encode_all(bytes, 1).expect("memory takes all"),
    }
}

/// Files of an image in one of its forms, before they are put into an archive.
#[derive(Debug, Clone, Default)]
pub struct Files(pub Vec<(String, Vec<u8>)>);

impl Files {
    /// Changes one file.
    ///
    /// # Panics
    /// When there is none of that name.
    #[track_caller]
    pub fn change(mut self, part: &str, change: impl Fn(&mut Vec<u8>)) -> Self {
        let file = self.0.iter_mut().find(|(name, _)| name.contains(part));
        change(&mut file.unwrap_or_else(|| panic!("no file like {part}")).1);
        self
    }

    /// All files as one archive.
    pub fn tar(&self) -> Vec<u8> {
        let mut tar = Tar::new();
        for (name, content) in &self.0 {
            tar = tar.file(name, content);
        }
        tar.bytes()
    }

    /// All files in a directory.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, top: &std::path::Path) {
        for (name, content) in &self.0 {
            let path = top.join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).expect("the scratch directory is writable");
            }
            std::fs::write(path, content).expect("the scratch directory is writable");
        }
    }
}

fn config(layers: &[Vec<u8>], command: &[&str]) -> Vec<u8> {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let history: Vec<_> = (1..=layers.len())
        .map(|number| json!({"created": "2024-01-01T00:00:00Z", "created_by": format!("step {number}")}))
        .collect();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "2024-01-02T03:04:05Z",
        "config": {"Cmd": command, "Env": ["PATH=/bin", "FROM=archive"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    })
    .to_string()
    .into_bytes()
}

/// An image as an OCI layout. `layers` are tar archives, packed as told.
pub fn oci(layers: &[Vec<u8>], packing: Packing, reference: &str, command: &[&str]) -> Files {
    let mut files = Files::default();
    let blob = |files: &mut Files, bytes: Vec<u8>| -> serde_json::Value {
        let digest = digest(&bytes);
        let size = bytes.len();
        files
            .0
            .push((digest.replace("sha256:", "blobs/sha256/"), bytes));
        json!({"digest": digest, "size": size})
    };
    let kind = match packing {
        Packing::Plain => "application/vnd.oci.image.layer.v1.tar",
        Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
        Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
    };
    let mut descriptors = Vec::new();
    for layer in layers {
        let mut descriptor = blob(&mut files, pack(layer, packing));
        descriptor["mediaType"] = json!(kind);
        descriptors.push(descriptor);
    }
    let mut configuration = blob(&mut files, config(layers, command));
    configuration["mediaType"] = json!("application/vnd.oci.image.config.v1+json");
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": configuration,
        "layers": descriptors,
    });
    let mut manifest = blob(&mut files, manifest.to_string().into_bytes());
    manifest["mediaType"] = json!("application/vnd.oci.image.manifest.v1+json");
    manifest["annotations"] = json!({"org.opencontainers.image.ref.name": reference});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    files
        .0
        .push(("index.json".to_owned(), index.to_string().into_bytes()));
    files.0.push((
        "oci-layout".to_owned(),
        br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
    ));
    files
}

/// An image as `docker save` writes it.
pub fn docker(layers: &[Vec<u8>], reference: &str, command: &[&str]) -> Files {
    let configuration = config(layers, command);
    let name = digest(&configuration).replace("sha256:", "");
    let mut files = Files::default();
    let mut paths = Vec::new();
    for layer in layers {
        let path = format!("{}/layer.tar", digest(layer).replace("sha256:", ""));
        files.0.push((path.clone(), layer.clone()));
        paths.push(path);
    }
    files.0.push((format!("{name}.json"), configuration));
    let manifest =
        json!([{"Config": format!("{name}.json"), "RepoTags": [reference], "Layers": paths}]);
    files.0.push((
        "manifest.json".to_owned(),
        manifest.to_string().into_bytes(),
    ));
    files
}

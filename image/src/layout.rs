//! Documents of image archives: docker-archive's manifest, OCI's index, manifests and descriptors.

use std::collections::BTreeMap;
use std::io;

use overlayfs::tar::TarError;
use serde::{Deserialize, Serialize};
use sys::SysError;

use crate::digest::{Digest, DigestError};

pub(crate) const DOCKER_MANIFEST: &str = "manifest.json";
pub(crate) const INDEX: &str = "index.json";
pub(crate) const LAYOUT: &str = "oci-layout";
pub(crate) const LAYOUT_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

pub(crate) const MEDIA_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const MEDIA_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const MEDIA_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MEDIA_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const MEDIA_DOCKER_LIST: &str =
    "application/vnd.docker.distribution.manifest.list.v2+json";

/// The full name of an image in an index, as containerd and Docker write it.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";
/// The tag, or whatever the writer thought of as a name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Says that a manifest describes another image and is none.
pub(crate) const ATTESTATION: &str = "vnd.docker.reference.type";

/// One image of a docker-archive's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerManifest {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// OCI's reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<PlatformRecord>,
}

/// The platform of a manifest in an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PlatformRecord {
    pub(crate) architecture: String,
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) variant: String,
}

/// OCI's index, or Docker's manifest list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    #[serde(default)]
    pub(crate) manifests: Vec<Descriptor>,
}

/// OCI's manifest, or Docker's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    #[serde(default)]
    pub(crate) layers: Vec<Descriptor>,
}

/// An archive that holds no image, or a broken one.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// Neither of the two documents that an archive of images begins with.
    #[error("the archive holds no image: it has neither manifest.json nor index.json")]
    NoImage,
    /// A list of images without one.
    #[error("the archive holds no image: its list of images is empty")]
    Empty,
    /// Something that a document names is not there.
    #[error("the archive is incomplete: it has no {0:?}")]
    Missing(String),
    /// A document is larger than any real one.
    #[error("{0:?} is too large for a document")]
    TooLarge(String),
    /// A document cannot be read.
    #[error("{name:?} is malformed")]
    Document {
        /// Its name.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Something is not what its name promises.
    #[error("{name:?} is damaged: its digest is {found}, expected {expected}")]
    WrongDigest {
        /// Its name.
        name: String,
        /// What was promised.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A name that should be a digest is none.
    #[error("{0:?} is no digest")]
    Digest(String, #[source] DigestError),
    /// The config and the manifest do not fit together.
    #[error("invalid manifest, layers length mismatch: expected {expected}, got {found}")]
    LayerCount {
        /// Layers in the config.
        expected: usize,
        /// Layers in the manifest.
        found: usize,
    },
    /// An image of another system.
    #[error("cannot load {0} image on linux")]
    OperatingSystem(String),
    /// An index without an image for this machine.
    #[error("no image for {0} in the archive's index")]
    Platform(String),
    /// Indexes within indexes.
    #[error("the archive's indexes are nested too deep")]
    Nested,
    /// The archive itself cannot be read.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// The stream failed.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive cannot be kept while it is read.
    #[error("cannot keep the archive while it is read")]
    Spool(#[source] SysError),
    /// A document cannot be written.
    #[error("cannot write a document")]
    Write(#[source] serde_json::Error),
    /// The output failed.
    #[error("cannot write the archive")]
    Output(#[source] io::Error),
}

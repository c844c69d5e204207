//! What the user mounts into a container: volumes, host paths, memory; and which of them wins.

use serde::{Deserialize, Serialize};

mod bind;
mod clean;
mod owner;
mod request;
mod settle;
mod source;
pub mod tmpfs;
mod union;

pub use bind::parse_bind;
pub(crate) use bind::volume_name;
pub use clean::clean_path;
pub use owner::HostOwner;
pub use request::{BindOptions, DriverConfig, MountRequest, TmpfsOptions, VolumeOptions};
pub(crate) use settle::check_places;
pub use settle::{Inherited, VolumesFrom, Wishes, settle};
pub(crate) use source::{Missing, check_travel, open_source, settle_branch, settle_sources};
pub use union::branches_of;
pub(crate) use union::{union_of, volume_driver};

/// Something mounted into a container, as its record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MountPoint {
    /// What it is.
    #[serde(rename = "Type")]
    pub kind: MountKind,
    /// The volume's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// On the host; empty for memory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// In the container, absolute and clean.
    pub destination: String,
    /// As typed: `ro`, `z`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// It can be written.
    #[serde(rename = "RW")]
    pub writable: bool,
    /// `rprivate`, `rshared`, `rslave`, …; empty for volumes and memory.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// The volume has no name of the user's: `rm -v` takes it along.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// An empty volume does not get the image's content.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_copy: bool,
    /// A missing path of the host is made when the container starts (`-v`, not `--mount`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub make_source: bool,
    /// Mounts below the source stay behind.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub non_recursive: bool,
    /// What is mounted below a read-only source can be written where it could before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only_top: bool,
    /// Options of memory: `size=…`, `mode=…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// `user:group` on the host whose files are the container's user's inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idmap: Option<HostOwner>,
    /// The container's user by number, where that is needed. Never in a record.
    #[serde(skip)]
    pub inside: Option<HostOwner>,
    /// The source was looked at just now: no link is on the way. Never in a record.
    #[serde(skip)]
    pub settled: bool,
    /// How a volume that does not exist is to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<VolumeOptions>,
}

impl MountPoint {
    /// A mount of this kind at this place, writable, with nothing else said.
    pub fn new(kind: MountKind, source: &str, destination: &str) -> Self {
        Self {
            kind,
            name: String::new(),
            source: source.to_owned(),
            destination: destination.to_owned(),
            mode: String::new(),
            writable: true,
            propagation: match kind {
                MountKind::Bind => "rprivate".to_owned(),
                MountKind::Volume | MountKind::Tmpfs | MountKind::Union => String::new(),
            },
            anonymous: false,
            no_copy: false,
            make_source: false,
            non_recursive: false,
            read_only_top: false,
            options: Vec::new(),
            idmap: None,
            inside: None,
            settled: false,
            volume: None,
        }
    }
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountKind {
    /// A path of the host.
    Bind,
    /// A volume.
    Volume,
    /// Memory.
    Tmpfs,
    /// Several directories of the host as one; `source` names them with their permissions.
    Union,
}

impl MountKind {
    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Volume => "volume",
            Self::Tmpfs => "tmpfs",
            Self::Union => "union",
        }
    }
}

/// Why a mount is refused; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MountError {
    /// Too many or empty parts.
    #[error("invalid volume specification: '{0}'")]
    Specification(String),
    /// A part of the mode is unknown or given twice.
    #[error("invalid mode: {0}")]
    Mode(String),
    /// The mount itself makes no sense.
    #[error("invalid mount config for type \"{kind}\": {fault}")]
    Config {
        /// The type as the user typed it.
        kind: String,
        /// What makes no sense.
        fault: Fault,
    },
    /// The same, of a `-v`.
    #[error(
        "invalid volume specification: '{raw}': invalid mount config for type \"{kind}\": {fault}"
    )]
    Bind {
        /// The `-v` as typed.
        raw: String,
        /// What it was taken for.
        kind: &'static str,
        /// What makes no sense.
        fault: Fault,
    },
    /// A `-v` of several branches.
    #[error("invalid volume specification: '{raw}': {cause}")]
    Union {
        /// The `-v` as typed.
        raw: String,
        /// What makes no sense.
        cause: String,
    },
    /// Two mounts at one place.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// A volume's name.
    #[error(
        "create {0}: \"{0}\" includes invalid characters for a local volume name, only \
         \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use \
         absolute path"
    )]
    VolumeName(String),
    /// A volume's name.
    #[error(
        "create {0}: volume name is too short, names should be at least two alphanumeric characters"
    )]
    VolumeNameShort(String),
    /// An option of memory.
    #[error("invalid tmpfs option [{0}]")]
    TmpfsOption(String),
    /// A place of memory.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    TmpfsPath(String),
    /// A place of memory.
    #[error("invalid specification: destination can't be '/'")]
    TmpfsRoot,
    /// `--volumes-from` of nothing.
    #[error("volumes-from specification cannot be an empty string")]
    NoContainer,
    /// A mount request that cannot be understood.
    #[error("invalid mount request {0}")]
    Request(String),
}

/// What makes no sense in a mount; Docker's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A field is needed.
    #[error("field {0} must not be empty")]
    Missing(&'static str),
    /// A field belongs to another type.
    #[error("field {0} must not be specified")]
    Foreign(&'static str),
    /// A path does not begin with `/`.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Relative(String),
    /// A path of the host does not begin with `/`.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    RelativeSource(String),
    /// The whole root file system.
    #[error("invalid specification: destination can't be '/'")]
    Root,
    /// The host has no such path.
    #[error("bind source path does not exist: {0}")]
    NoSource(String),
    /// No such type.
    #[error("mount type unknown")]
    Kind,
    /// No such propagation.
    #[error("invalid propagation mode: {0}")]
    Propagation(String),
    /// No owner of files.
    #[error("invalid idmap {0:?}: it takes UID or UID:GID of the host")]
    Owner(String),
    /// Branches or options of a union.
    #[error("{0}")]
    Union(String),
    /// A part of a volume that is none.
    #[error("invalid volume-subpath: {0:?} must be a relative path within the volume")]
    Subpath(String),
    /// One option of a bind needs another.
    #[error("option {0} requires {1}")]
    Needs(&'static str, &'static str),
    /// What lies below cannot be both.
    #[error("options ReadOnlyNonRecursive and ReadOnlyForceRecursive contradict each other")]
    Contradiction,
    /// Nobody could ever fill it.
    #[error("must not set ReadOnly mode when using anonymous volumes")]
    ReadOnlyAnonymous,
}

impl From<MountError> for crate::Error {
    fn from(error: MountError) -> Self {
        let failure = Self::invalid(error.to_string());
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl MountError {
    /// What to type instead, where the text does not say it.
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Mode(_) => {
                "a mode is a list of ro or rw, z or Z, nocopy, idmap and a propagation such as \
                 rslave, joined by commas"
            }
            Self::Duplicate(_) => "one destination takes one mount: leave the others out",
            Self::Specification(_) => {
                "-v takes SOURCE:DESTINATION[:MODE], or DESTINATION alone for a new volume"
            }
            Self::TmpfsRoot => "choose a directory of the container, such as /run",
            Self::NoContainer => "--volumes-from takes CONTAINER[:ro|:rw]",
            Self::TmpfsOption(_) => {
                "options of memory are size=, mode=, uid=, gid=, noexec and the like"
            }
            Self::Union { .. } => {
                "a union is PATH=rw:PATH=ro:DESTINATION[:OPTIONS], as 'rbox union mount -o' has them"
            }
            Self::Config { fault, .. } | Self::Bind { fault, .. } => return fault.hint(),
            Self::VolumeName(_)
            | Self::VolumeNameShort(_)
            | Self::TmpfsPath(_)
            | Self::Request(_) => return None,
        };
        Some(hint.to_owned())
    }
}

impl Fault {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Relative(path) => Some(format!(
                "write the whole path inside the container, such as /{path}"
            )),
            Self::RelativeSource(path) => Some(format!(
                "write ./{path} for a path from here, or the whole path on the host"
            )),
            Self::Root => Some("choose a directory of the container, such as /data".to_owned()),
            Self::NoSource(path) => Some(format!(
                "make it first with 'mkdir -p {path}'; -v makes what is missing, --mount does not"
            )),
            Self::Kind => Some("the types are bind, volume, tmpfs and union".to_owned()),
            Self::Union(_) => Some(
                "the keys are those of 'rbox union mount -o', dirs=PATH=rw:PATH=ro before all"
                    .to_owned(),
            ),
            Self::Propagation(_) => Some(format!("it is one of {}", PROPAGATION.join(", "))),
            _ => None,
        }
    }
}

/// The words of propagation.
pub(crate) const PROPAGATION: [&str; 6] = [
    "private", "rprivate", "slave", "rslave", "shared", "rshared",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_says_what_to_type() {
        for (raw, hint) in [
            ("/a:/b:frob", "a mode is a list of"),
            ("/a:b", "such as /b"),
            ("/a:/", "such as /data"),
            ("/a:/b:ro:x", "-v takes SOURCE:DESTINATION"),
            ("/a=rw:/b=ro:/c:frob", "a union is PATH=rw:"),
        ] {
            let error = crate::Error::from(parse_bind(raw).unwrap_err());
            let said = error.hint_text().unwrap_or_default();
            assert!(said.contains(hint), "{raw}: {said}");
        }
    }
}

//! Drivers of volumes, and the options of the local one: content that lies elsewhere (pure).
//!
//! A local volume with options is mounted in each container's own namespace, never on the host: the host's mount
//! table stays as it is. A `tmpfs` volume is therefore each container's own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::union::union_options;

/// Who provides a volume's content.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VolumeDriver {
    /// A directory of its own, or a mount that its options name.
    #[default]
    Local,
    /// Directories of the host, seen as one.
    Union,
}

impl VolumeDriver {
    /// The driver of this name; the empty one is the local driver's, too.
    ///
    /// # Errors
    /// [`DriverError::NoDriver`].
    pub fn named(name: &str) -> Result<Self, DriverError> {
        match name {
            "" | "local" => Ok(Self::Local),
            "union" => Ok(Self::Union),
            _ => Err(DriverError::NoDriver(name.to_owned())),
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Union => "union",
        }
    }

    /// Checks options for this driver.
    ///
    /// # Errors
    /// [`DriverError`].
    pub fn check(self, options: &BTreeMap<String, String>) -> Result<(), DriverError> {
        match self {
            Self::Local => check_options(options),
            Self::Union => union_options(options, Path::new("")).map(drop),
        }
    }

    pub(super) fn is_local(&self) -> bool {
        *self == Self::Local
    }
}

/// Why options are refused; Docker's words, to be put behind `create <name>: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// No such driver.
    #[error("error looking up volume plugin {0}: plugin {0:?} not found")]
    NoDriver(String),
    /// A union without branches.
    #[error("a union volume needs branches: -o dirs=PATH=rw:PATH=ro")]
    NoBranch,
    /// A branch that has no place of its own.
    #[error("branch {0:?} must be an absolute path")]
    Branch(PathBuf),
    /// What the options of a union mean.
    #[error("{0}")]
    Union(String),
    /// No such option.
    #[error("invalid option: {0:?}")]
    Unknown(String),
    /// One option needs another.
    #[error("missing required option: {0:?}")]
    Missing(&'static str),
    /// A host's path that is none.
    #[error("invalid device {0:?}: a bind needs an absolute path")]
    Path(String),
    /// Room that nobody would watch.
    #[error("quota size requested but no quota support")]
    Quota,
    /// What NFS needs.
    #[error("invalid nfs volume: it needs device=:/path and o=addr=ADDRESS")]
    Nfs,
}

impl DriverError {
    /// What to type instead, where the text does not say it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoDriver(_) => Some("the volume drivers are local and union"),
            Self::Union(_) => {
                Some("the options are those of 'rbox union mount -o'; docs/union.md lists them")
            }
            _ => None,
        }
    }
}

/// What is mounted instead of the volume's own directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum DriverMount<'a> {
    /// A directory of the host.
    Bind {
        /// Its path.
        device: &'a str,
        /// Mount options.
        options: Vec<&'a str>,
    },
    /// A file system.
    FileSystem {
        /// `tmpfs`, `nfs`, `ext4`, …
        kind: &'a str,
        /// What is mounted.
        device: &'a str,
        /// Mount options.
        options: Vec<&'a str>,
    },
}

/// Checks `type`, `device` and `o`, the local driver's options.
///
/// # Errors
/// [`DriverError`] in Docker's words.
pub(super) fn check_options(options: &BTreeMap<String, String>) -> Result<(), DriverError> {
    for name in options.keys() {
        if name == "size" {
            return Err(DriverError::Quota);
        }
        if !matches!(name.as_str(), "type" | "device" | "o") {
            return Err(DriverError::Unknown(name.clone()));
        }
    }
    if !options.is_empty() {
        for name in ["device", "type"] {
            if !options.contains_key(name) {
                return Err(DriverError::Missing(name));
            }
        }
    }
    match driver_mount(options) {
        Some(DriverMount::Bind { device, .. }) if !device.starts_with('/') => {
            Err(DriverError::Path(device.to_owned()))
        }
        Some(DriverMount::FileSystem {
            kind: "nfs" | "nfs4",
            device,
            options,
        }) => {
            let address = options
                .iter()
                .find_map(|option| option.strip_prefix("addr="));
            let known = address.is_some_and(|address| address.parse::<IpAddr>().is_ok());
            match known && device.contains(":/") {
                true => Ok(()),
                false => Err(DriverError::Nfs),
            }
        }
        _ => Ok(()),
    }
}

/// What the options come to; `None` without any.
pub(crate) fn driver_mount(options: &BTreeMap<String, String>) -> Option<DriverMount<'_>> {
    let device = options.get("device")?;
    let kind = options.get("type").map_or("none", String::as_str);
    let words = options.get("o").map_or("", String::as_str);
    let options: Vec<&str> = words.split(',').filter(|word| !word.is_empty()).collect();
    let bind = options.iter().any(|word| matches!(*word, "bind" | "rbind"));
    Some(match bind || matches!(kind, "none" | "bind") {
        true => DriverMount::Bind {
            device,
            options: options
                .into_iter()
                .filter(|word| !matches!(*word, "bind" | "rbind"))
                .collect(),
        },
        false => DriverMount::FileSystem {
            kind,
            device,
            options,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> BTreeMap<String, String> {
        let pairs = text
            .split_whitespace()
            .filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_is_refused() {
        for (text, expected) in [
            ("", ""),
            ("type=none device=/x o=bind", ""),
            ("type=tmpfs device=tmpfs o=size=1m,uid=1000", ""),
            ("type=nfs device=:/export o=addr=10.0.0.1,rw", ""),
            ("type=tmpfs device=tmpfs foo=1", "invalid option: \"foo\""),
            (
                "type=nfs4 device=:/export o=addr=nfs.example,rw",
                "invalid nfs volume: it needs device=:/path and o=addr=ADDRESS",
            ),
            ("size=1g", "quota size requested but no quota support"),
            ("type=tmpfs", "missing required option: \"device\""),
            ("device=/x", "missing required option: \"type\""),
            ("o=bind", "missing required option: \"device\""),
            (
                "type=none device=x o=bind",
                "invalid device \"x\": a bind needs an absolute path",
            ),
            (
                "type=nfs device=:/export o=rw",
                "invalid nfs volume: it needs device=:/path and o=addr=ADDRESS",
            ),
            (
                "type=nfs device=/export o=addr=10.0.0.1",
                "invalid nfs volume: it needs device=:/path and o=addr=ADDRESS",
            ),
        ] {
            let got = check_options(&options(text))
                .err()
                .map(|error| error.to_string());
            assert_eq!(got.unwrap_or_default(), expected, "{text}");
        }
    }

    #[test]
    fn what_the_options_come_to() {
        assert_eq!(driver_mount(&options("")), None);
        assert_eq!(
            driver_mount(&options("type=none device=/x o=bind,ro")),
            Some(DriverMount::Bind {
                device: "/x",
                options: vec!["ro"]
            })
        );
        assert_eq!(
            driver_mount(&options("type=tmpfs device=tmpfs o=size=1m")),
            Some(DriverMount::FileSystem {
                kind: "tmpfs",
                device: "tmpfs",
                options: vec!["size=1m"]
            })
        );
    }
}

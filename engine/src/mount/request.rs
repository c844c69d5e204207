//! `--mount` in the form of Docker's API, and what is refused in it.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use super::bind::{place, volume_name};
use super::union::union_mount;
use super::{Fault, MountError, MountKind, MountPoint, PROPAGATION, clean_path};
use crate::volume::union_options;

/// An entry of `HostConfig.Mounts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MountRequest {
    /// `bind`, `volume`, `tmpfs` or, rbox's own, `union`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// A path of the host or a volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// In the container.
    pub target: String,
    /// It cannot be written.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
    /// Accepted, without effect on Linux.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consistency: String,
    /// Only of binds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    /// Only of volumes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// Only of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
    /// Only of unions: the options of a union mount, a key each.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub union_options: BTreeMap<String, String>,
}

/// Options of a bind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct BindOptions {
    /// `rprivate`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub propagation: String,
    /// Mounts below the source stay behind.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub non_recursive: bool,
    /// A read-only bind leaves what is mounted below as it is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only_non_recursive: bool,
    /// A read-only bind that cannot be read-only all the way down is refused: so is ours always.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_only_force_recursive: bool,
    /// `uid:gid` on the host whose files are the container's user's inside.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub idmap: String,
}

impl BindOptions {
    /// What Docker asks of the words for read-only mounts.
    fn check(&self, read_only: bool) -> Result<(), Fault> {
        let propagation = self.propagation.as_str();
        match (self.read_only_non_recursive, self.read_only_force_recursive) {
            (true, true) => Err(Fault::Contradiction),
            (true, _) if !read_only => Err(Fault::Needs("ReadOnlyNonRecursive", "ReadOnly")),
            (_, true) if !read_only => Err(Fault::Needs("ReadOnlyForceRecursive", "ReadOnly")),
            (_, true) if propagation != "rprivate" => Err(Fault::Needs(
                "ReadOnlyForceRecursive",
                "Propagation rprivate",
            )),
            _ => Ok(()),
        }
    }
}

/// Options of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Do not fill it from the image.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_copy: bool,
    /// A part of the volume is mounted instead of all of it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subpath: String,
    /// Labels of a volume that is made.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Driver of a volume that is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_config: Option<DriverConfig>,
}

/// Driver of a volume that is made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DriverConfig {
    /// `local`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `type`, `device`, `o`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Options of memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// Bytes; 0 is the kernel's choice.
    #[serde(skip_serializing_if = "is_zero")]
    pub size_bytes: i64,
    /// Permissions of the root; 0 is 1777.
    #[serde(skip_serializing_if = "is_zero_mode")]
    pub mode: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero_mode(number: &u32) -> bool {
    *number == 0
}

impl MountRequest {
    /// Reads an entry of `HostConfig.Mounts`.
    ///
    /// # Errors
    /// When it has not the form of one.
    pub fn from_json(value: &serde_json::Value) -> Result<Self, MountError> {
        Self::deserialize(value).map_err(|error| MountError::Request(format!("{value}: {error}")))
    }

    /// Checks the request; a bind's source has to exist.
    ///
    /// # Errors
    /// [`MountError`] in Docker's words.
    pub fn mount_point(&self) -> Result<MountPoint, MountError> {
        let made = match self.kind.as_str() {
            "bind" => self.bind(),
            "volume" => return self.volume(),
            "tmpfs" => self.tmpfs(),
            "union" => self.union(),
            _ => Err(Fault::Kind),
        };
        made.map_err(|fault| self.wrong(fault))
    }

    fn wrong(&self, fault: Fault) -> MountError {
        MountError::Config {
            kind: self.kind.clone(),
            fault,
        }
    }

    fn place(&self) -> Result<String, Fault> {
        if self.target.is_empty() {
            return Err(Fault::Missing("Target"));
        }
        place(&self.target)
    }

    fn bind(&self) -> Result<MountPoint, Fault> {
        let destination = self.place()?;
        if self.source.is_empty() {
            return Err(Fault::Missing("Source"));
        }
        let options = self.bind_options.clone().unwrap_or_default();
        if !options.propagation.is_empty() && !PROPAGATION.contains(&&*options.propagation) {
            return Err(Fault::Propagation(options.propagation));
        }
        if self.volume_options.is_some() {
            return Err(Fault::Foreign("VolumeOptions"));
        }
        options.check(self.read_only)?;
        if !self.source.starts_with('/') {
            return Err(Fault::RelativeSource(self.source.clone()));
        }
        if Path::new(&self.source).symlink_metadata().is_err() {
            return Err(Fault::NoSource(self.source.clone()));
        }
        let mut mount = MountPoint::new(MountKind::Bind, &clean_path(&self.source), &destination);
        mount.writable = !self.read_only;
        mount.non_recursive = options.non_recursive;
        mount.read_only_top = options.read_only_non_recursive;
        if !options.idmap.is_empty() {
            mount.idmap = Some(options.idmap.parse()?);
        }
        if !options.propagation.is_empty() {
            mount.propagation = options.propagation;
        }
        Ok(mount)
    }

    fn volume(&self) -> Result<MountPoint, MountError> {
        let destination = self.place().map_err(|fault| self.wrong(fault))?;
        if self.bind_options.is_some() {
            return Err(self.wrong(Fault::Foreign("BindOptions")));
        }
        if self.source.is_empty() && self.read_only {
            return Err(self.wrong(Fault::ReadOnlyAnonymous));
        }
        let mut mount = MountPoint::new(MountKind::Volume, "", &destination);
        if self.source.is_empty() {
            mount.anonymous = true;
        } else {
            mount.name = volume_name(&self.source)?;
        }
        let part = self
            .volume_options
            .as_ref()
            .map_or("", |options| &options.subpath);
        let leaves = Path::new(part)
            .components()
            .any(|component| !matches!(component, Component::Normal(_) | Component::CurDir));
        if leaves {
            return Err(self.wrong(Fault::Subpath(part.to_owned())));
        }
        "z".clone_into(&mut mount.mode);
        mount.writable = !self.read_only;
        mount.no_copy = self
            .volume_options
            .as_ref()
            .is_some_and(|options| options.no_copy);
        mount.volume = self.volume_options.clone();
        Ok(mount)
    }

    fn union(&self) -> Result<MountPoint, Fault> {
        let destination = self.place()?;
        for (given, name) in [
            (!self.source.is_empty(), "Source"),
            (self.bind_options.is_some(), "BindOptions"),
            (self.volume_options.is_some(), "VolumeOptions"),
            (self.tmpfs_options.is_some(), "TmpfsOptions"),
        ] {
            if given {
                return Err(Fault::Foreign(name));
            }
        }
        let options = union_options(&self.union_options, Path::new(""));
        let options = options.map_err(|error| Fault::Union(error.to_string()))?;
        union_mount(&options, &destination, !self.read_only)
    }

    fn tmpfs(&self) -> Result<MountPoint, Fault> {
        let destination = self.place()?;
        if self.bind_options.is_some() {
            return Err(Fault::Foreign("BindOptions"));
        }
        if self.volume_options.is_some() {
            return Err(Fault::Foreign("VolumeOptions"));
        }
        if !self.source.is_empty() {
            return Err(Fault::Foreign("Source"));
        }
        let mut mount = MountPoint::new(MountKind::Tmpfs, "", &destination);
        mount.writable = !self.read_only;
        if let Some(options) = &self.tmpfs_options {
            if options.mode != 0 {
                mount.options.push(format!("mode={:o}", options.mode));
            }
            if options.size_bytes != 0 {
                mount.options.push(format!("size={}", options.size_bytes));
            }
        }
        Ok(mount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<MountPoint, String> {
        MountRequest::from_json(&value)
            .and_then(|request| request.mount_point())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn each_type_keeps_what_was_asked() {
        let bind = read(
            json!({"Type": "bind", "Source": "/tmp/", "Target": "/d", "ReadOnly": true,
            "BindOptions": {"Propagation": "rslave"}}),
        )
        .unwrap();
        assert_eq!(
            (
                &*bind.source,
                bind.writable,
                &*bind.propagation,
                bind.make_source
            ),
            ("/tmp", false, "rslave", false)
        );
        let volume = read(json!({"Type": "volume", "Source": "data", "Target": "/d",
            "VolumeOptions": {"NoCopy": true, "Labels": {"a": "b"}}}))
        .unwrap();
        assert_eq!(
            (&*volume.name, &*volume.mode, volume.no_copy),
            ("data", "z", true)
        );
        assert!(
            read(json!({"Type": "volume", "Target": "/d"}))
                .unwrap()
                .anonymous
        );
        let tmpfs = read(json!({"Type": "tmpfs", "Target": "/d",
            "TmpfsOptions": {"SizeBytes": 1_048_576, "Mode": 448}}))
        .unwrap();
        assert_eq!(tmpfs.options, ["mode=700", "size=1048576"]);
        let union = read(json!({"Type": "union", "Target": "/d", "ReadOnly": true,
            "UnionOptions": {"create": "mfs", "dirs": "/a:/b=ro+wh"}}))
        .unwrap();
        assert_eq!(
            (&*union.source, &union.options, union.writable),
            ("/a=rw:/b=ro+wh", &vec!["create=mfs".to_owned()], false)
        );
    }

    #[test]
    fn what_is_refused_in_dockers_words() {
        for (value, text) in [
            (
                json!({"Type": "bind", "Source": "/nosuch", "Target": "/d"}),
                "invalid mount config for type \"bind\": bind source path does not exist: /nosuch",
            ),
            (
                json!({"Type": "foo", "Target": "/d"}),
                "invalid mount config for type \"foo\": mount type unknown",
            ),
            (
                json!({"Type": "bind", "Target": "/d"}),
                "invalid mount config for type \"bind\": field Source must not be empty",
            ),
            (
                json!({"Type": "tmpfs", "Source": "x", "Target": "/d"}),
                "invalid mount config for type \"tmpfs\": field Source must not be specified",
            ),
            (
                json!({"Type": "union", "Target": "/d"}),
                "invalid mount config for type \"union\": a union volume needs branches: \
                 -o dirs=PATH=rw:PATH=ro",
            ),
            (
                json!({"Type": "union", "Target": "/d", "UnionOptions": {"dirs": "/a\\:b=rw"}}),
                "invalid mount config for type \"union\": branch \"/a:b\" holds a colon",
            ),
            (
                json!({"Type": "volume", "Target": "/"}),
                "invalid mount config for type \"volume\": invalid specification: destination \
                 can't be '/'",
            ),
            (
                json!({"Type": "volume", "Target": "d"}),
                "invalid mount config for type \"volume\": invalid mount path: 'd' mount path \
                 must be absolute",
            ),
            (
                json!({"Type": "volume", "Target": "/d", "BindOptions": {}}),
                "invalid mount config for type \"volume\": field BindOptions must not be specified",
            ),
        ] {
            assert_eq!(read(value.clone()).unwrap_err(), text, "{value}");
        }
        assert!(
            read(json!({"Type": 1}))
                .unwrap_err()
                .starts_with("invalid mount request")
        );
    }
}

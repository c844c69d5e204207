//! `-v`: `source:destination[:mode]`, a path of the host or a volume's name.

use super::union::{branches_of, parse_union};
use super::{Fault, HostOwner, MountError, MountKind, MountPoint, PROPAGATION, clean_path};
use crate::name::is_name;

/// Reads one entry of `HostConfig.Binds`. A volume's `source` stays empty: where it lies is not
/// known here.
///
/// # Errors
/// [`MountError`] in Docker's words.
pub fn parse_bind(raw: &str) -> Result<MountPoint, MountError> {
    if branches_of(raw) > 1 {
        return parse_union(raw);
    }
    let specification = || MountError::Specification(raw.to_owned());
    let parts: Vec<&str> = raw.split(':').collect();
    let (source, destination, mode) = match parts[..] {
        // a place and a mode only: volumes without a name take no mode
        [_, second] if Mode::parse(second).is_some() => return Err(specification()),
        [source, destination] => (source, destination, ""),
        [source, destination, mode] => (source, destination, mode),
        _ => return Err(specification()),
    };
    if source.is_empty() || destination.is_empty() {
        return Err(specification());
    }
    let words = Mode::parse(mode).ok_or_else(|| MountError::Mode(mode.to_owned()))?;
    let kind = match source.starts_with('/') {
        true => MountKind::Bind,
        false => MountKind::Volume,
    };
    let fault = |fault| MountError::Bind {
        raw: raw.to_owned(),
        kind: kind.as_str(),
        fault,
    };
    let destination = place(destination).map_err(fault)?;
    let mut mount = MountPoint::new(kind, "", &destination);
    mount.writable = !words.read_only;
    match kind {
        MountKind::Bind => {
            if words.no_copy {
                return Err(fault(Fault::Foreign("VolumeOptions")));
            }
            mount.source = clean_path(source);
            mount.make_source = true;
            mode.clone_into(&mut mount.mode);
            mount.idmap = words.owner;
            if let Some(propagation) = words.propagation {
                propagation.clone_into(&mut mount.propagation);
            }
        }
        MountKind::Volume | MountKind::Tmpfs | MountKind::Union => {
            if words.propagation.is_some() || words.owner.is_some() {
                return Err(fault(Fault::Foreign("BindOptions")));
            }
            mount.name = volume_name(source)?;
            mount.no_copy = words.no_copy;
            mount.mode = if mode.is_empty() { "z" } else { mode }.to_owned();
        }
    }
    Ok(mount)
}

/// A destination: absolute, not the root, clean.
pub(super) fn place(destination: &str) -> Result<String, Fault> {
    if !destination.starts_with('/') {
        return Err(Fault::Relative(destination.to_owned()));
    }
    match clean_path(destination) {
        root if root == "/" => Err(Fault::Root),
        clean => Ok(clean),
    }
}

/// A volume's name.
pub(crate) fn volume_name(name: &str) -> Result<String, MountError> {
    if name.len() == 1 {
        return Err(MountError::VolumeNameShort(name.to_owned()));
    }
    if !is_name(name) {
        return Err(MountError::VolumeName(name.to_owned()));
    }
    Ok(name.to_owned())
}

/// The words of a mode.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) read_only: bool,
    pub(super) no_copy: bool,
    pub(super) propagation: Option<&'static str>,
    pub(super) owner: Option<HostOwner>,
}

impl Mode {
    /// `None` where a word is unknown or two of one sort are given.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut mode = Self::default();
        let (mut access, mut label, mut copy, mut consistency) = (0, 0, 0, 0);
        for word in text.split(',').filter(|_| !text.is_empty()) {
            match word {
                "ro" | "rw" => {
                    access += 1;
                    mode.read_only = word == "ro";
                }
                "z" | "Z" => label += 1,
                "nocopy" => {
                    copy += 1;
                    mode.no_copy = true;
                }
                "cached" | "delegated" | "consistent" => consistency += 1,
                word if word.starts_with("idmap=") => {
                    let owner = word.strip_prefix("idmap=")?.parse().ok()?;
                    if mode.owner.replace(owner).is_some() {
                        return None;
                    }
                }
                word => {
                    let known = PROPAGATION.into_iter().find(|known| *known == word)?;
                    if mode.propagation.replace(known).is_some() {
                        return None;
                    }
                }
            }
        }
        [access, label, copy, consistency]
            .iter()
            .all(|count| *count <= 1)
            .then_some(mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted() {
        for (raw, kind, from, destination, mode, writable, propagation) in [
            (
                "/src:/dst",
                MountKind::Bind,
                "/src",
                "/dst",
                "",
                true,
                "rprivate",
            ),
            (
                "/s/../src/:/dst/:ro",
                MountKind::Bind,
                "/src",
                "/dst",
                "ro",
                false,
                "rprivate",
            ),
            (
                "/src:/dst:rw,z,rshared",
                MountKind::Bind,
                "/src",
                "/dst",
                "rw,z,rshared",
                true,
                "rshared",
            ),
            (
                "/src:/dst:cached",
                MountKind::Bind,
                "/src",
                "/dst",
                "cached",
                true,
                "rprivate",
            ),
            (
                "data:/dst",
                MountKind::Volume,
                "data",
                "/dst",
                "z",
                true,
                "",
            ),
            (
                "data:/dst:ro",
                MountKind::Volume,
                "data",
                "/dst",
                "ro",
                false,
                "",
            ),
            (
                "data:/dst:nocopy",
                MountKind::Volume,
                "data",
                "/dst",
                "nocopy",
                true,
                "",
            ),
        ] {
            let mount = parse_bind(raw).unwrap();
            let got = if kind == MountKind::Bind {
                &mount.source
            } else {
                &mount.name
            };
            assert_eq!(mount.kind, kind, "{raw}");
            assert_eq!(got, from, "{raw}");
            assert_eq!(mount.destination, destination, "{raw}");
            assert_eq!(mount.mode, mode, "{raw}");
            assert_eq!(mount.writable, writable, "{raw}");
            assert_eq!(mount.propagation, propagation, "{raw}");
            assert_eq!(mount.no_copy, raw.contains("nocopy"), "{raw}");
        }
    }

    #[test]
    fn what_is_refused_in_dockers_words() {
        for (raw, text) in [
            ("/a:/b:foo", "invalid mode: foo"),
            ("/a:/b:ro,rw", "invalid mode: ro,rw"),
            ("/a:/b:z,Z", "invalid mode: z,Z"),
            ("/a:/b:shared,rslave", "invalid mode: shared,rslave"),
            ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
            ("/a:ro", "invalid volume specification: '/a:ro'"),
            (":/a", "invalid volume specification: ':/a'"),
            (
                "/a:b",
                "invalid volume specification: '/a:b': invalid mount config for type \"bind\": \
                 invalid mount path: 'b' mount path must be absolute",
            ),
            (
                "aaa:/",
                "invalid volume specification: 'aaa:/': invalid mount config for type \"volume\": \
                 invalid specification: destination can't be '/'",
            ),
            (
                "/a:/x/..",
                "invalid volume specification: '/a:/x/..': invalid mount config for type \"bind\": \
                 invalid specification: destination can't be '/'",
            ),
            (
                "rel/path:/x",
                "create rel/path: \"rel/path\" includes invalid characters for a local volume \
                 name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a \
                 host directory, use absolute path",
            ),
            (
                "x:/d",
                "create x: volume name is too short, names should be at least two alphanumeric \
                 characters",
            ),
            (
                "data:/d:rshared",
                "invalid volume specification: 'data:/d:rshared': invalid mount config for type \
                 \"volume\": field BindOptions must not be specified",
            ),
            (
                "/a:/d:nocopy",
                "invalid volume specification: '/a:/d:nocopy': invalid mount config for type \
                 \"bind\": field VolumeOptions must not be specified",
            ),
        ] {
            assert_eq!(parse_bind(raw).unwrap_err().to_string(), text, "{raw}");
        }
    }
}

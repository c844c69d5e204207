//! `-v A=rw:B=ro:/data[:OPTIONS]`: several directories of the host as one, by a union mount (pure).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use overlayfs::union::options::{OptionError, Options, Permission};
use overlayfs::union::places::{escape, replace_places};

use super::bind::place;
use super::{Fault, MountError, MountKind, MountPoint, clean_path};
use crate::volume::{VolumeDriver, kept_words, union_text};

/// How many leading fields of a `-v` are branches: paths with permissions. From two on it is a union.
pub fn branches_of(raw: &str) -> usize {
    raw.split(':')
        .take_while(|field| branch(field).is_some())
        .count()
}

/// A field as path and permission.
fn branch(field: &str) -> Option<(&str, &str)> {
    let (path, permission) = field.rsplit_once('=')?;
    (path.contains('/') && Permission::parse(permission).is_ok()).then_some((path, permission))
}

/// Reads a `-v` of several branches: its source are these, its options those of the union.
///
/// # Errors
/// [`MountError`]: a branch or the destination is not absolute, an option is unknown.
pub(super) fn parse_union(raw: &str) -> Result<MountPoint, MountError> {
    let fields: Vec<&str> = raw.split(':').collect();
    let (sources, rest) = fields.split_at(branches_of(raw));
    let wrong = |cause: String| MountError::Union {
        raw: raw.to_owned(),
        cause,
    };
    let (destination, words) = match rest {
        [destination] => (*destination, String::new()),
        // values of options may hold colons themselves: create=mfsrr:1G
        [destination, words @ ..] => (*destination, words.join(":")),
        [] => return Err(MountError::Specification(raw.to_owned())),
    };
    let destination = place(destination).map_err(|fault| wrong(fault.to_string()))?;
    let mut branches = Vec::new();
    for (path, permission) in sources.iter().filter_map(|field| branch(field)) {
        if !path.starts_with('/') {
            return Err(wrong(format!("branch {path:?} must be an absolute path")));
        }
        branches.push(format!("{}={permission}", clean_path(path)));
    }
    let mut mount = MountPoint::new(MountKind::Union, &branches.join(":"), &destination);
    mount.writable = !words.split(',').any(|word| word == "ro");
    mount.mode.clone_from(&words);
    mount.options = words
        .split(',')
        .filter(|word| !matches!(*word, "" | "ro" | "rw"))
        .map(str::to_owned)
        .collect();
    let options =
        Options::parse(&union_options(&mount)).map_err(|error| wrong(error.to_string()))?;
    if options.changes.len() != 1 || options.remount {
        return Err(wrong("branches stand before the destination".to_owned()));
    }
    Ok(mount)
}

/// A union of these options, as they are kept, at a place of the container.
pub(super) fn union_mount(
    options: &BTreeMap<String, String>,
    destination: &str,
    writable: bool,
) -> Result<MountPoint, Fault> {
    let wrong = |error: OptionError| Fault::Union(error.to_string());
    let parsed = Options::parse(&union_text(options)).map_err(wrong)?;
    let mut branches = Vec::new();
    for (at, branch) in parsed.branches.iter().enumerate() {
        let path = branch.path.display().to_string();
        if path.contains(':') {
            return Err(Fault::Union(format!("branch {path:?} holds a colon")));
        }
        let default = if at == 0 { "rw" } else { "ro" };
        let given = branch.permission.map(|given| given.to_string());
        branches.push(format!("{path}={}", given.as_deref().unwrap_or(default)));
    }
    let mut mount = MountPoint::new(MountKind::Union, &branches.join(":"), destination);
    mount.writable = writable;
    let others = options
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "dirs" | "br"));
    mount.options = others
        .map(|(name, value)| match value.as_str() {
            "" => name.clone(),
            value => format!("{name}={value}"),
        })
        .collect();
    Ok(mount)
}

/// What the union of such a mount is mounted with.
fn union_options(mount: &MountPoint) -> String {
    let branches: Vec<String> = fields(mount)
        .map(|(path, permission)| format!("{}={permission}", escape(Path::new(path))))
        .collect();
    let mut words = vec![format!("dirs={}", branches.join(":"))];
    words.extend(mount.options.iter().cloned());
    words.join(",")
}

/// The branches of a `-v`, each with its permission.
fn fields(mount: &MountPoint) -> impl Iterator<Item = (&str, &str)> {
    mount.source.split(':').filter_map(branch)
}

/// Branches and settings of a mount that is a union, or a volume of that driver.
pub(crate) fn union_of(mount: &MountPoint) -> Option<String> {
    match mount.kind {
        MountKind::Union => Some(union_options(mount)),
        MountKind::Volume => {
            let driver = mount.volume.as_ref()?.driver_config.as_ref()?;
            let is_union = driver.name == VolumeDriver::Union.as_str();
            is_union.then(|| union_text(&driver.options))
        }
        MountKind::Bind | MountKind::Tmpfs => None,
    }
}

/// The name of the driver behind a mount; empty where it is no volume.
pub(crate) fn volume_driver(mount: &MountPoint) -> &'static str {
    match mount.kind {
        MountKind::Volume if union_of(mount).is_some() => VolumeDriver::Union.as_str(),
        MountKind::Volume => VolumeDriver::Local.as_str(),
        MountKind::Bind | MountKind::Tmpfs | MountKind::Union => "",
    }
}

/// Replaces the path of every branch of such a mount.
pub(super) fn replace_branches<E>(
    mount: &mut MountPoint,
    mut change: impl FnMut(&Path) -> Result<PathBuf, E>,
) -> Result<(), E> {
    if mount.kind == MountKind::Union {
        let mut branches = Vec::new();
        for (path, permission) in fields(mount) {
            let path = change(Path::new(path))?;
            branches.push(format!("{}={permission}", path.display()));
        }
        mount.source = branches.join(":");
        return Ok(());
    }
    let text = union_of(mount);
    let driver = mount.volume.as_mut();
    let driver = driver.and_then(|volume| volume.driver_config.as_mut());
    if let (Some(text), Some(driver)) = (text, driver) {
        driver.options = kept_words(&replace_places(&text, change)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_accepted() {
        let mount = parse_union("/a/=rw:/b/../c=ro:/data:create=mfsrr:1G,udba=none,ro").unwrap();
        assert_eq!(mount.kind, MountKind::Union);
        assert_eq!(mount.source, "/a=rw:/c=ro");
        assert_eq!(mount.destination, "/data");
        assert_eq!(mount.options, ["create=mfsrr:1G", "udba=none"]);
        assert!(!mount.writable);
        assert_eq!(
            union_options(&mount),
            "dirs=/a=rw:/c=ro,create=mfsrr:1G,udba=none"
        );
        let odd = parse_union("/a,b=c=rw:/c=ro:/data").unwrap();
        assert_eq!(union_options(&odd), "dirs=/a\\,b\\=c=rw:/c=ro");
        assert!(parse_union("/a=rw:/b=ro+wh:/c=rw:/data").unwrap().writable);
    }

    #[test]
    fn what_is_no_union() {
        for (raw, branches) in [
            ("/a:/b", 0),
            ("/a=b:/data", 0),
            ("/a=rw:/data", 1),
            ("data=rw:/data", 0),
            ("/a=rw:/b=ro:/data", 2),
        ] {
            assert_eq!(branches_of(raw), branches, "{raw}");
        }
    }

    #[test]
    fn what_is_refused() {
        for (raw, cause) in [
            ("/a=rw:/b=ro", "invalid volume specification: '/a=rw:/b=ro'"),
            (
                "/a=rw:./b=ro:/data",
                "invalid volume specification: '/a=rw:./b=ro:/data': branch \"./b\" must be an \
                 absolute path",
            ),
            (
                "/a=rw:/b=ro:data",
                "invalid volume specification: '/a=rw:/b=ro:data': invalid mount path: 'data' \
                 mount path must be absolute",
            ),
            (
                "/a=rw:/b=ro:/data:frob",
                "invalid volume specification: '/a=rw:/b=ro:/data:frob': unknown option \"frob\"",
            ),
            (
                "/a=rw:/b=ro:/data:append=/c",
                "invalid volume specification: '/a=rw:/b=ro:/data:append=/c': branches stand \
                 before the destination",
            ),
        ] {
            assert_eq!(parse_union(raw).unwrap_err().to_string(), cause);
        }
    }
}

//! `-v A=rw:B=ro:/data[:OPTIONS]`: several directories of the host as one, by a union mount (pure).

use std::path::{Path, PathBuf};

use overlayfs::union::options::{Options, Permission};

use super::bind::place;
use super::{MountError, MountKind, MountPoint, clean_path};

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

/// What the union of such a mount is mounted with.
pub(crate) fn union_options(mount: &MountPoint) -> String {
    let mut words = vec![format!("dirs={}", mount.source)];
    words.extend(mount.options.iter().cloned());
    words.join(",")
}

/// The branches' directories, and which of them may be written.
pub(crate) fn branch_paths(mount: &MountPoint) -> Vec<(PathBuf, bool)> {
    let fields = mount.source.split(':').filter_map(branch);
    fields
        .map(|(path, permission)| {
            let writable = Permission::parse(permission).is_ok_and(|one| one.is_writable());
            (Path::new(path).to_owned(), writable)
        })
        .collect()
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
        assert_eq!(
            branch_paths(&mount),
            [("/a".into(), true), ("/c".into(), false)]
        );
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

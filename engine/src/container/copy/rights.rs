//! Where nothing may be put (pure): a read-only root, a read-only volume.

use std::path::Path;

use crate::error::{Error, Result};
use crate::store::Record;

/// Refuses to write at a path without links, by what the user asked for when he made the
/// container.
pub(super) fn check(record: &Record, path: &Path) -> Result<()> {
    let deepest = record
        .mounts
        .iter()
        .filter(|mount| path.starts_with(&mount.destination))
        .max_by_key(|mount| mount.destination.len());
    let in_memory = record
        .host
        .tmpfs
        .keys()
        .any(|place| path.starts_with(place));
    match deepest {
        Some(mount) if !mount.writable => Err(Error::invalid("mounted volume is marked read-only")),
        None if record.host.readonly_rootfs && !in_memory => {
            Err(Error::invalid("container rootfs is marked read-only"))
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mount::{MountKind, MountPoint};
    use crate::store::record::tests::record;

    #[test]
    fn the_deepest_mount_decides() {
        let mut record = record("web");
        record.mounts = [("/v", true), ("/v/ro", false), ("/v/ro/rw", true)]
            .map(|(place, writable)| MountPoint {
                writable,
                ..MountPoint::new(MountKind::Volume, "", place)
            })
            .into();
        record.host.tmpfs.insert("/tmp".to_owned(), String::new());
        let volume = Some("mounted volume is marked read-only");
        let root = Some("container rootfs is marked read-only");
        for (path, read_only, expected) in [
            ("/v", true, None),
            ("/v/ro", false, volume),
            ("/v/ro/x", true, volume),
            ("/v/ro/rw/x", true, None),
            ("/v/rox", true, None),
            ("/vx", true, root),
            ("/vx", false, None),
            ("/tmp/x", true, None),
            ("/", true, root),
        ] {
            record.host.readonly_rootfs = read_only;
            let refused = check(&record, Path::new(path)).map_err(|error| error.to_string());
            assert_eq!(refused.err().as_deref(), expected, "{path} {read_only}");
        }
    }
}

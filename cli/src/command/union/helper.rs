//! The mount helper: what `mount -t aufs` and fstab call, by a link to this program.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use overlayfs::union::{Helper, MountRequest, UnionError, change, mount};

use crate::error::{Failure, Result};

/// What mount(8) expects of a helper that did not mount.
const MOUNT_FAILED: u8 = 32;

/// Whether the program was called by the name of a mount helper.
pub(crate) fn is_called(program: &OsStr) -> Option<String> {
    let name = Path::new(program).file_name()?.to_str()?;
    let kind = name.strip_prefix("mount.")?;
    matches!(
        kind,
        "aufs" | "rbox-union" | "fuse.rbox-union" | "fuse.aufs" | "fuse"
    )
    .then(|| name.to_owned())
}

/// Mounts or remounts as mount(8) asks.
pub(crate) fn run(name: &str, arguments: &[OsString]) -> Result<()> {
    carry_out(arguments).map_err(|error| {
        Failure::coded(
            MOUNT_FAILED,
            format!("{name}: {}", sys::error::with_causes(&error)),
        )
    })
}

fn carry_out(arguments: &[OsString]) -> std::result::Result<(), UnionError> {
    let helper = Helper::parse(
        &arguments
            .iter()
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>(),
    )?;
    if helper.options.remount {
        return change(&helper.target, &helper.text);
    }
    if helper.dry {
        return Ok(());
    }
    mount(&MountRequest {
        options: helper.options,
        target: helper.target,
        source: helper.source,
        foreground: false,
    })?;
    Ok(())
}

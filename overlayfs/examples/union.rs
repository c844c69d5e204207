//! Mounts a union without the rest of rbox: `union [-f] -o OPTIONS MOUNTPOINT`.

use std::error::Error;
use std::path::PathBuf;

use overlayfs::union::options::Options;
use overlayfs::union::{MountRequest, mount};

fn main() -> Result<(), Box<dyn Error>> {
    let mut options = Options::default();
    let mut foreground = false;
    let mut target = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "-f" => foreground = true,
            "-o" => options.add(&arguments.next().unwrap_or_default())?,
            _ => target = Some(PathBuf::from(argument)),
        }
    }
    mount(&MountRequest {
        options,
        target: target.ok_or("a mount point must be given")?,
        source: "none".to_owned(),
        foreground,
    })?;
    Ok(())
}

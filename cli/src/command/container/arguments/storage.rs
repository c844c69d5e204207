//! Flags about mounts and volumes.

use std::collections::BTreeMap;
use std::path::Path;

use clap::Args;
use engine::config::{Config, HostConfig};
use engine::volume::{union_options, union_text};

use super::{refuse_given, some};
use crate::error::{Failure, Result};
use crate::option::{mount, volume};

/// Flags about mounts and volumes.
#[derive(Debug, Clone, Args)]
pub(crate) struct StorageArgs {
    /// Attach a filesystem mount to the container
    #[arg(long, value_name = "mount", value_parser = mount::parse)]
    pub(crate) mount: Vec<serde_json::Value>,
    /// Mount the container's root filesystem as read only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Use directories as one root filesystem, above the image (PATH=rw:PATH=ro[,OPTION...])
    #[arg(long, value_name = "string")]
    pub(crate) rootfs_union: Option<String>,
    /// Storage driver options for the container
    #[arg(long, value_name = "list")]
    pub(crate) storage_opt: Vec<String>,
    /// Mount a tmpfs directory
    #[arg(long, value_name = "list")]
    pub(crate) tmpfs: Vec<String>,
    /// Bind mount a volume
    #[arg(short, long, value_name = "list")]
    pub(crate) volume: Vec<String>,
    /// Optional volume driver for the container
    #[arg(long, value_name = "string")]
    pub(crate) volume_driver: Option<String>,
    /// Mount volumes from the specified container(s)
    #[arg(long, value_name = "list")]
    pub(crate) volumes_from: Vec<String>,
}

impl StorageArgs {
    /// Puts mounts and volumes into the request; relative sources begin from `here`.
    pub(super) fn fill(
        &self,
        config: &mut Config,
        host: &mut HostConfig,
        here: &Path,
    ) -> Result<()> {
        let volumes = volume::gather(&self.volume, here)?;
        host.binds = some(&volumes.binds);
        if !volumes.anonymous.is_empty() {
            config.volumes = Some(volumes.anonymous);
        }
        for mount in &self.mount {
            let mut mount = mount.clone();
            mount::absolute(&mut mount, here)?;
            host.mounts.push(mount);
        }
        if let Some(branches) = &self.rootfs_union {
            host.rootfs_union = root(branches, here)?;
        }
        host.tmpfs = self.tmpfs.iter().map(|word| mount::tmpfs(word)).collect();
        host.volumes_from = some(&self.volumes_from);
        host.readonly_rootfs = self.read_only;
        if let Some(driver) = &self.volume_driver {
            driver.clone_into(&mut host.volume_driver);
        }
        Ok(())
    }

    /// Refuses what rbox does not have.
    pub(super) fn refuse(&self) -> Result<()> {
        let driver = self.volume_driver.as_deref();
        refuse_given(&[
            (
                !self.storage_opt.is_empty(),
                "storage-opt",
                "writable layers have no size of their own",
            ),
            (
                driver.is_some_and(|name| !matches!(name, "" | "local")),
                "volume-driver",
                "volumes of other drivers are made by 'rbox volume create -d union' or --mount",
            ),
        ])
    }
}

/// The branches of a root, relative ones from `here`.
fn root(branches: &str, here: &Path) -> Result<String> {
    let asked = BTreeMap::from([("dirs".to_owned(), branches.to_owned())]);
    union_options(&asked, here)
        .map(|options| union_text(&options))
        .map_err(|error| {
            Failure::said(format!(
                "invalid argument {branches:?} for --rootfs-union: {error}"
            ))
            .hint("it takes PATH=rw:PATH=ro[,OPTIONS], as 'rbox union mount -o dirs=' does")
        })
}

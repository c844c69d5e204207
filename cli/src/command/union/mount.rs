//! `rbox union mount`: shows several directories as one.

use std::path::PathBuf;

use clap::Args;
use overlayfs::union::options::Options;
use overlayfs::union::{MountRequest, UnionError, mount};

use super::only;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<MountArgs>(
    "[OPTIONS] MOUNTPOINT",
    "Mount a union of directories",
    &["union mount"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct MountArgs {
    /// Serve in the foreground
    #[arg(short, long)]
    foreground: bool,
    /// Branches and settings, as in dirs=A=rw:B=ro,create=mfs
    #[arg(short, long = "options", value_name = "list")]
    options: Vec<String>,
}

impl Verb for MountArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        let mut options = Options::default();
        for text in &self.options {
            options.add(text).map_err(UnionError::from)?;
        }
        mount(&MountRequest {
            options,
            target: PathBuf::from(only(plain)?),
            source: "none".to_owned(),
            foreground: self.foreground,
        })?;
        Ok(())
    }
}

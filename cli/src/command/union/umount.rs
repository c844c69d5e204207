//! `rbox union umount`: ends a union; its server ends with it.

use std::path::Path;

use clap::Args;
use overlayfs::union::unmount;

use super::only;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<UmountArgs>(
    "[OPTIONS] MOUNTPOINT",
    "Unmount a union",
    &["union umount"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct UmountArgs {
    /// Take it out of sight now, end it when its last user goes
    #[arg(short, long)]
    lazy: bool,
}

impl Verb for UmountArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        unmount(Path::new(&only(plain)?), self.lazy)?;
        Ok(())
    }
}

//! `rbox union mode`: changes what may be done to a branch.

use std::path::Path;

use clap::Args;
use overlayfs::union::change;

use super::escaped;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ModeArgs>(
    "MOUNTPOINT BRANCH PERMISSION",
    "Change the permission of a branch of a mounted union",
    &["union mode"],
    Count::Exactly(3),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ModeArgs {}

impl Verb for ModeArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        let text = format!("mod:{}={}", escaped(&plain[1]), plain[2]);
        change(Path::new(&plain[0]), &text)?;
        Ok(())
    }
}

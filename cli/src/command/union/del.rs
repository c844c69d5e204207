//! `rbox union del`: takes a branch out of a mounted union.

use std::path::Path;

use clap::Args;
use overlayfs::union::change;

use super::escaped;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<DelArgs>(
    "MOUNTPOINT BRANCH",
    "Remove a branch from a mounted union",
    &["union del"],
    Count::Exactly(2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct DelArgs {}

impl Verb for DelArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        change(Path::new(&plain[0]), &format!("del:{}", escaped(&plain[1])))?;
        Ok(())
    }
}

//! `rbox union add`: puts a branch into a mounted union.

use std::path::Path;

use clap::Args;
use overlayfs::union::change;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<AddArgs>(
    "[OPTIONS] MOUNTPOINT BRANCH[=PERMISSION]",
    "Add a branch to a mounted union",
    &["union add"],
    Count::Exactly(2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    /// Place among the branches, 0 for the top (default last)
    #[arg(short, long, value_name = "int")]
    index: Option<usize>,
}

impl Verb for AddArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        let (target, branch) = (&plain[0], &plain[1]);
        let text = match self.index {
            Some(index) => format!("add:{index}:{branch}"),
            None => format!("append:{branch}"),
        };
        change(Path::new(target), &text)?;
        Ok(())
    }
}

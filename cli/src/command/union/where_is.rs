//! `rbox union where`: says which branches have a path; the first serves it.

use std::io::{self, Write as _};
use std::path::Path;

use clap::Args;
use overlayfs::union::where_is;

use super::only;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<WhereArgs>(
    "PATH",
    "Show which branches have a path, the one that serves it first",
    &["union where"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct WhereArgs {}

impl Verb for WhereArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        let mut out = io::stdout().lock();
        for branch in where_is(Path::new(&only(plain)?))? {
            writeln!(out, "{}", branch.display())?;
        }
        Ok(())
    }
}

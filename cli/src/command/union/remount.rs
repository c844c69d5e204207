//! `rbox union remount`: changes a mounted union.

use std::path::Path;

use clap::Args;
use overlayfs::union::change;

use super::only;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RemountArgs>(
    "[OPTIONS] MOUNTPOINT",
    "Change branches and settings of a mounted union",
    &["union remount"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RemountArgs {
    /// What to change, as in add:1:/x=ro,del:/y,create=rr
    #[arg(short, long = "options", value_name = "list")]
    options: Vec<String>,
}

impl Verb for RemountArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        change(Path::new(&only(plain)?), &self.options.join(","))?;
        Ok(())
    }
}

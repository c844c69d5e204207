//! `rbox union flush-links`: makes every name of a copied hard-linked file a name of the copy.

use std::path::Path;

use clap::Args;
use overlayfs::union::flush_links;

use super::only;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<FlushLinksArgs>(
    "MOUNTPOINT",
    "Make all names of copied files hard links, so that branches can go",
    &["union flush-links"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct FlushLinksArgs {}

impl Verb for FlushLinksArgs {
    fn run(self, _context: &Context, plain: Vec<String>) -> Result<()> {
        let target = only(plain)?;
        match flush_links(Path::new(&target))? {
            0 => Ok(()),
            stay => Err(Failure::said(format!(
                "union: {target}: {stay} hard-linked files have names above the branch of their copy, \
                 or copies in branches that are not written: they stay as they are"
            ))),
        }
    }
}

//! `rbox diff`: what a container's processes changed in its file system.

use std::io::{self, BufWriter, Write as _};

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<DiffArgs>(
    "CONTAINER",
    "Inspect changes to files or directories on a container's filesystem",
    &["container diff", "diff"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {}

impl Verb for DiffArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        if plain[0].is_empty() {
            return Err(Failure::said("Container name cannot be empty"));
        }
        let engine = context.engine()?;
        let id = engine.resolve(&plain[0])?;
        let mut out = BufWriter::new(io::stdout().lock());
        for change in engine.diff(&id)? {
            writeln!(out, "{change}")?;
        }
        out.flush()?;
        Ok(())
    }
}

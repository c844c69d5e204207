//! `rbox network inspect`: everything about networks.

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::command::{FORMAT_OBJECT, inspect};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<InspectArgs>(
    "[OPTIONS] NETWORK [NETWORK...]",
    "Display detailed information on one or more networks",
    &[],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(short, long, value_name = "string", help = FORMAT_OBJECT)]
    format: Option<String>,
    /// Verbose output for diagnostics
    #[arg(short, long)]
    verbose: bool,
}

impl Verb for InspectArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        // verbose adds what only a swarm has
        inspect::show(self.format.as_deref(), &plain, |name| {
            super::document(&engine, name)
        })
    }
}

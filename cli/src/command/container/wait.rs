//! `rbox wait`: waits for containers to end and prints what they ended with.

use std::io::Write as _;

use clap::Args;

use super::each::each_quietly;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<WaitArgs>(
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    &["container wait", "wait"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct WaitArgs {}

impl Verb for WaitArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        each_quietly(&plain, |word| {
            let id = engine.resolve(word)?;
            let code = engine.wait(&id)?;
            writeln!(std::io::stdout(), "{code}")?;
            Ok(())
        })
    }
}

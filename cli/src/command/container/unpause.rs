//! `rbox unpause`: lets them go on.

use clap::Args;

use super::each::each;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<UnpauseArgs>(
    "CONTAINER [CONTAINER...]",
    "Unpause all processes within one or more containers",
    &["container unpause", "unpause"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct UnpauseArgs {}

impl Verb for UnpauseArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        each(&engine, &plain, |id| Ok(engine.unpause(id)?))
    }
}

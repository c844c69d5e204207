//! `rbox pause`: freezes every process of containers.

use clap::Args;

use super::each::each;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<PauseArgs>(
    "CONTAINER [CONTAINER...]",
    "Pause all processes within one or more containers",
    &["container pause", "pause"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {}

impl Verb for PauseArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        each(&engine, &plain, |id| Ok(engine.pause(id)?))
    }
}

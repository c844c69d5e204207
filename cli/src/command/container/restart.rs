//! `rbox restart`: stops and starts containers.

use clap::Args;

use super::each::each;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;
use crate::option::number;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RestartArgs>(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Restart one or more containers",
    &["container restart", "restart"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RestartArgs {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
    /// Seconds to wait before killing the container
    #[arg(short, long, alias = "time", value_name = "int", value_parser = number::integer)]
    timeout: Option<i64>,
}

impl Verb for RestartArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        each(&engine, &plain, |id| {
            engine.restart(id, self.signal.as_deref(), self.timeout)?;
            Ok(())
        })
    }
}

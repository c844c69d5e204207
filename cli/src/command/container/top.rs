//! `rbox top`: the processes of a container.

use std::fmt::Write as _;

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;
use crate::output::table;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<TopArgs>(
    "CONTAINER [ps OPTIONS]",
    "Display the running processes of a container",
    &["container top", "top"],
    Count::AtLeast(1),
)
.flags_first();

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {}

impl Verb for TopArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let id = engine.resolve(&plain[0])?;
        let processes = engine.top(&id, &plain[1..])?;
        let mut text = format!("{}\n", processes.titles.join("\t"));
        for process in &processes.processes {
            let _ = writeln!(text, "{}", process.join("\t"));
        }
        table::write(&mut std::io::stdout().lock(), &text, 20)?;
        Ok(())
    }
}

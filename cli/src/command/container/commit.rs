//! `rbox commit`: makes an image of a container.

use std::io::Write as _;

use clap::Args;
use engine::container::commit::CommitOptions;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<CommitArgs>(
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    "Create a new image from a container's changes",
    &["container commit", "commit"],
    Count::Between(1, 2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct CommitArgs {
    #[arg(
        short,
        long,
        value_name = "string",
        help = "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")"
    )]
    author: Option<String>,
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Commit message
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Pause container during commit (default true)
    #[arg(short, long, default_value = "true")]
    pause: bool,
}

impl Verb for CommitArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let id = engine.resolve(&plain[0])?;
        let options = CommitOptions {
            name: plain.get(1).filter(|name| !name.is_empty()).cloned(),
            author: self.author.unwrap_or_default(),
            message: self.message.unwrap_or_default(),
            changes: self.change,
            pause: self.pause,
        };
        let image = engine.commit(&id, options)?;
        writeln!(std::io::stdout(), "{image}")?;
        Ok(())
    }
}

//! `rbox rm`: removes containers.

use std::io::Write as _;

use clap::Args;
use engine::container::remove::RemoveOptions;

use super::each::each_quietly;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result, tell};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RmArgs>(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Remove one or more containers",
    &["container rm", "container remove", "rm"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Force the removal of a running container (uses SIGKILL)
    #[arg(short, long)]
    force: bool,
    /// Remove the specified link
    #[arg(short, long)]
    link: bool,
    /// Remove anonymous volumes associated with the container
    #[arg(short, long)]
    volumes: bool,
}

impl Verb for RmArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let options = RemoveOptions {
            force: self.force,
            volumes: self.volumes,
            link: self.link,
        };
        each_quietly(&plain, |word| {
            if word.trim_matches('/').is_empty() {
                return Err(Failure::said("Container name cannot be empty"));
            }
            match engine.remove(word, options) {
                Ok(()) => writeln!(std::io::stdout(), "{word}")?,
                // Docker says so and ends with 0
                Err(error) if self.force && error.kind() == engine::ErrorKind::NotFound => {
                    if let Failure::Said(message) = Failure::from(error) {
                        tell(&message)?;
                    }
                }
                Err(error) => return Err(error.into()),
            }
            Ok(())
        })
    }
}

//! `rbox network rm`: removes networks that no running container is on.

use std::io::Write as _;

use clap::Args;
use engine::ErrorKind;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result, tell};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RmArgs>(
    "NETWORK [NETWORK...]",
    "Remove one or more networks",
    &["network rm", "network remove"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Do not error if the network does not exist
    #[arg(short, long)]
    force: bool,
}

impl Verb for RmArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let mut failed = false;
        for name in &plain {
            match engine.remove_network(name) {
                Ok(_) => writeln!(std::io::stdout(), "{name}")?,
                Err(error) if self.force && error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    failed = true;
                    match Failure::from(error) {
                        Failure::Said(message) => tell(&message)?,
                        other => return Err(other),
                    }
                }
            }
        }
        if failed {
            // Docker's last word
            writeln!(std::io::stderr(), "exit status 1")?;
            return Err(Failure::Status(1));
        }
        Ok(())
    }
}

//! `rbox volume rm`: removes volumes that no container uses.

use std::io::Write as _;

use clap::Args;
use engine::ErrorKind;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result, tell};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RmArgs>(
    "[OPTIONS] VOLUME [VOLUME...]",
    "Remove one or more volumes",
    &["volume rm", "volume remove"],
    Count::AtLeast(1),
)
.help_text("Remove one or more volumes. You cannot remove a volume that is in use by a container.");

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Force the removal of one or more volumes
    #[arg(short, long)]
    force: bool,
}

impl Verb for RmArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let mut failed = false;
        for name in &plain {
            match engine.store().remove_volume(name) {
                Ok(()) => writeln!(std::io::stdout(), "{name}")?,
                Err(error) if self.force && error.kind() == ErrorKind::NotFound => {
                    writeln!(std::io::stdout(), "{name}")?;
                }
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
            Err(Failure::Status(1))
        } else {
            Ok(())
        }
    }
}

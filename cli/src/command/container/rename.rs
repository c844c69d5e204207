//! `rbox rename`: gives a container another name.

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result, tell};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RenameArgs>(
    "CONTAINER NEW_NAME",
    "Rename a container",
    &["container rename", "rename"],
    Count::Exactly(2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RenameArgs {}

impl Verb for RenameArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let (old, new) = (plain[0].trim(), plain[1].trim());
        if old.is_empty() || new.is_empty() {
            return Err(Failure::said(
                "Error: Neither old nor new names may be empty",
            ));
        }
        let engine = context.engine()?;
        let renamed = engine.rename(old, new).map_err(Failure::from);
        if let Err(Failure::Said(message)) = renamed {
            tell(&message)?;
            return Err(Failure::said(format!(
                "Error: failed to rename container named {old}"
            )));
        }
        Ok(())
    }
}

//! `rbox network disconnect`: takes a container off a network.

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<DisconnectArgs>(
    "[OPTIONS] NETWORK CONTAINER",
    "Disconnect a container from a network",
    &[],
    Count::Exactly(2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct DisconnectArgs {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
}

impl Verb for DisconnectArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        // with or without force: what a dead container left on a network is cleared up by any
        // command, this one included
        let Self { force: _ } = self;
        context.engine()?.disconnect_network(&plain[0], &plain[1])?;
        Ok(())
    }
}

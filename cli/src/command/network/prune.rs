//! `rbox network prune`: removes networks that no running container is on.

use clap::Args;
use engine::Engine;
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::command::prune::{self, Filters};
use crate::context::Context;
use crate::error::Result;
use crate::option::filter;

/// The command.
pub(crate) static LEAF: Leaf =
    Leaf::new::<PruneArgs>("[OPTIONS]", "Remove all unused networks", &[], Count::None);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    #[arg(
        long,
        value_name = "filter",
        value_parser = filter::parse,
        help = "Provide filter values (e.g. \"until=<timestamp>\")"
    )]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Verb for PruneArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        let filters = Filters::parse(&self.filter, Timestamp::now())?;
        let warning = "This will remove all custom networks not used by at least one container.";
        if !prune::confirmed(self.force, warning)? {
            return Ok(());
        }
        prune::list("Deleted Networks", &unused(&context.engine()?, &filters)?)
    }
}

/// Removes them; their names.
pub(crate) fn unused(engine: &Engine, filters: &Filters) -> Result<Vec<String>> {
    let wanted = |network: &engine::network::Network| {
        filters.admits(network.created.timestamp(), &network.labels)
    };
    let removed = engine.prune_networks(wanted)?;
    Ok(removed.into_iter().map(|network| network.name).collect())
}

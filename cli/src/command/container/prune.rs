//! `rbox container prune`: removes all containers that do not run.

use clap::Args;
use engine::Engine;
use engine::container::list::ListRequest;
use engine::container::remove::RemoveOptions;
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::command::prune::{self, Filters};
use crate::context::Context;
use crate::error::Result;
use crate::option::filter;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<PruneArgs>(
    "[OPTIONS]",
    "Remove all stopped containers",
    &[],
    Count::None,
);

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
        if !prune::confirmed(self.force, "This will remove all stopped containers.")? {
            return Ok(());
        }
        let (deleted, bytes) = all(&context.engine()?, &filters)?;
        prune::report("Deleted Containers", &deleted, bytes)
    }
}

/// Removes them; their ids and how much room they took.
pub(crate) fn all(engine: &Engine, filters: &Filters) -> Result<(Vec<String>, u64)> {
    let request = ListRequest {
        all: true,
        size: true,
        ..ListRequest::default()
    };
    let (mut deleted, mut bytes) = (Vec::new(), 0);
    for container in engine.list(&request)? {
        let goes = filters.admits(container.created.timestamp(), &container.labels);
        if container.status.is_running() || !goes {
            continue;
        }
        engine.remove(container.id.as_str(), RemoveOptions::default())?;
        deleted.push(container.id.to_string());
        bytes += container.size.map_or(0, |sizes| sizes.writable);
    }
    Ok((deleted, bytes))
}

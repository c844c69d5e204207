//! `rbox volume prune`: removes volumes that no container uses.

use clap::Args;
use engine::Engine;
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::command::prune::{self, Filters};
use crate::command::system::df::bytes_below;
use crate::context::Context;
use crate::error::{DAEMON, Failure, Result};
use crate::option::filter;

/// The command.
pub(crate) static LEAF: Leaf =
    Leaf::new::<PruneArgs>("[OPTIONS]", "Remove unused local volumes", &[], Count::None);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused volumes, not just anonymous ones
    #[arg(short, long)]
    all: bool,
    #[arg(long, value_name = "filter", value_parser = filter::parse, help = "Provide filter values (e.g. \"label=<label>\")")]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
}

impl Verb for PruneArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        if self.filter.iter().any(|(name, _)| name == "until") {
            return Err(Failure::said(format!("{DAEMON}Invalid filter 'until'")));
        }
        let (everything, others): (Vec<_>, Vec<_>) =
            self.filter.into_iter().partition(|(name, _)| name == "all");
        let mut all = self.all;
        for (_, value) in everything {
            all |= match value.as_str() {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => {
                    let text = format!("{DAEMON}Invalid filter 'all=[{value}]'");
                    return Err(Failure::said(text));
                }
            };
        }
        let filters = Filters::parse(&others, Timestamp::now())?;
        let warning = if all {
            "This will remove all local volumes not used by at least one container."
        } else {
            "This will remove anonymous local volumes not used by at least one container."
        };
        if !prune::confirmed(self.force, warning)? {
            return Ok(());
        }
        let (deleted, bytes) = unused(&context.engine()?, all, &filters)?;
        prune::report("Deleted Volumes", &deleted, bytes)
    }
}

/// Removes anonymous volumes, or with `all` also named ones, that no container uses.
pub(crate) fn unused(engine: &Engine, all: bool, filters: &Filters) -> Result<(Vec<String>, u64)> {
    let wanted = |volume: &engine::volume::Volume| {
        let record = &volume.record;
        (all || record.anonymous) && filters.admits(record.created_at.timestamp(), &record.labels)
    };
    let used = super::used(engine)?;
    let mut sizes = std::collections::BTreeMap::new();
    for volume in engine.store().all_volumes()? {
        if wanted(&volume) && !used.contains(&volume.name) {
            sizes.insert(volume.name.clone(), bytes_below(&volume.data)?);
        }
    }
    let removed = engine.store().prune_volumes(wanted)?;
    let names: Vec<String> = removed.into_iter().map(|volume| volume.name).collect();
    let bytes = names.iter().filter_map(|name| sizes.get(name)).sum();
    Ok((names, bytes))
}

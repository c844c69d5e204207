//! `rbox system prune`: removes what nothing uses.

use clap::Args;
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::command::prune::{self, Filters};
use crate::command::{container, image, network, volume};
use crate::context::Context;
use crate::error::Result;
use crate::option::filter;

/// The command.
pub(crate) static LEAF: Leaf =
    Leaf::new::<PruneArgs>("[OPTIONS]", "Remove unused data", &[], Count::None);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused images not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[arg(
        long,
        value_name = "filter",
        value_parser = filter::parse,
        help = "Provide filter values (e.g. \"label=<key>=<value>\")"
    )]
    filter: Vec<(String, String)>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    force: bool,
    /// Prune anonymous volumes
    #[arg(long)]
    volumes: bool,
}

impl Verb for PruneArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        let filters = Filters::parse(&self.filter, Timestamp::now())?;
        let what = if self.all {
            "all images without at least one container associated to them"
        } else {
            "all dangling images"
        };
        let volumes = match self.volumes {
            true => "  - all anonymous volumes not used by at least one container\n",
            false => "",
        };
        let warning = format!(
            "This will remove:\n  - all stopped containers\n  - all networks not used by at least one container\n{volumes}  - {what}\n"
        );
        if !prune::confirmed(self.force, &warning)? {
            return Ok(());
        }
        let engine = context.engine()?;
        let (containers, mut freed) = container::prune::all(&engine, &filters)?;
        prune::list("Deleted Containers", &containers)?;
        prune::list(
            "Deleted Networks",
            &network::prune::unused(&engine, &filters)?,
        )?;
        if self.volumes {
            let (volumes, bytes) = volume::prune::unused(&engine, false, &filters)?;
            prune::list("Deleted Volumes", &volumes)?;
            freed += bytes;
        }
        let look = image::look(&engine);
        let (images, more) = image::prune::unused(&engine.images(), &look, self.all, &filters)?;
        prune::list("Deleted Images", &images)?;
        prune::total(freed + more)
    }
}

//! `rbox image prune`: removes images that nothing uses.

use std::collections::HashSet;

use clap::Args;
use image::remove::{Look, Removed};
use image::store::{ImageError, ImageStore};
use jiff::Timestamp;

use crate::app::{Count, Leaf, Verb};
use crate::command::image::look;
use crate::command::prune::{self, Filters};
use crate::context::Context;
use crate::error::Result;
use crate::option::filter;

/// The command.
pub(crate) static LEAF: Leaf =
    Leaf::new::<PruneArgs>("[OPTIONS]", "Remove unused images", &[], Count::None);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct PruneArgs {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
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
        let warning = if self.all {
            "This will remove all images without at least one container associated to them."
        } else {
            "This will remove all dangling images."
        };
        if !prune::confirmed(self.force, warning)? {
            return Ok(());
        }
        let engine = context.engine()?;
        let (deleted, bytes) = unused(&engine.images(), &look(&engine), self.all, &filters)?;
        prune::report("Deleted Images", &deleted, bytes)
    }
}

/// Removes images without a name, or with `all` every image that no container was made from.
pub(crate) fn unused(
    images: &ImageStore,
    look: Look<'_>,
    all: bool,
    filters: &Filters,
) -> Result<(Vec<String>, u64)> {
    let used: HashSet<_> = look()?.iter().map(|user| user.image).collect();
    let before = bytes(images)?;
    let mut deleted = Vec::new();
    for summary in images.list()? {
        let image = &summary.image;
        let created = image
            .config
            .created
            .as_deref()
            .and_then(|text| text.parse().ok());
        let labels = image.config.config.labels.clone().unwrap_or_default();
        let goes = (all || summary.tags.is_empty())
            && !used.contains(&image.id)
            && filters.admits(created.unwrap_or(Timestamp::UNIX_EPOCH), &labels);
        if !goes {
            continue;
        }
        let removed = match images.remove(&image.id.to_string(), true, look) {
            // others were committed on it, or it went with the last that was
            Err(ImageError::Conflict(_) | ImageError::NotFound(_)) => continue,
            other => other?,
        };
        for removed in removed {
            deleted.push(match removed {
                Removed::Untagged(name) => format!("untagged: {}", name.familiar()),
                Removed::Image(id) => format!("deleted: {id}"),
                Removed::Layer(id) => format!("deleted: {id}"),
            });
        }
    }
    Ok((deleted, before.saturating_sub(bytes(images)?)))
}

/// What all layers take, each counted once.
pub(crate) fn bytes(images: &ImageStore) -> Result<u64> {
    let layers: HashSet<_> = images
        .list()?
        .into_iter()
        .flat_map(|summary| summary.image.layers)
        .collect();
    let mut sum = 0;
    for layer in layers {
        sum += images
            .layers()
            .layer(layer)
            .map_err(image::store::ImageError::from)?
            .size;
    }
    Ok(sum)
}

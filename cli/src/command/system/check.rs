//! `rbox system check`: compares what lies on the disk with what was recorded.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use clap::Args;
use engine::Engine;
use image::store::{ImageError, ImageStore};
use sys::error::with_causes;

use crate::app::{Count, Leaf, Verb};
use crate::command::image::users;
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<CheckArgs>(
    "[OPTIONS]",
    "Compare images, layers and containers with what was recorded",
    &[],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Read every file of every layer and compare digests
    #[arg(long)]
    contents: bool,
    /// Remove what crashes left and layers that nothing stands on
    #[arg(long)]
    repair: bool,
}

impl Verb for CheckArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let images = engine.images();
        let found = look(&engine, &images, self.contents)?;
        let mut out = io::stdout().lock();
        for damage in &found.damages {
            writeln!(out, "{damage}")?;
        }
        writeln!(
            out,
            "{} images, {} layers, {} containers checked, {} damaged",
            found.images,
            found.layers,
            found.containers,
            found.damages.len()
        )?;
        if self.repair {
            // with a damaged record nobody can tell what is unused
            let removed = if found.damages.is_empty() {
                engine.store().sweep()?;
                images.collect(&users(&engine)?)?.len()
            } else {
                0
            };
            writeln!(out, "{removed} unused layers removed")?;
        }
        if found.damages.is_empty() {
            return Ok(());
        }
        out.flush()?;
        Err(Failure::said("what rbox stores is damaged").hint(
            "remove a damaged image with 'rbox rmi -f IMAGE' and load it again; remove a damaged container with 'rbox rm -f CONTAINER'",
        ))
    }
}

/// What a look at everything found.
#[derive(Debug, Default)]
struct Found {
    images: usize,
    layers: usize,
    containers: usize,
    damages: Vec<String>,
}

fn look(engine: &Engine, images: &ImageStore, contents: bool) -> Result<Found> {
    let mut found = Found::default();
    let mut layers = BTreeSet::new();
    for id in images.ids()? {
        found.images += 1;
        match images.get(id) {
            Ok(image) => layers.extend(image.layers),
            Err(error @ ImageError::Step { .. }) => return Err(error.into()),
            Err(error) => found
                .damages
                .push(format!("image {id}: {}", with_causes(&error))),
        }
    }
    for id in engine.store().ids()? {
        found.containers += 1;
        match engine.store().load(&id) {
            Ok(container) => layers.extend(container.record.layers),
            // removed while we look
            Err(error) if error.kind() == engine::ErrorKind::NotFound => found.containers -= 1,
            Err(error) => found
                .damages
                .push(format!("container {id}: {}", with_causes(&error))),
        }
    }
    let layers: Vec<_> = layers.into_iter().collect();
    found.layers = layers.len();
    let damaged = images
        .layers()
        .check(&layers, contents)
        .map_err(ImageError::from)?;
    found.damages.extend(
        damaged
            .iter()
            .map(|damage| format!("layer {}: {}", damage.layer, damage.what)),
    );
    Ok(found)
}

//! `rbox tag`: gives an image a further name.

use clap::Args;
use image::reference::Reference;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<TagArgs>(
    "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
    &["image tag", "tag"],
    Count::Exactly(2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {}

impl Verb for TagArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let (source, target) = (&plain[0], &plain[1]);
        target.parse::<Reference>().map_err(|error| {
            Failure::said(format!(
                "Error parsing reference: {target:?} is not a valid repository/tag: {error}"
            ))
        })?;
        let store = context.images()?;
        store.tag(source, target)?;
        Ok(())
    }
}

//! `rbox rmi`: takes names of images away, and the images when that was the last.

use std::io::{self, Write as _};

use clap::Args;
use image::store::ImageError;

use crate::app::{Count, Leaf, Verb};
use crate::command::image::look;
use crate::context::Context;
use crate::error::{Failure, Result, tell};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RmiArgs>(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Remove one or more images",
    &["image rm", "image remove", "rmi"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RmiArgs {
    /// Force removal of the image
    #[arg(short, long)]
    force: bool,
    /// Do not delete untagged parents
    #[arg(long)]
    no_prune: bool,
    #[arg(
        long,
        value_name = "strings",
        help = "Remove only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")"
    )]
    platform: Vec<String>,
}

impl Verb for RmiArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let images = engine.images();
        let look = look(&engine);
        let mut failed = false;
        for name in &plain {
            let removed = match self.no_prune {
                true => images.remove_alone(name, self.force, &look),
                false => images.remove(name, self.force, &look),
            };
            match removed {
                Ok(removed) => {
                    let mut out = io::stdout().lock();
                    for line in removed {
                        writeln!(out, "{line}")?;
                    }
                }
                Err(error) => {
                    // Docker says that an image is not there, and with -f calls that success
                    failed |= !(self.force && matches!(error, ImageError::NotFound(_)));
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

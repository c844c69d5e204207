//! `rbox image inspect`: everything about images.

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::command::image::refuse_platform;
use crate::command::{FORMAT_OBJECT, inspect};
use crate::context::Context;
use crate::error::Result;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<InspectArgs>(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Display detailed information on one or more images",
    &[],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    #[arg(short, long, value_name = "string", help = FORMAT_OBJECT)]
    format: Option<String>,
    #[arg(
        long,
        value_name = "string",
        help = "Inspect a specific platform of the multi-platform image.\nIf the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"
    )]
    platform: Option<String>,
}

impl Verb for InspectArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        refuse_platform(self.platform.as_deref())?;
        let images = context.images()?;
        inspect::show(self.format.as_deref(), &plain, |word| {
            inspect::image(&images, word)
        })
    }
}

//! `rbox import`: makes an image from the tar archive of a root file system.

use std::fs::File;
use std::io::{self, Read, Write as _};

use clap::Args;
use image::import::ImportRequest;
use image::reference::Reference;

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result, file};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ImportArgs>(
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    &["image import", "import"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Apply Dockerfile instruction to the created image
    #[arg(short, long, value_name = "list")]
    change: Vec<String>,
    /// Set commit message for imported image
    #[arg(short, long, value_name = "string")]
    message: Option<String>,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<String>,
}

impl Verb for ImportArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let source = &plain[0];
        if source.starts_with("http://") || source.starts_with("https://") {
            return Err(Failure::said("rbox does not fetch archives from URLs")
                .hint(format!("fetch it first: curl -L {source} | rbox import -")));
        }
        if let Some(name) = plain.get(1).filter(|name| !name.is_empty()) {
            name.parse::<Reference>()
                .map_err(|error| Failure::said(error.to_string()))?;
        }
        let archive: Box<dyn Read + Send> = if source == "-" {
            Box::new(io::stdin())
        } else {
            let opened =
                File::open(source).map_err(|error| Failure::said(file("open", source, &error)))?;
            Box::new(opened)
        };
        let request = ImportRequest {
            name: plain.get(1).filter(|name| !name.is_empty()).cloned(),
            changes: self.change,
            message: self.message,
            // Docker's command line sends the archive itself
            source: "-".to_owned(),
            platform: self.platform.filter(|platform| !platform.is_empty()),
        };
        let id = context.images()?.import(archive, &request)?;
        writeln!(io::stdout(), "{id}")?;
        Ok(())
    }
}

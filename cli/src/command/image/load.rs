//! `rbox load`: takes images out of an archive.

use std::io;
use std::path::Path;

use clap::Args;
use image::load::Loaded;
use image::store::ImageError;

use crate::app::{Count, Leaf, Verb};
use crate::command::image::refuse_platform;
use crate::context::Context;
use crate::error::{Failure, Result, file};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<LoadArgs>(
    "[OPTIONS]",
    "Load an image from a tar archive or STDIN",
    &["image load", "load"],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct LoadArgs {
    /// Read from tar archive file, instead of STDIN
    #[arg(short, long, value_name = "string")]
    input: Option<String>,
    #[arg(
        long,
        value_name = "string",
        help = "Load only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")"
    )]
    platform: Option<String>,
    /// Suppress the load output
    #[arg(short, long)]
    quiet: bool,
}

impl Verb for LoadArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        refuse_platform(self.platform.as_deref())?;
        let images = context.images()?;
        let loaded = match self.input.as_deref() {
            Some(input) if !input.is_empty() && input != "-" => {
                let path = Path::new(input);
                // said before the store is touched, in Docker's words
                std::fs::File::open(path)
                    .map_err(|error| Failure::said(file("open", input, &error)))?;
                images.load_path(path).map_err(unreadable)?
            }
            _ if sys::pty::is_terminal(io::stdin()) => {
                return Err(
                    Failure::said("requested load from stdin, but stdin is empty")
                        .hint("give the archive: 'rbox load -i FILE' or 'rbox load < FILE'"),
                );
            }
            _ => images.load(io::stdin()).map_err(unreadable)?,
        };
        let mut out = io::stdout().lock();
        for one in &loaded {
            tell(&mut out, one)?;
        }
        Ok(())
    }
}

/// What is no archive of images may be one of files.
fn unreadable(error: ImageError) -> Failure {
    let archive = matches!(error, ImageError::Archive(_));
    let failure = Failure::from(error);
    if archive {
        failure.hint(
            "load takes what 'rbox save' and 'docker save' write and OCI layouts; an archive of a \
             root file system is taken by 'rbox import FILE NAME'",
        )
    } else {
        failure
    }
}

fn tell(out: &mut impl io::Write, loaded: &Loaded) -> io::Result<()> {
    let Some(name) = &loaded.name else {
        return writeln!(out, "Loaded image ID: {}", loaded.image);
    };
    let name = name.familiar();
    if let Some(old) = &loaded.replaced {
        writeln!(
            out,
            "The image {name} already exists, renaming the old one with ID {old} to empty string"
        )?;
    }
    writeln!(out, "Loaded image: {name}")
}

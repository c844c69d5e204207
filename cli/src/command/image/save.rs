//! `rbox save`: writes images into an archive.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::command::image::refuse_platform;
use crate::context::Context;
use crate::error::{Failure, Result, file, io_words};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<SaveArgs>(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    &["image save", "save"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
    #[arg(
        long,
        value_name = "string",
        help = "Save only the given platform variant. Formatted as \"os[/arch[/variant]]\" (e.g., \"linux/amd64\")"
    )]
    platform: Option<String>,
}

impl Verb for SaveArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        refuse_platform(self.platform.as_deref())?;
        let images = context.images()?;
        match self.output.as_deref().filter(|output| !output.is_empty()) {
            Some(output) => whole("failed to save image", output, |archive| {
                Ok(images.save(&plain, archive)?)
            }),
            None if sys::pty::is_terminal(io::stdout()) => Err(Failure::said(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            )),
            None => {
                let mut out = BufWriter::new(io::stdout().lock());
                images.save(&plain, &mut out)?;
                out.flush()?;
                Ok(())
            }
        }
    }
}

/// Writes a file beside its place and puts it there only when it is whole; `what` failed otherwise.
pub(crate) fn whole(
    what: &str,
    path: &str,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<()>,
) -> Result<()> {
    let folder = match Path::new(path).parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    if let Err(error) = fs::metadata(folder) {
        return Err(Failure::said(format!(
            "{what}: invalid output path: stat {}: {}",
            folder.display(),
            io_words(&error)
        )));
    }
    let aside = format!("{path}.{}.part", std::process::id());
    let wrong = |verb: &str, error: &io::Error| {
        Failure::said(format!("{what}: {}", file(verb, path, error)))
    };
    let opened = File::create_new(&aside).map_err(|error| wrong("open", &error))?;
    let mut archive = BufWriter::new(opened);
    let written = write(&mut archive)
        .and_then(|()| archive.flush().map_err(|error| wrong("write", &error)))
        .and_then(|()| fs::rename(&aside, path).map_err(|error| wrong("rename", &error)));
    if written.is_err() {
        // what is left of a failed save is worth nothing
        let _ = fs::remove_file(&aside);
    }
    written
}

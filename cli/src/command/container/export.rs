//! `rbox export`: writes a container's file system into an archive.

use std::io::{self, Write as _};

use clap::Args;

use crate::app::{Count, Leaf, Verb};
use crate::command::image::save::whole;
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ExportArgs>(
    "[OPTIONS] CONTAINER",
    "Export a container's filesystem as a tar archive",
    &["container export", "export"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Write to a file, instead of STDOUT
    #[arg(short, long, value_name = "string")]
    output: Option<String>,
}

impl Verb for ExportArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let output = self.output.as_deref().filter(|output| !output.is_empty());
        if output.is_none() && sys::pty::is_terminal(io::stdout()) {
            return Err(Failure::said(
                "cowardly refusing to save to a terminal. Use the -o flag or redirect",
            ));
        }
        let engine = context.engine()?;
        let id = engine.resolve(&plain[0])?;
        match output {
            Some(output) => whole("failed to export container", output, |archive| {
                Ok(engine.export(&id, archive)?)
            }),
            None => {
                let mut out = io::stdout().lock();
                engine.export(&id, &mut out)?;
                out.flush()?;
                Ok(())
            }
        }
    }
}

//! `rbox port`: where a container's ports are published.

use std::io::Write as _;

use clap::Args;
use netns::port::{port_lines, port_lines_of};

use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<PortArgs>(
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    "List port mappings or a specific mapping for the container",
    &["container port", "port"],
    Count::Between(1, 2),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct PortArgs {}

impl Verb for PortArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let ports = engine.ports(&plain[0])?;
        let lines = match plain.get(1) {
            None => port_lines(&ports),
            Some(port) => port_lines_of(&ports, &plain[0], port)
                .map_err(|error| Failure::said(format!("Error: {error}")))?,
        };
        let mut out = std::io::stdout().lock();
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(())
    }
}

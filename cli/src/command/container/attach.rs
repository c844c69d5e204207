//! `rbox attach`: takes part in the streams of a running container.

use clap::Args;
use engine::request::SessionEnd;

use super::streams::{Wanted, check_terminal, exit};
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<AttachArgs>(
    "[OPTIONS] CONTAINER",
    "Attach local standard input, output, and error streams to a running container",
    &["container attach", "attach"],
    Count::Exactly(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct AttachArgs {
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Do not attach STDIN
    #[arg(long)]
    no_stdin: bool,
    /// Proxy all received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
}

impl Verb for AttachArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let container = engine.find(&plain[0])?;
        let (status, _) = container.status()?;
        // Docker's command line asks this before the engine is asked to attach
        let restarting = status == engine::store::Status::Restarting;
        if restarting {
            return Err(Failure::said(
                "You cannot attach to a restarting container, wait until it is running",
            ));
        }
        if status == engine::store::Status::Paused {
            return Err(
                Failure::said("You cannot attach to a paused container, unpause it first")
                    .hint(format!("unpause it with 'rbox unpause {}'", plain[0])),
            );
        }
        if !status.is_running() {
            return Err(
                Failure::said("You cannot attach to a stopped container, start it first")
                    .hint(format!("start it with 'rbox start -a {}'", plain[0])),
            );
        }
        let config = &container.record.config;
        let stdin = !self.no_stdin && config.open_stdin;
        check_terminal(stdin, config.tty)?;
        let wanted = Wanted {
            stdin,
            stdout: true,
            stderr: true,
        };
        let proxy = self.sig_proxy && !config.tty;
        let options = wanted.attach(self.detach_keys.as_deref(), proxy)?;
        match engine.attach(container.id(), options)? {
            SessionEnd::Exited(code) => exit(code),
            SessionEnd::Detached => Err(Failure::said("read escape sequence")),
            SessionEnd::Background => Ok(()),
        }
    }
}

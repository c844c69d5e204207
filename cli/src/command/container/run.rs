//! `rbox run`: makes a container, starts it, and stays with it unless told not to.

use std::io::Write as _;

use clap::Args;
use engine::container::remove::RemoveOptions;
use engine::request::{SessionEnd, StartOptions, Started};

use super::arguments::{ContainerArgs, Surroundings};
use super::create::{Pull, create};
use super::streams::{Wanted, check_terminal, exit};
use crate::app::{Count, Leaf, Verb, Voice};
use crate::context::Context;
use crate::error::{Failure, Result};

/// A container that could not be started goes with its volumes.
const REMOVE: RemoveOptions = RemoveOptions {
    force: true,
    volumes: true,
    link: false,
};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<RunArgs>(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create and run a new container from an image",
    &["container run", "run"],
    Count::AtLeast(1),
)
.flags_first()
.voice(Voice::Run);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) container: ContainerArgs,
    /// Run container in background and print container ID
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Pull image before running ("always", "missing", "never") (default "missing")
    #[arg(long, value_name = "string")]
    pub(crate) pull: Option<String>,
    /// Proxy received signals to the process (default true)
    #[arg(long, default_value = "true")]
    sig_proxy: bool,
}

impl Verb for RunArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let pull = Pull::parse(self.pull.as_deref())?;
        let request = self
            .container
            .request(&plain, self.detach, &Surroundings::of_process())?;
        if self.detach && !self.container.process.attach.is_empty() {
            return Err(Failure::said(
                "conflicting options: cannot specify both --attach and --detach",
            )
            .bare());
        }
        let (tty, remove) = (request.config.tty, request.host.auto_remove);
        let wanted = Wanted {
            stdin: request.config.attach_stdin,
            stdout: request.config.attach_stdout,
            stderr: request.config.attach_stderr,
        };
        if !self.detach {
            check_terminal(wanted.stdin, tty).map_err(Failure::bare)?;
        }
        let attach = if self.detach {
            None
        } else {
            Some(wanted.attach(self.detach_keys.as_deref(), self.sig_proxy && !tty)?)
        };
        let engine = context.engine()?;
        let created = create(&engine, request, pull)?;
        let options = StartOptions {
            attach,
            warn: Some(crate::output::warn),
        };
        match engine.start(&created.id, options) {
            Ok(Started::Ended(SessionEnd::Exited(code))) => exit(code),
            Ok(Started::Ended(SessionEnd::Detached | SessionEnd::Background)) => Ok(()),
            Ok(Started::Running | Started::AlreadyRunning) => {
                writeln!(std::io::stdout(), "{}", created.id)?;
                Ok(())
            }
            Err(error) => {
                if self.detach {
                    // whoever keeps what is printed can look at why it did not start
                    writeln!(std::io::stdout(), "{}", created.id)?;
                }
                if remove {
                    // its monitor has removed it, unless it failed before there was one; why it
                    // failed is what matters
                    let _ = engine.remove(created.id.as_str(), REMOVE);
                }
                Err(error.into())
            }
        }
    }
}

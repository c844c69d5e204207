//! `rbox exec`: runs a further program in a running container.

use clap::Args;
use engine::request::{ExecRequest, SessionEnd};

use super::streams::{Wanted, check_terminal, exit};
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{DAEMON, Failure, Result};
use crate::option::{environment, stream};

/// The exit code of a further program that cannot be executed, found or not.
const NOT_EXECUTED: u8 = 126;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<ExecArgs>(
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    &["container exec", "exec"],
    Count::AtLeast(2),
)
.flags_first();

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct ExecArgs {
    /// Detached mode: run command in the background
    #[arg(short, long)]
    detach: bool,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = environment::variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
    /// Keep STDIN open even if not attached
    #[arg(short, long)]
    interactive: bool,
    /// Give extended privileges to the command
    #[arg(long)]
    privileged: bool,
    /// Allocate a pseudo-TTY
    #[arg(short, long)]
    tty: bool,
    #[arg(
        short,
        long,
        value_name = "string",
        help = "Username or UID (format: \"<name|uid>[:<group|gid>]\")"
    )]
    user: Option<String>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "string")]
    workdir: Option<String>,
}

impl Verb for ExecArgs {
    fn run(self, context: &Context, mut plain: Vec<String>) -> Result<()> {
        let env = environment::gather(&self.env_file, &self.env, |name| std::env::var(name).ok())?;
        let detach_keys = stream::detach_keys(self.detach_keys.as_deref())?;
        let stdin = self.interactive && !self.detach;
        check_terminal(stdin, self.tty)?;
        let engine = context.engine()?;
        let id = engine.resolve(&plain.remove(0))?;
        let wanted = Wanted {
            stdin,
            stdout: !self.detach,
            stderr: !self.detach && !self.tty,
        };
        let ended = engine.exec(
            &id,
            ExecRequest {
                command: plain,
                env,
                user: self.user.filter(|user| !user.is_empty()),
                working_dir: self.workdir.filter(|place| !place.is_empty()),
                privileged: self.privileged,
                tty: self.tty,
                detach: self.detach,
                streams: wanted.open()?,
                detach_keys,
            },
        );
        match ended {
            Ok(SessionEnd::Exited(code)) => exit(code),
            Ok(SessionEnd::Detached | SessionEnd::Background) => Ok(()),
            Err(error) => Err(refused(error, self.detach)),
        }
    }
}

/// A program that cannot be executed is told on the stream, without the engine's words before it,
/// and ends with 126; in the background it is an error as any other.
fn refused(error: engine::Error, detached: bool) -> Failure {
    let of_program = matches!(error.run_exit_code(), 126 | 127);
    match Failure::from(error) {
        Failure::Said(mut message) if of_program && !detached => {
            if let Some(text) = message.text.strip_prefix(DAEMON) {
                message.text = text.to_owned();
            }
            message.code = NOT_EXECUTED;
            Failure::Said(message)
        }
        failure => failure,
    }
}

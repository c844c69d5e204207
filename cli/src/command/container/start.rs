//! `rbox start`: starts containers that were made or have ended.

use std::io::Write as _;

use clap::Args;
use engine::Engine;
use engine::request::{SessionEnd, StartOptions, Started};

use super::each::each_quietly;
use super::streams::{Wanted, check_terminal, exit};
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, Result, tell};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<StartArgs>(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Start one or more stopped containers",
    &["container start", "start"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// Attach STDOUT/STDERR and forward signals
    #[arg(short, long)]
    attach: bool,
    /// Restore from this checkpoint
    #[arg(long, value_name = "string")]
    checkpoint: Option<String>,
    /// Use a custom checkpoint storage directory
    #[arg(long, value_name = "string")]
    checkpoint_dir: Option<String>,
    /// Override the key sequence for detaching a container
    #[arg(long, value_name = "string")]
    detach_keys: Option<String>,
    /// Attach container's STDIN
    #[arg(short, long)]
    interactive: bool,
}

impl Verb for StartArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        if self.checkpoint.is_some() || self.checkpoint_dir.is_some() {
            return Err(Failure::said(
                "--checkpoint is not supported by rbox: processes are not saved to disk",
            ));
        }
        if !(self.attach || self.interactive) {
            return start_all(&context.engine()?, &plain);
        }
        if plain.len() > 1 {
            return Err(Failure::said(
                "you cannot start and attach multiple containers at once",
            ));
        }
        self.start_attached(&context.engine()?, &plain[0])
    }
}

impl StartArgs {
    fn start_attached(&self, engine: &Engine, word: &str) -> Result<()> {
        let container = engine.find(word)?;
        let config = &container.record.config;
        let wanted = Wanted {
            stdin: self.interactive && config.open_stdin,
            stdout: true,
            stderr: true,
        };
        check_terminal(wanted.stdin, config.tty)?;
        let attach = wanted.attach(self.detach_keys.as_deref(), !config.tty)?;
        let options = StartOptions {
            attach: Some(attach),
            warn: Some(crate::output::warn),
        };
        match engine.start(container.id(), options)? {
            Started::Ended(SessionEnd::Exited(code)) => exit(code),
            Started::Ended(SessionEnd::Detached) => Ok(()),
            Started::Ended(SessionEnd::Background) | Started::Running => Ok(()),
            Started::AlreadyRunning => {
                let again = wanted.attach(self.detach_keys.as_deref(), !config.tty)?;
                match engine.attach(container.id(), again)? {
                    SessionEnd::Exited(code) => exit(code),
                    SessionEnd::Detached | SessionEnd::Background => Ok(()),
                }
            }
        }
    }
}

fn start_all(engine: &Engine, words: &[String]) -> Result<()> {
    let mut failed = Vec::new();
    each_quietly(words, |word| {
        let started = engine.resolve(word).map_err(Failure::from).and_then(|id| {
            Ok(engine.start(
                &id,
                StartOptions {
                    warn: Some(crate::output::warn),
                    ..StartOptions::default()
                },
            )?)
        });
        match started {
            Ok(_) => writeln!(std::io::stdout(), "{word}")?,
            Err(Failure::Said(message)) => {
                tell(&message)?;
                failed.push(word.to_owned());
            }
            Err(other) => return Err(other),
        }
        Ok(())
    })?;
    if failed.is_empty() {
        return Ok(());
    }
    let failed = failed.join(", ");
    Err(Failure::said(format!(
        "Error: failed to start containers: {failed}"
    )))
}

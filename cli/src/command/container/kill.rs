//! `rbox kill`: sends a signal, SIGKILL unless told otherwise.

use std::io::Write as _;

use clap::Args;
use engine::signal::{self, SignalError};

use super::each::each_quietly;
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{DAEMON, Failure, Result};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<KillArgs>(
    "[OPTIONS] CONTAINER [CONTAINER...]",
    "Kill one or more running containers",
    &["container kill", "kill"],
    Count::AtLeast(1),
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// Signal to send to the container
    #[arg(short, long, value_name = "string")]
    signal: Option<String>,
}

impl Verb for KillArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let engine = context.engine()?;
        let signal = self.signal.as_deref().unwrap_or("KILL");
        each_quietly(&plain, |word| {
            // a wrong signal is told before a missing container, as Docker does
            if let Err(error @ SignalError::Invalid(_)) = signal::parse(signal)
                && !signal.is_empty()
            {
                return Err(engine::Error::invalid(error.to_string()).into());
            }
            let id = engine.resolve(word).map_err(|error| of_kill(word, error))?;
            engine.kill(&id, signal)?;
            writeln!(std::io::stdout(), "{word}")?;
            Ok(())
        })
    }
}

/// Docker's words around a container that is not there.
fn of_kill(word: &str, error: engine::Error) -> Failure {
    let mut failure = Failure::from(error);
    if let Failure::Said(message) = &mut failure
        && let Some(text) = message.text.strip_prefix(DAEMON)
    {
        message.text = format!("{DAEMON}Cannot kill container: {word}: {text}");
    }
    failure
}

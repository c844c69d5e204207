//! One request for each of several containers: successes to standard output, failures to standard
//! error, and 1 at the end if any failed.

use std::io::Write as _;

use engine::{ContainerId, Engine};

use crate::error::{Failure, Result, tell};

/// Resolves every word and does something with it; prints the word when that worked.
pub(super) fn each(
    engine: &Engine,
    words: &[String],
    mut act: impl FnMut(&ContainerId) -> Result<()>,
) -> Result<()> {
    each_quietly(words, |word| {
        let id = engine.resolve(word)?;
        act(&id)?;
        writeln!(std::io::stdout(), "{word}")?;
        Ok(())
    })
}

/// The same without printing and resolving.
pub(super) fn each_quietly(
    words: &[String],
    mut act: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let mut failed = false;
    for word in words {
        match act(word) {
            Ok(()) => {}
            Err(Failure::Said(message)) => {
                failed = true;
                tell(&message)?;
            }
            Err(other) => return Err(other),
        }
    }
    if failed {
        Err(Failure::Status(1))
    } else {
        Ok(())
    }
}

//! `-a`: which streams are attached; and the check of `--detach-keys`.

use engine::stdio::DetachKeys;

use crate::error::{Failure, Result};

/// A stream's name in lower case.
pub(crate) fn parse(text: &str) -> std::result::Result<String, String> {
    let name = text.to_ascii_lowercase();
    if matches!(name.as_str(), "stdin" | "stdout" | "stderr") {
        Ok(name)
    } else {
        Err("valid streams are STDIN, STDOUT and STDERR".to_owned())
    }
}

/// The keys that leave a container; without the flag Docker's.
pub(crate) fn detach_keys(text: Option<&str>) -> Result<DetachKeys> {
    match text {
        None | Some("") => Ok(DetachKeys::default()),
        Some(text) => text.parse().map_err(|_| {
            Failure::said(format!("Invalid detach keys ({text}) provided"))
                .hint("write keys as in 'ctrl-p,ctrl-q' or 'ctrl-a,d'")
        }),
    }
}

//! `--label` and `--label-file`.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::option::environment;

/// Checks one `--label`.
pub(crate) fn parse(text: &str) -> std::result::Result<String, String> {
    let name = text.split('=').next().unwrap_or_default();
    if text.trim().is_empty() || name.is_empty() {
        return Err(format!("invalid label '{text}': empty name"));
    }
    Ok(text.to_owned())
}

/// Labels of files, then of flags; the last of a name counts.
pub(crate) fn gather(files: &[String], flags: &[String]) -> Result<BTreeMap<String, String>> {
    let mut lines = Vec::new();
    for path in files {
        // a name without a value is a label with an empty one
        lines.extend(environment::parse_file(
            path,
            &environment::read(path)?,
            |_| Some(String::new()),
        )?);
    }
    lines.extend_from_slice(flags);
    Ok(pairs(&lines))
}

/// `key=value` words as a map; without `=` the value is empty.
pub(crate) fn pairs(words: &[String]) -> BTreeMap<String, String> {
    words
        .iter()
        .map(|word| {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_name_counts() {
        let words = ["a=1", "b", "a=2=3"].map(str::to_owned);
        let got = gather(&[], &words).unwrap();
        assert_eq!(got["a"], "2=3");
        assert_eq!(got["b"], "");
        assert_eq!(parse("=x").unwrap_err(), "invalid label '=x': empty name");
    }
}

//! Variables of the environment: `-e`, `--env-file`, and files of labels of the same form.

use crate::error::{Failure, Result, file};

/// Checks one `-e`.
pub(crate) fn variable(text: &str) -> std::result::Result<String, String> {
    let name = text.split('=').next().unwrap_or_default();
    if name.is_empty() {
        return Err(format!("invalid environment variable: {text}"));
    }
    Ok(text.to_owned())
}

/// Variables of files, then of flags; a bare name takes its value from `lookup` or is left out.
pub(crate) fn gather(
    files: &[String],
    flags: &[String],
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    for path in files {
        variables.extend(parse_file(path, &read(path)?, &lookup)?);
    }
    for flag in flags {
        if flag.contains('=') {
            variables.push(flag.clone());
        } else if let Some(value) = lookup(flag) {
            variables.push(format!("{flag}={value}"));
        }
    }
    Ok(variables)
}

/// The text of a file that a flag names.
pub(crate) fn read(path: &str) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|error| Failure::said(file("open", path, &error)))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::said(format!(
            "env file {path} contains invalid utf8 bytes at line 1"
        ))
    })
}

/// The lines of such a file: comments and empty lines are left out, values are literal.
pub(crate) fn parse_file(
    path: &str,
    text: &str,
    lookup: impl Fn(&str) -> Option<String>,
) -> Result<Vec<String>> {
    let mut variables = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for line in text.lines() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim_start(), Some(value)),
            None => (line, None),
        };
        if name.contains(char::is_whitespace) {
            return Err(Failure::said(format!(
                "invalid env file ({path}): variable '{name}' contains whitespaces"
            )));
        }
        if name.is_empty() {
            return Err(Failure::said(format!(
                "invalid env file ({path}): no variable name on line '{line}'"
            )));
        }
        match value {
            Some(value) => variables.push(format!("{name}={value}")),
            None => {
                if let Some(value) = lookup(name) {
                    variables.push(format!("{name}={value}"));
                }
            }
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        (name == "HOME").then(|| "/root".to_owned())
    }

    #[test]
    fn flags_take_values_from_the_environment() {
        let flags = ["A=1", "HOME", "UNSET", "B="].map(str::to_owned);
        assert_eq!(
            gather(&[], &flags, lookup).unwrap(),
            ["A=1", "HOME=/root", "B="]
        );
        assert_eq!(
            variable("=x").unwrap_err(),
            "invalid environment variable: =x"
        );
        assert!(variable("").is_err());
    }

    #[test]
    fn files_are_literal() {
        let text = "# comment\n\n  A=1\nQ=\"quoted\" \nHOME\nNONE\nE=a=b\n";
        let got = parse_file("f", text, lookup).unwrap();
        assert_eq!(got, ["A=1", "Q=\"quoted\" ", "HOME=/root", "E=a=b"]);
        for (text, want) in [
            (
                "A B=1",
                "invalid env file (f): variable 'A B' contains whitespaces",
            ),
            ("=1", "invalid env file (f): no variable name on line '=1'"),
        ] {
            match parse_file("f", text, lookup) {
                Err(Failure::Said(message)) => assert_eq!(message.text, want),
                other => panic!("{other:?}"),
            }
        }
    }
}

//! Branches as the option language writes them: lists, permissions behind paths, backslashes.

use crate::union::options::{BranchArg, OptionError, bad};
use crate::union::permission::Permission;

/// Splits at a character that no backslash precedes; the backslashes stay.
pub(crate) fn split(text: &str, at: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (index, letter) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if letter == '\\' {
            escaped = true;
        } else if letter == at {
            parts.push(&text[start..index]);
            start = index + letter.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// The text without the backslashes that make letters plain.
pub(crate) fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '\\' => letters.next().unwrap_or('\\'),
            _ => letter,
        });
    }
    plain
}

/// The branches of a list that colons divide.
pub(crate) fn branches(word: &str, text: &str) -> Result<Vec<BranchArg>, OptionError> {
    split(text, ':')
        .into_iter()
        .map(|part| one_branch(word, part))
        .collect()
}

/// One branch, with its permission if that is given.
pub(crate) fn one_branch(word: &str, text: &str) -> Result<BranchArg, OptionError> {
    // `+min=SIZE` has an equals sign of its own, so the permission begins at the first one
    // after the last slash that no backslash precedes.
    let name_at = text.rfind('/').map_or(0, |at| at + 1);
    let (before, name) = text.split_at(name_at);
    let parts = split(name, '=');
    let (path, permission) = match parts.split_first() {
        Some((first, rest)) if !rest.is_empty() => {
            let given = Permission::parse(&rest.join("=")).map_err(|reason| bad(word, reason))?;
            (format!("{before}{first}"), Some(given))
        }
        _ => (text.to_owned(), None),
    };
    if path.is_empty() {
        return Err(bad(word, "a branch has no path"));
    }
    Ok(BranchArg {
        path: unescape(&path).into(),
        permission,
    })
}

/// Rewrites a list so that every branch's path begins at the root.
pub(crate) fn absolute(text: &str, here: &str) -> String {
    let here = here
        .replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,");
    let place = |path: &str| match path.strip_prefix("./").unwrap_or(path) {
        path if path.starts_with('/') => path.to_owned(),
        path => format!("{here}/{path}"),
    };
    let word = |word: &str| {
        let Some(at) = word.find([':', '=']) else {
            return word.to_owned();
        };
        let (key, value) = (&word[..at], &word[at + 1..]);
        let value = match key {
            "dirs" | "br" => split(value, ':')
                .into_iter()
                .map(place)
                .collect::<Vec<_>>()
                .join(":"),
            "add" | "ins" => match value.split_once(':') {
                Some((index, path)) => format!("{index}:{}", place(path)),
                None => value.to_owned(),
            },
            "append" | "prepend" | "del" | "mod" => place(value),
            _ => return word.to_owned(),
        };
        format!("{key}={value}")
    };
    split(text, ',')
        .into_iter()
        .map(word)
        .collect::<Vec<_>>()
        .join(",")
}

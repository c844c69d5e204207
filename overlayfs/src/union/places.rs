//! The branches' paths in a list of options: looked at and replaced, all else as it was written.

use std::path::{Path, PathBuf};

use super::branch_words::{split, unescape};
use super::permission::Permission;

/// Replaces the path of every branch of `dirs=` and `br=`.
///
/// # Errors
/// That of `change`.
pub fn replace_places<E>(
    text: &str,
    mut change: impl FnMut(&Path) -> Result<PathBuf, E>,
) -> Result<String, E> {
    let mut words = Vec::new();
    for word in split(text, ',') {
        let Some((key, value)) = branch_list(word) else {
            words.push(word.to_owned());
            continue;
        };
        let mut branches = Vec::new();
        for branch in split(value, ':') {
            let (path, permission) = parts(branch);
            let path = change(Path::new(&unescape(path)))?;
            branches.push(format!("{}{permission}", escape(&path)));
        }
        words.push(format!("{key}={}", branches.join(":")));
    }
    Ok(words.join(","))
}

/// A path as the option language takes it: what parts words there is written behind a backslash.
pub fn escape(path: &Path) -> String {
    let mut text = String::new();
    for letter in path.to_string_lossy().chars() {
        if matches!(letter, '\\' | ':' | ',' | '=') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

/// The words of a list, each as its name and the value behind `=` or `:`, if it has one.
pub fn words(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let words = split(text, ',').into_iter().filter(|word| !word.is_empty());
    words.map(|word| match word.find([':', '=']) {
        Some(at) => (&word[..at], Some(&word[at + 1..])),
        None => (word, None),
    })
}

fn branch_list(word: &str) -> Option<(&str, &str)> {
    let (key, value) = words(word).next()?;
    matches!(key, "dirs" | "br")
        .then_some(value)?
        .map(|value| (key, value))
}

/// A branch as its path and, with its equals sign, its permission.
fn parts(branch: &str) -> (&str, &str) {
    let name_at = branch.rfind('/').map_or(0, |at| at + 1);
    let first = split(&branch[name_at..], '=')[0];
    let (path, rest) = branch.split_at(name_at + first.len());
    match rest.strip_prefix('=').map(Permission::parse) {
        Some(Ok(_)) => (path, rest),
        // What is wrong with it is for the parser to say.
        _ => (branch, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::union::options::Options;

    #[test]
    fn only_paths_are_replaced() {
        let below =
            |path: &Path| Ok::<_, ()>(Path::new("/x").join(path.strip_prefix("/").unwrap_or(path)));
        for (text, expected) in [
            (
                "dirs=/a=rw+icex:b=ro,create=mfsrr:1G",
                "dirs=/x/a=rw+icex:/x/b=ro,create=mfsrr:1G",
            ),
            ("udba=none,br:/a", "udba=none,br=/x/a"),
            ("dirs=/a\\:b\\,c=rw+min=1M", "dirs=/x/a\\:b\\,c=rw+min=1M"),
        ] {
            let replaced = replace_places(text, below).unwrap();
            assert_eq!(replaced, expected, "{text}");
            let (old, new) = (Options::parse(text).unwrap(), Options::parse(&replaced));
            let new = new.unwrap();
            assert_eq!(old.settings, new.settings);
            for (old, new) in old.branches.iter().zip(&new.branches) {
                assert_eq!(below(&old.path).as_ref(), Ok(&new.path));
                assert_eq!(old.permission, new.permission);
            }
        }
        let refused = replace_places("dirs=/a:/b", |path| Err::<PathBuf, _>(path.to_owned()));
        assert_eq!(refused, Err(PathBuf::from("/a")));
    }

    #[test]
    fn words_have_names_and_values() {
        let all: Vec<_> = words("dirs=/a=rw,sum,,create:mfsrr:1G").collect();
        assert_eq!(
            all,
            [
                ("dirs", Some("/a=rw")),
                ("sum", None),
                ("create", Some("mfsrr:1G"))
            ]
        );
    }
}

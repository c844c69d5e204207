//! The driver `union`: a volume whose content are directories of the host, seen as one (pure).
//!
//! Its options are those of a union mount, one key each. All containers that have such a volume
//! share one union; see [`crate::union`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use overlayfs::union::options::Options;
use overlayfs::union::places::{replace_places, words};

use super::DriverError;
use crate::mount::clean_path;

/// Options as they are kept: a word each, branches by absolute paths, relative ones from `here`.
///
/// `-o dirs=A=rw:B=ro,create=mfs` and `-o dirs=A=rw:B=ro -o create=mfs` come to the same.
///
/// # Errors
/// What the option language refuses; a list without branches, or with changes of a mounted union.
pub fn union_options(
    options: &BTreeMap<String, String>,
    here: &Path,
) -> Result<BTreeMap<String, String>, DriverError> {
    let text = union_text(options);
    let parsed = Options::parse(&text).map_err(|error| DriverError::Union(error.to_string()))?;
    if parsed.branches.is_empty() {
        return Err(DriverError::NoBranch);
    }
    let lists = words(&text).filter(|(name, _)| matches!(*name, "dirs" | "br"));
    if parsed.remount || parsed.changes.len() > 1 || lists.count() != 1 {
        return Err(DriverError::Union(
            "branches are named once, by dirs=".to_owned(),
        ));
    }
    let absolute = |path: &Path| -> Result<PathBuf, DriverError> {
        let path = here.join(path);
        if !path.is_absolute() {
            return Err(DriverError::Branch(path));
        }
        Ok(PathBuf::from(clean_path(&path.to_string_lossy())))
    };
    Ok(kept_words(&replace_places(&text, absolute)?))
}

/// A list as options are kept: a key per word.
pub(crate) fn kept_words(text: &str) -> BTreeMap<String, String> {
    words(text)
        .map(|(name, value)| (name.to_owned(), value.unwrap_or_default().to_owned()))
        .collect()
}

/// Kept options as one list, the branches first.
pub fn union_text(options: &BTreeMap<String, String>) -> String {
    let is_list = |name: &str| matches!(name, "dirs" | "br") || name.starts_with("br:");
    let word = |(name, value): (&String, &String)| match value.as_str() {
        "" => name.clone(),
        value => format!("{name}={value}"),
    };
    let (lists, others): (Vec<_>, Vec<_>) = options.iter().partition(|(name, _)| is_list(name));
    let all: Vec<String> = lists.into_iter().chain(others).map(word).collect();
    all.join(",")
}

/// The branches of a list, and which of them may be written.
pub(crate) fn union_branches(text: &str) -> Vec<(PathBuf, bool)> {
    let branches = Options::parse(text).map(|options| options.branches);
    let branches = branches.unwrap_or_default().into_iter().enumerate();
    branches
        .map(|(at, branch)| {
            let given = branch.permission.map(|permission| permission.is_writable());
            (branch.path, given.unwrap_or(at == 0))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(pairs: &[(&str, &str)]) -> Result<String, String> {
        let options = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        union_options(&options, Path::new("/home/me"))
            .map(|kept| union_text(&kept))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn one_word_is_one_key_and_paths_are_whole() {
        for pairs in [
            &[
                ("dirs", "./a/=rw:/b/../c=ro"),
                ("create", "mfs"),
                ("sum", ""),
            ][..],
            &[("dirs", "a=rw:/c=ro,create=mfs,sum")],
            &[("create", "mfs,sum"), ("br:a", "rw:/c=ro")],
        ] {
            let text = kept(pairs).unwrap();
            let rest = text.split_once('=').unwrap().1;
            assert_eq!(rest, "/home/me/a=rw:/c=ro,create=mfs,sum", "{pairs:?}");
        }
        assert_eq!(
            union_branches("dirs=/a:/b=rw:/c=ro+wh"),
            [("/a", true), ("/b", true), ("/c", false)].map(|(path, rw)| (path.into(), rw))
        );
    }

    #[test]
    fn what_is_refused() {
        for (pairs, expected) in [
            (
                &[][..],
                "a union volume needs branches: -o dirs=PATH=rw:PATH=ro",
            ),
            (
                &[("create", "mfs")],
                "a union volume needs branches: -o dirs=PATH=rw:PATH=ro",
            ),
            (
                &[("dirs", "/a=rx")],
                "option \"dirs=/a=rx\": unknown permission \"rx\"",
            ),
            (
                &[("dirs", "/a"), ("create", "best")],
                "option \"create=best\": unknown policy \"best\"",
            ),
            (
                &[("dirs", "/a"), ("device", "/x")],
                "unknown option \"device=/x\"",
            ),
            (
                &[("dirs", "/a"), ("append", "/b")],
                "branches are named once, by dirs=",
            ),
            (
                &[("dirs", "/a"), ("br", "/b")],
                "branches are named once, by dirs=",
            ),
            (
                &[("lowerdir", "/a"), ("upperdir", "/b")],
                "branches are named once, by dirs=",
            ),
        ] {
            assert_eq!(kept(pairs).unwrap_err(), expected, "{pairs:?}");
        }
    }
}

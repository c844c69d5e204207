//! Where a copy goes and what it is called there (pure): the rules that `cp` shares with Docker.

use std::path::{Component, Path, PathBuf};

/// One side of a copy, as typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Side {
    /// A path of a container.
    Container {
        /// Its name or id.
        name: String,
        /// The path in it.
        path: String,
    },
    /// A path of this host; `-` is a stream.
    Local(String),
}

impl Side {
    /// Reads `CONTAINER:PATH` or `PATH`; a path that begins with `/` or `.` is always local.
    pub(super) fn read(text: &str) -> Self {
        match text.split_once(':') {
            Some((name, path)) if !text.starts_with('/') && !name.starts_with('.') => {
                Self::Container {
                    name: name.to_owned(),
                    path: path.to_owned(),
                }
            }
            _ => Self::Local(text.to_owned()),
        }
    }
}

/// What is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Its last part; `.` where only what is in it was asked for.
    pub(super) base: PathBuf,
    /// It is a directory.
    pub(super) is_directory: bool,
}

/// Where it shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    /// The path, its end as typed.
    pub(super) path: PathBuf,
    /// Something is there, and whether that is a directory.
    pub(super) is_directory: Option<bool>,
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The directory that it is unpacked in.
    pub(super) directory: PathBuf,
    /// What it is called there; `.` for what is in a directory.
    pub(super) name: PathBuf,
}

/// A copy that makes no sense; Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlaceError {
    /// A directory over something else.
    #[error("cannot copy directory")]
    Directory,
    /// A file to a path that says it is a directory.
    #[error("no such directory")]
    NoDirectory,
}

/// Finds the place of a copy.
pub(super) fn place(source: &Source, target: &Target) -> Result<Place, PlaceError> {
    let (directory, name) = split(&target.path);
    match (target.is_directory, source.is_directory) {
        (Some(true), _) => Ok(Place {
            directory: target.path.clone(),
            name: source.base.clone(),
        }),
        (Some(false), true) => Err(PlaceError::Directory),
        (None, false) if asserts_directory(&target.path) => Err(PlaceError::NoDirectory),
        (Some(false), false) | (None, _) => Ok(Place { directory, name }),
    }
}

/// Whether a path says itself that it leads to a directory.
pub(super) fn asserts_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.ends_with(b"/") || ends_in_dot(path)
}

fn ends_in_dot(path: &Path) -> bool {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

/// A path's directory and last part; `.` is a last part, too.
pub(super) fn split(path: &Path) -> (PathBuf, PathBuf) {
    let clean = clean(path);
    if ends_in_dot(path) {
        return (clean, PathBuf::from("."));
    }
    match (clean.parent(), clean.file_name()) {
        (Some(parent), Some(name)) => (parent.to_owned(), PathBuf::from(name)),
        // The root has no name.
        _ => (clean, PathBuf::from(".")),
    }
}

/// The path without `.`, `..` and doubled slashes.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir if out.file_name().is_some() => {
                out.pop();
            }
            Component::ParentDir if out.has_root() => {}
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_side_is_a_container() {
        let container = |name: &str, path: &str| Side::Container {
            name: name.to_owned(),
            path: path.to_owned(),
        };
        for (text, expected) in [
            ("web:/x", container("web", "/x")),
            ("web:x:y", container("web", "x:y")),
            ("web:", container("web", "")),
            ("/a:b", Side::Local("/a:b".to_owned())),
            ("./a:b", Side::Local("./a:b".to_owned())),
            ("-", Side::Local("-".to_owned())),
            ("x/y", Side::Local("x/y".to_owned())),
        ] {
            assert_eq!(Side::read(text), expected, "{text}");
        }
    }

    /// The table of Docker's documentation: source, what is at the target, what comes of it.
    #[test]
    fn the_truth_table_of_places() {
        let ok = |directory: &str, name: &str| {
            Ok(Place {
                directory: directory.into(),
                name: name.into(),
            })
        };
        for (source, is_directory, target, there, expected) in [
            ("/s/f", false, "/d/n", None, ok("/d", "n")),
            ("/s/f", false, "/d/n/", None, Err(PlaceError::NoDirectory)),
            ("/s/f", false, "/d/n/.", None, Err(PlaceError::NoDirectory)),
            ("/s/f", false, "/d/n", Some(false), ok("/d", "n")),
            ("/s/f", false, "/d/n", Some(true), ok("/d/n", "f")),
            ("/s/f", false, "/d/n/", Some(true), ok("/d/n/", "f")),
            ("/s/d", true, "/d/n", None, ok("/d", "n")),
            ("/s/d/", true, "/d/n/", None, ok("/d", "n")),
            ("/s/d/.", true, "/d/n", None, ok("/d", "n")),
            (
                "/s/d",
                true,
                "/d/n",
                Some(false),
                Err(PlaceError::Directory),
            ),
            ("/s/d", true, "/d/n", Some(true), ok("/d/n", "d")),
            ("/s/d/", true, "/d/n", Some(true), ok("/d/n", "d")),
            ("/s/d/.", true, "/d/n", Some(true), ok("/d/n", ".")),
            ("/", true, "/d/n", Some(true), ok("/d/n", ".")),
        ] {
            let source = Source {
                base: split(Path::new(source)).1,
                is_directory,
            };
            let target = Target {
                path: target.into(),
                is_directory: there,
            };
            assert_eq!(place(&source, &target), expected, "{source:?} {target:?}");
        }
    }

    /// The table of the users' page, row by row.
    #[test]
    fn the_page_tells_where_copies_go() {
        let page = include_str!("../../../../../docs/volumes.md");
        let (_, rest) = page.split_once("<!-- compared: copies -->\n").unwrap();
        let (table, _) = rest.split_once("<!-- end -->").unwrap();
        let mut rows = 0;
        for line in table.lines().skip(2) {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let [_, source, there, target, comes_to, _] = cells[..] else {
                panic!("{line}");
            };
            let (typed, kind) = source.split_once(' ').unwrap();
            let source = Source {
                base: split(Path::new(&format!("/{}", typed.trim_matches('`')))).1,
                is_directory: kind == "(directory)",
            };
            let target = Target {
                path: Path::new("/").join(target.trim_matches('`')),
                is_directory: match there {
                    "nothing" => None,
                    "a file" => Some(false),
                    "a directory" => Some(true),
                    other => panic!("{other}"),
                },
            };
            let got = match place(&source, &target) {
                Ok(place) => {
                    let whole = format!("{}/{}", place.directory.display(), place.name.display());
                    format!("`{}`", whole.trim_start_matches('/').replace("//", "/"))
                }
                Err(error) => format!("refused: {error}"),
            };
            assert_eq!(got, comes_to, "{line}");
            rows += 1;
        }
        assert_eq!(rows, 10);
    }

    #[test]
    fn paths_are_cleaned_by_their_words() {
        for (path, expected) in [
            ("/a/./b//c/", "/a/b/c"),
            ("/a/../../b", "/b"),
            ("a/..", ""),
            ("../a", "../a"),
            ("/", "/"),
        ] {
            assert_eq!(clean(Path::new(path)), Path::new(expected), "{path}");
        }
    }
}

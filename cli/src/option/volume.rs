//! `-v`: which words are binds and which only name a place for an anonymous volume.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use engine::config::{Empty, KeySet};
use engine::mount::branches_of;

use crate::error::{Failure, Result};

/// `-v` words, sorted out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Volumes {
    /// `HostConfig.Binds`, sources made absolute.
    pub binds: Vec<String>,
    /// `Config.Volumes`: places of anonymous volumes.
    pub anonymous: KeySet,
}

/// Sorts out `-v` words; relative sources are taken from `here`.
pub(crate) fn gather(words: &[String], here: &Path) -> Result<Volumes> {
    let mut volumes = Volumes {
        binds: Vec::new(),
        anonymous: BTreeMap::new(),
    };
    for word in words {
        if word.is_empty() {
            return Err(Failure::said("invalid empty volume spec"));
        }
        if word.split(':').any(str::is_empty) {
            return Err(Failure::said(format!(
                "invalid spec: {word}: empty section between colons"
            )));
        }
        match word.split_once(':') {
            None => {
                volumes.anonymous.insert(word.clone(), Empty {});
            }
            Some(_) if branches_of(word) > 1 => {
                let branches = branches_of(word);
                let fields = word.split(':').enumerate();
                let fields = fields.map(|(index, field)| match index < branches {
                    true => absolute(field, here),
                    false => field.to_owned(),
                });
                volumes.binds.push(fields.collect::<Vec<_>>().join(":"));
            }
            Some((source, rest)) => {
                let rest = with_caller(rest, caller);
                volumes
                    .binds
                    .push(format!("{}:{rest}", absolute(source, here)));
            }
        }
    }
    Ok(volumes)
}

/// Whoever types: the user behind `sudo`, else the process's own; `uid.gid`, since a colon parts the
/// fields of `-v`.
pub(crate) fn caller() -> String {
    let behind = |name: &str| {
        let value = std::env::var(name).ok()?;
        value.parse::<u32>().ok()
    };
    match (behind("SUDO_UID"), behind("SUDO_GID")) {
        (Some(user), Some(group)) => format!("{user}.{group}"),
        _ => std::fs::metadata("/proc/self").map_or_else(
            |_| "0.0".to_owned(),
            |own| format!("{}.{}", own.uid(), own.gid()),
        ),
    }
}

/// Puts the caller where a mode says `idmap` alone.
fn with_caller(rest: &str, caller: impl FnOnce() -> String) -> String {
    let Some((destination, mode)) = rest.split_once(':') else {
        return rest.to_owned();
    };
    if !mode.split(',').any(|word| word == "idmap") {
        return rest.to_owned();
    }
    let own = format!("idmap={}", caller());
    let words: Vec<&str> = mode
        .split(',')
        .map(|word| if word == "idmap" { &own } else { word })
        .collect();
    format!("{destination}:{}", words.join(","))
}

/// A source that begins with a dot is a path from here; anything else stays.
pub(crate) fn absolute(source: &str, here: &Path) -> String {
    if source == "." || source == ".." || source.starts_with("./") || source.starts_with("../") {
        clean(&format!("{}/{source}", here.display()))
    } else {
        source.to_owned()
    }
}

/// Go's `filepath.Clean` of an absolute path.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds_and_places() {
        let words = ["/a:/b:ro", "./rel:/x", "..:/y", "name:/data", "/anon"].map(str::to_owned);
        let got = gather(&words, Path::new("/home/me")).unwrap();
        assert_eq!(
            got.binds,
            ["/a:/b:ro", "/home/me/rel:/x", "/home:/y", "name:/data"]
        );
        assert_eq!(got.anonymous.keys().collect::<Vec<_>>(), ["/anon"]);
    }

    #[test]
    fn the_caller_stands_where_no_owner_is_named() {
        let caller = || "1000.100".to_owned();
        for (rest, expected) in [
            ("/d", "/d"),
            ("/d:ro", "/d:ro"),
            ("/d:idmap", "/d:idmap=1000.100"),
            ("/d:ro,idmap,z", "/d:ro,idmap=1000.100,z"),
            ("/d:idmap=5", "/d:idmap=5"),
            ("/idmap", "/idmap"),
        ] {
            assert_eq!(with_caller(rest, caller), expected, "{rest}");
        }
    }

    #[test]
    fn empty_sections_are_refused() {
        match gather(&[":/data".to_owned()], Path::new("/")) {
            Err(Failure::Said(message)) => assert_eq!(
                message.text,
                "invalid spec: :/data: empty section between colons"
            ),
            other => panic!("{other:?}"),
        }
    }
}

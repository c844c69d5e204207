//! A receiver's hosts file, written again while the container runs.
//!
//! What is ours is generated; what is not ours is whatever remains when every line that we wrote is
//! taken out of the file, each once and only as a whole. It follows what is ours. The file is a
//! mount of the container's and keeps its inode: it is written in place.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use netns::hosts::{HostsFile, OwnLine};

use super::Links;
use crate::error::{Error, Result};

/// A file that a container has made longer than this is not read.
const LIMIT: u64 = 1 << 20;

/// `O_NOFOLLOW`: the file is ours and never a link.
const NO_FOLLOW: i32 = 0o400_000;

/// What a rewrite needs to know: the lines as they are to be, and those that we may have left.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rewrite {
    text: String,
    replaced: Vec<String>,
}

/// Writes the hosts file anew with the present lines of the links, where it does not say them
/// already and was written before. `keep` writes the document: before the file, so that whoever
/// comes after a crash knows our lines, and after it.
///
/// # Errors
/// When either cannot be written, or the file is too long.
pub(super) fn rewrite(
    links: &mut Links,
    path: &Path,
    keep: impl Fn(&Links) -> Result<()>,
) -> Result<()> {
    let Some(rewrite) = Rewrite::plan(links) else {
        return keep(links);
    };
    keep(links)?;
    rewrite.apply(path)?;
    links.replaced.clear();
    keep(links)
}

/// Writes the hosts file anew with other lines of the receiver's own; false where it has not been
/// written as a receiver's.
///
/// # Errors
/// As [`rewrite`].
pub(super) fn rewrite_own(
    links: &mut Links,
    path: &Path,
    change: impl FnOnce(&mut Vec<OwnLine>),
    keep: impl Fn(&Links) -> Result<()>,
) -> Result<bool> {
    let Some(mut file) = links.hosts.clone() else {
        return Ok(false);
    };
    change(&mut file.own);
    let rewrite = Rewrite::to(links, file);
    keep(links)?;
    rewrite.apply(path)?;
    links.replaced.clear();
    keep(links).map(|()| true)
}

/// Takes a wholly new content into the document, before the file itself is written.
pub(super) fn begin(links: &mut Links, new: HostsFile) {
    Rewrite::to(links, new);
}

impl Rewrite {
    /// Takes the present lines of the links into the document.
    fn plan(links: &mut Links) -> Option<Self> {
        let lines = links.lines();
        let old = links.hosts.as_ref()?;
        if old.links == lines && links.replaced.is_empty() {
            return None;
        }
        let new = HostsFile {
            links: lines,
            ..old.clone()
        };
        Some(Self::to(links, new))
    }

    fn to(links: &mut Links, new: HostsFile) -> Self {
        let text = new.to_string();
        let known: Vec<&str> = text.lines().collect();
        let old = links.hosts.take().map(|old| old.to_string());
        let mut replaced = std::mem::take(&mut links.replaced);
        replaced.extend(old.iter().flat_map(|old| old.lines()).map(str::to_owned));
        replaced.retain(|line| !known.contains(&line.as_str()));
        links.replaced.clone_from(&replaced);
        links.hosts = Some(new);
        Self { text, replaced }
    }

    fn apply(&self, path: &Path) -> Result<()> {
        let failed = |error| Error::file("write", path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(NO_FOLLOW)
            .open(path)
            .map_err(failed)?;
        let mut old = Vec::new();
        (&mut file)
            .take(LIMIT + 1)
            .read_to_end(&mut old)
            .map_err(failed)?;
        if old.len() as u64 > LIMIT {
            return Err(Error::conflict(format!(
                "the hosts file {path:?} has grown beyond {LIMIT} bytes and is left alone"
            ))
            .hint("the container's next start writes it anew"));
        }
        let mut new = self.merged(&old);
        let length = new.len() as u64;
        if new == old {
            return Ok(());
        }
        // A reader in between sees blank lines at the end, never the rest of an older line.
        new.resize(new.len().max(old.len()), b'\n');
        file.rewind()
            .and_then(|()| file.write_all(&new))
            .and_then(|()| file.set_len(length))
            .map_err(failed)
    }

    /// Our lines, then those of the file that are not ours.
    fn merged(&self, old: &[u8]) -> Vec<u8> {
        let mut ours: HashMap<&[u8], usize> = HashMap::new();
        let lines = self
            .text
            .lines()
            .chain(self.replaced.iter().map(String::as_str));
        for line in lines {
            *ours.entry(line.as_bytes()).or_default() += 1;
        }
        let mut new = self.text.clone().into_bytes();
        let old = old.strip_suffix(b"\n").unwrap_or(old);
        for line in old.split(|byte| *byte == b'\n') {
            match ours.get_mut(line) {
                Some(left) if *left > 0 => *left -= 1,
                _ if old.is_empty() => {}
                _ => {
                    new.extend_from_slice(line);
                    new.push(b'\n');
                }
            }
        }
        new
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::id::ContainerId;
    use crate::link::{Link, Seen};

    fn link(alias: &str, address: &str) -> Link {
        Link {
            alias: alias.to_owned(),
            source: ContainerId::random().unwrap(),
            name: "src".to_owned(),
            seen: Some(Seen {
                addresses: vec![address.parse().unwrap()],
                hostname: "h".to_owned(),
                ..Seen::default()
            }),
        }
    }

    fn links(all: &[(&str, &str)]) -> Links {
        let mut links = Links {
            links: all.iter().map(|(alias, to)| link(alias, to)).collect(),
            ..Links::default()
        };
        links.hosts = Some(HostsFile {
            links: links.lines(),
            own: vec![OwnLine {
                address: "172.17.0.9".parse().unwrap(),
                hostname: "me".to_owned(),
                domainname: String::new(),
            }],
            ..HostsFile::default()
        });
        links
    }

    fn move_to(links: &mut Links, alias: &str, address: &str) {
        let link = links.links.iter_mut().find(|link| link.alias == alias);
        link.unwrap().seen.as_mut().unwrap().addresses = vec![address.parse().unwrap()];
    }

    fn tail(path: &Path) -> String {
        let text = fs::read_to_string(path).unwrap();
        text.split_once("ip6-allrouters\n").unwrap().1.to_owned()
    }

    #[test]
    fn only_whole_lines_of_ours_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let mut links = links(&[
            ("db", "172.17.0.2"),
            ("db1", "172.17.0.3"),
            ("db.x", "172.17.0.22"),
        ]);
        let written = links.hosts.clone().unwrap().to_string();
        let of_user = "1.2.3.4\tdb.foo\n172.17.0.2\tmine db\n172.17.0.2\tdb h src # no\nlast";
        fs::write(&path, format!("{written}{of_user}")).unwrap();
        let inode = fs::metadata(&path).unwrap().ino();
        assert_eq!(Rewrite::plan(&mut links), None, "nothing has changed");
        move_to(&mut links, "db", "172.17.0.222");
        Rewrite::plan(&mut links).unwrap().apply(&path).unwrap();
        assert_eq!(
            tail(&path),
            format!(
                "172.17.0.222\tdb h src\n172.17.0.3\tdb1 h src\n172.17.0.22\tdb.x h src\n\
                 172.17.0.9\tme\n{of_user}\n"
            )
        );
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn a_shorter_text_leaves_nothing_of_the_longer_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let mut links = links(&[("db", "172.17.0.200"), ("web", "172.17.0.201")]);
        fs::write(&path, links.hosts.clone().unwrap().to_string()).unwrap();
        links.links.remove(0);
        Rewrite::plan(&mut links).unwrap().apply(&path).unwrap();
        assert_eq!(tail(&path), "172.17.0.201\tweb h src\n172.17.0.9\tme\n");
    }

    #[test]
    fn what_a_writer_who_died_left_goes_with_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let mut links = links(&[("db", "172.17.0.2")]);
        fs::write(&path, links.hosts.clone().unwrap().to_string()).unwrap();
        for address in ["172.17.0.3", "172.17.0.4"] {
            // the document was written, the file never
            move_to(&mut links, "db", address);
            Rewrite::plan(&mut links).unwrap();
        }
        move_to(&mut links, "db", "172.17.0.5");
        Rewrite::plan(&mut links).unwrap().apply(&path).unwrap();
        assert_eq!(tail(&path), "172.17.0.5\tdb h src\n172.17.0.9\tme\n");
    }

    #[test]
    fn a_file_that_the_user_emptied_says_everything_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("hosts");
        let mut links = links(&[("db", "172.17.0.2")]);
        for content in ["", "\n", "\u{fffd}"] {
            fs::write(&path, content).unwrap();
            let next = format!("172.17.0.{}", 10 + content.len());
            move_to(&mut links, "db", &next);
            Rewrite::plan(&mut links).unwrap().apply(&path).unwrap();
            assert!(tail(&path).starts_with(&format!("{next}\tdb h src\n172.17.0.9\tme\n")));
        }
        fs::write(&path, vec![b'x'; (LIMIT + 1) as usize]).unwrap();
        move_to(&mut links, "db", "172.17.0.99");
        let error = Rewrite::plan(&mut links).unwrap().apply(&path).unwrap_err();
        assert!(error.to_string().contains("left alone"), "{error}");
    }
}

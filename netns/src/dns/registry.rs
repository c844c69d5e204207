//! Who is called what, as files: each container writes its own names, each look-up reads one
//! directory.
//!
//! ```text
//! STATE/names/<network id>/<name>/<container id>       symlink → its addresses, with commas
//! STATE/names/<network id>/+<address>/<container id>   symlink → the container's name
//! ```
//!
//! An entry counts only while its container's monitor lives, as a reservation does. Nobody writes
//! another's entry, so that no lock is needed.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::zone::{Directory, Pick};

/// Marks the entries that lead from an address to a name; no name is written with it.
const REVERSE: char = '+';
/// Marks an entry on its way to replace one.
const NEW: char = '~';
/// A file's name cannot be longer, and no name of DNS is.
const LONGEST: usize = 255;

/// Names that could not be written or taken back.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} the name {path:?}")]
pub struct NamesError {
    verb: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// All names of one container on one network: a value that can be written and taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The network's directory: `STATE/names/<network id>`.
    pub directory: PathBuf,
    /// The container's id.
    pub owner: String,
    /// The container's name, to which its addresses lead back.
    pub name: String,
    /// What else it is called: short id, host name, aliases.
    pub aliases: Vec<String>,
    /// Its addresses on the network.
    pub addresses: Vec<IpAddr>,
}

impl Names {
    /// Writes all names; those that are there are replaced.
    ///
    /// # Errors
    /// [`NamesError`] when the state directory cannot be written.
    pub fn publish(&self) -> Result<(), NamesError> {
        for address in &self.addresses {
            self.write(&reverse_key(*address), &self.name)?;
        }
        let addresses = self.addresses_text();
        for name in std::iter::once(&self.name).chain(&self.aliases) {
            if let Some(key) = key(name) {
                self.write(&key, &addresses)?;
            }
        }
        Ok(())
    }

    /// Takes all names back, also one that [`Names::rename`] has given since; names that are gone
    /// are no error.
    ///
    /// # Errors
    /// [`NamesError`] when one is there and cannot be removed.
    pub fn withdraw(&self) -> Result<(), NamesError> {
        let mut names: Vec<String> = Vec::with_capacity(self.aliases.len() + 2);
        names.extend(self.current_name());
        names.push(self.name.clone());
        names.extend(self.aliases.iter().cloned());
        for key in names.iter().filter_map(|name| key(name)) {
            self.remove(&key)?;
        }
        for address in &self.addresses {
            self.remove(&reverse_key(*address))?;
        }
        // Whoever is the last takes the directory along.
        let _ = fs::remove_dir(&self.directory);
        Ok(())
    }

    /// Gives the container another name on the network; `self.name` is the old one.
    ///
    /// # Errors
    /// [`NamesError`] when the state directory cannot be written.
    pub fn rename(&self, new: &str) -> Result<(), NamesError> {
        // First what `withdraw` looks at, so that nothing is left if we come no further.
        for address in &self.addresses {
            self.write(&reverse_key(*address), new)?;
        }
        if let Some(key) = key(new) {
            self.write(&key, &self.addresses_text())?;
        }
        let kept = |old: &str| {
            let same = |name: &String| key(name).as_deref() == Some(old);
            self.aliases.iter().any(same) || key(new).as_deref() == Some(old)
        };
        match key(&self.name) {
            Some(old) if !kept(&old) => self.remove(&old),
            _ => Ok(()),
        }
    }

    /// The name that the container's address leads to now.
    fn current_name(&self) -> Option<String> {
        let address = self.addresses.first()?;
        let path = self.directory.join(reverse_key(*address)).join(&self.owner);
        let name = fs::read_link(path).ok()?;
        Some(name.to_string_lossy().into_owned())
    }

    fn addresses_text(&self) -> String {
        let texts: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        texts.join(",")
    }

    fn write(&self, key: &str, target: &str) -> Result<(), NamesError> {
        let directory = self.directory.join(key);
        let path = directory.join(&self.owner);
        let attempt = || match symlink(target, &path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let new = directory.join(format!("{}{NEW}", self.owner));
                let _ = fs::remove_file(&new);
                symlink(target, &new)?;
                fs::rename(&new, &path)
            }
            other => other,
        };
        let outcome = loop {
            match attempt() {
                // It was never made, or its last entry has just taken it along.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if let Err(error) = fs::create_dir_all(&directory) {
                        break Err(error);
                    }
                }
                other => break other,
            }
        };
        outcome.map_err(|source| NamesError {
            verb: "write",
            path,
            source,
        })
    }

    fn remove(&self, key: &str) -> Result<(), NamesError> {
        let directory = self.directory.join(key);
        let path = directory.join(&self.owner);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(NamesError {
                    verb: "remove",
                    path,
                    source,
                });
            }
            _ => {}
        }
        // Fails where others have the name too.
        let _ = fs::remove_dir(&directory);
        Ok(())
    }

    /// What each entry says, for explanations: its path and target.
    pub(crate) fn entries(&self) -> Vec<(PathBuf, String)> {
        let path = |key: &str| self.directory.join(key).join(&self.owner);
        let names = std::iter::once(&self.name).chain(&self.aliases);
        let mut entries: Vec<(PathBuf, String)> = names
            .filter_map(|name| Some((path(&key(name)?), self.addresses_text())))
            .collect();
        let reverse = |address: &IpAddr| (path(&reverse_key(*address)), self.name.clone());
        entries.extend(self.addresses.iter().map(reverse));
        entries
    }
}

/// A name as the name of a file: what no host name has is written as `%` and two digits. `None`
/// for what nobody can ask for.
fn key(name: &str) -> Option<String> {
    let mut key = String::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        match byte.to_ascii_lowercase() {
            // Neither `.` nor `..` nor hidden.
            b'.' if at == 0 => key.push_str("%2e"),
            byte @ (b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.') => key.push(byte.into()),
            byte => key.push_str(&format!("%{byte:02x}")),
        }
    }
    (1..=LONGEST).contains(&key.len()).then_some(key)
}

fn reverse_key(address: IpAddr) -> String {
    format!("{REVERSE}{address}")
}

/// The names of all networks of an engine, for look-ups.
pub struct Registry {
    directory: PathBuf,
    alive: Box<dyn Fn(&str) -> bool>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Registry").field(&self.directory).finish()
    }
}

impl Registry {
    /// The registry in a directory (`STATE/names`); `alive` says whether a container, named by its
    /// id, has a monitor that lives.
    pub fn new(directory: PathBuf, alive: impl Fn(&str) -> bool + 'static) -> Self {
        Self {
            directory,
            alive: Box::new(alive),
        }
    }

    /// What lies under a key, of owners that live: from another one each turn, and no more is
    /// looked at than is taken.
    fn entries(&self, network: &str, key: &str, turn: usize) -> impl Iterator<Item = String> {
        let directory = self.directory.join(network).join(key);
        let mut owners: Vec<String> = Vec::new();
        // What cannot be read is not there.
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let owner = entry.file_name().to_string_lossy().into_owned();
            if !owner.ends_with(NEW) {
                owners.push(owner);
            }
        }
        owners.sort();
        let middle = turn % owners.len().max(1);
        owners.rotate_left(middle);
        owners
            .into_iter()
            .filter(|owner| (self.alive)(owner))
            .filter_map(move |owner| fs::read_link(directory.join(owner)).ok())
            .map(|target| target.to_string_lossy().into_owned())
    }
}

impl Directory for Registry {
    fn named(&self, network: &str, name: &str, pick: Pick) -> Vec<IpAddr> {
        let Some(key) = key(name) else {
            return Vec::new();
        };
        let mut addresses = Vec::new();
        for target in self.entries(network, &key, pick.turn).take(pick.most) {
            addresses.extend(target.split(',').filter_map(|ip| ip.parse::<IpAddr>().ok()));
        }
        addresses
    }

    fn name_of(&self, network: &str, address: IpAddr) -> Option<String> {
        self.entries(network, &reverse_key(address), 0).next()
    }
}

/// The registry's directory in a state directory.
pub fn directory(state: &Path) -> PathBuf {
    state.join("names")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path, owner: &str, name: &str, addresses: &[&str]) -> Names {
        Names {
            directory: directory.join("net"),
            owner: owner.to_owned(),
            name: name.to_owned(),
            aliases: vec!["Web".to_owned(), owner.to_owned()],
            addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        }
    }

    fn found(registry: &Registry, network: &str, name: &str) -> Vec<String> {
        let pick = Pick { turn: 0, most: 9 };
        let list = registry.named(network, name, pick);
        list.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn names_count_while_their_owner_lives() {
        let scratch = tempfile::tempdir().unwrap();
        let dead = std::rc::Rc::new(std::cell::RefCell::new(String::new()));
        let known = dead.clone();
        let registry = Registry::new(scratch.path().to_owned(), move |id| *known.borrow() != id);
        assert!(found(&registry, "net", "web").is_empty());
        let one = names(scratch.path(), "1", "One", &["10.0.0.2", "fd00::2"]);
        let two = names(scratch.path(), "2", "two", &["10.0.0.3"]);
        one.publish().unwrap();
        two.publish().unwrap();
        // Once more is no error: a step may be repeated.
        two.publish().unwrap();
        assert_eq!(found(&registry, "net", "one"), ["10.0.0.2", "fd00::2"]);
        assert_eq!(
            found(&registry, "net", "web"),
            ["10.0.0.2", "fd00::2", "10.0.0.3"]
        );
        assert!(found(&registry, "other", "web").is_empty());
        let of = |ip: &str| registry.name_of("net", ip.parse().unwrap());
        assert_eq!(of("fd00::2").as_deref(), Some("One"));
        let first = |turn| registry.named("net", "web", Pick { turn, most: 1 });
        assert_eq!(first(3), two.addresses, "its turn");
        assert_eq!(first(2), one.addresses);
        *dead.borrow_mut() = "1".to_owned();
        assert_eq!(first(2), two.addresses, "whoever lives");
        assert_eq!(found(&registry, "net", "web"), ["10.0.0.3"]);
        assert!(found(&registry, "net", "one").is_empty());
        assert_eq!(of("10.0.0.2"), None);
        two.withdraw().unwrap();
        two.withdraw().unwrap();
        assert!(found(&registry, "net", "web").is_empty());
        one.withdraw().unwrap();
        assert!(!scratch.path().join("net").exists());
    }

    #[test]
    fn another_name_is_found_and_taken_back_by_who_knows_only_the_first() {
        let scratch = tempfile::tempdir().unwrap();
        let registry = Registry::new(scratch.path().to_owned(), |_| true);
        let first = names(scratch.path(), "1", "first", &["10.0.0.2"]);
        first.publish().unwrap();
        first.rename("web").unwrap();
        assert!(found(&registry, "net", "first").is_empty());
        let second = Names {
            name: "web".to_owned(),
            ..first.clone()
        };
        second.rename("Third").unwrap();
        // It is an alias too.
        assert_eq!(found(&registry, "net", "web"), ["10.0.0.2"]);
        assert_eq!(found(&registry, "net", "third"), ["10.0.0.2"]);
        assert_eq!(
            registry
                .name_of("net", "10.0.0.2".parse().unwrap())
                .unwrap(),
            "Third"
        );
        first.withdraw().unwrap();
        assert!(!scratch.path().join("net").exists());
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        for (name, want) in [
            ("Web_1.x-y", Some("web_1.x-y")),
            ("..", Some("%2e.")),
            (".", Some("%2e")),
            ("a/b", Some("a%2fb")),
            ("+10.0.0.2", Some("%2b10.0.0.2")),
            ("a%b", Some("a%25b")),
            ("x~", Some("x%7e")),
            ("ä", Some("%c3%a4")),
            ("", None),
        ] {
            assert_eq!(key(name).as_deref(), want, "{name}");
        }
        assert_eq!(key(&"x".repeat(256)), None);
    }

    #[test]
    fn many_come_and_go_at_once() {
        let scratch = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for index in 0..4_u8 {
                let directory = scratch.path();
                scope.spawn(move || {
                    let owner = index.to_string();
                    let address = format!("10.0.0.{index}");
                    let own = names(directory, &owner, "same", &[&address]);
                    let registry = Registry::new(directory.to_owned(), |_| true);
                    for _ in 0..100 {
                        own.publish().unwrap();
                        assert!(found(&registry, "net", "same").contains(&address));
                        own.withdraw().unwrap();
                    }
                });
            }
        });
        assert!(!scratch.path().join("net").exists());
    }
}

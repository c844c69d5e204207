//! Who has which name: symlinks that count only while their container exists and has that name.
//!
//! Making a link needs no lock: the kernel lets one of all makers win. Taking a link away happens
//! under the lock on `names/`, and only after looking again under it; so nobody ever takes away a
//! link that another has just made.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use sys::lock::Lock;

use super::Store;
use super::aside::or_parent;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::name::ContainerName;

/// What a name's link says.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Claim {
    /// There is no link.
    Free,
    /// A link, left by a crash.
    Stale,
    /// A container has the name or is getting it.
    Held(ContainerId),
}

impl Store {
    fn names_dir(&self) -> PathBuf {
        self.root().join("names")
    }

    fn name_link(&self, name: &ContainerName) -> PathBuf {
        self.names_dir().join(name.as_str())
    }

    /// Whose name it is; a link left by a crash is nobody's.
    ///
    /// # Errors
    /// When the link or the container's record cannot be read.
    pub fn owner(&self, name: &ContainerName) -> Result<Option<ContainerId>> {
        match self.link_target(name)? {
            Some(id) if self.has_name(&id, name)? => Ok(Some(id)),
            _ => Ok(None),
        }
    }

    /// Takes a name for a container that is being made or renamed.
    ///
    /// # Errors
    /// Docker's conflict when another container has it or is getting it.
    pub fn reserve(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        let link = self.name_link(name);
        loop {
            match or_parent(&self.names_dir(), || symlink(id.as_str(), &link)) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::file("make the link", &link, error)),
            }
            match self.claim(name)? {
                Claim::Held(holder) if holder != *id => return Err(in_use(name, &holder)),
                Claim::Held(_) => return Ok(()),
                Claim::Stale => self.take_away(name, |store| {
                    // a link that is missing by now must not be taken away: the next may be there
                    Ok(matches!(store.claim(name)?, Claim::Stale))
                })?,
                Claim::Free => {}
            }
        }
    }

    /// Gives a name back, if it is this container's.
    ///
    /// # Errors
    /// When the link cannot be removed.
    pub fn release(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        self.take_away(name, |store| {
            Ok(store.link_target(name)?.as_ref() == Some(id))
        })
    }

    /// Gives back every name that a crash left with a container.
    ///
    /// # Errors
    /// When the names cannot be read.
    pub(super) fn release_all(&self, id: &ContainerId) -> Result<()> {
        let names = self.names_dir();
        let entries = match fs::read_dir(&names) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("read the directory", &names, error)),
        };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Some(Ok(name)) = name.to_str().map(str::parse::<ContainerName>)
                && self.link_target(&name)?.as_ref() == Some(id)
            {
                self.release(&name, id)?;
            }
        }
        Ok(())
    }

    /// Removes the link if, seen under the lock, the condition holds.
    fn take_away(
        &self,
        name: &ContainerName,
        condition: impl FnOnce(&Self) -> Result<bool>,
    ) -> Result<()> {
        let names = self.names_dir();
        let _lock = Lock::wait_directory(&names)
            .map_err(|error| Error::system(format!("cannot lock {names:?}"), error))?;
        if !condition(self)? {
            return Ok(());
        }
        let link = self.name_link(name);
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::file("remove the link", &link, error))
            }
            _ => Ok(()),
        }
    }

    /// Who has the name or is getting it.
    fn claim(&self, name: &ContainerName) -> Result<Claim> {
        let link = self.name_link(name);
        let id: ContainerId = match fs::read_link(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Claim::Free),
            Err(error) => return Err(Error::file("read the link", &link, error)),
            Ok(target) => match target.to_str().and_then(|text| text.parse().ok()) {
                Some(id) => id,
                None => return Ok(Claim::Stale),
            },
        };
        // in this order: a container that is not being made any more has been published or is
        // gone, and one that is not being renamed any more has its new name
        if self.is_being_made(&id) || self.is_being_renamed(&id) || self.has_name(&id, name)? {
            return Ok(Claim::Held(id));
        }
        Ok(Claim::Stale)
    }

    fn link_target(&self, name: &ContainerName) -> Result<Option<ContainerId>> {
        let link = self.name_link(name);
        match fs::read_link(&link) {
            Ok(target) => Ok(target.to_str().and_then(|text| text.parse().ok())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // not a link: not ours, and nobody's name
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(Error::file("read the link", &link, error)),
        }
    }

    /// A rename holds the container's directory locked from before it makes the new link until
    /// the container says the new name.
    fn is_being_renamed(&self, id: &ContainerId) -> bool {
        matches!(Lock::attempt_directory(self.container(id).path()), Ok(None))
    }

    /// Gives a container another name: the new link, then the container's own word, then the old
    /// link. A crash in between leaves the container with exactly one name.
    ///
    /// # Errors
    /// Docker's conflict when the new name is taken; `No such container`.
    pub fn rename(&self, id: &ContainerId, new: &ContainerName) -> Result<()> {
        let dir = self.container(id);
        let missing = || Error::not_found(format!("No such container: {id}"));
        let _lock = Lock::wait_directory(dir.path()).map_err(|error| match error.errno() {
            2 => missing(),
            _ => Error::system(format!("cannot lock {:?}", dir.path()), error),
        })?;
        let old = self.load(id)?.name;
        self.reserve(new, id)?;
        if let Err(error) = super::replace(&dir.name(), new.as_str().as_bytes()) {
            self.release(new, id)?;
            return Err(error);
        }
        match old.parse::<ContainerName>() {
            Ok(old) => self.release(&old, id),
            Err(_) => Ok(()),
        }
    }

    fn has_name(&self, id: &ContainerId, name: &ContainerName) -> Result<bool> {
        match self.load(id) {
            Ok(container) => Ok(container.name == name.as_str()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Docker's text for a name that is taken.
fn in_use(name: &ContainerName, id: &ContainerId) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You \
         have to remove (or rename) that container to be able to reuse that name."
    ))
    .hint(format!(
        "remove it first with 'rbox rm {name}', or choose another name"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::tests::record;
    use crate::store::replace_json;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path(), directory.path().join("run"));
        (directory, store)
    }

    fn make(store: &Store, text: &str) -> Result<ContainerId> {
        let name = text.parse().unwrap();
        let record = record(text);
        let id = record.id.clone();
        let aside = store.make_aside(&id)?;
        store.reserve(&name, &id)?;
        replace_json(&aside.dir().config(), &record)?;
        aside.publish(store)?;
        Ok(id)
    }

    fn name(text: &str) -> ContainerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_name_in_use_names_its_container() {
        let (_directory, store) = store();
        let id = make(&store, "web").unwrap();
        let error = make(&store, "web").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert_eq!(
            error.to_string(),
            format!(
                "Conflict. The container name \"/web\" is already in use by container \"{id}\". \
                 You have to remove (or rename) that container to be able to reuse that name."
            )
        );
        assert_eq!(store.owner(&name("web")).unwrap(), Some(id));
        assert_eq!(store.ids().unwrap().len(), 1);
    }

    #[test]
    fn a_name_of_a_crashed_creator_is_free() {
        let (_directory, store) = store();
        store
            .reserve(&name("web"), &ContainerId::random().unwrap())
            .unwrap();
        assert_eq!(store.owner(&name("web")).unwrap(), None);
        let id = make(&store, "web").unwrap();
        assert_eq!(store.owner(&name("web")).unwrap(), Some(id));
    }

    #[test]
    fn a_name_on_its_way_is_taken() {
        let (_directory, store) = store();
        let id = ContainerId::random().unwrap();
        let aside = store.make_aside(&id).unwrap();
        store.reserve(&name("web"), &id).unwrap();
        assert!(make(&store, "web").is_err());
        drop(aside);
        assert!(make(&store, "web").is_ok());
    }

    #[test]
    fn many_creators_of_one_name_make_one_container() {
        for _ in 0..10 {
            let (_directory, store) = store();
            // a dangling link: all of them go the slow way
            store
                .reserve(&name("web"), &ContainerId::random().unwrap())
                .unwrap();
            let made: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..8)
                    .map(|_| scope.spawn(|| make(&store, "web")))
                    .collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert_eq!(made.iter().filter(|result| result.is_ok()).count(), 1);
            assert_eq!(store.ids().unwrap().len(), 1);
            let owner = store.owner(&name("web")).unwrap();
            assert_eq!(owner.as_ref(), store.ids().unwrap().first());
        }
    }

    #[test]
    fn making_and_removing_in_turn_never_gives_a_name_twice() {
        let (_directory, store) = store();
        let most = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    for _ in 0..40 {
                        let Ok(id) = make(&store, "web") else {
                            continue;
                        };
                        let now = store
                            .load_all()
                            .unwrap()
                            .iter()
                            .filter(|container| container.name == "web")
                            .count();
                        most.fetch_max(now, std::sync::atomic::Ordering::Relaxed);
                        assert_eq!(store.owner(&name("web")).unwrap().as_ref(), Some(&id));
                        store.discard(&id, false).unwrap();
                        store.release(&name("web"), &id).unwrap();
                    }
                });
            }
        });
        assert_eq!(most.into_inner(), 1);
    }

    #[test]
    fn a_rename_moves_the_name_and_frees_the_old_one() {
        let (_directory, store) = store();
        let id = make(&store, "old").unwrap();
        make(&store, "taken").unwrap();
        assert!(store.rename(&id, &name("taken")).is_err());
        store.rename(&id, &name("new")).unwrap();
        assert_eq!(store.load(&id).unwrap().name, "new");
        assert_eq!(store.owner(&name("old")).unwrap(), None);
        assert_eq!(store.owner(&name("new")).unwrap(), Some(id));
        make(&store, "old").unwrap();
    }

    #[test]
    fn a_rename_that_died_on_its_way_leaves_the_old_name() {
        let (_directory, store) = store();
        let id = make(&store, "old").unwrap();
        store.reserve(&name("new"), &id).unwrap();
        assert_eq!(store.owner(&name("new")).unwrap(), None);
        assert_eq!(store.owner(&name("old")).unwrap(), Some(id));
        make(&store, "new").unwrap();
    }
}

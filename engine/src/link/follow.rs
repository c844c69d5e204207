//! A source's side: whoever starts, moves, is renamed or ends tells its receivers.

use std::fs;
use std::io;

use sys::error::with_causes;

use super::gate::Gates;
use super::resolve::{Sight, look};
use super::{Held, Links, Seen, hosts};
use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ContainerId;
use crate::name::ContainerName;
use crate::plan::StartHost;
use crate::store::{Container, RunDir};

/// What a source tells.
#[derive(Debug, Clone, Copy)]
enum News<'a> {
    /// It runs, here.
    Runs(&'a Seen),
    /// It has ended.
    Ended,
    /// It has another name.
    Renamed,
}

impl Engine {
    /// Tells all receivers of a container that has just recorded its place on its networks where
    /// it is now; what could not be told, for the user. One look for a container without receivers.
    pub(crate) fn tell_receivers(&self, source: &Container) -> Vec<Error> {
        let name = source.current_name();
        let receivers = match self.store().receivers(&name) {
            Ok(receivers) => receivers,
            Err(error) => return vec![error],
        };
        if receivers.is_empty() {
            return Vec::new();
        }
        match look(source) {
            Ok(Sight::Here(seen)) => self.tell_all(&receivers, source, &name, News::Runs(&seen)),
            Ok(Sight::Elsewhere | Sight::Stopped) => {
                self.tell_all(&receivers, source, &name, News::Ended)
            }
            Err(error) => vec![error],
        }
    }

    /// Closes the gates to a container whose end is recorded and that had this name; what cannot
    /// be closed now stays in the receiver's journal.
    pub(crate) fn leave_receivers(&self, source: &Container, name: &str) {
        if let Ok(receivers) = self.store().receivers(name) {
            let _ = self.tell_all(&receivers, source, name, News::Ended);
        }
    }

    fn tell_all(
        &self,
        receivers: &[ContainerId],
        source: &Container,
        name: &str,
        news: News<'_>,
    ) -> Vec<Error> {
        let tell = |id: &ContainerId| self.tell(id, source, name, news).err();
        receivers.iter().filter_map(tell).collect()
    }

    /// Tells one receiver, if its document says that it is one.
    fn tell(&self, id: &ContainerId, source: &Container, name: &str, news: News<'_>) -> Result<()> {
        // In this order: what is not being made any more has been published or is gone.
        let being_made = self.store().is_being_made(id);
        let receiver = match self.store().load(id) {
            Ok(receiver) => receiver,
            Err(error) if error.kind() == ErrorKind::NotFound && being_made => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return self.store().unmark_receiver(name, id);
            }
            Err(error) => return Err(error),
        };
        let failed = |error: Error| {
            let text = format!("cannot tell container {} where {name} is", receiver.name);
            Error::new(error.kind(), format!("{text}: {}", with_causes(&error)))
        };
        let Some(held) = Held::wait(&receiver)? else {
            return Ok(());
        };
        let mut links = self.links_of(&receiver)?;
        if !self.adopt(&receiver, &mut links, source, name)? {
            return match news {
                // The new name's marks are made before the links say that name.
                News::Renamed => Ok(()),
                News::Runs(_) | News::Ended => self.store().unmark_receiver(name, id),
            };
        }
        let write = |links: &Links| held.write(&receiver, links);
        match news {
            News::Renamed => hosts::rewrite(&mut links, &receiver.dir.hosts(), write),
            News::Runs(seen) => {
                for link in links
                    .links
                    .iter_mut()
                    .filter(|link| link.source == *source.id())
                {
                    link.seen = Some(seen.clone());
                }
                let written = hosts::rewrite(&mut links, &receiver.dir.hosts(), write);
                let opened = self.set_gates(&receiver.run, source.id(), Some(seen));
                written.and(opened)
            }
            News::Ended => self.set_gates(&receiver.run, source.id(), None),
        }
        .map_err(failed)
    }

    /// Gives a container those links of a receiver that are its own: made with it, or with one of
    /// its name that is gone. False where there are none.
    fn adopt(
        &self,
        receiver: &Container,
        links: &mut Links,
        source: &Container,
        name: &str,
    ) -> Result<bool> {
        let mut any = false;
        for link in &mut links.links {
            let own = link.source == *source.id()
                || link.name == name
                    && self
                        .source_of(receiver.id(), link)?
                        .is_some_and(|found| found.id() == source.id());
            if own {
                link.source = source.id().clone();
                name.clone_into(&mut link.name);
                any = true;
            }
        }
        Ok(any)
    }

    /// Opens and closes for one source, where the receiver runs behind gates.
    fn set_gates(&self, run: &RunDir, source: &ContainerId, seen: Option<&Seen>) -> Result<()> {
        let Some(gates) = Gates::read(run)? else {
            return Ok(());
        };
        // Of a receiver that crashed the recovery closes all, and nothing more is to be opened.
        let lives = run.monitor()?.is_some_and(|monitor| monitor.alive());
        let seen = seen.filter(|_| lives);
        let mut host = StartHost::of(self.options()).network;
        gates.set(run, (source, seen), &mut host)
    }

    /// Closes all gates of a receiver whose process has ended.
    ///
    /// # Errors
    /// When the firewall refuses; the next recovery tries again.
    pub(crate) fn close_gates(&self, receiver: &ContainerId, run: &RunDir) -> Result<()> {
        if !run.gates_path().exists() {
            return Ok(());
        }
        let _held = match self.store().load(receiver) {
            Ok(receiver) => Held::wait(&receiver)?,
            // Nobody can find a receiver that is gone.
            Err(_) => None,
        };
        Gates::close(run, &mut StartHost::of(self.options()).network)
    }

    /// Closes what is open to a source that crashed, wherever that is: its name may be gone.
    ///
    /// # Errors
    /// When the state directory cannot be read. What cannot be closed stays in the journal.
    pub(crate) fn close_gates_to(&self, source: &ContainerId) -> Result<()> {
        let path = self.store().state().join("containers");
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::file("read the directory", &path, error)),
        };
        for entry in entries.flatten() {
            let run = RunDir::at(entry.path());
            let id = entry.file_name().to_str().and_then(|id| id.parse().ok());
            if let Some(id) = id
                && run.gates_path().exists()
                && let Ok(receiver) = self.store().load(&id)
                && let Ok(Some(_held)) = Held::wait(&receiver)
            {
                let _ = self.set_gates(&run, source, None);
            }
        }
        Ok(())
    }

    /// Gives a container another name, and its receivers' links with it.
    ///
    /// # Errors
    /// Those of [`crate::Store::rename`].
    pub(crate) fn rename_source(&self, source: &Container, new: &ContainerName) -> Result<()> {
        let store = self.store();
        let (old, new_name) = (source.name.as_str(), new.as_str());
        let mark = |receivers: &[ContainerId]| {
            let mut all = receivers.iter();
            all.try_for_each(|id| store.mark_receiver(new_name, id))
        };
        let before = store.receivers(old)?;
        // Before anybody can look for the new name.
        mark(&before)?;
        if let Err(error) = store.rename(source.id(), new) {
            self.unmark(&before, new_name)?;
            return Err(error);
        }
        // Again: one may have been made in between, and read the old name.
        let receivers = store.receivers(old)?;
        // A hosts file that cannot be written says the old name until the next start.
        let _ = self.tell_all(&receivers, source, new_name, News::Renamed);
        mark(&receivers)?;
        self.unmark(&receivers, old)
    }

    /// Takes marks away that no link stands behind.
    fn unmark(&self, receivers: &[ContainerId], name: &str) -> Result<()> {
        for id in receivers {
            if !self.stands_behind(id, name)? {
                self.store().unmark_receiver(name, id)?;
            }
        }
        Ok(())
    }

    /// Marks a receiver that has just been made once more, where a source got another name while
    /// it was.
    ///
    /// # Errors
    /// When the root directory is full or not writable.
    pub(crate) fn confirm_marks(&self, receiver: &Container) -> Result<()> {
        for link in self.links_of(receiver)?.links {
            if let Ok(source) = self.store().load(&link.source)
                && source.name != link.name
            {
                self.store().mark_receiver(&source.name, receiver.id())?;
            }
        }
        Ok(())
    }

    /// Whether a receiver has a link to this name.
    fn stands_behind(&self, receiver: &ContainerId, name: &str) -> Result<bool> {
        match self.store().load(receiver) {
            Ok(receiver) => {
                let links = self.links_of(&receiver)?.links;
                Ok(links.iter().any(|link| link.name == name))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(self.store().is_being_made(receiver))
            }
            Err(error) => Err(error),
        }
    }
}

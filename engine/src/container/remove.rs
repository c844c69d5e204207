//! `rm`: a container and what is its own alone.

use crate::Engine;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::monitor::claim::{Claim, Claimed};
use crate::store::{Container, Hidden, ProcessMark, Status};

/// How to remove a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// `-f`: kill it first.
    pub force: bool,
    /// `-v`: also its volumes that have no name and no other user.
    pub volumes: bool,
    /// `-l`: not the container but a link of its.
    pub link: bool,
}

impl Engine {
    /// Removes a container.
    ///
    /// # Errors
    /// `No such container: X`; `You cannot remove a running container <id>. …` without `force`.
    pub fn remove(&self, text: &str, options: RemoveOptions) -> Result<()> {
        if options.link {
            return self.remove_link(text);
        }
        let container = match self.find(text) {
            Err(error) if options.force && error.kind() == ErrorKind::System => {
                return self.remove_damaged(text, error);
            }
            found => found?,
        };
        let mut killed = false;
        loop {
            let claimed = match Claim::of(&container) {
                // Without a run directory nobody holds a claim; none can be made where the state
                // directory is full.
                Err(_) if !container.run.path().exists() => {
                    return self.forget(&container, options.volumes);
                }
                claimed => claimed?,
            };
            match claimed {
                Claimed::Ours(claim) => {
                    // what a dead monitor left: its cgroup, addresses, ports
                    self.take_back(container.id(), claim.run());
                    let removed = self.forget(&container, options.volumes);
                    claim.clear()?;
                    return match removed {
                        // the monitor has removed what was started with --rm
                        Err(error) if killed && error.kind() == ErrorKind::NotFound => Ok(()),
                        other => other,
                    };
                }
                Claimed::Lives(status) if !options.force => return Err(refuse(&container, status)),
                Claimed::Lives(_) => {
                    self.kill_for_removal(&container)?;
                    killed = true;
                }
            }
        }
    }

    /// Removes what is left of a container whose record cannot be read and that does not run.
    fn remove_damaged(&self, text: &str, error: Error) -> Result<()> {
        let id = self.resolve(text)?;
        let monitor = self.store().run(&id).monitor()?;
        if monitor.is_some_and(ProcessMark::alive) {
            return Err(error);
        }
        self.recover_one(&id)?;
        match self.store().discard(&id, false) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            other => other.map(drop),
        }
    }

    /// Removes a container's records and its writable layer. The caller holds the claim to it, or
    /// nobody can: it was just made.
    ///
    /// # Errors
    /// `No such container` when another was faster.
    pub(crate) fn forget(&self, container: &Container, volumes: bool) -> Result<()> {
        let hidden = self.hide(container, volumes)?;
        self.delete(container, hidden)
    }

    /// The part of [`Engine::forget`] that everybody sees: the container and its name are gone.
    pub(crate) fn hide(&self, container: &Container, volumes: bool) -> Result<Hidden> {
        let volumes = volumes && container.record.mounts.iter().any(|mount| mount.anonymous);
        let name = container.current_name();
        let links = self.links_of(container).unwrap_or_default();
        let hidden = self.store().hide(container.id(), volumes)?;
        if let Ok(name) = name.parse() {
            self.store().release(&name, container.id())?;
        }
        self.forget_links(container.id(), &links.links)?;
        Ok(hidden)
    }

    /// The part of [`Engine::forget`] that takes time.
    pub(crate) fn delete(&self, container: &Container, hidden: Hidden) -> Result<()> {
        let removed = self.store().delete(hidden);
        let events = self.events();
        for volume in removed.iter().flatten() {
            // an event that cannot be written must not keep anything from going
            let _ = events.append(&Event::new(
                "volume",
                "destroy",
                &volume.name,
                &[("driver", volume.record.driver.as_str())],
            ));
        }
        self.note(container, "destroy", &[]);
        removed.map(drop)
    }

    /// Kills a container that lives; one that ends by itself meanwhile is as good.
    fn kill_for_removal(&self, container: &Container) -> Result<()> {
        match self.kill(container.id(), "KILL") {
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {
                self.recover_one(container.id()).map(drop)
            }
            other => other,
        }
    }
}

fn refuse(container: &Container, status: Status) -> Error {
    let (id, name) = (container.id(), &container.name);
    let (what, first) = match status {
        Status::Paused => ("a paused", "Unpause and then stop"),
        Status::Restarting => ("a restarting", "Stop"),
        Status::Running | Status::Created | Status::Removing | Status::Exited | Status::Dead => {
            ("a running", "Stop")
        }
    };
    Error::conflict(format!(
        "You cannot remove {what} container {id}. {first} the container before attempting removal \
         or force remove"
    ))
    .hint(format!("'rbox rm -f {name}' kills and removes it"))
}

//! Clearing up after monitors that died: any command does it, none needs to.
//!
//! A run directory whose claim nobody holds was left by a crash. Who takes the claim kills what is
//! left of the container's processes, undoes the journal, releases what was held, records the end
//! (or with `--rm` removes the container) and clears the run directory. Two commands that do so at
//! once exclude each other by the claim; a container that is just starting holds its own.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use plan::Journal;
use sys::epoll::{Interest, poll};
use sys::lock::Lock;

use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::monitor::claim::Claim;
use crate::plan::{StartHost, StartStep};
use crate::store::{Container, InitRecord, ProcessMark, RunDir};
use crate::time::Time;

/// What the process of a container whose monitor was killed ended with.
const KILLED: i32 = 137;

impl Engine {
    /// Clears up after every monitor that died, and after commands that died while they made or
    /// removed a container; returns how many monitors there were.
    ///
    /// # Errors
    /// When the state directory cannot be read. What cannot be cleared up waits for the next time.
    pub fn recover(&self) -> Result<usize> {
        let _ = self.store().sweep();
        let path = self.store().state().join("containers");
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(Error::file("read the directory", &path, error)),
        };
        let mut cleared = 0;
        for entry in entries.flatten() {
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some(id) = id
                && self.recover_one(&id).is_ok_and(|dead| dead)
            {
                cleared += 1;
            }
        }
        Ok(cleared)
    }

    /// Clears up after one container's monitor if it died; true when there was something to do.
    ///
    /// # Errors
    /// When the claim cannot be taken or the run directory not be removed.
    pub fn recover_one(&self, id: &ContainerId) -> Result<bool> {
        let run = self.store().run(id);
        // Every command asks this of every container that runs: the quick question comes first.
        if matches!(Lock::is_held(&run.monitor_path()), Ok(true)) || !run.path().exists() {
            return Ok(false);
        }
        let Some(claim) = Claim::attempt(&run)? else {
            return Ok(false);
        };
        self.clear_up(id, claim)?;
        Ok(true)
    }

    /// Undoes everything that a dead monitor did. The claim is the caller's word that it is dead.
    ///
    /// # Errors
    /// When the run directory cannot be removed.
    pub(crate) fn clear_up(&self, id: &ContainerId, claim: Claim) -> Result<()> {
        // One that makes the directory, to begin with the container, signs later: nobody died there.
        let has_begun = claim.run().monitor()?.is_some();
        self.take_back(id, claim.run());
        if has_begun && let Ok(container) = self.store().load(id) {
            self.record_death(&container)?;
        }
        claim.clear()
    }

    /// Kills the container's processes and undoes the journal; whatever fails leaves the rest to
    /// be done.
    pub(crate) fn take_back(&self, id: &ContainerId, run: &RunDir) {
        if let Ok(Some(init)) = run.init() {
            kill(init.process);
        }
        let _ = self.close_gates(id, run);
        if run.plan_path().exists() {
            let _ = self.close_gates_to(id);
        }
        let mut host = StartHost::of(self.options());
        let steps: Vec<StartStep> = Journal::at(run.plan_path()).read().unwrap_or_default();
        let _ = plan::undo_all(&steps, &mut host);
        let _ = Journal::at(run.plan_path()).remove();
        for directory in ["networks", "ports"] {
            release_all(&self.store().state().join(directory), id);
        }
    }

    /// Records that the container ended with its monitor, or removes it.
    fn record_death(&self, container: &Container) -> Result<()> {
        let init: Option<InitRecord> = container.run.init()?;
        let mut state = container.state()?;
        let unfinished = init.filter(|init| state.finished_at < init.started_at);
        if container.record.host.auto_remove {
            if unfinished.is_some() {
                self.note_ended(container, KILLED);
            }
            return self.forget(container, true);
        }
        if unfinished.is_none() && !state.restarting {
            return Ok(());
        }
        if let Some(init) = unfinished {
            state.started_at = init.started_at;
            state.finished_at = Time::now();
            state.exit_code = KILLED;
            self.note_ended(container, KILLED);
        }
        state.restarting = false;
        container.write_state(&state)
    }
}

/// Kills a process that is still the one that was recorded, and waits for its end.
fn kill(mark: ProcessMark) {
    let Ok(process) = sys::process::pidfd_open(mark.pid) else {
        return;
    };
    // Looked at after the descriptor was opened: it cannot become another's any more.
    if !mark.alive() {
        return;
    }
    let _ = sys::process::kill_pidfd(process.as_fd());
    let patience = std::time::Duration::from_secs(10);
    let _ = poll(&[(process.as_fd(), Interest::Read)], Some(patience));
}

/// Removes the reservations of a dead container: links to its id, two levels deep at most.
fn release_all(directory: &Path, id: &ContainerId) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        match fs::read_link(&path) {
            Ok(owner) if owner.as_os_str() == id.as_str() => {
                if let Some(name) = path.file_name() {
                    let hold = netns::hold::Hold {
                        path: directory.join(name),
                        owner: id.to_string(),
                    };
                    let _ = hold.release();
                }
            }
            Ok(_) => {}
            Err(_) => release_all(&path, id),
        }
    }
}

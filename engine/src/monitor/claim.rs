//! The exclusive right to a container's life: held by its monitor, by who removes it, by who
//! clears up after a monitor that died.
//!
//! It is the lock on the file `monitor` in the container's run directory. A run directory that
//! nobody holds is free or was left by a crash; only a holder writes or removes anything in it.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use sys::lock::{Attempt, Lock};

use crate::error::{Error, Result};
use crate::store::{Container, ProcessMark, RunDir, Status};

/// How long to wait for who is just ending or just starting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(1);

/// The right to a container's life, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    run: RunDir,
    lock: Lock,
}

/// What came of asking for it.
#[derive(Debug)]
pub enum Claimed {
    /// It is ours. What a dead monitor left is still there.
    Ours(Claim),
    /// The container has a monitor and this status, which is running, paused or restarting.
    Lives(Status),
}

impl Claim {
    /// Takes the right if nobody has it, without waiting. The run directory is made.
    ///
    /// # Errors
    /// When the state directory cannot be written.
    pub fn attempt(run: &RunDir) -> Result<Option<Self>> {
        loop {
            run.make()?;
            match Lock::attempt(&run.monitor_path()) {
                Ok(Attempt::Held(lock)) => {
                    return Ok(Some(Self {
                        run: run.clone(),
                        lock,
                    }));
                }
                Ok(Attempt::Busy(_)) => return Ok(None),
                // The directory went between the two calls: its holder has just finished.
                Err(error) if error.errno() == 2 => {}
                Err(error) => {
                    let path = run.monitor_path();
                    return Err(Error::system(format!("cannot lock {path:?}"), error));
                }
            }
        }
    }

    /// Takes the right; waits while a monitor is starting or ending.
    ///
    /// # Errors
    /// When somebody holds it for half a minute without the container being alive.
    pub fn of(container: &Container) -> Result<Claimed> {
        let begin = Instant::now();
        loop {
            if let Some(claim) = Self::attempt(&container.run)? {
                return Ok(Claimed::Ours(claim));
            }
            let (status, _) = container.status()?;
            if status.is_running() {
                return Ok(Claimed::Lives(status));
            }
            if begin.elapsed() > PATIENCE {
                return Err(Error::conflict(format!(
                    "container {} is busy: its monitor neither starts nor ends",
                    container.id()
                ))
                .hint(format!("see who holds {:?}", container.run.monitor_path())));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Says in the file that this process is the container's monitor.
    ///
    /// # Errors
    /// When the state directory is full.
    pub fn sign(&mut self) -> Result<()> {
        let pid = std::process::id().cast_signed();
        let mark = ProcessMark::of(pid).ok_or_else(|| {
            Error::system("cannot read /proc/self/stat", io::Error::other("none"))
        })?;
        self.lock
            .say(&RunDir::monitor_text(mark))
            .map_err(|error| Error::system("cannot sign the monitor's lock", error))
    }

    /// The run directory that it stands for.
    pub fn run(&self) -> &RunDir {
        &self.run
    }

    /// The lock's descriptor, to be kept over a fork.
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    /// Removes the run directory and gives the right back.
    ///
    /// # Errors
    /// When something cannot be removed; the right is given back all the same.
    pub fn clear(self) -> Result<()> {
        let path = self.run.path();
        let monitor = self.run.monitor_path();
        let result = (|| {
            let entries = match fs::read_dir(path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?.path();
                if entry != monitor {
                    gone_is_well(fs::remove_file(entry))?;
                }
            }
            // The lock's file goes last, and who waited for it finds it gone and starts over.
            gone_is_well(fs::remove_file(&monitor))?;
            match fs::remove_dir(path) {
                // Somebody else has just begun.
                Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
                other => gone_is_well(other),
            }
        })();
        result.map_err(|error| Error::file("remove", path, error))
    }
}

fn gone_is_well(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> (tempfile::TempDir, RunDir) {
        let directory = tempfile::tempdir().unwrap();
        let run = RunDir::at(directory.path().join("containers/x"));
        (directory, run)
    }

    #[test]
    fn one_has_it_until_it_is_cleared() {
        let (_directory, run) = run();
        let mut claim = Claim::attempt(&run).unwrap().unwrap();
        claim.sign().unwrap();
        assert!(Claim::attempt(&run).unwrap().is_none());
        assert!(run.monitor().unwrap().unwrap().alive());
        fs::write(run.plan_path(), "[]").unwrap();
        claim.clear().unwrap();
        assert!(!run.path().exists());
        assert!(Claim::attempt(&run).unwrap().is_some());
    }

    #[test]
    fn many_at_once_get_it_one_after_the_other() {
        let (_directory, run) = run();
        let inside = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let Some(claim) = Claim::attempt(&run).unwrap() else {
                            continue;
                        };
                        let order = std::sync::atomic::Ordering::SeqCst;
                        assert_eq!(inside.fetch_add(1, order), 0);
                        fs::write(run.plan_path(), "[]").unwrap();
                        inside.fetch_sub(1, order);
                        claim.clear().unwrap();
                    }
                });
            }
        });
        assert!(!run.path().exists());
    }
}

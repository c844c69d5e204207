//! A container's cgroups: where they are, their life, what can be done to all that is in them.

pub mod devices;
pub mod limits;
pub mod stats;

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags};
use serde::{Deserialize, Serialize};
use sys::SysResultExt;
use sys::cgroup::{Hierarchies, Hierarchy};

/// How long the kernel may take to freeze or empty a cgroup.
const PATIENCE: Duration = Duration::from_secs(10);

/// A container's directory in one v1 tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// The controllers of the tree.
    pub controllers: Vec<String>,
    /// The directory.
    pub path: PathBuf,
    /// The directory that is not ours: what is made lies below it.
    pub base: PathBuf,
    /// Found, not made: others may be in it. It is read and joined, never frozen, killed or
    /// removed.
    #[serde(default)]
    pub shared: bool,
}

/// A container's cgroups.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// In the v2 tree.
    pub unified: Option<Group>,
    /// In the v1 trees that it needs.
    pub v1: Vec<Group>,
}

/// What can go wrong with cgroups.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// A file or directory below the cgroup mounts.
    #[error("cannot {verb} {path:?}")]
    File {
        /// What was tried.
        verb: String,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel was built without this limit, or a module is missing.
    #[error("this kernel has no such limit: there is no {0:?}")]
    NoFile(PathBuf),
    /// The kernel did not do what it was told in time.
    #[error("{path:?} is still not {state} after {} s", PATIENCE.as_secs())]
    Patience {
        /// The directory.
        path: PathBuf,
        /// `frozen`, `thawed` or `empty`.
        state: &'static str,
    },
    /// The host has no tree for what was asked.
    #[error("this host has no cgroup controller {0}")]
    NoController(String),
    /// Others may be in it.
    #[error("the cgroup is not one container's alone")]
    Shared,
    /// The device program.
    #[error(transparent)]
    Sys(#[from] sys::SysError),
}

pub(crate) fn file_error(
    verb: impl Into<String>,
    path: &Path,
) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    let verb = verb.into();
    move |source| CgroupError::File { verb, path, source }
}

impl Cgroup {
    /// The cgroups in which a process is now, to read and to join: others may be in them, so that
    /// nothing in them can be killed or frozen through this value.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(pid: i32, hierarchies: &Hierarchies) -> sys::Result<Self> {
        let group = |tree: &Hierarchy| Group {
            controllers: tree.controllers.clone(),
            path: tree.own.clone(),
            base: tree.mount.clone(),
            shared: true,
        };
        let found = hierarchies.of(pid)?;
        Ok(Self {
            unified: found.unified.as_ref().map(group),
            v1: found
                .v1
                .iter()
                .filter(|tree| {
                    !tree
                        .controllers
                        .iter()
                        .any(|name| name.starts_with("name="))
                })
                .map(group)
                .collect(),
        })
    }

    /// All directories.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.unified.iter().chain(&self.v1)
    }

    /// The directory of a v1 controller.
    pub fn v1_of(&self, controller: &str) -> Option<&Path> {
        self.v1
            .iter()
            .find(|group| group.controllers.iter().any(|name| name == controller))
            .map(|group| group.path.as_path())
    }

    /// The v2 directory, to be born in.
    ///
    /// # Errors
    /// When it does not exist.
    pub fn open_unified(&self) -> sys::Result<Option<OwnedFd>> {
        let Some(group) = &self.unified else {
            return Ok(None);
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(CWD, &group.path, flags, Mode::empty())
            .map(Some)
            .call(|| format!("open({:?}, O_PATH)", group.path))
    }

    /// The ids of all processes in it.
    ///
    /// # Errors
    /// When none of the directories can be read.
    pub fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        match self.main() {
            Some(path) => processes_in(path),
            None => Ok(Vec::new()),
        }
    }

    /// Those that were made for this container alone.
    fn owned(&self) -> impl Iterator<Item = &Group> {
        self.groups().filter(|group| !group.shared)
    }

    /// The directory that surely holds all processes.
    fn main(&self) -> Option<&Path> {
        self.groups().next().map(|group| group.path.as_path())
    }

    /// Kills all processes in it, also those being born meanwhile.
    ///
    /// # Errors
    /// When the directories can be read but not written.
    pub fn kill(&self) -> Result<(), CgroupError> {
        for group in self.owned() {
            kill_in(&group.path)?;
        }
        Ok(())
    }

    /// Stops all processes in it and waits until they have.
    ///
    /// # Errors
    /// [`CgroupError::NoController`] where there is no freezer.
    pub fn freeze(&self) -> Result<(), CgroupError> {
        self.set_frozen(true)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self) -> Result<(), CgroupError> {
        self.set_frozen(false)
    }

    /// Whether it is frozen.
    pub fn is_frozen(&self) -> bool {
        if let Some(path) = self.v2_file("cgroup.events") {
            return fs::read_to_string(path).is_ok_and(|text| text.contains("frozen 1"));
        }
        let Some(path) = self.v1_of("freezer") else {
            return false;
        };
        fs::read_to_string(path.join("freezer.state")).is_ok_and(|text| text.trim() == "FROZEN")
    }

    fn v2_file(&self, name: &str) -> Option<PathBuf> {
        let group = self.unified.as_ref()?;
        let path = group.path.join(name);
        // The root of the tree has no freezer of its own.
        path.exists().then_some(path)
    }

    fn set_frozen(&self, frozen: bool) -> Result<(), CgroupError> {
        if self.groups().any(|group| group.shared) {
            return Err(CgroupError::Shared);
        }
        let (path, word) = if let Some(path) = self.v2_file("cgroup.freeze") {
            (path, if frozen { "1" } else { "0" })
        } else if let Some(directory) = self.v1_of("freezer") {
            let word = if frozen { "FROZEN" } else { "THAWED" };
            (directory.join("freezer.state"), word)
        } else {
            return Err(CgroupError::NoController("freezer".to_owned()));
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            fs::write(&path, word).map_err(file_error(format!("write {word} to"), &path))?;
            if self.is_frozen() == frozen {
                return Ok(());
            }
            if Instant::now() > deadline {
                let state = if frozen { "frozen" } else { "thawed" };
                return Err(CgroupError::Patience { path, state });
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// How often the kernel killed for want of memory; 0 where memory is not limited.
    pub fn out_of_memory_kills(&self) -> u64 {
        let v2 = self
            .unified
            .as_ref()
            .map(|group| group.path.join("memory.events"));
        let v1 = self
            .v1_of("memory")
            .map(|path| path.join("memory.oom_control"));
        v2.into_iter()
            .chain(v1)
            .filter_map(|path| fs::read_to_string(path).ok())
            .filter_map(|text| stats::field(&text, "oom_kill"))
            .sum()
    }

    pub(crate) fn create(&self) -> Result<(), CgroupError> {
        for group in self.owned() {
            group.create()?;
        }
        Ok(())
    }

    /// Kills what is in it and removes it; gone already is success.
    ///
    /// # Errors
    /// [`CgroupError::Patience`] when a process does not end.
    pub fn remove(&self) -> Result<(), CgroupError> {
        let mut outcome = Ok(());
        for group in self.owned() {
            let result = group.remove();
            if outcome.is_ok() {
                outcome = result;
            }
        }
        outcome
    }
}

impl Group {
    fn create(&self) -> Result<(), CgroupError> {
        for _ in 0..100 {
            match fs::create_dir(&self.path) {
                Ok(()) => return self.inherit_cpuset(),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(file_error("create", &self.path)(error)),
            }
            // The parent is missing, or another container's end has just taken it away.
            if let Some(parent) = self.path.parent() {
                match fs::create_dir_all(parent) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(file_error("create", parent)(error));
                    }
                    _ => {}
                }
            }
        }
        Err(file_error("create", &self.path)(io::Error::from(
            io::ErrorKind::NotFound,
        )))
    }

    /// A cpuset of v1 is born without processors; each level takes those of the one above.
    fn inherit_cpuset(&self) -> Result<(), CgroupError> {
        if !self.controllers.iter().any(|name| name == "cpuset") {
            return Ok(());
        }
        let below = self.path.strip_prefix(&self.base).unwrap_or(Path::new(""));
        let mut directory = self.base.clone();
        for part in below.components() {
            let parent = directory.clone();
            directory.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let path = directory.join(file);
                let own = fs::read_to_string(&path).map_err(file_error("read", &path))?;
                if own.trim().is_empty() {
                    let above = parent.join(file);
                    let value = fs::read_to_string(&above).map_err(file_error("read", &above))?;
                    fs::write(&path, value.trim()).map_err(file_error("write", &path))?;
                }
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<(), CgroupError> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(200);
        loop {
            match fs::remove_dir(&self.path) {
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    kill_in(&self.path)?;
                    remove_below(&self.path);
                }
                Err(error) => return Err(file_error("remove", &self.path)(error)),
            }
            if Instant::now() > deadline {
                return Err(CgroupError::Patience {
                    path: self.path.clone(),
                    state: "empty",
                });
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
        // The directories above are ours too, but others may be in them: then they stay.
        let mut parent = self.path.parent();
        while let Some(directory) = parent {
            if directory == self.base || !directory.starts_with(&self.base) {
                break;
            }
            if fs::remove_dir(directory).is_err() {
                break;
            }
            parent = directory.parent();
        }
        Ok(())
    }
}

/// Cgroups that the container made below its own.
fn remove_below(path: &Path) {
    let Ok(entries) = fs::read_dir(path) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path());
            // What cannot be removed yet is met again by the caller's next attempt.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The file of a version 1 cgroup by which a single thread enters it.
pub(crate) const TASKS: &str = "tasks";

fn processes_in(path: &Path) -> Result<Vec<i32>, CgroupError> {
    let file = path.join("cgroup.procs");
    let text = fs::read_to_string(&file).map_err(file_error("read", &file))?;
    let mut all: Vec<i32> = text
        .lines()
        .filter_map(|line| line.parse().ok())
        // 0 is a process that our pid namespace cannot name.
        .filter(|pid| *pid > 0)
        .collect();
    if let Ok(entries) = fs::read_dir(path) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.extend(processes_in(&entry.path()).unwrap_or_default());
            }
        }
    }
    Ok(all)
}

/// Kills what is in a directory: at once by v2's `cgroup.kill`, else one by one until none is left.
fn kill_in(path: &Path) -> Result<(), CgroupError> {
    if fs::write(path.join("cgroup.kill"), "1").is_ok() {
        return Ok(());
    }
    let freezer = path.join("freezer.state");
    let frozen = freezer.exists() && fs::write(&freezer, "FROZEN").is_ok();
    let outcome = match processes_in(path) {
        Ok(all) => all
            .into_iter()
            .try_for_each(|pid| sys::process::kill_pid(pid).map_err(CgroupError::from)),
        Err(CgroupError::File { source, .. })
            if source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(19) =>
        {
            Ok(())
        }
        Err(error) => Err(error),
    };
    if frozen {
        fs::write(&freezer, "THAWED").map_err(file_error("write THAWED to", &freezer))?;
    }
    outcome
}

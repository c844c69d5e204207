//! A throw-away host: fresh namespaces, its own `/run`, `/var/lib`, `/sys`, cgroups and processes.

use std::io::{BufRead, BufReader, Read};
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use nix::sched::{CloneFlags, unshare};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tempfile::TempDir;

use crate::cgroup::LabCgroup;
use crate::host::{Host, Place};
use crate::reference;

/// A host of its own in which everything is allowed; it ends, with all its processes, when dropped.
///
/// `rbox` is first in its search path and uses its default directories, which are the lab's own.
#[derive(Debug)]
pub struct Lab {
    host: Host,
    keeper: Option<Keeper>,
    // Dropped in this order: first the processes, then what they lived in.
    cgroup: LabCgroup,
    scratch: TempDir,
}

/// The thread that is the parent of the lab's first process: when it ends, the lab ends.
#[derive(Debug)]
struct Keeper {
    _release: Sender<()>,
}

impl Lab {
    /// Makes a lab.
    ///
    /// # Panics
    /// When the machine does not allow it; a lab needs root.
    #[track_caller]
    pub fn new() -> Self {
        Self::with_program(&rbox_binary())
    }

    /// Makes a lab whose `rbox` is the given program.
    ///
    /// # Panics
    /// As [`Lab::new`].
    #[track_caller]
    pub fn with_program(rbox: &Path) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "a lab needs root: run the tests with `cargo xtask test` as root"
        );
        let scratch = tempfile::Builder::new()
            .prefix(&format!("rbox-lab-{}-", std::process::id()))
            .tempdir()
            .expect("a scratch directory can be made");
        let cgroup = LabCgroup::new();
        let place = Place {
            entrances: cgroup.entrances(),
            directory: scratch.path().to_owned(),
            path: search_path(scratch.path(), rbox),
        };
        let (keeper, init) = Keeper::start(cgroup.lines(), scratch.path().to_owned());
        let lab = Self {
            host: Host::new(init, place),
            keeper: Some(keeper),
            cgroup,
            scratch,
        };
        if reference::wanted() {
            reference::replace(&lab);
        }
        lab
    }

    /// A directory that is the same inside and outside of the lab, removed with it.
    pub fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// Writes a file below [`Lab::directory`] and returns its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[track_caller]
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.scratch.path().join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("the scratch directory is writable");
        }
        std::fs::write(&path, content).expect("the scratch directory is writable");
        path.to_str().expect("scratch paths are plain").to_owned()
    }

    /// The lab's cgroups on the machine.
    pub fn cgroup(&self) -> &LabCgroup {
        &self.cgroup
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Lab {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            drop(keeper);
        }
    }
}

impl Keeper {
    fn start(cgroups: String, directory: PathBuf) -> (Self, OwnedFd) {
        let (release, released) = channel();
        let (answer, answered) = channel();
        std::thread::Builder::new()
            .name("lab".to_owned())
            .spawn(move || keep(&cgroups, &directory, &answer, &released))
            .expect("a thread can be started");
        match answered.recv() {
            Ok(Ok(init)) => (Self { _release: release }, init),
            Ok(Err(why)) => panic!("cannot make a lab on this machine: {why}"),
            Err(_) => panic!("cannot make a lab on this machine: its keeper died"),
        }
    }
}

/// The life of a lab, from the side of its first process's parent.
fn keep(
    cgroups: &str,
    directory: &Path,
    answer: &Sender<Result<OwnedFd, String>>,
    released: &Receiver<()>,
) {
    match begin(cgroups, directory) {
        Err(why) => {
            let _ = answer.send(Err(why));
        }
        Ok((mut child, init)) => {
            let _ = answer.send(Ok(init));
            let _ = released.recv();
            let _ = child.kill();
            // The lab's first process ends after all others were waited for, by whoever holds them:
            // nobody may wait for this thread.
            let _ = child.wait();
        }
    }
}

fn begin(cgroups: &str, directory: &Path) -> Result<(Child, OwnedFd), String> {
    unshare(
        CloneFlags::CLONE_FS
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWPID,
    )
    .map_err(|error| format!("unshare: {error}"))?;
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(include_str!("init.sh"))
        .env("LAB_CGROUPS", cgroups)
        .env("LAB_DIRECTORY", directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("sh: {error}"))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    if line != "ready\n" {
        let mut why = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = stderr.read_to_string(&mut why);
        }
        let _ = child.kill();
        let _ = child.wait();
        return Err(why);
    }
    let pid = Pid::from_child(&child);
    let init =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("pidfd_open: {error}"))?;
    Ok((child, init))
}

/// A directory with `rbox` in it, before the system's own.
fn search_path(scratch: &Path, rbox: &Path) -> String {
    let own = scratch.join("bin");
    std::fs::create_dir(&own).expect("the scratch directory is writable");
    symlink(rbox, own.join("rbox")).expect("the scratch directory is writable");
    format!(
        "{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        own.display()
    )
}

/// The program under test: `RBOX_BIN`, or the one in the target directory of the running program.
///
/// # Panics
/// When it was not built.
pub fn rbox_binary() -> PathBuf {
    let path = std::env::var_os("RBOX_BIN").map_or_else(
        || {
            let own = std::env::current_exe().expect("/proc is mounted");
            // target/<triple>/debug/deps/<test>, or target/<triple>/debug/xtask
            let folder = own.parent().expect("programs lie in a directory");
            let folder = match folder.file_name() {
                Some(name) if name == "deps" => folder.parent().unwrap_or(folder),
                _ => folder,
            };
            folder.join("rbox")
        },
        PathBuf::from,
    );
    assert!(
        path.is_file(),
        "{} is missing: build it with `cargo build`, or run `cargo xtask test`",
        path.display()
    );
    path
}

//! A host of a lab: its namespaces, and how a test steps into them.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};

use crate::command::Cmd;

/// All that a process of the lab shares with the lab's first process.
const SHARED: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWCGROUP);

/// A host of a lab: the lab itself or one that only has a network of its own.
#[derive(Clone)]
pub struct Host {
    name: String,
    init: Arc<OwnedFd>,
    network: Option<Arc<OwnedFd>>,
    pub(crate) place: Arc<Place>,
}

/// What every command of a lab is given.
#[derive(Debug)]
pub(crate) struct Place {
    /// Files through which a process enters the lab's cgroups.
    pub(crate) entrances: Vec<PathBuf>,
    /// Where commands start; exists inside and outside of the lab.
    pub(crate) directory: PathBuf,
    /// The search path of commands, `rbox` first.
    pub(crate) path: String,
}

impl fmt::Debug for Host {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Host({})", self.name)
    }
}

impl Host {
    pub(crate) fn new(init: OwnedFd, place: Place) -> Self {
        Self {
            name: "lab".to_owned(),
            init: Arc::new(init),
            network: None,
            place: Arc::new(place),
        }
    }

    /// The same host but for its network.
    pub fn with_network(&self, name: &str, network: OwnedFd) -> Self {
        Self {
            name: name.to_owned(),
            network: Some(Arc::new(network)),
            ..self.clone()
        }
    }

    /// Does something inside the host: files, sockets and processes are the host's. The work is
    /// done by a thread of its own that must not start another; it has no entry in the host's `/proc`.
    ///
    /// # Panics
    /// When the work panics or the lab has gone.
    #[track_caller]
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let outcome = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.step_in();
                    work()
                })
                .join()
        });
        match outcome {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    fn step_in(&self) {
        unshare(CloneFlags::CLONE_FS).expect("a thread may have its own working directory");
        let gone = "the lab lives as long as its host";
        match &self.network {
            None => setns(&*self.init, SHARED | CloneFlags::CLONE_NEWNET).expect(gone),
            Some(network) => {
                setns(&**network, CloneFlags::CLONE_NEWNET).expect(gone);
                setns(&*self.init, SHARED).expect(gone);
            }
        }
    }

    /// A command to be run in this host.
    pub fn command(&self, program: &str) -> Cmd {
        Cmd::new(self.clone(), program)
    }

    /// The `rbox` command with these arguments, to be run in this host.
    pub fn rbox<I: IntoIterator<Item = S>, S: AsRef<str>>(&self, arguments: I) -> Cmd {
        self.command("rbox").args(arguments)
    }

    /// Runs a shell script in this host; it must succeed. Returns what it printed.
    ///
    /// # Panics
    /// When the script fails.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.command("sh")
            .args(["-euc", script])
            .run()
            .success()
            .text()
    }

    /// Makes this a host whose firewall is managed with `iptables`, or leaves it as it is for `nft`:
    /// rbox takes the hand that fits.
    ///
    /// # Panics
    /// When there is no `iptables`.
    #[track_caller]
    pub fn have_firewall(&self, hand: &str) {
        if hand == "iptables" {
            self.sh("iptables -A INPUT -s 192.0.2.1 -j DROP");
        }
    }

    /// Reads a file of the host, if it is there and readable.
    pub fn read(&self, path: &str) -> Option<String> {
        self.enter(|| std::fs::read(path).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The host's name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }
}

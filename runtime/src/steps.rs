//! What the container's first process does to itself, as values: described, printed, applied.

use std::path::PathBuf;

use plan::{Description, Step};
use serde::{Deserialize, Serialize};
use sys::bpf::Instruction;
use sys::caps::CapSet;
use sys::mount::Attributes;
use sys::namespace::Kind;
use sys::process::Limit;

use crate::inside::{Inside, InsideError};
use crate::mounts::{Mount, MountKind, RootPropagation, Source, words};
use crate::request::{Root, UserRequest};

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Where, from the container's root.
    pub path: PathBuf,
    /// `c`, `b` or `p`.
    pub kind: char,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permissions.
    pub mode: u32,
    /// Owner.
    pub user: u32,
    /// Owning group.
    pub group: u32,
}

/// A resource limit with its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedLimit {
    /// As `--ulimit` has it: `nofile`.
    pub name: String,
    /// The kernel's number.
    pub number: u32,
    /// The limit.
    pub limit: Limit,
}

/// What the process may do in the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// The ceiling.
    pub bounding: CapSet,
    /// In force.
    pub effective: CapSet,
    /// Can be put in force.
    pub permitted: CapSet,
    /// Offered to programs executed.
    pub inheritable: CapSet,
    /// Kept by programs executed.
    pub ambient: CapSet,
}

/// One step inside the container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ChildStep {
    /// Moves itself into v1 cgroups.
    CgroupJoin(Vec<PathBuf>),
    /// Begins a cgroup namespace at where it now is.
    CgroupNamespace,
    /// Joins a namespace by its file.
    NamespaceJoin(Kind, PathBuf),
    /// Joins all namespaces of a running container.
    ContainerJoin(Vec<Kind>),
    /// Takes hold of what bind mounts need from the host.
    BindSources(Vec<Source>),
    /// Cuts the mount namespace off from the host's.
    MountsPrivate,
    /// Mounts the root file system.
    Root(Root),
    /// Mounts one thing below it.
    Mount(Mount),
    /// Makes device nodes, and Docker's links in /dev where it is new.
    Devices(Vec<DeviceNode>, bool),
    /// Puts the init program at /sbin/docker-init.
    InitProgram,
    /// Opens the pseudo-terminal and shows it as /dev/console.
    Console(u16, u16),
    /// Writes kernel parameters of the new namespaces.
    Sysctl(Vec<(String, String)>),
    /// Hides paths.
    Mask(Vec<PathBuf>),
    /// Makes paths read-only.
    ReadOnly(Vec<PathBuf>),
    /// Sets host and domain name.
    HostName(Option<String>, Option<String>),
    /// Makes the working directory where the root is about to become read-only.
    MakeDirectory(PathBuf),
    /// Makes the root read-only.
    RootReadOnly,
    /// Leaves the host's root for the container's.
    ChangeRoot(Option<RootPropagation>),
    /// Sets the preference of the out-of-memory killer.
    OutOfMemoryScore(i32),
    /// Sets resource limits.
    Limits(Vec<NamedLimit>),
    /// Begins a session with its own keyring, standard streams and, if so, controlling terminal.
    Session(bool),
    /// Finds out who the program runs as.
    User(Option<UserRequest>, (u32, u32, Vec<u32>), u32),
    /// Goes to the working directory; makes it if so.
    WorkingDirectory(PathBuf, bool),
    /// Finds the program.
    Program,
    /// Gives up gaining privilege.
    NoNewPrivileges,
    /// Restricts system calls.
    Seccomp(Vec<Instruction>, u64),
    /// Becomes the user with these capabilities.
    Credentials(Capabilities),
}

impl Step<Inside<'_>> for ChildStep {
    type Error = InsideError;

    fn name(&self) -> &'static str {
        match self {
            ChildStep::CgroupJoin(_) => "cgroup-join",
            ChildStep::CgroupNamespace => "cgroup-namespace",
            ChildStep::NamespaceJoin(..) => "namespace-join",
            ChildStep::ContainerJoin(_) => "container-join",
            ChildStep::BindSources(_) => "bind-sources",
            ChildStep::MountsPrivate => "mounts-private",
            ChildStep::Root(Root::Overlay(_)) => "root-overlay",
            ChildStep::Root(Root::Directory(_)) => "root-directory",
            ChildStep::Mount(mount) => mount_name(mount),
            ChildStep::Devices(..) => "devices",
            ChildStep::InitProgram => "init-program",
            ChildStep::Console(..) => "console",
            ChildStep::Sysctl(_) => "sysctl",
            ChildStep::Mask(_) => "mask",
            ChildStep::ReadOnly(_) => "read-only",
            ChildStep::HostName(..) => "hostname",
            ChildStep::MakeDirectory(_) => "cwd-make",
            ChildStep::RootReadOnly => "root-read-only",
            ChildStep::ChangeRoot(_) => "pivot",
            ChildStep::OutOfMemoryScore(_) => "oom-score",
            ChildStep::Limits(_) => "rlimits",
            ChildStep::Session(_) => "session",
            ChildStep::User(..) => "user",
            ChildStep::WorkingDirectory(..) => "cwd",
            ChildStep::Program => "program",
            ChildStep::NoNewPrivileges => "no-new-privileges",
            ChildStep::Seccomp(..) => "seccomp",
            ChildStep::Credentials(_) => "credentials",
        }
    }

    fn apply(&self, inside: &mut Inside<'_>) -> Result<(), InsideError> {
        inside.apply(self)
    }

    /// All of it goes with the process and its namespaces.
    fn undo(&self, _: &mut Inside<'_>) -> Result<(), InsideError> {
        Ok(())
    }

    fn describe(&self) -> Description {
        let (what, why, calls) = crate::describe::child_step(self);
        Description {
            what,
            why: why.to_owned(),
            calls,
        }
    }

    fn shell(&self) -> Vec<String> {
        crate::describe::child_shell(self)
    }
}

fn mount_name(mount: &Mount) -> &'static str {
    match &mount.kind {
        MountKind::Bind { .. } => "mount-bind",
        MountKind::Cgroup { .. } => "mount-cgroup",
        MountKind::New { filesystem, .. } => match filesystem.as_str() {
            "proc" => "mount-proc",
            "sysfs" => "mount-sysfs",
            "tmpfs" => "mount-tmpfs",
            "devpts" => "mount-devpts",
            "mqueue" => "mount-mqueue",
            _ => "mount-other",
        },
    }
}

pub(crate) fn mount_words(mount: &Mount) -> String {
    let all = words(mount.attributes.with(mount.top));
    let recursive = matches!(
        mount.kind,
        MountKind::Bind {
            recursive: true,
            ..
        }
    );
    match recursive && mount.attributes.has(Attributes::READ_ONLY) {
        true => all.replacen("ro", "ro=recursive", 1),
        false => all,
    }
}

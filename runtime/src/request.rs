//! What a caller asks for: one container, or one more process in it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};
use sys::mount::Overlay;

use crate::seccomp::Filter;

/// The root file system of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Root {
    /// Layers that are stacked inside the container's own mount namespace.
    Overlay(Overlay),
    /// A directory that is there already.
    Directory(PathBuf),
}

/// A user as Docker's `-u` takes it: resolved in the container's own passwd and group files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRequest {
    /// `user[:group]`, names or numbers; empty is root.
    pub user: String,
    /// Further groups, names or numbers (`--group-add`).
    pub groups: Vec<String>,
}

/// One container to be started.
///
/// The specification says nearly everything: `process` (terminal and console size, arguments,
/// environment, cwd, capabilities, rlimits, oom_score_adj, no_new_privileges), `root.readonly`,
/// `hostname`, `domainname`, `mounts`, and of `linux` the namespaces (absent: shared with the
/// host; with a path: joined; else new), devices, resources, seccomp, masked and read-only paths,
/// sysctl, rootfs propagation and the cgroup's path. In v1 trees a cgroup path without a leading
/// slash lies beneath the caller's own cgroup, one with it beneath the tree's root; in the v2 tree,
/// where a cgroup with processes cannot hand controllers down, always beneath the root. Absent, the
/// container stays in the caller's cgroup. `root.path` is not looked at: see [`Request::root`].
#[derive(Debug, Clone)]
pub struct Request {
    /// What to run and how.
    pub spec: Spec,
    /// Where it runs.
    pub root: Root,
    /// Replaces `process.user`; resolved inside the container. Also sets `HOME` where the
    /// environment has none.
    pub user: Option<UserRequest>,
    /// Replaces `linux.seccomp`; see [`crate::seccomp::default_profile`] and
    /// [`crate::seccomp::select`].
    pub filter: Option<Filter>,
    /// PID 1 is a tiny init that forwards signals and reaps (`--init`).
    pub init: bool,
}

/// One more process in a running container.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The container's first process, in the caller's process ids.
    pub init: i32,
    /// What to run: as the container's own process, with the differences asked for.
    pub process: Process,
    /// Replaces `process.user`; resolved inside the container.
    pub user: Option<UserRequest>,
    /// The container's filter; absent for `--privileged`.
    pub filter: Option<Filter>,
}

/// Where the process's standard streams come from.
#[derive(Debug)]
pub enum Stdio {
    /// The three descriptors become 0, 1 and 2; an absent one is `/dev/null`.
    Descriptors {
        /// Standard input.
        stdin: Option<OwnedFd>,
        /// Standard output.
        stdout: Option<OwnedFd>,
        /// Standard error.
        stderr: Option<OwnedFd>,
    },
    /// A pseudo-terminal of the container's own, as `process.terminal` asks; the master comes back
    /// with [`crate::Child::wait_exec`], its first size is `process.consoleSize`.
    Terminal,
}

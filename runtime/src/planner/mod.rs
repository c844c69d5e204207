//! Specification and facts → steps. Pure: nothing is opened here, everything is decided here.

mod cage;
mod view;

use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxNamespaceType, Process};
use sys::caps::{CapSet, UnknownCap};
use sys::cgroup::Hierarchy;
use sys::namespace::Kind;

use crate::cgroup::limits::{self, LimitError};
use crate::cgroup::{Cgroup, Group};
use crate::facts::Facts;
use crate::host::HostStep;
use crate::mounts;
use crate::request::{ExecRequest, Request};
use crate::seccomp::{self, ProfileError};
use crate::steps::ChildStep;

use cage::{Cage, cage};
use view::{Builder, console, propagation};

/// Why a request cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The specification lacks something.
    #[error("the container's specification has no {0}")]
    Missing(&'static str),
    /// A mount that is refused.
    #[error("cannot mount on {target:?}: {why}")]
    Mount {
        /// Where.
        target: PathBuf,
        /// Why not.
        why: &'static str,
    },
    /// A limit that this host cannot apply.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// No such capability.
    #[error(transparent)]
    UnknownCapability(#[from] UnknownCap),
    /// The caller cannot give what it does not have.
    #[error("cannot give the capabilities {0}: this process does not have them itself")]
    Capabilities(CapSet),
    /// A kernel parameter that does not belong to the container alone.
    #[error("sysctl '{0}' is not allowed")]
    Sysctl(String),
    /// The seccomp profile.
    #[error(transparent)]
    Seccomp(#[from] ProfileError),
    /// Something rbox does not do.
    #[error("rbox does not support {0}")]
    Unsupported(String),
}

/// What is to be executed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Program {
    /// Name or path, and arguments.
    pub arguments: Vec<String>,
    /// `KEY=value`.
    pub environment: Vec<String>,
    /// The tiny init runs it.
    pub init: bool,
}

/// A container that is to be started, decided in all things.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Before the clone, by the caller: journalled, undone when the container is gone.
    pub host: Vec<HostStep>,
    /// By [`crate::spawn()`] while the child prepares itself: what must be in force before the
    /// program runs and needs not to be before. All of it goes with what `host` made.
    pub beside: Vec<HostStep>,
    /// By the child, in order.
    pub child: Vec<ChildStep>,
    /// Namespaces the child is born into.
    pub namespaces: Vec<Kind>,
    /// A pid namespace to be born into instead of a new one.
    pub pid_namespace: Option<PathBuf>,
    /// The container's cgroups; none where it stays in the caller's.
    pub cgroup: Option<Cgroup>,
    /// What is executed.
    pub program: Program,
    /// The child reports how long each step took.
    pub timed: bool,
}

/// A further process in a running container, decided in all things.
#[derive(Debug, Clone, PartialEq)]
pub struct ExecPlan {
    /// The container's first process.
    pub init: i32,
    /// By the child, in order.
    pub child: Vec<ChildStep>,
    /// The container's cgroups.
    pub cgroup: Cgroup,
    /// What is executed.
    pub program: Program,
}

/// Plans a container.
///
/// # Errors
/// [`PlanError`] for what this host or rbox cannot do; nothing has been changed then.
pub fn plan(request: &Request, facts: &Facts) -> Result<Plan, PlanError> {
    let spec = &request.spec;
    let process = spec
        .process()
        .as_ref()
        .ok_or(PlanError::Missing("process"))?;
    let linux = spec.linux().as_ref().ok_or(PlanError::Missing("linux"))?;
    refuse(request, linux)?;
    let cgroup = place(linux, facts);
    let mut builder = Builder {
        request,
        process,
        linux,
        facts,
        cgroup,
        child: Vec::new(),
    };
    let (host, beside) = builder.host()?;
    let (namespaces, pid_namespace) = builder.namespaces();
    builder.root()?;
    builder.view()?;
    builder.child.push(ChildStep::ChangeRoot(propagation(
        linux.rootfs_propagation().as_deref(),
    )));
    let filter = match (&request.filter, linux.seccomp()) {
        (Some(filter), _) => Some(filter.clone()),
        (None, Some(spec)) => Some(seccomp::from_spec(spec)?),
        (None, None) => None,
    };
    cage(
        &mut builder.child,
        process,
        &Cage {
            user: request.user.as_ref(),
            filter: filter.as_ref(),
            make_directory: true,
            facts,
        },
    )?;
    let arguments = process.args().clone().unwrap_or_default();
    if arguments.first().is_none_or(String::is_empty) {
        return Err(PlanError::Missing("process.args"));
    }
    Ok(Plan {
        host,
        beside,
        child: builder.child,
        namespaces,
        pid_namespace,
        cgroup: builder.cgroup,
        program: Program {
            arguments,
            environment: process.env().clone().unwrap_or_default(),
            init: request.init,
        },
        timed: false,
    })
}

/// Plans a further process in a running container; `cgroup` is the container's.
///
/// # Errors
/// As [`plan()`].
pub fn plan_exec(
    request: &ExecRequest,
    cgroup: Cgroup,
    facts: &Facts,
) -> Result<ExecPlan, PlanError> {
    let process = &request.process;
    refuse_process(process)?;
    let arguments = process.args().clone().unwrap_or_default();
    if arguments.first().is_none_or(String::is_empty) {
        return Err(PlanError::Missing("process.args"));
    }
    let mut child = Vec::new();
    if !cgroup.v1.is_empty() {
        let all = cgroup.v1.iter().map(|group| group.path.clone());
        child.push(ChildStep::CgroupJoin(all.collect()));
    }
    child.push(ChildStep::ContainerJoin(vec![
        Kind::Mount,
        Kind::Network,
        Kind::Pid,
        Kind::Ipc,
        Kind::Uts,
        Kind::Cgroup,
    ]));
    if process.terminal() == Some(true) {
        child.push(console(process));
    }
    cage(
        &mut child,
        process,
        &Cage {
            user: request.user.as_ref(),
            filter: request.filter.as_ref(),
            make_directory: false,
            facts,
        },
    )?;
    Ok(ExecPlan {
        init: request.init,
        child,
        cgroup,
        program: Program {
            arguments,
            environment: process.env().clone().unwrap_or_default(),
            init: false,
        },
    })
}

/// What the specification asks and rbox does not do is refused, never left out.
fn refuse(request: &Request, linux: &Linux) -> Result<(), PlanError> {
    let unsupported = |what: &str| Err(PlanError::Unsupported(what.to_owned()));
    if linux
        .uid_mappings()
        .as_ref()
        .is_some_and(|all| !all.is_empty())
    {
        return unsupported("user namespaces");
    }
    if linux.intel_rdt().is_some() {
        return unsupported("linux.intelRdt");
    }
    if linux.personality().is_some() {
        return unsupported("linux.personality");
    }
    if linux
        .mount_label()
        .as_ref()
        .is_some_and(|label| !label.is_empty())
    {
        return unsupported("SELinux labels");
    }
    if request.spec.hooks().is_some() {
        return unsupported("hooks");
    }
    if linux
        .time_offsets()
        .as_ref()
        .is_some_and(|all| !all.is_empty())
    {
        return unsupported("linux.timeOffsets");
    }
    if linux.memory_policy().is_some() {
        return unsupported("linux.memoryPolicy");
    }
    if linux
        .net_devices()
        .as_ref()
        .is_some_and(|all| !all.is_empty())
    {
        return unsupported("linux.netDevices");
    }
    let mut namespaces = linux.namespaces().iter().flatten();
    if namespaces.any(|one| one.typ() == LinuxNamespaceType::User) {
        return unsupported("user namespaces");
    }
    match request.spec.process() {
        Some(process) => refuse_process(process),
        None => Ok(()),
    }
}

/// The same for what an exec may ask, too.
fn refuse_process(process: &Process) -> Result<(), PlanError> {
    let unsupported = |what: &str| Err(PlanError::Unsupported(what.to_owned()));
    let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
    let confined = |text: &Option<String>| given(text) && text.as_deref() != Some("unconfined");
    if confined(process.apparmor_profile()) {
        return unsupported("AppArmor profiles");
    }
    if given(process.selinux_label()) {
        return unsupported("SELinux labels");
    }
    if process.io_priority().is_some() {
        return unsupported("process.ioPriority");
    }
    if process.scheduler().is_some() {
        return unsupported("process.scheduler");
    }
    if process.exec_cpu_affinity().is_some() {
        return unsupported("process.execCPUAffinity");
    }
    Ok(())
}

/// Where the container's cgroups are.
fn place(linux: &Linux, facts: &Facts) -> Option<Cgroup> {
    let path = linux.cgroups_path().as_ref()?;
    if path.as_os_str().is_empty() {
        return None;
    }
    let relative = mounts::clean(path);
    let relative = relative.strip_prefix("/").unwrap_or(&relative);
    let trees = &facts.cgroups;
    let group = |tree: &Hierarchy, from_root: bool| {
        let base = if from_root || path.is_absolute() {
            &tree.mount
        } else {
            &tree.own
        };
        Group {
            controllers: tree.controllers.clone(),
            path: base.join(relative),
            base: base.clone(),
            shared: false,
        }
    };
    let mut wanted: Vec<&str> = Vec::new();
    if let Some(resources) = linux.resources() {
        wanted.extend(limits::controllers(resources));
    }
    if !facts.device_programs {
        wanted.push("devices");
    }
    if trees.unified.is_none() {
        wanted.push("freezer");
    }
    let mut cgroup = Cgroup {
        // Where v2 has the controllers, a cgroup with processes cannot hand them down: the
        // caller's own is one.
        unified: trees.unified.as_ref().map(|tree| group(tree, true)),
        v1: Vec::new(),
    };
    for name in wanted {
        if let Some(tree) = trees.v1_of(name)
            && cgroup.v1_of(name).is_none()
        {
            cgroup.v1.push(group(tree, false));
        }
    }
    Some(cgroup)
}

//! Makes the container's first process, or one more in a running container.
//!
//! The child prepares itself while the caller goes on: see `sync` for what they tell each other. In
//! the end it executes the trampoline from a sealed memory file, and that the program: rbox's own
//! file is never what a process of a container executes. A further process is made by the trampoline
//! itself, beside the process that prepared it: no process with rbox's memory or file is ever seen
//! from inside a running container.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use plan::fault::Moment;
use plan::{Failure, Faults, Run, Step};
use sys::SysError;
use sys::namespace::Kind;
use sys::process::Fork;
use sys::socket::MessageSocket;

use crate::cgroup::CgroupError;
use crate::child::{Child, PREPARING};
use crate::error::{Report, ReportKind};
use crate::host::Host;
use crate::inside::{Inside, InsideError, Made};
use crate::planner::{ExecPlan, Plan, Program};
use crate::request::Stdio;
use crate::steps::ChildStep;
use crate::sync;
use crate::timing::StepTime;

const SIGKILL: i32 = 9;

/// Why a child could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// A call of the parent.
    #[error(transparent)]
    Call(#[from] SysError),
    /// A limit or device rule.
    #[error(transparent)]
    Step(#[from] Failure<CgroupError>),
}

/// Starts a container whose host steps have been applied. The caller's thread must be its only one.
///
/// # Errors
/// When the child cannot be made or its limits cannot be set; it is killed and reaped then. What
/// goes wrong in the child comes from [`Child::wait_exec`].
pub fn spawn(plan: &Plan, stdio: &Stdio, faults: &Faults) -> Result<Child, SpawnError> {
    let cgroup = match &plan.cgroup {
        Some(cgroup) => cgroup.open_unified()?,
        None => None,
    };
    let joined = match &plan.pid_namespace {
        Some(path) => Some(JoinedPids::join(path)?),
        None => None,
    };
    let task = Task {
        steps: &plan.child,
        program: &plan.program,
        stdio,
        faults,
        container: None,
        timed: plan.timed,
    };
    let made = plan.child.iter().filter_map(|step| match step {
        ChildStep::Mount(mount) => Made::of(mount),
        _ => None,
    });
    let how = Fork {
        namespaces: sys::namespace::flags(&plan.namespaces),
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
    };
    let mut child = task.start(&how, made.collect())?;
    let mut run = Run::new(faults.clone(), plan.timed);
    let beside = joined
        .map_or(Ok(()), JoinedPids::leave)
        .map_err(SpawnError::from)
        .and_then(|()| Ok(run.apply(&plan.beside, &mut Host::default())?));
    match beside {
        Ok(()) => {
            child.beside = run.timings().to_vec();
            Ok(child)
        }
        Err(error) => {
            child.kill()?;
            sys::process::wait_pidfd(child.pidfd(), true)?;
            Err(error)
        }
    }
}

/// Starts a further process in a running container. The caller's thread must be its only one.
///
/// The process that runs the program is a child of the caller too, named by
/// [`crate::Started::pid`]; the one of [`Child::pid`] has then ended or is about to, and both are to
/// be reaped.
///
/// # Errors
/// When the container is gone or the child cannot be made.
pub fn spawn_exec(plan: &ExecPlan, stdio: &Stdio, faults: &Faults) -> Result<Child, SpawnError> {
    let container = sys::process::pidfd_open(plan.init)?;
    let cgroup = plan.cgroup.open_unified()?;
    let task = Task {
        steps: &plan.child,
        program: &plan.program,
        stdio,
        faults,
        container: Some(container.as_fd()),
        timed: false,
    };
    let how = Fork {
        cgroup: cgroup.as_ref().map(AsFd::as_fd),
        ..Fork::default()
    };
    Ok(task.start(&how, Vec::new())?)
}

/// The pid namespace of later children, changed for one of them.
struct JoinedPids {
    own: OwnedFd,
}

impl JoinedPids {
    fn join(path: &Path) -> Result<Self, SysError> {
        let own = sys::namespace::open(Path::new("/proc/self/ns/pid"), Kind::Pid)?;
        let other = sys::namespace::open(path, Kind::Pid)?;
        sys::namespace::join(other.as_fd(), &[Kind::Pid])?;
        Ok(Self { own })
    }

    fn leave(self) -> Result<(), SysError> {
        sys::namespace::join(self.own.as_fd(), &[Kind::Pid])
    }
}

/// What the child is to do.
struct Task<'a> {
    steps: &'a [ChildStep],
    program: &'a Program,
    stdio: &'a Stdio,
    faults: &'a Faults,
    container: Option<BorrowedFd<'a>>,
    timed: bool,
}

impl Task<'_> {
    fn start(&self, how: &Fork<'_>, made: Vec<Made<'_>>) -> Result<Child, SysError> {
        if self.faults.is_listing() {
            // The list lies on the host, out of the child's sight once it has changed its root.
            for step in self.steps {
                for moment in [Moment::Before, Moment::After] {
                    // A list takes no revenge.
                    let _ = self.faults.point(step.name(), moment);
                }
            }
        }
        let (ours, theirs) = sync::pair()?;
        let parent = if *self.faults == Faults::none() {
            None
        } else {
            Some(sys::process::pidfd_open(std::process::id().cast_signed())?)
        };
        let mut held = Some((ours, parent));
        let mut made = Some(made);
        let forked = sys::process::fork(how, || {
            // The child's copy of the parent's end would keep the conversation open for ever.
            if let Some((ours, parent)) = held.take() {
                drop(ours);
                if let Some(parent) = parent {
                    sys::process::remember_parent(parent);
                }
            }
            self.run(&theirs, made.take().unwrap_or_default())
        })?;
        let sync = held.take().map(|(ours, _)| ours);
        Ok(Child {
            pid: forked.pid,
            pidfd: forked.pidfd,
            sync,
            beside: Vec::new(),
            program: self.program.arguments.first().cloned().unwrap_or_default(),
        })
    }

    /// The child's whole life up to the program; the number is its exit code when it fails.
    fn run(&self, sync: &MessageSocket, made: Vec<Made<'_>>) -> i32 {
        const FAILED: i32 = 125;
        let mut inside = Inside::new(sync, self.stdio, self.program, self.container);
        inside.made = made;
        if let Err(report) = self.prepare(sync, &mut inside) {
            if let Some(report) = report {
                sync::fail(sync, &report);
            }
            return FAILED;
        }
        let error = self.execute(sync, &inside);
        sync::fail(sync, &error.report("exec"));
        FAILED
    }

    /// Applies the steps; `None` is the end without a word because nobody listens any more.
    fn prepare(&self, sync: &MessageSocket, inside: &mut Inside<'_>) -> Result<(), Option<Report>> {
        let call = |error: SysError| Some(InsideError::from(error).report("prepare"));
        if self.container.is_none() {
            sys::process::set_death_signal(SIGKILL).map_err(call)?;
        }
        sys::process::set_dumpable(false).map_err(call)?;
        if let Ok(name) = CString::new(PREPARING) {
            sys::process::set_name(&name).map_err(call)?;
        }
        sys::process::default_signals();
        sys::process::set_umask(0);
        let begin = Instant::now();
        let mut times = Vec::new();
        let caged = self
            .steps
            .iter()
            .position(is_caging)
            .unwrap_or(self.steps.len());
        for step in &self.steps[..caged] {
            self.one(step, inside, begin, &mut times)?;
        }
        if self.timed {
            sync::send_times(sync, &times);
        }
        if !sync::wait_for_release(sync) {
            return Err(None);
        }
        sync::send_prepared(sync).map_err(call)?;
        for step in &self.steps[caged..] {
            self.one(step, inside, begin, &mut times)?;
        }
        // The death signal tells of a death from now on; one before it shows here.
        if sync::parent_is_alive(sync) {
            Ok(())
        } else {
            Err(None)
        }
    }

    fn one(
        &self,
        step: &ChildStep,
        inside: &mut Inside<'_>,
        begin: Instant,
        times: &mut Vec<StepTime>,
    ) -> Result<(), Option<Report>> {
        let name = step.name();
        self.point(name, Moment::Before)?;
        let started = self.timed.then(|| begin.elapsed());
        step.apply(inside)
            .map_err(|error| Some(error.report(name)))?;
        if let Some(started) = started {
            let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(0);
            times.push(StepTime {
                step: name.to_owned(),
                begin: micros(started),
                duration: micros(begin.elapsed() - started),
            });
        }
        self.point(name, Moment::After)
    }

    fn point(&self, name: &str, moment: Moment) -> Result<(), Option<Report>> {
        if self.faults.is_listing() {
            return Ok(());
        }
        self.faults.point(name, moment).map_err(|injected| {
            Some(Report {
                step: name.to_owned(),
                kind: ReportKind::Fault,
                call: injected.to_string(),
                errno: 0,
            })
        })
    }

    /// Executes the trampoline; returns only on failure.
    fn execute(&self, sync: &MessageSocket, inside: &Inside<'_>) -> InsideError {
        match self.try_execute(sync, inside) {
            Ok(error) => error.into(),
            Err(error) => error,
        }
    }

    fn try_execute(
        &self,
        sync: &MessageSocket,
        inside: &Inside<'_>,
    ) -> Result<SysError, InsideError> {
        let trampoline = inside.trampoline()?;
        sys::process::cloexec_from(3)?;
        let number = sys::process::keep_open(sync)?;
        let mode = match (self.container, self.stdio) {
            (None, _) => c"exec",
            (Some(_), Stdio::Descriptors { .. }) => c"fork",
            (Some(_), Stdio::Terminal) => c"term",
        };
        let mut arguments: Vec<CString> = vec![
            c"trampoline".to_owned(),
            mode.to_owned(),
            CString::new(number.to_string()).unwrap_or_default(),
        ];
        if self.program.init {
            arguments.extend([c"/sbin/docker-init", c"/sbin/docker-init", c"--"].map(Into::into));
        } else {
            arguments.extend(inside.path.clone());
        }
        arguments.extend_from_slice(inside.arguments());
        Ok(sys::process::execute_descriptor(
            trampoline,
            &arguments,
            &inside.environment,
        ))
    }
}

/// Steps after which less can be done: they come when all else, the network too, is ready.
fn is_caging(step: &ChildStep) -> bool {
    matches!(
        step,
        ChildStep::NoNewPrivileges | ChildStep::Seccomp(..) | ChildStep::Credentials(_)
    )
}

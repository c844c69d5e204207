//! The hands of the steps inside a container: what the child holds while it prepares itself.
//!
//! Everything of the container's tree is reached from the descriptor of its root, resolved beneath
//! it, and then worked on by descriptor: no path is looked up twice.

mod beneath;
mod cage;
mod devices;
mod mounts;
mod terminal;

pub(crate) use mounts::Made;

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use sys::mount::Detached;
use sys::socket::MessageSocket;
use sys::{SysError, SysResultExt};

use crate::error::{Report, ReportKind};
use crate::planner::Program;
use crate::request::Stdio;
use crate::steps::ChildStep;
use crate::user::Identity;

/// What goes wrong inside.
#[derive(Debug, thiserror::Error)]
pub enum InsideError {
    /// A call failed.
    #[error(transparent)]
    Call(#[from] SysError),
    /// A call failed in a way that callers tell apart.
    #[error("{call}")]
    Known {
        /// How.
        kind: ReportKind,
        /// What was tried, or the whole message.
        call: String,
        /// The error number; 0 where no call failed.
        errno: i32,
    },
}

impl InsideError {
    fn text(kind: ReportKind, call: impl Into<String>) -> Self {
        Self::Known {
            kind,
            call: call.into(),
            errno: 0,
        }
    }

    /// Says what was being done when the call failed.
    fn within(self, what: impl FnOnce() -> String) -> Self {
        match self {
            Self::Call(error) => Self::Known {
                kind: ReportKind::Call,
                call: format!("{}: {}", what(), error.call()),
                errno: error.errno(),
            },
            known @ Self::Known { .. } => known,
        }
    }

    /// As it travels up.
    pub(crate) fn report(&self, step: &str) -> Report {
        let (kind, call, errno) = match self {
            Self::Call(error) => (ReportKind::Call, error.call().to_owned(), error.errno()),
            Self::Known { kind, call, errno } => (*kind, call.clone(), *errno),
        };
        Report {
            step: step.to_owned(),
            kind,
            call,
            errno,
        }
    }
}

type Outcome = Result<(), InsideError>;

/// What the child holds while it prepares itself.
#[derive(Debug)]
pub struct Inside<'a> {
    sync: &'a MessageSocket,
    stdio: &'a Stdio,
    program: &'a Program,
    /// The running container's first process, for an exec.
    container: Option<BorrowedFd<'a>>,
    sources: Vec<Option<Detached>>,
    /// What the parent has made for it.
    pub(crate) made: Vec<Made<'a>>,
    root: Option<OwnedFd>,
    proc: Option<OwnedFd>,
    devpts: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    null: Option<OwnedFd>,
    identity: Identity,
    trampoline: Option<OwnedFd>,
    arguments: Vec<CString>,
    /// Set by the step that looks for it.
    pub(crate) path: Option<CString>,
    pub(crate) environment: Vec<CString>,
}

impl<'a> Inside<'a> {
    pub(crate) fn new(
        sync: &'a MessageSocket,
        stdio: &'a Stdio,
        program: &'a Program,
        container: Option<BorrowedFd<'a>>,
    ) -> Self {
        Self {
            sync,
            stdio,
            program,
            container,
            sources: Vec::new(),
            made: Vec::new(),
            root: None,
            proc: None,
            devpts: None,
            terminal: None,
            null: None,
            identity: Identity::default(),
            trampoline: None,
            arguments: Vec::new(),
            path: None,
            environment: Vec::new(),
        }
    }

    pub(crate) fn apply(&mut self, step: &ChildStep) -> Outcome {
        match step {
            ChildStep::CgroupJoin(directories) => cage::join_cgroups(directories),
            ChildStep::CgroupNamespace => {
                Ok(sys::namespace::unshare(&[sys::namespace::Kind::Cgroup])?)
            }
            ChildStep::NamespaceJoin(kind, path) => {
                let namespace = sys::namespace::open(path, *kind)?;
                Ok(sys::namespace::join(namespace.as_fd(), &[*kind])?)
            }
            ChildStep::ContainerJoin(kinds) => self.join_container(kinds),
            ChildStep::BindSources(sources) => self.open_sources(sources),
            ChildStep::MountsPrivate => Ok(sys::mount::make_private()?),
            ChildStep::Root(root) => self.mount_root(root),
            ChildStep::Mount(mount) => self.mount(mount),
            ChildStep::Devices(nodes, links) => self.make_devices(nodes, *links),
            ChildStep::InitProgram => self.mount_init(),
            ChildStep::Console(rows, columns) => self.open_console(*rows, *columns),
            ChildStep::Sysctl(all) => self.write_sysctls(all),
            ChildStep::Mask(paths) => self.mask(paths),
            ChildStep::ReadOnly(paths) => self.make_read_only(paths),
            ChildStep::HostName(host, domain) => cage::name_host(host.as_ref(), domain.as_ref()),
            ChildStep::MakeDirectory(path) => self.make_directory(path),
            ChildStep::RootReadOnly => self.root_read_only(),
            ChildStep::ChangeRoot(root) => self.change_root(*root),
            other => self.restrict(other),
        }
    }

    fn restrict(&mut self, step: &ChildStep) -> Outcome {
        match step {
            ChildStep::OutOfMemoryScore(score) => self.set_score(*score),
            ChildStep::Limits(all) => cage::set_limits(all),
            ChildStep::Session(terminal) => self.begin_session(*terminal),
            ChildStep::User(request, numbers, umask) => {
                self.find_user(request.as_ref(), numbers, *umask)
            }
            ChildStep::WorkingDirectory(path, make) => self.enter(path, *make),
            ChildStep::Program => self.find_program(),
            ChildStep::NoNewPrivileges => Ok(sys::process::no_new_privileges()?),
            ChildStep::Seccomp(program, flags) => Ok(sys::bpf::load_seccomp(program, *flags)?),
            ChildStep::Credentials(capabilities) => self.become_user(capabilities),
            other => Err(InsideError::text(
                ReportKind::Call,
                format!("{other:?} has no hand"),
            )),
        }
    }

    /// The sealed program that the step "program" made.
    pub(crate) fn trampoline(&self) -> Result<BorrowedFd<'_>, InsideError> {
        self.trampoline
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| InsideError::text(ReportKind::Call, "no program was looked for"))
    }

    /// The program's arguments, its name first.
    pub(crate) fn arguments(&self) -> &[CString] {
        &self.arguments
    }

    fn join_container(&mut self, kinds: &[sys::namespace::Kind]) -> Outcome {
        let container = self
            .container
            .ok_or_else(|| InsideError::text(ReportKind::Call, "no container to join"))?;
        sys::namespace::join(container, kinds)?;
        self.root = Some(beneath::open_root()?);
        Ok(())
    }

    fn root(&self) -> Result<BorrowedFd<'_>, InsideError> {
        self.root
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| InsideError::text(ReportKind::Call, "there is no root yet"))
    }

    /// The host's null device, opened once and looked at: neither name nor image can stand in.
    fn null(&mut self) -> Result<BorrowedFd<'_>, InsideError> {
        if self.null.is_none() {
            let path = Path::new("/dev/null");
            let file = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .call(|| "open(\"/dev/null\", O_PATH)")?;
            let status = rustix::fs::fstat(&file).call(|| "fstat(\"/dev/null\")")?;
            let kind = FileType::from_raw_mode(status.st_mode);
            let number = (
                rustix::fs::major(status.st_rdev),
                rustix::fs::minor(status.st_rdev),
            );
            if kind != FileType::CharacterDevice || number != (1, 3) {
                return Err(InsideError::text(
                    ReportKind::Call,
                    "/dev/null is not the null device",
                ));
            }
            self.null = Some(file);
        }
        match &self.null {
            Some(null) => Ok(null.as_fd()),
            None => Err(InsideError::text(ReportKind::Call, "no null device")),
        }
    }
}

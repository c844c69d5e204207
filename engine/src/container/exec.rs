//! `exec`: a further process in a running container.
//!
//! The command forks a relay, which is the process's parent: it holds the process's pipes or its
//! terminal, as the monitor does for the first one. So the process outlives a command that leaves
//! by the detach keys, and a command that is stopped never keeps the container from ending.

use std::os::fd::{AsFd, OwnedFd};

use runtime::{Child, Facts, ReportKind, Started, Stdio, UserRequest};
use sys::epoll::{Interest, poll};
use sys::error::with_causes;
use sys::process::{Fork, Forked};
use sys::socket::MessageSocket;

use crate::Engine;
use crate::container::attach::terminal;
use crate::container::control::{hear, not_running, refused, restarting};
use crate::error::{Error, Result};
use crate::id::{ContainerId, random_hex};
use crate::monitor::First;
use crate::monitor::hub::{Ends, Hub, InputRule, Wish};
use crate::monitor::join::Joined;
use crate::monitor::launch::{pipes, set_size, unplanned};
use crate::monitor::specify::{Given, exec_filter, specify};
use crate::request::{ExecRequest, SessionEnd};
use crate::stdio::protocol::{Answer, Attach, Refusal};
use crate::stdio::session::{Session, caught};
use crate::store::{Container, Status};
use crate::timing::Instruments;

/// Docker's exit code for a further process that could not be started.
const NOT_STARTED: u8 = 126;

impl Engine {
    /// Runs a further process in a running container; returns its code, or at once where it was
    /// left or is to run in the background.
    ///
    /// # Errors
    /// Docker's texts for a container that is not running or frozen; `run_exit_code` is 126 when
    /// the program cannot be started.
    pub fn exec(&self, id: &ContainerId, request: ExecRequest) -> Result<SessionEnd> {
        let container = self.store().load(id)?;
        let init = running(&container)?;
        let instruments = Instruments::from_environment();
        let signals =
            caught(request.tty).map_err(|error| Error::system("cannot catch signals", error))?;
        let (socket, _) = self.fork_relay(&container, init, &request, &instruments)?;
        match hear(&socket)? {
            Some(Answer::Failed(refusal) | Answer::Refused(refusal)) => {
                return Err(refused(refusal));
            }
            Some(_) => {}
            None => {
                return Err(Error::system(
                    format!("the relay of container {} died", container.id()),
                    std::io::Error::from(std::io::ErrorKind::ConnectionReset),
                ));
            }
        }
        if request.detach {
            return Ok(SessionEnd::Background);
        }
        let session = Session {
            socket: &socket,
            stdin: request.streams.stdin.as_ref().map(AsFd::as_fd),
            terminal: terminal(&request.streams),
            tty: request.tty,
            detach_keys: &request.detach_keys,
            signal_proxy: false,
            signals,
        };
        session
            .run()
            .map_err(|error| self.session_failed(&container, error))
    }

    /// Forks the parent of a further process; how that came about is the first thing it says.
    pub(crate) fn fork_relay(
        &self,
        container: &Container,
        init: i32,
        request: &ExecRequest,
        instruments: &Instruments,
    ) -> Result<(MessageSocket, Forked)> {
        let (mine, theirs) = MessageSocket::pair()
            .map_err(|error| Error::system("cannot talk to the relay", error))?;
        instruments.point("exec-fork", plan::fault::Moment::Before)?;
        let attach = Attach {
            stdin: request.streams.stdin.is_some(),
            stdout: request.streams.stdout.is_some(),
            stderr: request.streams.stderr.is_some() && !request.tty,
        };
        let mut first = Some(First::with(theirs, attach, &request.streams));
        let forked = sys::process::fork(&Fork::default(), || {
            let Some(first) = first.take() else {
                return 1;
            };
            let relay = Relay {
                engine: self,
                container,
                init,
                request,
                instruments,
            };
            relay.main(first)
        });
        drop(first);
        let forked = forked.map_err(|error| Error::system("cannot fork the relay", error))?;
        instruments.point("exec-fork", plan::fault::Moment::After)?;
        Ok((mine, forked))
    }
}

/// The first process of a container that can take a further one.
pub(crate) fn running(container: &Container) -> Result<i32> {
    match container.status()?.0 {
        Status::Running => {}
        Status::Paused => {
            return Err(Error::conflict(format!(
                "Container {} is paused, unpause the container before exec",
                container.name
            ))
            .hint(format!("rbox unpause {}", container.name)));
        }
        Status::Restarting => return Err(restarting(container.id())),
        Status::Created | Status::Removing | Status::Exited | Status::Dead => {
            return Err(not_running(container));
        }
    }
    let init = container
        .run
        .init()?
        .ok_or_else(|| not_running(container))?;
    Ok(init.process.pid)
}

/// The parent of one further process.
struct Relay<'a> {
    engine: &'a Engine,
    container: &'a Container,
    init: i32,
    request: &'a ExecRequest,
    instruments: &'a Instruments,
}

impl Relay<'_> {
    /// What the forked process does from its first to its last instruction.
    fn main(&self, first: First) -> i32 {
        let (socket, attach, outlets, size) = first.into_parts();
        let mut keep = vec![socket.as_fd()];
        keep.extend(outlets.iter().map(AsFd::as_fd));
        keep.extend(self.instruments.file().map(AsFd::as_fd));
        let left = sys::detach::leave_caller(&keep)
            .map_err(|error| Error::system("cannot leave the calling process", error));
        let rule = InputRule {
            open: attach.stdin,
            once: true,
        };
        let mut hub = Hub::new(rule, None, String::new);
        let starter = hub.add(socket);
        hub.attach(starter, attach, outlets);
        let started = left.and_then(|()| self.start(&mut hub, size));
        let process = match started {
            Ok(process) => process,
            Err(error) => {
                let refusal = Refusal {
                    exit_code: i32::from(error.run_exit_code()),
                    text: with_causes(&error),
                    hint: error.hint_text().map(str::to_owned),
                };
                hub.tell(starter, &Answer::Failed(refusal));
                return 1;
            }
        };
        hub.tell(starter, &Answer::Started);
        let id = random_hex().unwrap_or_default();
        let command = self.request.command.join(" ");
        for action in ["exec_create", "exec_start"] {
            let action = format!("{action}: {command}");
            self.engine
                .note(self.container, &action, &[("execID", &id)]);
        }
        let code = serve(&mut hub, &process);
        let text = code.to_string();
        self.engine.note(
            self.container,
            "exec_die",
            &[("execID", &id), ("exitCode", &text)],
        );
        hub.drain();
        hub.exited(code);
        while !hub.is_empty() {
            turn(&mut hub, None);
        }
        0
    }

    /// Starts the process; its descriptor.
    fn start(&self, hub: &mut Hub, size: sys::pty::WindowSize) -> Result<OwnedFd> {
        let facts =
            Facts::read().map_err(|error| Error::system("cannot look at this host", error))?;
        let cgroup = runtime::Cgroup::of(self.init, &facts.cgroups)
            .map_err(|error| Error::system("cannot find the container's cgroup", error))?;
        let request = self.specify(&facts, size)?;
        let plan =
            runtime::plan_exec(&request, cgroup, &facts).map_err(|error| unplanned(&error))?;
        let (stdio, ends) = match self.request.tty {
            true => (Stdio::Terminal, None),
            false => pipes(self.request.streams.stdin.is_some())?,
        };
        let mut child = runtime::spawn_exec(&plan, &stdio, self.instruments.faults())
            .map_err(|error| Error::system("cannot make the process", error))?;
        drop(stdio);
        let started = self.follow(&mut child)?;
        let process = sys::process::pidfd_open(started.pid)
            .map_err(|error| Error::system("cannot keep the process", error))?;
        if started.pid != child.pid() {
            let _ = sys::process::wait_pidfd(child.pidfd(), true);
        }
        let ends = match started.terminal {
            Some(master) => Some(Ends::Terminal(master)),
            None => ends,
        };
        if let Some(ends) = ends {
            hub.begin(ends)
                .map_err(|error| Error::system("cannot take the process's streams", error))?;
        }
        Ok(process)
    }

    fn follow(&self, child: &mut Child) -> Result<Started> {
        let _ = child.release_network_ready();
        child.wait_exec().map_err(|error| {
            let _ = child.kill();
            let _ = sys::process::wait_pidfd(child.pidfd(), true);
            let words = with_causes(&error);
            let failure = Error::conflict(match error.kind() {
                Some(ReportKind::User) => words,
                _ => format!(
                    "OCI runtime exec failed: exec failed: unable to start container process: \
                     {words}: unknown"
                ),
            });
            // Docker: the error of a background process is the command's own.
            failure.exit_code(if self.request.detach { 1 } else { NOT_STARTED })
        })
    }

    /// The container's own process with the differences asked for.
    fn specify(&self, facts: &Facts, size: sys::pty::WindowSize) -> Result<runtime::ExecRequest> {
        let asked = self.request;
        let container = self.container;
        let links = self.engine.link_variables(container)?;
        let given = Given {
            links: &links,
            files: None,
            mounts: None,
        };
        let mut whole = specify(self.engine, container, &Joined::default(), given, facts)?;
        set_size(&mut whole, size)?;
        let user = match &asked.user {
            Some(user) => Some(UserRequest {
                user: user.clone(),
                groups: Vec::new(),
            }),
            None => whole.user,
        };
        let mut process = whole
            .spec
            .process()
            .clone()
            .ok_or_else(|| not_running(container))?;
        let filter = exec_filter(&mut process, asked.privileged, whole.filter, facts)?;
        process.set_args(Some(asked.command.clone()));
        process.set_terminal(Some(asked.tty));
        let mut env = process.env().clone().unwrap_or_default();
        if asked.tty && !env.iter().any(|variable| variable.starts_with("TERM=")) {
            env.push("TERM=xterm".to_owned());
        }
        crate::spec::merge_environment(&mut env, &asked.env);
        process.set_env(Some(env));
        if let Some(place) = &asked.working_dir {
            process.set_cwd(place.into());
        }
        Ok(runtime::ExecRequest {
            init: self.init,
            process,
            user,
            filter,
        })
    }
}

/// Serves the streams until the process has ended; its code.
fn serve(hub: &mut Hub, process: &OwnedFd) -> i32 {
    while !turn(hub, Some(process)) {}
    match sys::process::wait_pidfd(process.as_fd(), true) {
        Ok(Some(exit)) => exit.shell_code(),
        Ok(None) | Err(_) => 255,
    }
}

/// One wait and what came of it; true when the process has ended.
fn turn(hub: &mut Hub, process: Option<&OwnedFd>) -> bool {
    let mut list = Vec::new();
    hub.interests(&mut list);
    let mut waits: Vec<_> = list
        .iter()
        .map(|(_, fd, interest)| (*fd, *interest))
        .collect();
    waits.extend(process.map(|process| (process.as_fd(), Interest::Read)));
    let ready = poll(&waits, None).unwrap_or_default();
    let ended = process.is_some() && ready.last().is_some_and(|ready| ready.read);
    let happened: Vec<_> = list
        .iter()
        .map(|(source, _, _)| *source)
        .zip(ready)
        .collect();
    let mut wishes = Vec::new();
    for (source, ready) in happened {
        if ready != sys::epoll::Readiness::default() {
            hub.ready(source, ready, &mut wishes);
        }
    }
    for wish in wishes {
        if let (Wish::Signal(number), Some(process)) = (wish, process) {
            let _ = sys::process::send_signal(process.as_fd(), number);
        }
    }
    ended
}

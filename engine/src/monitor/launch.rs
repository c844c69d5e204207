//! One start of the container's process.
//!
//! ```text
//! monitor: facts ─ reserve ─ files ─ plan ─ journal ─ cgroups ─ clone ─┬─ network ─ go ─┬─ wait ─ record
//! child:                                                               └─ root, mounts ─┴─ cage ─ program
//! ```
//!
//! Whatever fails, all that was done is taken back before the error is told.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::time::Duration;

use oci_spec::runtime::BoxBuilder;
use plan::{Journal, Run};
use runtime::{Child, Facts, Plan, PlanError, ReportKind, Request, StartError, Started, Stdio};
use sys::error::with_causes;
use sys::namespace::Kind;
use sys::pty::WindowSize;

use super::hub::{Ends, Hub};
use super::join::Joined;
use super::life::Life;
use super::specify::{Given, specify};
use super::wire::{self, Wiring};
use super::{Monitor, files, names};
use crate::Engine;
use crate::error::{Error, Result};
use crate::link::receive::Receiving;
use crate::mount::{Missing, MountPoint, check_travel, settle_sources};
use crate::plan::{StartHost, StartStep, StepError};
use crate::spec::Files;
use crate::store::{Container, InitRecord, ProcessMark};
use crate::time::Time;
use crate::timing::{Instruments, Lane};
use crate::union;

impl Monitor<'_> {
    /// Plans, writes the journal, applies the plan and waits until the program runs.
    pub(super) fn launch(&mut self) -> Result<Life> {
        let mut launch = Launch::reserve(self.engine, self.container, self.instruments, self.size)?;
        match launch.carry_out(&mut self.hub) {
            Ok(life) => Ok(life),
            Err(error) => {
                launch.take_back();
                Err(error)
            }
        }
    }
}

/// A start that is under way.
struct Launch<'a> {
    engine: &'a Engine,
    container: &'a Container,
    instruments: &'a Instruments,
    size: WindowSize,
    facts: Facts,
    joined: Joined,
    /// Its links, until they are written down.
    receiving: Option<Receiving>,
    /// Variables of its links.
    links: Vec<String>,
    /// With sources as they were found.
    mounts: Vec<MountPoint>,
    wiring: Wiring,
    host: StartHost,
    /// Steps of the host, then steps of the network.
    steps: Vec<StartStep>,
    of_host: usize,
}

impl<'a> Launch<'a> {
    /// Gathers facts and reserves what others might take.
    fn reserve(
        engine: &'a Engine,
        container: &'a Container,
        instruments: &'a Instruments,
        size: WindowSize,
    ) -> Result<Self> {
        let mut host = StartHost::of(engine.options());
        let (facts, joined) = instruments.step(Lane::Monitor, "facts", || {
            let facts =
                Facts::read().map_err(|error| Error::system("cannot look at this host", error))?;
            Ok((facts, Joined::look_up(engine, container)?))
        })?;
        let receiving = Receiving::begin(engine, container)?;
        let begin = instruments.now();
        let wiring = Wiring::prepare(engine, container, &mut host.network)?;
        instruments.note(
            Lane::Monitor,
            "net-prepare",
            begin,
            instruments.now() - begin,
        );
        let steps = wiring
            .steps
            .iter()
            .cloned()
            .map(StartStep::Network)
            .collect();
        Ok(Self {
            engine,
            container,
            instruments,
            size,
            facts,
            joined,
            receiving,
            links: Vec::new(),
            mounts: Vec::new(),
            wiring,
            host,
            steps,
            of_host: 0,
        })
    }

    fn carry_out(&mut self, hub: &mut Hub) -> Result<Life> {
        let (instruments, container) = (self.instruments, self.container);
        let files = instruments.step(Lane::Monitor, "files", || {
            // first, for the sources of its links wait meanwhile
            let files = self.write_files()?;
            self.engine.ready_volumes(container)?;
            self.mounts = settle_sources(self.engine, container, Missing::Make)?;
            check_travel(&self.mounts)?;
            Ok(files)
        })?;
        let unions = union::take(self.engine, container, &mut self.mounts)?;
        let mut plan = instruments.step(Lane::Monitor, "plan", || self.plan(&files))?;
        let of_host = std::mem::take(&mut plan.host).into_iter();
        self.of_host = of_host.len() + unions.len();
        let unions = unions.into_iter().map(StartStep::Union);
        self.steps
            .splice(0..0, unions.chain(of_host.map(StartStep::Host)));
        instruments.step(Lane::Monitor, "journal-write", || {
            Journal::at(container.run.plan_path())
                .write(&self.steps)
                .map_err(|error| Error::system("cannot write the plan down", error))
        })?;
        self.apply(0..self.of_host)?;
        let (stdio, ends) = streams(container)?;
        let mut child = instruments.step(Lane::Monitor, "spawn", || {
            runtime::spawn(&plan, &stdio, instruments.faults())
                .map_err(|error| Error::system("cannot make the container's process", error))
        })?;
        drop(stdio);
        match self.follow(&mut child, hub, ends) {
            Ok((process, started_at)) => self.alive(process, plan, started_at),
            Err(error) => {
                let _ = child.kill();
                let _ = sys::process::wait_pidfd(child.pidfd(), true);
                Err(error)
            }
        }
    }

    /// Writes the generated files; with links they are settled before the sources may move again.
    fn write_files(&mut self) -> Result<Files> {
        let (container, donor) = (self.container, self.joined.network_of.as_ref());
        let (addresses, embedded) = (&self.wiring.addresses, self.wiring.resolver);
        let Some(mut receiving) = self.receiving.take() else {
            return files::write(container, donor, addresses, (Vec::new(), embedded));
        };
        self.links = receiving.variables(container);
        let lines = receiving.lines();
        receiving.note(container, files::hosts(container, addresses, lines.clone()))?;
        let files = files::write(container, donor, addresses, (lines, embedded))?;
        let firewall = self.wiring.gate.take();
        let network = &self.wiring.record;
        let host = &mut self.host.network;
        self.instruments.step(Lane::Monitor, "links", || {
            receiving.finish(container, network, firewall, host)
        })?;
        Ok(files)
    }

    /// The runtime's plan, which is pure but for devices that are looked up.
    fn plan(&self, files: &Files) -> Result<Plan> {
        let mut specified = specify(
            self.engine,
            self.container,
            &self.joined,
            Given {
                files: Some(files),
                links: &self.links,
                mounts: Some(&self.mounts),
            },
            &self.facts,
        )?;
        set_size(&mut specified, self.size)?;
        let mut plan = runtime::plan(&specified, &self.facts).map_err(|error| unplanned(&error))?;
        plan.timed = self.instruments.timed();
        Ok(plan)
    }

    /// Applies some of the steps; fault points lie before and after each.
    fn apply(&mut self, range: Range<usize>) -> Result<()> {
        let instruments = self.instruments;
        let begin = instruments.now();
        let mut run = Run::new(instruments.faults().clone(), instruments.timed());
        let outcome = run.apply(&self.steps[range], &mut self.host);
        for timing in run.timings() {
            instruments.note(
                Lane::Monitor,
                timing.step,
                begin + timing.begin,
                timing.duration,
            );
        }
        outcome.map_err(|failure| self.failed(failure))
    }

    fn failed(&self, failure: plan::Failure<StepError>) -> Error {
        match failure.cause {
            plan::run::Cause::Step(StepError::Network(error)) => {
                wire::failed(&error, self.container)
            }
            cause => Error::system(
                format!("cannot prepare the container ({})", failure.step),
                cause,
            ),
        }
    }

    /// Sets up the network while the child prepares itself, then lets it go and waits.
    fn follow(
        &mut self,
        child: &mut Child,
        hub: &mut Hub,
        ends: Option<Ends>,
    ) -> Result<(OwnedFd, Time)> {
        let instruments = self.instruments;
        let born = instruments.now();
        if self.wiring.own_namespace {
            let namespace = child
                .network_namespace()
                .map_err(|error| Error::system("cannot find the container's network", error));
            // A child that has failed already says why below: that is the better word.
            if let Ok(namespace) = namespace {
                self.host.network.enter(namespace);
                self.apply(self.of_host..self.steps.len())?;
            }
        }
        let waits = instruments.now();
        let _ = child.release_network_ready();
        let started = child.wait_exec().map_err(|error| not_started(&error))?;
        instruments.note(
            Lane::Monitor,
            "await-exec",
            waits,
            instruments.now() - waits,
        );
        note_child(instruments, &started, born);
        let process = ProcessMark {
            pid: started.pid,
            start_time: started.start_time,
        };
        let ends = match (started.terminal, ends) {
            (Some(master), _) => Ends::Terminal(master),
            (None, Some(ends)) => ends,
            (None, None) => {
                return Err(Error::system(
                    "the container's terminal did not come up",
                    std::io::Error::from(std::io::ErrorKind::NotFound),
                ));
            }
        };
        hub.begin(ends)
            .map_err(|error| Error::system("cannot take the container's streams", error))?;
        let started_at = instruments.step(Lane::Monitor, "run-record", || self.record(process))?;
        let process = child
            .pidfd()
            .try_clone_to_owned()
            .map_err(|error| Error::system("cannot keep the container's process", error))?;
        Ok((process, started_at))
    }

    /// Writes down that it runs: first where it is on its networks, then that it is.
    fn record(&mut self, process: ProcessMark) -> Result<Time> {
        let run = &self.container.run;
        if self.wiring.own_namespace {
            self.wiring.record.sandbox_key = format!("/proc/{}/ns/net", process.pid);
        }
        run.write_network(&self.wiring.record)?;
        let started_at = Time::now();
        run.write_init(&InitRecord {
            process,
            started_at,
        })?;
        // Whoever has a link to it is told before anybody hears that it runs.
        let untold = self.engine.tell_receivers(self.container);
        let warnings = untold
            .iter()
            .map(|error| format!("WARNING: {}", with_causes(error)));
        self.wiring.warnings.extend(warnings);
        Ok(started_at)
    }

    fn alive(&mut self, process: OwnedFd, plan: Plan, started_at: Time) -> Result<Life> {
        let own_pids = plan.namespaces.contains(&Kind::Pid);
        let resolver = match self.host.network.take_resolver() {
            Some(sockets) => {
                let (engine, record) = (self.engine, &self.wiring.record);
                Some(names::resolver(engine, self.container, sockets, record)?)
            }
            None => None,
        };
        Life::new(
            process,
            plan.cgroup,
            own_pids,
            std::mem::take(&mut self.wiring),
            started_at,
        )
        .map(|life| {
            life.with_resolver(resolver).with_plan(
                std::mem::replace(&mut self.host, StartHost::of(self.engine.options())),
                std::mem::take(&mut self.steps),
            )
        })
    }

    /// Undoes everything; what cannot be undone is left to the recovery.
    fn take_back(&mut self) {
        self.wiring.sockets.clear();
        // Nobody holds two of the receivers' locks.
        self.receiving = None;
        // It may have been recorded, and its receivers been told, before it failed.
        let _ = std::fs::remove_file(self.container.run.init_path());
        let name = self.container.current_name();
        self.engine.leave_receivers(self.container, &name);
        let _ = self
            .engine
            .close_gates(self.container.id(), &self.container.run);
        let _ = plan::undo_all(&self.steps, &mut self.host);
    }
}

/// The container's ends of its streams, and the monitor's; with a terminal the latter come later.
fn streams(container: &Container) -> Result<(Stdio, Option<Ends>)> {
    let config = &container.record.config;
    match config.tty {
        true => Ok((Stdio::Terminal, None)),
        false => pipes(config.open_stdin),
    }
}

/// Three pipes: the process's ends and ours.
pub(crate) fn pipes(open_stdin: bool) -> Result<(Stdio, Option<Ends>)> {
    let pipe = || sys::splice::pipe().map_err(|error| Error::system("cannot make a pipe", error));
    let (stdout, to_stdout) = pipe()?;
    let (stderr, to_stderr) = pipe()?;
    let (from_stdin, stdin) = match open_stdin {
        true => {
            let (reader, writer) = pipe()?;
            (Some(reader), Some(writer))
        }
        false => (None, None),
    };
    let stdio = Stdio::Descriptors {
        stdin: from_stdin,
        stdout: Some(to_stdout),
        stderr: Some(to_stderr),
    };
    let ends = Ends::Pipes {
        stdin,
        stdout,
        stderr,
    };
    Ok((stdio, Some(ends)))
}

/// The first size of the terminal is that of the caller's.
pub(crate) fn set_size(request: &mut Request, size: WindowSize) -> Result<()> {
    if size == WindowSize::default() {
        return Ok(());
    }
    let size = BoxBuilder::default()
        .height(size.rows)
        .width(size.columns)
        .build()
        .map_err(|error| Error::system("cannot make the specification", error))?;
    if let Some(process) = request.spec.process_mut() {
        process.set_console_size(Some(size));
    }
    Ok(())
}

fn note_child(instruments: &Instruments, started: &Started, born: Duration) {
    for time in &started.times {
        instruments.note(
            Lane::Child,
            &time.step,
            born + Duration::from_micros(time.begin),
            Duration::from_micros(time.duration),
        );
    }
}

/// A plan that cannot be made is a request that cannot be met.
pub(crate) fn unplanned(error: &PlanError) -> Error {
    Error::invalid(with_causes(&error))
}

/// Docker's words around the runtime's.
fn not_started(error: &StartError) -> Error {
    let words = with_causes(error);
    let text = match error.kind() {
        // Docker looks for users before it calls its runtime.
        Some(ReportKind::User) => words,
        _ => format!(
            "failed to create shim task: OCI runtime create failed: rbox create failed: unable \
             to start container process: {words}: unknown"
        ),
    };
    let failure = Error::new(crate::ErrorKind::InvalidParameter, text).exit_code(error.exit_code());
    match (error.hint(), error.kind()) {
        (Some(hint), _) => failure.hint(hint),
        (None, Some(ReportKind::NotFound)) => failure.hint(
            "the program is looked for inside the image: see what it holds with 'rbox run --rm -it \
             IMAGE sh'",
        ),
        (None, _) => failure,
    }
}

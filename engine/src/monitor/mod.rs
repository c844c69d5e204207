//! The one process per running container.
//!
//! ```text
//! command ──fork──► monitor: leave the caller, sign the claim, launch (launch.rs)
//!    ◄── runs / failed ──┘
//!                       serve: one poll over signals, the first process, streams, clients (serve.rs)
//!    ◄── exit code ──────┘
//!                       end: record, release, answer, undo, clear (end.rs)
//! ```
//!
//! It has one thread and never waits for anyone but in its poll. What it does to the host is in
//! the journal before it is done.

pub mod claim;
mod end;
pub(crate) mod files;
mod health;
pub mod hub;
pub(crate) mod join;
pub(crate) mod launch;
mod life;
mod names;
mod probe;
pub mod restart;
mod rewire;
mod serve;
pub(crate) mod specify;
pub(crate) mod wire;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use sys::epoll::Signals;
use sys::error::with_causes;
use sys::pty::WindowSize;
use sys::socket::{MessageListener, MessageSocket};

use self::claim::Claim;
use self::hub::{Hub, InputRule};
use self::life::Life;
use self::probe::Checks;
use self::restart::{Pauses, Rule};
use crate::Engine;
use crate::config::Config;
use crate::container::attach::{terminal, wanted};
use crate::container::control::SOCKET;
use crate::error::{Error, Result};
use crate::log::{AttributeRule, JsonFile, LogOptions};
use crate::request::{AttachOptions, Streams};
use crate::stdio::protocol::{Answer, Attach, Refusal};
use crate::stdio::relay::ClientId;
use crate::store::{Container, Hidden, State};
use crate::time::Time;
use crate::timing::{Instruments, Lane};

/// The first client of a monitor or a relay: the command that forked it.
#[derive(Debug)]
pub(crate) struct First {
    socket: MessageSocket,
    attach: Attach,
    attached: bool,
    outlets: Vec<OwnedFd>,
    size: WindowSize,
}

impl First {
    /// A client that may attach; takes copies of the descriptors.
    pub(crate) fn new(
        socket: MessageSocket,
        options: Option<&AttachOptions>,
        config: &Config,
    ) -> Self {
        match options {
            Some(options) => {
                let attach = wanted(&options.streams, config.tty, config.open_stdin);
                Self::with(socket, attach, &options.streams)
            }
            None => Self {
                socket,
                attach: Attach::default(),
                attached: false,
                outlets: Vec::new(),
                size: WindowSize::default(),
            },
        }
    }

    /// A client that attaches these of its streams; takes copies of the descriptors.
    pub(crate) fn with(socket: MessageSocket, attach: Attach, streams: &Streams) -> Self {
        let size = terminal(streams)
            .and_then(|terminal| sys::pty::window_size(terminal).ok())
            .unwrap_or_default();
        let outlets = [
            streams.stdout.as_ref().filter(|_| attach.stdout),
            streams.stderr.as_ref().filter(|_| attach.stderr),
        ];
        let outlets = outlets
            .into_iter()
            .flatten()
            .filter_map(|fd| fd.try_clone().ok())
            .collect();
        Self {
            socket,
            attach,
            attached: true,
            outlets,
            size,
        }
    }

    /// The socket, what is attached, with which descriptors, and the size of the terminal.
    pub(crate) fn into_parts(self) -> (MessageSocket, Attach, Vec<OwnedFd>, WindowSize) {
        (self.socket, self.attach, self.outlets, self.size)
    }
}

/// The monitor of one container.
pub(crate) struct Monitor<'a> {
    engine: &'a Engine,
    container: &'a Container,
    instruments: &'a Instruments,
    claim: Option<Claim>,
    hub: Hub,
    signals: Signals,
    listener: Option<MessageListener>,
    size: WindowSize,
    state: State,
    rule: Rule,
    pauses: Pauses,
    /// Somebody asked for the end: no policy starts it again.
    by_hand: bool,
    /// When a stop turns into a kill.
    kill_at: Option<Instant>,
    /// The health checks of this run.
    checks: Option<Checks>,
    /// What was taken out of sight and is to be deleted.
    trash: Option<Hidden>,
}

impl<'a> Monitor<'a> {
    /// What the forked process does from its first to its last instruction; returns its exit code.
    pub(crate) fn main(
        engine: &'a Engine,
        container: &'a Container,
        claim: Claim,
        first: First,
        instruments: &'a Instruments,
    ) -> i32 {
        let begin = instruments.now();
        let mut keep = vec![claim.lock().as_fd(), first.socket.as_fd()];
        keep.extend(instruments.file().map(AsFd::as_fd));
        keep.extend(first.outlets.iter().map(AsFd::as_fd));
        let outcome = sys::detach::leave_caller(&keep)
            .map_err(|error| Error::system("cannot leave the calling process", error))
            .and_then(|()| Self::new(engine, container, claim, instruments, first.size));
        instruments.note(
            Lane::Monitor,
            "birth",
            begin,
            instruments.now().saturating_sub(begin),
        );
        match outcome {
            Ok(monitor) => monitor.live(first),
            Err(error) => {
                let answer = Answer::Failed(refusal(&error, 125));
                let _ = first.socket.send(&answer.encode(), &[]);
                1
            }
        }
    }

    fn new(
        engine: &'a Engine,
        container: &'a Container,
        mut claim: Claim,
        instruments: &'a Instruments,
        size: WindowSize,
    ) -> Result<Self> {
        let signals = Signals::catch_numbers(&[1, 2, 3, 13, 15])
            .map_err(|error| Error::system("cannot catch signals", error))?;
        instruments.step(Lane::Monitor, "claim-sign", || claim.sign())?;
        let listener = instruments.step(Lane::Monitor, "listen", || {
            MessageListener::bind(container.run.path(), SOCKET)
                .map_err(|error| Error::system("cannot listen for clients", error))
        })?;
        let record = &container.record;
        let log_config = &record.host.log_config;
        let log = (log_config.driver != "none").then(|| {
            let options = LogOptions::read(&log_config.options).unwrap_or_default();
            let rule = AttributeRule::read(&log_config.options).unwrap_or_default();
            let attributes = rule.of(record, &container.name);
            JsonFile::new(&container.dir.log(), options).with_attributes(&attributes)
        });
        let rule = InputRule {
            open: record.config.open_stdin,
            once: record.config.stdin_once,
        };
        Ok(Self {
            engine,
            container,
            instruments,
            claim: Some(claim),
            hub: Hub::new(rule, log, || Time::now().to_string()),
            signals,
            listener: Some(listener),
            size,
            state: container.state()?,
            rule: Rule::of(&record.host.restart_policy),
            pauses: Pauses::default(),
            by_hand: false,
            kill_at: None,
            checks: None,
            trash: None,
        })
    }

    /// From the first start to the last end.
    fn live(mut self, first: First) -> i32 {
        let starter = self.hub.add(first.socket);
        let attached = first.attached;
        if attached {
            self.hub.attach(starter, first.attach, first.outlets);
        }
        self.state.restart_count = 0;
        self.state.manually_stopped = false;
        let mut life = match self.launch_or_clear_up() {
            Ok(life) => life,
            Err(error) => return self.failed(&error, Some(starter)),
        };
        self.begin_checks(life.started_at);
        let _ = self.step("answer-start", |monitor| {
            for warning in life.take_warnings() {
                monitor.hub.tell(starter, &Answer::Warning(warning));
            }
            monitor.hub.tell(starter, &Answer::Started);
            Ok(())
        });
        self.engine.note_started(self.container, attached);
        // Others' remains are cleared up now that nobody waits for it.
        let _ = self.engine.recover();
        loop {
            let code = self.serve(&mut life);
            self.take_update();
            let Some(pause) = self.end(life, code) else {
                return self.over(code);
            };
            if !self.pause(pause) {
                return self.over(code);
            }
            self.take_update();
            life = match self.launch_or_clear_up() {
                Ok(life) => life,
                Err(error) => return self.failed(&error, None),
            };
            self.begin_checks(life.started_at);
            self.engine.note_started(self.container, false);
        }
    }

    /// Reads the record anew where `update` has replaced it: its policy decides on a restart, its
    /// limits are those of the next start.
    fn take_update(&mut self) {
        if !self.container.dir.updated().exists() {
            return;
        }
        // One that is just being removed, or cannot be read, stays as it was known.
        if let Ok(container) = self.engine.store().load(self.container.id()) {
            self.rule = Rule::of(&container.record.host.restart_policy);
            // It lives as long as this process, which ends with the container: no more than one
            // for every run that an update came into.
            self.container = Box::leak(Box::new(container));
        }
    }

    /// Launches; where that fails and a dead container's remains may be the reason, once more.
    fn launch_or_clear_up(&mut self) -> Result<Life> {
        match self.launch() {
            Err(error) if self.engine.recover().is_ok_and(|cleared| cleared > 0) => {
                drop(error);
                self.launch()
            }
            other => other,
        }
    }

    /// It could not be started: says so in its record and to whoever asked, and ends.
    fn failed(mut self, error: &Error, starter: Option<ClientId>) -> i32 {
        let refusal = refusal(error, error.run_exit_code());
        // Docker keeps 126 and 127 and has 128 for all that is the engine's fault.
        self.state.exit_code = match refusal.exit_code {
            125 => 128,
            code => code,
        };
        self.state.error.clone_from(&refusal.text);
        self.state.restarting = false;
        let removed = self.record_end();
        if let Some(starter) = starter {
            self.hub.tell(starter, &Answer::Failed(refusal));
        }
        self.hub.exited(self.state.exit_code);
        self.leave(removed);
        1
    }

    fn pause(&mut self, pause: Duration) -> bool {
        self.serve_until(Instant::now() + pause);
        !self.by_hand
    }
}

/// An error as it travels to the command.
fn refusal(error: &Error, exit_code: u8) -> Refusal {
    Refusal {
        exit_code: i32::from(exit_code),
        text: with_causes(error),
        hint: error.hint_text().map(str::to_owned),
    }
}

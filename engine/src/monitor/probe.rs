//! Health checks under way: one at a time, each run by a relay as `exec` runs a process, so that the
//! monitor waits for nothing. The next is due a pause after the last one ended.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use sys::epoll::Interest;
use sys::error::with_causes;
use sys::socket::MessageSocket;
use sys::splice::Given;

use super::Monitor;
use super::health::{self, NOT_ENDED, Printed, Rule};
use crate::Engine;
use crate::container::exec::running;
use crate::error::{Error, Result};
use crate::request::{ExecRequest, Streams};
use crate::signal;
use crate::stdio::protocol::{Answer, Request};
use crate::stdio::session::is_again;
use crate::store::{Container, HealthResult};
use crate::time::Time;
use crate::timing::Instruments;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What the check prints.
    Output,
    /// What its relay says.
    Relay,
    /// The end of a relay that has said all, by its place in the list.
    Leaving(usize),
}

/// The checks of one run of a container.
#[derive(Debug)]
pub(super) struct Checks {
    rule: Rule,
    started: Time,
    /// When the next is due; `None` while the container is frozen.
    next: Option<Instant>,
    probe: Option<Probe>,
    /// Relays that have said all: their ends are still to be taken note of.
    leaving: Vec<OwnedFd>,
}

/// One check under way.
#[derive(Debug)]
struct Probe {
    relay: OwnedFd,
    socket: MessageSocket,
    output: Option<OwnedFd>,
    printed: Printed,
    begun: Time,
    /// When it is killed; `None` once it was.
    until: Option<Instant>,
}

impl Checks {
    /// When something is to be done without anybody asking.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.probe {
            Some(probe) => probe.until,
            None => self.next,
        }
    }

    /// Everything to wait for now.
    pub(super) fn interests<'a>(&'a self, list: &mut Vec<(Part, BorrowedFd<'a>, Interest)>) {
        if let Some(probe) = &self.probe {
            list.push((Part::Relay, probe.socket.as_fd(), Interest::Read));
            if let Some(output) = &probe.output {
                list.push((Part::Output, output.as_fd(), Interest::Read));
            }
        }
        for (place, relay) in self.leaving.iter().enumerate() {
            list.push((Part::Leaving(place), relay.as_fd(), Interest::Read));
        }
    }
}

impl Probe {
    /// Takes in what was printed so far.
    fn read(&mut self) {
        let mut buffer = [0; 4096];
        while let Some(output) = &self.output {
            match sys::splice::read_now(output, &mut buffer) {
                Given::Some(length) => self.printed.push(&buffer[..length]),
                Given::Nothing => return,
                Given::End => self.output = None,
            }
        }
    }

    /// What the relay says: the check's code and output, once it has ended.
    fn hear(&mut self) -> Option<(i32, String)> {
        let mut buffer = vec![0; 8192];
        let answer = match self.socket.try_receive(&mut buffer) {
            Ok(received) if received.length > 0 => Answer::decode(&buffer[..received.length]).ok(),
            Err(error) if is_again(&error) => return None,
            Ok(_) | Err(_) => None,
        };
        match answer {
            Some(Answer::Exited(code)) => {
                self.read();
                Some((code, self.printed.text()))
            }
            Some(Answer::Failed(refusal) | Answer::Refused(refusal)) => {
                Some((NOT_ENDED, refusal.text))
            }
            Some(_) => None,
            None => Some((NOT_ENDED, "the check's parent process died".to_owned())),
        }
    }
}

impl Monitor<'_> {
    /// The container was started: from now on it is checked, where it has a check.
    pub(super) fn begin_checks(&mut self, started: Time) {
        let Some(rule) = Rule::of(&self.container.record.config) else {
            self.state.health = None;
            return;
        };
        health::begin(&mut self.state.health);
        self.checks = Some(Checks {
            rule,
            started,
            next: None,
            probe: None,
            leaving: Vec::new(),
        });
        self.put_off();
        self.note_health(None);
    }

    /// The container ended or was frozen: what is under way counts for nothing.
    pub(super) fn halt_checks(&mut self) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        checks.next = None;
        if let Some(probe) = checks.probe.take() {
            let _ = probe.socket.try_send(&kill(), &[]);
            checks.leaving.push(probe.relay);
        }
        health::unwatched(&mut self.state.health);
        self.note_health(None);
    }

    /// The container goes on.
    pub(super) fn resume_checks(&mut self) {
        self.put_off();
    }

    /// Does what is due: starts a check, or ends one that takes too long.
    pub(super) fn check_due(&mut self) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        let now = Instant::now();
        match &mut checks.probe {
            None if checks.next.is_some_and(|at| at <= now) => self.start_probe(),
            Some(probe) if probe.until.is_some_and(|at| at <= now) => {
                probe.until = None;
                let _ = probe.socket.try_send(&kill(), &[]);
                let (begun, text) = (probe.begun, health::too_long(checks.rule.timeout));
                self.take_result(begun, NOT_ENDED, text);
            }
            None | Some(_) => {}
        }
    }

    /// Acts on what happened.
    pub(super) fn check_ready(&mut self, part: Part) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        match part {
            Part::Output => {
                if let Some(probe) = &mut checks.probe {
                    probe.read();
                }
            }
            Part::Leaving(place) => {
                if place < checks.leaving.len() {
                    let _ = sys::process::wait_pidfd(checks.leaving.remove(place).as_fd(), true);
                }
            }
            Part::Relay => {
                let Some((code, text)) = checks.probe.as_mut().and_then(Probe::hear) else {
                    return;
                };
                if let Some(probe) = checks.probe.take() {
                    checks.leaving.push(probe.relay);
                    // One that was killed has had its result.
                    if probe.until.is_some() {
                        self.take_result(probe.begun, code, text);
                    }
                }
                self.put_off();
            }
        }
    }

    fn put_off(&mut self) {
        if let (Some(checks), Some(health)) = (&mut self.checks, &self.state.health) {
            let runs = checks.started.until(Time::now());
            checks.next = Some(Instant::now() + checks.rule.pause(health, runs));
        }
    }

    fn start_probe(&mut self) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        let begun = Time::now();
        match probe(self.engine, self.container, self.instruments, &checks.rule) {
            Ok(probe) => checks.probe = Some(probe),
            Err(error) => {
                self.take_result(begun, NOT_ENDED, with_causes(&error));
                self.put_off();
            }
        }
    }

    fn take_result(&mut self, start: Time, exit_code: i32, output: String) {
        let (Some(checks), Some(health)) = (&self.checks, &mut self.state.health) else {
            return;
        };
        let result = HealthResult {
            start,
            end: Time::now(),
            exit_code,
            output,
        };
        let changed = checks.rule.judge(health, result, checks.started);
        let status = changed.then(|| health.status.clone());
        self.note_health(status);
    }

    /// Writes the health down; a full disk changes nothing for the container.
    fn note_health(&self, changed: Option<String>) {
        let _ = self.container.write_state(&self.state);
        if let Some(status) = changed {
            let action = format!("health_status: {status}");
            self.engine.note(self.container, &action, &[]);
        }
    }
}

/// Starts one check.
fn probe(
    engine: &Engine,
    container: &Container,
    instruments: &Instruments,
    rule: &Rule,
) -> Result<Probe> {
    let begun = Time::now();
    let no_pipe = |error| Error::system("cannot make a pipe", error);
    let (output, write) = sys::splice::pipe().map_err(no_pipe)?;
    sys::splice::set_nonblocking(&output).map_err(no_pipe)?;
    let request = ExecRequest {
        command: rule.command.clone(),
        streams: Streams {
            stdin: None,
            stderr: write.try_clone().ok(),
            stdout: Some(write),
        },
        ..ExecRequest::default()
    };
    let init = running(container)?;
    let (socket, relay) = engine.fork_relay(container, init, &request, instruments)?;
    Ok(Probe {
        relay: relay.pidfd,
        socket,
        output: Some(output),
        printed: Printed::default(),
        begun,
        until: Some(Instant::now() + rule.timeout),
    })
}

fn kill() -> Vec<u8> {
    Request::Signal(signal::KILL).encode()
}

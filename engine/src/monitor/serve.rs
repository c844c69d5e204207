//! The monitor's long wait: streams, clients and the end of the first process.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use sys::epoll::{Interest, Readiness, poll};

use super::Monitor;
use super::hub::{Source, Wish};
use super::life::Life;
use super::probe::{Checks, Part};
use crate::container::control::restarting;
use crate::signal;
use crate::stdio::protocol::Answer;

/// What happened, and to what.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Process,
    Proxy,
    Resolver,
    Check(Part),
    Hub(Source),
}

impl Monitor<'_> {
    /// Serves until the process has ended; returns its code.
    pub(super) fn serve(&mut self, life: &mut Life) -> i32 {
        loop {
            let check_at = self.checks.as_ref().and_then(Checks::deadline);
            let until = [self.kill_at, check_at].into_iter().flatten().min();
            if self.turn(Some(life), until) {
                return life.reap();
            }
            self.check_due();
            if self.kill_at.is_some_and(|at| at <= Instant::now()) {
                self.kill_at = None;
                life.signal(signal::KILL);
                self.note_kill(signal::KILL);
            }
        }
    }

    /// Serves clients while there is no process, until the time or a request to stop.
    pub(super) fn serve_until(&mut self, time: Instant) {
        while !self.by_hand && Instant::now() < time {
            self.turn(None, Some(time));
        }
    }

    /// Serves until all clients have gone.
    pub(super) fn serve_last(&mut self) {
        while !self.hub.is_empty() {
            self.turn(None, None);
        }
    }

    /// One wait, and all that came of it; true when the process has ended.
    fn turn(&mut self, mut life: Option<&mut Life>, until: Option<Instant>) -> bool {
        let timeout = until.map(|time| time.saturating_duration_since(Instant::now()));
        let happened = self.wait(life.as_deref(), timeout);
        let mut wishes = Vec::new();
        let mut ended = false;
        for (token, ready) in happened {
            match token {
                Token::Process => ended = true,
                Token::Signals => self.hear_signals(life.as_deref()),
                Token::Listener => self.accept(),
                Token::Proxy => {
                    if let Some(life) = &mut life {
                        life.proxy_ready();
                    }
                }
                Token::Resolver => {
                    if let Some(life) = &mut life {
                        life.resolver_ready();
                    }
                }
                Token::Check(part) => self.check_ready(part),
                Token::Hub(source) => self.hub.ready(source, ready, &mut wishes),
            }
        }
        for wish in wishes {
            self.grant(&wish, life.as_deref_mut());
        }
        ended
    }

    fn wait(&self, life: Option<&Life>, timeout: Option<Duration>) -> Vec<(Token, Readiness)> {
        let mut tokens = vec![Token::Signals];
        let mut waits: Vec<(BorrowedFd<'_>, Interest)> =
            vec![(self.signals.as_fd(), Interest::Read)];
        if let Some(listener) = &self.listener {
            tokens.push(Token::Listener);
            waits.push((listener.as_fd(), Interest::Read));
        }
        if let Some(life) = life {
            tokens.push(Token::Process);
            waits.push((life.pidfd(), Interest::Read));
            if let Some(proxy) = life.proxy() {
                tokens.push(Token::Proxy);
                waits.push((proxy, Interest::Read));
            }
            if let Some(resolver) = life.resolver() {
                tokens.push(Token::Resolver);
                waits.push((resolver, Interest::Read));
            }
        }
        let mut of_checks = Vec::new();
        if let Some(checks) = &self.checks {
            checks.interests(&mut of_checks);
        }
        for (part, fd, interest) in of_checks {
            tokens.push(Token::Check(part));
            waits.push((fd, interest));
        }
        let mut of_hub = Vec::new();
        self.hub.interests(&mut of_hub);
        for (source, fd, interest) in of_hub {
            tokens.push(Token::Hub(source));
            waits.push((fd, interest));
        }
        let ready = poll(&waits, timeout).unwrap_or_default();
        tokens
            .into_iter()
            .zip(ready)
            .filter(|(_, ready)| *ready != Readiness::default())
            .collect()
    }

    /// A monitor that is asked to end passes that on: the container decides when.
    fn hear_signals(&mut self, life: Option<&Life>) {
        while let Ok(Some(number)) = self.signals.next() {
            if number == signal::TERM {
                self.by_hand = true;
                if let Some(life) = life {
                    life.signal(number);
                }
            }
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        while let Ok(socket) = listener.accept() {
            // The socket's mode keeps others out; this keeps out who was handed a descriptor.
            if socket.peer_user().is_ok_and(|user| user == 0) {
                self.hub.add(socket);
            }
        }
    }

    fn grant(&mut self, wish: &Wish, life: Option<&mut Life>) {
        match *wish {
            Wish::Signal(number) => {
                if let Some(life) = life {
                    life.signal(number);
                }
            }
            Wish::Kill(client, number) => {
                self.by_hand = true;
                if let Some(life) = life {
                    life.signal(number);
                    if number == signal::KILL {
                        // What is frozen dies only once it is thawed.
                        let _ = life.thaw(self.container);
                    }
                }
                self.hub.tell(client, &Answer::Done);
            }
            Wish::Stop(client, number, milliseconds) => {
                self.by_hand = true;
                self.hub.wait_for_end(client);
                if let Some(life) = life {
                    life.signal(number);
                    let _ = life.thaw(self.container);
                    self.note_kill(number);
                    self.kill_at = u64::try_from(milliseconds)
                        .ok()
                        .map(|time| Instant::now() + Duration::from_millis(time));
                }
            }
            Wish::Pause(client) => {
                let outcome = life.map(|life| life.freeze(self.container));
                if matches!(outcome, Some(Ok(()))) {
                    self.halt_checks();
                }
                self.report(client, outcome);
            }
            Wish::Unpause(client) => {
                let outcome = life.map(|life| life.thaw(self.container));
                if matches!(outcome, Some(Ok(()))) {
                    self.resume_checks();
                }
                self.report(client, outcome);
            }
            Wish::Connect(client, ref wish) => {
                let outcome = self.connect(wish, life);
                self.report(client, Some(outcome));
            }
            Wish::Disconnect(client, ref wish) => {
                let outcome = self.disconnect(wish, life);
                self.report(client, Some(outcome));
            }
        }
    }

    fn report(&mut self, client: u64, outcome: Option<crate::Result<()>>) {
        let answer = match outcome {
            Some(Ok(())) => Answer::Done,
            Some(Err(error)) => Answer::Refused(super::refusal(&error, 1)),
            None => Answer::Refused(super::refusal(&restarting(self.container.id()), 1)),
        };
        self.hub.tell(client, &answer);
    }

    fn note_kill(&self, number: i32) {
        self.engine
            .note(self.container, "kill", &[("signal", &number.to_string())]);
    }
}

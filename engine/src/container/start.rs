//! `start`: the command's part. It forks the monitor, hears whether the program runs, and is then,
//! in the foreground, the monitor's first client.

use std::os::fd::AsFd;

use sys::process::{self, Fork};
use sys::socket::MessageSocket;

use crate::Engine;
use crate::container::attach::{terminal, wanted};
use crate::container::control::{hear, refused};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::monitor::claim::{Claim, Claimed};
use crate::monitor::{First, Monitor};
use crate::request::{AttachOptions, StartOptions, Started, Warn};
use crate::stdio::protocol::Answer;
use crate::stdio::session::{Session, caught};
use crate::store::{Container, Status};
use crate::timing::{Instruments, Lane};

impl Engine {
    /// Starts a container. Returns once its program runs, or with `attach` once it has ended or
    /// the session was left.
    ///
    /// # Errors
    /// Why it could not be started; `run_exit_code` is 127 for a program that does not exist, 126
    /// for one that cannot be executed, 125 for anything else.
    pub fn start(&self, id: &ContainerId, options: StartOptions) -> Result<Started> {
        let instruments = Instruments::from_environment();
        let container = self.store().load(id)?;
        let claim = match Claim::of(&container)? {
            Claimed::Ours(claim) => claim,
            Claimed::Lives(Status::Paused) => {
                return Err(Error::conflict(
                    "cannot start a paused container, try unpause instead",
                )
                .hint(format!(
                    "let it go on with 'rbox unpause {}'",
                    container.name
                )));
            }
            Claimed::Lives(_) => {
                return match options.attach {
                    Some(attach) => self.attach(id, attach).map(Started::Ended),
                    None => Ok(Started::AlreadyRunning),
                };
            }
        };
        match options.attach {
            Some(attach) => {
                self.start_attached(&container, claim, (attach, options.warn), &instruments)
            }
            None => {
                self.launch(&container, claim, (None, options.warn), &instruments)?;
                Ok(Started::Running)
            }
        }
    }

    fn start_attached(
        &self,
        container: &Container,
        claim: Claim,
        (attach, warn): (AttachOptions, Option<Warn>),
        instruments: &Instruments,
    ) -> Result<Started> {
        let config = &container.record.config;
        // Caught before the start: none that comes from here on is lost.
        let signals =
            caught(config.tty).map_err(|error| Error::system("cannot catch signals", error))?;
        let socket = self.launch(container, claim, (Some(&attach), warn), instruments)?;
        let wanted = wanted(&attach.streams, config.tty, config.open_stdin);
        let stdin = attach.streams.stdin.as_ref().filter(|_| wanted.stdin);
        let session = Session {
            socket: &socket,
            stdin: stdin.map(AsFd::as_fd),
            terminal: terminal(&attach.streams),
            tty: config.tty,
            detach_keys: &attach.detach_keys,
            signal_proxy: attach.signal_proxy,
            signals,
        };
        session
            .run()
            .map(Started::Ended)
            .map_err(|error| self.session_failed(container, error))
    }

    /// Forks the monitor and waits for its word.
    fn launch(
        &self,
        container: &Container,
        claim: Claim,
        (attach, warn): (Option<&AttachOptions>, Option<Warn>),
        instruments: &Instruments,
    ) -> Result<MessageSocket> {
        let (mine, theirs) = MessageSocket::pair()
            .map_err(|error| Error::system("cannot talk to the container's monitor", error))?;
        let begin = instruments.now();
        instruments.point("monitor-fork", plan::fault::Moment::Before)?;
        // Everything the monitor needs is moved into its copy; this process's own falls here.
        let mut parts = Some((claim, theirs));
        let forked = process::fork(&Fork::default(), || {
            let Some((claim, theirs)) = parts.take() else {
                return 1;
            };
            let first = First::new(theirs, attach, &container.record.config);
            Monitor::main(self, container, claim, first, instruments)
        });
        drop(parts);
        let forked =
            forked.map_err(|error| Error::system("cannot fork the container's monitor", error))?;
        if let Err(fault) = instruments.point("monitor-fork", plan::fault::Moment::After) {
            // Nobody would hear the monitor's word: then it shall not do anything either.
            let _ = process::kill_pidfd(forked.pidfd.as_fd());
            let _ = process::wait_pidfd(forked.pidfd.as_fd(), true);
            self.recover_one(container.id())?;
            return Err(fault);
        }
        let answer = loop {
            match hear(&mine)? {
                Some(Answer::Warning(text)) => {
                    if let Some(warn) = warn {
                        warn(&text);
                    }
                }
                other => break other,
            }
        };
        let took = instruments.now().saturating_sub(begin);
        instruments.note(Lane::Command, "await-start", begin, took);
        match answer {
            Some(Answer::Failed(refusal) | Answer::Refused(refusal)) => Err(refused(refusal)),
            Some(_) => Ok(mine),
            None => {
                self.recover_one(container.id())?;
                Err(Error::system(
                    format!("the monitor of container {} died", container.id()),
                    std::io::Error::from(std::io::ErrorKind::ConnectionReset),
                )
                .hint("what it left was cleared up; try again"))
            }
        }
    }
}

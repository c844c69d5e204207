//! What is held for a container while its process lives, and what can be done to it.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use netns::NetStep;
use netns::dns::Resolver;
use netns::port::{Binding, Socket};
use netns::proxy::Proxy;
use plan::{Faults, Journal, Run};
use runtime::Cgroup;

use super::wire::{self, Wiring};
use crate::error::{Error, Result};
use crate::plan::{StartHost, StartStep, StepError};
use crate::store::Container;
use crate::time::Time;

/// The container's process and everything that was made for it.
#[derive(Debug)]
pub(super) struct Life {
    process: OwnedFd,
    cgroup: Option<Cgroup>,
    /// Its pid namespace is its own: its processes end with the first one.
    own_pids: bool,
    proxy: Option<Proxy>,
    resolver: Option<Resolver>,
    plan: Option<(StartHost, Vec<StartStep>)>,
    /// When the program began.
    pub(super) started_at: Time,
    warnings: Vec<String>,
}

impl Life {
    /// Takes what the launch made; published ports are served from now on.
    ///
    /// # Errors
    /// When the proxy cannot be set up.
    pub(super) fn new(
        process: OwnedFd,
        cgroup: Option<Cgroup>,
        own_pids: bool,
        wiring: Wiring,
        started_at: Time,
    ) -> Result<Self> {
        Ok(Self {
            process,
            cgroup,
            own_pids,
            proxy: proxy(wiring.sockets, &wiring.targets)?,
            resolver: None,
            plan: None,
            warnings: wiring.warnings,
            started_at,
        })
    }

    /// Answers the container's look-ups from now on.
    pub(super) fn with_resolver(mut self, resolver: Option<Resolver>) -> Self {
        self.resolver = resolver;
        self
    }

    /// Where the resolver is, or is to be.
    pub(super) fn resolver_slot(&mut self) -> &mut Option<Resolver> {
        &mut self.resolver
    }

    /// Keeps the plan, to be undone at the end.
    pub(super) fn with_plan(mut self, host: StartHost, steps: Vec<StartStep>) -> Self {
        self.plan = Some((host, steps));
        self
    }

    /// What the user should know, once.
    pub(super) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Readable once the process has ended.
    pub(super) fn pidfd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// The published ports' proxy, where there is one.
    pub(super) fn proxy(&self) -> Option<BorrowedFd<'_>> {
        self.proxy.as_ref().map(AsFd::as_fd)
    }

    /// Lets the proxy work; one that is broken as a whole is given up.
    pub(super) fn proxy_ready(&mut self) {
        if let Some(proxy) = &mut self.proxy
            && proxy.dispatch().is_err()
        {
            self.proxy = None;
        }
    }

    /// The resolver, where there is one.
    pub(super) fn resolver(&self) -> Option<BorrowedFd<'_>> {
        self.resolver.as_ref().map(AsFd::as_fd)
    }

    /// Lets the resolver work; one that is broken as a whole is given up.
    pub(super) fn resolver_ready(&mut self) {
        if let Some(resolver) = &mut self.resolver
            && resolver.dispatch().is_err()
        {
            self.resolver = None;
        }
    }

    /// Sends the process a signal; one that has ended does not mind.
    pub(super) fn signal(&self, number: i32) {
        let _ = sys::process::send_signal(self.pidfd(), number);
    }

    /// Freezes all processes.
    pub(super) fn freeze(&self, container: &Container) -> Result<()> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            Error::system(format!("Cannot pause container {}", container.id()), error)
        };
        match &self.cgroup {
            Some(cgroup) => cgroup.freeze().map_err(|error| failed(error.into()))?,
            None => return Err(failed("it has no cgroup of its own".into())),
        }
        container.run.set_paused(true)
    }

    /// Lets them go on.
    pub(super) fn thaw(&self, container: &Container) -> Result<()> {
        if let Some(cgroup) = &self.cgroup {
            cgroup.thaw().map_err(|error| {
                Error::system(
                    format!("Cannot unpause container {}", container.id()),
                    error,
                )
            })?;
        }
        container.run.set_paused(false)
    }

    /// Reaps the process; its code as Docker shows it.
    pub(super) fn reap(&self) -> i32 {
        match sys::process::wait_pidfd(self.pidfd(), true) {
            Ok(Some(exit)) => exit.shell_code(),
            Ok(None) | Err(_) => 255,
        }
    }

    /// Kills what the process left behind.
    pub(super) fn kill_rest(&self) {
        if !self.own_pids
            && let Some(cgroup) = &self.cgroup
        {
            let _ = cgroup.kill();
        }
    }

    /// The kernel killed for memory in it.
    pub(super) fn out_of_memory(&self) -> bool {
        self.cgroup
            .as_ref()
            .is_some_and(|cgroup| cgroup.out_of_memory_kills() > 0)
    }

    /// Gives back what others may be waiting for: published ports, reservations, names.
    pub(super) fn release(&mut self) {
        self.proxy = None;
        self.resolver = None;
        if let Some((host, steps)) = &mut self.plan {
            let held = |step: &StartStep| {
                matches!(
                    step,
                    StartStep::Network(NetStep::Hold(_) | NetStep::Names(_))
                )
            };
            let holds: Vec<StartStep> = steps.iter().filter(|step| held(step)).cloned().collect();
            let _ = plan::undo_all(&holds, host);
        }
    }

    /// The host's side of its networks, inside its namespace.
    pub(super) fn network_host(&mut self) -> Option<&mut netns::Host> {
        self.plan.as_mut().map(|(host, _)| &mut host.network)
    }

    /// Carries out further steps, which belong to the plan from before the first of them is done;
    /// what fails is taken back.
    pub(super) fn extend(&mut self, container: &Container, further: Vec<NetStep>) -> Result<()> {
        let Some((host, steps)) = &mut self.plan else {
            return Ok(());
        };
        let before = steps.len();
        steps.extend(further.into_iter().map(StartStep::Network));
        let journal = Journal::at(container.run.plan_path());
        let noted = |error| Error::system("cannot write the plan down", error);
        if let Err(error) = journal.write(steps) {
            // nothing was done yet but what is held
            let _ = plan::undo_all(&steps.split_off(before), host);
            return Err(noted(error));
        }
        let outcome = Run::new(Faults::none(), false).apply(&steps[before..], host);
        let Err(failure) = outcome else {
            return Ok(());
        };
        let _ = plan::undo_all(&steps.split_off(before), host);
        let _ = journal.write(steps);
        Err(match failure.cause {
            plan::run::Cause::Step(StepError::Network(error)) => wire::failed(&error, container),
            cause => Error::system("cannot change the container's networks", cause),
        })
    }

    /// Takes back those steps of its networks that the condition names; they leave the plan.
    pub(super) fn take_back(
        &mut self,
        container: &Container,
        named: impl Fn(&NetStep) -> bool,
    ) -> Result<()> {
        let Some((host, steps)) = &mut self.plan else {
            return Ok(());
        };
        let named = |step: &StartStep| matches!(step, StartStep::Network(step) if named(step));
        let (gone, kept): (Vec<_>, Vec<_>) = steps.drain(..).partition(named);
        *steps = kept;
        let failed = plan::undo_all(&gone, host).into_iter().next();
        Journal::at(container.run.plan_path())
            .write(steps)
            .map_err(|error| Error::system("cannot write the plan down", error))?;
        match failed {
            Some(error) => Err(Error::system(
                "cannot take the container off its network",
                error,
            )),
            None => Ok(()),
        }
    }

    /// Takes back what leads published ports to the container's place on a network.
    pub(super) fn unpublish(
        &mut self,
        container: &Container,
        network: &netns::network::Network,
    ) -> Result<()> {
        if let Some((_, steps)) = &mut self.plan {
            let parted = steps.drain(..).flat_map(|step| match step {
                StartStep::Network(step) => {
                    let parts = netns::parted(step).into_iter();
                    parts.map(StartStep::Network).collect()
                }
                other => vec![other],
            });
            *steps = parted.collect();
        }
        self.take_back(container, |step| netns::publishes(step, network))
    }

    /// What is published.
    pub(super) fn bindings(&self) -> Vec<Binding> {
        let proxy = self.proxy.as_ref();
        proxy.map(Proxy::bindings).unwrap_or_default()
    }

    /// Serves published ports from now on; without sockets none.
    ///
    /// # Errors
    /// When the proxy cannot be set up.
    pub(super) fn publish(&mut self, sockets: Vec<Socket>, targets: &[IpAddr]) -> Result<()> {
        self.proxy = proxy(sockets, targets)?;
        Ok(())
    }

    /// Leads published ports to another address of the container.
    pub(super) fn retarget(&mut self, targets: &[IpAddr]) {
        if let Some(proxy) = &mut self.proxy {
            proxy.retarget(targets);
        }
    }

    /// Takes back everything that was done for it.
    pub(super) fn undo(mut self) {
        if let Some((mut host, steps)) = self.plan.take() {
            let _ = plan::undo_all(&steps, &mut host);
        }
    }
}

fn proxy(sockets: Vec<Socket>, targets: &[IpAddr]) -> Result<Option<Proxy>> {
    if sockets.is_empty() {
        return Ok(None);
    }
    Proxy::new(sockets, targets)
        .map(Some)
        .map_err(|error| Error::system("cannot serve the published ports", error))
}

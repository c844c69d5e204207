//! What a `run` would do, step by step; nothing of it is done.
//!
//! The plan is the one that a start would carry out: the same planners over the same facts. Its
//! address and ports are reserved to find out which they would be, and given back at once.

use plan::{Description, Step};
use runtime::{ChildStep, Facts, HostStep, Inside, Plan};
use sys::namespace::Kind;

use crate::Engine;
use crate::container::create::CreateRequest;
use crate::error::{Error, Result};
use crate::link::Links;
use crate::link::receive::Met;
use crate::monitor::join::Joined;
use crate::monitor::launch::unplanned;
use crate::monitor::specify::{Given, specify};
use crate::monitor::wire::Wiring;
use crate::mount::{Missing, settle_sources};
use crate::plan::{StartHost, StartStep};
use crate::request::Explained;
use crate::spec::Files;
use crate::store::Container;
use crate::union;

/// Who carries the steps out.
const MONITOR: &str = "monitor";
const CHILD: &str = "child";

impl Engine {
    /// The steps of starting a container that would be made from this request.
    ///
    /// # Errors
    /// Those of [`Engine::create`] and of planning a start, such as a port that is taken.
    pub fn explain(&self, request: &CreateRequest) -> Result<Vec<Explained>> {
        let image = self.parts_for(request)?;
        let (mut record, _) = self.describe(request, &image)?;
        let name = match &request.name {
            Some(name) => name.to_string(),
            None => record.id.short().to_owned(),
        };
        name.clone_into(&mut record.name);
        let container = Container {
            name,
            dir: self.store().container(&record.id),
            run: self.store().run(&record.id),
            record,
        };
        let facts =
            Facts::read().map_err(|error| Error::system("cannot look at this host", error))?;
        let joined = Joined::look_up(self, &container)?;
        let links = Links {
            links: self.resolve_links(&container.record.host)?,
            ..Links::default()
        };
        let met = Met::look(self, &container, links)?;
        let network = self.network_steps(&container, met.as_ref())?;
        let files = match &joined.network_of {
            Some(donor) => files(donor),
            None => files(&container),
        };
        let mut mounts = settle_sources(self, &container, Missing::Leave)?;
        let unions = union::take(self, &container, &mut mounts)?;
        let specified = specify(
            self,
            &container,
            &joined,
            Given {
                files: Some(&files),
                mounts: Some(&mounts),
                links: &met.map(|met| met.variables(&container)).unwrap_or_default(),
            },
            &facts,
        )?;
        let plan = runtime::plan(&specified, &facts).map_err(|error| unplanned(&error))?;
        let unions = unions.into_iter().map(StartStep::Union).collect::<Vec<_>>();
        let mut all: Vec<Explained> = unions.iter().map(|step| told(MONITOR, step)).collect();
        all.extend(tell(&plan, &network));
        Ok(all)
    }

    /// Prepares the network, and gives back what that held.
    fn network_steps(&self, container: &Container, links: Option<&Met>) -> Result<Vec<StartStep>> {
        let mut host = StartHost::of(self.options());
        let wiring = Wiring::prepare(self, container, &mut host.network)?;
        drop(wiring.sockets);
        let gates = links.and_then(|links| links.step(&wiring.record, wiring.gate));
        let steps: Vec<StartStep> = wiring
            .steps
            .into_iter()
            .chain(gates)
            .map(StartStep::Network)
            .collect();
        let held: Vec<StartStep> = steps
            .iter()
            .filter(|step| matches!(step, StartStep::Network(netns::NetStep::Hold(_))))
            .cloned()
            .collect();
        // what cannot be given back counts for nothing: no monitor lives that would own it
        let _ = plan::undo_all(&held, &mut host);
        Ok(steps)
    }
}

fn files(container: &Container) -> Files {
    Files {
        resolv_conf: container.dir.resolv_conf(),
        hostname: container.dir.hostname(),
        hosts: container.dir.hosts(),
    }
}

/// The steps in the order in which they begin.
fn tell(plan: &Plan, network: &[StartStep]) -> Vec<Explained> {
    let of_host = |step: &HostStep| told(MONITOR, &StartStep::Host(step.clone()));
    let mut all: Vec<Explained> = plan.host.iter().map(of_host).collect();
    all.push(spawned(plan));
    all.extend(plan.beside.iter().map(of_host));
    all.extend(network.iter().map(|step| told(MONITOR, step)));
    all.extend(plan.child.iter().map(told_of_child));
    all.push(executed(plan));
    all
}

fn told(lane: &'static str, step: &StartStep) -> Explained {
    Explained {
        lane,
        step: step.name(),
        description: step.describe(),
        shell: step.shell(),
    }
}

fn told_of_child(step: &ChildStep) -> Explained {
    Explained {
        lane: CHILD,
        step: Step::<Inside<'_>>::name(step),
        description: Step::<Inside<'_>>::describe(step),
        shell: Step::<Inside<'_>>::shell(step),
    }
}

/// The birth of the container's first process.
fn spawned(plan: &Plan) -> Explained {
    let words: Vec<&str> = plan.namespaces.iter().map(|kind| word(*kind).0).collect();
    let mut flags: Vec<&str> = plan.namespaces.iter().map(|kind| word(*kind).1).collect();
    flags.push("CLONE_PIDFD");
    if plan.cgroup.is_some() {
        flags.push("CLONE_INTO_CGROUP");
    }
    let options: Vec<String> = words.iter().map(|word| format!("--{word}")).collect();
    Explained {
        lane: MONITOR,
        step: "spawn",
        description: Description {
            what: format!(
                "start the container's first process in namespaces of its own: {}",
                words.join(", ")
            ),
            why: "what it sees of the machine is decided from its first instruction on".to_owned(),
            calls: vec![format!("clone3({{flags={}}})", flags.join("|"))],
        },
        shell: vec![format!("unshare --fork {} …", options.join(" "))],
    }
}

/// `unshare`'s word and `clone`'s flag.
fn word(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::Mount => ("mount", "CLONE_NEWNS"),
        Kind::Network => ("net", "CLONE_NEWNET"),
        Kind::Pid => ("pid", "CLONE_NEWPID"),
        Kind::Ipc => ("ipc", "CLONE_NEWIPC"),
        Kind::Uts => ("uts", "CLONE_NEWUTS"),
        Kind::Cgroup => ("cgroup", "CLONE_NEWCGROUP"),
        Kind::User => ("user", "CLONE_NEWUSER"),
        Kind::Time => ("time", "CLONE_NEWTIME"),
    }
}

/// The last step: the program takes the process over.
fn executed(plan: &Plan) -> Explained {
    let program = &plan.program;
    let line = program.arguments.join(" ");
    let why = if program.init {
        "a tiny init runs it, passes signals on and collects orphans"
    } else {
        "from here on it is the container's own"
    };
    Explained {
        lane: CHILD,
        step: "exec",
        description: Description {
            what: format!("execute {line}"),
            why: why.to_owned(),
            calls: vec![format!(
                "execve({:?}, {:?}, {} variables)",
                program.arguments.first().map_or("", String::as_str),
                program.arguments,
                program.environment.len()
            )],
        },
        shell: vec![format!("exec {line}")],
    }
}

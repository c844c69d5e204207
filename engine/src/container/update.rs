//! `update`: other limits and another restart policy, for a container that may be running.
//!
//! The record is replaced as a whole; the file `updated` beside it tells the monitor to read it anew
//! before it decides on a restart, and to start with the new limits.

use oci_spec::runtime::LinuxPids;
use runtime::cgroup::{Cgroup, limits};
use sys::cgroup::Hierarchies;
use sys::lock::Lock;

use super::check::check_update;
use super::stats::own;
use crate::Engine;
use crate::config::{HostConfig, RestartPolicy};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::{Container, replace, replace_json};

/// What is to become other; `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// Memory limit.
    pub memory: Option<i64>,
    /// Soft memory limit.
    pub memory_reservation: Option<i64>,
    /// Memory and swap together; -1 is no limit.
    pub memory_swap: Option<i64>,
    /// Processors times 10⁹.
    pub nano_cpus: Option<i64>,
    /// Relative weight of processor time.
    pub cpu_shares: Option<i64>,
    /// Processor period in microseconds.
    pub cpu_period: Option<i64>,
    /// Processor quota in microseconds.
    pub cpu_quota: Option<i64>,
    /// `0-2,4`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Relative weight of block I/O.
    pub blkio_weight: Option<u16>,
    /// Number of processes; -1 is no limit.
    pub pids_limit: Option<i64>,
    /// What happens when the process ends.
    pub restart_policy: Option<RestartPolicy>,
}

impl Engine {
    /// Changes a container; what runs gets its limits at once.
    ///
    /// # Errors
    /// `Cannot update container <id>: …`, with nothing changed.
    pub fn update(&self, id: &ContainerId, update: &Update) -> Result<()> {
        let refused = |error: Error| {
            let text = format!("Cannot update container {id}: {error}");
            let wrapped = Error::new(error.kind(), text);
            let wrapped = match error.hint_text() {
                Some(hint) => wrapped.hint(hint),
                None => wrapped,
            };
            match std::error::Error::source(&error) {
                Some(cause) => wrapped.because(cause.to_string()),
                None => wrapped,
            }
        };
        let place = self.store().container(id);
        // Of two that update at once the second begins with what the first has made.
        let _lock = match place.path().is_dir() {
            true => Some(Lock::wait_directory(place.path()).map_err(|error| {
                Error::system(format!("cannot lock {:?}", place.path()), error)
            })?),
            false => None,
        };
        let mut container = self.store().load(id)?;
        let host = merge(&container.record.host, update).map_err(refused)?;
        check_update(&host).map_err(refused)?;
        if container.status()?.0.has_process() {
            apply(&container, update, &host).map_err(refused)?;
        }
        container.record.host = host;
        // The mark first: a monitor that sees it too early reads what has not changed.
        replace(&container.dir.updated(), b"")?;
        replace_json(&container.dir.config(), &container.record)?;
        self.note(&container, "update", &[]);
        Ok(())
    }
}

/// The new options (pure).
fn merge(old: &HostConfig, update: &Update) -> Result<HostConfig> {
    let refuse = |text: &str| Err(Error::conflict(text));
    let mut new = old.clone();
    if let Some(memory) = update.memory.filter(|memory| *memory != 0) {
        let unlimited = old.memory_swap == -1;
        if memory > old.memory_swap && !unlimited && update.memory_swap.unwrap_or(0) == 0 {
            return refuse(
                "Memory limit should be smaller than already set memoryswap limit, update the \
                 memoryswap at the same time",
            );
        }
        new.memory = memory;
    }
    let set = |given: Option<i64>, field: &mut i64| {
        if let Some(value) = given.filter(|value| *value != 0) {
            *field = value;
        }
    };
    set(update.memory_swap, &mut new.memory_swap);
    set(update.memory_reservation, &mut new.memory_reservation);
    set(update.cpu_shares, &mut new.cpu_shares);
    let some = |given: Option<i64>| given.unwrap_or(0) > 0;
    if some(update.nano_cpus) && (old.cpu_period > 0 || old.cpu_quota > 0) {
        let what = if old.cpu_period > 0 {
            "Period"
        } else {
            "Quota"
        };
        return refuse(&format!(
            "Conflicting options: Nano CPUs cannot be updated as CPU {what} has already been set."
        ));
    }
    for (given, what) in [(update.cpu_period, "Period"), (update.cpu_quota, "Quota")] {
        if some(given) && old.nano_cpus > 0 {
            return refuse(&format!(
                "Conflicting options: CPU {what} cannot be updated as NanoCPUs has already been \
                 set."
            ));
        }
    }
    set(update.nano_cpus, &mut new.nano_cpus);
    set(update.cpu_period, &mut new.cpu_period);
    set(update.cpu_quota, &mut new.cpu_quota);
    for (given, field) in [
        (&update.cpuset_cpus, &mut new.cpuset_cpus),
        (&update.cpuset_mems, &mut new.cpuset_mems),
    ] {
        if let Some(text) = given.as_ref().filter(|text| !text.is_empty()) {
            field.clone_from(text);
        }
    }
    if let Some(weight) = update.blkio_weight.filter(|weight| *weight != 0) {
        new.blkio_weight = weight;
    }
    new.pids_limit = update.pids_limit.or(new.pids_limit);
    if let Some(policy) = &update.restart_policy {
        if old.auto_remove && !matches!(policy.name.as_str(), "" | "no") {
            return refuse(
                "Restart policy cannot be updated because AutoRemove is enabled for the container",
            );
        }
        new.restart_policy = policy.clone();
    }
    Ok(new)
}

/// The options that hold a limit which became other, with those that the kernel takes together with
/// it; everything else is nothing (pure).
fn changed(update: &Update, new: &HostConfig) -> HostConfig {
    let mut only = HostConfig::default();
    if update.memory.is_some() || update.memory_swap.is_some() {
        only.memory = new.memory;
        only.memory_swap = new.memory_swap;
    }
    only.memory_reservation = update
        .memory_reservation
        .map_or(0, |_| new.memory_reservation);
    only.cpu_shares = update.cpu_shares.map_or(0, |_| new.cpu_shares);
    if update.nano_cpus.is_some() {
        only.nano_cpus = new.nano_cpus;
    }
    if update.cpu_period.is_some() || update.cpu_quota.is_some() {
        only.cpu_period = new.cpu_period;
        only.cpu_quota = new.cpu_quota;
    }
    only.cpuset_cpus = update.cpuset_cpus.clone().unwrap_or_default();
    only.cpuset_mems = update.cpuset_mems.clone().unwrap_or_default();
    only.blkio_weight = update.blkio_weight.unwrap_or(0);
    only
}

/// Gives the container that runs its new limits.
fn apply(container: &Container, update: &Update, new: &HostConfig) -> Result<()> {
    let only = changed(update, new);
    let block_io = crate::spec::gather_block_io(&only)?;
    let mut resources = crate::spec::resources(&only, &[], block_io)?;
    if let Some(limit) = update.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    let Some(init) = container.run.init()? else {
        return Ok(());
    };
    let trees = Hierarchies::detect()
        .map_err(|error| Error::system("cannot find the cgroups of this host", error))?;
    let cgroup = Cgroup::of(init.process.pid, &trees)
        .map_err(|error| Error::system("cannot find the container's cgroup", error))?;
    let mut cgroup = own(cgroup, container.id().as_str());
    if !trees.is_pure_v2() {
        // The v2 tree of such a host has no controllers.
        cgroup.unified = None;
    }
    let writes = limits::writes(&resources, &cgroup).map_err(|error| match &error {
        limits::LimitError::NoController { controller, .. } if !trees.is_pure_v2() => {
            let text = format!(
                "the running container has no {controller} cgroup of its own, since it was started \
                 without such a limit"
            );
            Error::conflict(text).hint(format!(
                "stop it, update it and start it again: 'rbox stop {}'",
                container.name
            ))
        }
        _ => Error::invalid(error.to_string()),
    })?;
    limits::apply(&writes).map_err(|error| Error::system("the kernel refuses a limit", error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(old: &HostConfig, update: &Update) -> String {
        merge(old, update).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn what_is_given_becomes_other_and_the_rest_stays() {
        let old = HostConfig {
            memory: 64 << 20,
            memory_swap: 128 << 20,
            cpu_shares: 7,
            cpuset_cpus: "0".to_owned(),
            ..HostConfig::default()
        };
        let update = Update {
            memory: Some(100 << 20),
            cpuset_cpus: Some(String::new()),
            pids_limit: Some(-1),
            restart_policy: Some(RestartPolicy {
                name: "always".to_owned(),
                maximum_retry_count: 0,
            }),
            ..Update::default()
        };
        let new = merge(&old, &update).unwrap();
        let mut expected = old.clone();
        expected.memory = 100 << 20;
        expected.pids_limit = Some(-1);
        expected.restart_policy.name = "always".to_owned();
        assert_eq!(new, expected);
        let only = changed(&update, &new);
        assert_eq!((only.memory, only.memory_swap), (100 << 20, 128 << 20));
        assert_eq!(only.cpu_shares, 0);
        assert_eq!(merge(&old, &Update::default()).unwrap(), old);
    }

    #[test]
    fn what_does_not_go_together_is_refused_in_dockers_words() {
        let swap = "Memory limit should be smaller than already set memoryswap limit, update the \
                    memoryswap at the same time";
        let limited = HostConfig {
            memory: 8 << 20,
            memory_swap: 16 << 20,
            nano_cpus: 1,
            auto_remove: true,
            ..HostConfig::default()
        };
        let memory = |memory, memory_swap| Update {
            memory: Some(memory),
            memory_swap,
            ..Update::default()
        };
        assert_eq!(refusal(&limited, &memory(32 << 20, None)), swap);
        assert_eq!(refusal(&limited, &memory(16 << 20, None)), "");
        assert_eq!(refusal(&limited, &memory(32 << 20, Some(-1))), "");
        assert_eq!(
            refusal(&HostConfig::default(), &memory(8 << 20, None)),
            swap
        );
        let period = Update {
            cpu_period: Some(5000),
            ..Update::default()
        };
        assert_eq!(
            refusal(&limited, &period),
            "Conflicting options: CPU Period cannot be updated as NanoCPUs has already been set."
        );
        let restart = |name: &str| Update {
            restart_policy: Some(RestartPolicy {
                name: name.to_owned(),
                maximum_retry_count: 0,
            }),
            ..Update::default()
        };
        assert_eq!(
            refusal(&limited, &restart("always")),
            "Restart policy cannot be updated because AutoRemove is enabled for the container"
        );
        assert_eq!(refusal(&limited, &restart("no")), "");
    }
}

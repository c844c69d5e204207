//! Limits that make no sense, in Docker's words (pure).

use std::fs;

use crate::config::HostConfig;
use crate::error::{Error, Result};

/// The least memory that a container can be given.
const LEAST_MEMORY: i64 = 6 << 20;

/// What this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processors {
    /// The list of processors: `0-1`.
    pub(crate) online: String,
    /// The list of memory nodes: `0`.
    pub(crate) nodes: String,
}

impl Processors {
    /// Looks, unless nothing asks for it: most containers have no limits.
    pub(crate) fn read(host: &HostConfig) -> Self {
        let asked =
            host.nano_cpus != 0 || !host.cpuset_cpus.is_empty() || !host.cpuset_mems.is_empty();
        let list = |path: &str| match asked.then(|| fs::read_to_string(path)) {
            Some(Ok(text)) => text.trim().to_owned(),
            // without the list nothing can be refused here; the kernel will
            Some(Err(_)) | None => String::new(),
        };
        Self {
            online: list("/sys/devices/system/cpu/online"),
            nodes: list("/sys/devices/system/node/online"),
        }
    }
}

pub(super) fn check(host: &HostConfig, processors: &Processors) -> Result<()> {
    memory(host)?;
    processor_time(host, processors)?;
    set("cpuset cpus", "CPUs", &host.cpuset_cpus, &processors.online)?;
    set(
        "cpuset mems",
        "memory nodes",
        &host.cpuset_mems,
        &processors.nodes,
    )?;
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return Err(Error::invalid("Range of blkio weight is from 10 to 1000"));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(Error::invalid(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        )));
    }
    if host.shm_size < 0 {
        return Err(Error::invalid("SHM size can not be less than 0"));
    }
    for limit in host.ulimits.iter().flatten() {
        if limit.hard >= 0 && (limit.soft > limit.hard || limit.soft < 0) {
            return Err(Error::invalid(format!(
                "ulimit soft limit must be less than or equal to hard limit: {} > {}",
                limit.soft, limit.hard
            )));
        }
    }
    Ok(())
}

fn memory(host: &HostConfig) -> Result<()> {
    let refuse = |text: &str| Err(Error::invalid(text));
    let (limit, swap, reservation) = (host.memory, host.memory_swap, host.memory_reservation);
    if limit != 0 && limit < LEAST_MEMORY {
        return refuse("Minimum memory limit allowed is 6MB");
    }
    if limit > 0 && swap > 0 && swap < limit {
        return refuse("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if limit == 0 && swap > 0 {
        return refuse(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = host.memory_swappiness
        && !(-1..=100).contains(&swappiness)
    {
        return Err(Error::invalid(format!(
            "Invalid value: {swappiness}, valid memory swappiness range is 0-100"
        )));
    }
    if reservation != 0 && reservation < LEAST_MEMORY {
        return refuse("Minimum memory reservation allowed is 6MB");
    }
    if limit > 0 && reservation > 0 && limit < reservation {
        return refuse(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(())
}

fn processor_time(host: &HostConfig, processors: &Processors) -> Result<()> {
    let refuse = |text: &str| Err(Error::invalid(text));
    if host.nano_cpus > 0 && host.cpu_period > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if host.nano_cpus > 0 && host.cpu_quota > 0 {
        return refuse("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    let number = i64::try_from(members(&processors.online).map_or(0, |list| list.len()));
    let number = number.unwrap_or(i64::MAX);
    let most = number.saturating_mul(1_000_000_000);
    // below this the kernel refuses the quota
    let least = 10_000_000;
    let given = host.nano_cpus != 0;
    if given && (host.nano_cpus < least || (number > 0 && host.nano_cpus > most)) {
        return Err(Error::invalid(format!(
            "Range of CPUs is from 0.01 to {number}.00, as there are only {number} CPUs available"
        )));
    }
    if host.cpu_shares != 0 && !(2..=262_144).contains(&host.cpu_shares) {
        return Err(Error::invalid(match host.cpu_shares {
            ..0 => "shares: invalid argument",
            0..2 => "the minimum allowed cpu-shares is 2",
            2.. => "the maximum allowed cpu-shares is 262144",
        }));
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return refuse(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return refuse("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    Ok(())
}

fn set(option: &str, what: &str, wanted: &str, available: &str) -> Result<()> {
    let list = members(wanted).ok_or_else(|| {
        Error::invalid(format!(
            "Invalid value {wanted} for {option}: invalid format: {wanted}"
        ))
    })?;
    match members(available) {
        Some(have) if !have.is_empty() && list.iter().any(|one| !have.contains(one)) => {
            Err(Error::invalid(format!(
                "Requested {what} are not available - requested {wanted}, available: {available}"
            )))
        }
        _ => Ok(()),
    }
}

/// `0-2,4` as numbers; `None` where it is no such list.
fn members(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u32 = first.trim().parse().ok()?;
        let last: u32 = last.trim().parse().ok()?;
        // no machine has as many as this; a hostile range must not fill the memory
        if first > last || last > 65_535 {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

//! Limits as writes to files: a pure function of (limits, cgroup), and the hand that writes.
//!
//! A limit that this host cannot apply is an error that names it; none is left out in silence.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};
use serde::{Deserialize, Serialize};

use super::{Cgroup, CgroupError, file_error};

/// One value for one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Write {
    /// The file.
    pub path: PathBuf,
    /// What is written.
    pub value: String,
    /// What is written instead where the kernel has no such file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<(PathBuf, String)>,
}

/// Why limits cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// The host has no controller for it.
    #[error("cannot limit {what}: this host has no cgroup controller {controller}")]
    NoController {
        /// What was to be limited.
        what: &'static str,
        /// The controller.
        controller: &'static str,
    },
    /// The controller has no such limit in this version of cgroups.
    #[error("cannot set {what}: {why}")]
    Unsupported {
        /// What was asked.
        what: String,
        /// Why it cannot be.
        why: &'static str,
    },
}

/// The controllers that these limits need.
pub fn controllers(resources: &LinuxResources) -> Vec<&'static str> {
    let mut all = Vec::new();
    if resources
        .memory()
        .is_some_and(|memory| !memory_is_empty(&memory))
    {
        all.push("memory");
    }
    if let Some(cpu) = resources.cpu() {
        let timed = cpu.shares().is_some_and(|shares| shares != 0)
            || cpu.quota().is_some()
            || cpu.period().is_some()
            || cpu.burst().is_some()
            || cpu.idle().is_some()
            || cpu.realtime_period().is_some()
            || cpu.realtime_runtime().is_some();
        if timed {
            all.push("cpu");
        }
        if given(cpu.cpus().as_ref()).is_some() || given(cpu.mems().as_ref()).is_some() {
            all.push("cpuset");
        }
    }
    if resources.pids().is_some() {
        all.push("pids");
    }
    if resources.block_io().is_some() {
        all.push("blkio");
    }
    if resources
        .hugepage_limits()
        .as_ref()
        .is_some_and(|all| !all.is_empty())
    {
        all.push("hugetlb");
    }
    all
}

fn memory_is_empty(memory: &LinuxMemory) -> bool {
    let limits = [memory.limit(), memory.reservation(), memory.swap()];
    let all_unset = limits.iter().all(|limit| limit.unwrap_or(0) == 0);
    all_unset && memory.swappiness().is_none() && !memory.disable_oom_killer().unwrap_or(false)
}

fn given(text: Option<&String>) -> Option<&String> {
    text.filter(|text| !text.is_empty())
}

/// Where a controller's files are: in a v1 directory or in the v2 one.
enum Home<'a> {
    V1(&'a Path),
    V2(&'a Path),
}

fn home<'a>(
    cgroup: &'a Cgroup,
    what: &'static str,
    controller: &'static str,
) -> Result<Home<'a>, LimitError> {
    if let Some(path) = cgroup.v1_of(controller) {
        return Ok(Home::V1(path));
    }
    match &cgroup.unified {
        Some(group) if cgroup.v1.is_empty() && controller != "net_cls" => Ok(Home::V2(&group.path)),
        _ => Err(LimitError::NoController { what, controller }),
    }
}

/// What has to be written, in order.
///
/// # Errors
/// [`LimitError`] for a limit that this host cannot apply.
pub fn writes(resources: &LinuxResources, cgroup: &Cgroup) -> Result<Vec<Write>, LimitError> {
    let mut out = Writes::default();
    if let Some(memory) = resources.memory().filter(|memory| !memory_is_empty(memory)) {
        match home(cgroup, "memory", "memory")? {
            Home::V1(path) => out.memory_v1(&memory, path),
            Home::V2(path) => out.memory_v2(&memory, path)?,
        }
    }
    if let Some(cpu) = resources.cpu() {
        out.cpu(cpu, cgroup)?;
    }
    if let Some(pids) = resources.pids() {
        let value = match pids.limit() {
            limit if limit > 0 => limit.to_string(),
            _ => "max".to_owned(),
        };
        match home(cgroup, "processes", "pids")? {
            Home::V1(path) | Home::V2(path) => out.put(path, "pids.max", value),
        }
    }
    if let Some(io) = resources.block_io() {
        out.block_io(io, cgroup)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let size = limit.page_size();
        match home(cgroup, "huge pages", "hugetlb")? {
            Home::V1(path) => {
                out.put(
                    path,
                    &format!("hugetlb.{size}.limit_in_bytes"),
                    limit.limit(),
                );
            }
            Home::V2(path) => out.put(path, &format!("hugetlb.{size}.max"), limit.limit()),
        }
    }
    if resources
        .network()
        .as_ref()
        .is_some_and(|network| network.class_id().is_some())
    {
        return Err(LimitError::Unsupported {
            what: "network.classID".to_owned(),
            why: "rbox does not use the net_cls controller",
        });
    }
    if let Some(unified) = resources.unified() {
        let Home::V2(path) = home(cgroup, "unified", "unified")? else {
            return Err(LimitError::NoController {
                what: "unified",
                controller: "unified",
            });
        };
        let mut entries: Vec<_> = unified.iter().collect();
        entries.sort();
        for (file, value) in entries {
            if file.contains('/') {
                return Err(LimitError::Unsupported {
                    what: file.clone(),
                    why: "it is not the name of a file",
                });
            }
            out.put(path, file, value);
        }
    }
    Ok(out.0)
}

#[derive(Default)]
struct Writes(Vec<Write>);

impl Writes {
    fn put(&mut self, directory: &Path, file: &str, value: impl ToString) {
        self.0.push(Write {
            path: directory.join(file),
            value: value.to_string(),
            instead: None,
        });
    }

    /// Puts a weight where the scheduler with weights takes it, else where the controller does.
    /// `device` is empty or ends with a blank.
    fn weigh(&mut self, home: &Home<'_>, v1_file: &str, device: &str, weight: u16) {
        let (path, file, other, value) = match home {
            Home::V1(path) => (
                path,
                format!("blkio.bfq.{v1_file}"),
                format!("blkio.{v1_file}"),
                u64::from(weight),
            ),
            Home::V2(path) => (
                path,
                "io.bfq.weight".to_owned(),
                "io.weight".to_owned(),
                io_weight(weight),
            ),
        };
        self.0.push(Write {
            path: path.join(file),
            value: format!("{device}{weight}"),
            instead: Some((path.join(other), format!("{device}{value}"))),
        });
    }

    fn memory_v1(&mut self, memory: &LinuxMemory, path: &Path) {
        let limit = memory.limit().filter(|limit| *limit != 0);
        let swap = memory.swap().filter(|swap| *swap != 0);
        // Memory and swap together may never be below memory alone: when lifted to no limit, the
        // sum goes first; a new cgroup is unlimited, so that otherwise memory goes first. An update
        // that raises both is turned round by `apply`.
        if let (Some(-1), Some(sum)) | (None, Some(sum)) = (limit, swap) {
            self.put(path, "memory.memsw.limit_in_bytes", sum);
        }
        if let Some(limit) = limit {
            self.put(path, "memory.limit_in_bytes", limit);
        }
        if let (Some(limit), Some(sum)) = (limit, swap)
            && limit != -1
        {
            self.put(path, "memory.memsw.limit_in_bytes", sum);
        }
        if let Some(reservation) = memory.reservation().filter(|value| *value != 0) {
            self.put(path, "memory.soft_limit_in_bytes", reservation);
        }
        if let Some(swappiness) = memory.swappiness() {
            self.put(path, "memory.swappiness", swappiness);
        }
        if memory.disable_oom_killer() == Some(true) {
            self.put(path, "memory.oom_control", 1);
        }
    }

    fn memory_v2(&mut self, memory: &LinuxMemory, path: &Path) -> Result<(), LimitError> {
        let limit = memory.limit().filter(|limit| *limit != 0);
        let swap = memory.swap().filter(|swap| *swap != 0);
        if memory.disable_oom_killer() == Some(true) {
            return Err(LimitError::Unsupported {
                what: "oom-kill-disable".to_owned(),
                why: "cgroup v2 has no way to keep the kernel from killing",
            });
        }
        match (limit, swap) {
            (_, Some(-1)) => self.put(path, "memory.swap.max", "max"),
            (Some(limit), Some(sum)) if limit > 0 && sum >= limit => {
                self.put(path, "memory.swap.max", sum - limit);
            }
            (_, Some(sum)) => {
                return Err(LimitError::Unsupported {
                    what: format!("a memory and swap limit of {sum}"),
                    why: "it needs a memory limit that is not larger",
                });
            }
            (_, None) => {}
        }
        if let Some(limit) = limit {
            self.put(path, "memory.max", or_max(limit));
        }
        if let Some(reservation) = memory.reservation().filter(|value| *value != 0) {
            self.put(path, "memory.low", or_max(reservation));
        }
        // There is no per-cgroup swappiness on v2; Docker's -1 and the kernel's 60 mean no wish.
        match memory.swappiness() {
            None | Some(60) => Ok(()),
            Some(value) => Err(LimitError::Unsupported {
                what: format!("a swappiness of {value}"),
                why: "cgroup v2 has none per cgroup",
            }),
        }
    }

    fn cpu(&mut self, cpu: &LinuxCpu, cgroup: &Cgroup) -> Result<(), LimitError> {
        if cpu.realtime_period().is_some() || cpu.realtime_runtime().is_some() {
            let what = "realtime processor time";
            match home(cgroup, what, "cpu")? {
                Home::V1(path) => {
                    if let Some(period) = cpu.realtime_period() {
                        self.put(path, "cpu.rt_period_us", period);
                    }
                    if let Some(runtime) = cpu.realtime_runtime() {
                        self.put(path, "cpu.rt_runtime_us", runtime);
                    }
                }
                Home::V2(_) => {
                    return Err(LimitError::Unsupported {
                        what: what.to_owned(),
                        why: "cgroup v2 has none",
                    });
                }
            }
        }
        if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
            match home(cgroup, "processor shares", "cpu")? {
                Home::V1(path) => self.put(path, "cpu.shares", shares),
                Home::V2(path) => self.put(path, "cpu.weight", weight_of_shares(shares)),
            }
        }
        if cpu.quota().is_some() || cpu.period().is_some() {
            self.quota(cpu, home(cgroup, "processor time", "cpu")?);
        }
        if let Some(burst) = cpu.burst() {
            match home(cgroup, "processor burst", "cpu")? {
                Home::V1(path) => self.put(path, "cpu.cfs_burst_us", burst),
                Home::V2(path) => self.put(path, "cpu.max.burst", burst),
            }
        }
        if let Some(idle) = cpu.idle() {
            match home(cgroup, "processor idleness", "cpu")? {
                Home::V1(path) | Home::V2(path) => self.put(path, "cpu.idle", idle),
            }
        }
        let sets = [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())];
        for (file, value) in sets {
            if let Some(value) = given(value.as_ref()) {
                match home(cgroup, "processors", "cpuset")? {
                    Home::V1(path) | Home::V2(path) => self.put(path, file, value),
                }
            }
        }
        Ok(())
    }

    fn quota(&mut self, cpu: &LinuxCpu, home: Home<'_>) {
        let quota = cpu.quota().filter(|quota| *quota != 0);
        let period = cpu.period().filter(|period| *period != 0);
        match home {
            Home::V1(path) => {
                if let Some(period) = period {
                    self.put(path, "cpu.cfs_period_us", period);
                }
                if let Some(quota) = quota {
                    self.put(path, "cpu.cfs_quota_us", quota);
                }
            }
            Home::V2(path) => {
                let quota = quota.map_or("max".to_owned(), or_max);
                self.put(
                    path,
                    "cpu.max",
                    format!("{quota} {}", period.unwrap_or(100_000)),
                );
            }
        }
    }

    fn block_io(&mut self, io: &LinuxBlockIo, cgroup: &Cgroup) -> Result<(), LimitError> {
        let home = home(cgroup, "block input and output", "blkio")?;
        if let Some(weight) = io.weight().filter(|weight| *weight != 0) {
            self.weigh(&home, "weight", "", weight);
        }
        for device in io.weight_device().iter().flatten() {
            if let Some(weight) = device.weight() {
                let device = format!("{}:{} ", device.major(), device.minor());
                self.weigh(&home, "weight_device", &device, weight);
            }
        }
        let throttles = [
            (io.throttle_read_bps_device(), "read_bps_device", "rbps"),
            (io.throttle_write_bps_device(), "write_bps_device", "wbps"),
            (io.throttle_read_iops_device(), "read_iops_device", "riops"),
            (
                io.throttle_write_iops_device(),
                "write_iops_device",
                "wiops",
            ),
        ];
        for (devices, v1, v2) in throttles {
            for device in devices.iter().flatten() {
                let (major, minor, rate) = (device.major(), device.minor(), device.rate());
                match home {
                    Home::V1(path) => self.put(
                        path,
                        &format!("blkio.throttle.{v1}"),
                        format!("{major}:{minor} {rate}"),
                    ),
                    Home::V2(path) => {
                        self.put(path, "io.max", format!("{major}:{minor} {v2}={rate}"));
                    }
                }
            }
        }
        Ok(())
    }
}

fn or_max(value: i64) -> String {
    if value < 0 {
        "max".to_owned()
    } else {
        value.to_string()
    }
}

/// v1's 2…262144 on v2's 1…10000 so that the defaults 1024 and 100 meet.
fn weight_of_shares(shares: u64) -> u64 {
    let l = (shares.clamp(2, 262_144) as f64).log2();
    let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
    (10f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// v1's 10…1000 on v2's 1…10000.
fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight.max(10)) - 10) * 9_999 / 990
}

/// Carries the writes out.
///
/// # Errors
/// [`CgroupError::File`] with the value and the file.
pub fn apply(writes: &[Write]) -> Result<(), CgroupError> {
    let mut later = Vec::new();
    for write in writes {
        match put(write) {
            // v1 refuses memory above memory + swap: once the sum is raised it will be taken.
            Err(CgroupError::File { source, .. })
                if source.kind() == std::io::ErrorKind::InvalidInput
                    && write.path.ends_with("memory.limit_in_bytes") =>
            {
                later.push(write);
            }
            other => other?,
        }
    }
    later.into_iter().try_for_each(put)
}

fn put(write: &Write) -> Result<(), CgroupError> {
    let (mut path, mut value) = (&write.path, &write.value);
    if let Some((other, its)) = &write.instead
        && !path.exists()
    {
        (path, value) = (other, its);
    }
    let written = fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)
        .and_then(|mut file| file.write_all(value.as_bytes()));
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(CgroupError::NoFile(path.clone()))
        }
        other => other.map_err(file_error(format!("write {value:?} to"), path)),
    }
}

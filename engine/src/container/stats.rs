//! `stats`: what containers use now.

use std::fs;
use std::time::Instant;

use runtime::cgroup::{Cgroup, stats};
use sys::cgroup::Hierarchies;

use crate::Engine;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::store::Container;

/// What a container has used, at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Which container.
    pub id: ContainerId,
    /// Its present name, without slash.
    pub name: String,
    /// `None` for a container without a process.
    pub numbers: Option<Numbers>,
}

/// The numbers of a container with a process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Numbers {
    /// When they were read.
    pub at: Instant,
    /// Processor time in nanoseconds.
    pub cpu: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// The most it may have: its limit, or what the machine has.
    pub memory_limit: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Bytes read from block devices.
    pub read: u64,
    /// Bytes written to them.
    pub written: u64,
    /// Bytes received from networks.
    pub received: u64,
    /// Bytes sent to them.
    pub sent: u64,
}

impl Numbers {
    /// Hundredths of one processor between an earlier look and this one.
    pub fn cpu_share(&self, before: &Self) -> f64 {
        let time = self.at.saturating_duration_since(before.at).as_nanos() as f64;
        let used = self.cpu.saturating_sub(before.cpu) as f64;
        if time > 0.0 { used / time * 100.0 } else { 0.0 }
    }

    /// Hundredths of the memory that it may have.
    pub fn memory_share(&self) -> f64 {
        match self.memory_limit {
            0 => 0.0,
            limit => self.memory as f64 / limit as f64 * 100.0,
        }
    }
}

impl Engine {
    /// What a container uses now.
    ///
    /// # Errors
    /// `No such container`; when a record is damaged.
    pub fn usage(&self, id: &ContainerId) -> Result<Usage> {
        let container = self.store().load(id)?;
        Ok(Usage {
            id: id.clone(),
            name: container.name.clone(),
            numbers: numbers(&container)?,
        })
    }
}

/// `None` where there is no process, or none any more.
fn numbers(container: &Container) -> Result<Option<Numbers>> {
    let (status, _) = container.status()?;
    let Some(init) = container.run.init()?.filter(|_| status.has_process()) else {
        return Ok(None);
    };
    let pid = init.process.pid;
    let trees = Hierarchies::detect()
        .map_err(|error| Error::system("cannot find the cgroups of this host", error))?;
    let Ok(cgroup) = Cgroup::of(pid, &trees) else {
        return Ok(None);
    };
    let processes = cgroup.processes().unwrap_or_default();
    let own = own(cgroup, container.id().as_str());
    let counted = stats::read(&own);
    let summed = Summed::of(&processes);
    let (received, sent) = match container.record.host.network_mode.as_str() {
        "host" => (0, 0),
        _ => traffic(&fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default()),
    };
    let machine = machine_memory();
    Ok(Some(Numbers {
        at: Instant::now(),
        cpu: counted.cpu.unwrap_or(summed.cpu),
        memory: counted.memory.unwrap_or(summed.memory),
        memory_limit: counted.memory_limit.unwrap_or(machine).min(machine),
        processes: counted.processes.unwrap_or(summed.threads),
        read: counted.read.unwrap_or(summed.read),
        written: counted.written.unwrap_or(summed.written),
        received,
        sent,
    }))
}

/// The cgroups that are the container's alone. In the v1 trees of controllers that nothing was asked
/// of, it is in its caller's: what is counted there is others' as well.
pub(super) fn own(mut cgroup: Cgroup, id: &str) -> Cgroup {
    let is_own = |path: &std::path::Path| {
        path.components()
            .any(|part| part.as_os_str().to_string_lossy().contains(id))
    };
    cgroup.unified = cgroup.unified.filter(|group| is_own(&group.path));
    cgroup.v1.retain(|group| is_own(&group.path));
    cgroup
}

/// What the processes that live have used: where nothing counts for the container.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summed {
    cpu: u64,
    memory: u64,
    threads: u64,
    read: u64,
    written: u64,
}

impl Summed {
    fn of(processes: &[i32]) -> Self {
        let mut sum = Self::default();
        for pid in processes {
            // One that has ended meanwhile counts nothing.
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).ok();
            sum.add_stat(&read("stat").unwrap_or_default());
            let io = read("io").unwrap_or_default();
            sum.read += after(&io, "read_bytes: ");
            sum.written += after(&io, "write_bytes: ");
            // Shared pages are shared by all of them: each has its part.
            let shares = read("smaps_rollup").unwrap_or_default();
            sum.memory += after(&shares, "Pss: ") * 1024;
        }
        sum
    }

    /// Adds times and threads of a `/proc/<pid>/stat` line.
    fn add_stat(&mut self, stat: &str) {
        const TICK: u64 = 10_000_000; // nanoseconds: 100 a second, everywhere
        let fields = stat.rfind(')').map_or("", |end| &stat[end + 1..]);
        let fields: Vec<u64> = fields
            .split_ascii_whitespace()
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let field = |index: usize| fields.get(index).copied().unwrap_or(0);
        self.cpu += (field(11) + field(12)) * TICK;
        self.threads += field(17);
    }
}

/// The first number behind a word.
fn after(text: &str, word: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(word.trim_end()))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Bytes received and sent, of all interfaces but the loopback.
fn traffic(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        if name.trim() == "lo" {
            continue;
        }
        let numbers: Vec<u64> = numbers
            .split_ascii_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect();
        sum.0 += numbers.first().copied().unwrap_or(0);
        sum.1 += numbers.get(8).copied().unwrap_or(0);
    }
    sum
}

fn machine_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    after(&text, "MemTotal: ") * 1024
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn texts_of_the_kernel_become_numbers() {
        let dev = "Inter-|   Receive\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1\n  \
                   eth0: 100 1 0 0 0 0 0 0 200 2 0\n  eth1:1 1 0 0 0 0 0 0 2 2 0\n";
        assert_eq!(traffic(dev), (101, 202));
        assert_eq!(traffic(""), (0, 0));
        let mut sum = Summed::default();
        sum.add_stat("7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 30 12 0 0 20 0 3 0 100 1 1");
        assert_eq!((sum.cpu, sum.threads), (420_000_000, 3));
        sum.add_stat("");
        assert_eq!(sum.threads, 3);
        assert_eq!(after("MemTotal:  12 kB\n", "MemTotal: "), 12);
        assert_eq!(after("x", "MemTotal: "), 0);
        assert!(machine_memory() > 1 << 20);
    }

    #[test]
    fn shares_are_of_one_processor_and_of_the_limit() {
        let before = Numbers {
            at: Instant::now(),
            cpu: 1_000_000_000,
            memory: 0,
            memory_limit: 0,
            processes: 1,
            read: 0,
            written: 0,
            received: 0,
            sent: 0,
        };
        let now = Numbers {
            at: before.at + Duration::from_secs(2),
            cpu: 4_000_000_000,
            memory: 25,
            memory_limit: 100,
            ..before
        };
        assert!((now.cpu_share(&before) - 150.0).abs() < 1e-9);
        assert!((now.memory_share() - 25.0).abs() < 1e-9);
        assert!(before.cpu_share(&before).abs() < 1e-9);
        assert!(before.memory_share().abs() < 1e-9);
    }

    #[test]
    fn only_its_own_cgroups_count() {
        let group = |path: &str| runtime::cgroup::Group {
            controllers: vec!["memory".to_owned()],
            path: path.into(),
            base: "/sys/fs/cgroup".into(),
            shared: true,
        };
        let cgroup = Cgroup {
            unified: Some(group("/sys/fs/cgroup/unified/user")),
            v1: vec![group("/cg/memory/lab"), group("/cg/pids/rbox/abc")],
        };
        let own = own(cgroup, "abc");
        assert!(own.unified.is_none());
        assert_eq!(own.v1.len(), 1);
    }
}

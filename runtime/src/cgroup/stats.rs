//! What a cgroup used: files → numbers.

use std::fs;
use std::path::Path;

use super::Cgroup;

/// What a container used; `None` where no controller counts it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Processor time in nanoseconds.
    pub cpu: Option<u64>,
    /// Memory in bytes, without what could be dropped at once.
    pub memory: Option<u64>,
    /// The memory limit in bytes.
    pub memory_limit: Option<u64>,
    /// Processes.
    pub processes: Option<u64>,
    /// Bytes read from block devices.
    pub read: Option<u64>,
    /// Bytes written to them.
    pub written: Option<u64>,
}

/// Reads the numbers of a container.
pub fn read(cgroup: &Cgroup) -> Stats {
    let v2 = cgroup.unified.as_ref().map(|group| group.path.as_path());
    let mut stats = v2.map(read_v2).unwrap_or_default();
    if let Some(path) = cgroup.v1_of("cpuacct") {
        stats.cpu = number(&path.join("cpuacct.usage")).or(stats.cpu);
    }
    if let Some(path) = cgroup.v1_of("memory") {
        let cache = text(&path.join("memory.stat"))
            .and_then(|text| field(&text, "total_inactive_file"))
            .unwrap_or(0);
        let usage = number(&path.join("memory.usage_in_bytes"));
        stats.memory = usage.map(|usage| usage.saturating_sub(cache));
        stats.memory_limit = number(&path.join("memory.limit_in_bytes"));
    }
    if let Some(path) = cgroup.v1_of("pids") {
        stats.processes = number(&path.join("pids.current"));
    }
    if let Some(path) = cgroup.v1_of("blkio")
        && let Some(text) = text(&path.join("blkio.throttle.io_service_bytes"))
    {
        stats.read = Some(operations(&text, "Read"));
        stats.written = Some(operations(&text, "Write"));
    }
    if stats.processes.is_none() {
        stats.processes = cgroup.processes().ok().map(|all| all.len() as u64);
    }
    stats
}

fn read_v2(path: &Path) -> Stats {
    let cache = text(&path.join("memory.stat"))
        .and_then(|text| field(&text, "inactive_file"))
        .unwrap_or(0);
    let io = text(&path.join("io.stat"));
    Stats {
        cpu: text(&path.join("cpu.stat"))
            .and_then(|text| field(&text, "usage_usec"))
            .map(|micros| micros * 1000),
        memory: number(&path.join("memory.current")).map(|usage| usage.saturating_sub(cache)),
        memory_limit: number(&path.join("memory.max")),
        processes: number(&path.join("pids.current")),
        read: io.as_deref().map(|text| keyed(text, "rbytes=")),
        written: io.as_deref().map(|text| keyed(text, "wbytes=")),
    }
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

fn number(path: &Path) -> Option<u64> {
    text(path)?.trim().parse().ok()
}

/// The number after a name at the beginning of a line.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(name)?.strip_prefix(' ')?;
        rest.trim().parse().ok()
    })
}

/// v1: the sum over devices of lines `8:0 Read 4096`.
fn operations(text: &str, operation: &str) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let device = words.next()?;
            let matches = device.contains(':') && words.next()? == operation;
            matches.then(|| words.next()?.parse::<u64>().ok())?
        })
        .sum()
}

/// v2: the sum over devices of words `rbytes=4096`.
fn keyed(text: &str, key: &str) -> u64 {
    text.split_whitespace()
        .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_over_devices() {
        let v1 = "8:0 Read 4096\n8:0 Write 1\n8:16 Read 4\nTotal 4101\n";
        assert_eq!(operations(v1, "Read"), 4100);
        assert_eq!(operations(v1, "Write"), 1);
        let v2 = "8:0 rbytes=4096 wbytes=1 rios=1\n8:16 rbytes=4 wbytes=0\n";
        assert_eq!(keyed(v2, "rbytes="), 4100);
    }

    #[test]
    fn finds_whole_names() {
        let text = "oom 1\noom_kill 3\noom_group_kill 0\n";
        assert_eq!(field(text, "oom_kill"), Some(3));
        assert_eq!(field(text, "oom_k"), None);
    }
}

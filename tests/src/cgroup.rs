//! The part of the machine's cgroup trees that one lab owns, and its removal.
//!
//! Hierarchies cannot be made anew: all labs and the machine share them. A lab therefore gets one
//! directory in each and a cgroup namespace rooted there, so that it sees nothing above.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::wait::until;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// One cgroup hierarchy of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub point: PathBuf,
    /// `cgroup` or `cgroup2`.
    pub kind: String,
    /// Its mount options: controllers or `none,name=systemd`.
    pub options: String,
}

/// Reads the cgroup hierarchies out of a `mountinfo` text.
pub fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else {
            continue;
        };
        let right: Vec<&str> = right.split(' ').collect();
        let Some(point) = left.split(' ').nth(4) else {
            continue;
        };
        let options = right.get(2).copied().unwrap_or_default();
        let options = match right.first() {
            Some(&"cgroup2") => "rw".to_owned(),
            Some(&"cgroup") => named(options),
            _ => continue,
        };
        if !found.iter().any(|known| known.point == Path::new(point)) {
            found.push(Hierarchy {
                point: PathBuf::from(point),
                kind: right[0].to_owned(),
                options,
            });
        }
    }
    found
}

/// The options that select a version 1 hierarchy.
fn named(options: &str) -> String {
    let chosen: Vec<&str> = options
        .split(',')
        .filter(|word| !matches!(*word, "rw" | "ro" | "xattr" | "clone_children"))
        .filter(|word| !word.starts_with("release_agent="))
        .collect();
    if chosen.iter().any(|word| word.starts_with("name=")) {
        format!("none,{}", chosen.join(","))
    } else {
        chosen.join(",")
    }
}

/// One directory in every hierarchy; removed when dropped.
#[derive(Debug)]
pub struct LabCgroup {
    hierarchies: Vec<Hierarchy>,
    name: String,
}

impl LabCgroup {
    /// Makes the directories.
    ///
    /// # Panics
    /// When the machine has no cgroups or they cannot be written.
    pub fn new() -> Self {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("/proc is mounted");
        let lab = Self {
            hierarchies: hierarchies(&mountinfo),
            name: format!(
                "rbox-lab-{}-{}",
                std::process::id(),
                NUMBER.fetch_add(1, Ordering::Relaxed)
            ),
        };
        assert!(
            !lab.hierarchies.is_empty(),
            "no cgroup hierarchy is mounted on this machine: a lab needs /sys/fs/cgroup"
        );
        for hierarchy in &lab.hierarchies {
            lab.make(hierarchy);
        }
        lab
    }

    fn make(&self, hierarchy: &Hierarchy) {
        let directory = hierarchy.point.join(&self.name);
        if hierarchy.kind == "cgroup2" {
            enable_controllers(&hierarchy.point);
        }
        fs::create_dir(&directory)
            .unwrap_or_else(|error| panic!("cannot make the lab's cgroup {directory:?}: {error}"));
        // A version 1 cpuset takes no process before it has processors and memory.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if hierarchy.options.split(',').any(|word| word == "cpuset")
                && let Ok(value) = fs::read(hierarchy.point.join(file))
            {
                let _ = fs::write(directory.join(file), value);
            }
        }
        if self.unified() {
            // The lab's first process passes the controllers down, once it has left the top for this
            // leaf: a cgroup that does so may hold no process itself.
            let leaf = directory.join("host");
            fs::create_dir(&leaf).unwrap_or_else(|error| panic!("cannot make {leaf:?}: {error}"));
        }
    }

    /// Whether the machine has nothing but version 2.
    pub fn unified(&self) -> bool {
        self.hierarchies.len() == 1 && self.hierarchies[0].kind == "cgroup2"
    }

    /// For the first process: a line per hierarchy, with the directory it enters.
    pub fn lines(&self) -> String {
        let lines: Vec<String> = self
            .hierarchies
            .iter()
            .map(|one| {
                format!(
                    "{}|{}|{}|{}",
                    one.point.display(),
                    one.kind,
                    one.options,
                    one.point.join(&self.name).display()
                )
            })
            .collect();
        lines.join("\n")
    }

    /// As seen in the lab: the files through which a process enters the lab's cgroups.
    pub fn entrances(&self) -> Vec<PathBuf> {
        let leaf = if self.unified() { "host" } else { "" };
        self.hierarchies
            .iter()
            .map(|one| one.point.join(leaf).join("cgroup.procs"))
            .collect()
    }

    /// What the lab's processes have used of the processors so far, those that ended included.
    /// `None` where no hierarchy counts it.
    pub fn processor_time(&self) -> Option<Duration> {
        self.hierarchies.iter().find_map(|one| {
            let directory = one.point.join(&self.name);
            if let Ok(text) = fs::read_to_string(directory.join("cpuacct.usage")) {
                return Some(Duration::from_nanos(text.trim().parse().ok()?));
            }
            let text = fs::read_to_string(directory.join("cpu.stat")).ok()?;
            used_micros(&text).map(Duration::from_micros)
        })
    }

    /// The lab's directories that still exist, with all below; the lab's own are included.
    pub fn directories(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for hierarchy in &self.hierarchies {
            collect(&hierarchy.point.join(&self.name), &mut found);
        }
        found
    }
}

/// The microseconds in a version 2 `cpu.stat`.
fn used_micros(stat: &str) -> Option<u64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())
}

impl Default for LabCgroup {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for LabCgroup {
    fn drop(&mut self) {
        let gone = until(Duration::from_secs(10), || {
            for directory in self.directories().iter().rev() {
                let _ = fs::remove_dir(directory);
            }
            self.directories().is_empty().then_some(())
        });
        if gone.is_none() && !std::thread::panicking() {
            panic!(
                "cgroups of a lab cannot be removed: {:?}",
                self.directories()
            );
        }
    }
}

/// Removes what labs of dead processes have left: their cgroups and scratch directories.
pub fn sweep() {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for hierarchy in hierarchies(&mountinfo) {
        for path in abandoned(&hierarchy.point) {
            let mut directories = Vec::new();
            collect(&path, &mut directories);
            for directory in directories.iter().rev() {
                // One that has processes stays.
                let _ = fs::remove_dir(directory);
            }
        }
    }
    for path in abandoned(&std::env::temp_dir()) {
        let _ = fs::remove_dir_all(path);
    }
}

/// Entries `rbox-lab-PID-…` whose process has gone.
fn abandoned(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name
                .strip_prefix("rbox-lab-")
                .and_then(|rest| rest.split('-').next());
            pid.and_then(|pid| pid.parse::<u32>().ok())
                .is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        })
        .map(|entry| entry.path())
        .collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    found.push(directory.to_owned());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

/// Passes every controller down that is not passed down yet; one that cannot be is left out.
fn enable_controllers(directory: &Path) {
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let enabled = read("cgroup.subtree_control");
    for controller in read("cgroup.controllers").split_whitespace() {
        if !enabled.split_whitespace().any(|word| word == controller) {
            let _ = fs::write(
                directory.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_processor_time() {
        assert_eq!(used_micros("usage_usec 12\nuser_usec 5\n"), Some(12));
        assert_eq!(used_micros("nr_periods 0\n"), None);
    }

    #[test]
    fn reads_hybrid_hierarchies() {
        let text = "\
48 47 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct
49 47 0:30 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
57 47 0:38 / /sys/fs/cgroup/unified rw,relatime shared:3 - cgroup2 cgroup2 rw,nsdelegate
58 47 0:39 / /proc rw - proc proc rw
";
        let found = hierarchies(text);
        let options: Vec<&str> = found.iter().map(|one| one.options.as_str()).collect();
        assert_eq!(options, ["cpu,cpuacct", "none,name=systemd", "rw"]);
        assert_eq!(found[2].point, Path::new("/sys/fs/cgroup/unified"));
    }
}

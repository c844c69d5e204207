//! What can be left behind in a host: links, addresses, routes, rules, mounts, cgroups, processes,
//! reservations. Taken before and after, compared line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crate::lab::Lab;
use crate::wait::until;

/// The state of a lab, as sorted lines under headings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    parts: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Commands whose output is part of a snapshot. What counts or ages is cut out.
const COMMANDS: &[(&str, &str)] = &[
    (
        "links",
        "ip -o link show | sed 's/^[0-9]*: //; s/@if[0-9]*//; s/ state .*//; s/<[^>]*>//'",
    ),
    (
        "addresses",
        "ip -o address show | sed 's/^[0-9]*: //; s/ valid_lft.*//' | grep -v ' fe80:'",
    ),
    (
        "routes",
        "ip -4 route show table all | grep -v broadcast | sed 's/ linkdown//'; ip -6 route show table all | grep -v -e fe80: -e ff00: | sed 's/ linkdown//' || :",
    ),
    ("neighbours", "ip neighbour show nud permanent"),
    (
        "iptables",
        "for t in filter nat mangle raw; do iptables -t $t -S 2>/dev/null || :; done",
    ),
    (
        "ip6tables",
        "for t in filter nat; do ip6tables -t $t -S 2>/dev/null || :; done",
    ),
    (
        "nftables",
        "nft -s list ruleset 2>/dev/null | sed 's/^[ \\t]*//' || :",
    ),
    ("mounts", "cut -d' ' -f4- /proc/1/mountinfo"),
    ("namespaces", "ls /run/netns"),
];

impl Snapshot {
    /// Looks at a lab.
    ///
    /// # Panics
    /// When a command that shows its state fails.
    #[track_caller]
    pub fn take(lab: &Lab) -> Self {
        // One shell for all: a snapshot is taken after every single fault.
        let script: String = COMMANDS
            .iter()
            .map(|(heading, command)| format!("echo '== {heading}'; {command};\n"))
            .collect();
        let text = lab.sh(&script);
        let mut parts: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
        let mut part = "";
        for line in text.lines() {
            match line.strip_prefix("== ") {
                Some(heading) => {
                    let known = COMMANDS.iter().find(|(name, _)| *name == heading);
                    part = known.map_or("", |(name, _)| name);
                }
                None => {
                    parts.entry(part).or_default().insert(line.to_owned());
                }
            }
        }
        parts.insert("processes", processes(lab));
        let cgroups = lab.cgroup().directories();
        parts.insert(
            "cgroups",
            cgroups
                .iter()
                .map(|one| one.display().to_string())
                .collect(),
        );
        parts.insert("state", lab.enter(|| names_below("/run/rbox")));
        parts.insert(
            "containers",
            lab.enter(|| names_below("/var/lib/rbox/containers")),
        );
        // A name counts while its container exists: a link to nothing is free to be taken.
        let names = lab.sh("find -L /var/lib/rbox/names ! -type l 2> /dev/null || :");
        parts.insert("names", names.lines().map(str::to_owned).collect());
        Self { parts }
    }

    /// What this snapshot has and the earlier one had not, as text; empty when there is nothing.
    pub fn added_since(&self, earlier: &Snapshot) -> String {
        let mut text = String::new();
        for (heading, lines) in &self.parts {
            let before = earlier.parts.get(heading);
            for line in lines {
                if !before.is_some_and(|before| before.contains(line)) {
                    let _ = writeln!(text, "+ {heading}: {line}");
                }
            }
        }
        text
    }

    /// Everything that differs from the earlier snapshot, as text.
    pub fn difference(&self, earlier: &Snapshot) -> String {
        let gone = earlier.added_since(self);
        let gone: String = gone
            .lines()
            .map(|line| format!("-{}\n", &line[1..]))
            .collect();
        format!("{}{gone}", self.added_since(earlier))
    }

    /// Nothing may have come to stay in the lab since this snapshot.
    ///
    /// # Panics
    /// When something is left.
    #[track_caller]
    pub fn nothing_left_in(&self, lab: &Lab, after: &str) {
        // Who waits for a container is told of its end by the monitor, which ends a moment later.
        let known = self.parts.get("processes").cloned().unwrap_or_default();
        let have_ended = || processes(lab).is_subset(&known).then_some(());
        let _ = until(Duration::from_secs(10), have_ended);
        let left = Self::take(lab).added_since(self);
        assert!(left.is_empty(), "left behind after {after}:\n{left}");
    }
}

/// The command lines of the lab's processes that live, but for those that look.
#[track_caller]
fn processes(lab: &Lab) -> BTreeSet<String> {
    lab.sh("ps -eo stat=,args=")
        .lines()
        .filter(|line| !line.starts_with('Z') && !line.contains("ps -eo stat=,args="))
        .filter_map(|line| line.split_once(' '))
        .map(|(_, arguments)| arguments.trim().to_owned())
        .collect()
}

/// All files below a directory, and the containers' own directories; lock files and
/// the log of events may stay.
fn names_below(top: &str) -> BTreeSet<String> {
    fn walk(directory: &Path, found: &mut BTreeSet<String>) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.display().to_string();
            let directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // Directories that sort things may stay; those of containers may not.
            let kept = ["lock", "/events"].iter().any(|end| name.ends_with(end));
            if !kept && (!directory || name.contains("/containers/")) {
                found.insert(name);
            }
            if directory {
                walk(&path, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(Path::new(top), &mut found);
    found
}

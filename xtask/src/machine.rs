//! The real machine before and after: a run of the tests must leave it as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The variable that marks every process of one run of the tests.
pub(crate) const MARK: &str = "RBOX_TEST_RUN";

/// What a run could leave on the machine, as lines under headings.
#[derive(Debug)]
pub(crate) struct Machine {
    parts: BTreeMap<&'static str, BTreeSet<String>>,
}

const COMMANDS: &[(&str, &str)] = &[
    (
        "link",
        "ip -o link show | sed 's/^[0-9]*: //; s/ state .*//; s/<[^>]*>//'",
    ),
    (
        "address",
        "ip -o address show | sed 's/^[0-9]*: //; s/ valid_lft.*//'",
    ),
    ("route", "ip route show table all"),
    (
        "iptables rule",
        "for t in filter nat mangle raw; do iptables -t $t -S; done",
    ),
    (
        "ip6tables rule",
        "for t in filter nat; do ip6tables -t $t -S; done",
    ),
    ("nftables line", "nft -s list ruleset | sed 's/^[ \\t]*//'"),
    ("mount", "cut -d' ' -f4- /proc/self/mountinfo"),
    (
        "directory",
        "ls -d /var/lib/rbox* /run/rbox* /tmp/rbox-lab-* /run/netns/*",
    ),
];

impl Machine {
    /// Looks at the machine. Without root some parts are empty, before as after.
    pub(crate) fn look() -> Self {
        let mut parts = BTreeMap::new();
        for (heading, command) in COMMANDS {
            let text = Command::new("sh")
                .args(["-c", command])
                .env(
                    "PATH",
                    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                )
                .output()
                .map(|output| output.stdout)
                .unwrap_or_default();
            let text = String::from_utf8_lossy(&text).into_owned();
            parts.insert(
                *heading,
                text.lines()
                    .filter(ours_or_nobodys)
                    .map(str::to_owned)
                    .collect(),
            );
        }
        let mut cgroups = BTreeSet::new();
        directories(Path::new("/sys/fs/cgroup"), &mut cgroups);
        parts.insert("cgroup", cgroups);
        Self { parts }
    }

    /// What differs from an earlier look, one line each.
    pub(crate) fn changes_since(&self, earlier: &Machine) -> Vec<String> {
        let mut changes = Vec::new();
        for (heading, lines) in &self.parts {
            let Some(before) = earlier.parts.get(heading) else {
                continue;
            };
            changes.extend(
                lines
                    .difference(before)
                    .map(|line| format!("new {heading}: {line}")),
            );
            changes.extend(
                before
                    .difference(lines)
                    .map(|line| format!("gone {heading}: {line}")),
            );
        }
        changes
    }
}

/// Processes that carry the mark of a run or sit in a lab's cgroup, and still live.
pub(crate) fn processes(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let own = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment
            .split(|byte| *byte == 0)
            .any(|one| one == wanted.as_bytes())
        {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            found.push(format!("process {name}: {line}"));
        }
    }
    found
}

/// False for what belongs to a lab of another run that is still at work on this machine.
fn ours_or_nobodys(line: &&str) -> bool {
    let Some((_, rest)) = line.split_once("rbox-lab-") else {
        return true;
    };
    match rest
        .split('-')
        .next()
        .and_then(|pid| pid.parse::<u32>().ok())
    {
        Some(pid) => !Path::new(&format!("/proc/{pid}")).exists(),
        None => true,
    }
}

fn directories(top: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let name = entry.path().display().to_string();
            if ours_or_nobodys(&name.as_str()) {
                // Other cgroups come and go with the services of the machine.
                if name.contains("rbox") {
                    found.insert(name);
                }
                directories(&entry.path(), found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labs_at_work_are_not_ours() {
        let own = format!("/sys/fs/cgroup/rbox-lab-{}-0", std::process::id());
        assert!(!ours_or_nobodys(&own.as_str()));
        assert!(ours_or_nobodys(&"/sys/fs/cgroup/rbox-lab-4194999-0"));
        assert!(ours_or_nobodys(&"eth0"));
    }

    #[test]
    fn changes_go_both_ways() {
        let look = |line: &str| Machine {
            parts: BTreeMap::from([("link", BTreeSet::from([line.to_owned()]))]),
        };
        let changes = look("b").changes_since(&look("a"));
        assert_eq!(changes, ["new link: b", "gone link: a"]);
    }
}

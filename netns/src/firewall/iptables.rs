//! The hand that writes rules with `iptables-restore`, one batch per table set.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use super::ruleset::{CHAINS, Rule, Table, base_rules, network_rules, opening_rules};
use super::{FirewallError, NetworkRules, Opening};

/// The programs of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Programs {
    restore: &'static str,
    save: &'static str,
    v4: bool,
}

const V4: Programs = Programs {
    restore: "iptables-restore",
    save: "iptables-save",
    v4: true,
};
const V6: Programs = Programs {
    restore: "ip6tables-restore",
    save: "ip6tables-save",
    v4: false,
};

/// Makes sure that Docker's chains and a network's rules are there; what is there stays.
///
/// # Errors
/// [`FirewallError`] of the programs.
pub fn ensure(network: &NetworkRules) -> Result<(), FirewallError> {
    let _lock = lock()?;
    for programs in [V4, V6] {
        let rules = wanted(network, programs);
        if rules.is_empty() {
            continue;
        }
        let current = Current::read(programs)?;
        // what says the contrary would stand behind or, worse, before
        let mut contrary = wanted(&network.contrary(), programs);
        contrary.retain(|rule| !rules.contains(rule) && current.has(rule));
        if !contrary.is_empty() {
            restore(programs, &batch(&contrary, Rule::removed))?;
        }
        let batch = current.missing(&rules);
        if !batch.is_empty() {
            restore(programs, &batch)?;
        }
    }
    Ok(())
}

/// Removes a network's rules; chains and jumps stay for the other networks.
///
/// # Errors
/// [`FirewallError`] of the programs.
pub fn remove_network(network: &NetworkRules) -> Result<(), FirewallError> {
    for programs in [V4, V6] {
        let rules: Vec<Rule> = network
            .subnets
            .iter()
            .filter(|subnet| subnet.addr().is_ipv4() == programs.v4)
            .flat_map(|subnet| network_rules(network, *subnet))
            .collect();
        remove_rules(programs, &rules)?;
    }
    Ok(())
}

/// Adds the rules of openings, one batch per family.
///
/// # Errors
/// [`FirewallError`] of the programs.
pub fn open(openings: &[Opening]) -> Result<(), FirewallError> {
    for programs in [V4, V6] {
        let rules = rules_of(openings, programs);
        if !rules.is_empty() {
            restore(programs, &batch(&rules, Rule::added))?;
        }
    }
    Ok(())
}

/// Removes the rules of openings; those that are gone already are no error.
///
/// # Errors
/// [`FirewallError`] of the programs.
pub fn close(openings: &[Opening]) -> Result<(), FirewallError> {
    for programs in [V4, V6] {
        remove_rules(programs, &rules_of(openings, programs))?;
    }
    Ok(())
}

/// The commands that would do the same.
pub fn shell(rules: &[Rule], v4: bool) -> Vec<String> {
    let program = if v4 { "iptables" } else { "ip6tables" };
    rules
        .iter()
        .map(|rule| match rule.table {
            Table::Filter => format!("{program} {}", rule.added()),
            Table::Nat => format!("{program} -t nat {}", rule.added()),
        })
        .collect()
}

/// All rules a network needs in one family, base rules first; none if it has no subnet there.
fn wanted(network: &NetworkRules, programs: Programs) -> Vec<Rule> {
    let own: Vec<Rule> = network
        .subnets
        .iter()
        .filter(|subnet| subnet.addr().is_ipv4() == programs.v4)
        .flat_map(|subnet| network_rules(network, *subnet))
        .collect();
    if own.is_empty() {
        return own;
    }
    let mut rules = base_rules(!programs.v4);
    rules.extend(own);
    rules
}

fn rules_of(openings: &[Opening], programs: Programs) -> Vec<Rule> {
    let mut seen = HashSet::new();
    openings
        .iter()
        .filter(|opening| opening.is_v4() == programs.v4)
        .flat_map(opening_rules)
        .filter(|rule| seen.insert(rule.clone()))
        .collect()
}

fn remove_rules(programs: Programs, rules: &[Rule]) -> Result<(), FirewallError> {
    if rules.is_empty() || restore(programs, &batch(rules, Rule::removed)).is_ok() {
        return Ok(());
    }
    // One rule that is gone fails the whole batch: remove those that are still there.
    let current = Current::read(programs)?;
    let left: Vec<Rule> = rules
        .iter()
        .filter(|rule| current.has(rule))
        .cloned()
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    restore(programs, &batch(&left, Rule::removed))
}

fn batch(rules: &[Rule], line: impl Fn(&Rule) -> String) -> String {
    let mut text = String::new();
    for table in [Table::Filter, Table::Nat] {
        let mut lines = rules.iter().filter(|rule| rule.table == table).peekable();
        if lines.peek().is_none() {
            continue;
        }
        let _ = writeln!(text, "*{}", table.as_str());
        for rule in lines {
            let _ = writeln!(text, "{}", line(rule));
        }
        text.push_str("COMMIT\n");
    }
    text
}

/// What the tables hold: `filter -A FORWARD …` and `filter :DOCKER`.
struct Current {
    lines: HashSet<String>,
}

impl Current {
    fn read(programs: Programs) -> Result<Self, FirewallError> {
        let text = run(programs.save, &[], "")?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &str) -> Self {
        let mut table = "";
        let mut lines = HashSet::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('*') {
                table = name;
            } else if line.starts_with('-') {
                lines.insert(format!("{table} {}", line.trim_end()));
            } else if line.starts_with(':') {
                let chain = line.split(' ').next().unwrap_or_default();
                lines.insert(format!("{table} {chain}"));
            }
        }
        Self { lines }
    }

    fn has(&self, rule: &Rule) -> bool {
        let line = format!("{} {}", rule.table.as_str(), rule.listed());
        self.lines.contains(&line)
    }

    fn has_chain(&self, table: Table, chain: &str) -> bool {
        self.lines.contains(&format!("{} :{chain}", table.as_str()))
    }

    /// The batch that adds what is missing. A chain that exists must not be named, for naming it
    /// would empty it. The jumps to Docker's own chains stay at the head of `FORWARD`.
    fn missing(&self, rules: &[Rule]) -> String {
        let missing: Vec<&Rule> = rules.iter().filter(|rule| !self.has(rule)).collect();
        let heads: Vec<&Rule> = rules.iter().filter(|rule| is_head(rule)).collect();
        let to_front = missing
            .iter()
            .any(|rule| rule.chain == "FORWARD" && rule.first);
        let mut text = String::new();
        for table in [Table::Filter, Table::Nat] {
            let mut lines = Vec::new();
            for (_, chain) in CHAINS.iter().filter(|(of, _)| *of == table) {
                if !self.has_chain(table, chain) {
                    lines.push(format!(":{chain} - [0:0]"));
                }
            }
            let of_table = |rule: &&&Rule| rule.table == table && !is_head(rule);
            for rule in missing.iter().filter(of_table).filter(|rule| !rule.first) {
                lines.push(rule.added());
            }
            // Each goes to the front, so the last to be written stands first.
            for rule in missing
                .iter()
                .filter(of_table)
                .filter(|rule| rule.first)
                .rev()
            {
                lines.push(rule.added());
            }
            if table == Table::Filter && to_front {
                for head in heads.iter().rev() {
                    if self.has(head) {
                        lines.push(head.removed());
                    }
                    lines.push(head.added());
                }
            }
            if !lines.is_empty() {
                let _ = writeln!(text, "*{}\n{}\nCOMMIT", table.as_str(), lines.join("\n"));
            }
        }
        text
    }
}

/// A jump that stands before every network's rules.
fn is_head(rule: &Rule) -> bool {
    rule.chain == "FORWARD" && rule.matches.is_empty()
}

/// The lock of this network namespace: looking and adding must not be done by two at once.
fn lock() -> Result<File, FirewallError> {
    let error = |source| FirewallError::Start {
        program: "the firewall's lock",
        source,
    };
    let file = File::open("/proc/thread-self/ns/net").map_err(error)?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| error(errno.into()))?;
    Ok(file)
}

fn restore(programs: Programs, batch: &str) -> Result<(), FirewallError> {
    run(programs.restore, &["--noflush", "--wait"], batch).map(|_| ())
}

/// Finds a program in `PATH` or where root's programs are.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}

fn run(program: &'static str, arguments: &[&str], input: &str) -> Result<String, FirewallError> {
    let start = |source| FirewallError::Start { program, source };
    let path = find(program).ok_or(FirewallError::NoProgram(program))?;
    let mut child = Command::new(path)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends early tells why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(start)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(FirewallError::Refused {
            program,
            message: message.trim().replace('\n', "; "),
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> NetworkRules {
        NetworkRules {
            bridge: "rbox0".to_owned(),
            subnets: vec!["172.17.0.0/16".parse().unwrap()],
            icc: true,
            masquerade: true,
            internal: false,
        }
    }

    #[test]
    fn on_a_clean_host_all_is_made_in_dockers_order() {
        let batch = Current::parse("").missing(&wanted(&network(), V4));
        assert_eq!(
            batch,
            "*filter\n\
             :DOCKER - [0:0]\n\
             :DOCKER-ISOLATION-STAGE-1 - [0:0]\n\
             :DOCKER-ISOLATION-STAGE-2 - [0:0]\n\
             :DOCKER-USER - [0:0]\n\
             -A DOCKER-ISOLATION-STAGE-1 -j RETURN\n\
             -A DOCKER-ISOLATION-STAGE-2 -j RETURN\n\
             -A DOCKER-USER -j RETURN\n\
             -I DOCKER-ISOLATION-STAGE-2 -o rbox0 -j DROP\n\
             -I DOCKER-ISOLATION-STAGE-1 -i rbox0 ! -o rbox0 -j DOCKER-ISOLATION-STAGE-2\n\
             -I FORWARD -i rbox0 -o rbox0 -j ACCEPT\n\
             -I FORWARD -i rbox0 ! -o rbox0 -j ACCEPT\n\
             -I FORWARD -o rbox0 -j DOCKER\n\
             -I FORWARD -o rbox0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
             -I FORWARD -j DOCKER-ISOLATION-STAGE-1\n\
             -I FORWARD -j DOCKER-USER\n\
             COMMIT\n\
             *nat\n\
             :DOCKER - [0:0]\n\
             -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER\n\
             -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER\n\
             -I DOCKER -i rbox0 -j RETURN\n\
             -I POSTROUTING -s 172.17.0.0/16 ! -o rbox0 -j MASQUERADE\n\
             COMMIT\n"
        );
    }

    #[test]
    fn what_is_there_stays_and_the_heads_stay_at_the_head() {
        let rules = wanted(&network(), V4);
        let mut saved = String::from("*filter\n:DOCKER - [0:0]\n:DOCKER-USER - [0:0]\n");
        saved.push_str(":DOCKER-ISOLATION-STAGE-1 - [0:0]\n:DOCKER-ISOLATION-STAGE-2 - [0:0]\n");
        for rule in rules.iter().filter(|rule| rule.table == Table::Filter) {
            saved.push_str(&format!("{}\n", rule.listed()));
        }
        saved.push_str("COMMIT\n*nat\n:DOCKER - [0:0]\n");
        for rule in rules.iter().filter(|rule| rule.table == Table::Nat) {
            saved.push_str(&format!("{}\n", rule.listed()));
        }
        assert_eq!(Current::parse(&saved).missing(&rules), "");
        let mut other = network();
        other.bridge = "rbox1".to_owned();
        let batch = Current::parse(&saved).missing(&wanted(&other, V4));
        assert!(!batch.contains(":DOCKER"), "{batch}");
        assert!(
            batch.contains("-D FORWARD -j DOCKER-USER\n-I FORWARD -j DOCKER-USER\nCOMMIT"),
            "{batch}"
        );
    }
}

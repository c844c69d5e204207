//! The processes of a container as `ps -ef` shows them, read from /proc without a program.

use std::collections::BTreeMap;
use std::fs;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::request::TopTable;

/// Docker's default columns.
pub const TITLES: [&str; 8] = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];

/// What is the same for every row.
#[derive(Debug, Clone)]
struct Host {
    users: BTreeMap<u32, String>,
    /// When the machine started, in seconds since 1970.
    boot: i64,
    now: Timestamp,
    zone: TimeZone,
    /// Clock ticks in a second.
    ticks: u64,
}

/// One process, as /proc has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    user: u32,
    pid: i32,
    parent: i32,
    terminal: u32,
    ticks_used: u64,
    start: u64,
    command: String,
}

/// The table of these processes; those that have ended meanwhile are left out.
pub fn table(pids: &[i32]) -> TopTable {
    let host = Host::read();
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    TopTable {
        titles: TITLES.map(str::to_owned).to_vec(),
        processes: pids
            .into_iter()
            .filter_map(Process::read)
            .map(|process| host.row(&process))
            .collect(),
    }
}

/// Keeps the rows of a `ps` output whose PID column names one of these processes.
///
/// # Errors
/// When the output has no PID column: Docker's text.
pub fn filter(output: &str, pids: &[i32]) -> Result<TopTable, String> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let column = titles
        .iter()
        .position(|title| title == "PID")
        .ok_or("Couldn't find PID field in ps output")?;
    let mut processes = Vec::new();
    for line in lines {
        let fields = cut(line, titles.len());
        let pid = fields
            .get(column)
            .and_then(|field| field.parse::<i32>().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            processes.push(fields);
        }
    }
    Ok(TopTable { titles, processes })
}

/// Cuts a line into so many fields; the last keeps its blanks.
fn cut(line: &str, fields: usize) -> Vec<String> {
    let mut cut = Vec::with_capacity(fields);
    let mut rest = line.trim_start();
    while cut.len() + 1 < fields && !rest.is_empty() {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        cut.push(rest[..end].to_owned());
        rest = rest[end..].trim_start();
    }
    if !rest.is_empty() {
        cut.push(rest.trim_end().to_owned());
    }
    cut
}

impl Host {
    fn read() -> Self {
        Self {
            users: users(&fs::read_to_string("/etc/passwd").unwrap_or_default()),
            boot: fs::read_to_string("/proc/stat")
                .ok()
                .and_then(|stat| boot_time(&stat))
                .unwrap_or_default(),
            now: Timestamp::now(),
            zone: TimeZone::system(),
            ticks: 100,
        }
    }

    fn row(&self, process: &Process) -> Vec<String> {
        let used = process.ticks_used / self.ticks;
        let started = self.boot + (process.start / self.ticks).cast_signed();
        let age = (self.now.as_second() - started).max(0).cast_unsigned();
        let share = (process.ticks_used * 100 / self.ticks)
            .checked_div(age)
            .unwrap_or_default();
        vec![
            self.users
                .get(&process.user)
                .cloned()
                .unwrap_or_else(|| process.user.to_string()),
            process.pid.to_string(),
            process.parent.to_string(),
            share.min(99).to_string(),
            self.start_text(started),
            terminal_name(process.terminal),
            format!("{:02}:{:02}:{:02}", used / 3600, used / 60 % 60, used % 60),
            process.command.clone(),
        ]
    }

    /// `05:31` today, `Nov20` this year, `2025` before.
    fn start_text(&self, started: i64) -> String {
        let Ok(started) = Timestamp::from_second(started) else {
            return "?".to_owned();
        };
        let started = started.to_zoned(self.zone.clone());
        let now = self.now.to_zoned(self.zone.clone());
        if started.date() == now.date() {
            started.strftime("%H:%M").to_string()
        } else if started.year() == now.year() {
            started.strftime("%b%d").to_string()
        } else {
            started.strftime("%Y").to_string()
        }
    }
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Self::parse(pid, &stat, &status, &arguments)
    }

    fn parse(pid: i32, stat: &str, status: &str, arguments: &[u8]) -> Option<Self> {
        let open = stat.find('(')?;
        let close = stat.rfind(')')?;
        let fields: Vec<&str> = stat[close + 1..].split_ascii_whitespace().collect();
        let number = |index: usize| {
            fields
                .get(index)
                .and_then(|field| field.parse::<u64>().ok())
        };
        let user = status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:"))?
            .split_ascii_whitespace()
            .nth(1)?
            .parse()
            .ok()?;
        let mut command = String::from_utf8_lossy(arguments)
            .trim_end_matches('\0')
            .replace('\0', " ");
        if command.is_empty() {
            command = format!("[{}]", &stat[open + 1..close]);
        }
        // A terminal that gets to see another's escape sequences is not what was asked for.
        command = command
            .chars()
            .map(|letter| if letter.is_control() { '?' } else { letter })
            .collect();
        Some(Self {
            user,
            pid,
            parent: fields.get(1)?.parse().ok()?,
            terminal: u32::try_from(number(4)?).unwrap_or_default(),
            ticks_used: number(11)? + number(12)?,
            start: number(19)?,
            command,
        })
    }
}

fn users(passwd: &str) -> BTreeMap<u32, String> {
    let mut users = BTreeMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(id)) = (fields.next(), fields.nth(1))
            && let Ok(id) = id.parse()
        {
            users.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    users
}

fn boot_time(stat: &str) -> Option<i64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

/// A controlling terminal's number as ps names it.
fn terminal_name(number: u32) -> String {
    let major = (number >> 8) & 0xfff;
    let minor = (number & 0xff) | ((number >> 12) & 0xfff00);
    match major {
        0 => "?".to_owned(),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        _ => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4711 (a) (b) S 7 4711 4711 34817 4711 4194560 90 0 0 0 \
                        150 50 0 0 20 0 1 0 6000 1 1";
    const STATUS: &str = "Name:\ta\nUid:\t1000\t1001\t1000\t1000\nGid:\t0\n";

    fn host() -> Host {
        Host {
            users: users("root:x:0:0::/:/bin/sh\nweb:x:1001:1001::/:\nother:x:1001:1::/:\nbad\n"),
            boot: 1_795_000_000,
            now: Timestamp::from_second(1_795_000_160).unwrap(),
            zone: TimeZone::UTC,
            ticks: 100,
        }
    }

    #[test]
    fn a_row_as_ps_prints_it() {
        let process = Process::parse(4711, STAT, STATUS, b"sleep\x001\x1b[0m\x00").unwrap();
        assert_eq!(
            host().row(&process),
            [
                "web",
                "4711",
                "7",
                "2",
                "11:07",
                "pts/1",
                "00:00:02",
                "sleep 1?[0m"
            ]
        );
        let process = Process::parse(4711, STAT, STATUS, b"").unwrap();
        assert_eq!(process.command, "[a) (b]");
        assert!(Process::parse(1, "nonsense", STATUS, b"").is_none());
    }

    #[test]
    fn older_starts_are_dates() {
        let host = host();
        assert_eq!(host.start_text(1_795_000_100), "11:08");
        assert_eq!(host.start_text(1_794_000_000), "Nov06");
        assert_eq!(host.start_text(1_700_000_000), "2023");
    }

    #[test]
    fn terminals_have_names() {
        for (number, name) in [
            (0, "?"),
            (0x8800, "pts/0"),
            (0x8801, "pts/1"),
            (0x0401, "tty1"),
            (0x0440, "ttyS0"),
            (0x8900, "pts/256"),
            (0x0500, "?"),
        ] {
            assert_eq!(terminal_name(number), name, "{number:#x}");
        }
    }

    #[test]
    fn the_output_of_ps_is_filtered_by_its_pid_column() {
        let output = "  PID TTY      COMMAND\n   12 ?        sh -c  a b\n  123 ?        other\n";
        let table = filter(output, &[12]).unwrap();
        assert_eq!(table.titles, ["PID", "TTY", "COMMAND"]);
        assert_eq!(table.processes, [["12", "?", "sh -c  a b"]]);
        assert!(filter("TTY CMD\n? x\n", &[12]).is_err());
    }

    #[test]
    fn this_process_is_found() {
        let own = std::process::id().cast_signed();
        let table = table(&[own, i32::MAX]);
        assert_eq!(table.processes.len(), 1);
        assert_eq!(table.processes[0][1], own.to_string());
    }
}

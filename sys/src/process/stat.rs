//! What `/proc/<pid>/stat` tells of a process: its name, when it began, whether it is on its way out.

use crate::error::{Result, SysError, SysResultExt};

/// `PF_EXITING` of the kernel's `sched.h`: set as the first thing when a process ends.
const EXITING: u64 = 0x4;

/// One line of `/proc/<pid>/stat`, as far as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// As `ps` shows it, at most 15 bytes; a process that has ended keeps the last it had.
    pub name: String,
    /// In clock ticks since boot: with the process id it names a process for ever.
    pub start_time: u64,
    /// It has ended and was not reaped yet.
    pub zombie: bool,
    /// It runs no program any more, whether or not that is known to its parent yet.
    pub ending: bool,
}

impl Stat {
    /// Looks at a process.
    ///
    /// # Errors
    /// `ENOENT` or `ESRCH` when there is no such process.
    pub fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/stat");
        let call = || format!("read({path:?})");
        let text = std::fs::read(&path).call(call)?;
        Self::parse(&text).ok_or_else(|| SysError::new(call(), libc::EBADMSG))
    }

    /// Reads a line; the name in field 2 may hold anything, parentheses too.
    fn parse(line: &[u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
        let mut fields = rest.split_ascii_whitespace();
        let zombie = matches!(fields.next()?, "Z" | "X");
        let flags: u64 = fields.nth(5)?.parse().ok()?;
        Some(Self {
            name: String::from_utf8_lossy(line.get(open + 1..close)?).into_owned(),
            start_time: fields.nth(12)?.parse().ok()?,
            zombie,
            ending: zombie || flags & EXITING != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_hides_nothing() {
        let line = b"7 (a) Z 1 (b)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1\n";
        let stat = Stat {
            name: "a) Z 1 (b)".to_owned(),
            start_time: 4711,
            zombie: false,
            ending: false,
        };
        assert_eq!(Stat::parse(line), Some(stat));
        let line = b"7 (x) R 1 7 7 0 -1 4194564 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1\n";
        assert!(Stat::parse(line).unwrap().ending);
        for short in [&b"7 (x) Z 1 7"[..], b"7 (x", b") 7 (", b""] {
            assert_eq!(Stat::parse(short), None);
        }
    }

    #[test]
    fn an_ended_child_keeps_its_name() {
        let child = crate::process::fork(&crate::process::Fork::default(), || {
            crate::process::set_name(c"sixteen letters!").map_or(1, |()| 0)
        })
        .unwrap();
        let ended = loop {
            let stat = Stat::of(child.pid).unwrap();
            if stat.zombie {
                break stat;
            }
        };
        assert!(ended.ending);
        assert_eq!(ended.name, "sixteen letters");
        use std::os::fd::AsFd;
        crate::process::wait_pidfd(child.pidfd.as_fd(), true).unwrap();
        assert!(Stat::of(child.pid).is_err());
        let own = Stat::of(std::process::id().cast_signed()).unwrap();
        assert!(!own.ending && own.start_time > Stat::of(1).unwrap().start_time);
    }
}

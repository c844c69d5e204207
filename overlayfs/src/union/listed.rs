//! Listings that the kernel may keep although every look-up is verified: as long as the directory is
//! unchanged in all branches that have it, which is looked at whenever it is opened.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::node::Node;
use crate::union::tree::{Union, stat_fd};
use crate::union::wire::fopen;

/// A change is surely told from one that was seen when they are so far apart: times of file systems
/// advance in steps of a few milliseconds, those without nanoseconds in steps of up to two seconds.
const STEP: Duration = Duration::from_millis(20);
const LONG_STEP: Duration = Duration::from_secs(3);

/// A directory of one branch, and when it was changed last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    branch: u32,
    ino: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

/// What the kernel keeps of a directory's listing.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// How often the directory is open.
    opens: usize,
    /// The state that what is kept belongs to, with the branches' epoch.
    state: Option<(u32, Vec<Stamp>)>,
}

impl Stamp {
    /// Whether a change from `now` on will be seen in it.
    fn is_old(&self, now: Duration) -> bool {
        [self.modified, self.changed]
            .into_iter()
            .all(|(sec, nsec)| {
                let at = Duration::new(u64::try_from(sec).unwrap_or(0), nsec);
                let step = if nsec == 0 { LONG_STEP } else { STEP };
                at + step < now
            })
    }
}

impl Listed {
    /// One more open, with the directory as it is now if that can be told from what it will be;
    /// returns the flags of the answer.
    fn open(&mut self, now: Option<(u32, Vec<Stamp>)>) -> u32 {
        self.opens += 1;
        if now.is_some() && self.state == now {
            return fopen::CACHE_DIR | fopen::KEEP_CACHE;
        }
        // Who has it open since before may still be filling the kernel's memory with what was then.
        self.state = now.filter(|_| self.opens == 1);
        match self.state {
            Some(_) => fopen::CACHE_DIR,
            None => 0,
        }
    }

    /// It is open since before this server: the kernel may be filling its memory from that.
    pub(crate) fn inherit(&mut self) {
        self.open(None);
    }

    /// One open ends.
    pub(crate) fn close(&mut self) {
        self.opens = self.opens.saturating_sub(1);
    }
}

/// The time, as file systems tell it.
pub(crate) fn since_epoch() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

impl Union {
    /// Notes that a directory is opened; returns the flags that say what the kernel may keep. One
    /// whose names are `kept` is not looked at: what changes in it is told.
    pub(crate) fn open_listing(&self, members: &Members, node: &Arc<Node>, kept: bool) -> u32 {
        if kept {
            node.state().listed.open(None);
            return fopen::CACHE_DIR | fopen::KEEP_CACHE;
        }
        let now = since_epoch();
        let now = self.stamps(members, node, now).unwrap_or_default();
        let now = now.map(|stamps| (members.epoch, stamps));
        node.state().listed.open(now)
    }

    /// Whether a directory surely lists now what it listed at a time, in the same order.
    pub(crate) fn lists_as_at(&self, members: &Members, node: &Arc<Node>, time: Duration) -> bool {
        matches!(self.stamps(members, node, time), Ok(Some(_)))
    }

    fn stamps(
        &self,
        members: &Members,
        node: &Arc<Node>,
        now: Duration,
    ) -> Res<Option<Vec<Stamp>>> {
        if members.unwatched {
            // The clock of their times is not ours.
            return Ok(None);
        }
        let mut stamps = Vec::new();
        for &at in &self.places(members, node)?.at {
            let stat = stat_fd(self.dir_fd(members, node, at)?)?;
            let stamp = Stamp {
                branch: members.branch(at).id,
                ino: stat.stx_ino,
                modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
                changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
            };
            if !stamp.is_old(now) {
                return Ok(None);
            }
            stamps.push(stamp);
        }
        Ok(Some(stamps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: u32 = fopen::CACHE_DIR | fopen::KEEP_CACHE;

    fn stamp(changed: (i64, u32)) -> Stamp {
        Stamp {
            branch: 1,
            ino: 2,
            modified: (100, 5),
            changed,
        }
    }

    #[test]
    fn a_fresh_change_is_not_trusted() {
        let now = Duration::new(200, 0);
        for (changed, old) in [
            ((150, 7), true),
            ((199, 979_000_000), true),
            ((199, 990_000_000), false),
            ((200, 1), false),
            ((198, 0), false),
            ((190, 0), true),
        ] {
            assert_eq!(stamp(changed).is_old(now), old, "{changed:?}");
        }
    }

    #[test]
    fn a_listing_is_kept_until_something_changes() {
        let state = |changed| Some((1, vec![stamp(changed)]));
        let mut listed = Listed::default();
        assert_eq!(listed.open(state((1, 1))), fopen::CACHE_DIR);
        assert_eq!(listed.open(state((1, 1))), KEEP);
        // Changed while others have it open: nothing is kept until all are gone.
        assert_eq!(listed.open(state((2, 1))), 0);
        assert_eq!(listed.open(state((2, 1))), 0);
        for _ in 0..4 {
            listed.close();
        }
        assert_eq!(listed.open(state((2, 1))), fopen::CACHE_DIR);
        listed.close();
        assert_eq!(listed.open(state((2, 1))), KEEP);
        listed.close();
        assert_eq!(listed.open(None), 0);
        listed.close();
        assert_eq!(listed.open(state((2, 1))), fopen::CACHE_DIR);
        listed.close();
        listed.inherit();
        assert_eq!(listed.open(state((3, 1))), 0);
        assert_eq!(listed.open(state((3, 1))), 0);
    }
}

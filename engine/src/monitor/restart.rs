//! Whether and when a container whose process ended is started again (pure).

use std::time::Duration;

use crate::config::RestartPolicy;

/// The first pause.
const FIRST: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST: Duration = Duration::from_mins(1);

/// A run of this length makes the next pause the first one again.
const STEADY: Duration = Duration::from_secs(10);

/// The rule by which a container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Never.
    No,
    /// After a failure, at most so many times; 0 is without end.
    OnFailure(u32),
    /// Whenever it was not stopped by hand.
    Always,
    /// The same; the difference shows when the machine boots.
    UnlessStopped,
}

impl Rule {
    /// Reads a stored policy; an unknown one never restarts.
    pub fn of(policy: &RestartPolicy) -> Self {
        match policy.name.as_str() {
            "on-failure" => {
                Self::OnFailure(u32::try_from(policy.maximum_retry_count).unwrap_or_default())
            }
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            _ => Self::No,
        }
    }

    /// Whether a process that ended with `code` after `count` restarts is started again.
    pub fn restarts(self, code: i32, count: u32, stopped_by_hand: bool) -> bool {
        if stopped_by_hand {
            return false;
        }
        match self {
            Self::No => false,
            Self::OnFailure(most) => code != 0 && (most == 0 || count < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// The pauses between restarts: each twice the one before, up to a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pauses {
    last: Option<Duration>,
}

impl Pauses {
    /// The pause after a run that took so long.
    pub fn after(&mut self, run: Duration) -> Duration {
        let pause = match self.last {
            Some(last) if run < STEADY => (last * 2).min(LONGEST),
            Some(_) | None => FIRST,
        };
        self.last = Some(pause);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, maximum_retry_count: i64) -> Rule {
        Rule::of(&RestartPolicy {
            name: name.to_owned(),
            maximum_retry_count,
        })
    }

    #[test]
    fn who_is_started_again() {
        for (rule, code, count, by_hand, expected) in [
            (rule("no", 0), 1, 0, false, false),
            (rule("", 0), 1, 0, false, false),
            (rule("on-failure", 0), 1, 1000, false, true),
            (rule("on-failure", 0), 0, 0, false, false),
            (rule("on-failure", 3), 1, 2, false, true),
            (rule("on-failure", 3), 1, 3, false, false),
            (rule("on-failure", 3), 137, 0, true, false),
            (rule("always", 0), 0, 9, false, true),
            (rule("always", 0), 0, 9, true, false),
            (rule("unless-stopped", 0), 1, 0, false, true),
            (rule("unless-stopped", 0), 1, 0, true, false),
        ] {
            assert_eq!(rule.restarts(code, count, by_hand), expected, "{rule:?}");
        }
    }

    #[test]
    fn pauses_double_and_begin_again_after_a_steady_run() {
        let mut pauses = Pauses::default();
        let short = Duration::from_secs(1);
        let seen: Vec<_> = (0..12).map(|_| pauses.after(short).as_millis()).collect();
        assert_eq!(
            seen,
            [
                100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000
            ]
        );
        assert_eq!(pauses.after(STEADY).as_millis(), 100);
        assert_eq!(pauses.after(short).as_millis(), 200);
    }
}

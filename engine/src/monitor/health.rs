//! What the results of a health check mean (pure): when the next one is due, and whether the
//! container counts as starting, healthy or unhealthy.

use std::time::Duration;

use crate::config::Config;
use crate::store::{Health, HealthResult};
use crate::time::Time;

/// No check has succeeded yet, and not enough have failed.
const STARTING: &str = "starting";
const HEALTHY: &str = "healthy";
const UNHEALTHY: &str = "unhealthy";

/// So many results are kept.
const RESULTS: usize = 5;

/// So much of what a check prints is kept.
const OUTPUT: usize = 4096;

/// The exit code of a check that did not come to its end.
pub(super) const NOT_ENDED: i32 = -1;

/// A container's health check, with Docker's values for what was not given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// What is run in the container.
    pub(super) command: Vec<String>,
    /// How long one may take.
    pub(super) timeout: Duration,
    interval: Duration,
    /// In which failures do not count while none has succeeded.
    start_period: Duration,
    /// The interval in that period.
    start_interval: Option<Duration>,
    retries: u32,
}

impl Rule {
    /// The check of a container; `None` where it has none.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let check = config.healthcheck.as_ref()?;
        let command = match check.test.split_first() {
            Some((kind, command)) if kind == "CMD" && !command.is_empty() => command.to_vec(),
            Some((kind, [text, ..])) if kind == "CMD-SHELL" => {
                let shell = config.shell.clone().filter(|shell| !shell.is_empty());
                let mut command =
                    shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]);
                command.push(text.clone());
                command
            }
            _ => return None,
        };
        let time = |nanoseconds: i64| {
            let nanoseconds = u64::try_from(nanoseconds).unwrap_or(0);
            (nanoseconds > 0).then(|| Duration::from_nanos(nanoseconds))
        };
        Some(Self {
            command,
            interval: time(check.interval).unwrap_or(Duration::from_secs(30)),
            timeout: time(check.timeout).unwrap_or(Duration::from_secs(30)),
            start_period: time(check.start_period).unwrap_or_default(),
            start_interval: time(check.start_interval),
            retries: u32::try_from(check.retries)
                .ok()
                .filter(|retries| *retries > 0)
                .unwrap_or(3),
        })
    }

    /// How long to wait for the next check of a container that runs for so long.
    pub(super) fn pause(&self, health: &Health, runs: Duration) -> Duration {
        match self.start_interval {
            Some(interval) if health.status == STARTING && runs < self.start_period => interval,
            _ => self.interval,
        }
    }

    /// Takes a result in; true when the status has become another one.
    pub(super) fn judge(&self, health: &mut Health, result: HealthResult, started: Time) -> bool {
        let before = health.status.clone();
        let runs = started.until(result.start);
        if result.exit_code == 0 {
            health.failing_streak = 0;
            HEALTHY.clone_into(&mut health.status);
        } else if before != STARTING || runs >= self.start_period {
            health.failing_streak += 1;
            if health.failing_streak >= self.retries {
                UNHEALTHY.clone_into(&mut health.status);
            }
        }
        health.log.push(result);
        let surplus = health.log.len().saturating_sub(RESULTS);
        health.log.drain(..surplus);
        health.status != before
    }
}

/// The health of a container that has just been started; the results of earlier runs stay.
pub(super) fn begin(health: &mut Option<Health>) {
    let health = health.get_or_insert_default();
    STARTING.clone_into(&mut health.status);
    health.failing_streak = 0;
}

/// The health of one that is not watched any more, since it ended or is frozen: Docker's word.
pub(super) fn unwatched(health: &mut Option<Health>) {
    if let Some(health) = health {
        UNHEALTHY.clone_into(&mut health.status);
    }
}

/// What a check has printed, as far as it is kept.
#[derive(Debug, Default)]
pub(super) struct Printed {
    bytes: Vec<u8>,
    cut: bool,
}

impl Printed {
    /// Takes more in.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let room = OUTPUT - self.bytes.len();
        self.cut |= bytes.len() > room;
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// As text, with a mark where it was cut.
    pub(super) fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

/// Docker's text for a check that took too long; the time as Go prints it.
pub(super) fn too_long(timeout: Duration) -> String {
    let seconds = timeout.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = timeout.as_secs_f64() - (hours * 3600 + minutes * 60) as f64;
    let time = match (hours, minutes) {
        (0, 0) if seconds == 0 => format!("{}ms", timeout.as_secs_f64() * 1000.0),
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    };
    format!("Health check exceeded timeout ({time})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Healthcheck;

    fn rule(check: Healthcheck) -> Option<Rule> {
        Rule::of(&Config {
            healthcheck: Some(check),
            ..Config::default()
        })
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn at(second: i64) -> Time {
        jiff::Timestamp::from_second(second).unwrap().into()
    }

    fn result(second: i64, exit_code: i32) -> HealthResult {
        HealthResult {
            start: at(second),
            end: at(second),
            exit_code,
            output: String::new(),
        }
    }

    fn judged(check: Healthcheck, results: &[(i64, i32)]) -> Vec<(String, u32, bool)> {
        let rule = rule(check).unwrap();
        let mut health = None;
        begin(&mut health);
        let mut health = health.unwrap();
        let judge = |(second, code): &(i64, i32)| {
            let changed = rule.judge(&mut health, result(*second, *code), at(0));
            (health.status.clone(), health.failing_streak, changed)
        };
        results.iter().map(judge).collect()
    }

    fn shell(text: &str) -> Healthcheck {
        Healthcheck {
            test: vec!["CMD-SHELL".to_owned(), text.to_owned()],
            ..Healthcheck::default()
        }
    }

    #[test]
    fn commands_of_both_forms_and_none() {
        assert_eq!(
            rule(shell("a b")).unwrap().command,
            ["/bin/sh", "-c", "a b"]
        );
        let plain = Healthcheck {
            test: words("CMD a b"),
            ..Healthcheck::default()
        };
        assert_eq!(rule(plain).unwrap().command, ["a", "b"]);
        for test in [vec![], words("NONE"), words("CMD"), words("FOO bar")] {
            let check = Healthcheck {
                test,
                ..Healthcheck::default()
            };
            assert_eq!(rule(check), None);
        }
        assert_eq!(Rule::of(&Config::default()), None);
        let own = Config {
            healthcheck: Some(shell("x")),
            shell: Some(words("/bin/bash -ec")),
            ..Config::default()
        };
        assert_eq!(Rule::of(&own).unwrap().command, ["/bin/bash", "-ec", "x"]);
    }

    #[test]
    fn failures_in_a_row_count_and_a_success_ends_them() {
        let check = Healthcheck {
            retries: 2,
            ..shell("x")
        };
        let seen = judged(check, &[(1, 1), (2, 1), (3, 0), (4, 7), (5, NOT_ENDED)]);
        let expected = [
            (STARTING, 1, false),
            (UNHEALTHY, 2, true),
            (HEALTHY, 0, true),
            (HEALTHY, 1, false),
            (UNHEALTHY, 2, true),
        ];
        assert_eq!(seen, expected.map(|(s, n, c)| (s.to_owned(), n, c)));
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_until_a_success() {
        let check = Healthcheck {
            retries: 1,
            start_period: 3_000_000_000,
            ..shell("x")
        };
        let seen = judged(check.clone(), &[(1, 1), (2, 1), (3, 1)]);
        let expected = [
            (STARTING, 0, false),
            (STARTING, 0, false),
            (UNHEALTHY, 1, true),
        ];
        assert_eq!(seen, expected.map(|(s, n, c)| (s.to_owned(), n, c)));
        let seen = judged(check, &[(1, 0), (2, 1)]);
        assert_eq!(seen[1], (UNHEALTHY.to_owned(), 1, true));
    }

    #[test]
    fn the_start_period_has_an_interval_of_its_own() {
        let rule = rule(Healthcheck {
            interval: 30_000_000_000,
            start_period: 10_000_000_000,
            start_interval: 1_000_000_000,
            ..shell("x")
        })
        .unwrap();
        let seconds = Duration::from_secs;
        let mut health = Some(Health::default());
        begin(&mut health);
        let mut health = health.unwrap();
        assert_eq!(rule.pause(&health, seconds(3)), seconds(1));
        assert_eq!(rule.pause(&health, seconds(10)), seconds(30));
        rule.judge(&mut health, result(1, 0), at(0));
        assert_eq!(rule.pause(&health, seconds(3)), seconds(30));
    }

    #[test]
    fn five_results_are_kept_across_starts() {
        let rule = rule(shell("x")).unwrap();
        let mut health = None;
        begin(&mut health);
        for second in 0..7 {
            rule.judge(health.as_mut().unwrap(), result(second, 0), at(0));
        }
        unwatched(&mut health);
        assert_eq!(health.as_ref().unwrap().status, UNHEALTHY);
        begin(&mut health);
        let health = health.unwrap();
        let kept: Vec<_> = health.log.iter().map(|one| one.start).collect();
        assert_eq!(kept, [2, 3, 4, 5, 6].map(at));
        assert_eq!(
            (health.status.as_str(), health.failing_streak),
            (STARTING, 0)
        );
    }

    #[test]
    fn output_is_cut_with_a_mark() {
        let mut printed = Printed::default();
        printed.push(&[b'x'; OUTPUT - 1]);
        printed.push(b"y");
        assert_eq!(printed.text().len(), OUTPUT);
        printed.push(b"z");
        assert!(printed.text().ends_with("xy..."));
    }

    #[test]
    fn times_are_gos() {
        for (milliseconds, text) in [
            (500, "500ms"),
            (1_500, "1.5s"),
            (30_000, "30s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
        ] {
            let said = too_long(Duration::from_millis(milliseconds));
            assert_eq!(said, format!("Health check exceeded timeout ({text})"));
        }
    }
}

//! The STATUS column, in Docker's words (pure).

use std::time::Duration;

use crate::store::{Facts, State, Status};
use crate::time::Time;

/// `Up 2 seconds (Paused)`, `Exited (137) 2 seconds ago`, `Created`.
pub fn status_text(status: Status, facts: &Facts, state: &State, now: Time) -> String {
    let started = facts.init.map_or(state.started_at, |init| init.started_at);
    match status {
        Status::Created => "Created".to_owned(),
        Status::Running => {
            let up = format!("Up {}", duration_text(started.until(now)));
            match state.health.as_ref().map(|health| health.status.as_str()) {
                None | Some("" | "none") => up,
                Some("starting") => format!("{up} (health: starting)"),
                Some(word) => format!("{up} ({word})"),
            }
        }
        Status::Paused => format!("Up {} (Paused)", duration_text(started.until(now))),
        Status::Restarting => {
            let ago = duration_text(state.finished_at.until(now));
            format!("Restarting ({}) {ago} ago", state.exit_code)
        }
        Status::Removing => "Removal In Progress".to_owned(),
        Status::Dead => "Dead".to_owned(),
        Status::Exited => {
            let unrecorded = facts
                .init
                .is_some_and(|init| state.finished_at < init.started_at);
            if unrecorded {
                return "Exited (137)".to_owned();
            }
            let ago = duration_text(state.finished_at.until(now));
            format!("Exited ({}) {ago} ago", state.exit_code)
        }
    }
}

/// A length of time as Docker says it: `Less than a second`, `About an hour`, `3 weeks`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // half an hour is rounded up, as Docker does
    let hours = (seconds + 1800) / 3600;
    match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::record::Health;
    use crate::store::{InitRecord, ProcessMark};

    #[test]
    fn lengths_of_time() {
        const HOUR: u64 = 3600;
        const DAY: u64 = 24 * HOUR;
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (2, "2 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 1799, "About an hour"),
            (HOUR + 1800, "2 hours"),
            (47 * HOUR, "47 hours"),
            (48 * HOUR, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
        ] {
            assert_eq!(
                duration_text(Duration::from_secs(seconds)),
                text,
                "{seconds}"
            );
        }
        assert_eq!(
            duration_text(Duration::from_millis(999)),
            "Less than a second"
        );
    }

    #[test]
    fn status_words() {
        let time =
            |second: u32| -> Time { format!("2026-01-01T00:00:{second:02}Z").parse().unwrap() };
        let facts = Facts {
            monitor: true,
            init: Some(InitRecord {
                process: ProcessMark {
                    pid: 1,
                    start_time: 1,
                },
                started_at: time(5),
            }),
            paused: false,
        };
        let ended = State {
            started_at: time(5),
            finished_at: time(8),
            exit_code: 3,
            ..State::default()
        };
        let running = State::default();
        let checked = |word: &str| State {
            health: Some(Health {
                status: word.to_owned(),
                ..Health::default()
            }),
            ..State::default()
        };
        for (status, state, text) in [
            (Status::Created, &running, "Created"),
            (Status::Running, &running, "Up 5 seconds"),
            (
                Status::Running,
                &checked("starting"),
                "Up 5 seconds (health: starting)",
            ),
            (
                Status::Running,
                &checked("healthy"),
                "Up 5 seconds (healthy)",
            ),
            (
                Status::Running,
                &checked("unhealthy"),
                "Up 5 seconds (unhealthy)",
            ),
            (Status::Paused, &running, "Up 5 seconds (Paused)"),
            (Status::Exited, &ended, "Exited (3) 2 seconds ago"),
            (Status::Exited, &running, "Exited (137)"),
            (Status::Restarting, &ended, "Restarting (3) 2 seconds ago"),
            (Status::Removing, &ended, "Removal In Progress"),
            (Status::Dead, &ended, "Dead"),
        ] {
            assert_eq!(status_text(status, &facts, state, time(10)), text);
        }
    }
}

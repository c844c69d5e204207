//! Waiting for something to become true, with a deadline instead of a guess.

use std::time::{Duration, Instant};

/// Asks until there is an answer or the time is over.
pub fn until<T>(limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits up to ten seconds for a condition.
///
/// # Panics
/// When it has not come true by then; `what` says what was waited for.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    assert!(
        until(Duration::from_secs(10), || condition().then_some(())).is_some(),
        "waited ten seconds in vain: {what}"
    );
}

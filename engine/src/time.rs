//! Points in time as Docker prints them: RFC 3339 in UTC with as many digits as are needed.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A point in time; the year 1 stands for "never", as in Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Timestamp);

impl Time {
    /// Has not happened: `0001-01-01T00:00:00Z`.
    pub const NEVER: Self = Self(Timestamp::constant(-62_135_596_800, 0));

    /// The present.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }

    /// It has not happened.
    pub fn is_never(self) -> bool {
        self == Self::NEVER
    }

    /// Time from here to `later`; zero when that lies before.
    pub fn until(self, later: Self) -> Duration {
        later
            .0
            .duration_since(self.0)
            .try_into()
            .unwrap_or_default()
    }

    /// Seconds since 1970.
    pub fn as_second(self) -> i64 {
        self.0.as_second()
    }

    /// Nanoseconds since 1970.
    pub fn as_nanosecond(self) -> i128 {
        self.0.as_nanosecond()
    }

    /// The same as jiff's type.
    pub fn timestamp(self) -> Timestamp {
        self.0
    }
}

impl Default for Time {
    fn default() -> Self {
        Self::NEVER
    }
}

impl From<Timestamp> for Time {
    fn from(timestamp: Timestamp) -> Self {
        Self(timestamp)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_prints_as_go_does_and_comes_back() {
        assert_eq!(Time::NEVER.to_string(), "0001-01-01T00:00:00Z");
        assert_eq!("0001-01-01T00:00:00Z".parse::<Time>().unwrap(), Time::NEVER);
        assert!(Time::now() > Time::NEVER);
    }

    #[test]
    fn digits_are_kept_as_needed() {
        for text in ["2026-11-21T05:14:00.123456789Z", "2026-11-21T05:14:00.5Z"] {
            assert_eq!(text.parse::<Time>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_span_backwards_is_zero() {
        assert_eq!(Time::now().until(Time::NEVER), Duration::ZERO);
    }
}

//! Durations and times as Docker words them.

use engine::Time;
use engine::container::list::duration_text;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The time since `then`, worded; times to come count as now.
pub(crate) fn since(then: Timestamp, now: Timestamp) -> String {
    duration_text(Time::from(then).until(Time::from(now)))
}

/// Go's `time.Time.String` of a local time: `2026-11-21 05:29:19 +0000 UTC`.
pub(crate) fn local(then: Timestamp) -> String {
    let zoned = then.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string()
}

/// The same with the parts of a second: `2026-11-21 05:29:19.0731 +0000 UTC`.
pub(crate) fn whole(then: Timestamp) -> String {
    let zoned = then.to_zoned(TimeZone::system());
    zoned.strftime("%Y-%m-%d %H:%M:%S%.f %z %Z").to_string()
}

/// RFC 3339 in the local zone, whole seconds.
pub(crate) fn rfc3339(then: Timestamp) -> String {
    let zoned = then.to_zoned(TimeZone::system());
    if zoned.offset().seconds() == 0 {
        zoned.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    } else {
        zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// A `--since` or `--until`: a Go duration back from now, RFC 3339 with or without its parts, or
/// seconds since 1970. The answer is in nanoseconds since 1970.
pub(crate) fn point(text: &str, now: Timestamp) -> Result<i128, String> {
    if let Ok(back) = crate::option::duration::nanoseconds(text) {
        return Ok(now.as_nanosecond() - i128::from(back));
    }
    if let Ok(stamp) = text.parse::<Timestamp>() {
        return Ok(stamp.as_nanosecond());
    }
    if let Ok(civil) = text.parse::<jiff::civil::DateTime>()
        && let Ok(zoned) = civil.to_zoned(TimeZone::system())
    {
        return Ok(zoned.timestamp().as_nanosecond());
    }
    let (seconds, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if seconds.is_empty() || !digits(seconds) || !digits(part) || part.len() > 9 {
        return Err(format!(
            "failed to parse value as time or duration: {text:?}"
        ));
    }
    let nanos: i128 = format!("{seconds}{part:0<9}")
        .parse()
        .map_err(|_| format!("failed to parse value as time or duration: {text:?}"))?;
    Ok(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_in_time() {
        let now = Timestamp::from_second(1_000_000).unwrap();
        let cases = [
            ("10s", 999_990_000_000_000),
            ("1.5", 1_500_000_000),
            ("1970-01-01T00:00:01Z", 1_000_000_000),
            ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ];
        for (text, want) in cases {
            assert_eq!(point(text, now), Ok(want), "{text}");
        }
        assert!(point("foo", now).is_err());
    }
}

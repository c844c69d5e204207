//! PAX records: `LENGTH KEY=VALUE\n`, where the value may hold any byte.

use sys::fs::Timestamp;

/// Reads all records; `None` where one is malformed.
pub(super) fn parse(mut data: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    // Some writers pad with zeros.
    while !data.is_empty() && data[0] != 0 {
        let space = data.iter().take(20).position(|byte| *byte == b' ')?;
        let length: usize = number(&data[..space])?.try_into().ok()?;
        let record = data.get(space + 1..length)?;
        let (last, record) = record.split_last()?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        if *last != b'\n' || equals == 0 {
            return None;
        }
        records.push((&record[..equals], &record[equals + 1..]));
        data = &data[length..];
    }
    Some(records)
}

/// Reads a decimal number without sign or space.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Reads `-1.000000001`: seconds with a fraction of any length.
pub(super) fn time(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(at) => (&text[..at], &text[at + 1..]),
        None => (text, &[][..]),
    };
    let seconds = i64::try_from(number(whole)?).ok()?;
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = match fraction.get(place) {
            Some(digit) => digit.checked_sub(b'0').filter(|digit| *digit <= 9)?,
            None => 0,
        };
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    Some(match (negative, nanoseconds) {
        (false, _) => Timestamp {
            seconds,
            nanoseconds,
        },
        (true, 0) => Timestamp {
            seconds: -seconds,
            nanoseconds,
        },
        (true, _) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// Writes a time as [`time`] reads it, without trailing zeros.
pub(super) fn print_time(time: Timestamp) -> String {
    if time.nanoseconds == 0 {
        return time.seconds.to_string();
    }
    let (sign, seconds, nanoseconds) = if time.seconds < 0 {
        ("-", -(time.seconds + 1), 1_000_000_000 - time.nanoseconds)
    } else {
        ("", time.seconds, time.nanoseconds)
    };
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').to_owned()
}

/// Appends one record.
pub(super) fn push(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // The length counts its own digits.
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    data.extend_from_slice(format!("{length} ").as_bytes());
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_times() {
        let stamp = |seconds, nanoseconds| {
            Some(Timestamp {
                seconds,
                nanoseconds,
            })
        };
        for (text, expected) in [
            ("0", stamp(0, 0)),
            ("1.5", stamp(1, 500_000_000)),
            ("1.0000000019", stamp(1, 1)),
            ("-1", stamp(-1, 0)),
            ("-1.25", stamp(-2, 750_000_000)),
            ("", None),
            (".5", None),
            ("1.x", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(time(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn refuses_malformed_records() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"6 a=bc\n",
            b"6 =bc\n",
            b"5 ab\n",
            b"-6 a=b\n",
            b"2 a=b\n",
            b"18446744073709551615 a=b\n",
        ] {
            assert_eq!(parse(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn records_read_back(records in proptest::collection::vec(
            ("[a-zA-Z.]{1,90}", proptest::collection::vec(any::<u8>(), 0..1100)), 0..5)) {
            let mut data = Vec::new();
            for (key, value) in &records {
                push(&mut data, key.as_bytes(), value);
            }
            let expected: Vec<_> = records.iter().map(|(k, v)| (k.as_bytes(), &v[..])).collect();
            prop_assert_eq!(parse(&data), Some(expected));
        }

        #[test]
        fn times_read_back(seconds in -10_000_000_000_i64..10_000_000_000, nanoseconds in 0..1_000_000_000_u32) {
            let stamp = Timestamp { seconds, nanoseconds };
            prop_assert_eq!(time(print_time(stamp).as_bytes()), Some(stamp));
        }

        #[test]
        fn never_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&data);
            let _ = time(&data);
        }
    }
}

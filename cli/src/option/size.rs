//! Amounts of memory: `512m`, `1.5g`, `64KiB`.

/// Bytes of a text with Docker's units, all of them powers of 1024.
pub(crate) fn bytes(text: &str) -> Result<i64, String> {
    parse(text).ok_or_else(|| format!("invalid size: '{text}'"))
}

/// The same, or `-1` for no limit.
pub(crate) fn bytes_or_unlimited(text: &str) -> Result<i64, String> {
    if text == "-1" { Ok(-1) } else { bytes(text) }
}

fn parse(text: &str) -> Option<i64> {
    let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.')? + 1;
    let (number, suffix) = text.split_at(end);
    // one blank may stand between number and unit
    let number = number.strip_suffix(' ').unwrap_or(number);
    let suffix = suffix.strip_prefix(' ').unwrap_or(suffix);
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let number: f64 = number.parse().ok()?;
    let bytes = number * f64::from(factor(&suffix.to_ascii_lowercase())?).exp2();
    // Go cuts towards zero as well
    #[allow(clippy::cast_possible_truncation)]
    (bytes.is_finite() && bytes < i64::MAX as f64).then_some(bytes as i64)
}

/// The unit as a power of two.
fn factor(suffix: &str) -> Option<u8> {
    if suffix.is_empty() || suffix == "b" {
        return Some(0);
    }
    let power = b"kmgtp"
        .iter()
        .position(|&unit| suffix.as_bytes()[0] == unit)?;
    matches!(&suffix[1..], "" | "b" | "ib").then_some(10 * (u8::try_from(power).ok()? + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024() {
        let cases: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("32", Some(32)),
            ("32b", Some(32)),
            ("32B", Some(32)),
            ("32k", Some(32 * 1024)),
            ("32Kb", Some(32 * 1024)),
            ("32KiB", Some(32 * 1024)),
            ("32 MB", Some(32 << 20)),
            ("1.5g", Some(1_610_612_736)),
            (".3kB", Some(307)),
            ("2t", Some(2 << 40)),
            ("1p", Some(1 << 50)),
            ("", None),
            ("hello", None),
            ("-32", None),
            (" 32", None),
            ("32m b", None),
            ("32bm", None),
            ("32i", None),
            ("999999p", None),
        ];
        for (text, want) in cases {
            assert_eq!(bytes(text).ok(), *want, "{text}");
        }
        assert_eq!(bytes("foo").unwrap_err(), "invalid size: 'foo'");
        assert_eq!(bytes_or_unlimited("-1"), Ok(-1));
        assert!(bytes("-1").is_err());
    }
}

//! Numbers as Go reads them.

/// A whole number; `0x`, `0o` and `0b` are understood.
pub(crate) fn integer(text: &str) -> Result<i64, String> {
    whole(text)
        .ok_or_else(|| syntax("ParseInt", text))
        .and_then(|number| i64::try_from(number).map_err(|_| range("ParseInt", text)))
}

/// A whole number that is not negative.
pub(crate) fn unsigned(text: &str) -> Result<u64, String> {
    match whole(text) {
        Some(number) if number >= 0 && !text.starts_with('+') => {
            u64::try_from(number).map_err(|_| range("ParseUint", text))
        }
        _ => Err(syntax("ParseUint", text)),
    }
}

/// A whole number from 0 to 65535.
pub(crate) fn unsigned16(text: &str) -> Result<u16, String> {
    unsigned(text).and_then(|number| u16::try_from(number).map_err(|_| range("ParseUint", text)))
}

/// `--cpus`: a decimal or a fraction, as billionths.
pub(crate) fn nano_cpus(text: &str) -> Result<i64, String> {
    let bad = || format!("failed to parse {text} as a rational number");
    let value = match text.split_once('/') {
        Some((above, below)) => {
            let above: i64 = above.parse().map_err(|_| bad())?;
            let below: i64 = below.parse().map_err(|_| bad())?;
            if below == 0 {
                return Err(bad());
            }
            let nano = i128::from(above) * 1_000_000_000;
            if nano % i128::from(below) != 0 {
                return Err("value is too precise".to_owned());
            }
            nano / i128::from(below)
        }
        None => decimal(text).ok_or_else(bad)??,
    };
    i64::try_from(value).map_err(|_| bad())
}

/// `1.5` as billionths; `None` is no number, `Some(Err)` one with too many digits.
fn decimal(text: &str) -> Option<Result<i128, String>> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + part.len() == 0 || !all_digits(whole) || !all_digits(part) || whole.len() > 9 {
        return None;
    }
    let part = part.trim_end_matches('0');
    if part.len() > 9 {
        return Some(Err("value is too precise".to_owned()));
    }
    let billionths: i128 = format!("{whole}{part:0<9}").parse().ok()?;
    Some(Ok(if negative { -billionths } else { billionths }))
}

fn whole(text: &str) -> Option<i128> {
    let (sign, digits) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i128::from_str_radix(digits, radix)
        .ok()
        .map(|number| sign * number)
}

fn syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: invalid syntax")
}

fn range(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {text:?}: value out of range")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_go_reads_them() {
        let cases: &[(&str, Result<i64, &str>)] = &[
            ("0", Ok(0)),
            ("-1", Ok(-1)),
            ("+7", Ok(7)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("x", Err("strconv.ParseInt: parsing \"x\": invalid syntax")),
            ("", Err("strconv.ParseInt: parsing \"\": invalid syntax")),
            (
                "1.5",
                Err("strconv.ParseInt: parsing \"1.5\": invalid syntax"),
            ),
            (
                "--1",
                Err("strconv.ParseInt: parsing \"--1\": invalid syntax"),
            ),
            (
                "9223372036854775808",
                Err("strconv.ParseInt: parsing \"9223372036854775808\": value out of range"),
            ),
        ];
        for (text, want) in cases {
            assert_eq!(integer(text), want.map_err(str::to_owned), "{text}");
        }
        assert!(unsigned16("65536").is_err());
        assert!(unsigned("-1").is_err());
    }

    #[test]
    fn processors_are_counted_in_billionths() {
        let cases: &[(&str, Option<i64>)] = &[
            ("1.5", Some(1_500_000_000)),
            (".5", Some(500_000_000)),
            ("2", Some(2_000_000_000)),
            ("3/4", Some(750_000_000)),
            ("1/3", None),
            ("0.0000000001", None),
            ("abc", None),
            ("", None),
            (".", None),
        ];
        for (text, want) in cases {
            assert_eq!(nano_cpus(text).ok(), *want, "{text}");
        }
        assert_eq!(
            nano_cpus("abc").unwrap_err(),
            "failed to parse abc as a rational number"
        );
        assert_eq!(nano_cpus("1/3").unwrap_err(), "value is too precise");
    }
}

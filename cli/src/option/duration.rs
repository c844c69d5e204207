//! Durations as Go writes them: `1h30m`, `250ms`.

/// Nanoseconds of a Go duration.
pub(crate) fn nanoseconds(text: &str) -> Result<i64, String> {
    parse(text)
}

fn parse(text: &str) -> Result<i64, String> {
    let bad = || format!("time: invalid duration {text:?}");
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut sum = 0_f64;
    let mut exact = 0_i64;
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let value: f64 = number.parse().map_err(|_| bad())?;
        if after.is_empty() {
            return Err(format!("time: missing unit in duration {text:?}"));
        }
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let scale = scale(unit)
            .ok_or_else(|| format!("time: unknown unit {unit:?} in duration {text:?}"))?;
        match number
            .parse::<i64>()
            .ok()
            .and_then(|whole| whole.checked_mul(scale))
        {
            Some(whole) => exact = exact.checked_add(whole).ok_or_else(bad)?,
            None => sum += value * scale as f64,
        }
        rest = after;
    }
    if sum >= i64::MAX as f64 {
        return Err(bad());
    }
    #[allow(clippy::cast_possible_truncation)]
    let total = exact.checked_add(sum.round() as i64).ok_or_else(bad)?;
    Ok(if negative { -total } else { total })
}

fn scale(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read() {
        let cases: &[(&str, Result<i64, &str>)] = &[
            ("0", Ok(0)),
            ("5s", Ok(5_000_000_000)),
            ("1h30m", Ok(5_400_000_000_000)),
            ("1.5s", Ok(1_500_000_000)),
            ("250ms", Ok(250_000_000)),
            ("-1s", Ok(-1_000_000_000)),
            ("x", Err("time: invalid duration \"x\"")),
            ("", Err("time: invalid duration \"\"")),
            ("5", Err("time: missing unit in duration \"5\"")),
            ("5d", Err("time: unknown unit \"d\" in duration \"5d\"")),
        ];
        for (text, want) in cases {
            assert_eq!(nanoseconds(text), want.map_err(str::to_owned), "{text}");
        }
    }
}

//! Amounts for people: `1.98MB`, `64MiB`.

const DECIMAL: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// Units of 1000, `precision` digits that count.
pub(crate) fn human(bytes: u64, precision: usize) -> String {
    scaled(bytes, 1000.0, &DECIMAL, precision)
}

/// Units of 1024, four digits that count.
pub(crate) fn binary(bytes: u64) -> String {
    scaled(bytes, 1024.0, &BINARY, 4)
}

fn scaled(bytes: u64, base: f64, units: &[&str], precision: usize) -> String {
    // sizes beyond 2^53 lose digits that are never shown
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= base && unit + 1 < units.len() {
        value /= base;
        unit += 1;
    }
    format!("{}{}", general(value, precision), units[unit])
}

/// C's `%.{precision}g`.
fn general(value: f64, precision: usize) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let scientific = format!("{value:.*e}", precision.saturating_sub(1));
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| -> String {
        if text.contains('.') {
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        } else {
            text.to_owned()
        }
    };
    match usize::try_from(exponent) {
        Ok(before) if before < precision => trim(&format!("{value:.*}", precision - 1 - before)),
        Err(_) if exponent >= -4 => {
            let decimals = precision - 1 + exponent.unsigned_abs() as usize;
            trim(&format!("{value:.decimals$}"))
        }
        _ => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_as_docker_prints_them() {
        let cases: &[(u64, &str, &str)] = &[
            (0, "0B", "0B"),
            (1, "1B", "1B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1kB"),
            (1024, "1.02kB", "1.024kB"),
            (1_980_000, "1.98MB", "1.98MB"),
            (2_048, "2.05kB", "2.048kB"),
            (141_700_000, "142MB", "141.7MB"),
            (1_000_000_000, "1GB", "1GB"),
            (999_999, "1e+03kB", "1000kB"),
        ];
        for (bytes, three, four) in cases {
            assert_eq!(human(*bytes, 3), *three, "{bytes}");
            assert_eq!(human(*bytes, 4), *four, "{bytes}");
        }
        assert_eq!(binary(64 << 20), "64MiB");
        assert_eq!(binary(1536), "1.5KiB");
    }
}

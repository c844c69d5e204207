//! Weights and rates of block devices: `/dev/sda:300`, `/dev/sda:1mb`.

use engine::config::{ThrottleDevice, WeightDevice};

use super::size;

/// A value of `--blkio-weight-device`.
pub(crate) fn weight(text: &str) -> Result<WeightDevice, String> {
    let (path, weight) = split(text)?;
    let bad = || format!("invalid weight for device: {text}");
    let weight: u16 = weight.parse().map_err(|_| bad())?;
    if weight > 0 && !(10..=1000).contains(&weight) {
        return Err(bad());
    }
    Ok(WeightDevice { path, weight })
}

/// A value of `--device-read-bps` or `--device-write-bps`.
pub(crate) fn bytes(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = split(text)?;
    let rate = size::bytes(rate).ok().and_then(|rate| rate.try_into().ok());
    let rate = rate.ok_or_else(|| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. \
             Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )
    })?;
    Ok(ThrottleDevice { path, rate })
}

/// A value of `--device-read-iops` or `--device-write-iops`.
pub(crate) fn operations(text: &str) -> Result<ThrottleDevice, String> {
    let (path, rate) = split(text)?;
    let rate = rate.parse().map_err(|_| {
        format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number \
             must be a positive integer"
        )
    })?;
    Ok(ThrottleDevice { path, rate })
}

fn split(text: &str) -> Result<(String, &str), String> {
    match text.split_once(':') {
        Some((path, value)) if !path.is_empty() => {
            if path.starts_with("/dev/") {
                Ok((path.to_owned(), value))
            } else {
                Err(format!("bad format for device path: {text}"))
            }
        }
        _ => Err(format!("bad format: {text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_weights() {
        assert_eq!(weight("/dev/sda:300").unwrap().weight, 300);
        assert_eq!(weight("/dev/sda:0").unwrap().weight, 0);
        assert_eq!(bytes("/dev/sda:1mb").unwrap().rate, 1 << 20);
        let iops = operations("/dev/sda:100").unwrap();
        assert_eq!((iops.path.as_str(), iops.rate), ("/dev/sda", 100));
        for (refused, text) in [
            (weight("/dev/sda").unwrap_err(), "bad format: /dev/sda"),
            (weight(":1").unwrap_err(), "bad format: :1"),
            (
                weight("sda:10").unwrap_err(),
                "bad format for device path: sda:10",
            ),
            (
                weight("/dev/sda:9").unwrap_err(),
                "invalid weight for device: /dev/sda:9",
            ),
        ] {
            assert_eq!(refused, text);
        }
        assert!(bytes("/dev/sda:-1").is_err());
        assert!(operations("/dev/sda:1k").is_err());
    }
}

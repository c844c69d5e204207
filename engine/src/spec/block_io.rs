//! Limits of block devices: weights and rates, the devices looked up by their paths.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use oci_spec::runtime::{
    LinuxBlockIo, LinuxThrottleDevice, LinuxThrottleDeviceBuilder, LinuxWeightDevice,
    LinuxWeightDeviceBuilder,
};

use super::devices::{major_of, minor_of};
use super::unbuilt;
use crate::config::{HostConfig, ThrottleDevice};
use crate::error::{Error, Result};

/// Looks up what the options limit; `None` where they limit nothing.
///
/// # Errors
/// For a path that is missing or no block device.
pub fn gather_block_io(host: &HostConfig) -> Result<Option<LinuxBlockIo>> {
    let mut io = LinuxBlockIo::default();
    io.set_weight(Some(host.blkio_weight).filter(|weight| *weight > 0));
    if !host.blkio_weight_device.is_empty() {
        let weights = host.blkio_weight_device.iter().map(|device| {
            let (major, minor) = number("blkio-weight-device", &device.path)?;
            LinuxWeightDeviceBuilder::default()
                .major(major)
                .minor(minor)
                .weight(device.weight)
                .build()
                .map_err(unbuilt)
        });
        io.set_weight_device(Some(weights.collect::<Result<Vec<LinuxWeightDevice>>>()?));
    }
    io.set_throttle_read_bps_device(rates("device-read-bps", &host.blkio_device_read_bps)?);
    io.set_throttle_write_bps_device(rates("device-write-bps", &host.blkio_device_write_bps)?);
    io.set_throttle_read_iops_device(rates("device-read-iops", &host.blkio_device_read_iops)?);
    io.set_throttle_write_iops_device(rates("device-write-iops", &host.blkio_device_write_iops)?);
    Ok((io != LinuxBlockIo::default()).then_some(io))
}

fn rates(flag: &str, devices: &[ThrottleDevice]) -> Result<Option<Vec<LinuxThrottleDevice>>> {
    if devices.is_empty() {
        return Ok(None);
    }
    let rates = devices.iter().map(|device| {
        let (major, minor) = number(flag, &device.path)?;
        LinuxThrottleDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .rate(device.rate)
            .build()
            .map_err(unbuilt)
    });
    rates.collect::<Result<_>>().map(Some)
}

/// Which device a path is.
fn number(flag: &str, path: &str) -> Result<(i64, i64)> {
    let refused = |why: &str| {
        Error::invalid(format!("cannot limit {path:?} with --{flag}: {why}"))
            .hint("name a whole disk, as 'lsblk -dp' lists them")
    };
    let metadata =
        fs::metadata(path).map_err(|error| refused(&sys::error::reason(&error).to_lowercase()))?;
    if !metadata.file_type().is_block_device() {
        return Err(refused("not a block device"));
    }
    let number = metadata.rdev();
    Ok((i64::from(major_of(number)), i64::from(minor_of(number))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_block_devices_have_rates() {
        assert_eq!(gather_block_io(&HostConfig::default()).unwrap(), None);
        let limited = |path: &str| HostConfig {
            blkio_device_write_iops: vec![ThrottleDevice {
                path: path.to_owned(),
                rate: 1,
            }],
            ..HostConfig::default()
        };
        for (path, why) in [
            ("/dev/nosuch", "no such file or directory"),
            ("/dev/null", "not a block device"),
        ] {
            assert_eq!(
                gather_block_io(&limited(path)).unwrap_err().to_string(),
                format!("cannot limit {path:?} with --device-write-iops: {why}")
            );
        }
    }
}

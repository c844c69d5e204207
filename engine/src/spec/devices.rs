//! Devices: which of the host's a container sees and may use.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    LinuxDevice, LinuxDeviceBuilder, LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType,
};

use super::unbuilt;
use crate::config::HostConfig;
use crate::error::{Error, Result};

/// A device of the host, looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// In the container.
    pub path: PathBuf,
    /// Block or character.
    pub block: bool,
    /// Which.
    pub major: i64,
    /// Which.
    pub minor: i64,
    /// Permissions of the node.
    pub mode: u32,
    /// Owner of the node.
    pub uid: u32,
    /// Group of the node.
    pub gid: u32,
    /// Of `r`, `w`, `m`.
    pub access: String,
}

impl Device {
    fn kind(&self) -> LinuxDeviceType {
        if self.block {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        }
    }
}

/// Looks up the devices of a container: `--device`, a directory standing for all in it; with
/// `--privileged` all of `/dev`.
///
/// # Errors
/// Docker's text for a device that is missing or none.
pub fn gather_devices(host: &HostConfig) -> Result<Vec<Device>> {
    let mut all = Vec::new();
    if host.privileged {
        // what cannot be read cannot be given either
        walk(Path::new("/dev"), Path::new("/dev"), "rwm", &mut all);
        return Ok(all);
    }
    for mapping in &host.devices {
        let source = Path::new(&mapping.path_on_host);
        let place = Path::new(match mapping.path_in_container.as_str() {
            "" => mapping.path_on_host.as_str(),
            path => path,
        });
        let access = match mapping.cgroup_permissions.as_str() {
            "" => "rwm",
            access => access,
        };
        let metadata = fs::metadata(source).map_err(|error| {
            let refused = missing(source, &sys::error::reason(&error).to_lowercase());
            match error.kind() {
                // as Docker's command line takes these words for a missing program
                std::io::ErrorKind::NotFound => refused.exit_code(127),
                _ => refused,
            }
        })?;
        let before = all.len();
        if metadata.is_dir() {
            walk(source, place, access, &mut all);
        } else {
            all.extend(device(&metadata, place, access));
        }
        if all.len() == before {
            return Err(missing(source, "not a device node"));
        }
    }
    Ok(all)
}

fn missing(path: &Path, reason: &str) -> Error {
    Error::invalid(format!(
        "error gathering device information while adding custom device {path:?}: {reason}"
    ))
}

fn device(metadata: &fs::Metadata, place: &Path, access: &str) -> Option<Device> {
    let kind = metadata.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return None;
    }
    let number = metadata.rdev();
    Some(Device {
        path: place.to_owned(),
        block: kind.is_block_device(),
        major: i64::from(major_of(number)),
        minor: i64::from(minor_of(number)),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        access: access.to_owned(),
    })
}

/// The upper part of a device number, as Linux packs it.
pub(super) fn major_of(number: u64) -> u32 {
    (((number >> 32) & 0xffff_f000) | ((number >> 8) & 0xfff)) as u32
}

/// The lower part of a device number, as Linux packs it.
pub(super) fn minor_of(number: u64) -> u32 {
    (((number >> 12) & 0xffff_ff00) | (number & 0xff)) as u32
}

/// All devices below a directory, without those every container has of its own.
fn walk(directory: &Path, place: &Path, access: &str, all: &mut Vec<Device>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let own = [
            "pts",
            "shm",
            "fd",
            "mqueue",
            ".lxc",
            ".lxd-mounts",
            ".udev",
            "console",
        ];
        if own.iter().any(|own| name == *own) {
            continue;
        }
        let path = entry.path();
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        let place = place.join(&name);
        if metadata.is_dir() {
            walk(&path, &place, access, all);
        } else {
            all.extend(device(&metadata, &place, access));
        }
    }
}

/// The nodes to make, beside those that every container has.
pub(super) fn nodes(devices: &[Device]) -> Result<Vec<LinuxDevice>> {
    devices
        .iter()
        .map(|device| {
            LinuxDeviceBuilder::default()
                .path(device.path.clone())
                .typ(device.kind())
                .major(device.major)
                .minor(device.minor)
                .file_mode(device.mode)
                .uid(device.uid)
                .gid(device.gid)
                .build()
                .map_err(unbuilt)
        })
        .collect()
}

/// Kind, major, minor and access of what every container may use.
const RULES: [(LinuxDeviceType, Option<i64>, Option<i64>, &str); 11] = [
    (LinuxDeviceType::C, None, None, "m"),
    (LinuxDeviceType::B, None, None, "m"),
    (LinuxDeviceType::C, Some(1), Some(3), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(5), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(7), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(8), "rwm"),
    (LinuxDeviceType::C, Some(1), Some(9), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(0), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(1), "rwm"),
    (LinuxDeviceType::C, Some(5), Some(2), "rwm"),
    (LinuxDeviceType::C, Some(136), None, "rwm"),
];

/// The rules of the device cgroup: deny all, then allow.
pub(super) fn rules(host: &HostConfig, devices: &[Device]) -> Result<Vec<LinuxDeviceCgroup>> {
    if host.privileged {
        return Ok(vec![rule(true, LinuxDeviceType::A, (None, None), "rwm")?]);
    }
    let mut all = vec![rule(false, LinuxDeviceType::A, (None, None), "rwm")?];
    for (kind, major, minor, access) in RULES {
        all.push(rule(true, kind, (major, minor), access)?);
    }
    for device in devices {
        let number = (Some(device.major), Some(device.minor));
        all.push(rule(true, device.kind(), number, &device.access)?);
    }
    for text in host.device_cgroup_rules.iter().flatten() {
        all.push(parse_rule(text)?);
    }
    Ok(all)
}

fn rule(
    allow: bool,
    kind: LinuxDeviceType,
    (major, minor): (Option<i64>, Option<i64>),
    access: &str,
) -> Result<LinuxDeviceCgroup> {
    let mut rule = LinuxDeviceCgroupBuilder::default()
        .allow(allow)
        .typ(kind)
        .access(access)
        .build()
        .map_err(unbuilt)?;
    rule.set_major(major);
    rule.set_minor(minor);
    Ok(rule)
}

/// `--device-cgroup-rule`: `c 42:* rmw`.
fn parse_rule(text: &str) -> Result<LinuxDeviceCgroup> {
    let wrong = || Error::invalid(format!("invalid device cgroup rule format: '{text}'"));
    let parts: Vec<&str> = text.split(' ').collect();
    let [kind, number, access] = parts[..] else {
        return Err(wrong());
    };
    let kind = match kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(wrong()),
    };
    let part = |text: &str| match text {
        "*" => Ok(None),
        digits => digits.parse().map(Some).map_err(|_| wrong()),
    };
    let (major, minor) = number.split_once(':').ok_or_else(wrong)?;
    let known = |letter| matches!(letter, 'r' | 'w' | 'm');
    if access.is_empty() || access.len() > 3 || !access.chars().all(known) {
        return Err(wrong());
    }
    rule(true, kind, (part(major)?, part(minor)?), access)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceMapping;

    fn host(path: &str) -> HostConfig {
        HostConfig {
            devices: vec![DeviceMapping {
                path_on_host: path.to_owned(),
                ..DeviceMapping::default()
            }],
            ..HostConfig::default()
        }
    }

    #[test]
    fn a_device_is_looked_up() {
        let devices = gather_devices(&host("/dev/null")).unwrap();
        assert_eq!(devices.len(), 1);
        let null = &devices[0];
        assert_eq!((null.block, null.major, null.minor), (false, 1, 3));
        assert_eq!(
            (null.path.as_path(), &*null.access),
            (Path::new("/dev/null"), "rwm")
        );
    }

    #[test]
    fn what_is_missing_or_no_device_is_refused() {
        for (path, text) in [
            ("/dev/nosuch", "\"/dev/nosuch\": no such file or directory"),
            (
                "/proc/self/status",
                "\"/proc/self/status\": not a device node",
            ),
        ] {
            assert_eq!(
                gather_devices(&host(path)).unwrap_err().to_string(),
                format!("error gathering device information while adding custom device {text}")
            );
        }
    }

    #[test]
    fn rules_of_the_user() {
        let rule = parse_rule("c 42:* rmw").unwrap();
        assert_eq!((rule.major(), rule.minor()), (Some(42), None));
        for text in ["", "c 42 r", "x 1:1 r", "c 1:1 x", "c a:1 r", "c 1:1  r"] {
            assert_eq!(
                parse_rule(text).unwrap_err().to_string(),
                format!("invalid device cgroup rule format: '{text}'")
            );
        }
    }

    #[test]
    fn large_device_numbers_are_taken_apart() {
        // 0xfff:0xfffff is packed as the kernel packs it for user space
        let number = (0xfff_u64 << 8) | 0xff | (0xfff00_u64 << 12);
        assert_eq!((major_of(number), minor_of(number)), (0xfff, 0xfffff));
    }
}

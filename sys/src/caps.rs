//! Capability sets: read, drop, raise.

// Capability prctls take numbers that rustix checks against a list older than the kernel's.
#![allow(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use crate::error::{Result, SysResultExt};
use crate::process::checked;

/// Names in the order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// One capability, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cap(u8);

/// The text names no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability: \"CAP_{0}\"")]
pub struct UnknownCap(String);

impl FromStr for Cap {
    type Err = UnknownCap;

    /// With or without `CAP_`, in any case.
    fn from_str(text: &str) -> std::result::Result<Self, UnknownCap> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        NAMES
            .iter()
            .zip(0u8..)
            .find(|(known, _)| **known == name)
            .map(|(_, number)| Cap(number))
            .ok_or_else(|| UnknownCap(name.to_owned()))
    }
}

impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => write!(f, "CAP_{name}"),
            None => write!(f, "CAP_{}", self.0),
        }
    }
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapSet(pub u64);

impl CapSet {
    /// None.
    pub const EMPTY: Self = Self(0);

    /// Every capability this program knows by name.
    pub fn all() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// Those in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Those in this set only.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether it holds this one.
    pub fn contains(self, cap: Cap) -> bool {
        self.0 >> cap.0 & 1 == 1
    }

    /// Adds one.
    pub fn insert(&mut self, cap: Cap) {
        self.0 |= 1 << cap.0;
    }

    /// In the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Cap> {
        (0..64).map(Cap).filter(move |cap| self.contains(*cap))
    }
}

impl FromIterator<Cap> for CapSet {
    fn from_iter<I: IntoIterator<Item = Cap>>(caps: I) -> Self {
        let mut set = Self::EMPTY;
        for cap in caps {
            set.insert(cap);
        }
        set
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, cap) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{cap}")?;
        }
        Ok(())
    }
}

/// The permitted capabilities of this process.
///
/// # Errors
/// None in practice.
pub fn permitted() -> Result<CapSet> {
    rustix::thread::capabilities(None)
        .map(|sets| CapSet(sets.permitted.bits()))
        .call(|| "capget()")
}

/// The ceiling of this process and of all it executes.
pub fn bounding() -> CapSet {
    let mut set = CapSet::EMPTY;
    for number in 0..64 {
        match read_bounding(number) {
            1 => set.insert(Cap(number)),
            0 => {}
            // The first number the kernel does not know is the end of its list.
            _ => break,
        }
    }
    set
}

fn read_bounding(number: u8) -> i32 {
    // SAFETY: the option takes a number; an unknown one is answered with -1.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, u64::from(number), 0, 0, 0) }
}

/// Lowers the ceiling to `keep`.
///
/// # Errors
/// `EPERM` without `CAP_SETPCAP`.
pub fn limit_bounding(keep: CapSet) -> Result<()> {
    for number in 0..64 {
        let cap = Cap(number);
        if keep.contains(cap) {
            continue;
        }
        // SAFETY: the option takes a number.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0, 0, 0) };
        match checked(answer.into(), || format!("prctl(PR_CAPBSET_DROP, {cap})")) {
            // The first number the kernel does not know is the end of its list.
            Err(error) if error.errno() == libc::EINVAL => break,
            other => other?,
        };
    }
    Ok(())
}

/// Sets the three sets of this process.
///
/// # Errors
/// `EPERM` for one that is not permitted now.
pub fn set(effective: CapSet, permitted: CapSet, inheritable: CapSet) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(effective.0),
        permitted: CapabilitySet::from_bits_retain(permitted.0),
        inheritable: CapabilitySet::from_bits_retain(inheritable.0),
    };
    rustix::thread::set_capabilities(None, sets).call(|| {
        format!(
            "capset({{{:#x}, {:#x}, {:#x}}})",
            effective.0, permitted.0, inheritable.0
        )
    })
}

/// Replaces the ambient set: those that a program executed by a plain user keeps.
///
/// # Errors
/// `EPERM` for one that is not both permitted and inheritable.
pub fn set_ambient(set: CapSet) -> Result<()> {
    // SAFETY: the option takes numbers.
    let answer = unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL,
            0,
            0,
            0,
        )
    };
    checked(answer.into(), || {
        "prctl(PR_CAP_AMBIENT_CLEAR_ALL)".to_owned()
    })?;
    for cap in set.iter() {
        let number = u64::from(cap.0);
        // SAFETY: the option takes numbers.
        let answer = unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_RAISE,
                number,
                0,
                0,
            )
        };
        checked(answer.into(), || {
            format!("prctl(PR_CAP_AMBIENT_RAISE, {cap})")
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        for (text, printed) in [
            ("chown", "CAP_CHOWN"),
            ("CAP_NET_ADMIN", "CAP_NET_ADMIN"),
            ("cap_bpf", "CAP_BPF"),
        ] {
            assert_eq!(text.parse::<Cap>().unwrap().to_string(), printed);
        }
        let error = "foo".parse::<Cap>().unwrap_err();
        assert_eq!(error.to_string(), "unknown capability: \"CAP_FOO\"");
    }

    #[test]
    fn the_default_list_has_the_known_mask() {
        let names = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP \
                     NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE";
        let set: CapSet = names
            .split_whitespace()
            .map(|name| name.parse().unwrap())
            .collect();
        assert_eq!(set.0, 0xa804_25fb);
        assert!(set.to_string().starts_with("CAP_CHOWN,CAP_DAC_OVERRIDE,"));
    }

    #[test]
    fn what_is_permitted_is_bounded() {
        let permitted = permitted().unwrap();
        assert_eq!(permitted.without(bounding()), CapSet::EMPTY);
    }
}

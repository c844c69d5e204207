//! Owner, permissions and times of open files.

use std::fmt::Display;
use std::os::fd::AsFd;

use rustix::fs::{self as rfs, Mode, Timestamps};

use super::Timestamp;
use crate::error::{Result, SysResultExt};

/// Changes the owner of an open file; `what` names it in messages. Clears setuid, setgid and
/// capabilities, so it comes before them.
///
/// # Errors
/// Those of fchown.
pub fn set_owner_of(file: impl AsFd, uid: u32, gid: u32, what: impl Display) -> Result<()> {
    let (user, group) = (rfs::Uid::from_raw(uid), rfs::Gid::from_raw(gid));
    rfs::fchown(file, Some(user), Some(group)).call(|| format!("fchown({what}, {uid}, {gid})"))
}

/// Changes the permissions of an open file; `what` names it in messages.
///
/// # Errors
/// Those of fchmod.
pub fn set_mode_of(file: impl AsFd, mode: u32, what: impl Display) -> Result<()> {
    rfs::fchmod(file, Mode::from_raw_mode(mode)).call(|| format!("fchmod({what}, {mode:#o})"))
}

/// Sets when an open file was read and written; `what` names it in messages.
///
/// # Errors
/// Those of utimensat.
pub fn set_times_of(
    file: impl AsFd,
    atime: Timestamp,
    mtime: Timestamp,
    what: impl Display,
) -> Result<()> {
    let times = Timestamps {
        last_access: atime.into(),
        last_modification: mtime.into(),
    };
    rfs::futimens(file, &times).call(|| format!("utimensat({what})"))
}

//! Users and groups: credentials, supplementary groups.
//!
//! The calls act on the calling thread alone: they are for a process with one thread.

use rustix::process::{Gid, Uid};

use crate::error::{Result, SysResultExt};

/// Sets the supplementary groups.
///
/// # Errors
/// `EPERM` without `CAP_SETGID`, `EINVAL` for more than 65536.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    let ids: Vec<Gid> = groups.iter().map(|group| Gid::from_raw(*group)).collect();
    rustix::thread::set_thread_groups(&ids).call(|| format!("setgroups({groups:?})"))
}

/// Sets the real, effective and saved group.
///
/// # Errors
/// `EPERM` without `CAP_SETGID`, `EINVAL` for an id the user namespace does not map.
pub fn set_group(group: u32) -> Result<()> {
    let id = Gid::from_raw(group);
    rustix::thread::set_thread_res_gid(id, id, id)
        .call(|| format!("setresgid({group}, {group}, {group})"))
}

/// Sets the real, effective and saved user.
///
/// # Errors
/// `EPERM` without `CAP_SETUID`, `EINVAL` for an id the user namespace does not map.
pub fn set_user(user: u32) -> Result<()> {
    let id = Uid::from_raw(user);
    rustix::thread::set_thread_res_uid(id, id, id)
        .call(|| format!("setresuid({user}, {user}, {user})"))
}

/// The effective user.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

//! What restricts the process in the end, the same for a container and for an exec in it.

use oci_spec::runtime::{LinuxCapabilities, PosixRlimitType, Process};
use sys::caps::CapSet;
use sys::process::Limit;

use super::PlanError;
use crate::facts::Facts;
use crate::mounts;
use crate::request::UserRequest;
use crate::seccomp::Filter;
use crate::steps::{Capabilities, ChildStep, NamedLimit};

/// What the process itself does not say.
pub(super) struct Cage<'a> {
    pub(super) user: Option<&'a UserRequest>,
    pub(super) filter: Option<&'a Filter>,
    pub(super) make_directory: bool,
    pub(super) facts: &'a Facts,
}

/// What restricts the process in the end, the same for init and exec.
pub(super) fn cage(
    child: &mut Vec<ChildStep>,
    process: &Process,
    cage: &Cage<'_>,
) -> Result<(), PlanError> {
    let limits = rlimits(process);
    if !limits.is_empty() {
        child.push(ChildStep::Limits(limits));
    }
    let user = process.user();
    child.push(ChildStep::User(
        cage.user.cloned(),
        (
            user.uid(),
            user.gid(),
            user.additional_gids().clone().unwrap_or_default(),
        ),
        user.umask().unwrap_or(0o022),
    ));
    child.push(ChildStep::Session(process.terminal() == Some(true)));
    child.push(ChildStep::WorkingDirectory(
        mounts::clean(process.cwd()),
        cage.make_directory,
    ));
    child.push(ChildStep::Program);
    let capabilities = capabilities(process.capabilities().as_ref())?;
    let beyond = capabilities.bounding.without(cage.facts.capabilities);
    if beyond != CapSet::EMPTY {
        return Err(PlanError::Capabilities(beyond));
    }
    let filter = cage
        .filter
        .map(|filter| ChildStep::Seccomp(filter.program(), filter.flags()));
    let credentials = ChildStep::Credentials(capabilities);
    if process.no_new_privileges() == Some(true) {
        child.push(ChildStep::NoNewPrivileges);
        child.push(credentials);
        child.extend(filter);
    } else {
        // Loading a filter needs a privilege that the credentials take away.
        child.extend(filter);
        child.push(credentials);
    }
    Ok(())
}

fn capabilities(caps: Option<&LinuxCapabilities>) -> Result<Capabilities, PlanError> {
    let set = |list: Option<&oci_spec::runtime::Capabilities>| -> Result<CapSet, PlanError> {
        let mut set = CapSet::EMPTY;
        for cap in list.into_iter().flatten() {
            set.insert(cap.to_string().parse()?);
        }
        Ok(set)
    };
    let Some(caps) = caps else {
        return Ok(Capabilities::default());
    };
    Ok(Capabilities {
        bounding: set(caps.bounding().as_ref())?,
        effective: set(caps.effective().as_ref())?,
        permitted: set(caps.permitted().as_ref())?,
        inheritable: set(caps.inheritable().as_ref())?,
        ambient: set(caps.ambient().as_ref())?,
    })
}

fn rlimits(process: &Process) -> Vec<NamedLimit> {
    let mut all = Vec::new();
    for limit in process.rlimits().iter().flatten() {
        let (name, number) = match limit.typ() {
            PosixRlimitType::RlimitCpu => ("cpu", 0),
            PosixRlimitType::RlimitFsize => ("fsize", 1),
            PosixRlimitType::RlimitData => ("data", 2),
            PosixRlimitType::RlimitStack => ("stack", 3),
            PosixRlimitType::RlimitCore => ("core", 4),
            PosixRlimitType::RlimitRss => ("rss", 5),
            PosixRlimitType::RlimitNproc => ("nproc", 6),
            PosixRlimitType::RlimitNofile => ("nofile", 7),
            PosixRlimitType::RlimitMemlock => ("memlock", 8),
            PosixRlimitType::RlimitAs => ("as", 9),
            PosixRlimitType::RlimitLocks => ("locks", 10),
            PosixRlimitType::RlimitSigpending => ("sigpending", 11),
            PosixRlimitType::RlimitMsgqueue => ("msgqueue", 12),
            PosixRlimitType::RlimitNice => ("nice", 13),
            PosixRlimitType::RlimitRtprio => ("rtprio", 14),
            PosixRlimitType::RlimitRttime => ("rttime", 15),
        };
        all.push(NamedLimit {
            name: name.to_owned(),
            number,
            limit: Limit {
                soft: limit.soft(),
                hard: limit.hard(),
            },
        });
    }
    all
}

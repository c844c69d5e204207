//! Which capabilities a container gets: Docker's fourteen, more or fewer by option.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder};

use super::unbuilt;
use crate::config::HostConfig;
use crate::error::{Error, Result};

/// Docker's default set.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// All, by number.
const ALL: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// The sets of the container's first process: bounding, permitted and effective alike, inheritable
/// and ambient empty.
///
/// # Errors
/// `invalid CapAdd: unknown capability: "CAP_FOO"`.
pub fn capabilities(host: &HostConfig) -> Result<LinuxCapabilities> {
    let set = chosen(host)?;
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .permitted(set.clone())
        .effective(set)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .map_err(unbuilt)
}

/// What `--cap-add`, `--cap-drop` and `--privileged` come to.
fn chosen(host: &HostConfig) -> Result<HashSet<Capability>> {
    let add = list("CapAdd", &host.cap_add)?;
    let drop = list("CapDrop", &host.cap_drop)?;
    if host.privileged {
        return Ok(ALL.into());
    }
    let all_but = |drop: &List| {
        ALL.into_iter()
            .filter(|cap| !drop.named.contains(cap))
            .collect()
    };
    Ok(match (add.all, drop.all) {
        // in Docker's order: "all but" before "none but"
        (true, _) => all_but(&drop),
        (false, true) => add.named.into_iter().collect(),
        (false, false) => DEFAULT
            .into_iter()
            .chain(add.named)
            .filter(|cap| !drop.named.contains(cap))
            .collect(),
    })
}

#[derive(Default)]
struct List {
    all: bool,
    named: Vec<Capability>,
}

/// Reads names with or without `CAP_`, in any case, and `ALL`.
fn list(field: &str, names: &Option<Vec<String>>) -> Result<List> {
    let mut list = List::default();
    for name in names.iter().flatten() {
        let upper = name.to_ascii_uppercase();
        let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if upper == "ALL" {
            list.all = true;
            continue;
        }
        let cap = short.parse().map_err(|_| {
            Error::invalid(format!(
                "invalid {field}: unknown capability: \"CAP_{short}\""
            ))
        })?;
        list.named.push(cap);
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(add: &[&str], drop: &[&str], privileged: bool) -> HostConfig {
        let list = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        HostConfig {
            cap_add: list(add),
            cap_drop: list(drop),
            privileged,
            ..HostConfig::default()
        }
    }

    #[test]
    fn what_the_options_come_to() {
        let default: HashSet<_> = DEFAULT.into();
        let with = |cap| default.iter().copied().chain([cap]).collect::<HashSet<_>>();
        let without = |cap| {
            default
                .iter()
                .copied()
                .filter(|have| *have != cap)
                .collect()
        };
        for (add, drop, privileged, expected) in [
            (&[][..], &[][..], false, default.clone()),
            (&["net_admin"], &[], false, with(Capability::NetAdmin)),
            (&["CAP_SYS_PTRACE"], &[], false, with(Capability::SysPtrace)),
            (&[], &["Cap_Chown"], false, without(Capability::Chown)),
            (&["KILL"], &["all"], false, [Capability::Kill].into()),
            (&["ALL"], &[], false, ALL.into()),
            (&["SYS_TIME"], &["SYS_TIME"], false, default.clone()),
            (&[], &["ALL"], false, [].into()),
            (&[], &["ALL"], true, ALL.into()),
        ] {
            assert_eq!(
                chosen(&host(add, drop, privileged)).unwrap(),
                expected,
                "{add:?} {drop:?}"
            );
        }
        let most = chosen(&host(&["ALL"], &["MKNOD", "BPF"], false)).unwrap();
        assert_eq!(most.len(), 39);
    }

    #[test]
    fn the_default_mask_is_dockers() {
        let mask: u64 = ALL
            .iter()
            .enumerate()
            .filter(|(_, cap)| DEFAULT.contains(cap))
            .map(|(number, _)| 1 << number)
            .sum();
        assert_eq!(mask, 0xa804_25fb);
    }

    #[test]
    fn unknown_names_are_refused() {
        for (add, drop, text) in [
            (
                &["FOO"][..],
                &[][..],
                "invalid CapAdd: unknown capability: \"CAP_FOO\"",
            ),
            (
                &[],
                &["cap_foo"],
                "invalid CapDrop: unknown capability: \"CAP_FOO\"",
            ),
        ] {
            assert_eq!(
                chosen(&host(add, drop, false)).unwrap_err().to_string(),
                text
            );
        }
    }
}

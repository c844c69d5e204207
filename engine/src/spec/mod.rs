//! From a container's record to the OCI specification (pure), with Docker's defaults.
//!
//! The user is not in the specification: `runtime` resolves [`Config::user`] inside the container,
//! sets `HOME`, puts the tiny init in front for `--init` and cuts the capabilities to those the
//! caller has. The seccomp filter follows from [`Seccomp`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    BoxBuilder as SizeBuilder, Linux, LinuxBlockIo, LinuxBuilder, LinuxNamespace,
    LinuxNamespaceBuilder, LinuxNamespaceType, PosixRlimit, PosixRlimitBuilder, PosixRlimitType,
    Process, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};

use crate::config::{Config, HostConfig};
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::mount::MountPoint;

mod block_io;
mod capabilities;
mod devices;
mod environment;
mod mounts;
mod resources;
mod security;

pub use block_io::gather_block_io;
pub use capabilities::capabilities;
pub use devices::{Device, gather_devices};
pub use environment::environment;
pub(crate) use environment::key as variable_name;
pub(crate) use environment::merge as merge_environment;
pub(crate) use mounts::file_mounts;
pub(crate) use resources::resources;
pub use security::{Seccomp, Security};

/// The paths that are hidden where the user says nothing.
pub const MASKED_PATHS: [&str; 10] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// The paths that can only be read where the user says nothing.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Namespace {
    /// The container's own.
    #[default]
    New,
    /// The host's.
    Host,
    /// Another container's: `/proc/<pid>/ns/…`.
    Of(PathBuf),
}

/// The namespaces that a user may choose.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Namespaces {
    /// `--network`.
    pub network: Namespace,
    /// `--ipc`.
    pub ipc: Namespace,
    /// `--pid`.
    pub pid: Namespace,
    /// `--uts`.
    pub uts: Namespace,
}

/// The generated files that are mounted over the image's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Over `/etc/resolv.conf`.
    pub resolv_conf: PathBuf,
    /// Over `/etc/hostname`.
    pub hostname: PathBuf,
    /// Over `/etc/hosts`.
    pub hosts: PathBuf,
}

/// Everything that the specification is made from.
#[derive(Debug, Clone)]
pub struct SpecRequest<'a> {
    /// Whose.
    pub id: &'a ContainerId,
    /// What runs, merged with the image's config.
    pub config: &'a Config,
    /// How it meets the host, completed as `create` does.
    pub host: &'a HostConfig,
    /// What the user mounts, sources known.
    pub mounts: &'a [MountPoint],
    /// The generated files; `None` leaves the image's own.
    pub files: Option<&'a Files>,
    /// Variables of links.
    pub links: &'a [String],
    /// Which namespaces are whose.
    pub namespaces: &'a Namespaces,
    /// `/dev/shm` of the container whose ipc namespace is joined.
    pub shared_memory: Option<&'a Path>,
    /// `--device`, looked up; with `--privileged` all of the host.
    pub devices: &'a [Device],
    /// Limits of block devices, looked up.
    pub block_io: Option<&'a LinuxBlockIo>,
    /// The cgroup under which the container's is made, unless the host config names one.
    pub cgroup_parent: &'a str,
}

/// Makes the specification.
///
/// # Errors
/// [`crate::ErrorKind::InvalidParameter`] for options that name nothing (capabilities, limits).
pub fn specification(request: &SpecRequest<'_>) -> Result<Spec> {
    let host = request.host;
    let own_name = request.namespaces.uts == Namespace::New;
    let mut spec = SpecBuilder::default()
        .version("1.0.2")
        .root(
            RootBuilder::default()
                .path("rootfs")
                .readonly(host.readonly_rootfs)
                .build()
                .map_err(unbuilt)?,
        )
        .process(process(request)?)
        .mounts(mounts::mounts(request)?)
        .linux(linux(request)?)
        .build()
        .map_err(unbuilt)?;
    let annotations = host.annotations.clone().into_iter().collect();
    spec.set_annotations((!host.annotations.is_empty()).then_some(annotations));
    spec.set_hostname(own_name.then(|| request.config.hostname.clone()));
    let domain =
        Some(request.config.domainname.clone()).filter(|name| own_name && !name.is_empty());
    spec.set_domainname(domain);
    Ok(spec)
}

/// The builders of the specification's types fail only where a field is forgotten.
fn unbuilt(error: oci_spec::OciSpecError) -> Error {
    Error::system("cannot make the specification", error)
}

fn process(request: &SpecRequest<'_>) -> Result<Process> {
    let (config, host) = (request.config, request.host);
    let security = Security::read(host)?;
    let mut arguments = config.entrypoint.clone().unwrap_or_default();
    arguments.extend(config.cmd.clone().unwrap_or_default());
    let cwd = match config.working_dir.as_str() {
        "" => "/",
        dir => dir,
    };
    let mut process = ProcessBuilder::default()
        .terminal(config.tty)
        .args(arguments)
        .env(environment(config, request.links))
        .cwd(cwd)
        .capabilities(capabilities(host)?)
        .no_new_privileges(security.no_new_privileges)
        .build()
        .map_err(unbuilt)?;
    process.set_rlimits(Some(rlimits(host)?));
    // 0 is not written: lowering it to that needs a capability that the caller may lack
    let adjusted = Some(host.oom_score_adj).filter(|adjusted| *adjusted != 0);
    process.set_oom_score_adj(adjusted.and_then(|adjusted| adjusted.try_into().ok()));
    if config.tty && host.console_size != [0, 0] {
        let [height, width] = host.console_size;
        let size = SizeBuilder::default()
            .height(height)
            .width(width)
            .build()
            .map_err(unbuilt)?;
        process.set_console_size(Some(size));
    }
    Ok(process)
}

/// `--ulimit`; -1 is no limit.
fn rlimits(host: &HostConfig) -> Result<Vec<PosixRlimit>> {
    let number = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    host.ulimits
        .iter()
        .flatten()
        .map(|limit| {
            let kind: PosixRlimitType = format!("RLIMIT_{}", limit.name.to_ascii_uppercase())
                .parse()
                .map_err(|_| Error::invalid(format!("invalid ulimit type: {}", limit.name)))?;
            PosixRlimitBuilder::default()
                .typ(kind)
                .hard(number(limit.hard))
                .soft(number(limit.soft))
                .build()
                .map_err(unbuilt)
        })
        .collect()
}

fn linux(request: &SpecRequest<'_>) -> Result<Linux> {
    let host = request.host;
    let security = Security::read(host)?;
    let mut linux = LinuxBuilder::default()
        .namespaces(namespaces(request)?)
        .cgroups_path(cgroups_path(request))
        .resources(resources::resources(
            host,
            request.devices,
            request.block_io.cloned(),
        )?)
        .sysctl(sysctls(request))
        .build()
        .map_err(unbuilt)?;
    linux.set_devices(Some(devices::nodes(request.devices)?));
    linux.set_masked_paths(Some(paths(
        &host.masked_paths,
        &MASKED_PATHS,
        host,
        security,
    )));
    linux.set_readonly_paths(Some(paths(
        &host.readonly_paths,
        &READONLY_PATHS,
        host,
        security,
    )));
    linux.set_rootfs_propagation(mounts::root_propagation(request.mounts));
    Ok(linux)
}

/// What the user says, else Docker's list; nothing of it for the privileged.
fn paths(
    said: &Option<Vec<String>>,
    default: &[&str],
    host: &HostConfig,
    security: Security<'_>,
) -> Vec<String> {
    match said {
        Some(list) => list.clone(),
        None if host.privileged || security.open_system_paths => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    }
}

fn cgroups_path(request: &SpecRequest<'_>) -> PathBuf {
    let parent = match request.host.cgroup_parent.as_str() {
        "" => request.cgroup_parent,
        parent => parent,
    };
    Path::new(parent).join(request.id.as_str())
}

fn namespaces(request: &SpecRequest<'_>) -> Result<Vec<LinuxNamespace>> {
    let chosen = request.namespaces;
    let cgroup = match request.host.cgroupns_mode.as_str() {
        "private" => &Namespace::New,
        _ => &Namespace::Host,
    };
    let all = [
        (LinuxNamespaceType::Mount, &Namespace::New),
        (LinuxNamespaceType::Network, &chosen.network),
        (LinuxNamespaceType::Uts, &chosen.uts),
        (LinuxNamespaceType::Pid, &chosen.pid),
        (LinuxNamespaceType::Ipc, &chosen.ipc),
        (LinuxNamespaceType::Cgroup, cgroup),
    ];
    let mut list = Vec::new();
    for (kind, namespace) in all {
        let builder = LinuxNamespaceBuilder::default().typ(kind);
        let builder = match namespace {
            Namespace::Host => continue,
            Namespace::New => builder,
            Namespace::Of(path) => builder.path(path.clone()),
        };
        list.push(builder.build().map_err(unbuilt)?);
    }
    Ok(list)
}

/// Docker's two of a network namespace of one's own, then the user's.
fn sysctls(request: &SpecRequest<'_>) -> HashMap<String, String> {
    let mut all = HashMap::new();
    if request.namespaces.network == Namespace::New {
        all.insert(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
        all.insert(
            "net.ipv4.ping_group_range".to_owned(),
            "0 2147483647".to_owned(),
        );
    }
    all.extend(request.host.sysctls.clone());
    all
}

#[cfg(test)]
mod tests;

//! A container with Docker's defaults, for the example and the tests.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::collections::HashSet;
use std::error::Error;

use oci_spec::runtime::{
    Capabilities, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxDeviceCgroup,
    LinuxDeviceCgroupBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, LinuxResourcesBuilder,
    Mount, MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder,
};

/// The capabilities of an unprivileged container, without `CAP_`.
pub const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// Paths that are hidden.
pub const MASKED_PATHS: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

/// Paths that can only be read.
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

fn mount(target: &str, kind: &str, options: &[&str]) -> Mount {
    let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
    MountBuilder::default()
        .destination(target)
        .typ(kind)
        .source(kind)
        .options(options)
        .build()
        .expect("every field is given")
}

/// The kernel's views and /dev; `shm` is the size of /dev/shm, `writable` is for `--privileged`.
pub fn mounts(shm: i64, writable: bool) -> Vec<Mount> {
    let view = if writable { "rw" } else { "ro" };
    let shm = format!("size={shm}");
    vec![
        mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/sys", "sysfs", &["nosuid", "noexec", "nodev", view]),
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", view],
        ),
        mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        mount(
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", &shm],
        ),
    ]
}

/// The device rules: everything denied, or for `--privileged` everything allowed. The default
/// nodes and terminals are allowed by the planner.
pub fn device_rules(privileged: bool) -> Vec<LinuxDeviceCgroup> {
    vec![
        LinuxDeviceCgroupBuilder::default()
            .allow(privileged)
            .access("rwm")
            .build()
            .expect("every field is given"),
    ]
}

/// Runs these arguments as root, in namespaces of its own, beneath the caller's cgroup.
pub fn spec(id: &str, arguments: Vec<String>) -> Result<Spec, Box<dyn Error>> {
    let caps: Capabilities = CAPABILITIES
        .iter()
        .map(|name| name.parse())
        .collect::<Result<HashSet<_>, _>>()?;
    let caps = LinuxCapabilitiesBuilder::default()
        .bounding(caps.clone())
        .effective(caps.clone())
        .permitted(caps)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()?;
    let process = ProcessBuilder::default()
        .args(arguments)
        .env(vec!["PATH=/usr/sbin:/usr/bin:/sbin:/bin".to_owned()])
        .cwd("/")
        .capabilities(caps)
        .rlimits(Vec::new())
        .no_new_privileges(false)
        .build()?;
    let kinds = [
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Mount,
    ];
    let mut namespaces = Vec::new();
    for kind in kinds {
        namespaces.push(LinuxNamespaceBuilder::default().typ(kind).build()?);
    }
    let strings = |all: &[&str]| {
        all.iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>()
    };
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .resources(
            LinuxResourcesBuilder::default()
                .devices(device_rules(false))
                .build()?,
        )
        .cgroups_path(format!("rbox/{id}"))
        .masked_paths(strings(&MASKED_PATHS))
        .readonly_paths(strings(&READONLY_PATHS))
        .build()?;
    Ok(SpecBuilder::default()
        .process(process)
        .linux(linux)
        .root(RootBuilder::default().path("/").readonly(false).build()?)
        .hostname("start")
        .mounts(mounts(67_108_864, false))
        .build()?)
}

/// Runs the body in a host of its own: fresh mount, network, pid and ipc namespaces, in which this
/// same test is executed again.
///
/// # Panics
/// When the body fails, or when the caller is not root: a test that was asked for never passes
/// without having run.
pub fn in_lab(name: &str, body: impl FnOnce()) {
    if std::env::var_os("RBOX_RUNTIME_LAB").is_some() {
        body();
        return;
    }
    assert_eq!(
        sys::ids::effective_user(),
        0,
        "{name} was asked for and needs root"
    );
    let status = std::process::Command::new("unshare")
        .args(["-m", "-n", "-p", "-i", "-u", "-f", "--mount-proc"])
        .args(["--propagation", "private", "--kill-child"])
        .arg(std::env::current_exe().unwrap())
        .args([
            name,
            "--exact",
            "--include-ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("RBOX_RUNTIME_LAB", "1")
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in its lab");
}

//! The host's steps, the namespaces, the mounts and everything else that the program sees.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceType, LinuxNamespaceType, Process};
use sys::mount::Propagation;
use sys::namespace::Kind;

use super::PlanError;
use crate::cgroup::Cgroup;
use crate::cgroup::devices::{self, Rule};
use crate::cgroup::limits::{self, LimitError};
use crate::facts::Facts;
use crate::host::HostStep;
use crate::mounts::{self, MountKind, RootPropagation};
use crate::request::Request;
use crate::steps::{ChildStep, DeviceNode};

/// Collects the steps of one container.
pub(super) struct Builder<'a> {
    pub(super) request: &'a Request,
    pub(super) process: &'a Process,
    pub(super) linux: &'a Linux,
    pub(super) facts: &'a Facts,
    pub(super) cgroup: Option<Cgroup>,
    pub(super) child: Vec<ChildStep>,
}

impl Builder<'_> {
    /// Steps before the clone, and those beside the child.
    pub(super) fn host(&self) -> Result<(Vec<HostStep>, Vec<HostStep>), PlanError> {
        let resources = self.linux.resources().as_ref();
        let Some(cgroup) = &self.cgroup else {
            let limited = resources.is_some_and(|all| !limits::controllers(all).is_empty());
            return if limited {
                Err(PlanError::Missing("linux.cgroupsPath, which limits need"))
            } else {
                Ok((Vec::new(), Vec::new()))
            };
        };
        let mut enable = Vec::new();
        if self.facts.cgroups.is_pure_v2()
            && let Some(resources) = resources
        {
            let names = limits::controllers(resources).into_iter();
            enable.extend(names.map(|name| if name == "blkio" { "io" } else { name }.to_owned()));
        }
        let host = vec![HostStep::Cgroup {
            cgroup: cgroup.clone(),
            enable,
        }];
        let mut beside = Vec::new();
        if let Some(resources) = resources {
            let writes = limits::writes(resources, cgroup)?;
            if !writes.is_empty() {
                beside.push(HostStep::Limits { writes });
            }
        }
        beside.extend(self.device_rules(cgroup)?);
        Ok((host, beside))
    }

    fn device_rules(&self, cgroup: &Cgroup) -> Result<Option<HostStep>, PlanError> {
        let resources = self.linux.resources().as_ref();
        let Some(list) = resources.and_then(|all| all.devices().as_ref()) else {
            return Ok(None);
        };
        let mut rules: Vec<Rule> = list.iter().filter_map(Rule::from_spec).collect();
        // The first rule of nearly every list denies all; with "allow all" at the end nothing is
        // left to judge.
        if rules
            .last()
            .is_none_or(|rule| rule.allow && rule.is_everything())
        {
            return Ok(None);
        }
        rules.extend(devices::always());
        match (&cgroup.unified, cgroup.v1_of("devices")) {
            (_, Some(directory)) => Ok(Some(HostStep::DevicesV1 {
                writes: devices::v1_writes(&rules, directory),
            })),
            (Some(group), None) => Ok(Some(HostStep::DevicesV2 {
                directory: group.path.clone(),
                rules,
            })),
            (None, None) => Err(LimitError::NoController {
                what: "devices",
                controller: "devices",
            }
            .into()),
        }
    }

    /// Which namespaces the clone makes, and a pid namespace to join; the rest become steps.
    pub(super) fn namespaces(&mut self) -> (Vec<Kind>, Option<PathBuf>) {
        let mut new = vec![Kind::Mount];
        let mut pid = None;
        let mut cgroup = false;
        if let Some(cgroup) = self.cgroup.as_ref().filter(|cgroup| !cgroup.v1.is_empty()) {
            let all = cgroup.v1.iter().map(|group| group.path.clone());
            self.child.push(ChildStep::CgroupJoin(all.collect()));
        }
        for namespace in self.linux.namespaces().iter().flatten() {
            let kind = kind(namespace.typ());
            let path = namespace
                .path()
                .clone()
                .filter(|path| !path.as_os_str().is_empty());
            match (kind, path) {
                (Kind::Mount, _) => {}
                (Kind::Pid, Some(path)) => pid = Some(path),
                (kind, Some(path)) => self.child.push(ChildStep::NamespaceJoin(kind, path)),
                (Kind::Cgroup, None) => cgroup = true,
                (kind, None) => new.push(kind),
            }
        }
        if cgroup {
            self.child.push(ChildStep::CgroupNamespace);
        }
        (new, pid)
    }

    fn is_new(&self, wanted: LinuxNamespaceType) -> bool {
        let all = self.linux.namespaces().iter().flatten();
        all.filter(|namespace| namespace.typ() == wanted)
            .any(|namespace| namespace.path().is_none())
    }

    /// The mounts, with what has to follow the one at /dev right behind it.
    pub(super) fn root(&mut self) -> Result<(), PlanError> {
        let mut sources = Vec::new();
        let cgroup = self.cgroup_mount();
        let mut list = Vec::new();
        for mount in self.request.spec.mounts().iter().flatten() {
            let mount = mounts::read(mount, &mut sources, &cgroup)?;
            let shows_nothing = matches!(
                &mount.kind,
                MountKind::Cgroup { unified: None, v1 } if v1.is_empty()
            );
            if !shows_nothing {
                list.push(mount);
            }
        }
        if !sources.is_empty() {
            self.child.push(ChildStep::BindSources(sources));
        }
        self.child.push(ChildStep::MountsPrivate);
        self.child.push(ChildStep::Root(self.request.root.clone()));
        let mut devices = Some(self.devices());
        for mount in list {
            let is_dev = mount.target == Path::new("/dev");
            let is_new = matches!(mount.kind, MountKind::New { .. });
            self.child.push(ChildStep::Mount(mount));
            if is_dev && let Some(nodes) = devices.take() {
                if is_new {
                    self.child.push(ChildStep::Devices(nodes, true));
                } else {
                    devices = None;
                }
            }
        }
        if let Some(nodes) = devices.filter(|nodes| !nodes.is_empty()) {
            self.child.push(ChildStep::Devices(nodes, false));
        }
        if self.request.init {
            self.child.push(ChildStep::InitProgram);
        }
        if self.process.terminal() == Some(true) {
            self.child.push(console(self.process));
        }
        Ok(())
    }

    fn cgroup_mount(&self) -> MountKind {
        let Some(cgroup) = &self.cgroup else {
            return MountKind::Cgroup {
                unified: None,
                v1: Vec::new(),
            };
        };
        let pure = self.facts.cgroups.is_pure_v2();
        let v1 = cgroup.v1.iter().map(|group| {
            let name = group.controllers.join(",");
            (name, group.path.clone())
        });
        MountKind::Cgroup {
            unified: cgroup
                .unified
                .as_ref()
                .filter(|_| pure)
                .map(|group| group.path.clone()),
            v1: v1.collect(),
        }
    }

    fn devices(&self) -> Vec<DeviceNode> {
        let has_new_dev = self.request.spec.mounts().iter().flatten().any(|mount| {
            mounts::clean(mount.destination()) == Path::new("/dev")
                && mount.typ().as_deref() == Some("tmpfs")
        });
        let mut nodes = Vec::new();
        if has_new_dev {
            nodes.extend(
                devices::DEFAULT_NODES
                    .iter()
                    .map(|(name, major, minor)| DeviceNode {
                        path: Path::new("/dev").join(name),
                        kind: 'c',
                        major: *major,
                        minor: *minor,
                        mode: 0o666,
                        user: 0,
                        group: 0,
                    }),
            );
        }
        for device in self.linux.devices().iter().flatten() {
            let node = device_node(device);
            nodes.retain(|known: &DeviceNode| known.path != node.path);
            nodes.push(node);
        }
        nodes
    }

    /// What the program sees of the kernel.
    pub(super) fn view(&mut self) -> Result<(), PlanError> {
        let spec = &self.request.spec;
        if let Some(sysctl) = self.linux.sysctl().as_ref().filter(|all| !all.is_empty()) {
            let mut all: Vec<(String, String)> = Vec::new();
            for (key, value) in sysctl {
                if !self.sysctl_is_ours(key) {
                    return Err(PlanError::Sysctl(format!("{key}={value}")));
                }
                all.push((key.clone(), value.clone()));
            }
            all.sort();
            self.child.push(ChildStep::Sysctl(all));
        }
        let paths = |list: &Option<Vec<String>>| -> Vec<PathBuf> {
            list.iter()
                .flatten()
                .map(|path| mounts::clean(Path::new(path)))
                .collect()
        };
        let read_only = paths(self.linux.readonly_paths());
        if !read_only.is_empty() {
            self.child.push(ChildStep::ReadOnly(read_only));
        }
        let masked = paths(self.linux.masked_paths());
        if !masked.is_empty() {
            self.child.push(ChildStep::Mask(masked));
        }
        let hostname = spec.hostname().clone().filter(|name| !name.is_empty());
        let domain = spec.domainname().clone().filter(|name| !name.is_empty());
        if hostname.is_some() || domain.is_some() {
            if !self.is_new(LinuxNamespaceType::Uts) {
                return Err(PlanError::Missing("UTS namespace of its own to name"));
            }
            self.child.push(ChildStep::HostName(hostname, domain));
        }
        if let Some(score) = self.process.oom_score_adj() {
            self.child.push(ChildStep::OutOfMemoryScore(score));
        }
        let read_only = spec
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly);
        if read_only == Some(true) {
            self.child
                .push(ChildStep::MakeDirectory(mounts::clean(self.process.cwd())));
            self.child.push(ChildStep::RootReadOnly);
        }
        Ok(())
    }

    /// Only parameters of namespaces that are the container's own.
    fn sysctl_is_ours(&self, key: &str) -> bool {
        const IPC: [&str; 9] = [
            "kernel.msgmax",
            "kernel.msgmnb",
            "kernel.msgmni",
            "kernel.sem",
            "kernel.shmall",
            "kernel.shmmax",
            "kernel.shmmni",
            "kernel.shm_rmid_forced",
            "kernel.auto_msgmni",
        ];
        if key.contains('/') || key.contains("..") || key.chars().any(char::is_whitespace) {
            return false;
        }
        if IPC.contains(&key) || key.starts_with("fs.mqueue.") {
            return self.is_new(LinuxNamespaceType::Ipc);
        }
        match key {
            "kernel.domainname" => self.is_new(LinuxNamespaceType::Uts),
            // The host name has a field of its own.
            "kernel.hostname" => false,
            _ => key.starts_with("net.") && self.is_new(LinuxNamespaceType::Network),
        }
    }
}

fn kind(typ: LinuxNamespaceType) -> Kind {
    match typ {
        LinuxNamespaceType::Mount => Kind::Mount,
        LinuxNamespaceType::Cgroup => Kind::Cgroup,
        LinuxNamespaceType::Uts => Kind::Uts,
        LinuxNamespaceType::Ipc => Kind::Ipc,
        LinuxNamespaceType::User => Kind::User,
        LinuxNamespaceType::Pid => Kind::Pid,
        LinuxNamespaceType::Network => Kind::Network,
        LinuxNamespaceType::Time => Kind::Time,
    }
}

pub(super) fn console(process: &Process) -> ChildStep {
    let size = process.console_size();
    let cut = |value: u64| u16::try_from(value).unwrap_or(0);
    let (rows, columns) = size.map_or((0, 0), |size| (cut(size.height()), cut(size.width())));
    ChildStep::Console(rows, columns)
}

pub(super) fn propagation(word: Option<&str>) -> Option<RootPropagation> {
    let word = word?;
    let propagation = match word {
        "shared" | "rshared" => Propagation::Shared,
        "slave" | "rslave" => Propagation::Slave,
        "unbindable" | "runbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some(RootPropagation {
        propagation,
        recursive: word.starts_with('r'),
    })
}

fn device_node(device: &LinuxDevice) -> DeviceNode {
    let number = |value: i64| u32::try_from(value).unwrap_or(0);
    DeviceNode {
        path: mounts::clean(device.path()),
        kind: match device.typ() {
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::P => 'p',
            LinuxDeviceType::C | LinuxDeviceType::U | LinuxDeviceType::A => 'c',
        },
        major: number(device.major()),
        minor: number(device.minor()),
        mode: device.file_mode().unwrap_or(0o666) & 0o7777,
        user: device.uid().unwrap_or(0),
        group: device.gid().unwrap_or(0),
    }
}

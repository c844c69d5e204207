//! Mounts of the specification as values: type, target, what they allow, how they propagate.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::Mount as SpecMount;
use serde::{Deserialize, Serialize};
use sys::mount::{Attributes, Extent, Propagation};

use crate::planner::PlanError;

/// One mount inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, from the container's root.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// What neither it nor, of a bind, what lies below it allows.
    pub attributes: Attributes,
    /// What it alone does not allow: `ro` says nothing of the mounts below a bind, `rro` does.
    #[serde(default)]
    pub top: Attributes,
    /// What it allows although its source did not (`rw`, `exec` …).
    pub clear: Attributes,
    /// How mounts below it travel.
    pub propagation: Propagation,
    /// Whose files are shown as whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<Owners>,
}

/// How mounts travel from and to the container's root once it is the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootPropagation {
    /// In which directions.
    pub propagation: Propagation,
    /// Everything mounted below the root likewise; otherwise that stays as it was asked for.
    pub recursive: bool,
}

/// Owners of files on a file system, and as a mount shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owners {
    /// Users.
    pub users: Vec<Extent>,
    /// Groups.
    pub groups: Vec<Extent>,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A new file system of a type, with its options.
    New {
        /// The type.
        filesystem: String,
        /// What the mount table shows as its source.
        source: String,
        /// `key=value` or `flag`.
        options: Vec<String>,
    },
    /// A file or directory of the host.
    Bind {
        /// Which.
        source: PathBuf,
        /// With what is mounted below it.
        recursive: bool,
        /// Its place in the list of sources that are opened before the host is cut off.
        index: usize,
    },
    /// The container's own cgroups.
    Cgroup {
        /// The v2 directory, shown at the target itself when there is no v1.
        unified: Option<PathBuf>,
        /// Name below the target and directory of each v1 tree.
        v1: Vec<(String, PathBuf)>,
    },
}

/// Files of /proc that may be replaced one by one; everything else there is the kernel's.
const PROC_FILES: [&str; 9] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/sys/kernel/ns_last_pid",
];

/// Whether this file of /proc may be a mount's target.
pub(crate) fn is_replaceable(target: &Path) -> bool {
    PROC_FILES.iter().any(|file| Path::new(file) == target)
}

/// The path without `.`, `..` and doubled slashes, absolute.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => {
                out.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    out
}

/// An option of a bind that only rbox knows: its source must be reached without any link.
pub const NO_LINKS: &str = "x-rbox-no-links";

/// What the options of a mount say.
#[derive(Default)]
struct Words {
    set: u32,
    clear: u32,
    /// Read-only without what lies below.
    top_only: bool,
    bind: Option<bool>,
    no_links: bool,
    propagation: Option<Propagation>,
    data: Vec<String>,
}

impl Words {
    fn read(options: &[String]) -> Self {
        let mut words = Self::default();
        for option in options {
            words.word(option);
        }
        words
    }

    fn word(&mut self, option: &str) {
        let set = |words: &mut Self, bits: Attributes| {
            words.set |= bits.0;
            words.clear &= !bits.0;
        };
        let clear = |words: &mut Self, bits: Attributes| {
            words.clear |= bits.0;
            words.set &= !bits.0;
        };
        match option {
            "ro" | "rro" => {
                set(self, Attributes::READ_ONLY);
                self.top_only = option == "ro";
            }
            "rw" | "rrw" => clear(self, Attributes::READ_ONLY),
            "nosuid" => set(self, Attributes::NO_SUID),
            "suid" => clear(self, Attributes::NO_SUID),
            "nodev" => set(self, Attributes::NO_DEV),
            "dev" => clear(self, Attributes::NO_DEV),
            "noexec" => set(self, Attributes::NO_EXEC),
            "exec" => clear(self, Attributes::NO_EXEC),
            "noatime" => {
                clear(self, Attributes::ATIME_MASK);
                self.set |= Attributes::NO_ATIME.0;
            }
            "strictatime" => {
                clear(self, Attributes::ATIME_MASK);
                self.set |= Attributes::STRICT_ATIME.0;
            }
            "relatime" => clear(self, Attributes::ATIME_MASK),
            "bind" => self.bind = self.bind.or(Some(false)),
            "rbind" => self.bind = Some(true),
            "private" | "rprivate" => self.propagation = Some(Propagation::Private),
            "shared" | "rshared" => self.propagation = Some(Propagation::Shared),
            "slave" | "rslave" => self.propagation = Some(Propagation::Slave),
            "unbindable" | "runbindable" => self.propagation = Some(Propagation::Unbindable),
            NO_LINKS => self.no_links = true,
            "defaults" | "async" | "diratime" | "loud" | "atime" | "norelatime" => {}
            "nostrictatime" | "nomand" | "noiversion" => {}
            // Docker's words for other systems, and SELinux labels where there is no SELinux.
            "z" | "Z" | "cached" | "delegated" | "consistent" | "nocopy" => {}
            data => self.data.push(data.to_owned()),
        }
    }
}

/// Reads one mount; `sources` collects what binds need from the host, `cgroup` is shown where the
/// mount is of that type.
pub(crate) fn read(
    mount: &SpecMount,
    sources: &mut Vec<Source>,
    cgroup: &MountKind,
) -> Result<Mount, PlanError> {
    let empty = Vec::new();
    let words = Words::read(mount.options().as_ref().unwrap_or(&empty));
    let target = clean(mount.destination());
    let filesystem = mount.typ().as_deref().unwrap_or("bind");
    let bind = match (filesystem, words.bind) {
        ("bind", None) => Some(true),
        (_, bind) => bind,
    };
    let kind = if let Some(recursive) = bind {
        let Some(source) = mount.source().clone() else {
            return Err(PlanError::Mount {
                target,
                why: "a bind mount needs a source",
            });
        };
        if target.starts_with("/proc") && !is_replaceable(&target) {
            return Err(PlanError::Mount {
                target,
                why: "nothing may be mounted over /proc",
            });
        }
        sources.push(Source {
            path: source.clone(),
            recursive,
            no_links: words.no_links,
        });
        MountKind::Bind {
            source,
            recursive,
            index: sources.len() - 1,
        }
    } else if filesystem == "cgroup" || filesystem == "cgroup2" {
        cgroup.clone()
    } else {
        MountKind::New {
            filesystem: filesystem.to_owned(),
            source: mount
                .source()
                .as_ref()
                .map_or(filesystem.to_owned(), |path| path.display().to_string()),
            options: words.data,
        }
    };
    if target == Path::new("/") {
        return Err(PlanError::Mount {
            target,
            why: "the root is not a mount of its own",
        });
    }
    let owners = owners(mount);
    if owners.is_some() && !matches!(kind, MountKind::Bind { .. }) {
        return Err(PlanError::Mount {
            target,
            why: "only a bind mount can show other owners",
        });
    }
    let (attributes, top) = match &kind {
        MountKind::Bind { .. } if words.top_only => {
            let read_only = words.set & Attributes::READ_ONLY.0;
            (words.set & !read_only, read_only)
        }
        _ => (words.set, 0),
    };
    Ok(Mount {
        target,
        owners,
        kind,
        attributes: Attributes(attributes),
        top: Attributes(top),
        clear: Attributes(words.clear),
        propagation: words.propagation.unwrap_or(Propagation::Private),
    })
}

/// The specification's mappings: its container ids are those on the file system.
fn owners(mount: &SpecMount) -> Option<Owners> {
    let read = |list: &Option<Vec<oci_spec::runtime::LinuxIdMapping>>| -> Vec<Extent> {
        let all = list.iter().flatten();
        all.map(|one| Extent {
            stored: one.container_id(),
            shown: one.host_id(),
            count: one.size(),
        })
        .collect()
    };
    let (users, groups) = (read(mount.uid_mappings()), read(mount.gid_mappings()));
    (!users.is_empty() || !groups.is_empty()).then_some(Owners { users, groups })
}

/// Something of the host that a bind mount needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file or directory.
    pub path: PathBuf,
    /// With what is mounted below it.
    pub recursive: bool,
    /// A link anywhere on the way is an error.
    #[serde(default)]
    pub no_links: bool,
}

/// Mappings in the words of `mount -o X-mount.idmap=`: stored, shown, how many.
pub(crate) fn mapping(owners: &Owners) -> String {
    let words = |letter: char, extents: &[Extent]| -> Vec<String> {
        let one = |extent: &Extent| {
            format!(
                "{letter}:{}:{}:{}",
                extent.stored, extent.shown, extent.count
            )
        };
        extents.iter().map(one).collect()
    };
    let mut all = words('u', &owners.users);
    all.extend(words('g', &owners.groups));
    all.join(" ")
}

/// The options in the words of `mount -o`.
pub(crate) fn words(attributes: Attributes) -> String {
    let names = [
        (Attributes::READ_ONLY, "ro"),
        (Attributes::NO_SUID, "nosuid"),
        (Attributes::NO_DEV, "nodev"),
        (Attributes::NO_EXEC, "noexec"),
        (Attributes::NO_ATIME, "noatime"),
        (Attributes::STRICT_ATIME, "strictatime"),
    ];
    let words: Vec<&str> = names
        .iter()
        .filter(|(bits, _)| attributes.has(*bits))
        .map(|(_, name)| *name)
        .collect();
    words.join(",")
}

//! What is done on the host before the container's first process: its cgroups and their limits.
//!
//! These steps go into the journal: undoing them kills whatever is still in the container's
//! cgroups and removes these.

use std::fs;
use std::path::PathBuf;

use plan::{Description, Step};
use serde::{Deserialize, Serialize};
use sys::SysResultExt;

use crate::cgroup::devices::Rule;
use crate::cgroup::limits::{self, Write};
use crate::cgroup::{Cgroup, CgroupError, file_error};

/// What the host steps need: nothing that outlives them.
#[derive(Debug, Default)]
pub struct Host {}

/// One change of the host for one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostStep {
    /// Makes the cgroups; undone, kills what is in them and removes them.
    Cgroup {
        /// Which.
        cgroup: Cgroup,
        /// v2 controllers that the directories above must hand down.
        enable: Vec<String>,
    },
    /// Writes limits.
    Limits {
        /// Files and values, in order.
        writes: Vec<Write>,
    },
    /// Allows devices by the files of the v1 controller.
    DevicesV1 {
        /// Files and values, in order.
        writes: Vec<Write>,
    },
    /// Allows devices by a program on the v2 cgroup.
    DevicesV2 {
        /// The cgroup.
        directory: PathBuf,
        /// Later rules win.
        rules: Vec<Rule>,
    },
}

impl Step<Host> for HostStep {
    type Error = CgroupError;

    fn name(&self) -> &'static str {
        match self {
            HostStep::Cgroup { .. } => "cgroup-create",
            HostStep::Limits { .. } => "cgroup-limits",
            HostStep::DevicesV1 { .. } | HostStep::DevicesV2 { .. } => "cgroup-devices",
        }
    }

    fn apply(&self, _: &mut Host) -> Result<(), CgroupError> {
        match self {
            HostStep::Cgroup { cgroup, enable } => {
                cgroup.create()?;
                hand_down(cgroup, enable)
            }
            HostStep::Limits { writes } | HostStep::DevicesV1 { writes } => limits::apply(writes),
            HostStep::DevicesV2 { directory, rules } => {
                let program =
                    sys::bpf::load_device_program(&crate::cgroup::devices::program(rules))?;
                let cgroup = fs::File::open(directory).call(|| format!("open({directory:?})"))?;
                use std::os::fd::AsFd;
                sys::bpf::attach_device_program(cgroup.as_fd(), program.as_fd())?;
                Ok(())
            }
        }
    }

    fn undo(&self, _: &mut Host) -> Result<(), CgroupError> {
        match self {
            HostStep::Cgroup { cgroup, .. } => cgroup.remove(),
            // They go with the directory.
            HostStep::Limits { .. } | HostStep::DevicesV1 { .. } | HostStep::DevicesV2 { .. } => {
                Ok(())
            }
        }
    }

    fn describe(&self) -> Description {
        match self {
            HostStep::Cgroup { cgroup, .. } => Description {
                what: format!("make the cgroup {}", directories(cgroup).join(", ")),
                why: "its processes are limited, frozen and killed together".to_owned(),
                calls: directories(cgroup)
                    .iter()
                    .map(|path| format!("mkdir({path:?}, 0755)"))
                    .collect(),
            },
            HostStep::Limits { writes } => Description {
                what: format!("write {} limits", writes.len()),
                why: "what the container may use was asked to be limited".to_owned(),
                calls: calls(writes),
            },
            HostStep::DevicesV1 { writes } => Description {
                what: "deny all devices but those listed".to_owned(),
                why: "a device node alone must not open the host's disks".to_owned(),
                calls: calls(writes),
            },
            HostStep::DevicesV2 { directory, rules } => Description {
                what: format!("attach a program of {} device rules", rules.len()),
                why: "a device node alone must not open the host's disks".to_owned(),
                calls: vec![
                    "bpf(BPF_PROG_LOAD, CGROUP_DEVICE)".to_owned(),
                    format!("bpf(BPF_PROG_ATTACH, {directory:?})"),
                ],
            },
        }
    }

    fn shell(&self) -> Vec<String> {
        match self {
            HostStep::Cgroup { cgroup, .. } => directories(cgroup)
                .iter()
                .map(|path| format!("mkdir -p {path}"))
                .collect(),
            HostStep::Limits { writes } | HostStep::DevicesV1 { writes } => writes
                .iter()
                .map(|write| format!("echo '{}' > {}", write.value, write.path.display()))
                .collect(),
            HostStep::DevicesV2 { .. } => Vec::new(),
        }
    }
}

fn directories(cgroup: &Cgroup) -> Vec<String> {
    cgroup
        .groups()
        .map(|group| group.path.display().to_string())
        .collect()
}

fn calls(writes: &[Write]) -> Vec<String> {
    writes
        .iter()
        .map(|write| format!("write({:?}, {:?})", write.path, write.value))
        .collect()
}

/// Every directory from the root of the v2 tree to the container's parent hands the controllers on.
fn hand_down(cgroup: &Cgroup, enable: &[String]) -> Result<(), CgroupError> {
    let Some(group) = cgroup.unified.as_ref().filter(|_| !enable.is_empty()) else {
        return Ok(());
    };
    let wanted: Vec<String> = enable.iter().map(|name| format!("+{name}")).collect();
    let mut above: Vec<_> = group
        .path
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(&group.base))
        .collect();
    above.reverse();
    for directory in above {
        let path = directory.join("cgroup.subtree_control");
        let word = wanted.join(" ");
        fs::write(&path, &word).map_err(file_error(format!("write {word:?} to"), &path))?;
    }
    Ok(())
}

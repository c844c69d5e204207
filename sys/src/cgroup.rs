//! Finding the cgroup hierarchies of this host: v1, v2 and hybrid.
//!
//! Two cheap looks suffice where the mounts are in the usual place: `/proc/self/cgroup` names the
//! hierarchies and where this process is in each, the type of the file system at `/sys/fs/cgroup`
//! tells v2 from the rest. The mount table is read only where nothing is mounted there.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Result, SysResultExt};

const MOUNT: &str = "/sys/fs/cgroup";
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// One tree of cgroups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchy {
    /// The v1 controllers bound to it, or `name=…`; empty for v2.
    pub controllers: Vec<String>,
    /// Where its root is seen.
    pub mount: PathBuf,
    /// The directory of the process that asked; `mount` where that cannot be seen.
    pub own: PathBuf,
}

/// The trees of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hierarchies {
    /// The v2 tree, in hybrid mode without controllers.
    pub unified: Option<Hierarchy>,
    /// The v1 trees.
    pub v1: Vec<Hierarchy>,
}

impl Hierarchies {
    /// Looks at this host. That a v1 tree is really mounted under its usual name is not checked:
    /// who uses it will see.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn detect() -> Result<Self> {
        let path = "/proc/self/cgroup";
        let text = fs::read_to_string(path).call(|| format!("read({path:?})"))?;
        let places = if magic(Path::new(MOUNT)).is_some() {
            Places::usual(Path::new(MOUNT))
        } else {
            let path = "/proc/self/mountinfo";
            Places::read(&fs::read_to_string(path).call(|| format!("read({path:?})"))?)
        };
        Ok(Self::from_text(&text, &places))
    }

    /// The trees that `/proc/PID/cgroup` names, `own` being that process's directories.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn of(&self, pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path).call(|| format!("read({path:?})"))?;
        let mut all = Self::default();
        for (controllers, own) in lines(&text) {
            let known = if controllers.is_empty() {
                self.unified.as_ref()
            } else {
                self.v1.iter().find(|tree| tree.controllers == controllers)
            };
            let Some(known) = known else { continue };
            let tree = Hierarchy {
                controllers,
                mount: known.mount.clone(),
                own: beneath(&known.mount, own),
            };
            if tree.controllers.is_empty() {
                all.unified = Some(tree);
            } else {
                all.v1.push(tree);
            }
        }
        Ok(all)
    }

    /// The v1 tree of a controller.
    pub fn v1_of(&self, controller: &str) -> Option<&Hierarchy> {
        self.v1
            .iter()
            .find(|tree| tree.controllers.iter().any(|name| name == controller))
    }

    /// All controllers are v2's.
    pub fn is_pure_v2(&self) -> bool {
        self.unified.is_some() && self.v1.is_empty()
    }

    fn from_text(text: &str, places: &Places) -> Self {
        let mut all = Self::default();
        for (controllers, own) in lines(text) {
            let Some(mount) = places.mount(&controllers) else {
                continue;
            };
            let own = beneath(&mount, own);
            // In a container's view the path may be one of the host's.
            let own = if own == mount || own.is_dir() {
                own
            } else {
                mount.clone()
            };
            let tree = Hierarchy {
                controllers,
                mount,
                own,
            };
            if tree.controllers.is_empty() {
                all.unified = Some(tree);
            } else {
                all.v1.push(tree);
            }
        }
        all
    }
}

fn beneath(mount: &Path, own: &str) -> PathBuf {
    let relative = own.trim_start_matches('/');
    if relative.is_empty() || relative.starts_with("..") {
        mount.to_owned()
    } else {
        mount.join(relative)
    }
}

/// The lines of `/proc/PID/cgroup`: controllers and path.
fn lines(text: &str) -> impl Iterator<Item = (Vec<String>, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let names = fields.next()?;
        let own = fields.next()?;
        let controllers = names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        Some((controllers, own))
    })
}

/// Where the trees are mounted.
enum Places {
    /// One v2 tree and nothing else.
    Unified(PathBuf),
    /// A directory with one mount per tree, named after its controllers.
    Directory(PathBuf),
    /// What the mount table says: options of v1, nothing for v2.
    Table(Vec<(Vec<String>, PathBuf)>),
}

impl Places {
    fn usual(mount: &Path) -> Self {
        if magic(mount) == Some(CGROUP2_MAGIC) {
            Self::Unified(mount.to_owned())
        } else {
            Self::Directory(mount.to_owned())
        }
    }

    fn read(mountinfo: &str) -> Self {
        let mut table = Vec::new();
        for line in mountinfo.lines() {
            let Some((before, after)) = line.split_once(" - ") else {
                continue;
            };
            let Some(point) = before.split(' ').nth(4) else {
                continue;
            };
            let mut fields = after.split(' ');
            let kind = fields.next().unwrap_or("");
            let options = fields.nth(1).unwrap_or("");
            let names = match kind {
                "cgroup2" => Vec::new(),
                "cgroup" => options.split(',').map(str::to_owned).collect(),
                _ => continue,
            };
            table.push((names, PathBuf::from(point)));
        }
        Self::Table(table)
    }

    fn mount(&self, controllers: &[String]) -> Option<PathBuf> {
        match self {
            Self::Unified(mount) => controllers.is_empty().then(|| mount.clone()),
            Self::Directory(directory) if controllers.is_empty() => {
                let path = directory.join("unified");
                (magic(&path) == Some(CGROUP2_MAGIC)).then_some(path)
            }
            Self::Directory(directory) => {
                let joined = controllers.join(",");
                let name = joined.strip_prefix("name=").unwrap_or(&joined);
                Some(directory.join(name))
            }
            Self::Table(table) => table
                .iter()
                .find(|(options, _)| {
                    options.is_empty() == controllers.is_empty()
                        && controllers.iter().all(|name| options.contains(name))
                })
                .map(|(_, point)| point.clone()),
        }
    }
}

fn magic(path: &Path) -> Option<i64> {
    rustix::fs::statfs(path).ok().map(|answer| answer.f_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "4:memory:/agent/7\n3:cpu,cpuacct:/\n1:name=systemd:/init\n0::/user\n";

    #[test]
    fn the_mount_table_is_enough() {
        let table = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                     32 31 0:29 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                     33 31 0:30 / /cg/memory rw - cgroup cgroup rw,memory\n\
                     41 31 0:38 / /cg/unified rw shared:1 - cgroup2 cgroup2 rw\n";
        let found = Hierarchies::from_text(HYBRID, &Places::read(table));
        assert_eq!(found.v1_of("cpuacct").unwrap().mount, Path::new("/cg/cpu"));
        assert_eq!(
            found.unified.as_ref().unwrap().mount,
            Path::new("/cg/unified")
        );
        assert!(found.v1_of("name=systemd").is_none());
        assert!(!found.is_pure_v2());
        // Not there, hence the root of the tree.
        assert_eq!(found.v1_of("memory").unwrap().own, Path::new("/cg/memory"));
    }

    #[test]
    fn this_host_has_a_hierarchy() {
        let found = Hierarchies::detect().unwrap();
        assert!(found.unified.is_some() || !found.v1.is_empty());
        let own = found.of(std::process::id().cast_signed()).unwrap();
        assert_eq!(own.v1.len(), found.v1.len());
    }

    #[test]
    fn paths_outside_the_view_are_its_root() {
        assert_eq!(beneath(Path::new("/m"), "/../x"), Path::new("/m"));
        assert_eq!(beneath(Path::new("/m"), "/a/b"), Path::new("/m/a/b"));
    }
}

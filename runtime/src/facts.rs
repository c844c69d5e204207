//! What the planner has to know about this host.

use sys::caps::CapSet;
use sys::cgroup::Hierarchies;

/// What the planner has to know about this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The cgroup trees, and where the caller is in them.
    pub cgroups: Hierarchies,
    /// The ceiling of the caller's capabilities: nothing beyond it can be given to a container.
    pub capabilities: CapSet,
    /// Device programs can be attached to cgroups of the v2 tree.
    pub device_programs: bool,
    /// The kernel's version.
    pub kernel: (u32, u32),
}

impl Facts {
    /// Looks at this host; a few microseconds.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn read() -> sys::Result<Self> {
        let cgroups = Hierarchies::detect()?;
        let device_programs = match &cgroups.unified {
            Some(tree) => sys::bpf::has_device_programs(&tree.mount),
            None => false,
        };
        Ok(Self {
            cgroups,
            capabilities: sys::caps::bounding(),
            device_programs,
            kernel: kernel(rustix::system::uname().release().to_str().unwrap_or("")),
        })
    }
}

fn kernel(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|letter: char| !letter.is_ascii_digit())
        .map(|text| text.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(kernel("6.18.44-fc-v657"), (6, 18));
        assert_eq!(kernel("5.10"), (5, 10));
        assert_eq!(kernel(""), (0, 0));
    }
}

//! What the user left open and the image does not say: Docker's defaults, names become ids.

use std::fs;
use std::path::Path;

use crate::Engine;
use crate::config::{Config, HostConfig};
use crate::error::Result;
use crate::id::ContainerId;

impl Engine {
    /// Completes a checked request.
    ///
    /// # Errors
    /// `No such container` of the modes that name one.
    pub(super) fn complete(
        &self,
        id: &ContainerId,
        config: &mut Config,
        host: &mut HostConfig,
    ) -> Result<()> {
        for mode in [
            &mut host.network_mode,
            &mut host.ipc_mode,
            &mut host.pid_mode,
        ] {
            if let Some(name) = mode.strip_prefix("container:") {
                *mode = format!("container:{}", self.resolve(name)?);
            }
        }
        if config.hostname.is_empty() {
            config.hostname = self.hostname(id, host)?;
        }
        defaults(host, is_unified());
        Ok(())
    }

    /// The short id, unless the network is another's: then that one's name.
    fn hostname(&self, id: &ContainerId, host: &HostConfig) -> Result<String> {
        if let Some(other) = host.network_mode.strip_prefix("container:") {
            return Ok(self.find(other)?.record.config.hostname);
        }
        let shared = host.network_mode == "host" || host.uts_mode == "host";
        if shared && let Ok(name) = fs::read_to_string("/proc/sys/kernel/hostname") {
            return Ok(name.trim_end().to_owned());
        }
        Ok(id.short().to_owned())
    }
}

/// All controllers of this host are in the v2 tree.
fn is_unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn defaults(host: &mut HostConfig, unified: bool) {
    let set = |field: &mut String, value: &str| {
        if field.is_empty() {
            value.clone_into(field);
        }
    };
    set(&mut host.network_mode, "default");
    set(&mut host.ipc_mode, "private");
    set(&mut host.runtime, "rbox");
    set(&mut host.restart_policy.name, "no");
    set(&mut host.log_config.driver, "json-file");
    set(
        &mut host.cgroupns_mode,
        if unified { "private" } else { "host" },
    );
    if host.shm_size == 0 {
        host.shm_size = 64 << 20;
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swap_is_as_much_as_memory_unless_said() {
        for (memory, swap, expected) in [(0, 0, 0), (8, 0, 16), (8, 8, 8), (8, -1, -1)] {
            let mut host = HostConfig {
                memory,
                memory_swap: swap,
                ..HostConfig::default()
            };
            defaults(&mut host, false);
            assert_eq!(host.memory_swap, expected);
        }
    }

    #[test]
    fn the_cgroup_namespace_follows_the_host() {
        for (asked, unified, expected) in [
            ("", true, "private"),
            ("", false, "host"),
            ("host", true, "host"),
            ("private", false, "private"),
        ] {
            let mut host = HostConfig {
                cgroupns_mode: asked.to_owned(),
                ..HostConfig::default()
            };
            defaults(&mut host, unified);
            assert_eq!(host.cgroupns_mode, expected);
        }
    }
}

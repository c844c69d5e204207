//! Flags about what a container shares with its host and what it may do.

use clap::Args;
use engine::config::HostConfig;

use super::{refuse_given, some};
use crate::error::{DAEMON, Failure, REFUSED, Result};
use crate::option::security;

/// Flags about what a container shares with its host and what it may do.
#[derive(Debug, Clone, Args)]
pub(crate) struct IsolationArgs {
    /// Add Linux capabilities
    #[arg(long, value_name = "list")]
    pub(crate) cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list")]
    pub(crate) cap_drop: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string")]
    pub(crate) cgroup_parent: Option<String>,
    #[arg(
        long,
        value_name = "string",
        help = "Cgroup namespace to use (host|private)\n'host':    Run the container in the Docker host's cgroup namespace\n'private': Run the container in its own private cgroup namespace\n'':        Use the cgroup namespace as configured by the\n           default-cgroupns-mode option on the daemon (default)"
    )]
    pub(crate) cgroupns: Option<String>,
    /// Skip image verification (default true)
    #[arg(long)]
    pub(crate) disable_content_trust: bool,
    /// IPC mode to use
    #[arg(long, value_name = "string")]
    pub(crate) ipc: Option<String>,
    /// Container isolation technology
    #[arg(long, value_name = "string")]
    pub(crate) isolation: Option<String>,
    /// PID namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) pid: Option<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Runtime to use for this container
    #[arg(long, value_name = "string")]
    pub(crate) runtime: Option<String>,
    /// Security Options
    #[arg(long, value_name = "list")]
    pub(crate) security_opt: Vec<String>,
    #[arg(long, value_name = "map", value_parser = sysctl, help = "Sysctl options (default map[])")]
    pub(crate) sysctl: Vec<String>,
    /// Bind mount Docker API socket and required auth
    #[arg(long)]
    pub(crate) use_api_socket: bool,
    /// User namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) userns: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string")]
    pub(crate) uts: Option<String>,
}

impl IsolationArgs {
    /// Puts sharing and rights into the host's part.
    pub(super) fn fill(&self, host: &mut HostConfig) -> Result<()> {
        host.cap_add = some(&self.cap_add);
        host.cap_drop = some(&self.cap_drop);
        host.privileged = self.privileged;
        if !self.security_opt.is_empty() {
            host.security_opt = Some(security::gather(&self.security_opt)?);
        }
        if let Some(parent) = &self.cgroup_parent {
            parent.clone_into(&mut host.cgroup_parent);
        }
        if let Some(mode) = &self.ipc {
            mode.clone_into(&mut host.ipc_mode);
        }
        if let Some(mode) = &self.pid {
            let valid = matches!(mode.as_str(), "" | "host")
                || mode
                    .strip_prefix("container:")
                    .is_some_and(|name| !name.is_empty());
            check(valid, "--pid: invalid PID mode")?;
            mode.clone_into(&mut host.pid_mode);
        }
        if let Some(mode) = &self.uts {
            check(
                matches!(mode.as_str(), "" | "host"),
                "--uts: invalid UTS mode",
            )?;
            mode.clone_into(&mut host.uts_mode);
        }
        if let Some(mode) = &self.userns {
            check(
                matches!(mode.as_str(), "" | "host"),
                "--userns: invalid USER mode",
            )?;
            mode.clone_into(&mut host.userns_mode);
        }
        if let Some(mode) = self.cgroupns.as_deref().filter(|mode| !mode.is_empty()) {
            check(
                matches!(mode, "host" | "private"),
                "--cgroupns: invalid CGROUP mode",
            )?;
            mode.clone_into(&mut host.cgroupns_mode);
        }
        for word in &self.sysctl {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            host.sysctls.insert(name.to_owned(), value.to_owned());
        }
        Ok(())
    }

    /// Refuses what rbox does not have.
    pub(super) fn refuse(&self) -> Result<()> {
        let runtime = self
            .runtime
            .as_deref()
            .filter(|name| !matches!(*name, "" | "rbox"));
        if let Some(runtime) = runtime {
            return Err(Failure::coded(
                REFUSED,
                format!("{DAEMON}Unknown runtime specified {runtime}"),
            )
            .hint("rbox is its own runtime; leave --runtime out"));
        }
        let isolation = self.isolation.as_deref();
        refuse_given(&[
            (
                isolation.is_some_and(|name| !matches!(name, "" | "default")),
                "isolation",
                "Windows only",
            ),
            (
                self.use_api_socket,
                "use-api-socket",
                "there is no daemon and no socket of one",
            ),
        ])
    }
}

fn check(valid: bool, text: &str) -> Result<()> {
    if valid {
        Ok(())
    } else {
        Err(Failure::said(text))
    }
}

/// Checks `--sysctl name=value`: only what belongs to a namespace.
fn sysctl(text: &str) -> std::result::Result<String, String> {
    const OWN: [&str; 9] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
        "kernel.domainname",
    ];
    let name = text.split_once('=').map(|(name, _)| name);
    match name {
        Some(name)
            if OWN.contains(&name)
                || name.starts_with("net.")
                || name.starts_with("fs.mqueue.") =>
        {
            Ok(text.to_owned())
        }
        _ => Err(format!("sysctl '{text}' is not allowed")),
    }
}

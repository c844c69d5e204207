//! What Docker refuses when a container is made, in Docker's words (pure).

use crate::config::{Config, HostConfig};
use crate::error::{Error, Result};
use crate::log::LogOptions;
use crate::mount::check_places;
use crate::signal;
use crate::spec::{Security, capabilities, variable_name};

mod limits;

pub(super) use limits::Processors;

/// Checks what is to be made: what the user asked for, and the same merged with the image's config.
/// An empty `hostname` is one that the user did not give.
pub(super) fn check(
    asked: &Config,
    merged: &Config,
    host: &HostConfig,
    processors: &Processors,
) -> Result<()> {
    process(merged)?;
    check_places(asked)?;
    health(merged)?;
    limits::check(host, processors)?;
    modes(asked, host)?;
    network(asked, host)?;
    restart(host)?;
    log(host)?;
    sysctls(host)?;
    Security::read(host)?;
    capabilities(host)?;
    Ok(())
}

/// Checks options that become other while the container is there.
pub(super) fn check_update(host: &HostConfig) -> Result<()> {
    limits::check(host, &Processors::read(host))?;
    restart(host)
}

fn process(config: &Config) -> Result<()> {
    if config.entrypoint.is_none() && config.cmd.is_none() {
        return Err(Error::invalid("No command specified")
            .hint("the image names no command: add one after the image's name"));
    }
    let dir = &config.working_dir;
    if !dir.is_empty() && !dir.starts_with('/') {
        return Err(Error::invalid(format!(
            "the working directory '{dir}' is invalid, it needs to be an absolute path"
        )));
    }
    for variable in &config.env {
        if variable_name(variable).is_empty() {
            return Err(Error::invalid(format!(
                "invalid environment variable: {variable}"
            )));
        }
    }
    if let Some(text) = &config.stop_signal {
        signal::parse(text).map_err(|_| Error::invalid(format!("Invalid signal: {text}")))?;
    }
    Ok(())
}

/// Times below a millisecond are mistakes: someone gave seconds where nanoseconds belong.
fn health(config: &Config) -> Result<()> {
    let Some(check) = &config.healthcheck else {
        return Ok(());
    };
    for (name, time) in [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ] {
        if time != 0 && time < 1_000_000 {
            return Err(Error::invalid(format!(
                "{name} in Healthcheck cannot be less than 1ms"
            )));
        }
    }
    if check.retries < 0 {
        return Err(Error::invalid("Retries in Healthcheck cannot be negative"));
    }
    Ok(())
}

fn modes(config: &Config, host: &HostConfig) -> Result<()> {
    let of_container = |mode: &str| {
        mode.strip_prefix("container:")
            .is_some_and(|name| !name.is_empty())
    };
    let ipc = host.ipc_mode.as_str();
    if !matches!(ipc, "" | "private" | "shareable" | "none" | "host") && !of_container(ipc) {
        return Err(Error::invalid(format!("Invalid IPC mode: {ipc}")));
    }
    let pid = host.pid_mode.as_str();
    if !matches!(pid, "" | "host") && !of_container(pid) {
        return Err(Error::invalid("--pid: invalid PID mode"));
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return Err(Error::invalid("--uts: invalid UTS mode"));
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return Err(Error::invalid(
            "conflicting options: hostname and the UTS mode",
        ));
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "host" | "private") {
        return Err(Error::invalid(format!(
            "invalid cgroup namespace mode: {}",
            host.cgroupns_mode
        )));
    }
    if !matches!(host.userns_mode.as_str(), "" | "host") {
        return Err(Error::invalid("--userns: invalid USER mode"));
    }
    if !matches!(host.runtime.as_str(), "" | "rbox") {
        return Err(Error::invalid(format!(
            "Unknown runtime specified {}",
            host.runtime
        )));
    }
    Ok(())
}

fn network(config: &Config, host: &HostConfig) -> Result<()> {
    let conflict = |what: &str| Err(Error::invalid(format!("conflicting options: {what}")));
    let links = host.links.as_ref().is_some_and(|links| !links.is_empty());
    let mode = host.network_mode.as_str();
    if mode == "host" && links {
        return conflict(
            "host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    let Some(name) = mode
        .strip_prefix("container:")
        .or((mode == "container").then_some(""))
    else {
        return Ok(());
    };
    if name.is_empty() {
        return Err(Error::invalid(
            "Invalid network mode: invalid container format container:<name|id>",
        ));
    }
    if links {
        return conflict(
            "container type network can't be used with links. This would result in undefined \
             behavior",
        );
    }
    if !config.hostname.is_empty() {
        return conflict("hostname and the network mode");
    }
    if !host.dns.is_empty() {
        return conflict("dns and the network mode");
    }
    if host
        .extra_hosts
        .as_ref()
        .is_some_and(|hosts| !hosts.is_empty())
    {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if !host.port_bindings.is_empty() || host.publish_all_ports {
        return conflict("port publishing and the container type network mode");
    }
    if !config.exposed_ports.is_empty() {
        return conflict("port exposing and the container type network mode");
    }
    Ok(())
}

fn restart(host: &HostConfig) -> Result<()> {
    let policy = &host.restart_policy;
    let name = policy.name.as_str();
    match name {
        "" | "no" | "always" | "unless-stopped" if policy.maximum_retry_count != 0 => {
            return Err(Error::invalid(format!(
                "maximum retry count cannot be used with restart policy '{name}'"
            )));
        }
        "" | "no" | "always" | "unless-stopped" => {}
        "on-failure" if policy.maximum_retry_count < 0 => {
            return Err(Error::invalid("maximum retry count cannot be negative"));
        }
        "on-failure" => {}
        _ => return Err(Error::invalid(format!("invalid restart policy '{name}'"))),
    }
    if host.auto_remove && !matches!(name, "" | "no") {
        return Err(Error::invalid(
            "can't create 'AutoRemove' container with restart policy",
        ));
    }
    Ok(())
}

fn log(host: &HostConfig) -> Result<()> {
    let (driver, options) = (host.log_config.driver.as_str(), &host.log_config.options);
    match driver {
        "" | "json-file" => {
            LogOptions::read(options).map_err(|error| Error::invalid(error.to_string()))?;
            Ok(())
        }
        "none" => match options.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "unknown log opt '{name}' for none log driver"
            ))),
        },
        _ => Err(Error::invalid(format!(
            "error looking up logging plugin {driver}: plugin \"{driver}\" not found"
        ))
        .hint("the log drivers are json-file and none")),
    }
}

/// Only what belongs to a namespace of the container's own.
fn sysctls(host: &HostConfig) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for (name, value) in &host.sysctls {
        // a slash would lead out of the tree that the prefix promises
        let plain = !name.contains('/') && !name.contains("..");
        let ipc = IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        let net = name.starts_with("net.");
        let own = match (ipc, net) {
            (true, _) => host.ipc_mode != "host",
            (false, true) => host.network_mode != "host",
            (false, false) => name == "kernel.domainname" && host.uts_mode != "host",
        };
        if !plain || !own {
            return Err(
                Error::invalid(format!("sysctl '{name}={value}' is not allowed"))
                    .hint("only settings of a namespace of the container's own can be made"),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

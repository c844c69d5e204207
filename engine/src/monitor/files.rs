//! The generated files of a container: hosts, hostname, resolv.conf.
//!
//! They are written anew at each start, in place: nothing that was appended to them survives it.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use netns::hosts::{
    DnsRequest, ExtraHost, HostsFile, LinkLine, OwnLine, ResolvConf, SYSTEMD_RESOLV_CONF,
    hostname_file, resolv_conf,
};

use super::join::Mode;
use crate::Engine;
use crate::error::{Error, Result};
use crate::spec::Files;
use crate::store::Container;

/// What the network has to do with the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addresses {
    /// The container's own, one per network.
    pub(crate) own: Vec<IpAddr>,
    /// What `host-gateway` stands for.
    pub(crate) gateway: Option<IpAddr>,
}

/// Writes the container's files; those of `donor`, whose network it joins, are used as they are.
/// `links` are lines of links; with `embedded` names are looked up by the monitor's own resolver.
///
/// # Errors
/// When the container's directory cannot be written.
pub(crate) fn write(
    container: &Container,
    donor: Option<&Container>,
    addresses: &Addresses,
    (links, embedded): (Vec<LinkLine>, bool),
) -> Result<Files> {
    mark(&container.dir.upper().join(".dockerenv"))?;
    if let Some(donor) = donor {
        return Ok(paths(donor));
    }
    let files = paths(container);
    put(
        &files.hosts,
        &match is_host_copy(container) {
            true => read("/etc/hosts"),
            false => hosts(container, addresses, links).to_string(),
        },
    )?;
    put(
        &files.hostname,
        &hostname_file(&container.record.config.hostname),
    )?;
    put(&files.resolv_conf, &resolver(container, embedded))?;
    Ok(files)
}

/// Where a container's generated files lie.
pub(crate) fn paths(container: &Container) -> Files {
    Files {
        resolv_conf: container.dir.resolv_conf(),
        hostname: container.dir.hostname(),
        hosts: container.dir.hosts(),
    }
}

/// On the host's network the host's file is taken as it is, unless lines are asked for.
fn is_host_copy(container: &Container) -> bool {
    let host = &container.record.host;
    let extra = host.extra_hosts.as_deref().unwrap_or_default();
    Mode::of(host) == Mode::Host && extra.is_empty()
}

/// The hosts file of a container with these addresses and lines of links.
pub(crate) fn hosts(
    container: &Container,
    addresses: &Addresses,
    links: Vec<LinkLine>,
) -> HostsFile {
    let host = &container.record.host;
    let extra_hosts = host.extra_hosts.as_deref().unwrap_or_default();
    let gateway = addresses.gateway.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    HostsFile {
        extra: extra_hosts
            .iter()
            // What cannot be read was refused when the container was made.
            .filter_map(|text| text.parse::<ExtraHost>().ok())
            .map(|extra| extra.line(gateway))
            .collect(),
        links,
        own: addresses
            .own
            .iter()
            .map(|address| own_line(container, *address))
            .collect(),
    }
}

fn own_line(container: &Container, address: IpAddr) -> OwnLine {
    let config = &container.record.config;
    OwnLine {
        address,
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
    }
}

/// Adds the container's own lines on a network that it has joined: at the end, in place.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn add_own(engine: &Engine, container: &Container, addresses: &[IpAddr]) -> Result<()> {
    let lines = addresses
        .iter()
        .map(|address| own_line(container, *address));
    if engine.change_own_lines(container, |own| own.extend(lines.clone()))? {
        return Ok(());
    }
    let path = container.dir.hosts();
    let text: String = lines.map(|line| format!("{line}\n")).collect();
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::file("write", &path, error))
}

/// Takes the container's own lines on a network that it has left out of the file, in place.
///
/// # Errors
/// When the file cannot be read or written.
pub(super) fn remove_own(
    engine: &Engine,
    container: &Container,
    addresses: &[IpAddr],
) -> Result<()> {
    let left = |own: &mut Vec<OwnLine>| own.retain(|line| !addresses.contains(&line.address));
    if engine.change_own_lines(container, left)? {
        return Ok(());
    }
    let path = container.dir.hosts();
    let before = fs::read_to_string(&path).map_err(|error| Error::file("read", &path, error))?;
    let lines = addresses
        .iter()
        .map(|address| own_line(container, *address));
    let gone: Vec<String> = lines.map(|line| line.to_string()).collect();
    let mut text = String::with_capacity(before.len());
    for line in before
        .lines()
        .filter(|line| !gone.iter().any(|own| own == line))
    {
        text.push_str(line);
        text.push('\n');
    }
    put(&path, &text)
}

/// Makes the monitor's resolver the only server of a container that runs, unless somebody has made
/// something else of its resolv.conf.
///
/// # Errors
/// When the file cannot be written.
pub(super) fn embed_resolver(container: &Container) -> Result<()> {
    let path = container.dir.resolv_conf();
    let untouched = fs::read_to_string(&path).is_ok_and(|text| text == resolver(container, false));
    match untouched {
        true => put(&path, &resolver(container, true)),
        false => Ok(()),
    }
}

/// The container's resolv.conf; `embedded` names the monitor's resolver and no other.
pub(super) fn resolver(container: &Container, embedded: bool) -> String {
    let host = &container.record.host;
    let asked = DnsRequest {
        servers: host.dns.clone(),
        search: host.dns_search.clone(),
        options: host.dns_options.clone(),
    };
    let mut text = read("/etc/resolv.conf");
    if Mode::of(host) == Mode::Host && asked == DnsRequest::default() {
        return text;
    }
    if ResolvConf::parse(&text).is_systemd_stub() {
        text = read(SYSTEMD_RESOLV_CONF);
    }
    if embedded {
        let merged = ResolvConf::merged(&ResolvConf::parse(&text), &asked);
        return merged.embedded().to_string();
    }
    resolv_conf(&text, &asked)
}

/// A file of the host; one that is missing is empty.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Docker's mark by which programs know that they run in a container. What the container has made
/// of it since is its own business.
fn mark(path: &Path) -> Result<()> {
    let made = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(Error::file("make", path, error))
        }
        _ => Ok(()),
    }
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Error::file("write", path, error))
}

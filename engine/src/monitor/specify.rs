//! From a container's record and what was looked up to the runtime's request.

use std::collections::HashSet;

use oci_spec::runtime::{Capability, LinuxCapabilities, LinuxCapabilitiesBuilder, Process};
use overlayfs::LayerStore;
use runtime::seccomp::{Filter, Profile, default_profile, select};
use runtime::{Facts, Request, Root, UserRequest};
use sys::caps::CapSet;
use sys::mount::Overlay;

use super::join::Joined;
use crate::Engine;
use crate::config::HostConfig;
use crate::error::{Error, Result};
use crate::mount::MountPoint;
use crate::spec::{
    Files, Seccomp, Security, SpecRequest, gather_block_io, gather_devices, specification,
};
use crate::store::Container;

/// What was made for the container's process before it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given<'a> {
    /// The generated files; `None` leaves those that are there.
    pub(crate) files: Option<&'a Files>,
    /// Variables of links.
    pub(crate) links: &'a [String],
    /// The mounts with sources as they were found; `None` takes them from the record.
    pub(crate) mounts: Option<&'a [MountPoint]>,
}

/// Makes the runtime's request for a container.
///
/// # Errors
/// Docker's texts for options that this host cannot fulfil.
pub(crate) fn specify(
    engine: &Engine,
    container: &Container,
    joined: &Joined,
    given: Given<'_>,
    facts: &Facts,
) -> Result<Request> {
    let record = &container.record;
    let devices = gather_devices(&record.host)?;
    let block_io = gather_block_io(&record.host)?;
    let mut spec = specification(&SpecRequest {
        id: &record.id,
        config: &record.config,
        host: &record.host,
        mounts: given.mounts.unwrap_or(&record.mounts),
        files: given.files,
        links: given.links,
        namespaces: &joined.namespaces,
        shared_memory: joined
            .shared_memory
            .as_ref()
            .map(|(path, _)| path.as_path()),
        devices: &devices,
        block_io: block_io.as_ref(),
        cgroup_parent: &engine.options().cgroup_parent,
    })?;
    let filter = match spec.process_mut() {
        Some(process) => {
            let caps = limit(process, facts)?;
            filter(&record.host, caps, facts)?
        }
        None => None,
    };
    Ok(Request {
        spec,
        root: match record.host.rootfs_union.as_str() {
            "" => Root::Overlay(overlay(engine, container)),
            _ => Root::Directory(engine.store().union_of(container.id(), "root")),
        },
        user: Some(UserRequest {
            user: record.config.user.clone(),
            groups: record.host.group_add.clone().unwrap_or_default(),
        }),
        init: record.host.init == Some(true),
        filter,
    })
}

/// The image's layers with the container's own on top.
///
/// What it writes is what `diff` and `commit` read without a mount: whole files in their own places.
/// Some kernels are built to put only names and marks there unless told otherwise.
pub(crate) fn layers(engine: &Engine, container: &Container) -> Overlay {
    let mut overlay = LayerStore::open(engine.options().root.join("layers")).overlay(
        &container.record.layers,
        Some(&container.dir.upper()),
        Some(&container.dir.work()),
    );
    // Nor is the layer to be tied to the image's files by handles, as an index does.
    let whole = ["redirect_dir=off", "metacopy=off", "index=off"];
    overlay.options.extend(whole.map(str::to_owned));
    overlay
}

/// The same as a start mounts them.
fn overlay(engine: &Engine, container: &Container) -> Overlay {
    let mut overlay = layers(engine, container);
    if container.record.host.auto_remove {
        // What is thrown away need not reach the disk: the end would wait for all of it.
        overlay.options.push("volatile".to_owned());
    }
    overlay
}

/// Cuts the process's capabilities to those that the caller itself has: what it lacks it cannot
/// give. Returns what is left.
fn limit(process: &mut Process, facts: &Facts) -> Result<CapSet> {
    let Some(wanted) = process.capabilities() else {
        return Ok(CapSet::EMPTY);
    };
    let mut have = CapSet::EMPTY;
    let mut kept = HashSet::new();
    for capability in wanted.bounding().iter().flatten() {
        if let Some(known) = known(*capability)
            && facts.capabilities.contains(known)
        {
            have.insert(known);
            kept.insert(*capability);
        }
    }
    process.set_capabilities(Some(sets(kept)?));
    Ok(have)
}

fn known(capability: Capability) -> Option<sys::caps::Cap> {
    capability.to_string().parse().ok()
}

fn sets(set: HashSet<Capability>) -> Result<LinuxCapabilities> {
    LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .permitted(set.clone())
        .effective(set)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .map_err(|error| Error::system("cannot make the specification", error))
}

/// The seccomp filter that the container's options ask for.
pub(crate) fn filter(host: &HostConfig, caps: CapSet, facts: &Facts) -> Result<Option<Filter>> {
    match Security::read(host)?.seccomp {
        Seccomp::Unconfined => Ok(None),
        Seccomp::Default => Ok(Some(default_profile(caps))),
        Seccomp::Profile(text) => Profile::parse(text)
            .and_then(|profile| select(&profile, caps, facts))
            .map(Some)
            .map_err(|error| {
                Error::invalid(format!("opening seccomp profile failed: {error}")).because(error)
            }),
    }
}

/// Gives a further process all capabilities of the caller and no filter where it is to be
/// privileged; else it has those of the container.
///
/// # Errors
/// Only when the specification cannot be made.
pub(crate) fn exec_filter(
    process: &mut Process,
    privileged: bool,
    filter: Option<Filter>,
    facts: &Facts,
) -> Result<Option<Filter>> {
    if !privileged {
        return Ok(filter);
    }
    let host = HostConfig {
        privileged: true,
        ..HostConfig::default()
    };
    process.set_capabilities(Some(crate::spec::capabilities(&host)?));
    limit(process, facts)?;
    Ok(None)
}

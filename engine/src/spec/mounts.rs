//! What is mounted in a container: Docker's defaults, the generated files, the user's wishes.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder, Mount, MountBuilder};

use super::{Files, Namespace, SpecRequest, unbuilt};
use crate::error::Result;
use crate::mount::{MountKind, MountPoint, tmpfs};
use crate::volume::{DriverMount, driver_mount};

/// All mounts in order: the defaults, then everything else, parents first. A default at a place
/// that the user wants, or below a `/dev` of the user's, is left out.
pub(super) fn mounts(request: &SpecRequest<'_>) -> Result<Vec<Mount>> {
    let mut wanted = wanted(request)?;
    wanted.sort_by_key(|mount| parts(mount.destination()));
    let taken = |place: &Path| {
        wanted.iter().any(|mount| {
            mount.destination() == place
                || (mount.destination() == Path::new("/dev") && place.starts_with("/dev"))
        })
    };
    let mut all: Vec<Mount> = defaults(request)?
        .into_iter()
        .filter(|mount| !taken(mount.destination()))
        .collect();
    all.extend(wanted);
    Ok(all)
}

fn parts(path: &Path) -> usize {
    path.components().count()
}

/// Mounts that are shared with the host need a root that shares, too.
pub(super) fn root_propagation(mounts: &[MountPoint]) -> Option<String> {
    let any = |word: &str| mounts.iter().any(|mount| mount.propagation.ends_with(word));
    match (any("shared"), any("slave")) {
        (true, _) => Some("shared".to_owned()),
        (false, true) => Some("rslave".to_owned()),
        (false, false) => None,
    }
}

fn defaults(request: &SpecRequest<'_>) -> Result<Vec<Mount>> {
    let access = if request.host.privileged { "rw" } else { "ro" };
    let mut all = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"])?,
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        )?,
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        )?,
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access],
        )?,
        mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &[access, "nosuid", "noexec", "nodev"],
        )?,
        mount(
            "/dev/mqueue",
            "mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        )?,
    ];
    all.extend(shared_memory(request)?);
    Ok(all)
}

/// `/dev/shm`: its own, the host's, another container's, or none.
fn shared_memory(request: &SpecRequest<'_>) -> Result<Option<Mount>> {
    let bind = |source: &Path| {
        bind(
            "/dev/shm",
            source,
            &["rbind".to_owned(), "rprivate".to_owned()],
        )
    };
    match (&request.namespaces.ipc, request.shared_memory) {
        (Namespace::New, _) if request.host.ipc_mode == "none" => Ok(None),
        (Namespace::New, _) | (Namespace::Of(_), None) => {
            let size = format!("size={}", request.host.shm_size);
            let options = ["nosuid", "noexec", "nodev", "mode=1777", &size];
            mount("/dev/shm", "tmpfs", "shm", &options).map(Some)
        }
        (Namespace::Host, _) => bind(Path::new("/dev/shm")).map(Some),
        (Namespace::Of(_), Some(source)) => bind(source).map(Some),
    }
}

/// The generated files, `--tmpfs` and everything of the record.
fn wanted(request: &SpecRequest<'_>) -> Result<Vec<Mount>> {
    let mut all = Vec::new();
    if let Some(files) = request.files {
        let writable = !request.host.readonly_rootfs;
        all.extend(generated(files, request.mounts, writable)?);
    }
    for point in request.mounts {
        all.push(user_mount(point)?);
    }
    for (text, options) in &request.host.tmpfs {
        let place = tmpfs::destination(text)?;
        let options = tmpfs::options(options)?;
        all.push(mount(&place, "tmpfs", "tmpfs", &options)?);
    }
    Ok(all)
}

/// The generated files at their places, but for those that the user wants something else at.
fn generated(files: &Files, points: &[MountPoint], writable: bool) -> Result<Vec<Mount>> {
    let places = [
        ("/etc/resolv.conf", &files.resolv_conf),
        ("/etc/hostname", &files.hostname),
        ("/etc/hosts", &files.hosts),
    ];
    let free = places
        .into_iter()
        .filter(|(place, _)| points.iter().all(|point| point.destination != *place));
    free.map(|(place, source)| {
        let options = bind_options(true, "rprivate", access(writable, true));
        bind(place, source, &options)
    })
    .collect()
}

/// The volumes, host paths and generated files: what has files while the container does not run.
/// A container that was never started has no generated files yet.
pub(crate) fn file_mounts(points: &[MountPoint], files: &Files) -> Result<Vec<Mount>> {
    let mut all = generated(files, points, true)?;
    all.retain(|mount| mount.source().as_ref().is_some_and(|path| path.exists()));
    let with_files = points.iter().filter(|point| point.kind != MountKind::Tmpfs);
    for point in with_files {
        all.push(user_mount(point)?);
    }
    all.sort_by_key(|mount| parts(mount.destination()));
    Ok(all)
}

fn user_mount(point: &MountPoint) -> Result<Mount> {
    match point.kind {
        MountKind::Tmpfs => {
            let mut options: Vec<String> = ["noexec", "nosuid", "nodev"].map(str::to_owned).into();
            if !point.writable {
                options.push("ro".to_owned());
            }
            options.extend(point.options.iter().cloned());
            mount(&point.destination, "tmpfs", "tmpfs", &options)
        }
        MountKind::Bind | MountKind::Volume | MountKind::Union => {
            let driver = point
                .volume
                .as_ref()
                .and_then(|volume| volume.driver_config.as_ref());
            if let Some(driver) = driver.and_then(|driver| driver_mount(&driver.options)) {
                return volume_mount(point, driver);
            }
            let propagation = match point.propagation.as_str() {
                "" => "rprivate",
                word => word,
            };
            let access = access(point.writable, !point.read_only_top);
            let mut options = bind_options(!point.non_recursive, propagation, access);
            options.extend(settled(point));
            let mut mount = bind(&point.destination, Path::new(&point.source), &options)?;
            if let (Some(host), Some(inside)) = (point.idmap, point.inside) {
                mount.set_uid_mappings(Some(mappings(host.user, inside.user)?));
                mount.set_gid_mappings(Some(mappings(host.group, inside.group)?));
            }
            Ok(mount)
        }
    }
}

/// A volume whose content lies elsewhere.
fn volume_mount(point: &MountPoint, driver: DriverMount<'_>) -> Result<Mount> {
    match driver {
        DriverMount::Bind { device, options } => {
            let mut all = bind_options(true, "rprivate", access(point.writable, true));
            all.extend(settled(point));
            all.extend(options.into_iter().map(str::to_owned));
            bind(&point.destination, Path::new(device), &all)
        }
        DriverMount::FileSystem {
            kind,
            device,
            options,
        } => {
            let mut all: Vec<String> = options.into_iter().map(str::to_owned).collect();
            if !point.writable {
                all.push("ro".to_owned());
            }
            mount(&point.destination, kind, device, &all)
        }
    }
}

/// The host's one is the container's one; all others stay who they are.
fn mappings(host: u32, inside: u32) -> Result<Vec<LinuxIdMapping>> {
    sys::mount::one_as_another(host, inside)
        .into_iter()
        .map(|extent| {
            LinuxIdMappingBuilder::default()
                .container_id(extent.stored)
                .host_id(extent.shown)
                .size(extent.count)
                .build()
                .map_err(unbuilt)
        })
        .collect()
}

/// Where the source was looked at no link may have come on the way since.
fn settled(point: &MountPoint) -> Option<String> {
    point.settled.then(|| runtime::mounts::NO_LINKS.to_owned())
}

/// The word for what may be written: `rro` reaches what is mounted below, `ro` does not.
fn access(writable: bool, recursive: bool) -> Option<&'static str> {
    match (writable, recursive) {
        (true, _) => None,
        (false, true) => Some("rro"),
        (false, false) => Some("ro"),
    }
}

fn bind_options(recursive: bool, propagation: &str, access: Option<&str>) -> Vec<String> {
    let how = if recursive { "rbind" } else { "bind" };
    let words = [Some(how), access, Some(propagation)];
    words.into_iter().flatten().map(str::to_owned).collect()
}

fn bind(place: &str, source: &Path, options: &[String]) -> Result<Mount> {
    build(place, "bind", source.to_owned(), options.to_vec())
}

fn mount(place: &str, kind: &str, source: &str, options: &[impl AsRef<str>]) -> Result<Mount> {
    let options = options
        .iter()
        .map(|option| option.as_ref().to_owned())
        .collect();
    build(place, kind, PathBuf::from(source), options)
}

fn build(place: &str, kind: &str, source: PathBuf, options: Vec<String>) -> Result<Mount> {
    MountBuilder::default()
        .destination(place)
        .typ(kind)
        .source(source)
        .options(options)
        .build()
        .map_err(unbuilt)
}

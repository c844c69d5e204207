//! `create`: from a request and an image to a stopped container on disk.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use image::ImageError;
use image::config::RunConfig;
use overlayfs::LayerId;
use overlayfs::union::UnionError;
use overlayfs::union::options::Options;

use super::check::{Processors, check};
use super::merge::merge;
use crate::Engine;
use crate::config::{Config, HostConfig};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::{ContainerId, random_hex};
use crate::link::Link;
use crate::link::resolve::{aliases_of_links, shadowed};
use crate::mount::{Inherited, MountKind, MountPoint, VolumesFrom, Wishes, settle};
use crate::name::ContainerName;
use crate::network::NetworkWish;
use crate::store::record::EndpointWish;
use crate::store::{Container, Record, replace_json};
use crate::time::Time;

/// What the user asks for; nothing of the image is in it yet.
///
/// `config.image` is the reference as typed. `config.entrypoint` of `Some([""])` or `Some([])`
/// clears the image's entrypoint and command. `config.env` holds only the user's own variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateRequest {
    /// `--name`; without it a name is drawn.
    pub name: Option<ContainerName>,
    /// What runs. `--no-healthcheck` is a health check with the test `["NONE"]`.
    pub config: Config,
    /// How it meets the host.
    pub host: HostConfig,
    /// What is wanted of the network that `host.network_mode` names.
    pub endpoint: EndpointWish,
    /// Further networks, in order of attachment.
    pub networks: Vec<NetworkWish>,
}

/// A container that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// Its id.
    pub id: ContainerId,
    /// Its name, drawn or as asked.
    pub name: ContainerName,
    /// What the user should know, Docker's texts.
    pub warnings: Vec<String>,
}

/// What is needed of an image.
#[derive(Debug, Clone, Default)]
pub(crate) struct ImageParts {
    /// `sha256:…`.
    pub(crate) id: String,
    /// How its containers run.
    pub(crate) config: RunConfig,
    /// Bottom layer first.
    pub(crate) layers: Vec<LayerId>,
}

/// The image that is none.
const SCRATCH: &str = "scratch";

/// Attempts at a name of our own before the request fails.
const NAME_ATTEMPTS: u32 = 6;

impl Engine {
    /// Makes a container, stopped: merges the request with the image's config, checks it, reserves
    /// the name and writes the container's directory.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown image, [`ErrorKind::Conflict`] for a name in use,
    /// [`ErrorKind::InvalidParameter`] for what Docker refuses.
    pub fn create(&self, request: &CreateRequest) -> Result<Created> {
        self.create_from(request, &self.parts_for(request)?)
    }

    /// What is needed of the image that a container is to be made from: nothing, where its root is
    /// a union and the image is called `scratch`.
    pub(crate) fn parts_for(&self, request: &CreateRequest) -> Result<ImageParts> {
        match (
            request.host.rootfs_union.as_str(),
            request.config.image.as_str(),
        ) {
            (union, SCRATCH) if !union.is_empty() => Ok(ImageParts::default()),
            (_, name) => self.image_parts(name),
        }
    }

    /// The image that a request names.
    pub(crate) fn image_parts(&self, name: &str) -> Result<ImageParts> {
        let image = self
            .images()
            .resolve(name)
            .map_err(|error| of_image(name, error))?;
        Ok(ImageParts {
            id: image.id.to_string(),
            config: image.config.config,
            layers: image.layers,
        })
    }

    /// [`Engine::create`] once the image is known.
    pub(crate) fn create_from(
        &self,
        request: &CreateRequest,
        image: &ImageParts,
    ) -> Result<Created> {
        self.store().sweep()?;
        // nobody removes a volume between our look at it and our being seen
        let lock = match uses_volumes(request, image) {
            true => Some(self.store().share_volumes()?),
            false => None,
        };
        let (record, warnings) = self.describe(request, image)?;
        let links = self.resolve_links(&record.host)?;
        let container = match self.write(record, request, links) {
            Ok(container) => container,
            // what fails for want of a layer fails for want of the image
            Err(error) => return Err(self.image_is_there(request, image).err().unwrap_or(error)),
        };
        drop(lock);
        self.confirm_marks(&container)?;
        let made = self
            .image_is_there(request, image)
            .and_then(|()| self.make_volumes(&container));
        if let Err(error) = made {
            self.forget(&container, true)?;
            return Err(error);
        }
        self.events()
            .append(&Event::of_container(&container, "create", &[]))?;
        Ok(Created {
            id: container.record.id,
            name: container.name.parse()?,
            warnings,
        })
    }

    /// An image may be removed while a container is made from it. Whoever removes it looks for
    /// containers once it has gone, we look for it once we can be seen: one of us sees the other.
    fn image_is_there(&self, request: &CreateRequest, image: &ImageParts) -> Result<()> {
        match image.id.parse() {
            Ok(id) if !self.images().exists(id) => {
                let name = request.config.image.clone();
                Err(of_image(&name, ImageError::NotFound(name.clone())))
            }
            _ => Ok(()),
        }
    }

    /// The record of a container that would be made, without a name, and what the user should
    /// know. Nothing is written.
    pub(crate) fn describe(
        &self,
        request: &CreateRequest,
        image: &ImageParts,
    ) -> Result<(Record, Vec<String>)> {
        let id = ContainerId::random()?;
        let mut host = request.host.clone();
        let mut config = merge(request.config.clone(), &image.config);
        check(&request.config, &config, &host, &Processors::read(&host))?;
        self.check_root(&id, &host.rootfs_union)?;
        let mut endpoint = request.endpoint.clone();
        endpoint.links.extend(aliases_of_links(&mut host)?);
        self.check_not_own(request)?;
        self.check_networks(&mut host, &endpoint, &request.networks)?;
        let warnings = warnings(&host);
        self.complete(&id, &mut config, &mut host)?;
        let mounts = self.mounts(&config, &host)?;
        let record = Record {
            version: Record::VERSION,
            id,
            created: Time::now(),
            name: String::new(),
            image: image.id.clone(),
            layers: image.layers.clone(),
            config,
            host,
            mounts,
            endpoint,
        };
        Ok((record, warnings))
    }

    /// A container that is not there yet has no network to join.
    fn check_not_own(&self, request: &CreateRequest) -> Result<()> {
        let joined = request.host.network_mode.strip_prefix("container:");
        let own = |name: &str| {
            request
                .name
                .as_ref()
                .is_some_and(|own| own.as_str() == name)
        };
        match joined {
            Some(name) if own(name) && self.find(name).is_err() => {
                Err(Error::invalid("cannot join own network")
                    .hint("name another container with --network container:NAME"))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a root that could not be mounted.
    fn check_root(&self, id: &ContainerId, union: &str) -> Result<()> {
        if union.is_empty() {
            return Ok(());
        }
        let target = self.store().union_of(id, "root");
        let parsed = Options::parse(union).map_err(UnionError::from);
        let checked = parsed.and_then(|options| overlayfs::union::check(&options, &target));
        checked.map_err(|error| {
            Error::invalid(format!("invalid root of branches: {error}")).hint(
                "--rootfs-union takes PATH=rw:PATH=ro[,OPTIONS], as 'rbox union mount -o dirs=' \
                 does; the image lies below them",
            )
        })
    }

    /// The mounts of a container, anonymous volumes named and places known.
    fn mounts(&self, config: &Config, host: &HostConfig) -> Result<Vec<MountPoint>> {
        let mut inherited = Vec::new();
        for text in host.volumes_from.iter().flatten() {
            let from = VolumesFrom::parse(text)?;
            inherited.push(Inherited {
                read_only: from.read_only,
                mounts: self.find(&from.container)?.record.mounts,
            });
        }
        let mut mounts = settle(Wishes {
            config,
            host,
            inherited: &inherited,
        })?;
        for mount in &mut mounts {
            if mount.kind == MountKind::Volume {
                if mount.name.is_empty() {
                    mount.name = random_hex()?;
                }
                self.place_volume(mount)?;
            }
        }
        Ok(mounts)
    }

    /// Writes the container's directory aside, takes its name and publishes it.
    fn write(
        &self,
        mut record: Record,
        request: &CreateRequest,
        links: Vec<Link>,
    ) -> Result<Container> {
        let store = self.store();
        let aside = store.make_aside(&record.id)?;
        make(&aside.dir().upper())?;
        make(&aside.dir().work())?;
        self.dress_root(&record, &aside.dir().upper())?;
        self.write_networks(&record, request, &aside.dir().networks())?;
        let name = self.take_name(&record.id, request.name.as_ref())?;
        name.as_str().clone_into(&mut record.name);
        let written = self
            .write_links(&record.id, aside.dir(), links)
            .and_then(|()| write_record(&aside.dir().config(), &record))
            .and_then(|()| aside.publish(store));
        match written {
            Ok(dir) => Ok(Container {
                name: record.name.clone(),
                run: store.run(&record.id),
                record,
                dir,
            }),
            Err(error) => {
                store.release(&name, &record.id)?;
                Err(error)
            }
        }
    }

    /// Writes down the networks where there is more than the one that the record names.
    fn write_networks(&self, record: &Record, request: &CreateRequest, path: &Path) -> Result<()> {
        if request.networks.is_empty() {
            return Ok(());
        }
        let mut host = record.host.clone();
        let all = self.check_networks(&mut host, &record.endpoint, &request.networks)?;
        replace_json(path, &all)
    }

    /// Gives the writable layer's root the owner and mode of the image's: it is the one that is
    /// seen.
    fn dress_root(&self, record: &Record, upper: &Path) -> Result<()> {
        let Some(top) = record.layers.last() else {
            return Ok(());
        };
        let tree = self.images().layers().tree(*top);
        let wanted = fs::symlink_metadata(&tree)
            .map_err(|error| Error::file("look at the layer", &tree, error))?;
        if (wanted.uid(), wanted.gid()) != (0, 0) {
            std::os::unix::fs::chown(upper, Some(wanted.uid()), Some(wanted.gid()))
                .map_err(|error| Error::file("change the owner of", upper, error))?;
        }
        if wanted.mode() & 0o7777 != 0o755 {
            fs::set_permissions(upper, wanted.permissions())
                .map_err(|error| Error::file("change the mode of", upper, error))?;
        }
        Ok(())
    }

    fn take_name(&self, id: &ContainerId, wanted: Option<&ContainerName>) -> Result<ContainerName> {
        if let Some(name) = wanted {
            self.store().reserve(name, id)?;
            return Ok(name.clone());
        }
        let mut attempt = 0;
        loop {
            let name = ContainerName::random(attempt)?;
            match self.store().reserve(&name, id) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < NAME_ATTEMPTS => {
                    attempt += 1;
                }
                // all our names are taken: the short id never is
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    let name: ContainerName = id.short().parse()?;
                    self.store().reserve(&name, id)?;
                    return Ok(name);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The container may have volumes; a host path among the binds is one too many, which costs little.
fn uses_volumes(request: &CreateRequest, image: &ImageParts) -> bool {
    let host = &request.host;
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    some(&host.binds)
        || some(&host.volumes_from)
        || !host.mounts.is_empty()
        || request
            .config
            .volumes
            .as_ref()
            .is_some_and(|places| !places.is_empty())
        || image
            .config
            .volumes
            .as_ref()
            .is_some_and(|places| !places.is_empty())
}

/// An error of the image store in the engine's kinds; the words are Docker's already.
fn of_image(name: &str, error: ImageError) -> Error {
    let kind = match &error {
        ImageError::NotFound(_) => ErrorKind::NotFound,
        ImageError::Ambiguous(_) | ImageError::Reference(_) | ImageError::Change(_) => {
            ErrorKind::InvalidParameter
        }
        ImageError::Conflict(_) => ErrorKind::Conflict,
        ImageError::Archive(_)
        | ImageError::Layers(_)
        | ImageError::Damaged { .. }
        | ImageError::Users(_)
        | ImageError::Step { .. } => ErrorKind::System,
    };
    match kind {
        ErrorKind::System => Error::system(format!("cannot use image {name:?}"), error),
        kind => Error::new(kind, error.to_string()),
    }
}

fn warnings(host: &HostConfig) -> Vec<String> {
    let mut all = Vec::new();
    let published = !host.port_bindings.is_empty() || host.publish_all_ports;
    if host.network_mode == "host" && published {
        all.push("Published ports are discarded when using host network mode".to_owned());
    }
    let links = host.links.as_ref().is_some_and(|links| !links.is_empty());
    if host.network_mode == "none" && links {
        all.push("Links are discarded when using none network mode".to_owned());
    } else if let Some(links) = &host.links {
        all.extend(shadowed(links));
    }
    if host.oom_kill_disable && host.memory == 0 {
        all.push(
            "OOM killer is disabled for the container, but no memory limit is set, this can \
             result in the system running out of resources."
                .to_owned(),
        );
    }
    all
}

fn make(path: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .mode(0o755)
        .create(path)
        .map_err(|error| Error::file("make the directory", path, error))
}

/// Writes the record. Unless the container goes with its process, the record survives a power loss:
/// it is synced before anything names it.
fn write_record(path: &Path, record: &Record) -> Result<()> {
    let content = serde_json::to_vec(record)
        .map_err(|error| Error::system("cannot encode the container's record", error))?;
    let fault = |error| Error::file("write", path, error);
    if record.host.auto_remove {
        return fs::write(path, content).map_err(fault);
    }
    let mut file = fs::File::create(path).map_err(fault)?;
    file.write_all(&content).map_err(fault)?;
    file.sync_data().map_err(fault)
}

#[cfg(test)]
pub(crate) mod tests;

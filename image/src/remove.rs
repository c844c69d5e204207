//! Taking names and images away: `rmi`, with Docker's conflicts and Docker's lines.

use std::collections::HashSet;

use overlayfs::{ChainId, LayerId};

use crate::config::ImageConfig;
use crate::digest::ImageId;
use crate::reference::Reference;
use crate::store::{Image, ImageError, ImageStore, Result};

/// A container that was made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's id.
    pub container: String,
    /// Its image.
    pub image: ImageId,
    /// The image's layers that its root file system stands on: they stay.
    pub layers: Vec<LayerId>,
    /// Whether it runs, or is paused.
    pub running: bool,
}

/// Looks who stands on images now. It is asked again once an image has gone: a container that was
/// being made meanwhile is seen then, and keeps its layers.
pub type Look<'a> = &'a dyn Fn() -> Result<Vec<ImageUser>>;

/// One line that `rmi` prints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// `Untagged: x:latest`.
    Untagged(Reference),
    /// `Deleted: sha256:…`, an image.
    Image(ImageId),
    /// `Deleted: sha256:…`, a layer, by the stack that it tops.
    Layer(ChainId),
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(reference) => write!(f, "Untagged: {}", reference.familiar()),
            Self::Image(id) => write!(f, "Deleted: {id}"),
            Self::Layer(id) => write!(f, "Deleted: {id}"),
        }
    }
}

impl ImageStore {
    /// Takes a name away, and the image with its layers if that was its last.
    ///
    /// # Errors
    /// [`ImageError::Conflict`] where a container or another name is in the way;
    /// [`ImageError::NotFound`].
    pub fn remove(&self, name: &str, force: bool, look: Look<'_>) -> Result<Vec<Removed>> {
        let _lock = self.lock()?;
        let (mut removed, parent) = self.remove_one(name, force, look)?;
        self.remove_parents(parent, look, &mut removed)?;
        Ok(removed)
    }

    /// The same, but the images that it was committed on stay (`--no-prune`).
    ///
    /// # Errors
    /// As [`ImageStore::remove`].
    pub fn remove_alone(&self, name: &str, force: bool, look: Look<'_>) -> Result<Vec<Removed>> {
        let _lock = self.lock()?;
        Ok(self.remove_one(name, force, look)?.0)
    }

    /// What was removed, and the image that it was committed on where it is gone itself.
    fn remove_one(
        &self,
        name: &str,
        force: bool,
        look: Look<'_>,
    ) -> Result<(Vec<Removed>, Option<ImageId>)> {
        let image = self.resolve_to_remove(name)?;
        let tags = self.names_of(image.id)?;
        let users = of_image(look()?, image.id);
        let mut removed = Vec::new();
        if !names_id(name, image.id) {
            if !force
                && tags.len() <= 1
                && let Some(user) = users.first()
            {
                return Err(ImageError::Conflict(format!(
                    "unable to remove repository reference {name:?} (must force) - container {} \
                     is using its referenced image {}",
                    short(&user.container),
                    image.id.short()
                )));
            }
            let reference = name.parse::<Reference>()?.or_latest();
            self.remove_tag(&reference)?;
            removed.push(Removed::Untagged(reference));
            if tags.len() > 1 {
                return Ok((removed, None));
            }
            // What is in use only loses its name.
            if self.conflict(&image, &[], &users, force)?.is_some() {
                return Ok((removed, None));
            }
        } else {
            let one_repository = tags.iter().all(|tag| tag.same_repository(&tags[0]));
            let counted = if tags.len() <= 1 && one_repository {
                &[]
            } else {
                &tags[..]
            };
            if let Some(conflict) = self.conflict(&image, counted, &users, force)? {
                return Err(conflict);
            }
        }
        for tag in self.names_of(image.id)? {
            self.remove_tag(&tag)?;
            removed.push(Removed::Untagged(tag));
        }
        let parent = self.record(image.id).ok().and_then(|record| record.parent);
        self.take_away(image.id)?;
        removed.push(Removed::Image(image.id));
        removed.extend(self.remove_layers(&image, &look()?)?);
        Ok((removed, parent))
    }

    /// Removes the images that one which is gone was committed on, as long as they have neither a
    /// name nor another use.
    fn remove_parents(
        &self,
        mut next: Option<ImageId>,
        look: Look<'_>,
        removed: &mut Vec<Removed>,
    ) -> Result<()> {
        while let Some(id) = next {
            let in_use = look()?.iter().any(|user| user.image == id);
            if in_use || !self.names_of(id)?.is_empty() || self.has_children(id)? {
                return Ok(());
            }
            // A parent that cannot be read is left to `check`.
            let (Ok(image), Ok(record)) = (self.get(id), self.record(id)) else {
                return Ok(());
            };
            self.take_away(id)?;
            removed.push(Removed::Image(id));
            removed.extend(self.remove_layers(&image, &look()?)?);
            next = record.parent;
        }
        Ok(())
    }

    /// Whether some image was committed on this one.
    fn has_children(&self, id: ImageId) -> Result<bool> {
        for other in self.ids()? {
            // One that is damaged says nothing, and must not keep others from being removed.
            let parent = self.record(other).ok().and_then(|record| record.parent);
            if parent == Some(id) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All layers that some image stands on.
    ///
    /// # Errors
    /// Those of reading the images: where one is damaged nothing can be told.
    pub fn used_layers(&self) -> Result<HashSet<LayerId>> {
        let mut used = HashSet::new();
        for id in self.ids()? {
            used.extend(self.record(id)?.layers);
        }
        Ok(used)
    }

    /// Removes layers that neither an image nor a container stands on, and what crashes left.
    ///
    /// # Errors
    /// As [`ImageStore::used_layers`].
    pub fn collect(&self, users: &[ImageUser]) -> Result<Vec<LayerId>> {
        let _lock = self.lock()?;
        let mut used = self.used_layers()?;
        used.extend(users.iter().flat_map(|user| user.layers.iter().copied()));
        Ok(self.layers().collect(&used)?)
    }

    /// As [`ImageStore::resolve`], but an image whose documents are damaged can be removed too.
    fn resolve_to_remove(&self, name: &str) -> Result<Image> {
        let id = self.find(name)?;
        match self.get(id) {
            Err(ImageError::Damaged { .. } | ImageError::NotFound(_)) => Ok(Image {
                id,
                config: ImageConfig::default(),
                layers: Vec::new(),
                size: 0,
            }),
            other => other,
        }
    }

    /// Removes layers that were unpacked for an image that did not come to be.
    pub(crate) fn forget(&self, layers: &[LayerId]) -> Result<()> {
        let _lock = self.lock()?;
        let used = self.used_layers()?;
        for layer in layers.iter().filter(|layer| !used.contains(layer)) {
            self.layers().remove(*layer)?;
        }
        Ok(())
    }

    fn names_of(&self, id: ImageId) -> Result<Vec<Reference>> {
        let tags = self.tags()?.into_iter();
        Ok(tags
            .filter(|tag| tag.image == id)
            .map(|tag| tag.reference)
            .collect())
    }

    fn conflict(
        &self,
        image: &Image,
        tags: &[Reference],
        users: &[ImageUser],
        force: bool,
    ) -> Result<Option<ImageError>> {
        let error = |how: &str, why: String| {
            let id = image.id.short();
            Ok(Some(ImageError::Conflict(format!(
                "unable to delete {id} ({how}) - {why}"
            ))))
        };
        if self.has_children(image.id)? {
            let why = "image has dependent child images".to_owned();
            return error("cannot be forced", why);
        }
        if let Some(user) = users.iter().find(|user| user.running) {
            let container = short(&user.container);
            return error(
                "cannot be forced",
                format!("image is being used by running container {container}"),
            );
        }
        if force {
            return Ok(None);
        }
        if !tags.is_empty() {
            return error(
                "must be forced",
                "image is referenced in multiple repositories".to_owned(),
            );
        }
        let Some(user) = users.first() else {
            return Ok(None);
        };
        let container = short(&user.container);
        error(
            "must be forced",
            format!("image is being used by stopped container {container}"),
        )
    }

    /// Removes the layers of an image that is gone, top first, down to the first that is used.
    fn remove_layers(&self, image: &Image, users: &[ImageUser]) -> Result<Vec<Removed>> {
        // Where another image cannot be read nobody knows what it stands on: all layers stay.
        let Ok(mut used) = self.used_layers() else {
            return Ok(Vec::new());
        };
        used.extend(users.iter().flat_map(|user| user.layers.iter().copied()));
        let chains = ChainId::of_each(&image.config.rootfs.diff_ids);
        let mut removed = Vec::new();
        for (layer, chain) in image.layers.iter().zip(chains).rev() {
            if !used.contains(layer) {
                self.layers().remove(*layer)?;
                removed.push(Removed::Layer(chain));
            }
        }
        Ok(removed)
    }
}

fn of_image(mut users: Vec<ImageUser>, image: ImageId) -> Vec<ImageUser> {
    users.retain(|user| user.image == image);
    users
}

/// Whether the user named the image by its id or the beginning of it.
fn names_id(name: &str, id: ImageId) -> bool {
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    id.hex().starts_with(bare)
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

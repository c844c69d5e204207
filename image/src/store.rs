//! The image store: images by id, and names that lead to them.
//!
//! ```text
//!   images/
//!     sha256/<hex>/          an image; never changes
//!       config.json          its config document, byte for byte: its digest is the id
//!       image.json           its layers' names in the layer store, its size, when it came
//!     tags/<reference>       symbolic link to ../sha256/<hex>; a reference's `/` is written `+`
//!     making/                images on their way in
//! ```
//!
//! A name is read with one readlink, an image with two opens; nothing is searched unless an id was
//! shortened. An image is in place before a name leads to it, and its layers before the image is.
//! Writers hold the lock of `images` while they change names or images, never while they unpack.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use overlayfs::{LayerId, LayerStore, StoreError};
use serde::{Deserialize, Serialize};
use sys::SysError;
use sys::fs::{self, Dir, Durability, errno};

use crate::config::ImageConfig;
use crate::digest::{Digest, ImageId};
use crate::reference::{Reference, ReferenceError, is_identifier};

pub(crate) const IMAGES: &str = "sha256";
const MAKING: &str = "making";
const CONFIG: &str = "config.json";
const RECORD: &str = "image.json";

/// The images of one engine, and their layers.
#[derive(Debug, Clone)]
pub struct ImageStore {
    root: PathBuf,
    layers: LayerStore,
}

/// An image with what is needed to run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: ImageId,
    /// Its config document.
    pub config: ImageConfig,
    /// Its layers in the layer store, bottom first.
    pub layers: Vec<LayerId>,
    /// Bytes of all its layers' files.
    pub size: u64,
}

/// What is stored beside the config document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Bottom first.
    pub(crate) layers: Vec<LayerId>,
    /// Bytes of all layers' files.
    pub(crate) size: u64,
    /// Bytes of each layer's files, bottom first.
    pub(crate) sizes: Vec<u64>,
    /// The image that this one was committed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<ImageId>,
}

/// One line of a list of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The image.
    pub image: Image,
    /// All its names, sorted.
    pub tags: Vec<Reference>,
}

/// The store cannot do what was asked; Docker's wording where it has one.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Nothing has this name or id.
    #[error("No such image: {0}")]
    NotFound(String),
    /// Several ids begin so.
    #[error("Multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// The name is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The image is in use.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A change that `import` or `commit` does not know or cannot read.
    #[error(transparent)]
    Change(#[from] crate::change::ChangeError),
    /// The archive is not what it should be.
    #[error(transparent)]
    Archive(#[from] crate::layout::LayoutError),
    /// The layers cannot be stored or read.
    #[error(transparent)]
    Layers(#[from] StoreError),
    /// A document in the store cannot be read.
    #[error("the {document} of image {image} is damaged")]
    Damaged {
        /// Which image.
        image: ImageId,
        /// Which document.
        document: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// Nobody can tell which containers stand on images.
    #[error("cannot tell which containers use images")]
    Users(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel refused a step.
    #[error("cannot {what}")]
    Step {
        /// What was tried.
        what: &'static str,
        /// What was refused.
        #[source]
        source: SysError,
    },
}

/// The result of most functions here.
pub type Result<T> = std::result::Result<T, ImageError>;

impl From<io::Error> for ImageError {
    fn from(error: io::Error) -> Self {
        Self::Archive(crate::layout::LayoutError::Output(error))
    }
}

pub(crate) fn step(what: &'static str) -> impl Fn(SysError) -> ImageError {
    move |source| ImageError::Step { what, source }
}

impl ImageStore {
    /// Names the store beneath an engine's root directory; nothing is read.
    pub fn open(root: &Path) -> Self {
        Self {
            root: root.join("images"),
            layers: LayerStore::open(root.join("layers")),
        }
    }

    /// The store's own directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The layers.
    pub fn layers(&self) -> &LayerStore {
        &self.layers
    }

    /// Finds an image by its name, its id or the beginning of its id.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`], [`ImageError::Reference`].
    pub fn resolve(&self, name: &str) -> Result<Image> {
        self.get(self.find(name)?)
    }

    /// Finds an image's id, as [`ImageStore::resolve`].
    ///
    /// # Errors
    /// As [`ImageStore::resolve`].
    pub fn find(&self, name: &str) -> Result<ImageId> {
        if let Some(id) = full_id(name) {
            return match self.exists(id) {
                true => Ok(id),
                false => Err(ImageError::NotFound(name.to_owned())),
            };
        }
        let reference = Reference::from_str(name).map(Reference::or_latest);
        if let Ok(reference) = &reference
            && let Some(id) = self.follow(reference)?
        {
            return Ok(id);
        }
        let prefix = name.strip_prefix("sha256:").unwrap_or(name);
        if let Some(id) = self.by_prefix(prefix, name)? {
            return Ok(id);
        }
        Err(ImageError::NotFound(reference?.familiar()))
    }

    /// Reads an image by its id.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Damaged`].
    pub fn get(&self, id: ImageId) -> Result<Image> {
        let record = self.record(id)?;
        let config = serde_json::from_slice(&self.config_text(id)?);
        Ok(Image {
            id,
            config: config.map_err(|source| damaged(id, "config", source))?,
            layers: record.layers,
            size: record.size,
        })
    }

    /// An image's config document, byte for byte.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Step`].
    pub fn config_text(&self, id: ImageId) -> Result<Vec<u8>> {
        self.read(id, CONFIG)
    }

    pub(crate) fn record(&self, id: ImageId) -> Result<Record> {
        serde_json::from_slice(&self.read(id, RECORD)?)
            .map_err(|source| damaged(id, "record", source))
    }

    /// All images with their names, newest first.
    ///
    /// # Errors
    /// [`ImageError::Step`]; images whose documents are damaged are left to `check`.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let tags = self.tags()?;
        let mut list = Vec::new();
        for id in self.ids()? {
            let image = match self.get(id) {
                Ok(image) => image,
                Err(ImageError::Step { what, source }) => {
                    return Err(ImageError::Step { what, source });
                }
                Err(_) => continue,
            };
            let tags = tags.iter().filter(|tag| tag.image == id);
            let tags = tags.map(|tag| tag.reference.clone()).collect();
            list.push(Summary { image, tags });
        }
        list.sort_by(|a, b| b.image.config.created.cmp(&a.image.config.created));
        Ok(list)
    }

    /// All ids, sorted.
    ///
    /// # Errors
    /// [`ImageError::Step`].
    pub fn ids(&self) -> Result<Vec<ImageId>> {
        let entries = match Dir::open(self.root.join(IMAGES)).and_then(|dir| dir.entries()) {
            Err(error) if error.errno() == errno::ENOENT => return Ok(Vec::new()),
            other => other.map_err(step("list the images"))?,
        };
        let names = entries.iter().filter_map(|entry| entry.name.to_str());
        Ok(names
            .filter_map(|name| Digest::from_hex(name).ok().map(ImageId))
            .collect())
    }

    /// Puts an image in place; one of the same id that is there already stays.
    pub(crate) fn put(&self, config: &[u8], record: &Record) -> Result<ImageId> {
        let fail = step("store the image");
        let id = ImageId(Digest::of(config));
        let images = Dir::ensure(self.root.join(IMAGES), 0o700).map_err(&fail)?;
        let making = Dir::ensure(self.root.join(MAKING), 0o700).map_err(&fail)?;
        // The lock is held: what lies here is of somebody who is gone.
        making.empty().map_err(&fail)?;
        making.make_dir(id.hex(), 0o700).map_err(&fail)?;
        let dir = making.enter(id.hex(), fs::Follow::Never).map_err(&fail)?;
        let text = serde_json::to_vec(record).map_err(|source| damaged(id, "record", source))?;
        fs::replace(&dir, CONFIG, config, 0o600, Durability::Power).map_err(&fail)?;
        fs::replace(&dir, RECORD, &text, 0o600, Durability::Power).map_err(&fail)?;
        match making.rename_new(id.hex(), &images, id.hex()) {
            Err(error) if error.errno() == errno::EEXIST => {
                // What is there may be what a check found damaged: the whole one replaces it.
                if self.get(id).is_err() {
                    images.remove_tree(id.hex()).map_err(&fail)?;
                    making
                        .rename_new(id.hex(), &images, id.hex())
                        .map_err(&fail)?;
                }
                making.remove_tree(id.hex()).map_err(&fail)?;
            }
            other => other.map_err(&fail)?,
        }
        images.sync().map_err(&fail)?;
        Ok(id)
    }

    /// Puts an image in place and gives it names; tells which images had them before. The lock is
    /// held. An image that can be given none of its names is not left.
    pub(crate) fn put_named(
        &self,
        config: &[u8],
        record: &Record,
        names: &[Reference],
    ) -> Result<(ImageId, Vec<Option<ImageId>>)> {
        let new = !self.exists(ImageId(Digest::of(config)));
        let id = self.put(config, record)?;
        let mut before = Vec::new();
        for name in names {
            let named = self.follow(name).and_then(|old| {
                self.set_tag(name, id)?;
                Ok(old)
            });
            match named {
                Ok(old) => before.push(old),
                Err(error) => {
                    if new && before.is_empty() {
                        self.take_away(id)?;
                    }
                    return Err(error);
                }
            }
        }
        Ok((id, before))
    }

    /// Takes an image away; gone already is success.
    pub(crate) fn take_away(&self, id: ImageId) -> Result<()> {
        let fail = step("remove the image");
        let images = Dir::open(self.root.join(IMAGES)).map_err(&fail)?;
        let making = Dir::ensure(self.root.join(MAKING), 0o700).map_err(&fail)?;
        making.empty().map_err(&fail)?;
        match images.rename(id.hex(), &making, id.hex()) {
            Err(error) if error.errno() != errno::ENOENT => return Err(fail(error)),
            _ => {}
        }
        images.sync().map_err(&fail)?;
        making.empty().map_err(&fail)
    }

    /// Makes the store's directory where it is missing.
    pub(crate) fn prepare(&self) -> Result<()> {
        let made = Dir::ensure(&self.root, 0o700);
        made.map(drop).map_err(step("make the image store"))
    }

    /// Keeps other writers away until it is dropped.
    pub(crate) fn lock(&self) -> Result<Dir> {
        let fail = step("lock the image store");
        let dir = Dir::ensure(&self.root, 0o700).map_err(&fail)?;
        dir.lock().map_err(&fail)?;
        Ok(dir)
    }

    /// Whether the image is in the store: one look at a file, no document is read.
    pub fn exists(&self, id: ImageId) -> bool {
        self.root.join(IMAGES).join(id.hex()).exists()
    }

    fn by_prefix(&self, prefix: &str, typed: &str) -> Result<Option<ImageId>> {
        if prefix.is_empty()
            || !prefix
                .bytes()
                .all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Ok(None);
        }
        let mut ids = self.ids()?;
        ids.retain(|id| id.hex().starts_with(prefix));
        match ids[..] {
            [] => Ok(None),
            [id] => Ok(Some(id)),
            _ => Err(ImageError::Ambiguous(typed.to_owned())),
        }
    }

    fn read(&self, id: ImageId, document: &str) -> Result<Vec<u8>> {
        let path = self.root.join(IMAGES).join(id.hex()).join(document);
        std::fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ImageError::NotFound(id.to_string()),
            _ => step("read the image")(SysError::from_io(format!("open({path:?})"), error)),
        })
    }
}

fn damaged(image: ImageId, document: &'static str, source: serde_json::Error) -> ImageError {
    ImageError::Damaged {
        image,
        document,
        source,
    }
}

fn full_id(name: &str) -> Option<ImageId> {
    match name.strip_prefix("sha256:") {
        Some(hex) if is_identifier(hex) => name.parse().ok(),
        _ => Digest::from_hex(name).ok().map(ImageId),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn stored(store: &ImageStore, text: &str) -> ImageId {
        let record = Record {
            layers: Vec::new(),
            size: 0,
            sizes: Vec::new(),
            parent: None,
        };
        store.put(text.as_bytes(), &record).unwrap()
    }

    pub(crate) fn config(n: u32) -> String {
        format!(r#"{{"created":"2026-01-01T00:00:0{n}Z","config":{{}},"rootfs":{{}}}}"#)
    }

    #[test]
    fn finds_images_by_name_and_id_and_prefix() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        assert!(store.list().unwrap().is_empty());
        assert_eq!(
            store.find("alpine").unwrap_err().to_string(),
            "No such image: alpine:latest"
        );
        let id = stored(&store, &config(1));
        store.tag(&id.to_string(), "me/x:1").unwrap();
        store.tag("me/x:1", "alpine").unwrap();
        for name in [
            "me/x:1",
            "docker.io/me/x:1",
            "alpine",
            "alpine:latest",
            &id.hex(),
            &id.to_string(),
            &id.short(),
            &id.to_string()[..20],
            &id.hex()[..1],
        ] {
            assert_eq!(store.find(name).unwrap(), id, "{name}");
        }
        for (name, message) in [
            ("me/x", "No such image: me/x:latest"),
            (
                "UPPER",
                "invalid reference format: repository name (library/UPPER) must be lowercase",
            ),
            ("a b", "invalid reference format"),
            ("", "invalid reference format"),
            ("../../x", "invalid reference format"),
        ] {
            assert_eq!(store.find(name).unwrap_err().to_string(), message, "{name}");
        }
        assert_eq!(store.list().unwrap()[0].tags.len(), 2);
    }

    #[test]
    fn says_when_a_prefix_is_not_enough() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let mut firsts = std::collections::HashMap::new();
        for n in 0..30_000 {
            let text = format!(r#"{{"comment":"{n}","rootfs":{{}}}}"#);
            let first = Digest::of(text.as_bytes()).hex()[..3].to_owned();
            if let Some(other) = firsts.insert(first.clone(), text.clone()) {
                stored(&store, &other);
                stored(&store, &text);
                let error = store.find(&first).unwrap_err();
                assert!(matches!(error, ImageError::Ambiguous(_)), "{error}");
                return;
            }
        }
        panic!("no two ids begin alike");
    }

    #[test]
    fn a_name_leads_to_the_image_it_was_given_last() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let (one, two) = (stored(&store, &config(1)), stored(&store, &config(2)));
        store.tag(&one.hex(), "x").unwrap();
        store.tag(&two.hex(), "x").unwrap();
        assert_eq!(store.find("x").unwrap(), two);
        let list = store.list().unwrap();
        assert_eq!(list[0].image.id, two, "newest first");
        assert!(list[1].tags.is_empty());
    }

    #[test]
    fn a_damaged_image_is_replaced_when_it_comes_again() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let id = stored(&store, &config(1));
        let path = root.path().join("images/sha256").join(id.hex());
        std::fs::write(path.join(RECORD), "{").unwrap();
        assert!(matches!(
            store.get(id).unwrap_err(),
            ImageError::Damaged { .. }
        ));
        assert_eq!(stored(&store, &config(1)), id);
        store.get(id).unwrap();
    }
}

//! Reading images from archives and layout directories: `load`.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

use overlayfs::LayerId;
use overlayfs::store::{Expected, Layer};
use sys::fs::Dir;

use crate::config::ImageConfig;
use crate::digest::{Digest, ImageId};
use crate::import::Platform;
use crate::layout::{
    ATTESTATION, DOCKER_MANIFEST, Descriptor, DockerManifest, FULL_NAME, INDEX, Index, LayoutError,
    MEDIA_DOCKER_LIST, MEDIA_INDEX, Manifest, REF_NAME,
};
use crate::reference::Reference;
use crate::source::Source;
use crate::store::{ImageStore, Record, Result};
use crate::tags::tag_name;

/// Indexes within indexes; real ones have two.
const DEPTH_LIMIT: usize = 4;

/// An image that was loaded, under one of its names or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The image.
    pub image: ImageId,
    /// The name it was given: `Loaded image: x:latest`; without, `Loaded image ID: sha256:…`.
    pub name: Option<Reference>,
    /// The image that had the name before: `The image x:latest already exists, renaming the old
    /// one with ID sha256:… to empty string`.
    pub replaced: Option<ImageId>,
}

/// An image as an archive describes it.
struct Described {
    config: Vec<u8>,
    layers: Vec<Blob>,
    names: Vec<Reference>,
}

/// A layer's file in the archive.
struct Blob {
    file: String,
    /// The digest of the file, where its name says it.
    digest: Option<Digest>,
}

impl ImageStore {
    /// Loads all images of an archive from a stream.
    ///
    /// # Errors
    /// `ImageError`; images that came before the broken one stay.
    pub fn load(&self, archive: impl Read + Send) -> Result<Vec<Loaded>> {
        self.load_from(&Source::spool(archive, self.root())?)
    }

    /// Loads all images of an archive that is an open file: read in place where that can be done.
    ///
    /// # Errors
    /// As [`ImageStore::load`].
    pub fn load_file(&self, archive: File) -> Result<Vec<Loaded>> {
        self.load_from(&Source::file(archive, self.root())?)
    }

    /// Loads all images of an archive, or of a layout directory, by its path.
    ///
    /// # Errors
    /// As [`ImageStore::load`].
    pub fn load_path(&self, path: &Path) -> Result<Vec<Loaded>> {
        let file = File::open(path).map_err(LayoutError::Read)?;
        if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let dir = Dir::from_fd(file.into(), path);
            return self.load_from(&Source::Directory(dir));
        }
        self.load_file(file)
    }

    fn load_from(&self, source: &Source) -> Result<Vec<Loaded>> {
        self.prepare()?;
        let images = if source.has(DOCKER_MANIFEST) {
            docker_images(source)?
        } else if source.has(INDEX) {
            let mut images = Vec::new();
            let text = source.document(INDEX)?;
            oci_images(source, &parse(INDEX, &text)?, None, 0, &mut images)?;
            images
        } else {
            return Err(LayoutError::NoImage.into());
        };
        if images.is_empty() {
            return Err(LayoutError::Empty.into());
        }
        let mut loaded = Vec::new();
        for image in images {
            self.load_image(source, &image, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn load_image(
        &self,
        source: &Source,
        image: &Described,
        loaded: &mut Vec<Loaded>,
    ) -> Result<()> {
        let config: ImageConfig = parse("config", &image.config)?;
        if !matches!(config.os.as_str(), "" | "linux") {
            return Err(LayoutError::OperatingSystem(config.os).into());
        }
        let (expected, found) = (config.rootfs.diff_ids.len(), image.layers.len());
        if expected != found {
            return Err(LayoutError::LayerCount { expected, found }.into());
        }
        // Another process may take layers away as long as no image names them: then once more.
        let mut made = Vec::new();
        for last in [false, false, true] {
            let done = self
                .load_layers(source, &config, &image.layers, &mut made)
                .and_then(|layers| self.name_loaded(image, &layers, last));
            match done {
                Ok(Some(named)) => {
                    loaded.extend(named);
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) => {
                    // What stays is collected later; why the image cannot be loaded matters more.
                    let _ = self.forget(&made);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Finds or unpacks all layers of an image; `made` hears of those that were unpacked.
    fn load_layers(
        &self,
        source: &Source,
        config: &ImageConfig,
        blobs: &[Blob],
        made: &mut Vec<LayerId>,
    ) -> Result<Vec<Layer>> {
        let mut layers: Vec<Layer> = Vec::with_capacity(blobs.len());
        for (diff_id, blob) in config.rootfs.diff_ids.iter().zip(blobs) {
            if let Some(layer) = self.layers().find(&layers, *diff_id)? {
                layers.push(layer);
                continue;
            }
            let (archive, _) = source.open(&blob.file)?;
            let expected = Expected {
                below: &layers,
                diff_id: Some(*diff_id),
                stored: blob.digest,
            };
            let (layer, _) = self.layers().unpack(archive, &expected)?;
            made.push(layer.id);
            layers.push(layer);
        }
        Ok(layers)
    }

    /// Puts the image in place; `None` where somebody took a layer away meanwhile.
    fn name_loaded(
        &self,
        image: &Described,
        layers: &[Layer],
        last: bool,
    ) -> Result<Option<Vec<Loaded>>> {
        let _lock = self.lock()?;
        for layer in layers {
            match self.layers().layer(layer.id) {
                Ok(_) => {}
                Err(error) if last => return Err(error.into()),
                Err(_) => return Ok(None),
            }
        }
        let sizes: Vec<u64> = layers.iter().map(|layer| layer.size).collect();
        let record = Record {
            layers: layers.iter().map(|layer| layer.id).collect(),
            size: sizes.iter().sum(),
            sizes,
            parent: None,
        };
        let (id, before) = self.put_named(&image.config, &record, &image.names)?;
        let mut loaded: Vec<Loaded> = image
            .names
            .iter()
            .zip(before)
            .map(|(name, before)| Loaded {
                image: id,
                name: Some(name.clone()),
                replaced: before.filter(|before| *before != id),
            })
            .collect();
        if loaded.is_empty() {
            loaded.push(Loaded {
                image: id,
                name: None,
                replaced: None,
            });
        }
        Ok(Some(loaded))
    }
}

fn parse<'a, T: serde::Deserialize<'a>>(
    name: &str,
    text: &'a [u8],
) -> std::result::Result<T, LayoutError> {
    serde_json::from_slice(text).map_err(|source| LayoutError::Document {
        name: name.to_owned(),
        source,
    })
}

/// The images of a docker-archive, old or new.
fn docker_images(source: &Source) -> Result<Vec<Described>> {
    let text = source.document(DOCKER_MANIFEST)?;
    let manifests: Vec<DockerManifest> = parse(DOCKER_MANIFEST, &text)?;
    let mut images = Vec::new();
    for manifest in manifests {
        let config = match digest_in_name(&manifest.config) {
            Some(digest) => source.verified(&manifest.config, digest)?,
            None => source.document(&manifest.config)?,
        };
        let names = manifest.repo_tags.unwrap_or_default();
        images.push(Described {
            config,
            layers: manifest.layers.into_iter().map(docker_layer).collect(),
            names: names
                .iter()
                .map(|name| tag_name(name))
                .collect::<Result<_>>()?,
        });
    }
    Ok(images)
}

fn docker_layer(file: String) -> Blob {
    // `<id>/layer.tar` of old archives is named by an id that is no digest of anything here.
    let digest = file
        .starts_with("blobs/")
        .then(|| digest_in_name(&file))
        .flatten();
    Blob { file, digest }
}

/// `<hex>.json` and `blobs/sha256/<hex>` promise a digest.
fn digest_in_name(name: &str) -> Option<Digest> {
    let stem = name.strip_suffix(".json").unwrap_or(name);
    let stem = stem.strip_prefix("blobs/sha256/").unwrap_or(stem);
    Digest::from_hex(stem).ok()
}

/// The images of an OCI index: of a list of platforms, this machine's.
fn oci_images(
    source: &Source,
    index: &Index,
    name: Option<&Reference>,
    depth: usize,
    images: &mut Vec<Described>,
) -> Result<()> {
    if depth > DEPTH_LIMIT {
        return Err(LayoutError::Nested.into());
    }
    let candidates: Vec<&Descriptor> = index
        .manifests
        .iter()
        .filter(|entry| !entry.annotations.contains_key(ATTESTATION))
        .collect();
    // The outermost index lists images; one within lists the platforms of an image.
    let chosen = if depth == 0 {
        candidates
    } else {
        vec![for_this_machine(&candidates)?]
    };
    for entry in chosen {
        let own_name = name_of(entry);
        let name = own_name.as_ref().or(name);
        let text = blob(source, entry)?;
        if matches!(entry.media_type.as_str(), MEDIA_INDEX | MEDIA_DOCKER_LIST) {
            let index = parse(&entry.digest, &text)?;
            oci_images(source, &index, name, depth + 1, images)?;
            continue;
        }
        let manifest: Manifest = parse(&entry.digest, &text)?;
        let config = blob(source, &manifest.config)?;
        // One image under several names is one image.
        if let Some(same) = images.iter_mut().find(|image| image.config == config) {
            same.names.extend(name.cloned());
            continue;
        }
        let mut layers = Vec::new();
        for layer in &manifest.layers {
            let (file, digest) = blob_file(layer)?;
            let digest = Some(digest);
            layers.push(Blob { file, digest });
        }
        images.push(Described {
            config,
            layers,
            names: name.cloned().into_iter().collect(),
        });
    }
    Ok(())
}

fn for_this_machine<'a>(
    candidates: &[&'a Descriptor],
) -> std::result::Result<&'a Descriptor, LayoutError> {
    let here = Platform::here();
    let fits = |entry: &&&Descriptor| match &entry.platform {
        None => candidates.len() == 1,
        Some(platform) => {
            platform.os == here.os
                && platform.architecture == here.architecture
                && (here.variant.is_empty() || platform.variant == here.variant)
        }
    };
    candidates
        .iter()
        .find(fits)
        .copied()
        .ok_or_else(|| LayoutError::Platform(format!("{}/{}", here.os, here.architecture)))
}

/// The name that an index gives to an image. A bare word is taken for a name, unless it is what tags
/// look like: then it is a tag of nobody knows what.
fn name_of(entry: &Descriptor) -> Option<Reference> {
    let read = |text: &String| Reference::from_str(text).ok().map(Reference::or_latest);
    let full = entry.annotations.get(FULL_NAME).and_then(read);
    full.or_else(|| {
        let name = entry.annotations.get(REF_NAME)?;
        let tag = name == "latest" || name.starts_with(|c: char| c.is_ascii_digit());
        let whole = name.contains(['/', ':']) || !tag;
        whole.then(|| read(name)).flatten()
    })
    .filter(|name| name.digest().is_none())
}

fn blob(source: &Source, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let (file, digest) = blob_file(descriptor)?;
    Ok(source.verified(&file, digest)?)
}

fn blob_file(descriptor: &Descriptor) -> std::result::Result<(String, Digest), LayoutError> {
    let digest: Digest = descriptor
        .digest
        .parse()
        .map_err(|error| LayoutError::Digest(descriptor.digest.clone(), error))?;
    Ok((format!("blobs/sha256/{}", digest.hex()), digest))
}

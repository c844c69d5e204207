//! Writing images to an archive: `save`. One archive is a docker-archive and an OCI layout at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;

use overlayfs::LayerId;
use overlayfs::tar::{Kind, Member, Writer};
use sys::fs::Timestamp;

use crate::digest::{Digest, ImageId};
use crate::layout::{
    DOCKER_MANIFEST, Descriptor, DockerManifest, FULL_NAME, INDEX, Index, LAYOUT, LAYOUT_TEXT,
    LayoutError, MEDIA_CONFIG, MEDIA_INDEX, MEDIA_LAYER, MEDIA_MANIFEST, Manifest, REF_NAME,
};
use crate::reference::Reference;
use crate::store::{Image, ImageError, ImageStore, Result};

/// An image to be written, with the names that go along.
struct Chosen {
    image: Image,
    names: BTreeSet<Reference>,
}

/// What an archive's documents are made of.
#[derive(Default)]
struct Documents {
    blobs: BTreeMap<Digest, Vec<u8>>,
    docker: Vec<DockerManifest>,
    index: Vec<Descriptor>,
    repositories: BTreeMap<String, BTreeMap<String, String>>,
}

impl ImageStore {
    /// Writes images by their names or ids; a repository without a tag means all its tags.
    ///
    /// # Errors
    /// `ImageError`; the output is then cut off.
    pub fn save(&self, names: &[String], output: impl Write) -> Result<()> {
        let chosen = self.choose(names)?;
        let mut documents = Documents::default();
        let mut layers: BTreeMap<Digest, (LayerId, u64)> = BTreeMap::new();
        for chosen in &chosen {
            let config = self.config_text(chosen.image.id)?;
            let mut descriptors = Vec::new();
            for id in &chosen.image.layers {
                let layer = self.layers().layer(*id)?;
                layers.insert(layer.diff_id.0, (*id, layer.archive_size));
                descriptors.push(descriptor(MEDIA_LAYER, layer.diff_id.0, layer.archive_size));
            }
            documents.add(chosen, config, descriptors)?;
        }
        let mut writer = Writer::new(output);
        let out = |error| ImageError::from(LayoutError::Output(error));
        for name in ["blobs/", "blobs/sha256/"] {
            writer.append_bare(&directory(name)).map_err(out)?;
        }
        for (digest, text) in &documents.blobs {
            let member = file(&blob_name(*digest), text.len() as u64);
            writer.append(&member, &text[..]).map_err(out)?;
        }
        for (digest, (layer, size)) in &layers {
            let member = file(&blob_name(*digest), *size);
            writer.append_from(&member, |output| {
                self.layers().write_archive(*layer, output)?;
                Ok::<(), ImageError>(())
            })?;
        }
        for (name, text) in documents.top()? {
            let member = file(name, text.len() as u64);
            writer.append(&member, &text[..]).map_err(out)?;
        }
        writer.finish().map_err(out)?;
        Ok(())
    }

    fn choose(&self, names: &[String]) -> Result<Vec<Chosen>> {
        let tags = self.tags()?;
        let mut chosen: Vec<Chosen> = Vec::new();
        for name in names {
            let mut found: Vec<(ImageId, Option<Reference>)> = Vec::new();
            match name.parse::<Reference>() {
                Ok(reference) if reference.tag().is_none() && reference.digest().is_none() => {
                    let same = tags
                        .iter()
                        .filter(|t| t.reference.same_repository(&reference));
                    found.extend(same.map(|tag| (tag.image, Some(tag.reference.clone()))));
                }
                Ok(reference) if reference.digest().is_none() => {
                    let image = self.follow(&reference)?;
                    found.extend(image.map(|image| (image, Some(reference))));
                }
                _ => {}
            }
            if found.is_empty() {
                found.push((self.find(name)?, None));
            }
            for (id, reference) in found {
                let entry = match chosen.iter_mut().position(|entry| entry.image.id == id) {
                    Some(at) => &mut chosen[at],
                    None => {
                        let image = self.get(id)?;
                        let names = BTreeSet::new();
                        chosen.push(Chosen { image, names });
                        let last = chosen.len() - 1;
                        &mut chosen[last]
                    }
                };
                entry.names.extend(reference);
            }
        }
        Ok(chosen)
    }
}

impl Documents {
    fn add(&mut self, chosen: &Chosen, config: Vec<u8>, layers: Vec<Descriptor>) -> Result<()> {
        let id = chosen.image.id.0;
        let last = layers.last().map(|layer| layer.digest.clone());
        let files = layers.iter().map(|layer| {
            let hex = layer.digest.strip_prefix("sha256:").unwrap_or_default();
            format!("blobs/sha256/{hex}")
        });
        self.docker.push(DockerManifest {
            config: blob_name(id),
            repo_tags: (!chosen.names.is_empty())
                .then(|| chosen.names.iter().map(Reference::familiar).collect()),
            layers: files.collect(),
        });
        let manifest = Manifest {
            schema_version: 2,
            media_type: MEDIA_MANIFEST.to_owned(),
            config: descriptor(MEDIA_CONFIG, id, config.len() as u64),
            layers,
        };
        let manifest = serde_json::to_vec(&manifest).map_err(LayoutError::Write)?;
        let digest = Digest::of(&manifest);
        let mut entry = descriptor(MEDIA_MANIFEST, digest, manifest.len() as u64);
        self.blobs.insert(id, config);
        self.blobs.insert(digest, manifest);
        if chosen.names.is_empty() {
            self.index.push(entry.clone());
        }
        for name in &chosen.names {
            let tag = name.tag().unwrap_or_default().to_owned();
            entry.annotations = [
                (FULL_NAME.to_owned(), name.to_string()),
                (REF_NAME.to_owned(), tag.clone()),
            ]
            .into();
            self.index.push(entry.clone());
            let last = last.clone().unwrap_or_default();
            let hex = last.strip_prefix("sha256:").unwrap_or_default().to_owned();
            self.repositories
                .entry(name.familiar_name())
                .or_default()
                .insert(tag, hex);
        }
        Ok(())
    }

    /// The documents that lie beside the blobs.
    fn top(self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let index = Index {
            schema_version: 2,
            media_type: MEDIA_INDEX.to_owned(),
            manifests: self.index,
        };
        let text = |document: serde_json::Result<Vec<u8>>| document.map_err(LayoutError::Write);
        let mut documents = vec![
            (INDEX, text(serde_json::to_vec(&index))?),
            (DOCKER_MANIFEST, text(serde_json::to_vec(&self.docker))?),
            (LAYOUT, LAYOUT_TEXT.as_bytes().to_vec()),
        ];
        if !self.repositories.is_empty() {
            let repositories = text(serde_json::to_vec(&self.repositories))?;
            documents.push(("repositories", repositories));
        }
        Ok(documents)
    }
}

fn descriptor(media_type: &str, digest: Digest, size: u64) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: digest.to_string(),
        size,
        annotations: BTreeMap::new(),
        platform: None,
    }
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn file(name: &str, size: u64) -> Member {
    Member {
        path: name.as_bytes().to_vec(),
        mode: 0o644,
        size,
        mtime: Timestamp::default(),
        ..Member::default()
    }
}

fn directory(name: &str) -> Member {
    Member {
        kind: Kind::Directory,
        mode: 0o755,
        ..file(name, 0)
    }
}

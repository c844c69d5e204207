//! Making an image of another one and a layer on top: `commit`.

use std::io::Read;

use overlayfs::LayerId;
use overlayfs::id::DiffId;
use overlayfs::store::{Expected, Layer};

use crate::change;
use crate::config::{History, ImageConfig, RunConfig};
use crate::digest::{Digest, ImageId};
use crate::import::now;
use crate::reference::Reference;
use crate::store::{ImageStore, Record, Result};
use crate::tags::tag_name;

/// An archive of nothing: two empty blocks. No layer is made of it.
const EMPTY: [u8; 1024] = [0; 1024];

/// What the image shall be beside its topmost layer.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// Its name; none is given where this is `None`.
    pub name: Option<String>,
    /// Dockerfile instructions that change its config.
    pub changes: Vec<String>,
    /// Who made it.
    pub author: String,
    /// Its comment.
    pub message: String,
    /// The container it is made from.
    pub container: String,
    /// How that container runs.
    pub config: RunConfig,
}

/// What a commit stands on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The image.
    pub image: ImageId,
    /// Its layers, bottom first.
    pub layers: Vec<LayerId>,
}

impl ImageStore {
    /// Refuses, before anything else is done, a name or changes that no image can have; gives the
    /// config that the image gets.
    ///
    /// # Errors
    /// `ImageError::Reference`, `ImageError::Change`.
    pub fn check_commit(&self, request: &CommitRequest) -> Result<(Option<Reference>, RunConfig)> {
        let name = request.name.as_deref().map(tag_name).transpose()?;
        let mut run = request.config.clone();
        change::apply(&mut run, &request.changes)?;
        Ok((name, run))
    }

    /// Makes an image of the base and the archive of one more layer. An archive of nothing makes
    /// no layer: the history says so.
    ///
    /// # Errors
    /// `ImageError`; no image is left then.
    pub fn commit(
        &self,
        archive: impl Read + Send,
        base: &Base,
        request: &CommitRequest,
    ) -> Result<ImageId> {
        let (name, run) = self.check_commit(request)?;
        let parent = self.get(base.image)?;
        // On a full disk there must be a lock at least, to take the layer away again under it.
        self.prepare()?;
        let below = self.layers_of(&base.layers)?;
        let expected = Expected {
            below: &below,
            ..Expected::default()
        };
        let (layer, _) = self.layers().unpack(archive, &expected)?;
        let is_empty = layer.diff_id == DiffId(Digest::of(&EMPTY));
        let new = (!is_empty).then_some(&layer);
        let config = describe(parent.config, run, request, new);
        let stored = self.store_commit(&config, (base.image, &below, new), name);
        if stored.is_err() || is_empty {
            // What stays is collected later; why the image cannot be stored matters more.
            let _ = self.forget(&[layer.id]);
        }
        stored
    }

    fn layers_of(&self, layers: &[LayerId]) -> Result<Vec<Layer>> {
        let mut all = Vec::with_capacity(layers.len());
        for layer in layers {
            all.push(self.layers().layer(*layer)?);
        }
        Ok(all)
    }

    fn store_commit(
        &self,
        config: &ImageConfig,
        (parent, below, new): (ImageId, &[Layer], Option<&Layer>),
        name: Option<Reference>,
    ) -> Result<ImageId> {
        let text = serde_json::to_vec(config).map_err(crate::layout::LayoutError::Write)?;
        let _lock = self.lock()?;
        let layers: Vec<&Layer> = below.iter().chain(new).collect();
        for layer in &layers {
            // Another process may have collected it as long as nothing named it.
            self.layers().layer(layer.id)?;
        }
        // Gone meanwhile, it cannot be anybody's parent; its layers are there.
        let parent = self.record(parent).is_ok().then_some(parent);
        let record = Record {
            layers: layers.iter().map(|layer| layer.id).collect(),
            size: layers.iter().map(|layer| layer.size).sum(),
            sizes: layers.iter().map(|layer| layer.size).collect(),
            parent,
        };
        let names: Vec<Reference> = name.into_iter().collect();
        let (id, _) = self.put_named(&text, &record, &names)?;
        Ok(id)
    }
}

fn describe(
    parent: ImageConfig,
    run: RunConfig,
    request: &CommitRequest,
    layer: Option<&Layer>,
) -> ImageConfig {
    let created = Some(now());
    let mut history = parent.history;
    history.push(History {
        created: created.clone(),
        created_by: request.config.cmd.clone().unwrap_or_default().join(" "),
        author: request.author.clone(),
        comment: request.message.clone(),
        empty_layer: layer.is_none(),
    });
    let mut rootfs = parent.rootfs;
    rootfs.diff_ids.extend(layer.map(|layer| layer.diff_id));
    ImageConfig {
        architecture: parent.architecture,
        variant: parent.variant,
        os: parent.os,
        author: request.author.clone(),
        comment: request.message.clone(),
        config: run,
        container: request.container.clone(),
        container_config: Some(request.config.clone()),
        created,
        docker_version: parent.docker_version,
        history,
        rootfs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlayfs::store::LayerStore;
    use overlayfs::tar::{Kind, Member, Writer};

    fn archive(names: &[&str]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for name in names {
            let member = Member {
                path: name.as_bytes().to_vec(),
                kind: Kind::Directory,
                mode: 0o755,
                uid: own_uid(),
                gid: own_gid(),
                ..Member::default()
            };
            writer.append_bare(&member).unwrap();
        }
        writer.finish().unwrap()
    }

    /// Unpacking gives owners: a test without privilege can give only its own.
    fn own_uid() -> u32 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").unwrap().uid()
    }

    fn own_gid() -> u32 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata("/proc/self").unwrap().gid()
    }

    fn base(store: &ImageStore) -> Base {
        let request = crate::import::ImportRequest {
            name: Some("base".to_owned()),
            ..Default::default()
        };
        let id = store.import(&archive(&["a/"])[..], &request).unwrap();
        Base {
            image: id,
            layers: store.get(id).unwrap().layers,
        }
    }

    fn request() -> CommitRequest {
        CommitRequest {
            name: Some("me/made:1".to_owned()),
            changes: vec!["ENV A=1".to_owned()],
            author: "somebody".to_owned(),
            message: "because".to_owned(),
            container: "c".repeat(64),
            config: RunConfig {
                cmd: Some(vec!["sh".to_owned(), "-c".to_owned()]),
                tty: true,
                ..RunConfig::default()
            },
        }
    }

    #[test]
    fn the_new_image_stands_on_the_old() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let base = base(&store);
        let id = store
            .commit(&archive(&["b/"])[..], &base, &request())
            .unwrap();
        let image = store.resolve("me/made:1").unwrap();
        assert_eq!(image.id, id);
        assert_eq!(image.layers[..1], base.layers);
        assert_eq!(image.layers.len(), 2);
        let shown = store.inspect("me/made:1").unwrap();
        assert_eq!(shown.parent, base.image.to_string());
        assert_eq!((&*shown.author, &*shown.comment), ("somebody", "because"));
        assert_eq!(shown.config.env, ["A=1"]);
        assert!(shown.config.tty);
        assert!(shown.container_config.env.is_empty());
        assert_eq!(shown.root_fs.layers.len(), 2);
        let history = store.history("me/made:1").unwrap();
        let ids: Vec<_> = history.iter().map(|line| line.image).collect();
        assert_eq!(ids, [Some(id), Some(base.image)]);
        assert_eq!(history[0].created_by, "sh -c");
        assert_eq!(history[0].comment, "because");
    }

    #[test]
    fn nothing_changed_makes_no_layer() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let base = base(&store);
        let id = store.commit(&archive(&[])[..], &base, &request()).unwrap();
        let image = store.get(id).unwrap();
        assert_eq!(image.layers, base.layers);
        assert!(image.config.history.last().unwrap().empty_layer);
        assert_eq!(layers(&store).layers().unwrap(), base.layers);
    }

    fn layers(store: &ImageStore) -> LayerStore {
        store.layers().clone()
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let base = base(&store);
        let cut = &archive(&["b/"])[..700];
        store.commit(cut, &base, &request()).unwrap_err();
        let mut wrong = request();
        wrong.changes = vec!["RUN x".to_owned()];
        let error = store.commit(&archive(&["b/"])[..], &base, &wrong);
        assert_eq!(
            error.unwrap_err().to_string(),
            "run is not a valid change command"
        );
        wrong = request();
        wrong.name = Some("A".to_owned());
        store
            .commit(&archive(&["b/"])[..], &base, &wrong)
            .unwrap_err();
        assert_eq!(store.ids().unwrap(), [base.image]);
        assert_eq!(layers(&store).layers().unwrap(), base.layers);
    }

    #[test]
    fn a_parent_stays_as_long_as_its_children_and_goes_with_the_last() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let base = base(&store);
        let id = store
            .commit(&archive(&["b/"])[..], &base, &request())
            .unwrap();
        let error = store.remove(&base.image.to_string(), true, &|| Ok(Vec::new()));
        assert_eq!(
            error.unwrap_err().to_string(),
            format!(
                "conflict: unable to delete {} (cannot be forced) - image has dependent child \
                 images",
                base.image.short()
            )
        );
        let lines: Vec<String> = store
            .remove("base", false, &|| Ok(Vec::new()))
            .unwrap()
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(lines, ["Untagged: base:latest"]);
        let removed = store
            .remove("me/made:1", false, &|| Ok(Vec::new()))
            .unwrap();
        assert!(removed.contains(&crate::Removed::Image(id)));
        assert!(removed.contains(&crate::Removed::Image(base.image)));
        assert!(store.ids().unwrap().is_empty());
        assert!(layers(&store).layers().unwrap().is_empty());
    }
}

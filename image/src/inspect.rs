//! What `image inspect` and `history` show.

use overlayfs::DiffId;
use serde::Serialize;
use sys::fs::Timestamp;

use crate::config::RunConfig;
use crate::digest::ImageId;
use crate::reference::Reference;
use crate::store::{Image, ImageError, ImageStore, Result};

const NEVER: &str = "0001-01-01T00:00:00Z";

/// An image as Docker's inspect shows it, field by field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct ImageInspect {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    pub created: String,
    pub container: String,
    pub container_config: RunConfig,
    pub docker_version: String,
    pub author: String,
    pub config: RunConfig,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    pub size: u64,
    pub virtual_size: u64,
    pub graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFsInspect,
    pub metadata: Metadata,
}

/// Where the image's files lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct GraphDriver {
    pub data: GraphDriverData,
    pub name: &'static str,
}

/// The directories of the layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct GraphDriverData {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lower_dir: String,
    pub upper_dir: String,
}

/// The layers' digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct RootFsInspect {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<DiffId>,
}

/// What the store knows beside the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)]
pub struct Metadata {
    pub last_tag_time: String,
}

/// One line of an image's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// The image that ends here: the newest line's, then those it was committed on; else `<missing>`.
    pub image: Option<ImageId>,
    /// RFC 3339; `None` where the image does not say.
    pub created: Option<String>,
    /// The instruction.
    pub created_by: String,
    /// Bytes that it added.
    pub size: u64,
    /// The message.
    pub comment: String,
    /// That image's names.
    pub tags: Vec<Reference>,
}

impl ImageStore {
    /// Describes an image by its name or id.
    ///
    /// # Errors
    /// Those of finding and reading it.
    pub fn inspect(&self, name: &str) -> Result<ImageInspect> {
        let image = self.resolve(name)?;
        let parent = self.record(image.id)?.parent;
        let tags = self.tags()?.into_iter();
        let tags: Vec<_> = tags.filter(|tag| tag.image == image.id).collect();
        let last = tags.iter().map(|tag| tag.tagged).max();
        let Image {
            id,
            config,
            layers,
            size,
        } = image;
        let mut trees = self.layers().trees(&layers).into_iter();
        let path = |tree: std::path::PathBuf| tree.to_string_lossy().into_owned();
        let upper_dir = trees.next().map(path).unwrap_or_default();
        Ok(ImageInspect {
            id: id.to_string(),
            repo_tags: tags.iter().map(|tag| tag.reference.familiar()).collect(),
            repo_digests: Vec::new(),
            parent: parent.map(|id| id.to_string()).unwrap_or_default(),
            comment: config.comment,
            created: config.created.unwrap_or_else(|| NEVER.to_owned()),
            container: config.container,
            container_config: config.container_config.unwrap_or_default(),
            docker_version: config.docker_version,
            author: config.author,
            config: config.config,
            architecture: config.architecture,
            variant: config.variant,
            os: config.os,
            size,
            virtual_size: size,
            graph_driver: GraphDriver {
                data: GraphDriverData {
                    lower_dir: trees.map(path).collect::<Vec<_>>().join(":"),
                    upper_dir,
                },
                name: "overlay2",
            },
            root_fs: RootFsInspect {
                kind: config.rootfs.kind,
                layers: config.rootfs.diff_ids,
            },
            metadata: Metadata {
                last_tag_time: last.map_or_else(|| NEVER.to_owned(), print_time),
            },
        })
    }

    /// Tells how an image came to be, newest first.
    ///
    /// # Errors
    /// Those of finding and reading it.
    pub fn history(&self, name: &str) -> Result<Vec<HistoryEntry>> {
        let image = self.resolve(name)?;
        let record = self.record(image.id)?;
        let mut sizes = record.sizes.into_iter();
        let mut entries: Vec<HistoryEntry> = image
            .config
            .history
            .into_iter()
            .map(|step| HistoryEntry {
                image: None,
                created: step.created,
                created_by: step.created_by,
                size: match step.empty_layer {
                    true => 0,
                    false => sizes.next().unwrap_or(0),
                },
                comment: step.comment,
                tags: Vec::new(),
            })
            .collect();
        // Layers that the history leaves out are shown as well: nothing is hidden.
        entries.extend(sizes.map(|size| HistoryEntry {
            image: None,
            created: image.config.created.clone(),
            created_by: String::new(),
            size,
            comment: String::new(),
            tags: Vec::new(),
        }));
        entries.reverse();
        let tags = self.tags()?;
        let mut next = Some(image.id);
        for entry in &mut entries {
            let Some(id) = next else {
                break;
            };
            entry.image = Some(id);
            let own = tags.iter().filter(|tag| tag.image == id);
            entry.tags = own.map(|tag| tag.reference.clone()).collect();
            // Below the image that a commit stood on its own history goes on.
            next = match self.record(id) {
                Ok(record) => record.parent,
                Err(ImageError::NotFound(_)) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(entries)
    }
}

fn print_time(time: Timestamp) -> String {
    let nanoseconds = i32::try_from(time.nanoseconds).unwrap_or(0);
    match jiff::Timestamp::new(time.seconds, nanoseconds) {
        Ok(time) => time.to_string(),
        Err(_) => NEVER.to_owned(),
    }
}

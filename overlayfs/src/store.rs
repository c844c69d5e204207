//! The layer store: one directory per layer, named by content, in place only when it is whole.
//!
//! ```text
//!   layers/
//!     sha256/<hex>/         a layer; never changes
//!       diff/               its tree, with overlayfs's marks: a lower directory of mounts
//!       layer.json          what it came from and how large it is
//!       archive, contents   what else its archive held (see `archive`)
//!       kept/               contents that later members of the archive replaced; rare
//!     unpacking/<random>/   a layer on its way in, or on its way out; locked while that is so
//! ```
//!
//! A layer is unpacked aside, verified, synced and then renamed into place: a name in `sha256`
//! vouches for what it names. What a crash leaves lies in `unpacking`, is locked by nobody and goes
//! when the next layer is unpacked. Opening the store and making mounts of layers reads nothing.

use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sys::SysError;
use sys::fs::{self, Dir, Durability, Follow, errno};

use crate::archive::{self, ArchiveError, Recorder};
use crate::id::{DiffId, Digest, LayerId};
use crate::stack::Stack;
use crate::stream::{self, Digests, Plain};
use crate::tar::{Reader, TarError};
use crate::unpack::{Lower, Marks, Tree, UnpackError, Unpacked};

const LAYERS: &str = "sha256";
const UNPACKING: &str = "unpacking";
const DIFF: &str = "diff";
const RECORD: &str = "layer.json";
const KEPT: &str = "kept";

/// The layers of one engine.
#[derive(Debug, Clone)]
pub struct LayerStore {
    root: PathBuf,
}

/// A layer that is in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its name in the store.
    pub id: LayerId,
    /// The digest of the archive it came from.
    pub diff_id: DiffId,
    /// Bytes of its files' content.
    pub size: u64,
    /// Length of its archive.
    pub archive_size: u64,
    /// Names in its tree.
    pub names: u64,
    /// Bytes of regular files in its tree, each once: what a check compares.
    pub tree_size: u64,
}

/// What is known of a layer before it is unpacked.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// The layers below it, bottom first.
    pub below: &'a [Layer],
    /// The digest of the archive.
    pub diff_id: Option<DiffId>,
    /// The digest of the archive as it is stored: compressed.
    pub stored: Option<Digest>,
}

/// A layer that is damaged or missing, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The layer.
    pub layer: LayerId,
    /// What is wrong with it.
    pub what: String,
}

/// The store cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The kernel refused a step.
    #[error("cannot {what} in the layer store")]
    Step {
        /// What was tried.
        what: &'static str,
        /// What was refused.
        #[source]
        source: SysError,
    },
    /// The archive cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The archive cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The content is not what its name promises.
    #[error("layer digest is {found}, expected {expected}: the archive is damaged")]
    WrongDigest {
        /// What was promised.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// There is no such layer.
    #[error("layer {0} is not in the store")]
    Missing(LayerId),
    /// What the store wrote about a layer cannot be read.
    #[error("the record of layer {0} is damaged")]
    Record(LayerId, #[source] serde_json::Error),
    /// The archive cannot be written again.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

fn step(what: &'static str) -> impl Fn(SysError) -> StoreError {
    move |source| StoreError::Step { what, source }
}

impl LayerStore {
    /// Names the store's directory; nothing is read.
    pub fn open(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A layer's tree: what overlay mounts take as a lower directory.
    pub fn tree(&self, layer: LayerId) -> PathBuf {
        self.directory(layer).join(DIFF)
    }

    /// The layers' trees as mounts want them: topmost first. `layers` are given bottom first.
    pub fn trees(&self, layers: &[LayerId]) -> Vec<PathBuf> {
        layers.iter().rev().map(|layer| self.tree(*layer)).collect()
    }

    /// The overlay mount of some layers, bottom first, with a writable layer on top if given.
    pub fn overlay(
        &self,
        layers: &[LayerId],
        upper: Option<&Path>,
        work: Option<&Path>,
    ) -> sys::mount::Overlay {
        sys::mount::Overlay {
            lowers: self.trees(layers),
            upper: upper.map(Path::to_owned),
            work: work.map(Path::to_owned),
            options: Vec::new(),
        }
    }

    /// The layers seen as one tree, without a mount; bottom first.
    ///
    /// # Errors
    /// [`StoreError::Step`] where a layer cannot be opened.
    pub fn stack(&self, layers: &[LayerId]) -> Result<Stack, StoreError> {
        Stack::open(&self.trees(layers)).map_err(step("open layers"))
    }

    /// What the store knows of a layer.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Record`].
    pub fn layer(&self, id: LayerId) -> Result<Layer, StoreError> {
        let path = self.directory(id).join(RECORD);
        match std::fs::read(&path) {
            Ok(text) => {
                serde_json::from_slice(&text).map_err(|error| StoreError::Record(id, error))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreError::Missing(id)),
            Err(error) => Err(step("read a layer's record")(SysError::from_io(
                format!("open({path:?})"),
                error,
            ))),
        }
    }

    /// Looks for a layer by its archive's digest and the layers below it.
    ///
    /// # Errors
    /// [`StoreError::Record`].
    pub fn find(&self, below: &[Layer], diff_id: DiffId) -> Result<Option<Layer>, StoreError> {
        let lower: Vec<DiffId> = below.iter().map(|layer| layer.diff_id).collect();
        for id in [
            LayerId::dependent(&lower, diff_id),
            LayerId::independent(diff_id),
        ] {
            match self.layer(id) {
                Ok(layer) => return Ok(Some(layer)),
                Err(StoreError::Missing(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Unpacks an archive, compressed or not, into a layer; one that is there already is kept.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left of the layer then.
    pub fn unpack(
        &self,
        archive: impl Read + Send,
        expected: &Expected<'_>,
    ) -> Result<(Layer, Digests), StoreError> {
        self.sweep()?;
        let below: Vec<LayerId> = expected.below.iter().map(|layer| layer.id).collect();
        let lower = self.stack(&below)?;
        let place = Unpacking::begin(&self.root)?;
        let unpacked = place.fill(archive, expected, &lower);
        let placed = unpacked.and_then(|(unpacked, digests)| {
            let layer = place.record(&unpacked, &digests, expected)?;
            self.put_in_place(&place, &layer)?;
            Ok((layer, digests))
        });
        // Moved into place it is gone from here already.
        let removed = place.remove();
        let placed = placed?;
        removed?;
        Ok(placed)
    }

    /// Writes the archive that a layer came from, byte for byte.
    ///
    /// # Errors
    /// [`StoreError::Archive`] where the layer's files are no longer what they were.
    pub fn write_archive(&self, id: LayerId, output: &mut dyn Write) -> Result<u64, StoreError> {
        let layer = self.layer(id)?;
        let directory = Dir::open(self.directory(id)).map_err(step("open a layer"))?;
        Ok(archive::write_again(&directory, layer.diff_id, output)?)
    }

    /// Removes a layer; gone already is success.
    ///
    /// # Errors
    /// [`StoreError::Step`].
    pub fn remove(&self, id: LayerId) -> Result<(), StoreError> {
        let layers = match Dir::open(self.root.join(LAYERS)) {
            Err(error) if error.errno() == errno::ENOENT => return Ok(()),
            other => other.map_err(step("open the layers"))?,
        };
        let layer = match layers.enter(id.hex(), Follow::Never) {
            Err(error) if error.errno() == errno::ENOENT => return Ok(()),
            other => other.map_err(step("open a layer"))?,
        };
        // Away from its name first: what has a name is whole. Nothing new is made for that, since
        // layers are removed when the disk is full.
        let fail = step("move a layer aside");
        let aside = Dir::ensure(self.root.join(UNPACKING), 0o700).map_err(&fail)?;
        layer.lock().map_err(&fail)?;
        let name = random_name().map_err(&fail)?;
        match layers.rename_new(id.hex(), &aside, &name) {
            Err(error) if error.errno() == errno::ENOENT => return Ok(()),
            other => other.map_err(&fail)?,
        }
        aside.remove_tree(&name).map_err(step("remove a layer"))
    }

    /// All layers in the store.
    ///
    /// # Errors
    /// [`StoreError::Step`].
    pub fn layers(&self) -> Result<Vec<LayerId>, StoreError> {
        let entries = match Dir::open(self.root.join(LAYERS)).and_then(|dir| dir.entries()) {
            Err(error) if error.errno() == errno::ENOENT => return Ok(Vec::new()),
            other => other.map_err(step("list the layers"))?,
        };
        let ids = entries.iter().filter_map(|entry| entry.name.to_str());
        Ok(ids
            .filter_map(|name| Digest::from_hex(name).ok().map(LayerId))
            .collect())
    }

    /// Removes every layer that is not in use, and what crashes left; gives what was removed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn collect(&self, used: &HashSet<LayerId>) -> Result<Vec<LayerId>, StoreError> {
        self.sweep()?;
        let mut unused = self.layers()?;
        unused.retain(|layer| !used.contains(layer));
        for layer in &unused {
            self.remove(*layer)?;
        }
        Ok(unused)
    }

    /// Compares layers with what was recorded when they were unpacked.
    ///
    /// With `contents`, every file is read and compared with the digest of the archive.
    ///
    /// # Errors
    /// [`StoreError::Step`] where that cannot be told.
    pub fn check(&self, layers: &[LayerId], contents: bool) -> Result<Vec<Damage>, StoreError> {
        let mut damages = Vec::new();
        for id in layers {
            let mut damaged = |what: String| {
                damages.push(Damage { layer: *id, what });
            };
            let layer = match self.layer(*id) {
                Ok(layer) => layer,
                Err(error @ StoreError::Step { .. }) => return Err(error),
                Err(error) => {
                    damaged(error.to_string());
                    continue;
                }
            };
            let tree = match Dir::open(self.tree(*id)) {
                Ok(tree) => tree,
                Err(error) => {
                    damaged(format!("its tree cannot be opened: {}", error.reason()));
                    continue;
                }
            };
            let usage = fs::usage(&tree).map_err(step("add up a layer"))?;
            if (usage.names, usage.bytes) != (layer.names, layer.tree_size) {
                damaged(format!(
                    "it has {} names and {} bytes, recorded were {} and {}",
                    usage.names, usage.bytes, layer.names, layer.tree_size
                ));
            } else if contents && let Err(error) = self.write_archive(*id, &mut io::sink()) {
                damaged(error.to_string());
            }
        }
        Ok(damages)
    }

    /// Removes what no living process is unpacking.
    ///
    /// # Errors
    /// [`StoreError::Step`].
    pub fn sweep(&self) -> Result<(), StoreError> {
        let unpacking = match Dir::open(self.root.join(UNPACKING)) {
            Err(error) if error.errno() == errno::ENOENT => return Ok(()),
            other => other.map_err(step("look for remains"))?,
        };
        for entry in unpacking.entries().map_err(step("look for remains"))? {
            let Ok(dir) = unpacking.enter(&entry.name, Follow::Never) else {
                continue;
            };
            if dir.try_lock().map_err(step("look for remains"))? {
                unpacking
                    .remove_tree(&entry.name)
                    .map_err(step("remove remains"))?;
            }
        }
        Ok(())
    }

    fn directory(&self, layer: LayerId) -> PathBuf {
        self.root.join(LAYERS).join(layer.hex())
    }

    fn put_in_place(&self, place: &Unpacking, layer: &Layer) -> Result<(), StoreError> {
        let layers =
            Dir::ensure(self.root.join(LAYERS), 0o700).map_err(step("make the layers' place"))?;
        place
            .dir
            .sync_file_system()
            .map_err(step("sync a new layer"))?;
        match place
            .parent
            .rename_new(&place.name, &layers, layer.id.hex())
        {
            // Somebody unpacked the same meanwhile, or before.
            Err(error) if matches!(error.errno(), errno::EEXIST | errno::ENOTEMPTY) => {}
            other => other.map_err(step("move a new layer into place"))?,
        }
        layers.sync().map_err(step("sync the layers"))
    }
}

/// A directory aside in which a layer is made; locked while this lives.
struct Unpacking {
    parent: Dir,
    name: String,
    dir: Dir,
}

impl Unpacking {
    fn begin(root: &Path) -> Result<Self, StoreError> {
        let fail = step("make a place to unpack");
        let parent = Dir::ensure(root.join(UNPACKING), 0o700).map_err(&fail)?;
        loop {
            let name = random_name().map_err(&fail)?;
            parent.make_dir(&name, 0o700).map_err(&fail)?;
            // A sweep may see it before it is locked: then it is gone, and another is made.
            let dir = match parent.enter(&name, Follow::Never) {
                Err(error) if error.errno() == errno::ENOENT => continue,
                other => other.map_err(&fail)?,
            };
            let inode = dir.stat_self().map_err(&fail)?.inode;
            let locked = dir.try_lock().map_err(&fail)?;
            let there = parent.find(&name).map_err(&fail)?;
            if locked && there.is_some_and(|stat| stat.inode == inode) {
                return Ok(Self { parent, name, dir });
            }
        }
    }

    /// Unpacks and verifies.
    fn fill(
        &self,
        archive: impl Read + Send,
        expected: &Expected<'_>,
        lower: &dyn Lower,
    ) -> Result<(Unpacked, Digests), StoreError> {
        let fail = step("make a layer's tree");
        self.dir.make_dir(DIFF, 0o755).map_err(&fail)?;
        let root = self.dir.enter(DIFF, Follow::Never).map_err(&fail)?;
        fs::set_mode_of(&root, 0o755, root.path().display()).map_err(&fail)?;
        self.dir.make_dir(KEPT, 0o700).map_err(&fail)?;
        let kept = self.dir.enter(KEPT, Follow::Never).map_err(&fail)?;
        let mut tree = Tree::new(root, Marks::Layer, lower).map_err(&fail)?;
        tree.keep_replaced(kept);
        let work = |plain: &mut Plain| self.unpack_all(tree, plain);
        let (unpacked, digests) = stream::digested(archive, work, StoreError::Read)?;
        for (expected, found) in [
            (expected.stored, digests.stored),
            (expected.diff_id.map(|id| id.0), digests.plain),
        ] {
            if let Some(expected) = expected
                && expected != found
            {
                return Err(StoreError::WrongDigest { expected, found });
            }
        }
        Ok((unpacked, digests))
    }

    fn unpack_all(&self, mut tree: Tree<'_>, plain: &mut Plain) -> Result<Unpacked, StoreError> {
        let observe = |error| UnpackError::Archive(TarError::Observe(error));
        let recorder = Recorder::create(&self.dir).map_err(observe)?;
        let mut reader = Reader::observed(plain, recorder);
        while let Some(member) = reader.next().map_err(UnpackError::from)? {
            tree.add(&member, &mut reader)?;
        }
        reader.drain().map_err(UnpackError::from)?;
        let recorder = reader.into_observer();
        recorder.finish(&self.dir).map_err(observe)?;
        Ok(tree.finish()?)
    }

    fn record(
        &self,
        unpacked: &Unpacked,
        digests: &Digests,
        expected: &Expected<'_>,
    ) -> Result<Layer, StoreError> {
        let fail = step("record a new layer");
        let diff_id = DiffId(digests.plain);
        let id = if unpacked.depends_on_lower {
            let below: Vec<DiffId> = expected.below.iter().map(|layer| layer.diff_id).collect();
            LayerId::dependent(&below, diff_id)
        } else {
            LayerId::independent(diff_id)
        };
        // Usually empty, and then nothing is kept.
        let _ = self.dir.remove_dir(KEPT);
        let tree = self.dir.enter(DIFF, Follow::Never).map_err(&fail)?;
        let usage = fs::usage(&tree).map_err(&fail)?;
        let layer = Layer {
            id,
            diff_id,
            size: unpacked.size,
            archive_size: digests.plain_size,
            names: usage.names,
            tree_size: usage.bytes,
        };
        let text = serde_json::to_vec(&layer).map_err(|error| StoreError::Record(id, error))?;
        fs::replace(&self.dir, RECORD, &text, 0o600, Durability::Process).map_err(&fail)?;
        Ok(layer)
    }

    fn remove(self) -> Result<(), StoreError> {
        self.parent
            .remove_tree(&self.name)
            .map_err(step("remove what is not needed"))
    }
}

fn random_name() -> sys::Result<String> {
    let mut random = [0; 8];
    sys::random::fill(&mut random)?;
    Ok(format!("{:016x}", u64::from_le_bytes(random)))
}

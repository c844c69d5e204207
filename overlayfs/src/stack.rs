//! Several layers seen as one tree, without a mount: what is visible, and where it lies.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use sys::fs::{Dir, Entry, Follow, Kind, Stat, errno};

use crate::unpack::{Lower, OPAQUE};

/// Layers, topmost first.
#[derive(Debug)]
pub struct Stack {
    layers: Vec<Dir>,
}

/// A directory as the stack shows it: the layers' directories that are merged, topmost first.
#[derive(Debug)]
pub struct Merged {
    parts: Vec<Dir>,
}

impl Stack {
    /// Opens layers by their directories, topmost first.
    ///
    /// # Errors
    /// Those of open.
    pub fn open(layers: &[PathBuf]) -> sys::Result<Self> {
        let layers = layers.iter().map(Dir::open).collect::<sys::Result<_>>()?;
        Ok(Self { layers })
    }

    /// The root as it is seen.
    ///
    /// # Errors
    /// Those of openat2.
    pub fn root(&self) -> sys::Result<Merged> {
        let mut parts = Vec::new();
        for layer in &self.layers {
            let part = layer.enter("", Follow::Never)?;
            let opaque = is_opaque(&part)?;
            parts.push(part);
            if opaque {
                break;
            }
        }
        Ok(Merged { parts })
    }

    /// A directory as it is seen, by its cleaned path; links are not followed.
    ///
    /// # Errors
    /// Those of looking.
    pub fn directory(&self, path: &Path) -> sys::Result<Option<Merged>> {
        let mut current = self.root()?;
        for name in path {
            match current.directory(name.as_ref())? {
                Some(below) => current = below,
                None => return Ok(None),
            }
        }
        Ok(Some(current))
    }
}

impl Stack {
    /// A directory as it is seen, with links followed as from the root; `None` where the path leads
    /// to no directory.
    ///
    /// # Errors
    /// Those of looking; `ELOOP` where links lead in circles.
    pub fn follow(&self, path: &Path) -> sys::Result<Option<Merged>> {
        let mut waiting: Vec<OsString> = parts(path);
        let mut done = PathBuf::new();
        let mut links = 0;
        while let Some(name) = waiting.pop() {
            if name == ".." {
                done.pop();
                continue;
            }
            done.push(&name);
            match self.find(&done)? {
                None => return Ok(None),
                Some((dir, stat)) if stat.kind == Kind::Symlink => {
                    links += 1;
                    if links > 40 {
                        let call = format!("open({done:?})");
                        return Err(sys::SysError::new(call, errno::ELOOP));
                    }
                    let target = PathBuf::from(dir.read_link(&name)?);
                    done.pop();
                    if target.is_absolute() {
                        done = PathBuf::new();
                    }
                    waiting.extend(parts(&target));
                }
                Some((_, stat)) if stat.kind != Kind::Directory => return Ok(None),
                Some(_) => {}
            }
        }
        self.directory(&done)
    }
}

/// The parts of a path, last first.
fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

impl Lower for Stack {
    fn find(&self, path: &Path) -> sys::Result<Option<(Dir, Stat)>> {
        let (Some(name), Some(parent)) = (path.file_name(), path.parent()) else {
            return Ok(None);
        };
        match self.directory(parent)? {
            Some(directory) => directory.find(name.as_ref()),
            None => Ok(None),
        }
    }

    fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}

impl Merged {
    /// The topmost part: whose attributes are seen.
    pub fn top(&self) -> Option<&Dir> {
        self.parts.first()
    }

    /// What is visible under a name, and the part it lies in.
    ///
    /// # Errors
    /// Those of looking.
    pub fn find(&self, name: &Path) -> sys::Result<Option<(Dir, Stat)>> {
        for part in &self.parts {
            match part.find(name)? {
                Some(stat) if stat.is_whiteout() => return Ok(None),
                Some(stat) => return Ok(Some((part.duplicate()?, stat))),
                None => {}
            }
        }
        Ok(None)
    }

    /// A directory in this one as it is seen; `None` for everything else.
    ///
    /// # Errors
    /// Those of looking.
    pub fn directory(&self, name: &Path) -> sys::Result<Option<Self>> {
        let mut parts = Vec::new();
        for part in &self.parts {
            match part.find(name)? {
                None => continue,
                Some(stat) if stat.kind != Kind::Directory => break,
                Some(_) => {}
            }
            let below = match part.enter(name, Follow::Never) {
                Ok(below) => below,
                Err(error) if matches!(error.errno(), errno::ENOENT | errno::ENOTDIR) => continue,
                Err(error) => return Err(error),
            };
            let opaque = is_opaque(&below)?;
            parts.push(below);
            if opaque {
                break;
            }
        }
        Ok((!parts.is_empty()).then_some(Self { parts }))
    }

    /// All visible names, sorted, each with the part it lies in.
    ///
    /// # Errors
    /// Those of looking.
    pub fn entries(&self) -> sys::Result<Vec<(Entry, &Dir)>> {
        let mut seen: BTreeMap<OsString, Option<(Entry, &Dir)>> = BTreeMap::new();
        for part in &self.parts {
            for entry in part.entries()? {
                if seen.contains_key(&entry.name) {
                    continue;
                }
                let hidden = entry.kind == Kind::CharDevice
                    && part
                        .find(&entry.name)?
                        .is_none_or(|stat| stat.is_whiteout());
                let visible = (!hidden).then(|| (entry.clone(), part));
                seen.insert(entry.name, visible);
            }
        }
        Ok(seen.into_values().flatten().collect())
    }
}

/// Whether a directory hides what lies below it.
pub(crate) fn is_opaque(dir: &Dir) -> sys::Result<bool> {
    let value = sys::fs::xattr_of(dir, OPAQUE, dir.path().display())?;
    Ok(value.as_deref() == Some(b"y"))
}

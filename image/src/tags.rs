//! Names that lead to images: symbolic links that are replaced atomically.

use std::ffi::OsStr;
use std::io;

use sys::SysError;
use sys::fs::{self, Dir, Durability, errno};

use crate::digest::{Digest, ImageId};
use crate::reference::{Reference, ReferenceError};
use crate::store::{IMAGES, ImageStore, Result, step};

const TAGS: &str = "tags";
/// A longer file name has its reference in the link's target.
const NAME_LIMIT: usize = 200;

/// A name, where it leads, and when it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The name.
    pub reference: Reference,
    /// The image.
    pub image: ImageId,
    /// When.
    pub tagged: fs::Timestamp,
}

impl ImageStore {
    /// All names, sorted.
    ///
    /// # Errors
    /// [`ImageError::Step`].
    pub fn tags(&self) -> Result<Vec<Tag>> {
        let fail = step("read the images' names");
        let dir = match Dir::open(self.root().join(TAGS)) {
            Err(error) if error.errno() == errno::ENOENT => return Ok(Vec::new()),
            other => other.map_err(&fail)?,
        };
        let mut tags = Vec::new();
        for entry in dir.entries().map_err(&fail)? {
            let (Ok(target), Ok(stat)) = (dir.read_link(&entry.name), dir.stat(&entry.name)) else {
                continue;
            };
            if let Some((image, reference)) = read_tag(&entry.name, &target) {
                let tagged = stat.mtime;
                tags.push(Tag {
                    reference,
                    image,
                    tagged,
                });
            }
        }
        tags.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(tags)
    }

    /// Gives an image a name; one that led elsewhere leads here from now on.
    ///
    /// # Errors
    /// Those of [`ImageStore::find`], and [`ImageError::Reference`].
    pub fn tag(&self, source: &str, target: &str) -> Result<(ImageId, Reference)> {
        let reference = tag_name(target)?;
        let _lock = self.lock()?;
        let id = self.find(source)?;
        self.set_tag(&reference, id)?;
        Ok((id, reference))
    }

    /// Where a name leads, `None` where nothing has it.
    pub(crate) fn follow(&self, reference: &Reference) -> Result<Option<ImageId>> {
        let path = self.root().join(TAGS).join(tag_file(reference));
        match std::fs::read_link(&path) {
            Ok(target) => Ok(read_target(target.as_os_str()).map(|(id, _)| id)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                let call = format!("readlink({path:?})");
                Err(step("read an image's name")(SysError::from_io(call, error)))
            }
        }
    }

    pub(crate) fn set_tag(&self, reference: &Reference, id: ImageId) -> Result<()> {
        let fail = step("name the image");
        let dir = Dir::ensure(self.root().join(TAGS), 0o700).map_err(&fail)?;
        let file = tag_file(reference);
        let mut target = format!("../{IMAGES}/{}", id.hex());
        if file.len() > NAME_LIMIT {
            target = format!("{target} {reference}");
        }
        fs::replace_symlink(&dir, file, OsStr::new(&target), Durability::Power).map_err(fail)
    }

    pub(crate) fn remove_tag(&self, reference: &Reference) -> Result<()> {
        let fail = step("remove the image's name");
        let dir = Dir::open(self.root().join(TAGS)).map_err(&fail)?;
        match dir.unlink(tag_file(reference)) {
            Err(error) if error.errno() != errno::ENOENT => return Err(fail(error)),
            _ => {}
        }
        dir.sync().map_err(fail)
    }
}

/// Reads a name that may be given to an image: one without a digest, `latest` by default.
pub(crate) fn tag_name(text: &str) -> Result<Reference> {
    let reference: Reference = text.parse()?;
    if reference.digest().is_some() {
        return Err(ReferenceError::Format.into());
    }
    Ok(reference.or_latest())
}

fn tag_file(reference: &Reference) -> String {
    // A digest names the image alone, whatever tag stands before it.
    let file = match reference.digest() {
        Some(_) => reference.clone().without_tag().to_string(),
        None => reference.to_string(),
    };
    let file = file.replace('/', "+");
    if file.len() <= NAME_LIMIT {
        return file;
    }
    let mut short = file.clone();
    short.truncate(NAME_LIMIT - 66);
    format!("{short}~~~~~{}", Digest::of(file.as_bytes()).hex())
}

fn read_tag(file: &OsStr, target: &OsStr) -> Option<(ImageId, Reference)> {
    let (image, long) = read_target(target)?;
    let reference = match long {
        Some(reference) => reference.parse().ok()?,
        None => file.to_str()?.replace('+', "/").parse().ok()?,
    };
    Some((image, reference))
}

fn read_target(target: &OsStr) -> Option<(ImageId, Option<&str>)> {
    let rest = target.to_str()?.strip_prefix("../sha256/")?;
    let (hex, reference) = match rest.split_once(' ') {
        Some((hex, reference)) => (hex, Some(reference)),
        None => (rest, None),
    };
    Some((ImageId(Digest::from_hex(hex).ok()?), reference))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::{config, stored};

    #[test]
    fn keeps_names_that_are_longer_than_a_file_name() {
        let root = tempfile::tempdir().unwrap();
        let store = ImageStore::open(root.path());
        let id = stored(&store, &config(1));
        let long = format!("{}:{}", "a".repeat(230), "t".repeat(128));
        store.tag(&id.hex(), &long).unwrap();
        assert_eq!(store.find(&long).unwrap(), id);
        assert_eq!(store.tags().unwrap()[0].reference.familiar(), long);
    }
}

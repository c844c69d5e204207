//! How many bytes a container occupies.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Engine;
use crate::error::{Error, Result};
use crate::store::Container;

/// Bytes of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of the writable layer.
    pub writable: u64,
    /// Of that and all layers of the image.
    pub all: u64,
}

impl Engine {
    /// Counts the bytes of a container.
    pub(crate) fn sizes(&self, container: &Container) -> Result<Sizes> {
        let writable = usage(&container.dir.upper())?;
        let mut all = writable;
        let images = self.images();
        for layer in &container.record.layers {
            let layer = images.layers().layer(*layer).map_err(|error| {
                let text = format!("cannot tell the size of container {}", container.id());
                Error::system(text, error)
            })?;
            all += layer.size;
        }
        Ok(Sizes { writable, all })
    }
}

/// Bytes of all regular files below a directory, each once however many names it has. What
/// vanishes meanwhile counts nothing.
fn usage(top: &Path) -> Result<u64> {
    let mut seen = HashSet::new();
    let mut bytes = 0;
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Error::file("read the directory", &directory, error)),
        };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if metadata.is_dir() {
                open.push(entry.path());
            } else if metadata.is_file() && seen.insert((metadata.dev(), metadata.ino())) {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_two_names_counts_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::create_dir(path.join("below")).unwrap();
        fs::write(path.join("below/a"), "12345").unwrap();
        fs::hard_link(path.join("below/a"), path.join("b")).unwrap();
        std::os::unix::fs::symlink("/etc", path.join("link")).unwrap();
        assert_eq!(usage(path).unwrap(), 5);
        assert_eq!(usage(&path.join("nosuch")).unwrap(), 0);
    }
}

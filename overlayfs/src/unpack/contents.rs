//! Who hears of the contents that go into a tree: the recorder of a layer, or nobody.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::archive::Recorder;
use crate::tar::Observer;

/// What hears of the contents: the recorder of a layer, or nobody.
pub(crate) trait Contents: Observer {
    fn content(&mut self, path: &Path, length: u64) -> std::io::Result<bool>;
    fn moved(&mut self, from: &Path, to: &str);
}

impl Contents for () {
    fn content(&mut self, _: &Path, _: u64) -> std::io::Result<bool> {
        Ok(true)
    }

    fn moved(&mut self, _: &Path, _: &str) {}
}

impl Contents for Recorder {
    fn content(&mut self, path: &Path, length: u64) -> std::io::Result<bool> {
        let path = [b"diff/", path.as_os_str().as_bytes()].concat();
        Recorder::content(self, &path, length)?;
        Ok(true)
    }

    fn moved(&mut self, from: &Path, to: &str) {
        let from = [b"diff/", from.as_os_str().as_bytes()].concat();
        Recorder::moved(self, &from, to.as_bytes());
    }
}

//! A layer store on a scratch directory.

use std::io::Read;
use std::path::Path;

use overlayfs::store::Expected;
use overlayfs::{Layer, LayerStore};
use tempfile::TempDir;

pub(crate) struct Stage {
    pub(crate) directory: TempDir,
    pub(crate) store: LayerStore,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = LayerStore::open(directory.path().join("layers"));
        Self { directory, store }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    #[track_caller]
    pub(crate) fn unpack(&self, archive: &[u8], below: &[Layer]) -> Layer {
        let expected = Expected {
            below,
            ..Expected::default()
        };
        self.store.unpack(archive, &expected).unwrap().0
    }

    pub(crate) fn refuse(&self, archive: impl Read + Send) -> String {
        let mut error: &dyn std::error::Error = &self
            .store
            .unpack(archive, &Expected::default())
            .unwrap_err();
        let mut text = error.to_string();
        while let Some(source) = error.source() {
            error = source;
            text = format!("{text}: {source}");
        }
        text
    }

    /// Nothing but whole layers is in the store.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let remains = std::fs::read_dir(self.path().join("layers/unpacking"));
        assert_eq!(remains.map_or(0, Iterator::count), 0, "something was left");
        let layers = self.store.layers().unwrap();
        assert_eq!(self.store.check(&layers, true).unwrap(), []);
    }

    #[track_caller]
    pub(crate) fn writes_again(&self, layer: &Layer, archive: &[u8]) {
        let mut again = Vec::new();
        self.store.write_archive(layer.id, &mut again).unwrap();
        assert!(again == archive, "the archive written again is another");
    }
}

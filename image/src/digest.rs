//! What an image is named by when nobody named it: the digest of its config document.

pub use overlayfs::id::{Digest, DigestError};

overlayfs::id_type! {
    /// Names an image: the digest of its config document, byte for byte.
    ImageId
}

impl ImageId {
    /// The first twelve digits, as tables show them.
    pub fn short(&self) -> String {
        let mut hex = self.hex();
        hex.truncate(12);
        hex
    }
}

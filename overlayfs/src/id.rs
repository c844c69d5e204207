//! Identities of content: a digest, and the kinds of thing that digests name here.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// A SHA-256 digest; prints as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Not of the form `algorithm:hex`.
    #[error("invalid checksum digest format")]
    Format,
    /// An algorithm other than sha256.
    #[error("unsupported digest algorithm")]
    Algorithm,
    /// Not 64 lower-case hexadecimal digits.
    #[error("invalid checksum digest length")]
    Length,
}

impl Digest {
    /// Computes the digest of some bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Takes the 32 bytes of a finished hash.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 lower-case hexadecimal digits without the algorithm.
    ///
    /// # Errors
    /// [`DigestError::Length`] for anything else.
    pub fn from_hex(text: &str) -> Result<Self, DigestError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(DigestError::Length);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }

    /// The 64 hexadecimal digits without the algorithm.
    pub fn hex(&self) -> String {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            text.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
            text.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
        }
        text
    }
}

fn nibble(digit: u8) -> Result<u8, DigestError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(DigestError::Length),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::from_hex(hex),
            Some(_) => Err(DigestError::Algorithm),
            None => Err(DigestError::Format),
        }
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Makes a type for what a digest names, so that a layer is never taken for an image.
#[macro_export]
macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $crate::id::Digest);

        impl $name {
            /// The 64 hexadecimal digits without the algorithm.
            pub fn hex(&self) -> String {
                self.0.hex()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(&self.0, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::id::DigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id_type! {
    /// Names a layer by its content: the digest of the uncompressed archive.
    DiffId
}

id_type! {
    /// Names a stack of layers, as the image specification defines it.
    ChainId
}

id_type! {
    /// Names a layer's directory in the store.
    ///
    /// This is the layer's diff id, unless what was unpacked depends on the layers below it (a hard
    /// link to a lower file, a parent directory that only a lower layer describes).
    LayerId
}

impl ChainId {
    /// The chain ids of every prefix of a list of layers, bottom layer first.
    pub fn of_each(layers: &[DiffId]) -> Vec<Self> {
        let mut chain = Vec::with_capacity(layers.len());
        for layer in layers {
            chain.push(match chain.last() {
                None => Self(layer.0),
                Some(below) => Self(Digest::of(format!("{below} {layer}").as_bytes())),
            });
        }
        chain
    }
}

impl LayerId {
    /// The identity of a layer whose tree is the same whatever lies below it.
    pub fn independent(layer: DiffId) -> Self {
        Self(layer.0)
    }

    /// The identity of a layer whose tree depends on the layers below it, bottom layer first.
    pub fn dependent(below: &[DiffId], layer: DiffId) -> Self {
        let mut text = String::from("layer over");
        for lower in below {
            text.push_str(&format!(" {lower}"));
        }
        text.push_str(&format!(": {layer}"));
        Self(Digest::of(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_read_back_what_they_print() {
        let digest = Digest::of(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (text, why) in [
            (hex.to_owned(), DigestError::Format),
            (format!("sha512:{hex}"), DigestError::Algorithm),
            (format!("sha256:{}", &hex[1..]), DigestError::Length),
            (
                format!("sha256:{}", hex.to_uppercase()),
                DigestError::Length,
            ),
            (format!("sha256:../{}", &hex[3..]), DigestError::Length),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(why), "{text}");
        }
    }

    #[test]
    fn chain_ids_follow_the_image_specification() {
        let layer = |byte: u8| DiffId(Digest::from_bytes([byte; 32]));
        let chain = ChainId::of_each(&[layer(1), layer(2)]);
        assert_eq!(chain[0].0, layer(1).0);
        assert_eq!(
            chain[1].0,
            Digest::of(format!("{} {}", layer(1), layer(2)).as_bytes())
        );
    }
}

//! Container ids: 64 lower-case hexadecimal digits from the kernel's random source.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The id of a container.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// A text that is no container id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a container id (64 hexadecimal digits)")]
pub struct InvalidId(String);

impl ContainerId {
    /// A new id. Twelve digits that are all decimal are drawn again: as a host name they would
    /// read as a number.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn random() -> Result<Self> {
        loop {
            let id = random_hex()?;
            if !id[..12].bytes().all(|byte| byte.is_ascii_digit()) {
                return Ok(Self(id));
            }
        }
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

/// 32 random bytes as 64 digits: also the form of endpoint ids and anonymous volumes' names.
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 32];
    sys::random::fill(&mut bytes)
        .map_err(|source| Error::system("cannot read random bytes", source))?;
    let mut text = String::with_capacity(64);
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    Ok(text)
}

impl FromStr for ContainerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidId> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidId;

    fn try_from(text: String) -> std::result::Result<Self, InvalidId> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() == 64 && text.bytes().all(digit) {
            Ok(Self(text))
        } else {
            Err(InvalidId(text))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ_and_parse() {
        let one = ContainerId::random().unwrap();
        let other = ContainerId::random().unwrap();
        assert_ne!(one, other);
        assert_eq!(one.as_str().parse::<ContainerId>().unwrap(), one);
        assert_eq!(one.short().len(), 12);
    }

    #[test]
    fn only_64_lower_case_digits_are_ids() {
        let long = "a".repeat(65);
        let upper = "A".repeat(64);
        let slash = format!("{}/", "a".repeat(63));
        for text in ["", "abc", &long, &upper, &slash] {
            assert!(text.parse::<ContainerId>().is_err(), "{text}");
        }
    }
}

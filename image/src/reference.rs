//! Image references: Docker's grammar, without a regular expression.
//!
//! ```text
//! reference  = name [ ":" tag ] [ "@" digest ]
//! name       = [ domain "/" ] component { "/" component }
//! domain     = label { "." label } [ ":" port ]  |  "[" address "]" [ ":" port ]
//! component  = alnum { separator alnum }          alnum = [a-z0-9]+
//! separator  = "." | "_" | "__" | "-"+
//! tag        = [A-Za-z0-9_][A-Za-z0-9_.-]{0,127}
//! ```
//!
//! What users type is short: `alpine` means `docker.io/library/alpine:latest`. The first part is a
//! domain only if it holds a dot, a colon or an upper-case letter, or is `localhost`.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

const DEFAULT_DOMAIN: &str = "docker.io";
const LEGACY_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// A full reference: where an image lies, under which name, tag and digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A text that is no reference; prints as Docker does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Against the grammar.
    #[error("invalid reference format")]
    Format,
    /// Right but for upper-case letters.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// 64 hexadecimal digits would be taken for an id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// More than 255 characters of name.
    #[error("repository name must not be more than 255 characters")]
    TooLong,
    /// What follows `@` is no digest.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl Reference {
    /// The registry: `docker.io`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry: `library/alpine`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, where one was named.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, where one was named.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The repository as users write it: `alpine`, `me/tool`, `ghcr.io/me/tool`.
    pub fn familiar_name(&self) -> String {
        if self.domain == DEFAULT_DOMAIN {
            match self.path.strip_prefix(OFFICIAL) {
                Some(name) if !name.contains('/') => name.to_owned(),
                _ => self.path.clone(),
            }
        } else {
            format!("{}/{}", self.domain, self.path)
        }
    }

    /// The whole reference as users write it: `alpine:latest`.
    pub fn familiar(&self) -> String {
        self.suffixed(self.familiar_name())
    }

    /// This reference with `latest` where it names neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// This reference without its tag, for what names an image by its digest.
    #[must_use]
    pub fn without_tag(mut self) -> Self {
        self.tag = None;
        self
    }

    /// This repository with another tag.
    ///
    /// # Errors
    /// [`ReferenceError::Format`] for a text that is no tag.
    pub fn with_tag(mut self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        self.tag = Some(tag.to_owned());
        self.digest = None;
        Ok(self)
    }

    /// Whether both name the same repository.
    pub fn same_repository(&self, other: &Self) -> bool {
        self.domain == other.domain && self.path == other.path
    }

    fn suffixed(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }
}

/// Prints in full: `docker.io/library/alpine:latest`.
impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suffixed(format!("{}/{}", self.domain, self.path)))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if is_identifier(text) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (domain, rest) = split_domain(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (rest, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        let path = match (domain.as_str(), name.contains('/')) {
            (DEFAULT_DOMAIN, false) => format!("{OFFICIAL}{name}"),
            _ => name.to_owned(),
        };
        let lower = path.to_lowercase();
        if !is_domain(&domain) || !is_path(&lower) || !tag.is_none_or(is_tag) {
            return Err(ReferenceError::Format);
        }
        if lower != path {
            return Err(ReferenceError::Uppercase(path));
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self {
            domain,
            path,
            tag: tag.map(str::to_owned),
            digest: digest.map(parse_digest).transpose()?,
        })
    }
}

/// Whether a text is a full image id without its algorithm.
pub fn is_identifier(text: &str) -> bool {
    Digest::from_hex(text).is_ok()
}

fn split_domain(text: &str) -> (String, &str) {
    match text.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.chars().any(|c| c.is_ascii_uppercase()) =>
        {
            if first == LEGACY_DOMAIN {
                (DEFAULT_DOMAIN.to_owned(), rest)
            } else {
                (first.to_owned(), rest)
            }
        }
        _ => (DEFAULT_DOMAIN.to_owned(), text),
    }
}

fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => return is_address(address),
            Some((address, port)) => (address, port.strip_prefix(':')),
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, Some("0")),
        },
    };
    let named = if text.starts_with('[') {
        is_address(host)
    } else {
        host.split('.').all(is_label)
    };
    named && port.is_some_and(|port| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit()))
}

fn is_address(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b':')
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
}

fn is_path(text: &str) -> bool {
    text.split('/').all(is_component)
}

fn is_component(text: &str) -> bool {
    let alnum = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !text.starts_with(alnum) || !text.ends_with(alnum) {
        return false;
    }
    text.split(alnum).all(|between| {
        matches!(between, "" | "." | "_" | "__") || between.chars().all(|c| c == '-')
    })
}

fn is_tag(text: &str) -> bool {
    text.len() <= TAG_LIMIT
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'.' | b'-'))
}

fn parse_digest(text: &str) -> Result<Digest, ReferenceError> {
    match text.split_once(':') {
        Some((algorithm, hex))
            if !algorithm.is_empty() && hex.bytes().all(|c| c.is_ascii_hexdigit()) =>
        {
            Ok(text.parse()?)
        }
        _ => Err(ReferenceError::Format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn reads_what_docker_reads() {
        for (typed, full, familiar) in [
            ("alpine", "docker.io/library/alpine", "alpine"),
            (
                "alpine:3.19",
                "docker.io/library/alpine:3.19",
                "alpine:3.19",
            ),
            ("me/tool", "docker.io/me/tool", "me/tool"),
            ("library/alpine", "docker.io/library/alpine", "alpine"),
            ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
            ("index.docker.io/me/x", "docker.io/me/x", "me/x"),
            ("localhost/x", "localhost/x", "localhost/x"),
            (
                "localhost:5000/x:y",
                "localhost:5000/x:y",
                "localhost:5000/x:y",
            ),
            ("ghcr.io/a/b/c", "ghcr.io/a/b/c", "ghcr.io/a/b/c"),
            ("Host/x", "Host/x", "Host/x"),
            ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
            ("[fe80::1]/x", "[fe80::1]/x", "[fe80::1]/x"),
            (
                "a-b__c/e---f_g.h",
                "docker.io/a-b__c/e---f_g.h",
                "a-b__c/e---f_g.h",
            ),
            ("x:_Tag.1-2", "docker.io/library/x:_Tag.1-2", "x:_Tag.1-2"),
        ] {
            let reference: Reference = typed.parse().unwrap();
            assert_eq!(reference.to_string(), full, "{typed}");
            assert_eq!(reference.familiar(), familiar, "{typed}");
        }
        let both: Reference = format!("x:1@sha256:{HEX}").parse().unwrap();
        assert_eq!(both.tag(), Some("1"));
        assert_eq!(both.digest().unwrap().hex(), HEX);
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let long = "a/".repeat(130) + "a";
        let tag = format!("x:{}", "t".repeat(129));
        let short = format!("x@sha256:{}", &HEX[1..]);
        for (typed, message) in [
            ("", "invalid reference format"),
            (":", "invalid reference format"),
            ("x:", "invalid reference format"),
            ("x:y:z", "invalid reference format"),
            ("/x", "invalid reference format"),
            ("x/", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("-x", "invalid reference format"),
            ("x-", "invalid reference format"),
            ("a___b", "invalid reference format"),
            ("a..b", "invalid reference format"),
            ("a._b", "invalid reference format"),
            ("x:-t", "invalid reference format"),
            ("x y", "invalid reference format"),
            ("../x", "invalid reference format"),
            ("x@sha256", "invalid reference format"),
            ("host:port/x", "invalid reference format"),
            ("host.:5/x", "invalid reference format"),
            ("[::1/x", "invalid reference format"),
            ("a-b__c.d/e", "invalid reference format"), // a dot makes a domain of the first part
            ("[::1]x/x", "invalid reference format"),
            (tag.as_str(), "invalid reference format"),
            (
                "Alpine",
                "invalid reference format: repository name (library/Alpine) must be lowercase",
            ),
            (
                "me/Tool:1",
                "invalid reference format: repository name (me/Tool) must be lowercase",
            ),
            (
                HEX,
                "invalid repository name (e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855), cannot specify 64-byte hexadecimal strings",
            ),
            (
                long.as_str(),
                "repository name must not be more than 255 characters",
            ),
            (short.as_str(), "invalid checksum digest length"),
            ("x@md5:00", "unsupported digest algorithm"),
        ] {
            assert_eq!(
                typed.parse::<Reference>().map_err(|e| e.to_string()),
                Err(message.to_owned()),
                "{typed}"
            );
        }
    }

    #[test]
    fn gives_latest_only_where_nothing_is_named() {
        let latest = |text: &str| text.parse::<Reference>().unwrap().or_latest().familiar();
        assert_eq!(latest("x"), "x:latest");
        assert_eq!(latest("x:1"), "x:1");
        assert_eq!(
            latest(&format!("x@sha256:{HEX}")),
            format!("x@sha256:{HEX}")
        );
    }

    proptest! {
        #[test]
        fn reads_back_what_it_prints(text in "[a-z0-9.:/_@-]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>(), Ok(reference.clone()));
                prop_assert_eq!(reference.familiar().parse::<Reference>(), Ok(reference));
            }
        }

        #[test]
        fn never_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<Reference>();
        }
    }
}

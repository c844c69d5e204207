//! Making an image of one layer from a tree in an archive: `import`.

use std::io::Read;

use overlayfs::store::{Expected, Layer};

use crate::change;
use crate::config::{History, ImageConfig, RootFs, RunConfig};
use crate::digest::ImageId;
use crate::reference::Reference;
use crate::store::{ImageStore, Record, Result};
use crate::tags::tag_name;

/// What the image shall be beside its tree.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// Its name; none is given where this is `None`.
    pub name: Option<String>,
    /// Dockerfile instructions that change its config.
    pub changes: Vec<String>,
    /// Its comment, where it is not what `source` says.
    pub message: Option<String>,
    /// Where the archive came from; `-` is standard input.
    pub source: String,
    /// `linux/arm64/v8`, where it is not this machine's.
    pub platform: Option<String>,
}

/// What a platform must look like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Platform {
    pub(crate) os: String,
    pub(crate) architecture: String,
    pub(crate) variant: String,
}

impl Platform {
    /// That of this machine, by the names that images use.
    pub(crate) fn here() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "aarch64" => ("arm64", ""),
            "x86" => ("386", ""),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    fn parse(text: &str) -> std::result::Result<Self, change::ChangeError> {
        let bad = || change::ChangeError::Platform(text.to_owned());
        let valid = |part: &&str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-' | b'.'))
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(valid) {
            return Err(bad());
        }
        let here = Self::here();
        let (os, architecture, variant) = match parts[..] {
            ["linux"] => ("linux", here.architecture.as_str(), here.variant.as_str()),
            [architecture] => ("linux", architecture, ""),
            [os, architecture] => (os, architecture, ""),
            [os, architecture, variant] => (os, architecture, variant),
            _ => return Err(bad()),
        };
        if os != "linux" {
            return Err(change::ChangeError::OperatingSystem(os.to_owned()));
        }
        let architecture = match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" => "386",
            other => other,
        };
        Ok(Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        })
    }
}

impl ImageStore {
    /// Makes an image of one layer from an archive, compressed or not.
    ///
    /// # Errors
    /// `ImageError`; no image is left then.
    pub fn import(&self, archive: impl Read + Send, request: &ImportRequest) -> Result<ImageId> {
        // What can be refused without the archive is refused before it is read.
        let name: Option<Reference> = request.name.as_deref().map(tag_name).transpose()?;
        let mut run = RunConfig::default();
        change::apply(&mut run, &request.changes)?;
        let platform = match &request.platform {
            Some(text) => Platform::parse(text)?,
            None => Platform::here(),
        };
        // On a full disk there must be a lock at least, to take the layer away again under it.
        self.prepare()?;
        let (layer, _) = self.layers().unpack(archive, &Expected::default())?;
        let config = describe(run, platform, request, layer.diff_id);
        let stored = self.store_import(&config, &layer, name.as_ref());
        if stored.is_err() {
            // What stays is collected later; why the image cannot be stored matters more.
            let _ = self.forget(&[layer.id]);
        }
        stored
    }

    fn store_import(
        &self,
        config: &ImageConfig,
        layer: &Layer,
        name: Option<&Reference>,
    ) -> Result<ImageId> {
        let text = serde_json::to_vec(config).map_err(crate::layout::LayoutError::Write)?;
        let _lock = self.lock()?;
        // Another process may have collected it as long as nothing named it.
        self.layers().layer(layer.id)?;
        let record = Record {
            layers: vec![layer.id],
            size: layer.size,
            sizes: vec![layer.size],
            parent: None,
        };
        let names: Vec<Reference> = name.cloned().into_iter().collect();
        let (id, _) = self.put_named(&text, &record, &names)?;
        Ok(id)
    }
}

fn describe(
    run: RunConfig,
    platform: Platform,
    request: &ImportRequest,
    layer: overlayfs::DiffId,
) -> ImageConfig {
    let created = Some(now());
    let comment = match &request.message {
        Some(message) if !message.is_empty() => message.clone(),
        _ => format!("Imported from {}", request.source),
    };
    ImageConfig {
        architecture: platform.architecture,
        variant: platform.variant,
        os: platform.os,
        comment: comment.clone(),
        config: run,
        created: created.clone(),
        history: vec![History {
            created,
            comment,
            ..History::default()
        }],
        rootfs: RootFs {
            diff_ids: vec![layer],
            ..RootFs::default()
        },
        ..ImageConfig::default()
    }
}

/// The time as documents have it: RFC 3339 with nanoseconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_platforms() {
        for (text, expected) in [
            ("linux/amd64", Some(("amd64", ""))),
            ("linux/arm64/v8", Some(("arm64", "v8"))),
            ("x86_64", Some(("amd64", ""))),
            ("linux/aarch64", Some(("arm64", ""))),
            ("windows/amd64", None),
            ("a/b/c/d", None),
            ("linux/", None),
            ("", None),
        ] {
            let got = Platform::parse(text).ok();
            let got = got
                .as_ref()
                .map(|p| (p.architecture.as_str(), p.variant.as_str()));
            assert_eq!(got, expected, "{text}");
        }
    }
}

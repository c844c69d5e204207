//! `rbox image …` and the same commands without the noun.

use engine::Engine;
use image::remove::ImageUser;
use image::store::ImageError;

use crate::app::Entry;
use crate::command::version;
use crate::error::{Failure, Result};

pub(crate) mod history;
pub(crate) mod import;
pub(crate) mod inspect;
pub(crate) mod load;
pub(crate) mod ls;
pub(crate) mod prune;
pub(crate) mod rm;
pub(crate) mod save;
pub(crate) mod tag;

/// The verbs of the noun.
pub(crate) static ENTRIES: &[Entry] = &[
    Entry::new("history", &history::LEAF),
    Entry::new("import", &import::LEAF),
    Entry::new("inspect", &inspect::LEAF),
    Entry::new("load", &load::LEAF),
    Entry::new("ls", &ls::LEAF).or(&["list"]),
    Entry::new("prune", &prune::LEAF),
    Entry::new("rm", &rm::LEAF).or(&["remove"]),
    Entry::new("save", &save::LEAF),
    Entry::new("tag", &tag::LEAF),
];

/// Who stands on images: all containers, running or not.
pub(crate) fn users(engine: &Engine) -> engine::Result<Vec<ImageUser>> {
    let mut users = Vec::new();
    for container in engine.store().load_all()? {
        let record = &container.record;
        // an id that cannot be read names no image that could be removed
        let Ok(image) = record.image.parse() else {
            continue;
        };
        users.push(ImageUser {
            container: record.id.to_string(),
            image,
            layers: record.layers.clone(),
            running: container.status()?.0.is_running(),
        });
    }
    Ok(users)
}

/// Asks [`users`] for the image store.
pub(crate) fn look(engine: &Engine) -> impl Fn() -> image::store::Result<Vec<ImageUser>> {
    || users(engine).map_err(|error| ImageError::Users(error.into()))
}

/// Images here hold one platform, this machine's.
pub(crate) fn refuse_platform(platform: Option<&str>) -> Result<()> {
    let ours = format!("linux/{}", version::architecture());
    match platform {
        Some(platform) if !platform.is_empty() && !ours.starts_with(platform) => {
            Err(Failure::said(format!(
                "--platform is not supported by rbox: images are {ours}, not {platform}"
            )))
        }
        _ => Ok(()),
    }
}

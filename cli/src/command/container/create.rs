//! `rbox create`: makes a container without starting it.

use std::io::Write as _;

use clap::Args;
use engine::Engine;
use engine::container::create::{CreateRequest, Created};
use image::reference::{Reference, is_identifier};

use super::arguments::{ContainerArgs, Surroundings, Wanted};
use crate::app::{Count, Leaf, Verb};
use crate::context::Context;
use crate::error::{Failure, REFUSED, Result, file};
use crate::output::warn;

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<CreateArgs>(
    "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    "Create a new container",
    &["container create", "create"],
    Count::AtLeast(1),
)
.flags_first();

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    container: ContainerArgs,
    /// Pull image before creating ("always", "|missing", "never") (default "missing")
    #[arg(long, value_name = "string")]
    pull: Option<String>,
}

impl Verb for CreateArgs {
    fn run(self, context: &Context, plain: Vec<String>) -> Result<()> {
        let pull = Pull::parse(self.pull.as_deref()).map_err(refused)?;
        let wanted = self
            .container
            .request(&plain, false, &Surroundings::of_process())
            .map_err(refused)?;
        let created = create(&context.engine()?, wanted, pull)?;
        writeln!(std::io::stdout(), "{}", created.id)?;
        Ok(())
    }
}

/// What the command line itself refuses ends with 125 and a pointer to help.
fn refused(failure: Failure) -> Failure {
    match failure {
        Failure::Said(mut message) => {
            message.text = format!(
                "rbox: {}\n\nRun 'rbox create --help' for more information",
                message.text
            );
            message.code = REFUSED;
            Failure::Said(message)
        }
        other => other,
    }
}

/// When an image is fetched from a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pull {
    /// Each time.
    Always,
    /// When it is not here.
    Missing,
    /// Not at all.
    Never,
}

impl Pull {
    /// The value of `--pull`.
    pub(super) fn parse(text: Option<&str>) -> Result<Self> {
        match text {
            None | Some("" | "missing") => Ok(Self::Missing),
            Some("always") => Ok(Self::Always),
            Some("never") => Ok(Self::Never),
            Some(other) => Err(Failure::coded(
                REFUSED,
                format!(
                    "invalid pull option: '{other}': must be one of \"always\", \"missing\" or \"never\""
                ),
            )),
        }
    }
}

/// Makes the container, with the file of its id and the warnings.
pub(super) fn create(engine: &Engine, wanted: Wanted, pull: Pull) -> Result<Created> {
    let image = wanted.config.image.clone();
    let name = image_name(&image)?;
    if pull == Pull::Always {
        return Err(no_registry(&name));
    }
    let id_file = IdFile::reserve(&wanted.host.container_id_file)?;
    let request = request(wanted)?;
    let created = match engine.create(&request) {
        Ok(created) => created,
        Err(error) => {
            id_file.withdraw();
            return Err(if is_missing_image(&error) && pull == Pull::Missing {
                warn(&format!("Unable to find image '{name}' locally"));
                no_registry(&name)
            } else {
                error.into()
            });
        }
    };
    id_file.write(created.id.as_str())?;
    for warning in &created.warnings {
        warn(&format!("WARNING: {warning}"));
    }
    Ok(created)
}

/// The engine's form of what the flags ask for.
pub(super) fn request(wanted: Wanted) -> Result<CreateRequest> {
    Ok(CreateRequest {
        name: match wanted.name {
            Some(name) => Some(
                name.parse()
                    .map_err(|error| Failure::from(engine::Error::from(error)))?,
            ),
            None => None,
        },
        config: wanted.config,
        host: wanted.host,
        endpoint: wanted.endpoint,
        networks: wanted.networks,
    })
}

/// The image's name as messages show it; the id of an image is its own name.
fn image_name(text: &str) -> Result<String> {
    if is_identifier(text.trim_start_matches("sha256:")) {
        return Ok(text.to_owned());
    }
    let reference = text
        .parse::<Reference>()
        .map_err(|error| Failure::said(error.to_string()))?;
    Ok(reference.or_latest().familiar())
}

fn is_missing_image(error: &engine::Error) -> bool {
    error.kind() == engine::ErrorKind::NotFound && error.message().starts_with("No such image")
}

fn no_registry(name: &str) -> Failure {
    Failure::said(format!(
        "Error response from daemon: cannot pull {name}: rbox does not speak to registries yet"
    ))
    .hint(format!(
        "load it from an archive with 'rbox load -i FILE', or make it from a root file system with 'rbox import FILE {name}'"
    ))
}

/// The file of `--cidfile`; empty until the container exists.
struct IdFile {
    path: String,
}

impl IdFile {
    fn reserve(path: &str) -> Result<Self> {
        let reserved = Self {
            path: path.to_owned(),
        };
        if path.is_empty() {
            return Ok(reserved);
        }
        let made = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path);
        match made {
            Ok(_) => Ok(reserved),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Err(Failure::said(format!(
                    "container ID file found, make sure the other container isn't running or delete {path}"
                )))
            }
            Err(error) => Err(Failure::said(format!(
                "failed to create the container ID file: {}",
                file("open", path, &error)
            ))),
        }
    }

    fn write(&self, id: &str) -> Result<()> {
        if self.path.is_empty() {
            return Ok(());
        }
        std::fs::write(&self.path, id).map_err(|error| {
            Failure::said(format!(
                "failed to write the container ID to the file: {}",
                file("write", &self.path, &error)
            ))
        })
    }

    /// Takes the empty file away again.
    fn withdraw(&self) {
        if !self.path.is_empty() {
            // an empty file that stays is found by the next run, which says so
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

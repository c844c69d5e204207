//! `commit`: an image of what a container's processes made of its own image.

use std::io::{BufReader, PipeWriter};

use image::commit::{Base, CommitRequest};
use image::config::{Empty, Healthcheck, RunConfig};
use image::{ImageError, ImageId};
use overlayfs::diff::{ExportError, export_layer, piped};
use sys::epoll::Signals;

use super::diff::{Layers, mount_points};
use crate::Engine;
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::id::ContainerId;
use crate::store::{Container, Status};

/// What the user wants of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitOptions {
    /// `REPOSITORY[:TAG]`; `None` is no name.
    pub name: Option<String>,
    /// `-a`.
    pub author: String,
    /// `-m`.
    pub message: String,
    /// `-c`: Dockerfile instructions.
    pub changes: Vec<String>,
    /// Freeze the container meanwhile, if it runs.
    pub pause: bool,
}

impl Engine {
    /// Makes an image of a container: its image with one more layer, its config changed by the
    /// instructions. What lies in volumes is not in it.
    ///
    /// # Errors
    /// A name or an instruction that is none; when the root directory is full. A container that was
    /// frozen for it runs again.
    pub fn commit(&self, id: &ContainerId, options: CommitOptions) -> Result<ImageId> {
        let container = self.store().load(id)?;
        let record = &container.record;
        let request = CommitRequest {
            name: options.name,
            changes: options.changes,
            author: options.author,
            message: options.message,
            container: record.id.to_string(),
            config: run_config(&record.config),
        };
        // What can be refused is refused before the container stands still.
        let (name, _) = self.images().check_commit(&request).map_err(refused)?;
        let image = record.image.parse().map_err(|error| {
            let text = format!("container {id} has no image that could be read");
            Error::system(text, error).hint(format!(
                "make one of its files: 'rbox export {id} | rbox import -'"
            ))
        })?;
        let base = Base {
            image,
            layers: record.layers.clone(),
        };
        let running = container.status()?.0 == Status::Running;
        let made = self.with_layers(&container, |layers| match options.pause && running {
            true => self.while_frozen(&container, || self.make_image(layers, &base, &request)),
            false => self.make_image(layers, &base, &request),
        })?;
        let reference = name.as_ref().map(|name| name.familiar());
        self.note_commit(&container, made, reference.as_deref(), &request.message);
        Ok(made)
    }

    /// Does something while the container stands still. A signal that would end this process waits
    /// until the container goes on.
    fn while_frozen<T>(
        &self,
        container: &Container,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        const END: [i32; 4] = [1, 2, 3, 15]; // HUP, INT, QUIT, TERM
        let _held = Signals::catch_numbers(&END)
            .map_err(|error| Error::system("cannot hold signals back", error))?;
        let frozen = self.freeze(container)?;
        let done = work();
        if frozen {
            self.thaw(container)?;
        }
        done
    }

    /// Freezes the container; one that ended just now needs it no more.
    fn freeze(&self, container: &Container) -> Result<bool> {
        match self.pause(container.id()) {
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(false),
            other => other.map(|()| true),
        }
    }

    fn thaw(&self, container: &Container) -> Result<()> {
        match self.unpause(container.id()) {
            // Somebody killed it, or let it go on, meanwhile.
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
            other => other,
        }
    }

    fn make_image(&self, layers: &Layers, base: &Base, request: &CommitRequest) -> Result<ImageId> {
        std::thread::scope(|scope| {
            let write = |pipe: PipeWriter| -> std::result::Result<(), ExportError> {
                let mounts = mount_points();
                export_layer(&layers.upper, layers.extent, &layers.lower, &mounts, pipe).map(drop)
            };
            let archive = piped(scope, write)
                .map_err(|error| Error::system("cannot start a thread", error))?;
            self.images()
                .commit(BufReader::new(archive), base, request)
                .map_err(refused)
        })
    }

    fn note_commit(
        &self,
        container: &Container,
        image: ImageId,
        name: Option<&str>,
        message: &str,
    ) {
        let id = image.to_string();
        if let Some(name) = name {
            let mut event = Event::new("image", "tag", &id, &[("name", name)]);
            event.status = Some("tag".to_owned());
            event.id = Some(id.clone());
            // an event that cannot be written stops nothing
            let _ = self.events().append(&event);
        }
        let extra = [
            ("comment", message),
            ("imageID", &id),
            ("imageRef", name.unwrap_or_default()),
        ];
        self.note(container, "commit", &extra);
    }
}

/// The store's refusal in the engine's words.
fn refused(error: ImageError) -> Error {
    let kind = match &error {
        ImageError::NotFound(_) => ErrorKind::NotFound,
        ImageError::Reference(_) | ImageError::Change(_) => ErrorKind::InvalidParameter,
        ImageError::Conflict(_) => ErrorKind::Conflict,
        ImageError::Ambiguous(_)
        | ImageError::Archive(_)
        | ImageError::Layers(_)
        | ImageError::Damaged { .. }
        | ImageError::Users(_)
        | ImageError::Step { .. } => ErrorKind::System,
    };
    let text = error.to_string();
    match std::error::Error::source(&error) {
        Some(_) => Error::new(kind, text).because(Cause(error)),
        None => Error::new(kind, text),
    }
}

/// What lies beneath an error, without the error's own words.
#[derive(Debug)]
struct Cause(ImageError);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match std::error::Error::source(&self.0) {
            Some(source) => write!(f, "{source}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.0).and_then(std::error::Error::source)
    }
}

/// A container's config as its image gets it: everything that Docker keeps.
fn run_config(config: &Config) -> RunConfig {
    let keys =
        |set: &crate::config::KeySet| set.keys().map(|key| (key.clone(), Empty {})).collect();
    RunConfig {
        hostname: config.hostname.clone(),
        domainname: config.domainname.clone(),
        user: config.user.clone(),
        attach_stdin: config.attach_stdin,
        attach_stdout: config.attach_stdout,
        attach_stderr: config.attach_stderr,
        exposed_ports: keys(&config.exposed_ports),
        tty: config.tty,
        open_stdin: config.open_stdin,
        stdin_once: config.stdin_once,
        env: config.env.clone(),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.as_ref().map(|check| Healthcheck {
            test: check.test.clone(),
            interval: check.interval,
            timeout: check.timeout,
            start_period: check.start_period,
            start_interval: check.start_interval,
            retries: check.retries,
        }),
        args_escaped: false,
        image: config.image.clone(),
        volumes: config.volumes.as_ref().map(keys),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        on_build: config.on_build.clone(),
        labels: Some(config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.stop_timeout,
        shell: config.shell.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_config_is_baked_in_whole() {
        let config = Config {
            hostname: "h".to_owned(),
            env: vec!["A=1".to_owned()],
            tty: true,
            volumes: Some([("/v".to_owned(), crate::config::Empty {})].into()),
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            stop_timeout: Some(3),
            ..Config::default()
        };
        let image = serde_json::to_value(run_config(&config)).unwrap();
        let container = serde_json::to_value(&config).unwrap();
        assert_eq!(image, container, "one field of them differs");
    }

    #[test]
    fn a_refusal_keeps_its_cause_and_says_it_once() {
        let inner = overlayfs::StoreError::Read(std::io::Error::other("inner"));
        let error = refused(ImageError::Layers(inner));
        assert_eq!(error.to_string(), "cannot read the archive");
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), "inner");
        assert!(cause.source().is_none());
    }
}

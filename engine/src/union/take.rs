//! Which unions a container needs, and having them while it does not run.

use std::path::{Path, PathBuf};

use overlayfs::union::places::replace_places;
use plan::{Journal, Run};

use super::UnionStep;
use crate::Engine;
use crate::error::{Error, Result};
use crate::mount::{MountPoint, settle_branch, union_of};
use crate::plan::{StartHost, StartStep};
use crate::store::Container;

/// Takes the unions out of a container: each of its mounts' becomes a step, and a mount of its
/// place; its root, where that is one, a further step.
///
/// # Errors
/// A branch of the root that is missing, or that a container has bent to elsewhere.
pub(crate) fn take(
    engine: &Engine,
    container: &Container,
    mounts: &mut [MountPoint],
) -> Result<Vec<UnionStep>> {
    let mut steps: Vec<UnionStep> = root(engine, container)?.into_iter().collect();
    for (index, mount) in mounts.iter_mut().enumerate() {
        let Some(options) = union_of(mount) else {
            continue;
        };
        let shared = !mount.name.is_empty();
        let target = match shared {
            true => engine.store().union_of_volume(&mount.name),
            false => engine.store().union_of(container.id(), &index.to_string()),
        };
        let part = mount.volume.as_ref().map_or("", |volume| &volume.subpath);
        // Nobody can look at it before it is mounted: no link may be on the way.
        mount.settled = !part.is_empty();
        mount.source = match part {
            "" => target.display().to_string(),
            part => target.join(part).display().to_string(),
        };
        steps.push(UnionStep {
            target,
            options,
            user: shared.then(|| container.run.clone()),
            image: Vec::new(),
        });
    }
    Ok(steps)
}

/// The union that is a container's root.
pub(crate) fn root(engine: &Engine, container: &Container) -> Result<Option<UnionStep>> {
    let options = &container.record.host.rootfs_union;
    if options.is_empty() {
        return Ok(None);
    }
    let settle = |path: &Path| -> Result<PathBuf> { settle_branch(engine, path, "/") };
    Ok(Some(UnionStep {
        target: engine.store().union_of(container.id(), "root"),
        options: replace_places(options, settle)?,
        user: None,
        image: engine.images().layers().trees(&container.record.layers),
    }))
}

/// Has unions mounted while it does something, for a container that does not run; the caller holds
/// its claim. Should this process die, the next command unmounts them by the journal.
///
/// # Errors
/// Those of mounting and of the work.
pub(crate) fn while_mounted<T>(
    engine: &Engine,
    container: &Container,
    unions: Vec<UnionStep>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    if unions.is_empty() {
        return work();
    }
    let steps: Vec<StartStep> = unions.into_iter().map(StartStep::Union).collect();
    let mut host = StartHost::of(engine.options());
    let journal = Journal::at(container.run.plan_path());
    journal
        .write(&steps)
        .map_err(|error| Error::system("cannot write the plan down", error))?;
    let faults = plan::Faults::from_environment();
    let done = match Run::new(faults, false).apply(&steps, &mut host) {
        Ok(()) => work(),
        Err(failure) => Err(Error::system(
            format!("cannot mount the unions of container {}", container.name),
            failure.cause,
        )),
    };
    let unmounted = match plan::undo_all(&steps, &mut host).into_iter().next() {
        None => journal
            .remove()
            .map_err(|error| Error::system("cannot remove the plan", error)),
        Some(error) => {
            let text = format!("cannot unmount the unions of container {}", container.name);
            Err(Error::system(text, error))
        }
    };
    after(done, unmounted)
}

/// The end of some work and of what had to follow it; the work's error comes first.
fn after<T>(done: Result<T>, followed: Result<()>) -> Result<T> {
    match (done, followed) {
        (Err(error), Err(further)) => Err(error.and(&further)),
        (Ok(_), Err(error)) => Err(error),
        (done, Ok(())) => done,
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::error::ErrorKind;

    /// The error of unmounting once took the place of what had gone wrong before.
    #[test]
    fn the_error_of_the_work_comes_first() {
        let work = || Error::not_found("No such file").because(io::Error::other("gone"));
        let unmount = || Error::system("cannot unmount it", io::Error::other("busy"));
        let both = after::<()>(Err(work()), Err(unmount())).unwrap_err();
        assert_eq!(
            both.to_string(),
            "No such file: gone; afterwards, cannot unmount it: busy"
        );
        assert_eq!(both.kind(), ErrorKind::NotFound);
        for (done, followed, want) in [
            (Err(work()), Ok(()), Some("No such file")),
            (Ok(1), Err(unmount()), Some("cannot unmount it")),
            (Ok(1), Ok(()), None),
        ] {
            let error = after(done, followed).err().map(|error| error.to_string());
            assert_eq!(error.as_deref(), want);
        }
    }
}

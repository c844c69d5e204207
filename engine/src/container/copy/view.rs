//! Reaching a container's files, whether it runs or not.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::channel;

use runtime::Root;
use sys::fs::Dir;

use crate::Engine;
use crate::container::held::Held;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::monitor::files::paths;
use crate::monitor::specify::layers;
use crate::mount::{Missing, settle_sources};
use crate::spec::file_mounts;
use crate::store::Container;
use crate::union;

/// Does something in a container's root directory, in a thread that has its mounts.
pub(super) fn with_files<T: Send>(
    engine: &Engine,
    id: &ContainerId,
    work: impl FnOnce(&Container, &Dir) -> Result<T> + Send,
) -> Result<T> {
    loop {
        let container = engine.store().load(id)?;
        match Held::of(engine, &container)? {
            Held::Lives => {
                if let Some(process) = living(&container)? {
                    return inside(&container, &process, work);
                }
                // It has just ended: its monitor will go, or start it again.
            }
            Held::Changed => {}
            Held::Rests(claim) => {
                let done = mounted(engine, &container, work);
                claim.clear()?;
                return done;
            }
        }
    }
}

/// The first process of a container, by a descriptor that cannot become another's.
fn living(container: &Container) -> Result<Option<OwnedFd>> {
    let Some(init) = container.run.init()? else {
        return Ok(None);
    };
    let Ok(process) = sys::process::pidfd_open(init.process.pid) else {
        return Ok(None);
    };
    // Looked at after the descriptor was opened: the number may have been another's before.
    Ok(init.process.alive().then_some(process))
}

/// Runs in a thread of its own: what it does to its mount namespace ends with it.
fn alone<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread = thread.map_err(|error| Error::system("cannot start a thread", error))?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Works in the container's mounts by the descriptor of its root; a thread keeps them there should
/// the container end meanwhile. The work is done outside: `/proc` inside is not ours.
fn inside<T>(
    container: &Container,
    process: &OwnedFd,
    work: impl FnOnce(&Container, &Dir) -> Result<T>,
) -> Result<T> {
    std::thread::scope(|scope| {
        let (give, take) = channel();
        let (done, wait) = channel::<()>();
        let keeper = std::thread::Builder::new().spawn_scoped(scope, move || {
            // Whoever asked is there: it waits for this.
            let _ = give.send(runtime::files::join(process.as_fd()));
            let _ = wait.recv();
        });
        keeper.map_err(|error| Error::system("cannot start a thread", error))?;
        let root = take
            .recv()
            .map_err(|error| Error::system("the thread that holds the files died", error))?
            .map_err(|error| out_of_reach(container, error))?;
        let worked = work(container, &root);
        drop(done);
        worked
    })
}

fn mounted<T: Send>(
    engine: &Engine,
    container: &Container,
    work: impl FnOnce(&Container, &Dir) -> Result<T> + Send,
) -> Result<T> {
    engine.ready_volumes(container)?;
    let mut mounts = settle_sources(engine, container, Missing::Make)?;
    let unions = union::take(engine, container, &mut mounts)?;
    let mounts = file_mounts(&mounts, &paths(container))?;
    let root = match container.record.host.rootfs_union.as_str() {
        "" => Root::Overlay(layers(engine, container)),
        _ => Root::Directory(engine.store().union_of(container.id(), "root")),
    };
    union::while_mounted(engine, container, unions, || {
        alone(|| {
            runtime::files::with_mounted(
                &root,
                &mounts,
                |root| work(container, root),
                |error| out_of_reach(container, error),
            )
        })
    })
}

fn out_of_reach(container: &Container, error: runtime::FilesError) -> Error {
    let text = format!("cannot reach the files of container {}", container.id());
    Error::system(text, error)
}

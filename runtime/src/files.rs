//! A container's files without its processes: root file system and mounts in a mount namespace of
//! the calling thread's own, so that what is read or written by name means what it means inside.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use oci_spec::runtime::Mount;
use sys::fs::Dir;
use sys::namespace::Kind;
use sys::socket::MessageSocket;

use crate::inside::{Inside, InsideError};
use crate::mounts::{self, MountKind};
use crate::planner::{PlanError, Program};
use crate::request::{Root, Stdio};
use crate::steps::ChildStep;

/// Why a container's files cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A mount that is refused.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A step that failed.
    #[error("cannot {step}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        #[source]
        source: InsideError,
    },
    /// A call that failed.
    #[error(transparent)]
    Call(#[from] sys::SysError),
}

/// What has to be done to see a root with these mounts; what the kernel makes up anew for every
/// container (processes, devices, memory) is left out.
///
/// # Errors
/// [`PlanError`] for a mount that is refused.
pub fn plan_files(root: &Root, mounts: &[Mount]) -> Result<Vec<ChildStep>, PlanError> {
    let none = MountKind::Cgroup {
        unified: None,
        v1: Vec::new(),
    };
    let mut sources = Vec::new();
    let mut steps = Vec::new();
    for mount in mounts {
        steps.push(ChildStep::Mount(mounts::read(mount, &mut sources, &none)?));
    }
    let mut all = vec![
        ChildStep::BindSources(sources),
        ChildStep::MountsPrivate,
        ChildStep::Root(root.clone()),
    ];
    all.append(&mut steps);
    Ok(all)
}

/// Leaves the process's mount namespace, mounts a container's files and does something with them.
///
/// The calling thread stays in its own mount namespace: it must be one that ends after this. What
/// was mounted is gone when this returns.
///
/// # Errors
/// [`FilesError`], made into the caller's by `wrap`.
pub fn with_mounted<T, E>(
    root: &Root,
    mounts: &[Mount],
    work: impl FnOnce(&Dir) -> Result<T, E>,
    wrap: impl Fn(FilesError) -> E,
) -> Result<T, E> {
    let mounted = mount_all(root, mounts).map_err(&wrap)?;
    let worked = work(&mounted);
    let place = mounted.path().to_owned();
    drop(mounted);
    // Here and not by the thread's end: the kernel would let go of it some time later, and the
    // container may be started before.
    let gone = sys::mount::detach(&place);
    let done = worked?;
    gone.map_err(|error| wrap(error.into()))?;
    Ok(done)
}

fn mount_all(root: &Root, mounts: &[Mount]) -> Result<Dir, FilesError> {
    let steps = plan_files(root, mounts)?;
    sys::namespace::unshare(&[Kind::Mount])?;
    // Nobody is at the other end: these steps say nothing.
    let (sync, _) = MessageSocket::pair()?;
    let (stdio, program) = (Stdio::Terminal, Program::default());
    let mut inside = Inside::new(&sync, &stdio, &program, None);
    for step in &steps {
        inside.apply(step).map_err(|source| FilesError::Step {
            step: what(step),
            source,
        })?;
    }
    drop(inside);
    let place = match root {
        Root::Overlay(overlay) => overlay.upper.clone(),
        Root::Directory(path) => Some(path.clone()),
    };
    Ok(Dir::open(place.unwrap_or_default())?)
}

fn what(step: &ChildStep) -> &'static str {
    match step {
        ChildStep::BindSources(_) => "open what the container mounts",
        ChildStep::Root(_) => "mount the container's root file system",
        _ => "mount the container's volumes",
    }
}

/// Joins the mount namespace of a container's process and opens its root.
///
/// As [`with_mounted`], to be called by a thread that ends soon; the mounts are there at least as
/// long as it lives.
///
/// # Errors
/// `ESRCH` when the process is gone.
pub fn join(process: BorrowedFd<'_>) -> Result<Dir, FilesError> {
    // A namespace of mounts is joined only by who shares neither root nor working directory.
    sys::namespace::unshare(&[Kind::Mount])?;
    sys::namespace::join(process.as_fd(), &[Kind::Mount])?;
    Ok(Dir::open(Path::new("/"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::MountBuilder;

    #[test]
    fn sources_are_opened_before_anything_can_cover_them() {
        let mount = MountBuilder::default()
            .destination("/data")
            .typ("bind")
            .source("/srv/data")
            .options(vec!["rbind".to_owned(), "ro".to_owned()])
            .build()
            .unwrap();
        let root = Root::Directory("/r".into());
        let steps = plan_files(&root, &[mount]).unwrap();
        assert!(matches!(&steps[0], ChildStep::BindSources(all) if all.len() == 1));
        assert_eq!(steps[1], ChildStep::MountsPrivate);
        assert_eq!(steps[2], ChildStep::Root(root));
        assert!(matches!(&steps[3], ChildStep::Mount(mount) if mount.target == Path::new("/data")));
    }

    #[test]
    fn nothing_is_mounted_over_the_root() {
        let mount = MountBuilder::default()
            .destination("/")
            .typ("bind")
            .source("/srv")
            .build()
            .unwrap();
        plan_files(&Root::Directory("/r".into()), &[mount]).unwrap_err();
    }
}

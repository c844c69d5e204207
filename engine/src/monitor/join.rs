//! Which namespaces a container has of its own and which it joins, and whose they are.

use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

use sys::fs::{Dir, Follow};
use sys::mount::Detached;
use sys::namespace::Kind;

use crate::Engine;
use crate::config::HostConfig;
use crate::error::{Error, Result};
use crate::spec::{Namespace, Namespaces};
use crate::store::Container;

/// The network that a container's host configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode<'a> {
    /// A network with a bridge; the default one is called `bridge`.
    Bridge(&'a str),
    /// The host's own namespace.
    Host,
    /// Its own namespace with nothing but loopback.
    None,
    /// Another container's namespace.
    Container(&'a str),
}

impl<'a> Mode<'a> {
    /// Reads `HostConfig.NetworkMode`.
    pub(crate) fn of(host: &'a HostConfig) -> Self {
        match host.network_mode.as_str() {
            "" | "default" | "bridge" => Self::Bridge("bridge"),
            "host" => Self::Host,
            "none" => Self::None,
            other => match other.strip_prefix("container:") {
                Some(id) => Self::Container(id),
                None => Self::Bridge(other),
            },
        }
    }
}

/// The namespaces of a container, and what has to stay open until they are joined.
#[derive(Debug, Default)]
pub(crate) struct Joined {
    pub(crate) namespaces: Namespaces,
    /// Whose network, and with it whose hosts files.
    pub(crate) network_of: Option<Container>,
    /// `/dev/shm` of the container whose ipc namespace is joined.
    pub(crate) shared_memory: Option<(PathBuf, Detached)>,
}

impl Joined {
    /// Looks up whom the container joins.
    ///
    /// # Errors
    /// Docker's texts for a container that does not run or does not share.
    pub(crate) fn look_up(engine: &Engine, container: &Container) -> Result<Self> {
        let host = &container.record.host;
        let mut joined = Self::default();
        match Mode::of(host) {
            Mode::Bridge(_) | Mode::None => {}
            Mode::Host => joined.namespaces.network = Namespace::Host,
            Mode::Container(id) => {
                let other = engine.find(id)?;
                joined.namespaces.network = namespace(&other, "net", |id| {
                    format!("cannot join network of a non running container: {id}")
                })?;
                joined.network_of = Some(other);
            }
        }
        if host.uts_mode == "host" {
            joined.namespaces.uts = Namespace::Host;
        }
        joined.namespaces.pid = match host.pid_mode.strip_prefix("container:") {
            Some(id) => namespace(&engine.find(id)?, "pid", |id| {
                format!("cannot join PID of a non running container: {id}")
            })?,
            None if host.pid_mode == "host" => Namespace::Host,
            None => Namespace::New,
        };
        match host.ipc_mode.strip_prefix("container:") {
            Some(id) => joined.share_ipc(&engine.find(id)?)?,
            None if host.ipc_mode == "host" => joined.namespaces.ipc = Namespace::Host,
            None => {}
        }
        Ok(joined)
    }

    fn share_ipc(&mut self, other: &Container) -> Result<()> {
        if !matches!(other.record.host.ipc_mode.as_str(), "shareable" | "host") {
            return Err(Error::conflict(format!(
                "can't join IPC of container {}: non-shareable IPC (hint: use \
                 IpcMode:shareable for the donor container)",
                other.id()
            )));
        }
        self.namespaces.ipc = namespace(other, "ipc", |id| {
            format!("cannot join IPC of a non running container: {id}")
        })?;
        let pid = init_pid(other).unwrap_or_default();
        let opened = Dir::open(format!("/proc/{pid}/root")).and_then(|root| {
            // No link of the other container's may lead out of it.
            let directory = root.enter("dev/shm", Follow::Never)?;
            take_off(pid, &directory)
        });
        let mount = opened.map_err(|error| {
            Error::system(
                format!("cannot open /dev/shm of container {}", other.id()),
                error,
            )
        })?;
        let path = format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            mount.as_fd().as_raw_fd()
        );
        self.shared_memory = Some((PathBuf::from(path), mount));
        Ok(())
    }
}

/// A detached copy of a mount in another mount namespace, into which this thread goes for it.
fn take_off(pid: i32, directory: &Dir) -> sys::Result<Detached> {
    let open = |pid: &str| {
        let path = format!("/proc/{pid}/ns/mnt");
        sys::namespace::open(std::path::Path::new(&path), Kind::Mount)
    };
    let own = open("self")?;
    let theirs = open(&pid.to_string())?;
    sys::namespace::join(theirs.as_fd(), &[Kind::Mount])?;
    let copy = sys::mount::bind_attached(directory.as_fd(), false);
    sys::namespace::join(own.as_fd(), &[Kind::Mount])?;
    copy
}

fn namespace(
    other: &Container,
    kind: &str,
    refusal: impl FnOnce(&str) -> String,
) -> Result<Namespace> {
    match init_pid(other) {
        Some(pid) => Ok(Namespace::Of(PathBuf::from(format!(
            "/proc/{pid}/ns/{kind}"
        )))),
        None => Err(Error::conflict(refusal(other.id().as_str()))
            .hint(format!("start it first with 'rbox start {}'", other.name))),
    }
}

/// The first process of a container that runs.
fn init_pid(container: &Container) -> Option<i32> {
    let (status, _) = container.status().ok()?;
    let init = container.run.init().ok()??;
    status.has_process().then_some(init.process.pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_modes() {
        for (text, mode) in [
            ("", Mode::Bridge("bridge")),
            ("default", Mode::Bridge("bridge")),
            ("bridge", Mode::Bridge("bridge")),
            ("host", Mode::Host),
            ("none", Mode::None),
            ("container:ab", Mode::Container("ab")),
            ("mine", Mode::Bridge("mine")),
        ] {
            let host = HostConfig {
                network_mode: text.to_owned(),
                ..HostConfig::default()
            };
            assert_eq!(Mode::of(&host), mode, "{text}");
        }
    }
}

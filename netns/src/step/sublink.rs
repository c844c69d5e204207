//! The step that makes a container's link on a wire of the host's.

use std::os::fd::AsFd;

use plan::Description;
use rustix::io::Errno;
use sys::SysError;
use sys::netlink::Request;

use super::Sublink;
use super::kinds::{description, mac_text};
use crate::error::NetError;
use crate::host::Host;

impl Sublink {
    pub(super) fn apply(&self, host: &mut Host) -> Result<(), NetError> {
        let parent = &self.uplink.parent;
        let link = host.route()?.link(parent)?;
        let parent = link.ok_or_else(|| NetError::NoParent(parent.clone()))?;
        let namespace = host
            .container()?
            .try_clone_to_owned()
            .map_err(|error| SysError::from_io("fcntl(F_DUPFD_CLOEXEC)", error))?;
        host.route()?
            .request(&Request::CreateSublink(sys::netlink::Sublink {
                name: &self.name,
                parent: parent.index,
                sharing: self.uplink.mode.sharing(),
                mac: self.mac,
                mtu: self.uplink.mtu,
                namespace: namespace.as_fd(),
            }))?;
        Ok(())
    }

    /// Removes the link; where the namespace is not known any more, it has gone with that.
    pub(super) fn undo(&self, host: &mut Host) -> Result<(), NetError> {
        let name = &self.name;
        match host.inside(|socket| socket.request(&Request::DeleteLink { name })) {
            Err(NetError::NoContainer) => Ok(()),
            Err(error) => Err(error),
            Ok(Err(error)) if error.errno() != Errno::NODEV.raw_os_error() => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    pub(super) fn describe(&self) -> Description {
        description(
            format!(
                "make {} in the container, on the wire of {}",
                self.name, self.uplink.parent
            ),
            "the container is on the same network as the host's device, beside it",
            vec![format!(
                "RTM_NEWLINK({} link {} {} in the container's namespace)",
                self.name,
                self.uplink.parent,
                self.uplink.mode.shell()
            )],
        )
    }

    pub(super) fn shell(&self) -> Vec<String> {
        let Self { uplink, name, mac } = self;
        let mac = mac.map(|mac| format!(" address {}", mac_text(mac)));
        let mtu = uplink.mtu.map(|mtu| format!(" mtu {mtu}"));
        vec![format!(
            "ip link add link {} name {name} netns $PID{}{} type {}",
            uplink.parent,
            mac.unwrap_or_default(),
            mtu.unwrap_or_default(),
            uplink.mode.shell()
        )]
    }
}

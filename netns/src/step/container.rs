//! The steps inside the container's namespace, and the pair that leads there.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use plan::Description;
use sys::SysError;
use sys::netlink::{LinkChange, Request, Route};

use super::kinds::{description, joined, mac_text, write_setting};
use super::{Family, Interface, Settings, Veth};
use crate::error::NetError;
use crate::host::Host;

impl Settings {
    fn paths(&self) -> Vec<(PathBuf, &str)> {
        let root = Path::new("/proc/sys");
        self.list
            .iter()
            .map(|(name, value)| (root.join(name), value.as_str()))
            .collect()
    }

    pub(super) fn apply(&self, host: &mut Host) -> Result<(), NetError> {
        let paths = self.paths();
        host.visit(|| {
            for (path, value) in &paths {
                match write_setting(path, value) {
                    // A kernel without IPv6 has nothing to switch off.
                    Err(NetError::Setting { source, .. })
                        if source.kind() == std::io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
            Ok(())
        })?
    }

    pub(super) fn describe(&self) -> Description {
        let calls = self.paths();
        description(
            "write the settings of the container's network namespace",
            "any port may be bound and anybody may ping inside; no IPv6 where the network has none",
            calls
                .iter()
                .map(|(path, value)| format!("write({path:?}, {value:?})"))
                .collect(),
        )
    }

    pub(super) fn shell(&self) -> Vec<String> {
        self.paths()
            .iter()
            .map(|(path, value)| {
                format!(
                    "nsenter --net=/proc/$PID/ns/net sh -c 'echo {value} > {}'",
                    path.display()
                )
            })
            .collect()
    }
}

impl Veth {
    pub(super) fn apply(&self, host: &mut Host) -> Result<(), NetError> {
        let master = host.bridge(&self.bridge)?;
        let namespace = host
            .container()?
            .try_clone_to_owned()
            .map_err(|error| SysError::from_io("fcntl(F_DUPFD_CLOEXEC)", error))?;
        host.route()?
            .request(&Request::CreateVeth(sys::netlink::Veth {
                name: &self.name,
                master: Some(master),
                peer: &self.peer,
                peer_mac: self.mac,
                peer_namespace: namespace.as_fd(),
                mtu: self.mtu,
            }))?;
        Ok(())
    }

    pub(super) fn describe(&self) -> Description {
        description(
            format!(
                "make the pair {} on {} and {} in the container",
                self.name, self.bridge, self.peer
            ),
            "the container's way out; its end is born inside, never moved",
            vec![format!(
                "RTM_NEWLINK(veth {} master {} peer {} in the container's namespace)",
                self.name, self.bridge, self.peer
            )],
        )
    }

    pub(super) fn shell(&self) -> Vec<String> {
        let Self {
            name,
            bridge,
            peer,
            mtu,
            ..
        } = self;
        vec![
            format!(
                "ip link add {name} mtu {mtu} master {bridge} type veth peer name {peer} address {} mtu {mtu} netns $PID",
                mac_text(self.mac)
            ),
            format!("ip link set {name} up"),
        ]
    }
}

/// The default route of a family, by a device that leads everywhere.
fn everywhere(family: Family, index: Option<u32>) -> Route {
    Route {
        destination: match family {
            Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        },
        prefix: 0,
        gateway: None,
        index,
    }
}

/// Loopback's number in every namespace.
const LOOPBACK: u32 = 1;

impl Interface {
    pub(super) fn apply(&self, host: &mut Host) -> Result<(), NetError> {
        host.inside(|socket| {
            let mut requests = vec![Request::SetLink {
                index: LOOPBACK,
                change: LinkChange::Up,
            }];
            if let Some(device) = &self.device {
                let link = socket.link(device)?;
                let index = link
                    .ok_or_else(|| NetError::NoInterface(device.clone()))?
                    .index;
                requests.extend(self.addresses.iter().map(|net| Request::AddAddress {
                    index,
                    address: net.addr(),
                    prefix: net.prefix_len(),
                }));
                requests.push(Request::SetLink {
                    index,
                    change: LinkChange::Up,
                });
            }
            requests.extend(
                self.gateways
                    .iter()
                    // another network may have been the way out before
                    .map(|gateway| Request::SetRoute(Route::default_via(*gateway))),
            );
            if let Some(device) = self.device.as_ref().filter(|_| !self.leads.is_empty()) {
                let link = socket.link(device)?;
                let index = link.map(|link| link.index);
                let route = |family: &Family| Request::SetRoute(everywhere(*family, index));
                requests.extend(self.leads.iter().map(route));
            }
            socket.batch(&requests).map_err(SysError::from)?;
            Ok(())
        })?
    }

    pub(super) fn describe(&self) -> Description {
        let mut calls = vec!["RTM_SETLINK(lo, up)".to_owned()];
        let leads = self.leads.iter().filter_map(|_| self.device.as_ref());
        let leads = leads.map(|device| format!("RTM_NEWROUTE(default dev {device})"));
        let Some(device) = &self.device else {
            return description(
                "set loopback up",
                "the container has no other network",
                calls,
            );
        };
        calls.extend(
            self.addresses
                .iter()
                .map(|net| format!("RTM_NEWADDR({net} dev {device})")),
        );
        calls.extend(
            self.gateways
                .iter()
                .map(|gateway| format!("RTM_NEWROUTE(default via {gateway})")),
        );
        calls.extend(leads);
        description(
            format!("give {device} the address {}", joined(&self.addresses)),
            "the container is reached by it; the bridge is its gateway",
            calls,
        )
    }

    pub(super) fn shell(&self) -> Vec<String> {
        let ip = "nsenter --net=/proc/$PID/ns/net ip";
        let mut lines = vec![format!("{ip} link set lo up")];
        if let Some(device) = &self.device {
            lines.extend(
                self.addresses
                    .iter()
                    .map(|net| format!("{ip} address add {net} dev {device}")),
            );
            lines.push(format!("{ip} link set {device} up"));
        }
        lines.extend(
            self.gateways
                .iter()
                .map(|gateway| format!("{ip} route add default via {gateway}")),
        );
        if let Some(device) = &self.device {
            let route = |family: &Family| match family {
                Family::V4 => format!("{ip} route add default dev {device}"),
                Family::V6 => format!("{ip} -6 route add default dev {device}"),
            };
            lines.extend(self.leads.iter().map(route));
        }
        lines
    }
}

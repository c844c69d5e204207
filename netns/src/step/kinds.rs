//! The steps on the host's side: forwarding, bridges, reservations; and what all steps print with.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use plan::Description;
use rustix::io::Errno;
use sys::SysError;
use sys::netlink::{LinkChange, Mac, Request};

use super::{Bridge, Family};
use crate::error::NetError;
use crate::hold::Hold;
use crate::host::{FORWARD_V4, FORWARD_V6, Host};

pub(super) fn description(
    what: impl Into<String>,
    why: impl Into<String>,
    calls: Vec<String>,
) -> Description {
    Description {
        what: what.into(),
        why: why.into(),
        calls,
    }
}

fn is(error: &SysError, errno: Errno) -> bool {
    error.errno() == errno.raw_os_error()
}

pub(super) fn joined<T: Display>(list: &[T]) -> String {
    let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

pub(super) fn mac_text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Removes a link; one that is gone is no error.
pub(super) fn delete_link(host: &mut Host, name: &str) -> Result<(), NetError> {
    match host.route()?.request(&Request::DeleteLink { name }) {
        Err(error) if !is(&error, Errno::NODEV) => Err(error.into()),
        _ => Ok(()),
    }
}

pub(super) fn describe_removal(name: &str) -> Description {
    description(
        format!("remove the bridge {name}"),
        "its network is removed",
        vec![format!("RTM_DELLINK({name})")],
    )
}

pub(super) fn describe_hold(hold: &Hold) -> Description {
    let name = hold.path.file_name().unwrap_or_default().to_string_lossy();
    description(
        format!("hold {name} for the container"),
        "no other container takes it while this one lives",
        vec![format!("symlink({:?}, {:?})", hold.owner, hold.path)],
    )
}

pub(super) fn write_setting(path: &Path, value: &str) -> Result<(), NetError> {
    fs::write(path, value).map_err(|source| NetError::Setting {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

impl Family {
    fn path(self) -> &'static str {
        match self {
            Family::V4 => FORWARD_V4,
            Family::V6 => FORWARD_V6,
        }
    }

    pub(super) fn forward(self) -> Result<(), NetError> {
        write_setting(Path::new(self.path()), "1")
    }

    pub(super) fn describe(self) -> Description {
        description(
            "let the host forward packets",
            "containers reach the world through it, and the world their published ports",
            vec![format!("write({:?}, \"1\")", self.path())],
        )
    }

    pub(super) fn shell(self) -> Vec<String> {
        vec![format!("echo 1 > {}", self.path())]
    }
}

impl Bridge {
    fn accept_dad(&self) -> PathBuf {
        Path::new("/proc/sys/net/ipv6/conf")
            .join(&self.name)
            .join("accept_dad")
    }

    pub(super) fn apply(&self, host: &mut Host) -> Result<(), NetError> {
        let create = Request::CreateBridge {
            name: &self.name,
            mac: self.mac,
            mtu: self.mtu,
            filtered: self.filtered,
        };
        match host.route()?.request(&create) {
            Err(error) if !is(&error, Errno::EXIST) => return Err(error.into()),
            // Another start was faster, or it lacks an address.
            _ => {}
        }
        let index = match host.find_bridge(&self.name)? {
            Some(link) => link.index,
            None => return Err(NetError::NoBridge(self.name.clone())),
        };
        if self.addresses.iter().any(|net| net.addr().is_ipv6()) {
            // Until its own link-local address is settled, which takes a second or two, the bridge
            // could not ask for the neighbours it forwards to.
            write_setting(&self.accept_dad(), "0")?;
        }
        let mut requests = vec![Request::SetLink {
            index,
            change: LinkChange::Up,
        }];
        requests.extend(self.addresses.iter().map(|net| Request::AddAddress {
            index,
            address: net.addr(),
            prefix: net.prefix_len(),
        }));
        host.route()?.batch(&requests).map_err(SysError::from)?;
        Ok(())
    }

    pub(super) fn describe(&self) -> Description {
        let mut calls = vec![format!("RTM_NEWLINK(bridge {})", self.name)];
        calls.extend(
            self.addresses
                .iter()
                .map(|net| format!("RTM_NEWADDR({net} dev {})", self.name)),
        );
        description(
            format!(
                "make the bridge {} with {}",
                self.name,
                joined(&self.addresses)
            ),
            "it joins the containers of its network and is their gateway",
            calls,
        )
    }

    pub(super) fn shell(&self) -> Vec<String> {
        let Self { name, mtu, .. } = self;
        let mut lines = vec![format!(
            "ip link add {name} address {} mtu {mtu} type bridge",
            mac_text(self.mac)
        )];
        lines.extend(
            self.addresses
                .iter()
                .map(|net| format!("ip address add {net} dev {name}")),
        );
        lines.push(format!("ip link set {name} up"));
        lines
    }
}

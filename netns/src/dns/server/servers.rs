//! Which servers are asked for what no container of ours is called.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::hosts::ResolvConf;

const PORT: u16 = 53;
/// More are never asked, as libc never asks more.
const MOST: usize = 3;
/// Docker's, where the host names none.
const FALLBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8)),
    IpAddr::V4(Ipv4Addr::new(8, 8, 4, 4)),
];

/// The servers to forward to, in order. They are asked from the host's network namespace, so that
/// one on the host's loopback is reached too.
#[derive(Debug, Clone)]
pub struct Servers {
    list: Vec<SocketAddr>,
    /// Where the list comes from, and what that looked like when it was read.
    file: Option<(PathBuf, Option<Stamp>)>,
}

/// Tells whether a file was changed or replaced.
type Stamp = (u64, u64, i64, i64, u64);

impl Servers {
    /// Nobody: what is not known here fails.
    pub fn none() -> Self {
        Self::given(&[])
    }

    /// These servers, for good.
    pub fn given(list: &[IpAddr]) -> Self {
        let list = list.iter().take(MOST);
        Self {
            list: list.map(|ip| SocketAddr::new(*ip, PORT)).collect(),
            file: None,
        }
    }

    /// The servers of a `resolv.conf`; changes of the file are followed. Without any, Docker's.
    pub fn of_file(path: &Path) -> Self {
        Self {
            list: Vec::new(),
            file: Some((path.to_owned(), None)),
        }
    }

    /// Servers with ports of their own.
    #[cfg(test)]
    pub(super) fn at(list: &[SocketAddr]) -> Self {
        Self {
            list: list.to_vec(),
            ..Self::none()
        }
    }

    /// The servers as they are now: one look at the file, which is read if it has changed.
    pub(super) fn now(&mut self) -> &[SocketAddr] {
        if let Some((path, known)) = &mut self.file {
            let stamp = stamp(path);
            if stamp.is_none() || stamp != *known {
                self.list = read(path);
                *known = stamp;
            }
        }
        &self.list
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let file = fs::metadata(path).ok()?;
    Some((
        file.dev(),
        file.ino(),
        file.ctime(),
        file.ctime_nsec(),
        file.size(),
    ))
}

fn read(path: &Path) -> Vec<SocketAddr> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let mut list: Vec<SocketAddr> = ResolvConf::parse(&text)
        .servers
        .iter()
        .filter_map(|server| address(server))
        .take(MOST)
        .collect();
    if list.is_empty() {
        list = FALLBACK.map(|ip| SocketAddr::new(ip, PORT)).to_vec();
    }
    list
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`.
fn address(text: &str) -> Option<SocketAddr> {
    let Some((address, device)) = text.split_once('%') else {
        return Some(SocketAddr::new(text.parse().ok()?, PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let is_name = !device.is_empty() && !device.contains('/');
    let scope = match device.parse() {
        Ok(index) => index,
        Err(_) if is_name => fs::read_to_string(format!("/sys/class/net/{device}/ifindex"))
            .ok()?
            .trim()
            .parse()
            .ok()?,
        Err(_) => return None,
    };
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        let mut servers = Servers::of_file(&path);
        let mut now = || -> Vec<String> { servers.now().iter().map(ToString::to_string).collect() };
        assert_eq!(now(), ["8.8.8.8:53", "8.8.4.4:53"], "missing");
        fs::write(&path, "nameserver 127.0.0.53\n").unwrap();
        assert_eq!(now(), ["127.0.0.53:53"]);
        // Replaced by a file of the same length.
        let new = directory.path().join("new");
        fs::write(&new, "nameserver 127.0.0.54\n").unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(now(), ["127.0.0.54:53"]);
        fs::write(
            &path,
            "nameserver fe80::1%lo\nnameserver x\nnameserver ::2\n",
        )
        .unwrap();
        assert_eq!(now(), ["[fe80::1%1]:53", "[::2]:53"]);
    }

    #[test]
    fn servers_that_can_be_read() {
        for (text, want) in [
            ("192.0.2.1", Some("192.0.2.1:53")),
            ("2001:db8::1", Some("[2001:db8::1]:53")),
            ("fe80::1%3", Some("[fe80::1%3]:53")),
            ("fe80::1%../../x", None),
            ("fe80::1%", None),
            ("name", None),
        ] {
            let got = address(text).map(|address| address.to_string());
            assert_eq!(got.as_deref(), want, "{text}");
        }
    }
}

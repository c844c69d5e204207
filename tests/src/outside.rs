//! A further host that a lab is joined to by a cable: the world outside.

use std::fs::File;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::host::Host;
use crate::lab::Lab;

static NUMBER: AtomicU8 = AtomicU8::new(0);

/// A host that reaches the lab through a network of two.
#[derive(Debug)]
pub struct Outside {
    host: Host,
    /// The outside host's own address.
    pub address: Ipv4Addr,
    /// The outside host's own IPv6 address.
    pub address6: Ipv6Addr,
    /// The lab's address as the outside host knows it.
    pub lab: Ipv4Addr,
    /// The lab's IPv6 address as the outside host knows it.
    pub lab6: Ipv6Addr,
}

impl Outside {
    /// Joins a new host to a lab.
    ///
    /// # Panics
    /// When the lab does not allow it.
    #[track_caller]
    pub fn new(lab: &Lab) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) % 100;
        let name = format!("out{number}");
        let net = u16::from(number) + 0x100;
        let address = Ipv4Addr::new(10, 100 + number, 0, 2);
        let own = Ipv4Addr::new(10, 100 + number, 0, 1);
        let address6 = Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, 2);
        let own6 = Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, 1);
        lab.sh(&format!(
            "ip netns add {name}
             ip link add to-{name} type veth peer name eth0 netns {name}
             ip address add {own}/24 dev to-{name}
             ip address add {own6}/64 dev to-{name} nodad
             ip link set to-{name} up
             ip -n {name} address add {address}/24 dev eth0
             ip -n {name} address add {address6}/64 dev eth0 nodad
             ip -n {name} link set lo up
             ip -n {name} link set eth0 up
             ip -n {name} route add default via {own}
             ip -n {name} route add default via {own6}"
        ));
        let path = format!("/run/netns/{name}");
        let network = lab
            .enter(|| File::open(&path))
            .unwrap_or_else(|error| panic!("cannot open {path}: {error}"));
        Self {
            host: lab.with_network(&name, network.into()),
            address,
            address6,
            lab: own,
            lab6: own6,
        }
    }
}

impl Deref for Outside {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

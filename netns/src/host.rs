//! What the hands need to change the network: sockets, the container's namespace, directories.
//!
//! Everything is opened on first use, so that a step that is only described opens nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use sys::netlink::{self, Link};
use sys::nftables;

use crate::dns::Sockets;
use crate::error::NetError;
use crate::firewall::mark::Mark;
use crate::firewall::{self, Hand, NetworkRules, nft};
use crate::network::{
    BridgeOptions, Choice, Driver, Network, Occupied, Pool, check_device, choose_pool,
};
use crate::step::Firewall;

/// The host's side of networks.
#[derive(Debug)]
pub struct Host {
    state: PathBuf,
    instance: String,
    wanted: Option<Hand>,
    route: Option<netlink::Socket>,
    nft: Option<nftables::Socket>,
    container: Option<OwnedFd>,
    container_route: Option<netlink::Socket>,
    resolver: Option<Sockets>,
    bridges: BTreeMap<String, u32>,
    /// The last bridge that was looked up for the default network: the facts of the same start
    /// need not ask again.
    seen: Option<Link>,
}

/// What the host looks like to a planner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The network's bridge, if it is there.
    pub bridge: Option<BridgeFacts>,
    /// Packets are forwarded, or need not be: IPv4, IPv6.
    pub forwarding: [bool; 2],
    /// Which hand carries rules.
    pub hand: Hand,
    /// The name of our tables.
    pub instance: String,
    /// The network's rules are in place.
    pub firewall_ready: bool,
}

/// A bridge that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeFacts {
    /// It is in service.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
}

/// How the default bridge is to be, where it is not there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultBridge {
    /// Its options; [`BridgeOptions::device`] is its name.
    pub options: BridgeOptions,
    /// Its subnet; `None` is the first free of Docker's.
    pub subnet: Option<IpNet>,
    /// Its IPv6 subnet; `None` is none.
    pub subnet6: Option<IpNet>,
    /// Whether its containers may talk is left as the bridge that is there has it.
    pub keeps_icc: bool,
}

impl DefaultBridge {
    /// A default bridge on this device with Docker's defaults.
    pub fn on(device: impl Into<String>) -> Self {
        Self {
            options: BridgeOptions {
                default_bridge: true,
                ..BridgeOptions::of(device)
            },
            subnet: None,
            subnet6: None,
            keeps_icc: false,
        }
    }
}

/// The default network, and what kept it from the usual subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefaultNetwork {
    /// The network.
    pub network: Network,
    /// The subnet that was passed over and what occupies it, where the network is new.
    pub passed_over: Option<(IpNet, Occupied)>,
}

impl Host {
    /// The host whose reservations lie in a state directory. `instance` names the tables of
    /// nf_tables, so that several engines can live side by side; `hand` is the user's choice.
    pub fn new(state: impl Into<PathBuf>, instance: &str, hand: Option<Hand>) -> Self {
        Self {
            state: state.into(),
            instance: instance.to_owned(),
            wanted: hand,
            route: None,
            nft: None,
            container: None,
            container_route: None,
            resolver: None,
            bridges: BTreeMap::new(),
            seen: None,
        }
    }

    /// Where addresses of a network are held.
    pub fn addresses_directory(&self, network: &str) -> PathBuf {
        self.state.join("networks").join(network)
    }

    /// Where host ports are held.
    pub fn ports_directory(&self) -> PathBuf {
        self.state.join("ports")
    }

    /// The state directory.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The name of our tables.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Names the container's network namespace, once it exists.
    pub fn enter(&mut self, namespace: OwnedFd) {
        self.container = Some(namespace);
        self.container_route = None;
    }

    /// The container's network namespace.
    ///
    /// # Errors
    /// [`NetError::NoContainer`] before [`Host::enter`].
    pub fn container(&self) -> Result<BorrowedFd<'_>, NetError> {
        self.container
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or(NetError::NoContainer)
    }

    /// The sockets of the container's resolver, once [`crate::NetStep::Resolver`] has opened them.
    pub fn take_resolver(&mut self) -> Option<Sockets> {
        self.resolver.take()
    }

    pub(crate) fn keep_resolver(&mut self, sockets: Sockets) {
        self.resolver = Some(sockets);
    }

    pub(crate) fn route(&mut self) -> Result<&mut netlink::Socket, NetError> {
        if self.route.is_none() {
            self.route = Some(netlink::Socket::open()?);
        }
        Ok(self.route.as_mut().expect("it has just been opened"))
    }

    pub(crate) fn nft(&mut self) -> Result<&mut nftables::Socket, NetError> {
        if self.nft.is_none() {
            self.nft = Some(nftables::Socket::open()?);
        }
        Ok(self.nft.as_mut().expect("it has just been opened"))
    }

    /// Runs a function inside the container's namespace, with a socket opened there.
    pub(crate) fn inside<T>(
        &mut self,
        act: impl FnOnce(&mut netlink::Socket) -> T,
    ) -> Result<T, NetError> {
        if self.container_route.is_none() {
            let namespace = self.container()?;
            self.container_route = Some(netlink::Socket::open_in(namespace)?);
        }
        let socket = self.container_route.as_mut();
        Ok(act(socket.expect("it has just been opened")))
    }

    /// Goes into the container's namespace for a function; its socket is opened on the same way.
    pub(crate) fn visit<T>(&mut self, act: impl FnOnce() -> T) -> Result<T, NetError> {
        let open = self.container_route.is_none();
        let namespace = self.container()?;
        let (outcome, socket) =
            netlink::visit(namespace, || (act(), open.then(netlink::Socket::open)))?;
        if let Some(socket) = socket {
            self.container_route = Some(socket?);
        }
        Ok(outcome)
    }

    /// The number of a bridge; looked up once.
    pub(crate) fn bridge(&mut self, name: &str) -> Result<u32, NetError> {
        if let Some(index) = self.bridges.get(name) {
            return Ok(*index);
        }
        match self.route()?.link(name)? {
            Some(link) => {
                self.bridges.insert(name.to_owned(), link.index);
                Ok(link.index)
            }
            None => Err(NetError::NoBridge(name.to_owned())),
        }
    }

    /// Whether the host has a device of this name.
    ///
    /// # Errors
    /// Of the socket.
    pub fn has_device(&mut self, name: &str) -> Result<bool, NetError> {
        Ok(self.route()?.link(name)?.is_some())
    }

    /// The bridge of this name, if there is one.
    ///
    /// # Errors
    /// [`NetError::NotABridge`] when the name belongs to another kind of link.
    pub fn find_bridge(&mut self, name: &str) -> Result<Option<Link>, NetError> {
        let Some(link) = self.route()?.link(name)? else {
            self.bridges.remove(name);
            return Ok(None);
        };
        if link.kind != "bridge" {
            return Err(NetError::NotABridge {
                name: name.to_owned(),
                kind: link.kind,
            });
        }
        self.bridges.insert(name.to_owned(), link.index);
        Ok(Some(link))
    }

    /// What is in place for a bridge, if it is there.
    ///
    /// # Errors
    /// [`NetError::NotABridge`] when the name belongs to another kind of link.
    pub fn remark(&mut self, device: &str) -> Result<Option<Mark>, NetError> {
        let link = self.find_bridge(device)?;
        Ok(link.and_then(|link| link.alias.parse().ok()))
    }

    /// The default network: that of the bridge that is there, or one on a free subnet. `others` are
    /// subnets that are taken though nothing on the host shows it; only a new bridge asks for them.
    ///
    /// # Errors
    /// [`NetError::Network`] when the subnet asked for is in use or none is free.
    pub fn default_network(
        &mut self,
        id: &str,
        wanted: &DefaultBridge,
        others: &dyn Fn() -> Vec<Occupied>,
    ) -> Result<DefaultNetwork, NetError> {
        check_device(&wanted.options.device)?;
        let mut passed_over = None;
        let mut options = wanted.options.clone();
        let mut pools = self.bridge_pools(&options.device)?;
        let remark = self.seen.as_ref().map(|link| link.alias.parse::<Mark>());
        if let Some(Ok(remark)) = remark.filter(|_| wanted.keeps_icc) {
            options.icc = remark.icc;
        }
        if pools.is_empty() {
            let mut occupied = self.occupied(&wanted.options.device)?;
            occupied.extend(others());
            let Choice {
                pool,
                passed_over: conflict,
            } = choose_pool(wanted.subnet, &occupied)?;
            pools.push(pool);
            passed_over = conflict;
        }
        if wanted.subnet6.is_some() && !pools.iter().any(|pool| pool.gateway.is_ipv6()) {
            let mut occupied = self.occupied(&wanted.options.device)?;
            occupied.extend(others());
            pools.push(choose_pool(wanted.subnet6, &occupied)?.pool);
        }
        Ok(DefaultNetwork {
            network: Network {
                id: id.to_owned(),
                name: "bridge".to_owned(),
                driver: Driver::Bridge,
                pools,
                internal: false,
                bridge: Some(options),
                uplink: None,
            },
            passed_over,
        })
    }

    /// The pools of a bridge that is there, IPv4 first; none without an IPv4 address.
    ///
    /// # Errors
    /// [`NetError::NotABridge`] when the name belongs to another kind of link.
    pub fn bridge_pools(&mut self, device: &str) -> Result<Vec<Pool>, NetError> {
        let Some(link) = self.find_bridge(device)? else {
            return Ok(Vec::new());
        };
        let addresses = self.addresses(&link)?;
        self.seen = Some(link);
        let Some(v4) = addresses.iter().find(|net| net.addr().is_ipv4()) else {
            return Ok(Vec::new());
        };
        let mut pools = vec![Pool::of_address(*v4)];
        let v6 = addresses.iter().find(|net| match net {
            IpNet::V4(_) => false,
            IpNet::V6(net) => !net.addr().is_unicast_link_local(),
        });
        pools.extend(v6.map(|net| Pool::of_address(*net)));
        Ok(pools)
    }

    /// The addresses of a bridge: from its remark if it has one.
    fn addresses(&mut self, link: &Link) -> Result<Vec<IpNet>, NetError> {
        if let Ok(mark) = link.alias.parse::<Mark>() {
            return Ok(mark.addresses);
        }
        let addresses = self.route()?.addresses(Some(link.index))?;
        Ok(addresses
            .iter()
            .filter_map(|address| IpNet::new(address.address, address.prefix).ok())
            .collect())
    }

    /// The subnets that the host has routes to or addresses in, but for those of one device.
    ///
    /// # Errors
    /// Of the socket.
    pub fn occupied(&mut self, but: &str) -> Result<Vec<Occupied>, NetError> {
        let socket = self.route()?;
        let links = socket.links()?;
        let name = |index: Option<u32>| {
            links
                .iter()
                .find(|link| Some(link.index) == index)
                .map_or(String::new(), |link| link.name.clone())
        };
        let mut all = Vec::new();
        for route in socket.routes()? {
            if let Ok(subnet) = IpNet::new(route.destination, route.prefix) {
                all.push(Occupied {
                    subnet,
                    device: name(route.index),
                });
            }
        }
        for address in socket.addresses(None)? {
            if let Ok(subnet) = IpNet::new(address.address, address.prefix) {
                all.push(Occupied {
                    subnet: subnet.trunc(),
                    device: name(Some(address.index)),
                });
            }
        }
        all.retain(|one| but.is_empty() || one.device != but);
        Ok(all)
    }

    /// Looks at what a plan for a network depends on: one look-up of its bridge, and little else
    /// once the network is in use.
    ///
    /// # Errors
    /// Of the sockets.
    pub fn facts(&mut self, network: &Network) -> Result<Facts, NetError> {
        let Some(options) = &network.bridge else {
            return Ok(self.no_facts());
        };
        let seen = self.seen.take().filter(|link| link.name == options.device);
        let link = match seen {
            Some(link) => Some(link),
            None => self.find_bridge(&options.device)?,
        };
        let mark: Option<Mark> = link.as_ref().and_then(|link| link.alias.parse().ok());
        let hand = match (self.wanted, &mark) {
            (Some(hand), _) => hand,
            (None, Some(mark)) => mark.hand,
            (None, None) => firewall::detect(self.nft()?),
        };
        let mut firewall_ready = mark.is_some() && mark == Mark::of(network, hand, &self.instance);
        if firewall_ready && hand == Hand::Nft {
            // Somebody may have flushed all rules; asking costs some microseconds.
            let instance = self.instance.clone();
            firewall_ready = nft::present(self.nft()?, &instance)?;
        }
        let bridge = match link {
            None => None,
            Some(link) => Some(BridgeFacts {
                up: link.up,
                addresses: self.addresses(&link)?,
            }),
        };
        Ok(Facts {
            bridge,
            forwarding: [
                network.v4().is_none() || forwards(FORWARD_V4),
                network.v6().is_none() || forwards(FORWARD_V6),
            ],
            hand,
            instance: self.instance.clone(),
            firewall_ready,
        })
    }

    /// The rules of a network whose containers may talk by links alone, and whose hand writes them;
    /// `None` for any other, or where nobody writes rules.
    ///
    /// # Errors
    /// Of the sockets.
    pub fn gate(&mut self, network: &Network) -> Result<Option<Firewall>, NetError> {
        if network.bridge.as_ref().is_none_or(|bridge| bridge.icc) {
            return Ok(None);
        }
        let facts = self.facts(network)?;
        if facts.hand == Hand::Off {
            return Ok(None);
        }
        let rules = NetworkRules::of(network);
        let mark = Mark::of(network, facts.hand, &facts.instance);
        Ok(rules
            .zip(mark)
            .map(|(rules, mark)| Firewall { rules, mark }))
    }

    fn no_facts(&self) -> Facts {
        Facts {
            bridge: None,
            forwarding: [true; 2],
            hand: self.wanted.unwrap_or(Hand::Nft),
            instance: self.instance.clone(),
            firewall_ready: true,
        }
    }
}

/// Where IPv4 forwarding is switched on.
pub(crate) const FORWARD_V4: &str = "/proc/sys/net/ipv4/ip_forward";
/// Where IPv6 forwarding is switched on.
pub(crate) const FORWARD_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

fn forwards(path: &str) -> bool {
    fs::read(path).is_ok_and(|content| content.first() == Some(&b'1'))
}

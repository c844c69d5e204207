//! A throw-away host for one test: its own network and mount namespaces, an outside host joined by
//! a veth pair, containers that are nothing but network namespaces.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use netns::firewall::Hand;
use netns::port::{Publish, parse_publish};
use netns::proxy::Proxy;
use netns::{Attach, DefaultBridge, Host, NetStep, Prepared};
use plan::{Faults, Run};
use sys::netlink::visit;
use tempfile::TempDir;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(5);

/// Runs a test in a process of its own with namespaces of its own.
pub(crate) fn in_lab(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "RBOX_NETNS_LAB";
    if std::env::var_os(INSIDE).is_some() {
        ip("link set lo up");
        test();
        return;
    }
    let this = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private", "--"])
        .arg(this)
        .args([
            "--exact",
            name,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(INSIDE, "1")
        .status()
        .expect("the lab needs unshare of util-linux");
    assert!(status.success(), "{name} failed in its lab");
}

/// Runs `ip`.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments);
}

/// Runs a command that must succeed; gives its output.
pub(crate) fn run(program: &str, arguments: &str) -> String {
    let output = Command::new(program)
        .args(arguments.split_whitespace())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A network namespace without a process: it lives as long as its descriptor.
pub(crate) fn new_namespace() -> OwnedFd {
    thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        OwnedFd::from(File::open("/proc/thread-self/ns/net").unwrap())
    })
    .join()
    .unwrap()
}

/// The outside host, 10.9.0.2, behind the lab's 10.9.0.1; it has no route to containers.
pub(crate) struct Outside {
    pub(crate) namespace: OwnedFd,
}

impl Outside {
    pub(crate) fn new() -> Self {
        let namespace = new_namespace();
        let path = format!("/proc/{}/fd/{}", std::process::id(), namespace.as_raw_fd());
        ip("link add wan0 type veth peer name wan1");
        let peer = format!("link set wan1 netns {path}");
        ip(&peer);
        // Addresses are to be usable at once.
        let settle = |name: &str| {
            std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/accept_dad"), "0").unwrap();
        };
        settle("wan0");
        ip("address add 10.9.0.1/24 dev wan0");
        ip("address add fd09::1/64 dev wan0 nodad");
        ip("link set wan0 up");
        visit(namespace.as_fd(), || {
            ip("link set lo up");
            settle("wan1");
            ip("address add 10.9.0.2/24 dev wan1");
            ip("address add fd09::2/64 dev wan1 nodad");
            ip("link set wan1 up");
        })
        .unwrap();
        Self { namespace }
    }
}

/// A container as this crate sees it.
pub(crate) struct Container {
    pub(crate) namespace: OwnedFd,
    pub(crate) prepared: Prepared,
    proxy: Option<(Arc<AtomicBool>, thread::JoinHandle<()>)>,
}

/// The lab's engine: a state directory and a hand.
pub(crate) struct Engine {
    pub(crate) state: TempDir,
    pub(crate) hand: Hand,
    pub(crate) bridge: DefaultBridge,
}

impl Engine {
    pub(crate) fn new(hand: Hand) -> Self {
        Self {
            state: tempfile::tempdir().unwrap(),
            hand,
            bridge: DefaultBridge::on("rbox0"),
        }
    }

    pub(crate) fn host(&self) -> Host {
        Host::new(self.state.path(), "rbox", Some(self.hand))
    }

    /// Starts a container: reserves, plans, applies and runs its proxy.
    pub(crate) fn start(&self, id: &str, publish: &[&str]) -> Container {
        self.start_linked(id, publish, &[]).unwrap()
    }

    /// The same with links.
    pub(crate) fn start_linked(
        &self,
        id: &str,
        publish: &[&str],
        links: &[netns::firewall::LinkRule],
    ) -> Result<Container, netns::NetError> {
        let mut host = self.host();
        let network = host.default_network("0", &self.bridge, &Vec::new)?.network;
        let publish: Vec<Publish> = publish
            .iter()
            .flat_map(|spec| parse_publish(spec).unwrap())
            .collect();
        let attach = Attach {
            further: &[],
            network: &network,
            container: id,
            name: id,
            endpoint: "e0",
            interface: "eth0",
            addresses: &[],
            mac: None,
            publish: &publish,
            exposed: &[],
            publish_all: false,
            links,
            default_route: true,
            sandbox: netns::Sandbox::New {
                ipv6: network.v6().is_some(),
            },
            alive: &|_| true,
        };
        let mut prepared = netns::prepare(&mut host, &attach)?;
        let namespace = new_namespace();
        host.enter(namespace.try_clone().unwrap());
        if let Err(failure) = Run::new(Faults::none(), false).apply(&prepared.steps, &mut host) {
            panic!("{failure}: {:?}", failure.cause);
        }
        let addresses: Vec<IpAddr> = prepared
            .endpoint
            .addresses
            .iter()
            .map(ipnet::IpNet::addr)
            .collect();
        let sockets = std::mem::take(&mut prepared.sockets);
        Ok(Container {
            namespace,
            prepared,
            proxy: (!sockets.is_empty())
                .then(|| run_proxy(Proxy::new(sockets, &addresses).unwrap())),
        })
    }
}

fn run_proxy(mut proxy: Proxy) -> (Arc<AtomicBool>, thread::JoinHandle<()>) {
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&stop);
    let thread = thread::spawn(move || {
        while !asked.load(Ordering::Relaxed) {
            use rustix::event::{PollFd, PollFlags, Timespec, poll};
            let wait = Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            let ready = {
                let mut fds = [PollFd::new(&proxy, PollFlags::IN)];
                poll(&mut fds, Some(&wait)).unwrap()
            };
            if ready > 0 {
                proxy.dispatch().unwrap();
            }
        }
    });
    (stop, thread)
}

impl Container {
    pub(crate) fn address(&self) -> IpAddr {
        self.prepared.endpoint.addresses[0].addr()
    }

    /// The first published port on the host.
    pub(crate) fn host_port(&self) -> u16 {
        let ports = self.prepared.endpoint.ports.values().flatten();
        ports.flatten().next().unwrap().port
    }

    pub(crate) fn stop_proxy(&mut self) {
        if let Some((stop, thread)) = self.proxy.take() {
            stop.store(true, Ordering::Relaxed);
            thread.join().unwrap();
        }
    }

    /// Takes everything back, in another process's manner: from the journal, without the
    /// container's namespace, twice.
    pub(crate) fn stop(mut self, engine: &Engine) {
        self.stop_proxy();
        let text = serde_json::to_string(&self.prepared.steps).unwrap();
        let steps: Vec<NetStep> = serde_json::from_str(&text).unwrap();
        let mut host = engine.host();
        for _ in 0..2 {
            let left = plan::undo_all(&steps, &mut host);
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.stop_proxy();
    }
}

/// Answers every stream and datagram on a port of a namespace with the peer's address, a blank and
/// what it was sent.
pub(crate) fn serve(namespace: BorrowedFd<'_>, port: u16) {
    let any = SocketAddr::from(([0, 0, 0, 0], port));
    let (tcp, udp) = visit(namespace, || {
        (
            TcpListener::bind(any).unwrap(),
            UdpSocket::bind(any).unwrap(),
        )
    })
    .unwrap();
    serve_on(tcp, udp);
}

/// The same for IPv6.
pub(crate) fn serve6(namespace: BorrowedFd<'_>, port: u16) {
    let any: SocketAddr = format!("[::]:{port}").parse().unwrap();
    let (tcp, udp) = visit(namespace, || {
        (
            TcpListener::bind(any).unwrap(),
            UdpSocket::bind(any).unwrap(),
        )
    })
    .unwrap();
    serve_on(tcp, udp);
}

fn serve_on(tcp: TcpListener, udp: UdpSocket) {
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let peer = stream.peer_addr().unwrap().ip();
                stream.write_all(format!("{peer} ").as_bytes()).unwrap();
                let mut copy = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut copy);
                let _ = copy.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            let (length, peer) = udp.recv_from(&mut buffer).unwrap();
            let mut answer = format!("{} ", peer.ip()).into_bytes();
            answer.extend_from_slice(&buffer[..length]);
            udp.send_to(&answer, peer).unwrap();
        }
    });
}

/// Says something to a server of [`serve`] from a namespace (or the host); gives the address that
/// the server saw.
pub(crate) fn talk(from: Option<BorrowedFd<'_>>, to: &str) -> Result<IpAddr, std::io::Error> {
    let to: SocketAddr = to.parse().unwrap();
    let connect = move || {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(b"over and out")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    heard(&inside(from, connect)?)
}

/// The same in one datagram.
pub(crate) fn talk_udp(from: Option<BorrowedFd<'_>>, to: &str) -> Result<IpAddr, std::io::Error> {
    let to: SocketAddr = to.parse().unwrap();
    let ask = move || {
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        // Connected: an answer from another address than the one asked is not heard.
        socket.connect(to)?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.send(b"over and out")?;
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    heard(&inside(from, ask)?)
}

fn inside<T: Send + 'static>(
    from: Option<BorrowedFd<'_>>,
    act: impl FnOnce() -> Result<T, std::io::Error> + Send + 'static,
) -> Result<T, std::io::Error> {
    match from {
        Some(namespace) => visit(namespace, act).unwrap(),
        None => act(),
    }
}

fn heard(answer: &str) -> Result<IpAddr, std::io::Error> {
    let (peer, echo) = answer
        .split_once(' ')
        .ok_or(std::io::ErrorKind::UnexpectedEof)?;
    assert_eq!(echo, "over and out");
    Ok(peer.trim_start_matches("::ffff:").parse().unwrap())
}

/// The rules of the host as text.
pub(crate) fn rules(hand: Hand) -> String {
    match hand {
        Hand::Nft | Hand::Off => run("nft", "list ruleset"),
        Hand::Iptables => {
            let lines = run("iptables-save", "");
            lines
                .lines()
                .filter(|line| !line.starts_with('#') && !line.starts_with(':'))
                .collect::<Vec<_>>()
                .join("\n")
        }
    }
}

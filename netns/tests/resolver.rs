//! The resolver in a container's namespace: look-ups by busybox, port 53 left to others, streams.

#![expect(clippy::unwrap_used, reason = "a lab that breaks is a test that fails")]

#[expect(dead_code, reason = "the other suite uses the rest of it")]
mod lab;

use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::{in_lab, ip, new_namespace, run};
use netns::dns::{Config, Membership, Names, Registry, Resolver, Servers, Sockets};
use netns::{Host, NetStep};
use plan::Step;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::caps::CapSet;
use sys::netlink::visit;

/// A namespace with a resolver, which works in a thread of its own until the end.
struct Container {
    namespace: OwnedFd,
    redirected: bool,
    end: Arc<AtomicBool>,
}

impl Container {
    fn new(state: &Path) -> Self {
        let namespace = new_namespace();
        visit(namespace.as_fd(), || ip("link set lo up")).unwrap();
        let mut host = Host::new(state, "lab", None);
        host.enter(namespace.try_clone().unwrap());
        NetStep::Resolver.apply(&mut host).unwrap();
        let sockets = host.take_resolver().unwrap();
        let redirected = sockets.is_redirected();
        let names = Names {
            directory: netns::dns::registry::directory(state).join("1"),
            owner: "one".to_owned(),
            name: "web".to_owned(),
            aliases: Vec::new(),
            addresses: vec!["10.0.0.2".parse::<IpAddr>().unwrap()],
        };
        NetStep::Names(names).apply(&mut host).unwrap();
        let config = Config {
            networks: vec![Membership {
                id: "1".to_owned(),
                name: "net".to_owned(),
                links: Vec::new(),
            }],
            servers: Servers::none(),
        };
        let end = Arc::new(AtomicBool::new(false));
        let ended = end.clone();
        let directory = netns::dns::registry::directory(state);
        thread::spawn(move || {
            // As the engine asks: by a file of the process.
            let alive = |_: &str| std::fs::read("/proc/self/stat").is_ok();
            let registry = Registry::new(directory, alive);
            let mut resolver = Resolver::new(sockets, registry, config).unwrap();
            let wait = Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            };
            while !ended.load(Ordering::Relaxed) {
                if poll(&mut [PollFd::new(&resolver, PollFlags::IN)], Some(&wait)).unwrap() > 0 {
                    resolver.dispatch().unwrap();
                }
            }
        });
        Self {
            namespace,
            redirected,
            end,
        }
    }

    /// What busybox makes of a name.
    fn look_up(&self, name: &str) -> String {
        let line = format!("nslookup -type=a {name} 127.0.0.11");
        let output = visit(self.namespace.as_fd(), || {
            Command::new("busybox")
                .args(line.split_whitespace())
                .output()
                .unwrap()
        });
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    /// The same over a stream, from the answer's last four bytes.
    fn look_up_by_stream(&self, question: &[u8]) -> [u8; 4] {
        use std::io::{Read, Write};

        let stream = visit(self.namespace.as_fd(), || {
            std::net::TcpStream::connect("127.0.0.11:53").unwrap()
        });
        let mut stream = stream.unwrap();
        stream.write_all(question).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut answer).unwrap();
        *answer.last_chunk().unwrap()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

const QUESTION: &[u8] = b"\0\x19\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03web\x03net\0\0\x01\0\x01";

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_resolver_leaves_port_53_to_the_container() {
    in_lab(
        "privileged_resolver_leaves_port_53_to_the_container",
        || {
            let state = tempfile::tempdir().unwrap();
            let container = Container::new(state.path());
            assert!(container.redirected);
            // A program of the container takes port 53 on all addresses.
            let (udp, tcp) = visit(container.namespace.as_fd(), || {
                let udp = UdpSocket::bind("0.0.0.0:53").unwrap();
                (udp, TcpListener::bind("0.0.0.0:53").unwrap())
            })
            .unwrap();
            udp.set_nonblocking(true).unwrap();
            tcp.set_nonblocking(true).unwrap();
            let text = container.look_up("web.net");
            assert!(text.contains("Address: 10.0.0.2"), "{text}");
            assert_eq!(container.look_up_by_stream(QUESTION), [10, 0, 0, 2]);
            assert!(udp.recv(&mut [0; 10]).is_err(), "it was not for us");
            assert!(tcp.accept().is_err(), "it was not for us");
            // Rules of the container's own that track connections see one conversation.
            visit(container.namespace.as_fd(), || {
                for rule in [
                    "add table ip own",
                    "add chain ip own in { type filter hook input priority 0 ; policy drop ; }",
                    "add rule ip own in ct state established accept",
                    "add rule ip own in udp dport != 0 ct state new accept",
                    "add rule ip own in tcp dport != 0 ct state new accept",
                ] {
                    run("nft", rule);
                }
            })
            .unwrap();
            let text = container.look_up("web");
            assert!(text.contains("Address: 10.0.0.2"), "{text}");
            assert_eq!(container.look_up_by_stream(QUESTION), [10, 0, 0, 2]);
            assert!(container.look_up("nobody").contains("SERVFAIL"));
        },
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_resolver_takes_port_53_where_no_rules_can_be_made() {
    in_lab(
        "privileged_resolver_takes_port_53_where_no_rules_can_be_made",
        || {
            // Without the right to make rules it is as without nf_tables.
            let all = sys::caps::permitted().unwrap();
            let net_admin = CapSet(1 << 12);
            let few = all.without(net_admin);
            sys::caps::set(few, all, CapSet(0)).unwrap();
            let sockets = Sockets::open().unwrap();
            assert!(!sockets.is_redirected());
            assert!(UdpSocket::bind("127.0.0.11:53").is_err(), "it is taken");
            assert!(TcpListener::bind("127.0.0.11:53").is_err(), "it is taken");
        },
    );
}

/// Prints how long look-ups take, there and back.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_resolver_answers_while_many_share_a_name() {
    in_lab(
        "privileged_resolver_answers_while_many_share_a_name",
        || {
            let state = tempfile::tempdir().unwrap();
            let container = Container::new(state.path());
            for index in 0..100 {
                let names = Names {
                    directory: netns::dns::registry::directory(state.path()).join("1"),
                    owner: format!("{index:064x}"),
                    name: format!("web{index}"),
                    aliases: vec!["all".to_owned()],
                    addresses: vec![IpAddr::from([10, 0, 1, index])],
                };
                names.publish().unwrap();
            }
            let socket = visit(container.namespace.as_fd(), || {
                let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
                socket.connect("127.0.0.11:53").unwrap();
                socket
            })
            .unwrap();
            let mut buffer = [0; 4096];
            for (name, count) in [("web", 1), ("all", 30)] {
                let question = [
                    &QUESTION[2..14],
                    b"\x03",
                    name.as_bytes(),
                    b"\0\0\x01\0\x01",
                ]
                .concat();
                let mut times: Vec<Duration> = (0..500)
                    .map(|_| {
                        let begin = Instant::now();
                        socket.send(&question).unwrap();
                        socket.recv(&mut buffer).unwrap();
                        assert_eq!(buffer[7], count, "{name}");
                        begin.elapsed()
                    })
                    .collect();
                times.sort();
                let [median, most] = [times[250], times[495]];
                println!("{name}: median {median:?}, 99 % {most:?}");
            }
        },
    );
}

//! The proxy on loopback: whole streams, half-closed ones, refusals, limits, datagrams.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;
use crate::port::{Binding, HostPort};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A proxy to a port of this host, and the address it listens on.
fn proxy_to(port: u16, protocol: Protocol) -> (Proxy, SocketAddr) {
    // Any free port will do; it is free again when the probe is closed.
    let free = TcpListener::bind((LOCAL, 0)).unwrap().local_addr().unwrap();
    let binding = Binding {
        port: Port {
            number: port,
            protocol,
        },
        host: HostPort {
            ip: LOCAL,
            port: free.port(),
        },
    };
    let socket = binding.open().unwrap();
    (Proxy::new(vec![socket], &[LOCAL]).unwrap(), free)
}

/// Whether there is work within the time.
fn ready(proxy: &Proxy, wait: Duration) -> bool {
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(wait.subsec_nanos()),
    };
    poll(&mut [PollFd::new(proxy, PollFlags::IN)], Some(&wait)).unwrap() > 0
}

/// Works until the other thread ends; counts how often there was work.
fn work_until<T>(proxy: &mut Proxy, other: JoinHandle<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !other.is_finished() {
        assert!(Instant::now() < deadline, "the proxy does not get on");
        if ready(proxy, Duration::from_millis(10)) {
            proxy.dispatch().unwrap();
        }
    }
    other.join().unwrap()
}

/// Works until nothing is under way any more.
fn drain(proxy: &mut Proxy) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while proxy.load() > 0 {
        assert!(Instant::now() < deadline, "{} are left", proxy.load());
        if ready(proxy, Duration::from_millis(10)) {
            proxy.dispatch().unwrap();
        }
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 31 % 251) as u8).collect()
}

fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind((LOCAL, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_long_stream_comes_back_whole_from_a_slow_reader() {
    let (listener, port) = listen();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut copy = stream.try_clone().unwrap();
        std::io::copy(&mut stream, &mut copy).unwrap();
        copy.shutdown(Shutdown::Write).unwrap();
    });
    let (mut proxy, address) = proxy_to(port, Protocol::Tcp);
    let sent = pattern(24 << 20);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut writer = stream.try_clone().unwrap();
        let data = sent.clone();
        let writing = thread::spawn(move || {
            writer.write_all(&data).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        // Both directions fill up first.
        thread::sleep(Duration::from_millis(200));
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        writing.join().unwrap();
        assert!(got == sent);
    });
    work_until(&mut proxy, client);
    server.join().unwrap();
    drain(&mut proxy);
    assert!(proxy.connections.iter().next().is_none());
}

#[test]
fn each_direction_ends_by_itself_and_costs_nothing_meanwhile() {
    let (listener, port) = listen();
    let (mut proxy, address) = proxy_to(port, Protocol::Tcp);
    let (said, heard) = std::sync::mpsc::channel::<()>();
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut greeting = Vec::new();
        // The server ends first; what the client says afterwards still arrives.
        stream.read_to_end(&mut greeting).unwrap();
        assert_eq!(greeting, b"goodbye");
        heard.recv().unwrap();
        stream.write_all(b"one more thing").unwrap();
    });
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"goodbye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).unwrap();
        rest
    });
    // Work off what there is; then a connection whose one half has ended must not keep it busy.
    let quiet = Instant::now() + Duration::from_millis(300);
    let mut turns = 0;
    while Instant::now() < quiet {
        if ready(&proxy, Duration::from_millis(20)) {
            proxy.dispatch().unwrap();
            turns += 1;
        }
    }
    assert!(turns < 20, "{turns} turns for one short connection");
    assert_eq!(proxy.load(), 1);
    said.send(()).unwrap();
    assert_eq!(work_until(&mut proxy, server), "one more thing");
    work_until(&mut proxy, client);
    drain(&mut proxy);
}

#[test]
fn a_client_is_closed_where_nobody_listens() {
    let (listener, port) = listen();
    drop(listener);
    let (mut proxy, address) = proxy_to(port, Protocol::Tcp);
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut nothing = Vec::new();
        let _ = stream.read_to_end(&mut nothing);
        assert!(nothing.is_empty());
    });
    work_until(&mut proxy, client);
    drain(&mut proxy);
}

#[test]
fn a_broken_connection_takes_the_other_side_with_it() {
    let (listener, port) = listen();
    let (mut proxy, address) = proxy_to(port, Protocol::Tcp);
    let client = thread::spawn(move || {
        let stream = TcpStream::connect(address).unwrap();
        // Unread data makes the close a reset.
        thread::sleep(Duration::from_millis(100));
        drop(stream);
    });
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let data = pattern(1 << 16);
        while stream.write_all(&data).is_ok() {}
    });
    work_until(&mut proxy, client);
    work_until(&mut proxy, server);
    drain(&mut proxy);
}

#[test]
fn at_the_limit_clients_wait_their_turn() {
    let (listener, port) = listen();
    let server = thread::spawn(move || {
        for _ in 0..6 {
            let (mut stream, _) = listener.accept().unwrap();
            thread::spawn(move || {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                stream.write_all(&byte).unwrap();
            });
        }
    });
    let (mut proxy, address) = proxy_to(port, Protocol::Tcp);
    proxy.limit = 2;
    let clients = thread::spawn(move || {
        let all: Vec<TcpStream> = (0..6)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        for mut stream in all {
            stream.write_all(b"x").unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
        }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while !clients.is_finished() {
        assert!(Instant::now() < deadline);
        if ready(&proxy, Duration::from_millis(10)) {
            proxy.dispatch().unwrap();
        }
        assert!(proxy.load() <= 2);
    }
    clients.join().unwrap();
    server.join().unwrap();
    drain(&mut proxy);
}

#[test]
fn datagrams_of_each_client_find_their_way_back() {
    let server = UdpSocket::bind((LOCAL, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let echo = server.try_clone().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, peer)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], peer);
        }
    });
    let (mut proxy, address) = proxy_to(port, Protocol::Udp);
    let clients = thread::spawn(move || {
        let all: Vec<UdpSocket> = (0..5)
            .map(|_| {
                let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
                socket.connect(address).unwrap();
                socket
                    .set_read_timeout(Some(Duration::from_secs(5)))
                    .unwrap();
                socket
            })
            .collect();
        for round in 0..3 {
            for (index, socket) in all.iter().enumerate() {
                socket.send(format!("{index} {round}").as_bytes()).unwrap();
            }
            for (index, socket) in all.iter().enumerate() {
                let mut buffer = [0; 64];
                let length = socket.recv(&mut buffer).unwrap();
                assert_eq!(&buffer[..length], format!("{index} {round}").as_bytes());
            }
        }
    });
    work_until(&mut proxy, clients);
    assert_eq!(proxy.load(), 5);
    proxy.flows.expire(Instant::now() + Duration::from_secs(60));
    assert_eq!(proxy.load(), 5);
    proxy.flows.expire(Instant::now() + Duration::from_secs(91));
    assert_eq!(proxy.load(), 0);
}

#[test]
fn the_least_used_flow_makes_room() {
    let server = UdpSocket::bind((LOCAL, 0)).unwrap();
    let port = server.local_addr().unwrap().port();
    let (mut proxy, address) = proxy_to(port, Protocol::Udp);
    proxy.limit = 3;
    for _ in 0..10 {
        let socket = UdpSocket::bind((LOCAL, 0)).unwrap();
        socket.send_to(b"x", address).unwrap();
        while ready(&proxy, Duration::from_millis(50)) {
            proxy.dispatch().unwrap();
        }
        assert!(proxy.load() <= 3);
    }
    assert_eq!(proxy.load(), 3);
}

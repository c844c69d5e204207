//! The resolver over real sockets: answers, other servers and their failures, streams, floods.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;

use proptest::prelude::*;
use rustix::event::{PollFd, PollFlags, poll};
use sys::inet::Transport;

use super::client::CLIENTS;
use super::*;
use crate::dns::Pick;

/// Container names of the network `net`.
#[derive(Debug, Default, Clone)]
struct Table(BTreeMap<String, Vec<IpAddr>>);

impl Directory for Table {
    fn named(&self, network: &str, name: &str, pick: Pick) -> Vec<IpAddr> {
        let found = self.0.get(name).filter(|_| network == "1");
        let mut list = found.cloned().unwrap_or_default();
        let middle = pick.turn % list.len().max(1);
        list.rotate_left(middle);
        list.truncate(pick.most);
        list
    }

    fn name_of(&self, network: &str, address: IpAddr) -> Option<String> {
        let mut all = self.0.iter().filter(|_| network == "1");
        all.find(|(_, list)| list.contains(&address))
            .map(|(name, _)| name.clone())
    }
}

/// A resolver on loopback, and where its UDP and TCP sockets are.
struct Served {
    resolver: Resolver,
    udp: SocketAddr,
    tcp: SocketAddr,
}

fn serve(servers: Servers) -> Served {
    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let udp = inet::listen(local, Transport::Udp).unwrap();
    let tcp = inet::listen(local, Transport::Tcp).unwrap();
    let at = |fd: &OwnedFd| inet::local_address(fd).unwrap();
    let (udp_at, tcp_at) = (at(&udp), at(&tcp));
    let web = (2..52).map(|n| IpAddr::from([10, 0, 0, n])).collect();
    let table = Table(BTreeMap::from([
        ("web".to_owned(), web),
        ("db".to_owned(), vec!["10.0.0.99".parse().unwrap()]),
        (
            "two".to_owned(),
            vec![IpAddr::from([10, 0, 1, 2]), IpAddr::from([10, 0, 1, 3])],
        ),
    ]));
    let config = Config {
        networks: vec![Membership {
            id: "1".to_owned(),
            name: "net".to_owned(),
            links: Vec::new(),
        }],
        servers,
    };
    Served {
        resolver: Resolver::new(Sockets::from_parts(udp, tcp), table, config).unwrap(),
        udp: udp_at,
        tcp: tcp_at,
    }
}

impl Served {
    /// Works until the other thread ends.
    fn work<T>(&mut self, other: JoinHandle<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !other.is_finished() {
            assert!(Instant::now() < deadline, "the resolver does not get on");
            self.turn();
        }
        other.join().unwrap()
    }

    /// One wait of at most ten milliseconds, and the work.
    fn turn(&mut self) -> bool {
        let wait = Timespec {
            tv_sec: 0,
            tv_nsec: 10_000_000,
        };
        let ready = poll(
            &mut [PollFd::new(&self.resolver, PollFlags::IN)],
            Some(&wait),
        );
        if ready.unwrap() == 0 {
            return false;
        }
        self.resolver.dispatch().unwrap();
        true
    }
}

/// A question as clients write it.
fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

/// An answer of another server with a text of this length in it.
fn answer_to(question: &[u8], text: usize) -> Vec<u8> {
    let mut answer = question.to_vec();
    answer[2] = 0x81;
    answer[3] = 0x80;
    answer[7] = 1;
    answer.extend([0xc0, 12, 0, 16, 0, 1, 0, 0, 0, 9]);
    answer.extend((text as u16).to_be_bytes());
    answer.extend(vec![b'x'; text]);
    answer
}

fn ask_udp(at: SocketAddr, message: Vec<u8>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(at).unwrap();
        socket.send(&message).unwrap();
        let mut buffer = vec![0; 65536];
        let length = socket.recv(&mut buffer).unwrap();
        buffer.truncate(length);
        buffer
    })
}

/// Asks several at once, in one write; gives the answers in their order.
fn ask_tcp(at: SocketAddr, messages: Vec<Vec<u8>>) -> JoinHandle<Vec<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut stream = TcpStream::connect(at).unwrap();
        let mut bytes = Vec::new();
        for message in &messages {
            bytes.extend((message.len() as u16).to_be_bytes());
            bytes.extend(message);
        }
        stream.write_all(&bytes).unwrap();
        messages.iter().map(|_| read_one(&mut stream)).collect()
    })
}

fn read_one(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message).unwrap();
    message
}

/// Another server that gives each question these answers, in order, and ends after so many.
fn server(
    count: usize,
    answers: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static,
) -> (SocketAddr, JoinHandle<()>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = socket.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        for _ in 0..count {
            let mut buffer = [0; 4096];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            for answer in answers(&buffer[..length]) {
                socket.send_to(&answer, from).unwrap();
            }
        }
    });
    (at, thread)
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 15
}

fn count(answer: &[u8]) -> u16 {
    u16::from_be_bytes([answer[6], answer[7]])
}

#[test]
fn questions_for_both_families_go_round_too() {
    let mut served = serve(Servers::none());
    let mut firsts = Vec::new();
    for id in 0..2 {
        let answer = served.work(ask_udp(served.udp, question(id, "two", 1)));
        assert_eq!(count(&answer), 2);
        // after the head, the question (3+1+1+2+2 bytes) and ten bytes before the address
        firsts.push(answer[12 + 9 + 12..12 + 9 + 16].to_vec());
        served.work(ask_udp(served.udp, question(id, "two", 28)));
    }
    firsts.sort();
    assert_eq!(firsts, [[10, 0, 1, 2], [10, 0, 1, 3]]);
}

#[test]
fn own_names_are_answered_and_go_round() {
    let mut served = serve(Servers::none());
    let mut firsts = Vec::new();
    for id in 0..3 {
        let answer = served.work(ask_udp(served.udp, question(id, "WEB.net", 1)));
        assert_eq!(answer[..2], id.to_be_bytes());
        // 50 addresses are too many for 512 bytes: as many as fit, and a mark.
        assert!(
            answer.len() <= 512 && answer[2] & 2 != 0,
            "{}",
            answer.len()
        );
        assert_eq!(count(&answer), 30);
        firsts.push(answer[25 + 12..25 + 16].to_vec());
    }
    assert_ne!(firsts[0], firsts[1]);
    assert_ne!(firsts[1], firsts[2]);
    let whole = served.work(ask_tcp(served.tcp, vec![question(7, "web", 1)]));
    assert_eq!((count(&whole[0]), whole[0][2] & 2), (50, 0));
    let none = served.work(ask_udp(served.udp, question(8, "db", 28)));
    assert_eq!((code(&none), count(&none)), (0, 0));
    let nobody = served.work(ask_udp(served.udp, question(9, "example.org", 1)));
    assert_eq!(code(&nobody), 2, "there is nobody to ask");
    assert_eq!(served.resolver.forwards.len(), 0);
}

#[test]
fn the_first_answer_that_is_one_is_passed_on() {
    let (at, thread) = server(1, |asked| {
        let mut forged = answer_to(asked, 3);
        forged[0] ^= 1;
        let mut other = answer_to(&question(0, "example.com", 1), 4);
        other[..2].copy_from_slice(&asked[..2]);
        vec![
            b"noise".to_vec(),
            forged,
            other,
            asked.to_vec(),
            answer_to(asked, 5),
        ]
    });
    let mut served = serve(Servers::at(&[at]));
    let asked = question(0x4242, "Example.org", 1);
    let answer = served.work(ask_udp(served.udp, asked.clone()));
    assert_eq!(answer, answer_to(&asked, 5));
    assert_eq!(served.resolver.load(), 0);
    thread.join().unwrap();
}

#[test]
fn a_server_that_refuses_or_is_not_there_is_passed_over() {
    let refusal = |asked: &[u8]| {
        let mut answer = asked.to_vec();
        answer[2] = 0x81;
        answer[3] = 5;
        vec![answer]
    };
    let (refuses, _) = server(9, refusal);
    let (answers, _) = server(9, |asked| vec![answer_to(asked, 5)]);
    // Nobody listens on a port that was just given back.
    let gone = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut served = serve(Servers::at(&[gone, refuses, answers]));
    let asked = question(1, "example.org", 1);
    let answer = served.work(ask_udp(served.udp, asked.clone()));
    assert_eq!(answer, answer_to(&asked, 5));
    // A refusal is better than nothing.
    served.resolver.configure(Config {
        servers: Servers::at(&[refuses, gone]),
        ..served.resolver.config().clone()
    });
    let answer = served.work(ask_udp(served.udp, asked));
    assert_eq!(code(&answer), 5);
}

#[test]
fn a_silent_server_is_left_for_the_next() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (answers, _) = server(1, |asked| vec![answer_to(asked, 5)]);
    let mut served = serve(Servers::at(&[silent.local_addr().unwrap(), answers]));
    let asked = question(1, "example.org", 1);
    let answer = served.work(ask_udp(served.udp, asked.clone()));
    assert_eq!(answer, answer_to(&asked, 5));
}

#[test]
fn a_long_answer_comes_by_stream() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let at = udp.local_addr().unwrap();
    let tcp = TcpListener::bind(at).unwrap();
    std::thread::spawn(move || {
        loop {
            let mut buffer = [0; 4096];
            let (length, from) = udp.recv_from(&mut buffer).unwrap();
            let mut cut = answer_to(&buffer[..length], 0);
            cut[2] |= 2;
            udp.send_to(&cut, from).unwrap();
        }
    });
    std::thread::spawn(move || {
        let (mut stream, _) = tcp.accept().unwrap();
        let asked = read_one(&mut stream);
        let answer = answer_to(&asked, 60_000);
        stream
            .write_all(&(answer.len() as u16).to_be_bytes())
            .unwrap();
        stream.write_all(&answer).unwrap();
    });
    let mut served = serve(Servers::at(&[at]));
    let asked = question(1, "example.org", 16);
    let cut = served.work(ask_udp(served.udp, asked.clone()));
    assert_eq!(cut[2] & 2, 2);
    // Questions in one go, one of them of ours: the answers come in their order.
    let messages = vec![asked.clone(), question(2, "db", 1)];
    let both = served.work(ask_tcp(served.tcp, messages));
    assert_eq!(both[0], answer_to(&asked, 60_000));
    assert_eq!((both[1][1], count(&both[1])), (2, 1));
}

#[test]
fn an_answer_too_long_for_the_client_is_marked() {
    let (at, _) = server(9, |asked| vec![answer_to(asked, 1000)]);
    let mut served = serve(Servers::at(&[at]));
    let asked = question(1, "example.org", 16);
    let answer = served.work(ask_udp(served.udp, asked.clone()));
    assert!(answer.len() < 100 && answer[2] & 2 != 0);
    let mut extended = asked;
    extended[11] = 1;
    extended.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
    let answer = served.work(ask_udp(served.udp, extended));
    assert!(answer.len() > 1000 && answer[2] & 2 == 0);
}

#[test]
fn a_flood_takes_no_more_than_its_share_and_ends() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut served = serve(Servers::at(&[silent.local_addr().unwrap()]));
    let at = served.udp;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for id in 0..1000 {
        socket.send_to(&question(id, "example.org", 1), at).unwrap();
        if id % 50 == 0 {
            while served.turn() {}
        }
    }
    while served.turn() {}
    assert_eq!(served.resolver.forwards.len(), FORWARDS);
    // Names of ours are answered meanwhile.
    let answer = served.work(ask_udp(at, question(1, "db", 1)));
    assert_eq!(count(&answer), 1);
    let deadline = Instant::now() + Duration::from_secs(30);
    while served.resolver.load() > 0 {
        assert!(Instant::now() < deadline, "questions are left");
        served.turn();
    }
    assert!(
        !served.turn(),
        "it does not tick when there is nothing to do"
    );
}

#[test]
fn more_connections_than_allowed_push_out_the_oldest() {
    let mut served = serve(Servers::none());
    let mut streams: Vec<TcpStream> = (0..CLIENTS + 10)
        .map(|_| TcpStream::connect(served.tcp).unwrap())
        .collect();
    while served.turn() {}
    assert_eq!(served.resolver.clients.len(), CLIENTS);
    let mut last = streams.pop().unwrap();
    let asked = question(1, "db", 1);
    last.write_all(&(asked.len() as u16).to_be_bytes()).unwrap();
    last.write_all(&asked).unwrap();
    let answer = served.work(std::thread::spawn(move || read_one(&mut last)));
    assert_eq!(count(&answer), 1);
    drop(streams);
    while served.turn() {}
    assert_eq!(served.resolver.clients.len(), 0);
}

#[test]
fn many_questions_on_one_connection_are_all_answered() {
    let mut served = serve(Servers::none());
    let many: Vec<Vec<u8>> = (0..500).map(|id| question(id, "db", 1)).collect();
    let answers = served.work(ask_tcp(served.tcp, many));
    for (id, answer) in (0_u16..).zip(&answers) {
        assert_eq!((&answer[..2], count(answer)), (&id.to_be_bytes()[..], 1));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn noise_harms_nobody(noise in proptest::collection::vec(
        proptest::collection::vec(any::<u8>(), 0..200), 1..20,
    )) {
        let mut served = serve(Servers::none());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(served.tcp).unwrap();
        for bytes in &noise {
            socket.send_to(bytes, served.udp).unwrap();
            // The other side may have had enough of it.
            let _ = stream.write_all(bytes);
            served.turn();
        }
        while served.turn() && !served.resolver.clients.iter().all(|(_, one)| one.busy) {}
        let answer = served.work(ask_udp(served.udp, question(1, "db", 1)));
        prop_assert_eq!(count(&answer), 1);
    }
}

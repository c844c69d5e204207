//! Bytes and round trips through the bridge and through a published port, beside a bridge and pairs
//! made by hand.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::{Host, Outside};

use super::{Bench, Table, median};

/// Bytes sent in one round.
const BYTES: usize = 1 << 28;
/// Round trips in one round.
const TRIPS: u32 = 1000;
/// Rounds of each, interleaved: many short ones, so that whatever else the machine does meets
/// neighbours alike.
const ROUNDS: usize = 31;
const PORT: u16 = 5000;

/// One way from a client to a server.
struct Way {
    name: &'static str,
    client: Host,
    server: Host,
    address: SocketAddr,
}

/// Bytes per second and round-trip time of each way, and the ratio to the way made by hand.
pub(crate) fn ways(bench: &mut Bench) -> Result<Table> {
    let outside = Outside::new(&bench.lab);
    bench.lab.sh("rbox run -d --name near busybox sleep 100000
         rbox run -d --name far -p 5000:5000 busybox sleep 100000
         ip link add by-hand type bridge
         ip address add 10.99.0.1/24 dev by-hand
         ip link set by-hand up
         for n in 2 3; do
             ip netns add hand$n
             ip link add hand$n type veth peer name eth0 netns hand$n
             ip link set hand$n master by-hand up
             ip -n hand$n address add 10.99.0.$n/24 dev eth0
             ip -n hand$n link set lo up
             ip -n hand$n link set eth0 up
             ip -n hand$n route add default via 10.99.0.1
         done");
    let by_hand = SocketAddr::from((Ipv4Addr::new(10, 99, 0, 3), PORT));
    let far: Ipv4Addr = bench
        .lab
        .sh("rbox inspect -f '{{.NetworkSettings.IPAddress}}' far")
        .parse()?;
    let [hand2, hand3] = ["/run/netns/hand2", "/run/netns/hand3"].map(|path| named(bench, path));
    let (near, server) = (inside(bench, "near")?, inside(bench, "far")?);
    let published = SocketAddr::from((outside.lab, PORT));
    let way = |name, client: &Host, server: &Host, address| Way {
        name,
        client: client.clone(),
        server: server.clone(),
        address,
    };
    let hand3 = hand3?;
    let ways = [
        way("bridge by hand", &hand2?, &hand3, by_hand),
        way("rbox's bridge", &near, &server, (far, PORT).into()),
        way("routed by hand, from outside", &outside, &hand3, by_hand),
        way("published port, from outside", &outside, &server, published),
    ];
    let mut results = vec![(Vec::new(), Vec::new()); ways.len()];
    for _ in 0..ROUNDS {
        for (way, (rates, trips)) in ways.iter().zip(&mut results) {
            rates.push(way.rate()?);
            trips.push(way.trip()?);
        }
    }
    bench
        .lab
        .sh("rbox rm -f near far; ip link del by-hand; ip netns del hand2; ip netns del hand3");
    let rows = ways.iter().enumerate().map(|(index, way)| {
        let ((rates, trips), by_hand) = (&results[index], &results[index & !1]);
        let row = vec![
            median(rates),
            ratio(rates, &by_hand.0),
            median(trips),
            ratio(trips, &by_hand.1),
        ];
        (way.name.to_owned(), row)
    });
    Ok(Table {
        title: format!(
            "one TCP connection: {ROUNDS} rounds interleaved, medians; also of each round's ratio to \
             the row made by hand"
        ),
        columns: vec!["GB/s", "ratio", "trip µs", "ratio"],
        rows: rows.collect(),
    })
}

/// The median of what each round's figure is to that round's of the way made by hand.
fn ratio(own: &[f64], by_hand: &[f64]) -> f64 {
    let ratios = own.iter().zip(by_hand).map(|(own, other)| own / other);
    median(&ratios.collect::<Vec<_>>())
}

impl Way {
    /// Gigabytes per second.
    fn rate(&self) -> Result<f64> {
        let took = self.run(receive, send)?;
        Ok(BYTES as f64 / took.as_secs_f64() / 1e9)
    }

    /// Microseconds for one byte there and back.
    fn trip(&self) -> Result<f64> {
        let took = self.run(
            |mut stream| {
                let mut byte = [0];
                while stream.read(&mut byte)? == 1 {
                    stream.write_all(&byte)?;
                }
                Ok(())
            },
            |mut stream| {
                let mut byte = [0];
                let begin = Instant::now();
                for _ in 0..TRIPS {
                    stream.write_all(&byte)?;
                    stream.read_exact(&mut byte)?;
                }
                Ok(begin.elapsed())
            },
        )?;
        Ok(took.as_secs_f64() * 1e6 / f64::from(TRIPS))
    }

    fn run(
        &self,
        serve: impl FnOnce(TcpStream) -> Result<()> + Send,
        ask: impl FnOnce(TcpStream) -> Result<Duration> + Send,
    ) -> Result<Duration> {
        let listener = self.server.enter(|| TcpListener::bind(("0.0.0.0", PORT)))?;
        std::thread::scope(|scope| {
            let server = scope.spawn(move || {
                let (stream, _) = listener.accept()?;
                stream.set_nodelay(true)?;
                serve(stream)
            });
            let took = self.client.enter(|| {
                let stream = TcpStream::connect_timeout(&self.address, Duration::from_secs(5))
                    .with_context(|| format!("cannot reach {}", self.address))?;
                stream.set_nodelay(true)?;
                ask(stream)
            });
            if took.is_ok()
                && let Ok(outcome) = server.join()
            {
                outcome?;
            }
            took
        })
    }
}

fn receive(mut stream: TcpStream) -> Result<()> {
    let mut buffer = vec![0; 1 << 18];
    let mut count = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            length => count += length,
        }
    }
    ensure!(count == BYTES, "{count} bytes came");
    stream.write_all(b"!")?;
    Ok(())
}

/// Until the other end says that it has all.
fn send(mut stream: TcpStream) -> Result<Duration> {
    let chunk = vec![0; 1 << 18];
    let begin = Instant::now();
    for _ in 0..BYTES / chunk.len() {
        stream.write_all(&chunk)?;
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    stream.read_exact(&mut [0])?;
    Ok(begin.elapsed())
}

/// The lab as a container's network sees it.
fn inside(bench: &Bench, container: &str) -> Result<Host> {
    let pid = bench
        .lab
        .sh(&format!("rbox inspect -f '{{{{.State.Pid}}}}' {container}"));
    named(bench, &format!("/proc/{pid}/ns/net"))
}

/// The lab with another network namespace.
fn named(bench: &Bench, path: &str) -> Result<Host> {
    // The lab's own /proc: a thread that enters has no entry there, but one more command has.
    let file = bench
        .lab
        .enter(|| File::open(path))
        .with_context(|| format!("cannot open {path}"))?;
    Ok(bench.lab.with_network(path, file.into()))
}

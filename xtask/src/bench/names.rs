//! How long a look-up at 127.0.0.11 takes, and how many there are in a second.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Bench, Table, median};

/// Look-ups per name.
const COUNT: usize = 5000;

/// Containers that share a name.
const SHARED: usize = 10;

/// Look-ups one after the other from inside a container, on a network with some others.
pub(crate) fn look_ups(bench: &mut Bench) -> Result<Table> {
    let lab = &bench.lab;
    let rbox = |line: &str| lab.rbox(line.split_whitespace()).run().success().text();
    rbox("network create names");
    let mut all = vec!["asks".to_owned()];
    rbox("run -d --name asks --network names busybox sleep 1000");
    for number in 0..SHARED {
        let name = format!("web{number}");
        rbox(&format!(
            "run -d --name {name} --network names --network-alias shared busybox sleep 1000"
        ));
        all.push(name);
    }
    let pid = rbox("inspect -f {{.State.Pid}} asks");
    let path = format!("/proc/{pid}/ns/net");
    let network = lab
        .enter(|| std::fs::File::open(&path))
        .with_context(|| format!("cannot open {path}"))?;
    let inside = lab.with_network("asks", network.into());
    let mut rows = Vec::new();
    for (title, name, addresses) in [
        ("a name", "web0", 1),
        ("a name shared by ten", "shared", SHARED),
    ] {
        let times = inside.enter(|| ask(name, addresses))?;
        let micros = |time: &Duration| time.as_secs_f64() * 1e6;
        let list: Vec<f64> = times.iter().map(micros).collect();
        let most = list[list.len() * 99 / 100];
        let total: f64 = list.iter().sum();
        let rate = (list.len() as f64 / total * 1e6).round();
        rows.push((title.to_owned(), vec![median(&list), most, rate]));
    }
    rbox(&format!("rm -f {}", all.join(" ")));
    rbox("network rm names");
    Ok(Table {
        title: format!("look-ups of the embedded DNS: µs there and back, {COUNT} one by one"),
        columns: vec!["median", "99 %", "per second"],
        rows,
    })
}

/// The times of all look-ups, from the shortest.
fn ask(name: &str, addresses: usize) -> Result<Vec<Duration>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect("127.0.0.11:53")?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0".to_vec();
    question.push(u8::try_from(name.len())?);
    question.extend(name.as_bytes());
    question.extend(b"\0\0\x01\0\x01");
    let mut answer = [0; 512];
    let mut times = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let begin = Instant::now();
        socket.send(&question)?;
        socket.recv(&mut answer).context("no answer")?;
        times.push(begin.elapsed());
        ensure!(usize::from(answer[7]) == addresses, "a wrong answer");
    }
    times.sort();
    Ok(times)
}

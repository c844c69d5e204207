//! Measures what attaching a container to the default bridge costs, step by step.
//!
//! Run it in namespaces of its own: `unshare -nm cargo run -p rbox-netns --example attach`.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use netns::firewall::Hand;
use netns::port::parse_publish;
use netns::{Attach, DefaultBridge, Host};
use plan::{Faults, Run};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rounds = 40;
    let hand = match std::env::args().nth(1).as_deref() {
        Some("iptables") => Hand::Iptables,
        _ => Hand::Nft,
    };
    let state = std::env::temp_dir().join(format!("rbox-attach-{}", std::process::id()));
    let mut totals: Vec<(&str, Vec<Duration>)> = Vec::new();
    let mut note = |name: &'static str, time: Duration| match totals
        .iter_mut()
        .find(|(known, _)| *known == name)
    {
        Some((_, times)) => times.push(time),
        None => totals.push((name, vec![time])),
    };
    for round in 0..rounds {
        let container = format!("c{round}");
        let namespace = namespace()?;
        let begin = Instant::now();
        let mut host = Host::new(&state, "rbox", Some(hand));
        let network = host.default_network("0", &DefaultBridge::on("rbox0"), &Vec::new)?;
        let publish = parse_publish("80")?;
        let prepared = netns::prepare(
            &mut host,
            &Attach {
                further: &[],
                network: &network.network,
                container: &container,
                name: &container,
                endpoint: "",
                interface: "eth0",
                addresses: &[],
                mac: None,
                publish: &publish,
                exposed: &[],
                publish_all: false,
                links: &[],
                default_route: true,
                sandbox: netns::Sandbox::New {
                    ipv6: network.network.v6().is_some(),
                },
                alive: &|_| true,
            },
        )?;
        note("prepare", begin.elapsed());
        host.enter(namespace);
        let mut run = Run::new(Faults::none(), true);
        run.apply(&prepared.steps, &mut host)?;
        note("all", begin.elapsed());
        for timing in run.timings() {
            note(timing.step, timing.duration);
        }
        let begin = Instant::now();
        let left = plan::undo_all(&prepared.steps, &mut host);
        note("undo", begin.elapsed());
        assert!(left.is_empty(), "{left:?}");
        drop(host);
        drop(prepared);
        // The kernel frees namespaces and rules later; that work must not be read as ours.
        std::thread::sleep(Duration::from_millis(150));
    }
    std::fs::remove_dir_all(&state)?;
    let mut text = String::new();
    for (name, mut times) in totals {
        times.sort();
        let middle = times[times.len() / 2];
        text.push_str(&format!("{name:<20} {middle:>12.1?}  of {}\n", times.len()));
    }
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes())?;
    Ok(())
}

/// A namespace without a process.
fn namespace() -> Result<OwnedFd, std::io::Error> {
    std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)?;
        Ok(File::open("/proc/thread-self/ns/net")?.into())
    })
    .join()
    .expect("the thread does not panic")
}

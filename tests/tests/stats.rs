//! `rbox stats`: what containers use.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;

/// One look; the fields of each container by its name.
fn look(lab: &Lab, words: &[&str]) -> Vec<Vec<String>> {
    let format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.MemPerc}}|{{.PIDs}}|{{.NetIO}}";
    let stats = lab.rbox(["stats", "--no-stream", "--format", format]);
    let lines = stats.args(words).run().success().lines();
    let fields = |line: &String| line.split('|').map(str::to_owned).collect();
    lines.iter().map(fields).collect()
}

fn share(text: &str) -> f64 {
    text.trim_end_matches('%').parse().unwrap()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stats_count_what_a_container_uses() {
    let lab = Lab::with_busybox();
    lab.sh(
        "rbox run -d --name limited --network none -m 64m --pids-limit 20 busybox sh -c '
            sleep 1000 & head -c 20000000 /dev/zero | tail -c 20000000 > /dev/null; sleep 1000'
        rbox run -d --name busy --network none busybox sh -c 'while :; do :; done'
        rbox create --name idle busybox true",
    );
    let rows = look(&lab, &["busy", "limited", "idle"]);
    let of = |name: &str| rows.iter().find(|row| row[0] == name).unwrap().clone();
    let [_, busy, memory, _, processes, _] = of("busy").try_into().unwrap();
    assert!(share(&busy) > 5.0, "{busy}");
    assert_eq!(processes, "1");
    assert!(
        !memory.starts_with("0B") && !memory.ends_with(" 0B"),
        "{memory}"
    );
    let [_, cpu, memory, part, processes, net] = of("limited").try_into().unwrap();
    assert!(memory.ends_with(" / 64MiB"), "{memory}");
    assert!(share(&part) < 100.0 && share(&cpu) < 150.0, "{part} {cpu}");
    assert!(processes.parse::<u32>().unwrap() >= 2, "{processes}");
    assert_eq!(net, "0B / 0B");
    assert_eq!(
        of("idle")[1..],
        ["0.00%", "0B / 0B", "0.00%", "0", "0B / 0B"]
    );
    // By default those that run, with -a all.
    assert_eq!(look(&lab, &[]).len(), 2);
    assert_eq!(look(&lab, &["-a"]).len(), 3);
    lab.rbox(["stats", "--no-stream", "none"])
        .run()
        .code(1)
        .says("Error response from daemon: No such container: none");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_stats_go_on_until_told_to_end() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run -d --name box --network none busybox sleep 1000");
    let mut stats = lab.rbox(["stats", "box"]).spawn();
    for _ in 0..2 {
        stats.expect("CONTAINER ID   NAME      CPU %");
        stats.expect("box");
    }
    stats.signal(nix::sys::signal::Signal::SIGINT);
    assert!(!stats.finish().status.success());
}

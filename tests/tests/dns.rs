//! Names on networks of users: who finds whom, for how long, and who is asked for the rest.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use lab::{Lab, eventually, until};

/// Runs `rbox` and gives what it wrote.
fn rbox(lab: &Lab, line: &str) -> String {
    lab.rbox(line.split_whitespace()).run().success().text()
}

/// A container that waits on a network; gives its address there.
fn wait_on(lab: &Lab, network: &str, name: &str, options: &str) -> String {
    rbox(
        lab,
        &format!("run -d --name {name} --network {network} {options} busybox sleep 1000"),
    );
    let format = format!("{{{{.NetworkSettings.Networks.{network}.IPAddress}}}}");
    rbox(lab, &format!("inspect -f {format} {name}"))
}

/// What a program of a container hears of a name.
fn nslookup(lab: &Lab, from: &str, kind: &str, name: &str) -> String {
    lab.rbox(["exec", from, "nslookup", &format!("-type={kind}"), name])
        .run()
        .text()
}

/// The addresses of a name, in the order of the answer.
fn look_up(lab: &Lab, from: &str, name: &str) -> Vec<String> {
    let text = nslookup(lab, from, "a", name);
    let (_, answer) = text.split_once("\n\n").unwrap_or_default();
    answer
        .lines()
        .filter_map(|line| line.strip_prefix("Address: "))
        .map(str::to_owned)
        .collect()
}

/// A server of the lab that says of every name that it has this address.
fn server(lab: &Lab, at: [u8; 4], says: [u8; 4]) {
    let at = (Ipv4Addr::from(at), 53);
    let socket = lab.enter(move || UdpSocket::bind(at).unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
            answer.extend(says);
            let _ = socket.send_to(&answer, from);
        }
    });
}

/// The lab's own `/etc/resolv.conf`, to be written again as `resolv`.
fn resolv_conf(lab: &Lab, text: &str) {
    lab.file("resolv", text);
    lab.sh("mount --bind resolv /etc/resolv.conf");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_names_of_a_network_and_the_way_back() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create un1");
    rbox(&lab, "network create un2");
    let web = wait_on(&lab, "un1", "Web", "--hostname store --network-alias www");
    wait_on(&lab, "un1", "one", "--link Web:shop");
    wait_on(&lab, "un1", "two", "");
    let own = &rbox(&lab, "inspect -f {{.Id}} two")[..5];
    wait_on(&lab, "un1", "three", &format!("--link {own}:sister"));
    wait_on(&lab, "un2", "far", "");
    let id = rbox(&lab, "inspect -f {{.Id}} Web");
    for name in [
        "Web",
        "wEB",
        "web.un1",
        "www",
        "WWW.un1",
        "store",
        &id[..12],
    ] {
        assert_eq!(look_up(&lab, "one", name), [web.as_str()], "{name}");
    }
    // It finds itself.
    assert_eq!(look_up(&lab, "Web", "web"), [web.as_str()]);
    // A link is its owner's alone.
    assert_eq!(look_up(&lab, "one", "shop"), [web.as_str()]);
    let silent = |from: &str, name: &str| look_up(&lab, from, name).is_empty();
    assert!(silent("two", "shop"));
    // It follows the container that was meant, by whatever it was called then.
    let sister = look_up(&lab, "three", "two");
    rbox(&lab, "rename two twin");
    assert!(silent("three", "two"));
    assert_eq!(look_up(&lab, "three", "sister"), sister);
    assert_eq!(look_up(&lab, "three", "twin"), sister);
    rbox(&lab, "rename twin two");
    assert!(silent("far", "web") && silent("far", "web.un1"));
    // Known, but without an IPv6 address: an empty answer, no failure.
    let none = nslookup(&lab, "one", "aaaa", "web");
    assert!(
        none.contains("answer:") && !none.contains("can't find"),
        "{none}"
    );
    let reverse = web.split('.').rev().collect::<Vec<_>>().join(".");
    let name = nslookup(&lab, "one", "ptr", &format!("{reverse}.in-addr.arpa"));
    assert!(name.contains("name = Web.un1"), "{name}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_only_who_runs_is_found() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create un1");
    wait_on(&lab, "un1", "asks", "");
    let a = wait_on(&lab, "un1", "aa", "--network-alias web");
    let b = wait_on(&lab, "un1", "bb", "--network-alias web");
    let both = || {
        let mut found = look_up(&lab, "asks", "web");
        found.sort();
        found
    };
    assert_eq!(both(), [a.clone(), b.clone()]);
    // Each has its turn at the head.
    let firsts: Vec<String> = (0..8)
        .filter_map(|_| look_up(&lab, "asks", "web").into_iter().next())
        .collect();
    assert!(firsts.contains(&a) && firsts.contains(&b), "{firsts:?}");
    rbox(&lab, "stop -t 0 bb");
    assert_eq!(both(), [a.as_str()]);
    assert!(look_up(&lab, "asks", "bb").is_empty());
    // It comes back elsewhere.
    let c = wait_on(&lab, "un1", "cc", "");
    assert_eq!(c, b);
    rbox(&lab, "start bb");
    let found = look_up(&lab, "asks", "bb");
    assert!(found.len() == 1 && found[0] != b, "{found:?}");
    // A new name is known at once, also after the process was started anew.
    rbox(&lab, "rename cc late");
    assert_eq!(look_up(&lab, "asks", "late"), [c.as_str()]);
    assert!(look_up(&lab, "asks", "cc").is_empty());
    rbox(&lab, "restart -t 0 late");
    assert_eq!(look_up(&lab, "asks", "late").len(), 1);
    rbox(&lab, "rm -f late bb");
    assert!(look_up(&lab, "asks", "late").is_empty());
    // Whose monitor is dead is not there, though nobody has cleared up.
    let id = rbox(&lab, "inspect -f {{.Id}} aa");
    let monitor = lab.sh(&format!("cut -d' ' -f1 /run/rbox/containers/{id}/monitor"));
    let asks = rbox(&lab, "inspect -f {{.State.Pid}} asks");
    lab.sh(&format!("kill -9 {}", monitor.trim()));
    let question = format!("nsenter -t {asks} -n busybox nslookup -type=a web 127.0.0.11 || true");
    eventually("the dead container is not found", || {
        !lab.sh(&question).contains(&a)
    });
    let names = || lab.sh("ls /run/rbox/names/*");
    assert!(names().contains("web"), "{}", names());
    rbox(&lab, "ps");
    eventually("its names are cleared up", || !names().contains("web"));
    rbox(&lab, "rm -f asks");
    assert_eq!(lab.sh("ls /run/rbox/names").trim(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_others_are_asked_for_the_rest() {
    let lab = Lab::with_busybox();
    server(&lab, [127, 0, 0, 53], [192, 0, 2, 53]);
    server(&lab, [127, 0, 0, 54], [192, 0, 2, 54]);
    // The first one is not there.
    resolv_conf(&lab, "nameserver 127.0.0.77\nnameserver 127.0.0.53\n");
    rbox(&lab, "network create un1");
    rbox(&lab, "network create --internal inside");
    wait_on(&lab, "un1", "asks", "");
    wait_on(&lab, "un1", "own", "--dns 127.0.0.54");
    wait_on(&lab, "inside", "shut", "");
    assert_eq!(look_up(&lab, "asks", "example.test"), ["192.0.2.53"]);
    // The container itself only knows its own resolver.
    assert_eq!(
        rbox(&lab, "exec asks cat /etc/resolv.conf"),
        "nameserver 127.0.0.11\noptions ndots:0"
    );
    assert_eq!(look_up(&lab, "own", "example.test"), ["192.0.2.54"]);
    // Whoever is only on an internal network does not reach the world by its names either.
    assert!(nslookup(&lab, "shut", "a", "example.test").contains("SERVFAIL"));
    assert_eq!(look_up(&lab, "shut", "shut").len(), 1);
    // The host changes its mind.
    lab.file("resolv", "nameserver 127.0.0.54\n");
    assert_eq!(look_up(&lab, "asks", "example.test"), ["192.0.2.54"]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_over_tcp_beside_a_server_of_the_containers_own() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create un1");
    let web = wait_on(&lab, "un1", "web", "");
    // It listens on port 53 itself, on all addresses.
    rbox(
        &lab,
        "run -d --name asks --network un1 busybox nc -ll -p 53 -e cat",
    );
    let question = r"\000\031\000\007\001\000\000\001\000\000\000\000\000\000\003web\003un1\000\000\001\000\001";
    let script = format!(
        "printf '{question}' | nc -w 2 127.0.0.11 53 | tail -c 4 | hexdump -e '4/1 \"%d.\"'"
    );
    let answer = lab.rbox(["exec", "asks", "sh", "-c", &script]).run().text();
    assert_eq!(answer.trim_end_matches('.'), web);
    assert_eq!(look_up(&lab, "asks", "web"), [web.as_str()]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_a_flood_harms_neither_the_monitor_nor_others() {
    let lab = Lab::with_busybox();
    // A server that takes all and says nothing.
    let silent = lab.enter(|| UdpSocket::bind("127.0.0.53:53").unwrap());
    resolv_conf(&lab, "nameserver 127.0.0.53\n");
    rbox(&lab, "network create un1");
    let web = wait_on(&lab, "un1", "web", "");
    wait_on(&lab, "un1", "floods", "");
    let pid = rbox(&lab, "inspect -f {{.State.Pid}} floods");
    let id = rbox(&lab, "inspect -f {{.Id}} floods");
    let monitor = lab.sh(&format!("cut -d' ' -f1 /run/rbox/containers/{id}/monitor"));
    let monitor = monitor.trim().to_owned();
    let descriptors = || -> usize {
        let count = lab.sh(&format!("ls /proc/{monitor}/fd | wc -l"));
        count.trim().parse().unwrap()
    };
    let before = descriptors();
    let path = format!("/proc/{pid}/ns/net");
    let network = lab.enter(move || std::fs::File::open(path).unwrap());
    let inside = lab.with_network("floods", network.into());
    inside.enter(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for id in 0..20_000_u16 {
            let mut question = id.to_be_bytes().to_vec();
            question.extend(b"\x01\0\0\x01\0\0\0\0\0\0\x07example\x04test\0\0\x01\0\x01");
            // Every third is noise.
            question.truncate(if id % 3 == 0 { 20 } else { 64 });
            let _ = socket.send_to(&question, "127.0.0.11:53");
        }
    });
    let most = until(Duration::from_secs(1), || {
        let now = descriptors();
        (now > before + 200).then_some(now)
    });
    assert_eq!(most, None, "descriptors of the monitor");
    assert_eq!(look_up(&lab, "floods", "web"), [web.as_str()]);
    assert_eq!(look_up(&lab, "web", "web"), [web.as_str()]);
    eventually("the questions are given up", || descriptors() <= before + 1);
    drop(silent);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_follows_networks_that_are_joined_and_left() {
    let lab = Lab::with_busybox();
    resolv_conf(&lab, "nameserver 192.0.2.1\n");
    rbox(&lab, "network create un1");
    rbox(&lab, "network create un2");
    let web = wait_on(&lab, "un1", "web", "");
    let store = wait_on(&lab, "un2", "store", "");
    // On the default network it has neither names nor a resolver.
    wait_on(&lab, "bridge", "asks", "");
    let resolv = || rbox(&lab, "exec asks cat /etc/resolv.conf");
    assert_eq!(resolv(), "nameserver 192.0.2.1");
    rbox(&lab, "network connect --alias client un1 asks");
    assert_eq!(resolv(), "nameserver 127.0.0.11\noptions ndots:0");
    assert_eq!(look_up(&lab, "asks", "web"), [web.as_str()]);
    assert_eq!(look_up(&lab, "web", "client").len(), 1);
    rbox(&lab, "network connect un2 asks");
    assert_eq!(look_up(&lab, "asks", "store.un2"), [store.as_str()]);
    assert_eq!(look_up(&lab, "store", "asks").len(), 1);
    rbox(&lab, "network disconnect un1 asks");
    assert!(look_up(&lab, "web", "client").is_empty());
    assert!(look_up(&lab, "asks", "web.un1").is_empty());
    assert_eq!(look_up(&lab, "asks", "store"), [store.as_str()]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_knows_both_families_and_explains_itself() {
    let lab = Lab::with_busybox();
    rbox(
        &lab,
        "network create --ipv6 --subnet fd00:77::/64 --subnet 10.77.0.0/24 un1",
    );
    let web = wait_on(&lab, "un1", "web", "");
    let format = "inspect -f {{.NetworkSettings.Networks.un1.GlobalIPv6Address}} web";
    let web6 = rbox(&lab, format);
    assert_eq!(look_up(&lab, "web", "web"), [web.as_str()]);
    let answer = nslookup(&lab, "web", "aaaa", "web");
    assert!(answer.contains(&format!("Address: {web6}")), "{answer}");
    let address: Ipv6Addr = web6.parse().unwrap();
    let nibbles: Vec<String> = format!("{:032x}", u128::from(address))
        .chars()
        .rev()
        .map(String::from)
        .collect();
    let name = format!("{}.ip6.arpa", nibbles.join("."));
    let answer = nslookup(&lab, "web", "ptr", &name);
    assert!(answer.contains("name = web.un1"), "{answer}");
    // Without a user's network nothing of this is done.
    let explained = |network: &str| {
        let line = format!("explain run --network {network} --name it busybox true");
        rbox(&lab, &line)
    };
    let steps = explained("un1");
    assert!(
        steps.contains("127.0.0.11") && steps.contains("names/"),
        "{steps}"
    );
    assert!(!explained("bridge").contains("127.0.0.11"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_dns_finds_again_who_is_started_again() {
    let lab = Lab::with_busybox();
    rbox(&lab, "network create un1");
    wait_on(&lab, "un1", "asks", "");
    let first = wait_on(&lab, "un1", "again", "--restart always");
    rbox(&lab, "rename again anew");
    let pid = rbox(&lab, "inspect -f {{.State.Pid}} anew");
    lab.sh(&format!("kill -9 {pid}"));
    eventually("it runs again", || {
        let now = rbox(&lab, "inspect -f {{.State.Pid}} anew");
        now != "0" && now != pid
    });
    let format = "inspect -f {{.NetworkSettings.Networks.un1.IPAddress}} anew";
    assert_eq!(look_up(&lab, "asks", "anew"), [rbox(&lab, format)]);
    assert_eq!(look_up(&lab, "anew", "asks").len(), 1);
    assert!(look_up(&lab, "asks", "again").is_empty(), "was at {first}");
    rbox(&lab, "rm -f anew asks");
    rbox(&lab, "network rm un1");
    assert_eq!(lab.sh("ls /run/rbox/names").trim(), "");
}

//! Both hands of the firewall and the proxy in real namespaces: one suite, run over each.

#![expect(clippy::unwrap_used, reason = "a lab that breaks is a test that fails")]

mod lab;

use std::os::fd::AsFd;

use lab::{Engine, Outside, in_lab, ip, rules, run, serve, serve6, talk, talk_udp};
use netns::firewall::{Hand, LinkRule};
use netns::port::Protocol;

fn addr(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

/// Compares with `tests/golden/NAME.txt`; `RBOX_BLESS=1` writes the file instead.
fn golden(name: &str, found: &str) {
    let path = format!("{}/tests/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let found = format!("{}\n", found.trim());
    if std::env::var_os("RBOX_BLESS").is_some() {
        std::fs::write(path, found).unwrap();
        return;
    }
    assert_eq!(found, std::fs::read_to_string(path).unwrap());
}

/// A published port answers to everybody who may ask, on every address.
fn reached_from_everywhere(hand: Hand) {
    let outside = Outside::new();
    let engine = Engine::new(hand);
    let web = engine.start("web", &["8080:80", "8080:80/udp", "127.0.0.1:8081:80"]);
    let other = engine.start("other", &[]);
    assert_eq!(web.address(), addr("172.17.0.2"));
    assert_eq!(other.address(), addr("172.17.0.3"));
    serve(web.namespace.as_fd(), 80);
    let client = addr("10.9.0.2");
    let out = Some(outside.namespace.as_fd());
    let own = Some(web.namespace.as_fd());
    let sibling = Some(other.namespace.as_fd());

    // From outside: redirected by the packet filter, the client's address is seen.
    assert_eq!(talk(out, "10.9.0.1:8080").unwrap(), client);
    assert_eq!(talk_udp(out, "10.9.0.1:8080").unwrap(), client);
    // What is published on loopback only is not.
    assert!(talk(out, "10.9.0.1:8081").is_err());
    // From the host: its own addresses and both loopbacks.
    for address in [
        "10.9.0.1:8080",
        "172.17.0.1:8080",
        "127.0.0.1:8080",
        "[::1]:8080",
        "127.0.0.1:8081",
        "172.17.0.2:80",
    ] {
        assert!(talk(None, address).is_ok(), "host → {address}");
    }
    for address in ["10.9.0.1:8080", "127.0.0.1:8080", "[::1]:8080"] {
        assert!(talk_udp(None, address).is_ok(), "host → {address}/udp");
    }
    // From the container itself and from another, through the host's addresses.
    for (who, from) in [("itself", own), ("another", sibling)] {
        for address in ["10.9.0.1:8080", "172.17.0.1:8080"] {
            assert!(talk(from, address).is_ok(), "{who} → {address}");
            assert!(talk_udp(from, address).is_ok(), "{who} → {address}/udp");
        }
    }
    // From another container, directly.
    assert_eq!(talk(sibling, "172.17.0.2:80").unwrap(), other.address());
    // To the outside, with the host's address.
    serve(outside.namespace.as_fd(), 7);
    assert_eq!(talk(own, "10.9.0.2:7").unwrap(), addr("10.9.0.1"));
    assert_eq!(talk_udp(own, "10.9.0.2:7").unwrap(), addr("10.9.0.1"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_reached_from_everywhere() {
    in_lab("privileged_iptables_reached_from_everywhere", || {
        reached_from_everywhere(Hand::Iptables);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_reached_from_everywhere() {
    in_lab("privileged_nft_reached_from_everywhere", || {
        reached_from_everywhere(Hand::Nft);
    });
}

/// What a container added goes with it, by the journal alone, and twice is as good as once.
fn leaves_nothing(hand: Hand) {
    let engine = Engine::new(hand);
    let first = engine.start("first", &[]);
    let before = rules(hand);
    let links = run("ip", "-o link");
    let links = links.lines().count();
    let second = engine.start("second", &["8080:80", "8082:80", "9000-9003:9000-9003/udp"]);
    assert_ne!(rules(hand), before);
    second.stop(&engine);
    assert_eq!(rules(hand), before);
    assert_eq!(run("ip", "-o link").lines().count(), links);
    // Its address and ports are free again.
    let third = engine.start("third", &["8080:80"]);
    assert_eq!(third.address(), addr("172.17.0.3"));
    third.stop(&engine);
    first.stop(&engine);
    let state = engine.state.path();
    let holds = netns::hold::held(&state.join("networks/bridge")).unwrap();
    assert!(holds.is_empty(), "{holds:?}");
    assert!(netns::hold::held(&state.join("ports")).unwrap().is_empty());
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_leaves_nothing() {
    in_lab("privileged_iptables_leaves_nothing", || {
        leaves_nothing(Hand::Iptables)
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_leaves_nothing() {
    in_lab("privileged_nft_leaves_nothing", || {
        leaves_nothing(Hand::Nft)
    });
}

/// Somebody flushes the host's rules; the next start puts ours in place again.
fn survives_a_flush(hand: Hand, flush: fn()) {
    let outside = Outside::new();
    let engine = Engine::new(hand);
    engine.start("first", &["8080:80"]).stop(&engine);
    flush();
    let web = engine.start("web", &["8080:80"]);
    serve(web.namespace.as_fd(), 80);
    let out = Some(outside.namespace.as_fd());
    assert_eq!(talk(out, "10.9.0.1:8080").unwrap(), addr("10.9.0.2"));
    web.stop(&engine);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_survives_a_flush() {
    in_lab("privileged_iptables_survives_a_flush", || {
        survives_a_flush(Hand::Iptables, || {
            for table in ["filter", "nat"] {
                run("iptables", &format!("-t {table} -F"));
                run("iptables", &format!("-t {table} -X"));
            }
        });
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_survives_a_flush() {
    in_lab("privileged_nft_survives_a_flush", || {
        survives_a_flush(Hand::Nft, || {
            run("nft", "flush ruleset");
        });
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_rules_are_dockers() {
    in_lab("privileged_iptables_rules_are_dockers", || {
        let engine = Engine::new(Hand::Iptables);
        let web = engine.start("web", &["8080:80"]);
        golden("iptables", &rules(Hand::Iptables));
        let policies = run("iptables", "-S FORWARD");
        assert!(policies.starts_with("-P FORWARD ACCEPT"), "{policies}");
        web.stop(&engine);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_rules_are_ours() {
    in_lab("privileged_nft_rules_are_ours", || {
        let mut engine = Engine::new(Hand::Nft);
        engine.bridge.options.icc = false;
        engine.bridge.subnet6 = "fd00:17::/64".parse().ok();
        let web = engine.start("web", &["8080:80", "127.0.0.1:8081:80/udp"]);
        let found = rules(Hand::Nft).replace(&web.prepared.endpoint.veth, "veth0000000");
        golden("nft", &found);
        web.stop(&engine);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_closes_what_is_not_published() {
    in_lab("privileged_nft_closes_what_is_not_published", || {
        let outside = Outside::new();
        let engine = Engine::new(Hand::Nft);
        let web = engine.start("web", &["8080:80"]);
        serve(web.namespace.as_fd(), 80);
        serve(web.namespace.as_fd(), 81);
        sys::netlink::visit(outside.namespace.as_fd(), || {
            ip("route add 172.17.0.0/16 via 10.9.0.1");
        })
        .unwrap();
        let out = Some(outside.namespace.as_fd());
        assert!(talk(out, "172.17.0.2:80").is_ok());
        assert!(talk(out, "172.17.0.2:81").is_err());
    });
}

/// IPv6 all the way: containers, published ports, masquerade.
fn dual_stack(hand: Hand) {
    let outside = Outside::new();
    let mut engine = Engine::new(hand);
    engine.bridge.subnet6 = "fd00:17::/64".parse().ok();
    let web = engine.start("web", &["8080:80", "8080:80/udp"]);
    let other = engine.start("other", &[]);
    serve6(web.namespace.as_fd(), 80);
    let out = Some(outside.namespace.as_fd());
    let client = addr("fd09::2");
    assert_eq!(talk(out, "[fd09::1]:8080").unwrap(), client);
    assert_eq!(talk_udp(out, "[fd09::1]:8080").unwrap(), client);
    for address in ["[::1]:8080", "[fd09::1]:8080", "127.0.0.1:8080"] {
        assert!(talk(None, address).is_ok(), "host → {address}");
        assert!(talk_udp(None, address).is_ok(), "host → {address}/udp");
    }
    let sibling = Some(other.namespace.as_fd());
    assert_eq!(
        talk(sibling, "[fd00:17::2]:80").unwrap(),
        addr("fd00:17::3")
    );
    serve6(outside.namespace.as_fd(), 7);
    assert_eq!(talk(sibling, "[fd09::2]:7").unwrap(), addr("fd09::1"));
    web.stop(&engine);
    other.stop(&engine);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_dual_stack() {
    in_lab("privileged_iptables_dual_stack", || {
        dual_stack(Hand::Iptables);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_dual_stack() {
    in_lab("privileged_nft_dual_stack", || dual_stack(Hand::Nft));
}

/// Where containers may not talk, a link opens one port in one direction.
fn links_open_closed_bridges(hand: Hand) {
    let mut engine = Engine::new(hand);
    engine.bridge.options.icc = false;
    let source = engine.start("source", &[]);
    let stranger = engine.start("stranger", &[]);
    let mut link = LinkRule {
        bridge: "rbox0".to_owned(),
        receiver: addr("172.17.0.4"),
        source: source.address(),
        protocol: Protocol::Tcp,
        port: 80,
    };
    let links = [link.clone(), {
        link.protocol = Protocol::Udp;
        link
    }];
    let receiver = engine.start_linked("receiver", &[], &links).unwrap();
    assert_eq!(receiver.address(), addr("172.17.0.4"));
    serve(source.namespace.as_fd(), 80);
    serve(source.namespace.as_fd(), 81);
    serve(receiver.namespace.as_fd(), 80);
    let of = |container: &lab::Container| container.namespace.try_clone().unwrap();
    let (from, other, back) = (of(&receiver), of(&stranger), of(&source));
    assert!(talk(Some(from.as_fd()), "172.17.0.2:80").is_ok());
    assert!(talk_udp(Some(from.as_fd()), "172.17.0.2:80").is_ok());
    assert!(talk(Some(from.as_fd()), "172.17.0.2:81").is_err());
    assert!(talk(Some(other.as_fd()), "172.17.0.2:80").is_err());
    assert!(talk(Some(back.as_fd()), "172.17.0.4:80").is_err());
    // The host itself reaches all.
    assert!(talk(None, "172.17.0.2:81").is_ok());
    receiver.stop(&engine);
    assert!(!rules(hand).contains("172.17.0.4"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_links_open_closed_bridges() {
    in_lab("privileged_iptables_links_open_closed_bridges", || {
        links_open_closed_bridges(Hand::Iptables);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_links_open_closed_bridges() {
    in_lab("privileged_nft_links_open_closed_bridges", || {
        links_open_closed_bridges(Hand::Nft);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_hand_follows_the_host() {
    in_lab("privileged_the_hand_follows_the_host", || {
        let mut nft = sys::nftables::Socket::open().unwrap();
        assert_eq!(netns::firewall::detect(&mut nft), Hand::Nft);
        run("iptables", "-A INPUT -i lo -j ACCEPT");
        assert_eq!(netns::firewall::detect(&mut nft), Hand::Iptables);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_taken_subnet_is_passed_over_and_named() {
    in_lab("privileged_a_taken_subnet_is_passed_over_and_named", || {
        ip("link add vpn0 type bridge");
        ip("address add 172.17.3.1/24 dev vpn0");
        ip("link set vpn0 up");
        let engine = Engine::new(Hand::Nft);
        let found = engine
            .host()
            .default_network("0", &engine.bridge, &Vec::new)
            .unwrap();
        assert_eq!(found.network.pools[0].subnet.to_string(), "172.18.0.0/16");
        let (subnet, by) = found.passed_over.unwrap();
        assert_eq!(subnet.to_string(), "172.17.0.0/16");
        assert_eq!(by.to_string(), "172.17.3.0/24 dev vpn0");
        let web = engine.start("web", &[]);
        assert_eq!(web.address(), addr("172.18.0.2"));
        // The bridge that is there keeps its subnet.
        let again = engine
            .host()
            .default_network("0", &engine.bridge, &Vec::new)
            .unwrap();
        assert_eq!(again.network.pools[0].subnet.to_string(), "172.18.0.0/16");
        assert_eq!(again.passed_over, None);
    });
}

/// A client that never pauses is heard by the container that has the port now: first nobody, then
/// one container, then another.
fn datagrams_follow(hand: Hand) {
    let outside = Outside::new();
    let engine = Engine::new(hand);
    engine.start("base", &["1:1"]).stop(&engine);
    let client = sys::netlink::visit(outside.namespace.as_fd(), || {
        let socket = std::net::UdpSocket::bind("10.9.0.2:5353").unwrap();
        socket.connect("10.9.0.1:8080").unwrap();
        socket
            .set_read_timeout(Some(std::time::Duration::from_millis(500)))
            .unwrap();
        socket
    })
    .unwrap();
    let ask = || {
        // The error of an earlier datagram that nobody took may come first.
        let _ = client.send(b"x");
        let mut buffer = [0; 64];
        let length = client.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    };
    // Redirected, not proxied: the container sees the client.
    let seen = Some("10.9.0.2 x".to_owned());
    assert_eq!(ask(), None);
    let first = engine.start("first", &["8080:80/udp"]);
    serve(first.namespace.as_fd(), 80);
    assert_eq!(ask().or_else(ask), seen);
    // Another address, so that the old one would be wrong.
    let other = engine.start("other", &[]);
    first.stop(&engine);
    let _ = client.send(b"x");
    let taken = engine.start("taken", &[]);
    let second = engine.start("second", &["8080:80/udp"]);
    assert_ne!(second.address(), addr("172.17.0.2"));
    serve(second.namespace.as_fd(), 80);
    assert_eq!(ask().or_else(ask), seen);
    for container in [other, taken, second] {
        container.stop(&engine);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_datagrams_follow() {
    in_lab("privileged_iptables_datagrams_follow", || {
        datagrams_follow(Hand::Iptables);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_datagrams_follow() {
    in_lab("privileged_nft_datagrams_follow", || {
        datagrams_follow(Hand::Nft);
    });
}

/// Without any firewall the proxy alone serves published ports, and no rule is made.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_proxy_serves_without_a_firewall() {
    in_lab("privileged_the_proxy_serves_without_a_firewall", || {
        let outside = Outside::new();
        let engine = Engine::new(Hand::Off);
        let web = engine.start("web", &["8080:80", "8080:80/udp"]);
        serve(web.namespace.as_fd(), 80);
        let out = Some(outside.namespace.as_fd());
        assert_eq!(talk(out, "10.9.0.1:8080").unwrap(), addr("172.17.0.1"));
        assert_eq!(talk_udp(out, "10.9.0.1:8080").unwrap(), addr("172.17.0.1"));
        assert_eq!(rules(Hand::Off), "");
        web.stop(&engine);
    });
}

/// Many starts at once on a clean host: each gets its own address, and the base is made once.
fn starts_at_once(hand: Hand) {
    let engine = Engine::new(hand);
    let containers: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|index| {
                let engine = &engine;
                scope.spawn(move || engine.start(&format!("c{index}"), &["9000"]))
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let mut addresses: Vec<_> = containers.iter().map(lab::Container::address).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 8);
    let mut ports: Vec<_> = containers.iter().map(lab::Container::host_port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
    if hand == Hand::Iptables {
        let jumps = rules(hand);
        let jumps = jumps
            .lines()
            .filter(|line| *line == "-A FORWARD -j DOCKER-USER");
        assert_eq!(jumps.count(), 1);
    }
    for container in containers {
        container.stop(&engine);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_iptables_starts_at_once() {
    in_lab("privileged_iptables_starts_at_once", || {
        starts_at_once(Hand::Iptables)
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_nft_starts_at_once() {
    in_lab("privileged_nft_starts_at_once", || {
        starts_at_once(Hand::Nft)
    });
}

//! Bad input around links and networks: Docker's text where it has one, and what to do next.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod linked;

use linked::{field, hosts, lab, rbox, wait_in};

/// One refusal: the words after `rbox`, the code, Docker's text (or ours), the hint.
struct Bad<'a>(&'a str, i32, &'a str, &'a str);

#[track_caller]
fn refused(lab: &lab::Lab, all: &[Bad<'_>]) {
    for Bad(line, code, text, hint) in all {
        // words are parted at spaces, `+` stands for one inside a word
        let words = line.split(' ').map(|word| word.replace('+', " "));
        let output = lab.rbox(words).run().code(*code);
        let errors = output.errors();
        assert!(errors.contains(text), "{line}: {errors}");
        assert!(errors.contains(hint), "{line}: {errors}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_links_are_refused_with_a_hint() {
    let lab = lab();
    wait_in(&lab, "src", &[], "app");
    rbox(&lab, "network create un");
    wait_in(&lab, "un-1", &["--network", "un"], "busybox");
    wait_in(&lab, "plain", &[], "busybox");
    let label = "x".repeat(64);
    let long = format!("run --name rcv --link src:{label} busybox true");
    refused(
        &lab,
        &[
            Bad(
                "run --name rcv --link rcv:me busybox true",
                125,
                "could not get container for rcv: No such container: rcv",
                "hint: a link leads to another container",
            ),
            Bad(
                "run --name rcv --link src:a+b busybox true",
                125,
                "invalid link alias \"a b\": it is no host name",
                "--link NAME:ALIAS",
            ),
            Bad(
                "run --name rcv --link src:-a busybox true",
                125,
                "invalid link alias \"-a\": it is no host name",
                "--link NAME:ALIAS",
            ),
            Bad(
                "run --name rcv --link src:192.0.2.1 busybox true",
                125,
                "invalid link alias \"192.0.2.1\": it is no host name",
                "--link NAME:ALIAS",
            ),
            Bad(&long, 125, "it is no host name", "at most 63"),
            Bad(
                "run --name rcv --network un --link src:a..b busybox true",
                125,
                "invalid link alias \"a..b\": it is no host name",
                "--link NAME:ALIAS",
            ),
            Bad(
                "network connect --link un-1:a+b un plain",
                1,
                "invalid link alias \"a b\": it is no host name",
                "--link NAME:ALIAS",
            ),
        ],
    );
    assert_eq!(rbox(&lab, "ps -aq --filter name=rcv"), "", "nothing made");
    assert_eq!(
        rbox(&lab, "ps --filter name=plain --format {{.Networks}}"),
        "bridge"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_of_two_links_with_one_alias_the_first_counts() {
    let lab = lab();
    wait_in(&lab, "src", &[], "app");
    wait_in(&lab, "two", &[], "app");
    let run = |line: &str| lab.rbox(line.split(' ')).run().success().errors();
    let told = run("run -d --name rcv --link src:db --link two:db busybox sleep 1000");
    assert!(
        told.contains("WARNING: Link two:db is discarded: db leads to src"),
        "{told}"
    );
    assert!(hosts(&lab, "rcv").starts_with("172.17.0.2\tdb "));
    let twice = run("run -d --name same --link src:db --link src:db busybox sleep 1000");
    assert_eq!(twice, "", "it says the same");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_links_in_a_loop_are_named() {
    let lab = lab();
    wait_in(&lab, "one", &[], "busybox");
    wait_in(&lab, "two", &["--link", "one:o"], "busybox");
    rbox(&lab, "rm -f one");
    wait_in(&lab, "one", &["--link", "two:t"], "busybox");
    let text =
        "Cannot restart container two: Cannot link to a non running container: /one AS /two/o";
    let hint = "hint: one has a link back, so neither could start first";
    refused(&lab, &[Bad("restart -t 0 two", 1, text, hint)]);
    // The hint's way out leads out.
    rbox(&lab, "rm --link two/o");
    rbox(&lab, "start two");
    rbox(&lab, "restart -t 0 one");
    assert_eq!(field(&lab, "two", "{{json .HostConfig.Links}}"), "null");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_addresses_and_removals_are_refused_with_a_hint() {
    let lab = lab();
    rbox(&lab, "network create --subnet 10.70.0.0/16 un");
    wait_in(
        &lab,
        "first",
        &["--network", "un", "--ip", "10.70.0.9"],
        "busybox",
    );
    wait_in(&lab, "plain", &[], "busybox");
    let id = linked::short_id(&lab, "first");
    let has = format!("hint: container {id} has 10.70.0.9");
    let own = "Address already in use";
    let mac = "conflicting options: mac-address and the network mode";
    let in_use = "error while removing network: network un id ";
    refused(
        &lab,
        &[
            Bad(
                "run --rm --network un --ip 10.70.0.9 busybox true",
                125,
                own,
                &has,
            ),
            Bad("network connect --ip 10.70.0.9 un plain", 1, own, &has),
            Bad(
                "run --rm --network un --ip 10.70.0.1 busybox true",
                125,
                own,
                "gateway has 10.70.0.1",
            ),
            Bad(
                "run --rm --network un --ip 10.70.0.0 busybox true",
                125,
                own,
                "the network itself has",
            ),
            Bad(
                "run --rm --network un --ip 10.70.255.255 busybox true",
                125,
                own,
                "the network itself has",
            ),
            Bad(
                "run --rm --network host --mac-address 02:42:00:00:00:01 busybox true",
                125,
                mac,
                "hint: ",
            ),
            Bad(
                "run --rm --network container:first --mac-address 02:42:00:00:00:01 busybox true",
                125,
                mac,
                "hint: ",
            ),
            Bad("network rm un", 1, in_use, "hint: first is on it"),
        ],
    );
    rbox(&lab, "stop -t 0 first");
    rbox(&lab, "network rm un");
    refused(
        &lab,
        &[Bad(
            "start first",
            1,
            "network un not found",
            "hint: make it again with 'rbox network create un', or 'rbox network disconnect un first'",
        )],
    );
    assert_eq!(field(&lab, "first", "{{.State.Running}}"), "false");
    rbox(&lab, "network disconnect un first");
    rbox(&lab, "start first");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_subnets_are_refused_with_the_route_they_overlap() {
    let lab = lab();
    lab.sh("ip link add mine type bridge
         ip address add 10.99.0.1/24 dev mine
         ip link set mine up
         ip route add 10.60.0.0/16 via 10.99.0.2");
    let overlap = "Pool overlaps with other one on this address space";
    let gateway = "failed to allocate gateway (10.71.0.0): Address already in use";
    refused(
        &lab,
        &[
            Bad(
                "network create --subnet 10.99.0.128/25 x",
                1,
                overlap,
                "10.99.0.0/24 dev mine",
            ),
            Bad(
                "network create --subnet 10.60.1.0/24 x",
                1,
                overlap,
                "10.60.0.0/16 dev mine",
            ),
            Bad(
                "network create --subnet 10.71.0.0/16 --gateway 10.71.0.0 x",
                1,
                gateway,
                "hint: ",
            ),
            Bad(
                "network create --driver none x",
                1,
                "only one instance of \"null\"",
                "--network none",
            ),
        ],
    );
    assert_eq!(rbox(&lab, "network ls -q -f type=custom"), "");
}

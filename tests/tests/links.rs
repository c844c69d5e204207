//! Classic links: what a receiver learns of its sources, their names, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod linked;

use lab::Lab;
use linked::{address, field, hosts, lab, rbox, short_id, wait_in};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_give_dockers_variables() {
    let lab = lab();
    let options = "--expose 8000-8003 -p 7070:70 -e FOO=bar -e EMPTY= -e MULTI=a=b=c -e COLOUR=red";
    let options: Vec<&str> = options.split(' ').collect();
    wait_in(&lab, "src", &options, "app");
    let text = lab
        .rbox([
            "run",
            "--rm",
            "--name",
            "rcv",
            "--link",
            "src:my-db",
            "busybox",
            "env",
        ])
        .run()
        .success()
        .text();
    let want = "\
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOSTNAME=ID
MY_DB_PORT=udp://172.17.0.2:53
MY_DB_PORT_8000_TCP_START=tcp://172.17.0.2:8000
MY_DB_PORT_8000_TCP_ADDR=172.17.0.2
MY_DB_PORT_8000_TCP_PROTO=tcp
MY_DB_PORT_8000_TCP_PORT_START=8000
MY_DB_PORT_8000_TCP_END=tcp://172.17.0.2:8003
MY_DB_PORT_8000_TCP_PORT_END=8003
MY_DB_PORT_53_UDP=udp://172.17.0.2:53
MY_DB_PORT_53_UDP_ADDR=172.17.0.2
MY_DB_PORT_53_UDP_PORT=53
MY_DB_PORT_53_UDP_PROTO=udp
MY_DB_PORT_70_TCP=tcp://172.17.0.2:70
MY_DB_PORT_70_TCP_ADDR=172.17.0.2
MY_DB_PORT_70_TCP_PORT=70
MY_DB_PORT_70_TCP_PROTO=tcp
MY_DB_PORT_80_TCP=tcp://172.17.0.2:80
MY_DB_PORT_80_TCP_ADDR=172.17.0.2
MY_DB_PORT_80_TCP_PORT=80
MY_DB_PORT_80_TCP_PROTO=tcp
MY_DB_PORT_8000_TCP=tcp://172.17.0.2:8000
MY_DB_PORT_8000_TCP_PORT=8000
MY_DB_PORT_8001_TCP=tcp://172.17.0.2:8001";
    let lines: Vec<&str> = text.lines().collect();
    for (line, want) in lines.iter().zip(want.lines()) {
        if !want.starts_with("HOSTNAME") {
            assert_eq!(*line, want, "{text}");
        }
    }
    let end = "MY_DB_NAME=/rcv/my-db\nMY_DB_ENV_FOO=bar\nMY_DB_ENV_EMPTY=\nMY_DB_ENV_MULTI=a=b=c\n\
               MY_DB_ENV_COLOUR=red\nHOME=/root";
    let found: Vec<&str> = lines[lines.len() - 6..].to_vec();
    assert_eq!(found, end.lines().collect::<Vec<_>>());
    // What the user sets stands before what a link gives, and has its place.
    let text = lab
        .rbox([
            "run",
            "--rm",
            "-e",
            "DB_NAME=mine",
            "--link",
            "src:db",
            "busybox",
            "env",
        ])
        .run()
        .success()
        .text();
    assert!(text.contains("\nDB_NAME=mine\nDB_ENV_"), "{text}");
    wait_in(&lab, "bare", &[], "busybox");
    let text = rbox(&lab, "run --rm --name rcv --link bare busybox env");
    let of_link: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("BARE"))
        .collect();
    assert_eq!(of_link, ["BARE_NAME=/rcv/bare"]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_give_names_one_way() {
    let lab = lab();
    wait_in(&lab, "src", &["-h", "its-name"], "app");
    wait_in(&lab, "two", &[], "app");
    let id = short_id(&lab, "two");
    let by_id = format!("{id}:my-db.v1");
    let options = [
        "--link", "src", "--link", "two:db", "--link", &by_id, "--link", &id, "--link", "src:db",
    ];
    let options = [&options[..], &["--add-host", "other:192.0.2.9"]].concat();
    wait_in(&lab, "rcv", &options, "busybox");
    let own = short_id(&lab, "rcv");
    assert_eq!(
        hosts(&lab, "rcv"),
        format!(
            "192.0.2.9\tother\n172.17.0.2\tsrc its-name\n172.17.0.3\tdb {id} two\n\
             172.17.0.3\tmy-db.v1 {id} two\n172.17.0.3\t{id} {id} two\n172.17.0.4\t{own}\n"
        ),
        "of two links with one alias the first counts"
    );
    for name in ["src", "its-name", "db", "two", "my-db.v1", &id] {
        rbox(&lab, &format!("exec rcv ping -c1 -W2 {name}"));
    }
    let lost = lab.rbox(["exec", "src", "ping", "-c1", "-W2", "rcv"]).run();
    assert!(!lost.status.success(), "{}", lost.text());
    let links = field(&lab, "rcv", "{{json .HostConfig.Links}}");
    assert_eq!(
        links,
        format!("[\"/src:/rcv/src\",\"/two:/rcv/db\",\"/two:/rcv/my-db.v1\",\"/two:/rcv/{id}\"]")
    );
    assert_eq!(field(&lab, "src", "{{json .HostConfig.Links}}"), "null");
    // What inspect shows can be typed again.
    wait_in(&lab, "again", &["--link", "/two:/rcv/db"], "busybox");
    assert_eq!(
        field(&lab, "again", "{{json .HostConfig.Links}}"),
        "[\"/two:/again/db\"]"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_are_refused_in_dockers_words() {
    let lab = lab();
    wait_in(&lab, "src", &[], "app");
    rbox(&lab, "create --name np busybox true");
    rbox(
        &lab,
        "run -d --name at-host --network host busybox sleep 1000",
    );
    rbox(
        &lab,
        "run -d --name at-none --network none busybox sleep 1000",
    );
    let host = "conflicting options: host type networking can't be used with links. This would result in undefined behavior";
    let shared = "conflicting options: container type network can't be used with links. This would result in undefined behavior";
    for (options, text) in [
        (
            "--link nope",
            "could not get container for nope: No such container: nope",
        ),
        (
            "--link rcv:me",
            "could not get container for rcv: No such container: rcv",
        ),
        (
            "--link :a",
            "could not get container for : invalid name or ID supplied: \"\"",
        ),
        (
            "--link a:b:c",
            "invalid argument \"a:b:c\" for \"--link\" flag: bad format for links: a:b:c",
        ),
        ("--link src --network host", host),
        ("--link src --network container:src", shared),
        ("--link at-host", host),
    ] {
        lab.rbox(["run", "--name", "rcv"])
            .args(options.split(' '))
            .args(["busybox", "true"])
            .run()
            .code(125)
            .says(text);
    }
    lab.rbox(["run", "--name", "rcv", "--link", "", "busybox", "true"])
        .run()
        .code(125)
        .says("invalid argument \"\" for \"--link\" flag: empty string specified for links");
    lab.rbox([
        "run", "--name", "rcv", "--link", "src:a b", "busybox", "true",
    ])
    .run()
    .code(125)
    .says("it is no host name");
    assert_eq!(
        rbox(&lab, "ps -aq --filter name=rcv"),
        "",
        "nothing is made"
    );
    assert!(lab.read("/var/lib/rbox/links").is_none());
    let alone = rbox(
        &lab,
        "run --rm --network none --link src:db busybox sh -c true",
    );
    assert_eq!(alone, "");
    lab.rbox([
        "run",
        "--rm",
        "--network",
        "none",
        "--link",
        "src:db",
        "busybox",
        "env",
    ])
    .run()
    .success()
    .says("WARNING: Links are discarded when using none network mode");
    not_running(&lab);
}

/// Sources that exist but cannot be linked to yet.
#[track_caller]
fn not_running(lab: &Lab) {
    let text = "Cannot link to a non running container: /np AS /rcv/db";
    lab.rbox(["run", "--name", "rcv", "--link", "np:db", "busybox", "true"])
        .run()
        .code(125)
        .says(text);
    let state = field(
        lab,
        "rcv",
        "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}",
    );
    assert_eq!(state, format!("created 128 {text}"));
    let output = lab.rbox(["start", "rcv"]).run().code(1);
    assert!(output.errors().contains(text), "{}", output.errors());
    output.says("Error: failed to start containers: rcv");
    lab.rbox([
        "run",
        "--name",
        "other",
        "--link",
        "at-none:x",
        "busybox",
        "true",
    ])
    .run()
    .code(125)
    .says("Cannot link to /at-none, as it does not belong to the default network");
    rbox(lab, "start np");
    rbox(lab, "rm -f rcv");
    wait_in(lab, "rcv", &["--link", "src:db"], "busybox");
    rbox(lab, "pause src");
    rbox(lab, "restart -t 0 rcv");
    rbox(lab, "unpause src");
    rbox(lab, "stop -t 0 src");
    lab.rbox(["restart", "-t", "0", "rcv"]).run().code(1).says(
        "Cannot restart container rcv: Cannot link to a non running container: /src AS /rcv/db",
    );
    assert_eq!(field(lab, "rcv", "{{.State.Running}}"), "false");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_give_containers_further_names() {
    let lab = lab();
    wait_in(&lab, "src", &[], "app");
    wait_in(
        &lab,
        "rcv",
        &["--link", "src:db", "--link", "src:b"],
        "busybox",
    );
    let id = short_id(&lab, "src");
    for name in ["rcv/db", "/rcv/b"] {
        assert_eq!(field(&lab, name, "{{.Name}}"), "/src");
        assert_eq!(rbox(&lab, &format!("exec {name} hostname")), id);
    }
    let names = |options: &str| rbox(&lab, &format!("ps --format {{{{.Names}}}} {options}"));
    assert_eq!(names("--no-trunc"), "rcv\nrcv/b,rcv/db,src");
    assert_eq!(names(""), "rcv\nsrc");
    assert_eq!(names("--filter name=rcv/db"), "");
    rbox(&lab, "rename src s9");
    rbox(&lab, "rename rcv r33");
    let links = || field(&lab, "r33", "{{json .HostConfig.Links}}");
    assert_eq!(links(), "[\"/s9:/r33/db\",\"/s9:/r33/b\"]");
    assert_eq!(names("--no-trunc"), "r33\nr33/b,r33/db,s9");
    assert!(hosts(&lab, "r33").starts_with(&format!("172.17.0.2\tdb {id} s9\n")));
    assert!(rbox(&lab, "exec r33 env").contains("DB_NAME=/r33/db"));
    lab.rbox(["rm", "--link", "r33"])
        .run()
        .code(1)
        .says("Conflict, cannot remove the default link name of the container");
    assert_eq!(rbox(&lab, "rm --link r33/db"), "r33/db");
    lab.rbox(["rm", "--link", "r33/db"])
        .run()
        .code(1)
        .says("No such container: r33/db");
    assert_eq!(links(), "[\"/s9:/r33/b\"]");
    assert!(
        !hosts(&lab, "r33").contains("\tdb "),
        "{}",
        hosts(&lab, "r33")
    );
    assert!(!rbox(&lab, "exec r33 env").contains("DB_"));
    rbox(&lab, "restart -t 0 r33");
    assert!(!hosts(&lab, "r33").contains("\tdb "));
    rbox(&lab, "rm -f s9");
    assert_eq!(
        links(),
        "[\"/s9:/r33/b\"]",
        "a source with receivers can go"
    );
    rbox(&lab, "rm -f r33");
    assert_eq!(lab.sh("find /var/lib/rbox/links -type f"), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_to_a_shared_network_lead_to_whose_it_is() {
    let lab = lab();
    wait_in(&lab, "src", &["-h", "its-name"], "app");
    rbox(
        &lab,
        "run -d --name joined --network container:src busybox sleep 1000",
    );
    let text = rbox(
        &lab,
        "run --rm --name rcv --link joined:db busybox cat /etc/hosts",
    );
    let line = format!("{}\tdb its-name src", address(&lab, "src"));
    assert!(text.contains(&line), "{text}");
    let text = rbox(&lab, "run --rm --name rcv --link joined:db busybox env");
    assert!(
        text.contains("DB_NAME=/rcv/db") && text.contains("DB_PORT_80_TCP="),
        "{text}"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_on_a_network_of_ones_own_are_aliases() {
    let lab = lab();
    rbox(&lab, "network create un");
    wait_in(&lab, "us", &["--network", "un"], "app");
    let options = ["--network", "un", "--link", "us:db"];
    wait_in(&lab, "rcv", &options, "busybox");
    let links = "{{json .HostConfig.Links}} {{json .NetworkSettings.Networks.un.Links}}";
    assert_eq!(field(&lab, "rcv", links), "null [\"us:db\"]");
    let env = rbox(&lab, "exec rcv env");
    assert!(!env.contains("DB_"), "{env}");
    assert!(!hosts(&lab, "rcv").contains("\tdb"));
    rbox(&lab, "exec rcv ping -c1 -W2 db");
    wait_in(&lab, "other", &["--network", "un"], "busybox");
    rbox(&lab, "exec other ping -c1 -W2 us");
    let lost = lab
        .rbox(["exec", "other", "ping", "-c1", "-W2", "db"])
        .run();
    assert!(!lost.status.success(), "the alias is the receiver's own");
    lab.rbox([
        "run",
        "--rm",
        "--network",
        "un",
        "--link",
        "us:a b",
        "busybox",
        "true",
    ])
    .run()
    .code(125)
    .says("it is no host name");
    lab.rbox([
        "run", "--rm", "--name", "x1", "--link", "us:db", "busybox", "true",
    ])
    .run()
    .code(125)
    .says("Cannot link to /us, as it does not belong to the default network");
}

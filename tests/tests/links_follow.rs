//! Links follow their sources: restarts with another address, sources made anew, many at once.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod linked;

use lab::eventually;
use linked::{address, field, hosts, lab, move_away, rbox, short_id, wait_in};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_follow_a_source_to_another_address() {
    let lab = lab();
    for name in ["db", "db1", "db.x"] {
        wait_in(&lab, name, &[], "app");
    }
    let all = [
        "--link", "db", "--link", "db1", "--link", "db.x", "--link", "db:copy",
    ];
    wait_in(&lab, "running", &all, "busybox");
    wait_in(&lab, "stopped", &all, "busybox");
    rbox(&lab, "create --name never --link db busybox true");
    rbox(&lab, "stop -t 0 stopped");
    let of_user = "1.2.3.4\tdb.foo\n172.17.0.2\tdb.mine";
    lab.sh(&format!(
        "rbox exec running sh -c 'printf \"{of_user}\" >> /etc/hosts'"
    ));
    let path = field(&lab, "running", "{{.HostsPath}}");
    let inode = lab.sh(&format!("stat -c %i {path}"));
    let ids = ["db", "db1", "db.x"].map(|name| short_id(&lab, name));
    let own = ["running", "stopped"].map(|name| short_id(&lab, name));
    move_away(&lab, "db", "taker");
    let now = address(&lab, "db");
    assert_ne!(now, "172.17.0.2");
    let lines = format!(
        "{now}\tdb {}\n172.17.0.3\tdb1 {}\n172.17.0.4\tdb.x {}\n{now}\tcopy {} db\n",
        ids[0], ids[1], ids[2], ids[0]
    );
    let running = format!("{lines}172.17.0.5\t{}\n{of_user}\n", own[0]);
    assert_eq!(hosts(&lab, "running"), running);
    assert_eq!(
        hosts(&lab, "stopped"),
        format!("{lines}172.17.0.6\t{}\n", own[1])
    );
    assert_eq!(lab.sh(&format!("stat -c %i {path}")), inode);
    let inside = rbox(&lab, "exec running cat /etc/hosts");
    assert!(format!("{inside}\n").ends_with(&running), "{inside}");
    // A further process gets the present address; the first one's variables never change.
    let text = rbox(&lab, "exec running env");
    assert!(
        text.contains(&format!("DB_PORT_80_TCP_ADDR={now}\n")),
        "{text}"
    );
    let first =
        lab.sh("tr '\\0' '\\n' < /proc/$(rbox inspect -f '{{.State.Pid}}' running)/environ");
    assert!(
        first.contains("DB_PORT_80_TCP_ADDR=172.17.0.2\n"),
        "{first}"
    );
    // The receiver's own restart begins anew.
    rbox(&lab, "restart -t 0 running");
    assert_eq!(
        hosts(&lab, "running"),
        running.replace(&format!("{of_user}\n"), "")
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_follow_a_policys_restart_and_a_crash() {
    let lab = lab();
    wait_in(&lab, "db", &["--restart", "always"], "app");
    wait_in(&lab, "rcv", &["--link", "db"], "busybox");
    // The monitor and all with it, as when the machine kills for memory.
    let monitor =
        lab.sh("cut -d' ' -f1 /run/rbox/containers/$(rbox inspect -f '{{.Id}}' db)/monitor");
    lab.sh(&format!("kill -9 {monitor}"));
    eventually("the crash is seen", || {
        lab.rbox(["inspect", "-f", "{{.State.Running}}", "db"])
            .run()
            .text()
            == "false"
    });
    wait_in(&lab, "taker", &[], "busybox");
    rbox(&lab, "start db");
    let moved = address(&lab, "db");
    assert_ne!(moved, "172.17.0.2");
    assert!(
        hosts(&lab, "rcv").starts_with(&format!("{moved}\tdb ")),
        "{}",
        hosts(&lab, "rcv")
    );
    rbox(&lab, "rm -f taker");
    // Its first process ends; the policy starts it again, at the lowest address that is free.
    lab.sh("kill -9 $(rbox inspect -f '{{.State.Pid}}' db)");
    eventually("it runs again", || {
        let now = field(
            &lab,
            "db",
            "{{.RestartCount}} {{.State.Running}} {{.NetworkSettings.IPAddress}}",
        );
        now == "1 true 172.17.0.2"
    });
    eventually("the receiver is told", || {
        hosts(&lab, "rcv").starts_with("172.17.0.2\tdb ")
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_follow_a_source_that_is_made_anew() {
    let lab = lab();
    wait_in(&lab, "src", &["-e", "FOO=old"], "app");
    wait_in(&lab, "rcv", &["--link", "src:db"], "busybox");
    rbox(&lab, "rm -f src");
    // While it is away: the line stays, further processes know what was last known.
    let text = rbox(&lab, "exec rcv env");
    assert!(text.contains("DB_ENV_FOO=old") && text.contains("DB_PORT_80_TCP_ADDR=172.17.0.2"));
    lab.rbox(["inspect", "rcv/db"]).run().code(1);
    assert_eq!(
        field(&lab, "rcv", "{{json .HostConfig.Links}}"),
        "[\"/src:/rcv/db\"]"
    );
    wait_in(&lab, "taker", &[], "busybox");
    wait_in(&lab, "src", &["-e", "FOO=new", "-h", "other"], "app");
    let now = address(&lab, "src");
    assert!(hosts(&lab, "rcv").starts_with(&format!("{now}\tdb other src\n")));
    rbox(&lab, "exec rcv ping -c1 -W2 db");
    let text = rbox(&lab, "exec rcv env");
    assert!(
        text.contains("DB_ENV_FOO=new\n") && text.contains(&now),
        "{text}"
    );
    assert_eq!(field(&lab, "rcv/db", "{{.Name}}"), "/src");
    rbox(&lab, "restart -t 0 rcv");
    // With a stopped source exec still works.
    rbox(&lab, "stop -t 0 src");
    assert!(rbox(&lab, "exec rcv env").contains(&format!("DB_PORT_80_TCP_ADDR={now}\n")));
    // A link goes with a rename, and not to who has the old name by then.
    rbox(&lab, "rename src away");
    wait_in(&lab, "src", &[], "app");
    assert_eq!(
        field(&lab, "rcv", "{{json .HostConfig.Links}}"),
        "[\"/away:/rcv/db\"]"
    );
    rbox(&lab, "start away");
    let now = address(&lab, "away");
    assert!(hosts(&lab, "rcv").starts_with(&format!("{now}\tdb other away\n")));
    let marks = lab.sh("cd /var/lib/rbox/links && ls");
    assert_eq!(marks, "away");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_never_go_in_a_circle() {
    let lab = lab();
    wait_in(&lab, "first", &[], "app");
    wait_in(&lab, "second", &["--link", "first"], "app");
    rbox(&lab, "rm -f first");
    wait_in(&lab, "first", &["--link", "second"], "app");
    let id = short_id(&lab, "first");
    assert!(
        !hosts(&lab, "second").contains(&id),
        "{}",
        hosts(&lab, "second")
    );
    rbox(&lab, "stop -t 0 first second");
    lab.rbox(["start", "second"])
        .run()
        .code(1)
        .says("Cannot link to a non running container: /first AS /second/first");
    rbox(&lab, "rm --link second/first");
    rbox(&lab, "start second");
    rbox(&lab, "start first");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_links_of_many_follow_in_any_order() {
    let lab = lab();
    let names: Vec<String> = (0..30).map(|number| format!("db{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        let links: Vec<&str> = names[..number]
            .iter()
            .flat_map(|source| ["--link", source.as_str()])
            .collect();
        wait_in(&lab, name, &links, "app");
    }
    // All at once, twice, in orders that have nothing to do with the links.
    for order in [[7, 1, 10, 4, 0, 29, 17], [3, 21, 0, 28, 2, 15, 14]] {
        let list: Vec<&str> = order.iter().map(|&number| names[number].as_str()).collect();
        lab.sh(&format!(
            "rbox stop -t 0 {all} > /dev/null
             for name in {all}; do
                 (until rbox start $name > /dev/null 2>&1; do :; done) &
             done
             wait",
            all = list.join(" ")
        ));
    }
    let places: Vec<(String, String)> = names
        .iter()
        .map(|name| (address(&lab, name), short_id(&lab, name)))
        .collect();
    for (number, name) in names.iter().enumerate() {
        let mut want: String = (0..number)
            .map(|source| {
                format!(
                    "{}\t{} {}\n",
                    places[source].0, names[source], places[source].1
                )
            })
            .collect();
        want.push_str(&format!("{}\t{}\n", places[number].0, places[number].1));
        assert_eq!(hosts(&lab, name), want, "{name}");
    }
}

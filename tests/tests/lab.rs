//! The lab itself: it is a host of its own and leaves nothing behind.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use lab::{Lab, Outside, Snapshot, eventually};

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lab_is_a_host_of_its_own() {
    let lab = Lab::new();
    assert_eq!(lab.sh("hostname"), "lab");
    assert_eq!(lab.sh("ls /sys/class/net"), "lo");
    assert_eq!(lab.sh("ls -A /var/lib"), "");
    assert!(lab.sh("ps -eo pid=").lines().count() < 8);
    assert!(lab.read("/proc/1/mountinfo").is_some());
    let refused = lab
        .command("touch")
        .arg("/etc/rbox-lab-was-here")
        .run()
        .code(1);
    assert!(refused.errors().contains("Read-only file system"));
    let cgroups = lab.sh("cut -d: -f3 /proc/self/cgroup | sort -u");
    assert!(cgroups == "/" || cgroups == "/host", "{cgroups}");
    assert_eq!(lab.command("false").run().status.code(), Some(1));
    assert_eq!(
        lab.command("cat").input("hello").run().success().text(),
        "hello"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lab_takes_everything_along() {
    let lab = Lab::new();
    let directory = lab.directory().to_owned();
    let mut sleeper = lab
        .command("sh")
        .args(["-c", "echo up; sleep 1000"])
        .spawn();
    sleeper.expect("up");
    lab.sh("setsid sleep 1001 > /dev/null 2>&1 &");
    lab.sh(
        "for d in $(find /sys/fs/cgroup -maxdepth 1 -name memory); do mkdir -p $d/deep/er; done",
    );
    let cgroups = lab.cgroup().directories();
    assert!(!cgroups.is_empty());
    drop(lab);
    eventually("the lab's processes end", || sleeper.ended().is_some());
    for cgroup in cgroups {
        assert!(!cgroup.exists(), "{cgroup:?} is left");
    }
    assert!(!directory.exists());
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lab_reaches_the_outside_and_back() {
    let lab = Lab::new();
    let one = Outside::new(&lab);
    let two = Outside::new(&lab);
    let listener = lab.enter(|| TcpListener::bind("[::]:7000").unwrap());
    for outside in [&one, &two] {
        outside.enter(|| TcpStream::connect((outside.lab, 7000)).unwrap());
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip().to_canonical(), outside.address);
        outside.enter(|| TcpStream::connect((outside.lab6, 7000)).unwrap());
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), outside.address6);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lab_sees_what_is_left() {
    let lab = Lab::new();
    let before = Snapshot::take(&lab);
    assert_eq!(Snapshot::take(&lab).difference(&before), "");
    lab.sh(
        "ip link add left type bridge; mount -t tmpfs left /mnt; nft add table ip left;
            mkdir -p /run/rbox/ports; touch /run/rbox/ports/x; setsid sleep 77 > /dev/null 2>&1 &",
    );
    let left = Snapshot::take(&lab).added_since(&before);
    for word in [
        "links: left",
        "mounts: ",
        "nftables: table ip left",
        "state: /run/rbox/ports/x",
        "processes: sleep 77",
    ] {
        assert!(left.contains(word), "{word} not in\n{left}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_lab_has_terminals() {
    let lab = Lab::new();
    let mut terminal = lab
        .command("sh")
        .args(["-c", "stty size; tty; read x; echo got $x"])
        .terminal(33, 99);
    terminal.expect("33 99");
    terminal.expect("/dev/pts/");
    terminal.send("word\n");
    terminal.expect("got word");
    let (status, _) = terminal.finish();
    assert!(status.success());
    let late = lab
        .command("sleep")
        .arg("5")
        .limit(Duration::from_millis(100));
    assert!(
        std::panic::catch_unwind(|| late.run()).is_err(),
        "a limit was not kept"
    );
}

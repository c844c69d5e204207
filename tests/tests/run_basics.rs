//! `rbox run`: what the program sees, what it returns, and that nothing is left.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, Snapshot};

/// One command in a container that is removed afterwards; what it printed.
#[track_caller]
fn shown(lab: &Lab, options: &[&str], script: &str) -> String {
    lab.rbox(["run", "--rm"])
        .args(options)
        .args(["busybox", "sh", "-c", script])
        .run()
        .success()
        .text()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_returns_the_exit_codes_of_docker() {
    let lab = Lab::with_busybox();
    let cases: &[(i32, &[&str], &str)] = &[
        (0, &["busybox", "true"], ""),
        (3, &["busybox", "sh", "-c", "exit 3"], ""),
        (
            127,
            &["busybox", "no-such-command"],
            "exec: \"no-such-command\": executable file not found in $PATH",
        ),
        (
            127,
            &["busybox", "/no/such"],
            "/no/such: no such file or directory",
        ),
        (126, &["busybox", "/etc"], "permission denied"),
        (126, &["busybox", "/etc/passwd"], "permission denied"),
        (125, &["no-such-image", "true"], "no-such-image:latest"),
        (
            125,
            &["--no-such-flag", "busybox"],
            "unknown flag: --no-such-flag",
        ),
        (
            125,
            &["-w", "relative", "busybox", "true"],
            "the working directory 'relative' is invalid, it needs to be an absolute path",
        ),
        (
            125,
            &["-u", "nobodyhere", "busybox", "true"],
            "unable to find user nobodyhere: no matching entries in passwd file",
        ),
    ];
    for (code, words, text) in cases {
        let mut line = vec!["run", "--rm"];
        if words[0] == "no-such-image" {
            line.extend(["--pull", "never"]);
        }
        line.extend(*words);
        lab.rbox(line).run().code(*code).says(text);
    }
    // Killed by a signal: 128 and its number.
    for (signal, code) in [("KILL", 137), ("TERM", 143)] {
        let mut running = lab
            .rbox([
                "run", "--rm", "--init", "--name", "killed", "busybox", "sh", "-c",
            ])
            .arg("echo up; exec sleep 1000")
            .spawn();
        running.expect("up");
        lab.rbox(["kill", "-s", signal, "killed"]).run().success();
        running.finish().code(code);
    }
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_gives_the_environment_asked_for() {
    let lab = Lab::with_busybox();
    let file = lab.file(
        "env",
        "# a comment\n\nFROM_FILE=a \"b\" c\nINHERITED\nNOT_SET\n",
    );
    let output = lab
        .rbox([
            "run",
            "--rm",
            "-e",
            "ONE=1",
            "-e",
            "SPACE=a b=c",
            "-e",
            "INHERITED",
            "-e",
            "EMPTY=",
        ])
        .args(["--env-file", &file, "busybox", "env"])
        .env("INHERITED", "from outside")
        .run()
        .success();
    let lines = output.lines();
    for wanted in [
        "ONE=1",
        "SPACE=a b=c",
        "EMPTY=",
        "INHERITED=from outside",
        "FROM_FILE=a \"b\" c",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME=/root",
    ] {
        assert!(
            lines.iter().any(|line| line == wanted),
            "{wanted} not in {lines:?}"
        );
    }
    assert!(!lines.iter().any(|line| line.starts_with("NOT_SET")));
    assert!(!lines.iter().any(|line| line.starts_with("TERM=")));
    let hostname = lines
        .iter()
        .find_map(|line| line.strip_prefix("HOSTNAME="))
        .unwrap();
    assert_eq!(hostname.len(), 12);
    lab.rbox(["run", "--rm", "-e", "=x", "busybox", "true"])
        .run()
        .code(125)
        .says("invalid environment variable: =x");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_starts_where_and_as_whom_it_is_told() {
    let lab = Lab::with_busybox();
    let cases: &[(&[&str], &str, &str)] = &[
        (&["-w", "/tmp"], "pwd", "/tmp"),
        (
            &["-w", "/made/on/the/way"],
            "pwd; stat -c %a:%u /made/on",
            "/made/on/the/way\n755:0",
        ),
        (&[], "pwd; id -u", "/\n0"),
        (
            &["-u", "user"],
            "id -u; id -g; id -G; echo $HOME",
            "1000\n1000\n1000 2000\n/home/user",
        ),
        (&["-u", "1000:2000"], "id -u; id -g", "1000\n2000"),
        (&["-u", "6789"], "id -u; id -g; echo $HOME", "6789\n0\n/"),
        (
            &["-u", "user", "--group-add", "tty"],
            "id -G | grep -c -w 5",
            "1",
        ),
        (&["-h", "name"], "hostname; cat /etc/hostname", "name\nname"),
        (&["--hostname", "a.b.c"], "hostname", "a.b.c"),
        (
            &["--network", "none", "-h", "name"],
            "cat /etc/hostname",
            "name",
        ),
    ];
    for (options, script, wanted) in cases {
        assert_eq!(
            shown(&lab, options, script),
            *wanted,
            "{options:?} {script}"
        );
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_puts_entrypoint_and_command_together() {
    let lab = Lab::new();
    lab::fixture::import(
        &lab,
        &lab::fixture::busybox_tar(),
        "both",
        &[
            "ENTRYPOINT [\"echo\", \"entry\"]",
            "CMD [\"command\"]",
            "ENV K=image",
            "WORKDIR /tmp",
            "USER user",
        ],
    );
    let cases: &[(&[&str], &str)] = &[
        (&["both"], "entry command"),
        (&["both", "other", "words"], "entry other words"),
        (&["--entrypoint", "id", "both", "-un"], "user"),
        (&["--entrypoint", "pwd", "both"], "/tmp"),
        (
            &["--entrypoint", "", "both", "sh", "-c", "echo $K"],
            "image",
        ),
        (
            &[
                "--entrypoint",
                "sh",
                "-e",
                "K=mine",
                "both",
                "-c",
                "echo $K",
            ],
            "mine",
        ),
    ];
    for (words, wanted) in cases {
        let output = lab.rbox(["run", "--rm"]).args(*words).run().success();
        assert_eq!(output.text(), *wanted, "{words:?}");
    }
    lab.rbox(["run", "--rm", "--entrypoint", "", "both"])
        .run()
        .code(125)
        .says("No command specified");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_mounts_what_docker_mounts() {
    let lab = Lab::with_busybox();
    let mounts = shown(&lab, &[], "cat /proc/self/mounts");
    let line = |point: &str| -> String {
        mounts
            .lines()
            .find(|line| line.split(' ').nth(1) == Some(point))
            .unwrap_or_else(|| panic!("{point} is not mounted:\n{mounts}"))
            .to_owned()
    };
    assert!(line("/").contains("overlay"));
    for (point, options) in [
        ("/proc", "rw,nosuid,nodev,noexec"),
        ("/dev", "rw,nosuid"),
        ("/dev/pts", "gid=5,mode=620,ptmxmode=666"),
        ("/sys", "ro,nosuid,nodev,noexec"),
        ("/dev/mqueue", "rw,nosuid,nodev,noexec"),
        ("/dev/shm", "size=65536k"),
        ("/proc/sys", "ro,"),
        ("/proc/bus", "ro,"),
        ("/etc/hosts", "rw"),
        ("/etc/hostname", "rw"),
        ("/etc/resolv.conf", "rw"),
    ] {
        assert!(
            line(point).contains(options),
            "{point}: {} lacks {options}",
            line(point)
        );
    }
    let script = "for f in null zero full random urandom tty; do test -c /dev/$f || echo no $f; done
        for f in fd stdin ptmx; do readlink /dev/$f; done; test -f /.dockerenv && echo marked
        cat /proc/kcore | wc -c; ls /sys/firmware | wc -l; echo x 2>/dev/null > /proc/sys/kernel/hostname || echo refused";
    assert_eq!(
        shown(&lab, &[], script),
        "/proc/self/fd\n/proc/self/fd/0\npts/ptmx\nmarked\n0\n0\nrefused"
    );
    // The root file system is private: what is written is gone with the container.
    shown(&lab, &[], "echo gone > /tmp/file; rm /etc/group");
    assert_eq!(
        shown(&lab, &[], "ls /tmp /etc/group"),
        "/etc/group\n\n/tmp:"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_binds_directories() {
    let lab = Lab::with_busybox();
    let file = lab.file("shared/file", "from outside\n");
    let shared = lab.directory().join("shared").display().to_string();
    let script = "cat /data/file; echo inside > /data/new";
    assert_eq!(
        shown(&lab, &["-v", &format!("{shared}:/data")], script),
        "from outside"
    );
    assert_eq!(lab.read(&format!("{shared}/new")).unwrap(), "inside\n");
    let refused = shown(
        &lab,
        &["-v", &format!("{shared}:/data:ro")],
        "echo x 2>&1 > /data/file || true",
    );
    assert!(refused.contains("Read-only file system"), "{refused}");
    assert_eq!(
        shown(
            &lab,
            &["-v", &format!("{file}:/etc/motd:ro")],
            "cat /etc/motd"
        ),
        "from outside"
    );
    let absent = lab.directory().join("made/by/run").display().to_string();
    shown(&lab, &["-v", &format!("{absent}:/data")], "true");
    assert!(std::path::Path::new(&absent).is_dir());
    for (value, text) in [
        ("/a:b", "mount path must be absolute"),
        ("a:b:c:d", "invalid volume specification: 'a:b:c:d'"),
        ("/a:/b:foo", "invalid mode: foo"),
        (":/data", "empty section between colons"),
        ("/a:/", "destination can't be '/'"),
    ] {
        lab.rbox(["run", "--rm", "-v", value, "busybox", "true"])
            .run()
            .code(125)
            .says(text);
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_leaves_nothing() {
    let lab = Lab::with_busybox();
    // The first run makes what all share: bridge, base rules.
    for network in ["bridge", "none", "host"] {
        shown(&lab, &["--network", network], "true");
    }
    let before = Snapshot::take(&lab);
    let host = lab.sh("cat /proc/1/mountinfo");
    shown(
        &lab,
        &["-p", "8080:80", "-e", "A=b", "--name", "gone"],
        "true",
    );
    shown(&lab, &["--network", "none"], "true");
    shown(&lab, &["--network", "host"], "true");
    lab.rbox(["run", "--rm", "busybox", "no-such-command"])
        .run()
        .code(127);
    lab.rbox([
        "run", "--rm", "-p", "8080:80", "busybox", "sh", "-c", "exit 9",
    ])
    .run()
    .code(9);
    before.nothing_left_in(&lab, "runs with --rm");
    assert_eq!(lab.sh("cat /proc/1/mountinfo"), host);
    // Without --rm the container stays, and only it.
    let id = lab
        .rbox(["run", "--cidfile"])
        .arg(lab.directory().join("cid").display().to_string())
        .args(["--name", "stays", "busybox", "true"])
        .run()
        .success();
    assert_eq!(id.text(), "");
    let id = lab
        .read(&lab.directory().join("cid").display().to_string())
        .unwrap();
    assert_eq!(id.len(), 64);
    assert_eq!(
        lab.rbox(["ps", "-aq", "--no-trunc"]).run().success().text(),
        id
    );
    lab.rbox(["rm", "stays"]).run().success();
    before.nothing_left_in(&lab, "rm");
    let before = lab.sh("mount | wc -l");
    lab.rbox(["run", "-d", "--name", "runs", "busybox", "sleep", "1000"])
        .run()
        .success();
    assert_eq!(
        lab.sh("mount | wc -l"),
        before,
        "the host's mount table shows a container"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_detached_prints_the_id_and_lives_on() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox(["run", "-d", "busybox", "sleep", "1000"])
        .run()
        .success()
        .text();
    assert!(
        id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    assert_eq!(lab.rbox(["ps", "-q"]).run().success().text(), id[..12]);
    assert_eq!(
        lab.rbox(["inspect", "-f", "{{.State.Status}}", &id[..5]])
            .run()
            .success()
            .text(),
        "running"
    );
    lab.rbox(["rm", "-f", &id[..12]]).run().success();
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_run_joins_other_namespaces() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "-d", "--name", "first", "busybox", "sleep", "777"])
        .run()
        .success();
    let own = |kind: &str| lab.sh(&format!("readlink /proc/1/ns/{kind}"));
    let here = |options: &[&str], kind: &str| {
        shown(&lab, options, &format!("readlink /proc/self/ns/{kind}"))
    };
    for kind in ["pid", "ipc", "uts", "net", "mnt"] {
        assert_ne!(here(&[], kind), own(kind), "{kind} is the host's");
    }
    for (option, kind) in [
        ("--pid", "pid"),
        ("--ipc", "ipc"),
        ("--uts", "uts"),
        ("--network", "net"),
    ] {
        assert_eq!(here(&[option, "host"], kind), own(kind), "{option} host");
    }
    let first = lab
        .rbox(["exec", "first", "readlink", "/proc/self/ns/net"])
        .run()
        .success()
        .text();
    assert_eq!(here(&["--network", "container:first"], "net"), first);
    assert!(shown(&lab, &["--pid", "container:first"], "ps").contains("sleep 777"));
    lab.rbox([
        "run",
        "-d",
        "--name",
        "donor",
        "--ipc",
        "shareable",
        "busybox",
        "sleep",
        "777",
    ])
    .run()
    .success();
    let donor = lab
        .rbox(["exec", "donor", "readlink", "/proc/self/ns/ipc"])
        .run()
        .success()
        .text();
    assert_eq!(here(&["--ipc", "container:donor"], "ipc"), donor);
    lab.rbox(["run", "--rm", "--ipc", "container:first", "busybox", "true"])
        .run()
        .code(125)
        .says("non-shareable IPC");
    for (options, text) in [
        (["--pid", "foo"], "--pid: invalid PID mode"),
        (["--uts", "foo"], "--uts: invalid UTS mode"),
        (["--ipc", "foo"], "Invalid IPC mode: foo"),
    ] {
        lab.rbox(["run", "--rm"])
            .args(options)
            .args(["busybox", "true"])
            .run()
            .code(125)
            .says(text);
    }
}

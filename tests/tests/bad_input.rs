//! Bad input and faults of the machine: a clear answer, Docker's exit code, nothing left behind.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Cmd, Lab, Output, Snapshot, fixture};

/// Runs a command that must fail: one line says why, nothing is thrown at the user.
#[track_caller]
fn fails(command: &Cmd, code: i32, text: &str) -> Output {
    let output = command.run().code(code).says(text);
    let errors = output.errors();
    let first = errors.lines().next().unwrap();
    assert!(first.len() < 400, "{first}");
    for word in ["panicked", "RUST_BACKTRACE", "Os {", "SysError", "Error("] {
        assert!(!errors.contains(word), "{errors}");
    }
    assert_eq!(output.text(), "", "an error is written to the output");
    output
}

/// What is typed, the exit code, and what is said.
const LINES: &[(&[&str], i32, &str)] = &[
    (&["frobnicate"], 1, "unknown command: "),
    (&["run"], 1, "requires at least 1 argument"),
    (&["rename", "one"], 1, "requires 2 arguments"),
    (&["run", "--nope", "busybox"], 125, "unknown flag: --nope"),
    (
        &["run", "-m", "1x", "busybox"],
        125,
        "invalid argument \"1x\" for \"-m, --memory\" flag",
    ),
    (&["run", "-p", "x:y:z:1", "busybox"], 125, "invalid"),
    (&["run", "-v", "", "busybox"], 125, "invalid"),
    (
        &["run", "-v", "rel/path:/x", "busybox"],
        125,
        "includes invalid characters for a local volume name",
    ),
    (
        &["run", "-e", "=x", "busybox"],
        125,
        "invalid environment variable: =x",
    ),
    (
        &["run", "--env-file", "/no/such", "busybox"],
        125,
        "/no/such: no such file or directory",
    ),
    (
        &["run", "--name", "x", "busybox"],
        125,
        "Invalid container name (x), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed",
    ),
    (
        &["run", "--network", "nope", "busybox"],
        125,
        "network nope not found",
    ),
    (
        &["run", "--pull", "never", "nope"],
        125,
        "No such image: nope:latest",
    ),
    (
        &["run", "--pull", "never", "No/Such"],
        125,
        "invalid reference format",
    ),
    (&["run", "--stop-signal", "FOO", "busybox"], 125, "FOO"),
    (
        &["run", "-d", "--rm", "--restart", "always", "busybox"],
        125,
        "conflicting options: cannot specify both --restart and --rm",
    ),
    (
        &["run", "--cpu-shares", "1", "busybox", "true"],
        125,
        "the minimum allowed cpu-shares is 2",
    ),
    (
        &["run", "--cpus", "0.001", "busybox", "true"],
        125,
        "Range of CPUs is from 0.01 to ",
    ),
    (
        &["run", "--network", "none", "-u", "nosuch", "busybox"],
        125,
        "daemon: unable to find user nosuch: no matching entries in passwd file",
    ),
    (
        &["run", "--network=none", "--device=/dev/nosuch", "busybox"],
        127,
        "custom device \"/dev/nosuch\": no such file or directory",
    ),
    (
        &["run", "--runtime", "foo", "busybox", "true"],
        125,
        "daemon: Unknown runtime specified foo",
    ),
    (&["load", "-i", "/etc/passwd"], 1, "'rbox import FILE NAME'"),
    (&["exec", "nope", "true"], 1, "No such container: nope"),
    (&["logs", "nope"], 1, "No such container: nope"),
    (&["stop", "nope"], 1, "No such container: nope"),
    (&["kill", "nope"], 1, "No such container: nope"),
    (&["attach", "nope"], 1, "No such container: nope"),
    (&["pause", "nope"], 1, "No such container: nope"),
    (&["wait", "nope"], 1, "No such container: nope"),
    (&["port", "nope"], 1, "No such container: nope"),
    (&["top", "nope"], 1, "No such container: nope"),
    (&["rmi", "nope"], 1, "No such image: nope:latest"),
    (&["history", "nope"], 1, "No such image: nope:latest"),
    (
        &["load", "-i", "/no/such"],
        1,
        "/no/such: no such file or directory",
    ),
    (
        &["ps", "-f", "nonsense"],
        125,
        "bad format of filter (expected name=value)",
    ),
    (&["ps", "-f", "foo=bar"], 1, "Invalid filter 'foo'"),
];

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_command_lines() {
    let lab = Lab::with_busybox();
    // What the first container of a host leaves for the next is no remains.
    lab.sh("rbox run --rm --network none busybox true");
    let before = Snapshot::take(&lab);
    for (words, code, text) in LINES {
        fails(&lab.rbox(*words), *code, text);
        // What was created and could not start stays, as in Docker.
        lab.sh("for id in $(rbox ps -aq); do rbox rm $id > /dev/null; done");
    }
    before.nothing_left_in(&lab, "bad command lines");
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_programs() {
    let lab = Lab::with_busybox();
    for network in ["bridge", "none"] {
        lab.rbox(["run", "--rm", "--network", network, "busybox", "true"])
            .run()
            .success();
    }
    let before = Snapshot::take(&lab);
    let script = lab.file("script", "#!/no/such/interpreter\n");
    lab.sh(&format!("chmod +x {script}"));
    let volume = format!("{script}:/script");
    let cases: &[(&[&str], i32)] = &[
        (&["busybox", "nope"], 127),
        (&["busybox", "/etc"], 126),
        (&["-v", &volume, "busybox", "/script"], 127),
        (&["-u", "user", "busybox", "/root/x"], 127),
        (&["-w", "/etc/passwd", "busybox", "true"], 125),
    ];
    for options in [&["--network", "none"][..], &["-p", "8080:80"]] {
        for (words, code) in cases {
            let output = lab.rbox(["run", "--rm"]).args(options).args(*words).run();
            let allowed = [*code, 126, 127];
            let got = output.status.code().unwrap();
            assert!(
                got == *code || (*code == 125 && allowed.contains(&got)),
                "{words:?}: {got} {}",
                output.errors()
            );
            assert!(
                output.errors().starts_with("docker: ") || output.errors().starts_with("rbox: "),
                "{}",
                output.errors()
            );
            before.nothing_left_in(&lab, &words.join(" "));
        }
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_without_privilege() {
    let lab = Lab::with_busybox();
    let words = ["run", "--rm", "busybox", "true"];
    // Another user, in a lab: the engine says what is lacking before it tries anything.
    let output = lab
        .command("setpriv")
        .args([
            "--reuid",
            "65534",
            "--regid",
            "65534",
            "--clear-groups",
            "rbox",
        ])
        .args(words)
        .run();
    assert_eq!(output.status.code(), Some(125), "{}", output.errors());
    let errors = output.errors();
    assert!(errors.contains("root"), "no word of root: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    // Root in name only.
    let output = lab
        .command("setpriv")
        .args(["--bounding-set", "-sys_admin", "--inh-caps", "-all", "rbox"])
        .args(words)
        .run();
    assert_eq!(output.status.code(), Some(125), "{}", output.errors());
    assert!(output.errors().lines().next().unwrap().len() < 400);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_machines() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "--rm", "-p", "1:1", "busybox", "true"])
        .run()
        .success();
    let before = Snapshot::take(&lab);
    // No room for what changes all the time.
    lab.sh("mount -t tmpfs -o size=4k,nr_inodes=3 full /run/rbox");
    fails(
        &lab.rbox(["run", "--rm", "busybox", "true"]),
        125,
        "No space left on device",
    );
    lab.sh("umount /run/rbox");
    before.nothing_left_in(&lab, "a full state directory");
    // Read-only where it must write.
    lab.sh("mount -o remount,ro /var/lib");
    fails(
        &lab.rbox(["run", "--rm", "busybox", "true"]),
        125,
        "Read-only file system",
    );
    lab.rbox(["ps", "-a"]).run().success();
    lab.sh("mount -o remount,rw /var/lib");
    // No iptables to be found, when it was asked for.
    let hidden = "mount -t tmpfs none /usr/sbin && exec env PATH=/nowhere \"$@\"";
    let command = lab
        .command("unshare")
        .args(["-m", "sh", "-c", hidden, "sh"])
        .arg(lab::lab::rbox_binary().display().to_string())
        .args([
            "--firewall",
            "iptables",
            "run",
            "--rm",
            "-p",
            "8080:80",
            "busybox",
            "true",
        ]);
    fails(&command, 125, "iptables");
    before.nothing_left_in(&lab, "a machine without iptables");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_bad_files_of_our_own() {
    let lab = Lab::with_busybox();
    let id = lab
        .rbox(["create", "--name", "damaged", "busybox", "true"])
        .run()
        .success()
        .text();
    lab.rbox(["create", "--name", "sound", "busybox", "echo", "works"])
        .run()
        .success();
    lab.sh(&format!(
        "echo '{{' > /var/lib/rbox/containers/{id}/config.json"
    ));
    // The others are listed and work; the damaged one is named and can be removed.
    let output = lab.rbox(["ps", "-a", "--format", "{{.Names}}"]).run();
    assert!(
        output.lines().iter().any(|line| line == "sound"),
        "{} {}",
        output.text(),
        output.errors()
    );
    assert_eq!(
        lab.rbox(["start", "-a", "sound"]).run().success().text(),
        "works"
    );
    let output = lab.rbox(["start", &id]).run().code(1);
    assert!(
        output.errors().contains("config.json") || output.errors().contains("No such container"),
        "{}",
        output.errors()
    );
    lab.rbox(["rm", "-f", &id]).run().success();
    lab.sh(&format!("! test -e /var/lib/rbox/containers/{id}"));
    // An empty state record is one that was never written.
    let id = lab
        .rbox(["create", "--name", "half", "busybox", "true"])
        .run()
        .success()
        .text();
    lab.sh(&format!(": > /var/lib/rbox/containers/{id}/state.json"));
    lab.rbox(["rm", "-f", "half"]).run().success();
    // A layer that has lost a file is the user's loss, not a crash.
    fixture::busybox(&lab);
    lab.sh("find /var/lib/rbox/layers -name busybox -type f -delete");
    let output = lab.rbox(["run", "--rm", "busybox", "true"]).run();
    assert!(
        [126, 127].contains(&output.status.code().unwrap()),
        "{}",
        output.errors()
    );
}

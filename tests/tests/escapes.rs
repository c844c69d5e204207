//! Ways out of a container that other engines have had: each stays closed here.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::archive::{Tar, docker};
use lab::{Lab, Output, Snapshot, eventually, fixture};

/// Runs a script in a container that is removed; its options are given.
fn inside(lab: &Lab, options: &[&str], script: &str) -> Output {
    lab.rbox(["run", "--rm"])
        .args(options)
        .args(["busybox", "sh", "-c", script])
        .run()
}

/// Loads an image of busybox and one more layer, as `evil`.
fn evil(lab: &Lab, layer: Tar, command: &[&str]) {
    let base = std::fs::read(fixture::busybox_tar()).unwrap();
    let archive = docker(&[base, layer.bytes()], "evil:latest", command).tar();
    lab.rbox(["load"]).input(archive).run().success();
}

/// The lab with a program of its own that an escape may spoil.
fn lab_with_own_program() -> Lab {
    let lab = Lab::new();
    let own = lab.directory().join("bin/rbox");
    let program = std::fs::canonicalize(&own).unwrap();
    std::fs::remove_file(&own).unwrap();
    std::fs::copy(program, &own).unwrap();
    fixture::busybox(&lab);
    lab
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_over_our_own_program() {
    // CVE-2019-5736: the program that enters the container is overwritten through /proc/PID/exe.
    let lab = lab_with_own_program();
    let sum = || lab.sh("sha256sum bin/rbox");
    let before = sum();
    evil(
        &lab,
        Tar::new().program("evil", "#!/proc/self/exe\n"),
        &["/evil"],
    );
    lab.rbox(["run", "--rm", "evil"]).run();
    let attack = "while :; do for p in /proc/[0-9]*; do n=${p#/proc/}
        [ $n = 1 ] || [ $n = $$ ] || (exec 9>> $p/exe && echo opened $(readlink $p/exe) >> /found) 2> /dev/null; done; done";
    lab.rbox([
        "run",
        "-d",
        "--name",
        "attacker",
        "--cap-add",
        "SYS_PTRACE",
        "busybox",
        "sh",
        "-c",
        attack,
    ])
    .run()
    .success();
    for _ in 0..60 {
        lab.rbox(["exec", "attacker", "true"]).run().success();
    }
    let found = lab
        .rbox([
            "exec",
            "attacker",
            "sh",
            "-c",
            "cat /found 2> /dev/null | grep -v busybox",
        ])
        .run();
    assert_eq!(found.text(), "", "the attacker opened our program");
    lab.rbox(["rm", "-f", "attacker"]).run().success();
    assert_eq!(sum(), before);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_through_the_process_that_joins() {
    // CVE-2016-9962: descriptors and directories of the joining process are open to the container.
    let lab = Lab::with_busybox();
    let attack = "while :; do for p in /proc/[0-9]*; do n=${p#/proc/}
        [ $n = 1 ] || [ $n = $$ ] || { readlink $p/exe $p/cwd $p/root $p/fd/*; } >> /found 2> /dev/null; done; done";
    lab.rbox([
        "run",
        "-d",
        "--name",
        "attacker",
        "--cap-add",
        "SYS_PTRACE",
        "busybox",
        "sh",
        "-c",
        attack,
    ])
    .run()
    .success();
    for _ in 0..60 {
        lab.rbox(["exec", "attacker", "true"]).run().success();
    }
    let found = lab
        .rbox(["exec", "attacker", "sh", "-c", "sort -u /found"])
        .run()
        .success()
        .text();
    for line in found.lines() {
        let harmless = ["/", "/bin/busybox", "/proc", "/dev/null", "/found"].contains(&line)
            || ["pipe:[", "socket:[", "/proc/", "/dev/"]
                .iter()
                .any(|start| line.starts_with(start));
        assert!(harmless, "the attacker saw {line:?} in\n{found}");
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_through_leaked_descriptors() {
    // CVE-2024-21626: a working directory of /proc/self/fd/N is a directory of the host.
    let lab = Lab::with_busybox();
    lab.rbox(["run", "-d", "--name", "base", "busybox", "sleep", "1000"])
        .run()
        .success();
    let outside = |text: &str| {
        text.contains("(unreachable)") || text.contains("rbox") || text.contains("tmp")
    };
    for number in 3..=20 {
        let path = format!("/proc/self/fd/{number}");
        let ran = inside(
            &lab,
            &["-w", &path, "--network", "none"],
            "pwd; ls ../../../../etc/hostname; readlink /proc/self/cwd",
        );
        assert!(
            !ran.status.success() || !outside(&ran.text()),
            "run -w {path}: {}",
            ran.text()
        );
        let executed = lab
            .rbox([
                "exec",
                "-w",
                &path,
                "base",
                "sh",
                "-c",
                "pwd; readlink /proc/self/cwd",
            ])
            .run();
        assert!(
            !executed.status.success() || !outside(&executed.text()),
            "exec -w {path}: {}",
            executed.text()
        );
    }
    // Three descriptors, and the one by which ls reads the directory.
    let list = "ls /proc/self/fd | tr '\\n' ' '";
    assert_eq!(inside(&lab, &[], list).success().text(), "0 1 2 3 ");
    assert_eq!(inside(&lab, &["-i"], list).success().text(), "0 1 2 3 ");
    assert_eq!(
        inside(&lab, &["-t"], list).success().text().trim(),
        "0 1 2 3"
    );
    assert_eq!(
        lab.rbox(["exec", "base", "sh", "-c", list])
            .run()
            .success()
            .text(),
        "0 1 2 3 "
    );
    assert_eq!(
        lab.rbox(["exec", "-i", "base", "sh", "-c", list])
            .run()
            .success()
            .text(),
        "0 1 2 3 "
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_swapping_a_mount_target() {
    // CVE-2021-30465: a directory becomes a symbolic link between the check and the mount.
    let lab = Lab::with_busybox();
    lab.sh("mkdir -p shared/dir data; echo mine > data/file; mount -t tmpfs canary /srv; mkdir /srv/dir; echo > /srv/host");
    let shared = format!("{}/shared:/shared", lab.directory().display());
    let data = format!("{}/data:/shared/dir/data", lab.directory().display());
    let attack = "cd /shared; ln -s /srv link; while :; do mv dir real; mv link dir; mv dir link; mv real dir; done";
    lab.rbox([
        "run", "-d", "--name", "swaps", "-v", &shared, "busybox", "sh", "-c", attack,
    ])
    .run()
    .success();
    let before = lab.sh("cat /proc/1/mountinfo");
    for _ in 0..40 {
        let output = inside(
            &lab,
            &["--network", "none", "-v", &shared, "-v", &data],
            "grep -c ' /shared' /proc/self/mounts; ls -d /srv/host 2> /dev/null",
        );
        // A link is followed inside of the container's own root, if at all.
        assert!(
            !output.text().contains("/srv/host"),
            "the host's /srv is inside"
        );
    }
    assert_eq!(
        lab.sh("ls /srv"),
        "dir\nhost",
        "a mount target was made outside"
    );
    assert_eq!(lab.sh("cat /proc/1/mountinfo"), before);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_a_proc_that_is_none() {
    // CVE-2019-16884, CVE-2023-28642, CVE-2023-27561, CVE-2019-19921.
    let lab = Lab::with_busybox();
    lab.sh("mkdir fake; mkdir fake/sys");
    inside(&lab, &["--network", "none"], "true").success();
    let before = Snapshot::take(&lab);
    let target = |point: &str| format!("{}/fake:{point}", lab.directory().display());
    for point in ["/proc", "/proc/self", "/proc/sys", "/proc/1/attr"] {
        let output = inside(&lab, &["--network", "none", "-v", &target(point)], "true");
        assert!(!output.status.success(), "-v …:{point} was taken");
        assert!(output.errors().contains("/proc"), "{}", output.errors());
    }
    for (link, to) in [("proc", "/tmp"), ("proc", "/"), ("sys", "/tmp")] {
        evil(
            &lab,
            Tar::new().symlink(link, to),
            &[
                "sh",
                "-c",
                "ls /proc/self/status; grep -c ' /tmp ' /proc/mounts",
            ],
        );
        let output = lab.rbox(["run", "--rm", "--network", "none", "evil"]).run();
        // Refused, or a directory of its own took the link's place: never a mount somewhere else.
        if output.status.success() {
            assert_eq!(output.text(), "/proc/self/status\n0", "/{link} → {to}");
        }
        lab.rbox(["rmi", "-f", "evil"]).run().success();
    }
    before.nothing_left_in(&lab, "images without a real /proc");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_masks_and_terminals_that_point_elsewhere() {
    // CVE-2025-31133, CVE-2025-52565, CVE-2025-52881.
    let lab = Lab::with_busybox();
    lab.sh("mount -t tmpfs canary /srv; echo secret > /srv/secret");
    let layer = Tar::new()
        .directory("dev/")
        .symlink("dev/null", "/proc/sysrq-trigger")
        .symlink("dev/console", "/proc/sys/kernel/core_pattern")
        .symlink("dev/pts", "/srv")
        .symlink("etc/resolv.conf", "/srv/secret")
        .symlink("etc/hostname", "../../../../../srv/secret");
    evil(&lab, layer, &["sh"]);
    let script = "cat /proc/kcore 2> /dev/null | wc -c; test -c /dev/null && echo null; grep secret /srv/secret 2> /dev/null
        (echo x > /proc/sys/kernel/core_pattern) 2> /dev/null || echo refused; grep -c ' /dev/pts devpts' /proc/mounts";
    let output = lab
        .rbox(["run", "--rm", "-t", "evil", "sh", "-c", script])
        .run();
    if output.status.success() {
        assert_eq!(output.text().replace('\r', ""), "0\nnull\nrefused\n1");
    }
    assert_eq!(lab.sh("cat /srv/secret; ls /srv"), "secret\nsecret");
    // A hosts file that is a link is followed inside of the root or replaced, never outside.
    assert_eq!(
        inside(&lab, &[], "cat /etc/hostname | wc -c")
            .success()
            .text(),
        "13"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_cgroups_and_sysctls() {
    // CVE-2022-0492, CVE-2022-0811.
    let lab = Lab::with_busybox();
    let script = "for f in $(find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o -name notify_on_release | head -50); do
            (echo x > $f) 2> /dev/null && echo wrote $f; done
        mkdir /tmp/c; mount -t cgroup -o memory c /tmp/c 2> /dev/null && echo mounted
        unshare -C true 2> /dev/null && echo unshared; echo end";
    assert_eq!(inside(&lab, &[], script).success().text(), "end");
    let pattern = lab.sh("cat /proc/sys/kernel/core_pattern");
    for sysctl in [
        "kernel.core_pattern=|/evil",
        "kernel.shm_rmid_forced=1+kernel.core_pattern=|/evil",
        "kernel/core_pattern=|/evil",
        "net/../kernel/core_pattern=|/evil",
        "net.ipv4.ip_forward=1\nkernel.core_pattern=|/evil",
    ] {
        let output = inside(&lab, &["--sysctl", sysctl], "true");
        assert_eq!(
            lab.sh("cat /proc/sys/kernel/core_pattern"),
            pattern,
            "{sysctl}"
        );
        if sysctl.starts_with("kernel.core") || sysctl.split('=').next().unwrap().contains('/') {
            assert_eq!(
                output.status.code(),
                Some(125),
                "{sysctl}: {}",
                output.errors()
            );
        }
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_inheritable_capabilities() {
    // CVE-2022-29162, CVE-2022-24769.
    let lab = Lab::with_busybox();
    lab.rbox(["run", "-d", "--name", "base", "busybox", "sleep", "1000"])
        .run()
        .success();
    let script = "grep -E 'Cap(Inh|Amb)' /proc/self/status | grep -vc 0000000000000000";
    for options in [
        &[][..],
        &["--privileged"],
        &["--cap-add", "ALL"],
        &["-u", "user"],
    ] {
        assert_eq!(inside(&lab, options, script).text(), "0", "{options:?}");
    }
    assert_eq!(
        lab.rbox(["exec", "base", "sh", "-c", script]).run().text(),
        "0"
    );
    assert_eq!(
        lab.rbox(["exec", "--privileged", "base", "sh", "-c", script])
            .run()
            .text(),
        "0"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_sockets_of_ours() {
    // CVE-2020-15257: an abstract socket is open to every container in the host's network.
    let lab = Lab::with_busybox();
    lab.rbox([
        "run",
        "-d",
        "--name",
        "base",
        "--network",
        "host",
        "busybox",
        "sleep",
        "1000",
    ])
    .run()
    .success();
    let seen = lab
        .rbox(["exec", "base", "cat", "/proc/net/unix"])
        .run()
        .success()
        .text();
    assert!(!seen.contains('@'), "{seen}");
    let open = lab.sh("find /run/rbox /var/lib/rbox -type s -perm /077; find /run/rbox /var/lib/rbox -maxdepth 1 -perm /002");
    assert_eq!(open, "", "sockets or directories that others may use");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_planted_links() {
    let lab = Lab::with_busybox();
    lab.sh("mount -t tmpfs canary /srv; echo precious > /srv/file; ln -s /srv/file cid; ln -s /srv/new dangling");
    for name in ["cid", "dangling"] {
        let output = inside(&lab, &["--cidfile", name], "true");
        assert_eq!(
            output.status.code(),
            Some(125),
            "{name}: {}",
            output.errors()
        );
    }
    assert_eq!(lab.sh("ls /srv; cat /srv/file"), "file\nprecious");
    // A working directory or a mount point behind a link is made inside of the root.
    evil(
        &lab,
        Tar::new()
            .symlink("link", "/srv")
            .symlink("up", "../../../../../srv"),
        &["sh"],
    );
    for path in ["/link/made", "/up/made"] {
        lab.rbox([
            "run",
            "--rm",
            "--network",
            "none",
            "-w",
            path,
            "evil",
            "true",
        ])
        .run();
        let volume = format!("{}:{path}", lab.directory().display());
        lab.rbox([
            "run",
            "--rm",
            "--network",
            "none",
            "-v",
            &volume,
            "evil",
            "true",
        ])
        .run();
        lab.rbox([
            "run",
            "--rm",
            "--network",
            "none",
            "--tmpfs",
            path,
            "evil",
            "true",
        ])
        .run();
    }
    assert_eq!(
        lab.sh("ls /srv"),
        "file",
        "something was made outside of the root"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_by_the_terminal() {
    let lab = Lab::with_busybox();
    // The container's session and terminal are its own: nothing can be typed into ours.
    let mut terminal = lab
        .rbox(["run", "-it", "--rm", "--name", "term", "busybox", "sh"])
        .terminal(24, 80);
    terminal.expect("# ");
    let ours =
        lab.sh("for p in $(pgrep -x rbox); do cut -d' ' -f6,7 /proc/$p/stat; done | sort -u");
    let pid = lab
        .rbox(["inspect", "-f", "{{.State.Pid}}", "term"])
        .run()
        .success()
        .text();
    let theirs = lab.sh(&format!("cut -d' ' -f6,7 /proc/{pid}/stat"));
    assert!(
        !ours.lines().any(|line| line == theirs),
        "{theirs} is in {ours}"
    );
    terminal.send("exit\n");
    terminal.finish();
    // A name can hold nothing that a terminal would obey.
    for name in ["\x1b]0;evil\x07", "evil\nname", "a\u{9b}1m"] {
        let output = lab.rbox(["create", "--name", name, "busybox"]).run();
        assert_eq!(output.status.code(), Some(1), "{}", output.errors());
    }
}

/// A key that only who has the caller's session keyring can see.
const WITH_A_KEY: &str = r#"perl -e '
    my ($add, $control) = `uname -m` =~ /x86_64/ ? (248, 250) : (217, 219);
    syscall($control, 1, 0) > 0 or die "no keyring: $!";
    my ($type, $name, $content) = ("user", "host-secret", "x");
    my $key = syscall($add, $type, $name, $content, 1, -3);
    syscall($control, 5, $key, 0x3f000000) == 0 or die "no key: $!";
    exec @ARGV' "$@""#;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_escape_with_the_callers_keys() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run -d --name box --privileged busybox sleep 1000");
    let seen = |words: &[&str]| {
        let command = lab.command("sh").args(["-c", WITH_A_KEY, "sh"]).args(words);
        command.run().text()
    };
    let look = ["grep", "-c", "host-secret", "/proc/keys"];
    assert_eq!(seen(&look), "1", "the key is not there to be seen");
    let run = ["rbox", "run", "--rm", "--privileged", "busybox"];
    let exec = ["rbox", "exec", "--privileged", "box"];
    assert_eq!(seen(&[&run[..], &look].concat()), "0");
    assert_eq!(seen(&[&exec[..], &look].concat()), "0");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_containers_end_with_their_monitor() {
    let lab = Lab::with_busybox();
    lab.rbox(["run", "--rm", "-p", "1:1", "busybox", "true"])
        .run()
        .success();
    let before = Snapshot::take(&lab);
    let id = lab
        .rbox([
            "run", "-d", "-p", "8080:80", "--name", "orphan", "busybox", "sleep", "4321",
        ])
        .run()
        .success()
        .text();
    lab.sh(&format!(
        "kill -9 $(cut -d' ' -f1 /run/rbox/containers/{id}/monitor)"
    ));
    eventually("the container has ended", || {
        !lab.sh("ps -eo args").contains("sleep 4321")
    });
    let status = lab
        .rbox([
            "inspect",
            "-f",
            "{{.State.Status}} {{.State.ExitCode}}",
            "orphan",
        ])
        .run()
        .success();
    assert_eq!(status.text(), "exited 137");
    lab.rbox(["run", "--rm", "-p", "8080:80", "busybox", "true"])
        .run()
        .success();
    lab.rbox(["start", "orphan"]).run().success();
    lab.rbox(["rm", "-f", "orphan"]).run().success();
    before.nothing_left_in(&lab, "the death of a monitor");
}

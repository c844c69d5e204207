//! Limits and walls: what a container may use, and what it may do.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::Lab;

#[track_caller]
fn shown(lab: &Lab, options: &[&str], script: &str) -> String {
    lab.rbox(["run", "--rm"])
        .args(options)
        .args(["busybox", "sh", "-c", script])
        .run()
        .success()
        .text()
}

/// A file of the container's own cgroup, by its version 1 name or its version 2 name.
#[track_caller]
fn limit(lab: &Lab, options: &[&str], controller: &str, one: &str, two: &str) -> String {
    let id = lab
        .rbox(["run", "-d"])
        .args(options)
        .args(["busybox", "sleep", "1000"])
        .run()
        .success()
        .text();
    let pid = lab
        .rbox(["inspect", "-f", "{{.State.Pid}}", &id])
        .run()
        .success()
        .text();
    let script = format!(
        "p=$(sed -n 's/^[0-9]*:\\([^:]*,\\)*{controller}\\(,[^:]*\\)*://p' /proc/{pid}/cgroup | head -n 1)
         if [ -n \"$p\" ] && [ -d /sys/fs/cgroup/{controller} ]; then cat /sys/fs/cgroup/{controller}$p/{one}
         else cat /sys/fs/cgroup$(sed -n 's/^0:://p' /proc/{pid}/cgroup)/{two}; fi"
    );
    let value = lab.sh(&script);
    lab.rbox(["rm", "-f", &id]).run().success();
    value
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_limits_reach_the_kernel() {
    let lab = Lab::with_busybox();
    let cases: &[(&[&str], &str, &str, &str, &str)] = &[
        (
            &["--memory", "64m"],
            "memory",
            "memory.limit_in_bytes",
            "memory.max",
            "67108864",
        ),
        (
            &["-m", "64m", "--memory-reservation", "32m"],
            "memory",
            "memory.soft_limit_in_bytes",
            "memory.low",
            "33554432",
        ),
        (
            &["--pids-limit", "33"],
            "pids",
            "pids.max",
            "pids.max",
            "33",
        ),
        (
            &["--cpuset-cpus", "0"],
            "cpuset",
            "cpuset.cpus",
            "cpuset.cpus",
            "0",
        ),
    ];
    for (options, controller, one, two, wanted) in cases {
        assert_eq!(
            limit(&lab, options, controller, one, two),
            *wanted,
            "{options:?}"
        );
    }
    let quota = limit(
        &lab,
        &["--cpus", "0.5"],
        "cpu",
        "cpu.cfs_quota_us",
        "cpu.max",
    );
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let shares = limit(
        &lab,
        &["--cpu-shares", "512"],
        "cpu",
        "cpu.shares",
        "cpu.weight",
    );
    assert!(
        shares == "512" || shares == "20" || shares == "59",
        "{shares}"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_limits_of_block_devices() {
    let lab = Lab::with_busybox();
    let disk = lab.sh("for disk in /sys/block/*; do name=/dev/${disk##*/}
         if [ -b $name ]; then echo $name $(cat $disk/dev); exit; fi; done");
    let (name, number) = disk.split_once(' ').expect("this machine has a disk");
    let cases = [
        ("--device-read-bps", "1mb", "read_bps", "1048576", "rbps"),
        ("--device-write-bps", "2mb", "write_bps", "2097152", "wbps"),
        ("--device-read-iops", "100", "read_iops", "100", "riops"),
        ("--device-write-iops", "200", "write_iops", "200", "wiops"),
    ];
    for (flag, rate, file, value, key) in cases {
        let wish = format!("{name}:{rate}");
        let file = format!("blkio.throttle.{file}_device");
        let seen = limit(&lab, &[flag, &wish], "blkio", &file, "io.max");
        let own = seen.strip_prefix(&format!("{number} ")).unwrap_or_default();
        let one = own == value;
        let two = own.split(' ').any(|word| word == format!("{key}={value}"));
        assert!(one || two, "{flag} {wish}: {seen}");
    }
    // The file's name is that of the scheduler with weights, where the kernel has it.
    let weight = ["--blkio-weight", "300"];
    let files = ["weight", "bfq.weight"].map(|file| {
        let (one, two) = (format!("blkio.{file}"), format!("io.{file}"));
        let show = |file: &str| format!("{file} 2> /dev/null || :");
        limit(&lab, &weight, "blkio", &show(&one), &show(&two))
    });
    assert!(files.iter().any(|seen| seen.contains("300")), "{files:?}");
    for (wish, why) in [
        ("/dev/nosuch:1mb", "no such file or directory"),
        ("/dev/null:1mb", "not a block device"),
    ] {
        lab.rbox(["run", "--rm", "--device-read-bps", wish, "busybox", "true"])
            .run()
            .code(125)
            .says(why)
            .says("lsblk");
    }
    lab.rbox([
        "create",
        "--name",
        "slow",
        "--device-write-iops",
        &format!("{name}:5"),
    ])
    .args(["--annotation", "org.x=1", "busybox", "true"])
    .run()
    .success();
    let shown = "{{json .HostConfig.BlkioDeviceWriteIOps}} {{json .HostConfig.Annotations}}";
    let shown = lab.rbox(["inspect", "-f", shown, "slow"]).run().success();
    let expected = format!(r#"[{{"Path":"{name}","Rate":5}}] {{"org.x":"1"}}"#);
    assert_eq!(shown.text(), expected);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_limits_hold() {
    let lab = Lab::with_busybox();
    // Memory: the one that takes too much is killed, and inspect knows why.
    lab.rbox([
        "run",
        "--name",
        "greedy",
        "-m",
        "16m",
        "--memory-swap",
        "16m",
        "busybox",
        "sh",
        "-c",
    ])
    .arg("x=a; while :; do x=$x$x; done")
    .run()
    .code(137);
    let killed = lab
        .rbox(["inspect", "-f", "{{.State.OOMKilled}}", "greedy"])
        .run()
        .success();
    assert_eq!(killed.text(), "true");
    // Processes: the fork fails, nothing else.
    let text = shown(
        &lab,
        &["--pids-limit", "5"],
        "(for i in 1 2 3 4 5 6 7 8; do sleep 1 & done) 2>&1 || true",
    );
    assert!(text.contains("fork"), "{text}");
    assert_eq!(
        shown(
            &lab,
            &["--ulimit", "nofile=100:200", "--ulimit", "core=0"],
            "ulimit -n; ulimit -Hn; ulimit -c"
        ),
        "100\n200\n0"
    );
    assert_eq!(
        shown(
            &lab,
            &["--shm-size", "16m"],
            "df -k /dev/shm | tail -1 | awk '{print $2}'"
        ),
        "16384"
    );
    let free = shown(
        &lab,
        &["--tmpfs", "/scratch:size=1m,mode=1777"],
        "grep scratch /proc/mounts; dd if=/dev/zero of=/scratch/x bs=1k count=2000 2>&1 || true",
    );
    assert!(
        free.contains("size=1024k") && free.contains("nosuid,nodev,noexec"),
        "{free}"
    );
    assert!(free.contains("No space left on device"), "{free}");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_limits_are_refused_with_reasons() {
    let lab = Lab::with_busybox();
    let cases: &[(&[&str], &str)] = &[
        (&["-m", "1m"], "Minimum memory limit allowed is 6MB"),
        (
            &["-m", "banana"],
            "invalid argument \"banana\" for \"-m, --memory\" flag",
        ),
        (
            &["--memory-swap", "64m"],
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        ),
        (&["--cpus", "9999"], "Range of CPUs is from 0.01 to "),
        (
            &["--cpuset-cpus", "999"],
            "Requested CPUs are not available - requested 999, available: ",
        ),
        (
            &["--ulimit", "nofile=200:100"],
            "ulimit soft limit must be less than or equal to hard limit: 200 > 100",
        ),
        (&["--cap-add", "FOO"], "unknown capability: \"CAP_FOO\""),
        (
            &["--security-opt", "foo"],
            "Invalid --security-opt: \"foo\"",
        ),
        (
            &["--sysctl", "kernel.foo=1"],
            "sysctl 'kernel.foo=1' is not allowed",
        ),
        (&["--tmpfs", "rel"], "mount path must be absolute"),
    ];
    for (options, text) in cases {
        lab.rbox(["run", "--rm"])
            .args(*options)
            .args(["busybox", "true"])
            .run()
            .code(125)
            .says(text);
    }
    // Docker guesses the exit code from the text here.
    let output = lab
        .rbox(["run", "--rm", "--device", "/dev/nosuch", "busybox", "true"])
        .run()
        .says("error gathering device information while adding custom device \"/dev/nosuch\": no such file or directory");
    assert!([Some(125), Some(127)].contains(&output.status.code()));
    assert_eq!(lab.rbox(["ps", "-aq"]).run().success().text(), "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_walls_capabilities() {
    let lab = Lab::with_busybox();
    let sets = |options: &[&str]| {
        shown(&lab, options, "awk '/^Cap/ {print $2}' /proc/self/status").replace('\n', " ")
    };
    let of = |inherited: u64, permitted: u64, effective: u64, bounding: u64| {
        format!(
            "{inherited:016x} {permitted:016x} {effective:016x} {bounding:016x} {:016x}",
            0
        )
    };
    let default = 0xa804_25fb;
    assert_eq!(sets(&[]), of(0, default, default, default));
    assert_eq!(sets(&["-u", "user"]), of(0, 0, 0, default));
    assert_eq!(sets(&["--cap-drop", "ALL"]), of(0, 0, 0, 0));
    assert_eq!(
        sets(&["--cap-drop", "all", "--cap-add", "cap_chown"]),
        of(0, 1, 1, 1)
    );
    let more = default | 1 << 12;
    assert_eq!(sets(&["--cap-add", "NET_ADMIN"]), of(0, more, more, more));
    // ALL and --privileged mean all that the caller has itself.
    let own = lab.sh("awk '/^CapBnd/ {print $2}' /proc/1/status");
    let own = u64::from_str_radix(&own, 16).unwrap();
    assert_eq!(sets(&["--cap-add", "ALL"]), of(0, own, own, own));
    assert_eq!(sets(&["--privileged"]), of(0, own, own, own));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_walls_seccomp_and_new_privileges() {
    let lab = Lab::with_busybox();
    let status = |options: &[&str]| {
        shown(
            &lab,
            options,
            "awk '/^(Seccomp|NoNewPrivs):/ {print $2}' /proc/self/status",
        )
    };
    assert_eq!(status(&[]), "0\n2");
    assert_eq!(status(&["--security-opt", "seccomp=unconfined"]), "0\n0");
    assert_eq!(status(&["--security-opt", "no-new-privileges"]), "1\n2");
    assert_eq!(status(&["--privileged"]), "0\n0");
    let unshare = "unshare -U true 2>&1 && echo done";
    let refused = lab
        .rbox(["run", "--rm", "busybox", "sh", "-c", unshare])
        .run();
    assert!(
        refused.text().contains("Operation not permitted"),
        "{}",
        refused.text()
    );
    let profile = lab.file(
        "profile.json",
        r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],
            "syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#,
    );
    let option = format!("seccomp={profile}");
    let text = shown(&lab, &["--security-opt", &option], "mkdir /x 2>&1 || true");
    assert!(text.contains("No space left on device"), "{text}");
    lab.rbox([
        "run",
        "--rm",
        "--security-opt",
        "seccomp=/no/such",
        "busybox",
        "true",
    ])
    .run()
    .code(125)
    .says("/no/such");
    // mount is refused by capabilities and profile alike; --privileged lifts both.
    let mount = "mount -t tmpfs x /tmp 2>/dev/null && echo mounted || echo refused";
    assert_eq!(shown(&lab, &[], mount), "refused");
    assert_eq!(shown(&lab, &["--privileged"], mount), "mounted");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_walls_read_only_root() {
    let lab = Lab::with_busybox();
    let script =
        "for p in /x /etc/hosts /tmp/x; do echo 2>/dev/null y >> $p && echo $p written; done
        for p in /dev/shm/x /scratch/x /data/x; do echo y > $p && echo $p; done";
    let data = lab.directory().join("data").display().to_string();
    let options = [
        "--read-only",
        "--tmpfs",
        "/scratch",
        "-v",
        &format!("{data}:/data"),
    ];
    assert_eq!(
        shown(&lab, &options, script),
        "/dev/shm/x\n/scratch/x\n/data/x"
    );
    // a working directory that the image lacks is made before the root is closed
    assert_eq!(
        shown(
            &lab,
            &["--read-only", "-w", "/made/here"],
            "pwd; touch x 2>&1 || :"
        ),
        "/made/here\ntouch: x: Read-only file system"
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_walls_devices() {
    let lab = Lab::with_busybox();
    // Opening this one needs no capability: only the device rules can refuse it.
    let node = lab.directory().join("device").display().to_string();
    let (major, minor) = [(10, 229), (10, 200), (10, 232), (10, 183)]
        .into_iter()
        .find(|(major, minor)| {
            lab.sh(&format!("rm -f {node}; mknod {node} c {major} {minor}; (exec 3< {node}) 2> /dev/null && echo opens || :"))
                == "opens"
        })
        .expect("this machine has /dev/fuse, /dev/net/tun, /dev/kvm or /dev/hwrng");
    // mknod is allowed, using what was made is not.
    let script = format!(
        "mknod /tmp/it c {major} {minor}; mknod /tmp/null c 1 3
        (exec 3< /tmp/it) 2>&1 | grep -c 'not permitted'
        echo x > /tmp/null && echo null works; ls /dev | grep -v core | tr '\\n' ' '"
    );
    let text = shown(&lab, &[], &script);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(&lines[..2], ["1", "null works"], "{text}");
    assert_eq!(
        lines[2].trim(),
        "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
    );
    // A device that is given is there, with the rights that were given.
    let text = shown(
        &lab,
        &["--device", &format!("{node}:/dev/given:r")],
        "(exec 3< /dev/given) && echo readable; (exec 3> /dev/given) 2>&1 | grep -c 'not permitted'",
    );
    assert_eq!(text, "readable\n1");
    let text = shown(
        &lab,
        &["--privileged"],
        &format!("mknod /tmp/it c {major} {minor}; (exec 3< /tmp/it) && echo opens"),
    );
    assert_eq!(text, "opens");
}

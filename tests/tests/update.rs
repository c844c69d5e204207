//! `rbox update`: limits and restart policies that become other while a container is there.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use lab::{Lab, eventually};

/// A file of the container's own cgroup, v1 or v2.
fn limit(lab: &Lab, controller: &str, v1: &str, v2: &str) -> String {
    lab.sh(&format!(
        "id=$(rbox inspect -f '{{{{.Id}}}}' box)
        for f in /sys/fs/cgroup/{controller}*/rbox/$id/{v1} /sys/fs/cgroup/*{controller}*/rbox/$id/{v1} /sys/fs/cgroup/rbox/$id/{v2}; do
            if [ -f $f ]; then cat $f; exit; fi; done; find /sys/fs/cgroup -path \"*$id*\" -name {v1}"
    ))
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_update_of_a_running_container() {
    let lab = Lab::with_busybox();
    lab.sh(
        "rbox run -d --name box --network none -m 32m --pids-limit 50 -c 512 busybox sleep 1000",
    );
    let update = [
        "update",
        "-m",
        "48m",
        "--memory-swap",
        "-1",
        "--pids-limit",
        "70",
        "-c",
        "256",
        "box",
    ];
    assert_eq!(lab.rbox(update).run().success().text(), "box");
    let memory = limit(&lab, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(memory, (48 << 20).to_string());
    assert_eq!(limit(&lab, "pids", "pids.max", "pids.max"), "70");
    let inspect = |format: &str| {
        let words = ["inspect", "-f", format, "box"];
        lab.rbox(words).run().success().text()
    };
    let seen =
        inspect("{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpuShares}}");
    assert_eq!(seen, "50331648 70 256");
    // It is what the next start gives.
    lab.rbox(["restart", "-t", "0", "box"]).run().success();
    assert_eq!(limit(&lab, "pids", "pids.max", "pids.max"), "70");
    lab.rbox(["update", "--pids-limit", "-1", "box"])
        .run()
        .success();
    assert_eq!(limit(&lab, "pids", "pids.max", "pids.max"), "max");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_update_of_the_restart_policy() {
    let lab = Lab::with_busybox();
    lab.sh("rbox run -d --name box --network none busybox sleep 1000; rbox update --restart always box");
    let count = || {
        let format = "{{.RestartCount}} {{.State.Status}}";
        lab.rbox(["inspect", "-f", format, "box"])
            .run()
            .success()
            .text()
    };
    // Ends by itself: the policy that it was given later starts it again.
    lab.sh("kill -9 $(rbox inspect -f '{{.State.Pid}}' box)");
    eventually("it was started again", || count() == "1 running");
    lab.sh("rbox update --restart no box; kill -9 $(rbox inspect -f '{{.State.Pid}}' box)");
    eventually("it has ended for good", || count().ends_with("exited"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_update_refusals_change_nothing() {
    let lab = Lab::with_busybox();
    lab.sh("rbox create --name box --network none busybox sleep 1000");
    let refused = |words: &[&str], message: &str| {
        lab.rbox(["update"]).args(words).run().code(1).says(message);
    };
    refused(
        &["box"],
        "you must provide one or more flags when using this command",
    );
    refused(
        &["-m", "32m", "none"],
        "Error response from daemon: No such container: none",
    );
    refused(
        &["-m", "32m", "box"],
        ": Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time",
    );
    refused(
        &["-m", "1m", "--memory-swap", "-1", "box"],
        "Minimum memory limit allowed is 6MB",
    );
    refused(
        &["--restart", "sometimes", "box"],
        "invalid restart policy 'sometimes'",
    );
    refused(
        &["--cpuset-cpus", "99", "box"],
        "Requested CPUs are not available",
    );
    let limits = "{{.HostConfig.Memory}} {{.HostConfig.RestartPolicy.Name}}";
    let seen = lab.rbox(["inspect", "-f", limits, "box"]).run();
    assert_eq!(seen.success().text(), "0 no");
    // What does not run takes every limit, and starts with it.
    lab.sh("rbox update -m 32m --memory-swap 64m --cpus 0.5 box; rbox start box");
    assert_eq!(
        limit(&lab, "memory", "memory.limit_in_bytes", "memory.max"),
        (32 << 20).to_string()
    );
}

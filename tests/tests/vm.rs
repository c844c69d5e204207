//! A machine with cgroup version 2 alone: the basics, and every limit, on its kernel.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::time::Duration;

use lab::{Vm, fixture};

/// What the machine does; as many lines as `COUNT` report.
const SCRIPT: &str = r#"
is "version 2 alone" "$(awk '$3 ~ /^cgroup/ {print $2, $3}' /proc/mounts)" "/sys/fs/cgroup cgroup2"
rbox import -c 'CMD ["sh"]' /opt/busybox.tar busybox > /dev/null 2> err && ok import || no import "$(cat err)"
is "run" "$(rbox run --rm --network none busybox echo hello 2>&1)" hello
is "run on the bridge" "$(rbox run --rm busybox sh -c 'ip -o -4 address show eth0 | tr -s " " | cut -d" " -f4' 2>&1)" 172.17.0.2/16
rbox run --rm --network none busybox sh -c 'exit 7' > /dev/null 2>&1; is "exit code" $? 7
rbox run -d --name it --network none -m 64m --memory-reservation 32m --pids-limit 33 --cpus 0.5 --cpu-shares 1024 \
    --cpuset-cpus 0 busybox sh -c 'trap "exit 5" TERM; while :; do sleep 0.1; done' > id 2>&1 || cat id
dir=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$(rbox inspect -f '{{.State.Pid}}' it)/cgroup)
is "memory.max" "$(cat $dir/memory.max)" 67108864
is "memory.low" "$(cat $dir/memory.low)" 33554432
is "pids.max" "$(cat $dir/pids.max)" 33
is "cpu.max" "$(cat $dir/cpu.max)" "50000 100000"
weight=$(cat $dir/cpu.weight); { [ "$weight" = 100 ] || [ "$weight" = 39 ]; } && ok cpu.weight || no cpu.weight "$weight"
is "cpuset.cpus" "$(cat $dir/cpuset.cpus)" 0
is "own cgroup namespace" "$(rbox exec it cat /proc/self/cgroup 2>&1)" "0::/"
rbox pause it > /dev/null 2>&1; is "pause" "$(grep frozen $dir/cgroup.events)" "frozen 1"
is "paused" "$(rbox inspect -f '{{.State.Status}}' it)" paused
rbox unpause it > /dev/null 2>&1; is "unpause" "$(grep frozen $dir/cgroup.events)" "frozen 0"
is "top" "$(rbox top it 2>&1 | grep -c "trap")" 1
is "update" "$(rbox update --pids-limit 44 -m 80m --memory-swap -1 --cpus 1 it 2>&1)" it
is "updated" "$(cat $dir/pids.max $dir/memory.max $dir/cpu.max | tr '\n' ' ')" "44 83886080 100000 100000 "
is "stats" "$(rbox stats --no-stream --format '{{.MemUsage}}' it 2>&1 | sed 's/.* .* //')" 80MiB
is "copied" "$(echo in > /tmp/in; rbox cp /tmp/in it:/tmp/in 2>&1; rbox exec it cat /tmp/in; rbox cp it:/tmp/in - | tar -t)" "in
in"
is "stop" "$(rbox stop it 2>&1)" it
is "stopped" "$(rbox inspect -f '{{.State.ExitCode}}' it)" 5
[ -e $dir ] && no "cgroup removed" "$dir is left" || ok "cgroup removed"
rbox rm it > /dev/null
rbox run --name greedy --network none -m 16m --memory-swap 16m busybox sh -c 'x=a; while :; do x=$x$x; done' > /dev/null 2>&1
is "killed for memory" $? 137
is "and inspect knows" "$(rbox inspect -f '{{.State.OOMKilled}}' greedy)" true
rbox rm greedy > /dev/null
is "no more processes" "$(rbox run --rm --network none --pids-limit 5 busybox sh -c 'for i in 1 2 3 4 5 6 7; do sleep 1 & done; wait' 2>&1 | grep -c fork | sed 's/[1-9].*/some/')" some
echo 0 > /proc/sys/kernel/dmesg_restrict
is "a device is refused" "$(rbox run --rm --network none busybox sh -c 'mknod /tmp/k c 1 11; (exec 3< /tmp/k) 2>&1' 2>&1 | grep -c 'not permitted')" 1
is "a device is given" "$(rbox run --rm --network none --device /dev/kmsg:/dev/k:r busybox sh -c '(exec 3< /dev/k) && echo open; (exec 3> /dev/k) 2>&1 | grep -c permitted' 2>&1 | tr '\n' ' ')" "open 1 "
rbox run -d --name slow --network none --device-read-bps /dev/loop0:1mb --device-write-iops /dev/loop0:10 busybox sleep 1000 > id 2>&1 || cat id
dir=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/$(rbox inspect -f '{{.State.Pid}}' slow)/cgroup)
is "io.max" "$(cat $dir/io.max)" "7:0 rbps=1048576 wbps=max riops=max wiops=10"
rbox rm -f slow > /dev/null
rbox run -d --name kid --network none busybox sh -c 'sleep 1000 & sleep 1001' > /dev/null
rbox kill kid > /dev/null; sleep 1
is "kill takes all" "$(ps | grep -c '[s]leep 100')" 0
is "killed" "$(rbox inspect -f '{{.State.ExitCode}}' kid)" 137
rbox rm kid > /dev/null
rbox run -d --name gone --network none busybox sleep 1000 > id 2>&1
kill -9 $(cut -d' ' -f1 /run/rbox/containers/$(cat id)/monitor); sleep 1
is "a monitor dies" "$(rbox inspect -f '{{.State.Status}}' gone)" exited
rbox rm gone > /dev/null
is "nothing is left" "$(find /sys/fs/cgroup -type d -name '[0-9a-f]*' | grep -E '[0-9a-f]{64}'; grep -c overlay /proc/mounts; ls /run/rbox/containers)" 0
"#;

const COUNT: usize = 33;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_vm_runs_containers_on_cgroup_version_2() {
    let image = std::fs::read(fixture::busybox_tar()).unwrap();
    Vm::new()
        .program("rbox", &lab::lab::rbox_binary())
        .file("busybox.tar", &image)
        .run(SCRIPT, Duration::from_secs(600))
        .all_passed(COUNT);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_vm_boots_with_nothing_but_version_2() {
    let script = "
        is cgroups \"$(awk '$3 ~ /^cgroup/ {print $3}' /proc/mounts)\" cgroup2
        is controllers \"$(tr ' ' '\\n' < /sys/fs/cgroup/cgroup.controllers | grep -cE '^(cpuset|cpu|io|memory|pids)$')\" 5
        is root \"$(stat -f -c %T /)\" tmpfs
        mkdir low up work all; mount -t overlay -o lowerdir=low,upperdir=up,workdir=work x all && ok overlay || no overlay
        [ -d /sys/module/veth ] && ok veth || no veth
        ip link add br type bridge && ok bridge || no bridge";
    let report = Vm::new().run(script, Duration::from_secs(300));
    report.all_passed(6);
    assert!(
        !report.console.contains("vm: no module"),
        "{}",
        report.console
    );
}

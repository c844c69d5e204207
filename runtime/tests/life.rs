//! Containers that live: exec, terminals, cgroups, shared namespaces, deaths, faults.

// A helper of a test panics as the test does.
#![allow(clippy::unwrap_used)]

#[path = "support/container.rs"]
mod container;

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use oci_spec::runtime::{
    BoxBuilder, LinuxDeviceBuilder, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxMemoryBuilder,
    LinuxNamespaceType, LinuxPidsBuilder, LinuxResources,
};
use plan::{Faults, Step};
use runtime::{ReportKind, StartError, Stdio, UserRequest};
use sys::process::Exit;

use container::{Running, TestContainer, pipe};
use support::in_lab;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_exec_sees_and_may_what_the_container_does() {
    in_lab(
        "privileged_exec_sees_and_may_what_the_container_does",
        || {
            let running = TestContainer::shell("hostname inner; sleep 60")
                .start()
                .unwrap();
            let seen = running.exec_output(
            "hostname; ls /proc/self/fd | tr '\\n' ' '; grep -E 'Cap|Seccomp:' /proc/self/status; \
             cat /proc/self/cgroup | grep ^0; echo $HOME; (readlink /proc/self/ns/mnt; readlink /proc/1/ns/mnt) | uniq | wc -l",
        );
            let path = &running.cgroup().unified.as_ref().unwrap().path;
            let name = path.file_name().unwrap().to_str().unwrap();
            let expected = format!(
                "start\n0 1 2 3 CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
             CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
             Seccomp:\t2\n0::/rbox/{name}\n/root\n1\n"
            );
            assert_eq!(seen, expected);
            let output = running
                .exec(&["/bin/sh", "-c", "id -u; exit 3"], |request| {
                    request.user = Some(UserRequest {
                        user: "web".to_owned(),
                        groups: Vec::new(),
                    });
                })
                .unwrap();
            assert_eq!((output.out.as_str(), output.exit), ("33\n", Exit::Code(3)));
            let failures = [
                (
                    "nosuchcmd",
                    127,
                    "exec: \"nosuchcmd\": executable file not found in $PATH",
                ),
                ("/etc", 126, "exec: \"/etc\": permission denied"),
            ];
            for (program, code, text) in failures {
                let error = running.exec(&[program], |_| {}).unwrap_err();
                assert_eq!(
                    (error.exit_code(), error.to_string().as_str()),
                    (code, text)
                );
            }
            let error = running
                .exec(&["/bin/true"], |request| {
                    request.process.set_cwd_for_test("/nope")
                })
                .unwrap_err();
            assert_eq!(
                error.to_string(),
                "chdir to cwd (\"/nope\") set in config.json failed: no such file or directory"
            );
            running.child.kill().unwrap();
            assert_eq!(running.finish().exit, Exit::Signal(9));
        },
    );
}

trait SetCwd {
    fn set_cwd_for_test(&mut self, path: &str);
}

impl SetCwd for oci_spec::runtime::Process {
    fn set_cwd_for_test(&mut self, path: &str) {
        self.set_cwd(PathBuf::from(path));
    }
}

/// The watcher inside looks at every process that appears and tries to open its program for
/// writing; it may trace, too. None may ever be rbox's (here: this test's) own file.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_no_process_of_rbox_is_seen_from_a_running_container() {
    in_lab(
        "privileged_no_process_of_rbox_is_seen_from_a_running_container",
        || {
            let watcher = "echo ready; while true; do for p in /proc/[0-9]*; do \
                       readlink $p/exe >> /seen; done; done 2>/dev/null";
            let mut container = TestContainer::shell(watcher);
            let mut caps = container.process().capabilities().clone().unwrap();
            for set in [caps.bounding().clone(), caps.effective().clone()] {
                let mut set = set.unwrap();
                set.insert(oci_spec::runtime::Capability::SysPtrace);
                caps.set_bounding(Some(set.clone()));
                caps.set_effective(Some(set.clone()));
                caps.set_permitted(Some(set));
            }
            container.process().set_capabilities(Some(caps));
            let mut running = container.start().unwrap();
            running.wait_for("ready");
            for _ in 0..50 {
                running.exec(&["/bin/true"], |_| {}).unwrap();
            }
            let seen = running.exec_output("cat /seen | sort | uniq");
            running.child.kill().unwrap();
            running.finish();
            assert!(seen.contains("busybox"), "{seen}");
            for line in seen.lines() {
                let known = line.contains("busybox") || line.starts_with("/memfd:rbox-trampoline");
                assert!(known, "{line} was seen inside");
            }
        },
    );
}

fn read_until(master: &OwnedFd, word: &str) -> String {
    let mut file = fs::File::from(master.try_clone().unwrap());
    let mut seen = Vec::new();
    let mut buffer = [0u8; 512];
    loop {
        let text = String::from_utf8_lossy(&seen).into_owned();
        if text.contains(word) {
            return text;
        }
        match file.read(&mut buffer) {
            Ok(count) if count > 0 => seen.extend(&buffer[..count]),
            other => panic!("{other:?} after {text:?}"),
        }
    }
}

fn with_terminal(command: &str) -> (TestContainer, Running) {
    let mut container = TestContainer::shell(command);
    container.process().set_terminal(Some(true));
    let size = BoxBuilder::default()
        .height(33u64)
        .width(101u64)
        .build()
        .unwrap();
    container.process().set_console_size(Some(size));
    let ((out, _), (err, _)) = (pipe(), pipe());
    let running = container.start_with(Stdio::Terminal, out, err).unwrap();
    (container, running)
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_terminal_is_the_containers_own() {
    in_lab("privileged_the_terminal_is_the_containers_own", || {
        let (_container, mut running) = with_terminal(
            "tty; stty size; test -c /dev/console && echo console; echo to > /dev/console; \
             ls /dev/pts | tr '\\n' ' '; read line; trap 'exit 130' INT; \
             echo \"got $line\"; while true; do sleep 0.1; done",
        );
        let master = running.started.terminal.take().unwrap();
        let seen = read_until(&master, "ptmx");
        assert!(
            seen.starts_with("/dev/pts/0\r\n33 101\r\nconsole\r\nto\r\n0 ptmx"),
            "{seen:?}"
        );
        fs::File::from(master.try_clone().unwrap())
            .write_all(b"word\n")
            .unwrap();
        read_until(&master, "got word\r\n");
        // The terminal's interrupt reaches the foreground: it is the controlling terminal.
        fs::File::from(master.try_clone().unwrap())
            .write_all(b"\x03")
            .unwrap();
        assert_eq!(running.finish().exit, Exit::Code(130));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_exec_has_a_terminal_too() {
    in_lab("privileged_exec_has_a_terminal_too", || {
        let running = TestContainer::shell("sleep 60").start().unwrap();
        let mut process = support::spec("x", container::strings(&["/bin/sh", "-c", "tty; exit 4"]))
            .unwrap()
            .process()
            .clone()
            .unwrap();
        process.set_terminal(Some(true));
        let request = runtime::ExecRequest {
            init: running.child.pid(),
            process,
            user: None,
            filter: None,
        };
        let facts = runtime::Facts::read().unwrap();
        let plan = runtime::plan_exec(&request, running.cgroup().clone(), &facts).unwrap();
        let mut child = runtime::spawn_exec(&plan, &Stdio::Terminal, &Faults::none()).unwrap();
        child.release_network_ready().unwrap();
        let started = child.wait_exec().unwrap();
        assert_eq!(
            read_until(started.terminal.as_ref().unwrap(), "\n"),
            "/dev/pts/0\r\n"
        );
        let process = sys::process::pidfd_open(started.pid).unwrap();
        let exit = sys::process::wait_pidfd(process.as_fd(), true).unwrap();
        assert_eq!(exit, Some(Exit::Code(4)));
        sys::process::wait_pidfd(child.pidfd(), true).unwrap();
        running.child.kill().unwrap();
        running.finish();
    });
}

fn resources(container: &mut TestContainer) -> &mut LinuxResources {
    let resources: &mut Option<LinuxResources> = container.linux().resources_mut();
    resources.as_mut().unwrap()
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_limits_of_the_cgroup_hold() {
    in_lab("privileged_limits_of_the_cgroup_hold", || {
        let mut container = TestContainer::shell(
            "for i in 1 2 3 4 5 6 7 8 9; do sleep 3 & done 2>/dev/null; echo never",
        );
        let pids = LinuxPidsBuilder::default().limit(4).build().unwrap();
        resources(&mut container).set_pids(Some(pids));
        assert!(
            !container.run().out.contains("never"),
            "it made ten processes"
        );

        let mut container =
            TestContainer::shell("head -c 200m /dev/zero | sort | wc -c; echo done");
        let memory = LinuxMemoryBuilder::default()
            .limit(32i64 << 20)
            .build()
            .unwrap();
        resources(&mut container).set_memory(Some(memory));
        let running = container.start().unwrap();
        let cgroup = running.cgroup().clone();
        let deadline = Instant::now() + Duration::from_secs(30);
        while cgroup.out_of_memory_kills() == 0 {
            assert!(Instant::now() < deadline, "nothing was killed");
            std::thread::sleep(Duration::from_millis(10));
        }
        let stats = runtime::cgroup::stats::read(&cgroup);
        assert_eq!(stats.memory_limit, Some(32 << 20));
        running.finish();
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_freezing_stops_and_killing_ends_all() {
    in_lab("privileged_freezing_stops_and_killing_ends_all", || {
        // Its directories go with it: it must outlive what runs in them.
        let container = TestContainer::shell(
            "echo x > /tick; (while true; do echo x >> /tick; done) & echo ready; sleep 60",
        );
        let mut running = container.start().unwrap();
        running.wait_for("ready");
        let cgroup = running.cgroup().clone();
        assert!(cgroup.processes().unwrap().len() >= 2);
        cgroup.freeze().unwrap();
        assert!(cgroup.is_frozen());
        let tick = |running: &Running| {
            fs::metadata(format!("/proc/{}/root/tick", running.child.pid())).map(|m| m.len())
        };
        let before = tick(&running).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(tick(&running).unwrap(), before);
        cgroup.thaw().unwrap();
        assert!(!cgroup.is_frozen());
        cgroup.freeze().unwrap();
        // What was only found is never harmed: others may be in it.
        let facts = runtime::Facts::read().unwrap();
        let found = runtime::Cgroup::of(running.child.pid(), &facts.cgroups).unwrap();
        assert_eq!(
            found.processes().unwrap().len(),
            cgroup.processes().unwrap().len()
        );
        found.kill().unwrap();
        found.remove().unwrap();
        assert!(found.freeze().is_err());
        assert!(cgroup.is_frozen() && !cgroup.processes().unwrap().is_empty());
        // Also a frozen container is killed.
        cgroup.kill().unwrap();
        assert_eq!(running.finish().exit, Exit::Signal(9));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_devices_are_closed_but_those_asked_for() {
    in_lab("privileged_devices_are_closed_but_those_asked_for", || {
        let probe = "mknod /tmp/m c 1 1 && cat /tmp/m 2>&1 | head -c 60; \
                     mknod /tmp/z c 1 5 && head -c 1 /tmp/z | wc -c; \
                     test -c /dev/port && echo port; head -c 1 /dev/port 2>&1 | wc -c; \
                     echo x > /dev/port 2>&1 || echo refused";
        let mut container = TestContainer::shell(probe);
        let output = container.run();
        assert!(
            output
                .out
                .starts_with("cat: can't open '/tmp/m': Operation not permitted\n1\n")
        );
        // /dev/loop-control, only to be read: opening it does nothing.
        let device = LinuxDeviceBuilder::default()
            .path("/dev/sub/loops")
            .typ(LinuxDeviceType::C)
            .major(10)
            .minor(237)
            .file_mode(0o640u32)
            .uid(0u32)
            .gid(34u32)
            .build()
            .unwrap();
        container = TestContainer::shell(
            "stat -c '%F %a %g' /dev/sub/loops; true < /dev/sub/loops && echo opened; \
             (true > /dev/sub/loops) 2>/dev/null || echo refused",
        );
        container.linux().set_devices(Some(vec![device]));
        let mut rules = support::device_rules(false);
        let rule = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(10)
            .minor(237)
            .access("r")
            .build()
            .unwrap();
        rules.push(rule);
        resources(&mut container).set_devices(Some(rules));
        let output = container.run();
        assert_eq!(
            output.out, "character special file 640 34\nopened\nrefused\n",
            "{output:?}"
        );
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_namespaces_can_be_joined_and_shared() {
    in_lab("privileged_namespaces_can_be_joined_and_shared", || {
        let first = TestContainer::shell("sleep 60").start().unwrap();
        let pid = first.child.pid();
        let mut second = TestContainer::shell(
            "for n in self/ns/net self/ns/ipc self/ns/uts self/ns/pid 1/ns/mnt self/ns/mnt; do \
             readlink /proc/$n; done",
        );
        let list: &mut Option<Vec<_>> = second.linux().namespaces_mut();
        for namespace in list.as_mut().unwrap() {
            let file = match namespace.typ() {
                LinuxNamespaceType::Network => "net",
                LinuxNamespaceType::Ipc => "ipc",
                LinuxNamespaceType::Uts => "uts",
                LinuxNamespaceType::Pid => "pid",
                _ => continue,
            };
            namespace.set_path(Some(format!("/proc/{pid}/ns/{file}").into()));
        }
        second.spec().set_hostname(None);
        let seen = second.output();
        let of = |file: &str| fs::read_link(format!("/proc/{pid}/ns/{file}")).unwrap();
        let lines: Vec<&str> = seen.lines().collect();
        for (line, file) in lines.iter().zip(["net", "ipc", "uts", "pid", "mnt"]) {
            assert_eq!(*line, of(file).to_str().unwrap());
        }
        assert_ne!(lines[4], lines[5]);
        // Our own later children are in our own namespace again.
        let own = fs::read_link("/proc/self/ns/pid").unwrap();
        assert_eq!(
            fs::read_link("/proc/self/ns/pid_for_children").unwrap(),
            own
        );
        first.child.kill().unwrap();
        first.finish();
    });
}

/// Without a pid namespace of its own nobody but the cgroup knows a container's processes.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_a_container_of_host_pids_leaves_is_killed() {
    in_lab(
        "privileged_what_a_container_of_host_pids_leaves_is_killed",
        || {
            let mut container = TestContainer::shell("setsid sleep 60 & echo ready");
            let list: &mut Option<Vec<_>> = container.linux().namespaces_mut();
            list.as_mut()
                .unwrap()
                .retain(|one| one.typ() != LinuxNamespaceType::Pid);
            let mut running = container.start().unwrap();
            running.wait_for("ready");
            let cgroup = running.cgroup().clone();
            sys::process::wait_pidfd(running.child.pidfd(), true).unwrap();
            assert!(!cgroup.processes().unwrap().is_empty());
            let errors = plan::undo_all(&running.plan.host, &mut runtime::Host::default());
            assert!(errors.is_empty(), "{errors:?}");
            assert!(!cgroup.unified.as_ref().unwrap().path.exists());
        },
    );
}

/// The monitor dies by SIGKILL: its container does not outlive it, also not as another user.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_container_dies_with_its_parent() {
    in_lab("privileged_a_container_dies_with_its_parent", || {
        for user in ["root", "web"] {
            let mut container = TestContainer::shell("echo ready; sleep 60");
            container.user(user);
            let (out, out_end) = pipe();
            let plan = container.plan();
            for step in &plan.host {
                step.apply(&mut runtime::Host::default()).unwrap();
            }
            let monitor = sys::process::fork(&sys::process::Fork::default(), || {
                let stdio = Stdio::Descriptors {
                    stdin: None,
                    stdout: Some(out_end.try_clone().unwrap()),
                    stderr: None,
                };
                let mut child = runtime::spawn(&plan, &stdio, &Faults::none()).unwrap();
                child.release_network_ready().unwrap();
                child.wait_exec().unwrap();
                std::thread::sleep(Duration::from_secs(60));
                0
            })
            .unwrap();
            drop(out_end);
            let mut out = fs::File::from(out);
            let mut word = [0u8; 6];
            out.read_exact(&mut word).unwrap();
            sys::process::kill_pidfd(monitor.pidfd.as_fd()).unwrap();
            sys::process::wait_pidfd(monitor.pidfd.as_fd(), true).unwrap();
            // The pipe's last writer has gone.
            let mut rest = String::new();
            out.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "");
            assert!(plan::undo_all(&plan.host, &mut runtime::Host::default()).is_empty());
        }
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_every_fault_leaves_nothing() {
    in_lab("privileged_every_fault_leaves_nothing", || {
        let mut container = TestContainer::shell("true");
        let list = container.directory.path().join("points");
        container.faults = Faults::parse(&format!("*:any:list:{}", list.display())).unwrap();
        container.run();
        let points = fs::read_to_string(&list).unwrap();
        let mut inner: Vec<&str> = points.lines().collect();
        inner.retain(|point| !point.starts_with("cgroup-"));
        assert!(inner.contains(&"pivot:after"), "{points}");
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        for point in inner {
            container.faults = Faults::parse(&format!("{point}:error")).unwrap();
            let error = container.failure();
            assert_eq!(error.kind(), Some(ReportKind::Fault), "{point}: {error}");
            container.faults = Faults::parse(&format!("{point}:kill")).unwrap();
            match container.start() {
                Err(StartError::Died) => {}
                Err(error) => panic!("{point}: {error}"),
                // Killed after it had said that all is prepared: a start that ended at once.
                Ok(running) => assert_eq!(running.finish().exit.shell_code(), 137, "{point}"),
            }
        }
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    });
}

/// The same life on a host without a v2 tree: devices, freezer and limits of v1.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_version_one_alone_is_enough() {
    in_lab("privileged_version_one_alone_is_enough", || {
        if runtime::Facts::read().unwrap().cgroups.v1.is_empty() {
            eprintln!("this host has no cgroups of version 1: nothing to look at");
            return;
        }
        // In this mount namespace alone.
        let _ = sys::mount::detach(Path::new("/sys/fs/cgroup/unified"));
        let facts = runtime::Facts::read().unwrap();
        assert!(facts.cgroups.unified.is_none() && !facts.device_programs);

        let probe = "mknod /tmp/m c 1 1 && cat /tmp/m 2>&1 | head -c 60; \
                     head -c 1 /dev/zero | wc -c; ls /sys/fs/cgroup; \
                     cat /sys/fs/cgroup/pids/pids.max; mkdir /sys/fs/cgroup/pids/x 2>&1";
        let mut container = TestContainer::shell(probe);
        let pids = LinuxPidsBuilder::default().limit(77).build().unwrap();
        resources(&mut container).set_pids(Some(pids));
        let output = container.run();
        assert_eq!(
            output.out,
            "cat: can't open '/tmp/m': Operation not permitted\n1\ndevices\nfreezer\npids\n77\n\
             mkdir: can't create directory '/sys/fs/cgroup/pids/x': Read-only file system\n"
        );
        // Its directories go with it: it must outlive what runs in them.
        let container = TestContainer::shell("(while true; do :; done) & echo ready; sleep 60");
        let mut running = container.start().unwrap();
        running.wait_for("ready");
        let cgroup = running.cgroup().clone();
        assert!(cgroup.processes().unwrap().len() >= 2);
        assert!(
            running
                .exec_output("cat /proc/self/cgroup")
                .contains("devices:/rbox/")
        );
        cgroup.freeze().unwrap();
        assert!(cgroup.is_frozen());
        cgroup.kill().unwrap();
        assert_eq!(running.finish().exit, Exit::Signal(9));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_cgroup_namespace_shows_the_own_group_as_root() {
    in_lab(
        "privileged_a_cgroup_namespace_shows_the_own_group_as_root",
        || {
            let mut container = TestContainer::shell("grep ^0 /proc/self/cgroup");
            let list: &mut Option<Vec<_>> = container.linux().namespaces_mut();
            let kind = oci_spec::runtime::LinuxNamespaceBuilder::default()
                .typ(LinuxNamespaceType::Cgroup)
                .build()
                .unwrap();
            list.as_mut().unwrap().push(kind);
            assert_eq!(container.output(), "0::/\n");
        },
    );
}

/// A privileged container: all of the caller's capabilities, all devices, no filter, no masks.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_privileged_container_may_nearly_all() {
    in_lab("privileged_a_privileged_container_may_nearly_all", || {
        let mut container = TestContainer::shell(
            "grep -E 'CapEff|Seccomp:' /proc/self/status; mknod /tmp/m c 10 237 && true < /tmp/m && \
             echo opened; mount -t tmpfs x /tmp && echo mounted; \
             touch /proc/sys/kernel/hostname && echo sys",
        );
        let facts = runtime::Facts::read().unwrap();
        let caps: std::collections::HashSet<oci_spec::runtime::Capability> = facts
            .capabilities
            .iter()
            .filter_map(|cap| cap.to_string().trim_start_matches("CAP_").parse().ok())
            .collect();
        let mut sets = container.process().capabilities().clone().unwrap();
        sets.set_bounding(Some(caps.clone()));
        sets.set_effective(Some(caps.clone()));
        sets.set_permitted(Some(caps));
        container.process().set_capabilities(Some(sets));
        container.request.filter = None;
        container.linux().set_masked_paths(None);
        container.linux().set_readonly_paths(None);
        resources(&mut container).set_devices(Some(support::device_rules(true)));
        let expected = format!(
            "CapEff:\t{:016x}\nSeccomp:\t0\nopened\nmounted\nsys\n",
            facts.capabilities.0
        );
        assert_eq!(container.output(), expected);
    });
}

//! Containers that really start: what the program sees, what it may do, how starts fail.

// A helper of a test panics as the test does.
#![allow(clippy::unwrap_used)]

#[path = "support/container.rs"]
mod container;

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use oci_spec::runtime::{PosixRlimitBuilder, PosixRlimitType};
use runtime::{ReportKind, Root};
use sys::process::Exit;

use container::{TestContainer, strings};
use support::in_lab;

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_exit_code_comes_back() {
    in_lab("privileged_the_exit_code_comes_back", || {
        let output = TestContainer::shell("echo out; echo err >&2; exit 7").run();
        assert_eq!(output.exit, Exit::Code(7));
        assert_eq!(
            (output.out.as_str(), output.err.as_str()),
            ("out\n", "err\n")
        );
        let output = TestContainer::shell("kill -9 $$; sleep 9").run();
        // PID 1 does not die of its own signals.
        assert_eq!(output.exit, Exit::Code(0));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_cage_is_closed() {
    in_lab("privileged_the_cage_is_closed", || {
        let status = TestContainer::new(&["/bin/cat", "/proc/self/status"]).output();
        for line in [
            "CapInh:\t0000000000000000",
            "CapPrm:\t00000000a80425fb",
            "CapEff:\t00000000a80425fb",
            "CapBnd:\t00000000a80425fb",
            "CapAmb:\t0000000000000000",
            "Seccomp:\t2",
            "NoNewPrivs:\t0",
            "SigBlk:\t0000000000000000",
            "SigIgn:\t0000000000000000",
            "Pid:\t1",
            "Umask:\t0022",
        ] {
            assert!(status.contains(line), "{line} in {status}");
        }
        let descriptors = TestContainer::shell("ls /proc/self/fd | tr '\\n' ' '").output();
        // 3 is the directory that ls itself reads.
        assert_eq!(descriptors, "0 1 2 3 ");
        let view = "hostname; ls /sys/firmware | wc -l; head -c1 /proc/interrupts | wc -c; \
                    touch /proc/sys/kernel/hostname 2>&1; mkdir /sys/x 2>&1; \
                    mount -t tmpfs x /tmp 2>&1; unshare -m true 2>&1; pwd; echo $HOME";
        let view = TestContainer::shell(view).output();
        let expected = "start\n0\n0\ntouch: /proc/sys/kernel/hostname: Read-only file system\n\
                        mkdir: can't create directory '/sys/x': Read-only file system\n";
        assert!(view.starts_with(expected), "{view}");
        assert!(view.ends_with("/\n/root\n"), "{view}");
        assert_eq!(
            view.matches("denied").count() + view.matches("not permitted").count(),
            2,
            "{view}"
        );
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_hosts_mounts_are_not_seen() {
    in_lab("privileged_the_hosts_mounts_are_not_seen", || {
        let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = TestContainer::new(&["/bin/cat", "/proc/mounts"]).output();
        assert!(mounts.starts_with("overlay / overlay rw,"), "{mounts}");
        assert!(!mounts.contains("unified"), "{mounts}");
        assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_what_cannot_be_executed_has_dockers_words_and_codes() {
    in_lab(
        "privileged_what_cannot_be_executed_has_dockers_words_and_codes",
        || {
            let cases = [
                (
                    "nosuchcmd",
                    127,
                    "exec: \"nosuchcmd\": executable file not found in $PATH",
                ),
                (
                    "/nosuch",
                    127,
                    "exec: \"/nosuch\": stat /nosuch: no such file or directory",
                ),
                ("/etc", 126, "exec: \"/etc\": permission denied"),
                (
                    "/etc/passwd",
                    126,
                    "exec: \"/etc/passwd\": permission denied",
                ),
                ("/bin/text", 126, "exec /bin/text: exec format error"),
                (
                    "/bin/lost",
                    127,
                    "exec /bin/lost: no such file or directory",
                ),
            ];
            for (program, code, text) in cases {
                let container = TestContainer::new(&[program]);
                for (name, content) in [("text", "no program"), ("lost", "#!/no/interpreter\n")] {
                    let path = container.image("bin").join(name);
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
                }
                let error = container.failure();
                assert_eq!(
                    (error.to_string().as_str(), error.exit_code()),
                    (text, code)
                );
            }
        },
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_users_are_the_containers() {
    in_lab("privileged_users_are_the_containers", || {
        let command = "id; echo $HOME; grep -h CapPrm /proc/self/status; grep CapBnd /proc/self/status; \
                       echo again > /dev/stdout";
        let mut container = TestContainer::shell(command);
        container.user("web");
        let expected = "uid=33(web) gid=34(web) groups=34(web),40(log)\n/srv\n\
                        CapPrm:\t0000000000000000\nCapBnd:\t00000000a80425fb\nagain\n";
        assert_eq!(container.output(), expected);
        container.user("4711:12");
        assert!(
            container
                .output()
                .starts_with("uid=4711 gid=12 groups=12\n/\n")
        );
        container.user("nosuchuser");
        let error = container.failure();
        assert_eq!(
            error.to_string(),
            "unable to find user nosuchuser: no matching entries in passwd file"
        );
        assert_eq!(error.kind(), Some(ReportKind::User));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_an_image_cannot_lead_its_files_out() {
    in_lab("privileged_an_image_cannot_lead_its_files_out", || {
        let mut container = TestContainer::shell("id -un");
        let outside = container.directory.path().join("passwd");
        fs::write(&outside, "evil:x:0:0::/:/bin/sh\n").unwrap();
        fs::remove_file(container.image("etc/passwd")).unwrap();
        symlink(&outside, container.image("etc/passwd")).unwrap();
        container.user("evil");
        assert_eq!(container.failure().kind(), Some(ReportKind::User));
        // A pipe in its place must not stop the start either.
        fs::remove_file(container.image("etc/passwd")).unwrap();
        let status = std::process::Command::new("mkfifo")
            .arg(container.image("etc/passwd"))
            .status();
        assert!(status.unwrap().success());
        assert_eq!(container.failure().kind(), Some(ReportKind::User));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_binds_land_beneath_the_root() {
    in_lab("privileged_binds_land_beneath_the_root", || {
        let mut container = TestContainer::shell(
            "cat /data/x /etc/one; echo new > /data/y && cat /data/y; touch /seen/x 2>&1; \
             ls -d /made/here; readlink /out",
        );
        let volume = container.directory.path().join("volume");
        fs::create_dir(&volume).unwrap();
        fs::write(volume.join("x"), "content\n").unwrap();
        let victim = container.directory.path().join("victim");
        fs::create_dir(&victim).unwrap();
        symlink(&victim, container.image("out")).unwrap();
        container.bind(&volume, "/data", &["rbind"]);
        container.bind(&volume.join("x"), "/etc/one", &["rbind", "ro"]);
        container.bind(&volume, "/seen", &["rbind", "ro"]);
        container.bind(&volume, "/made/here", &["rbind"]);
        container.bind(&volume, "/out/below", &["rbind"]);
        let output = container.output();
        let expected = format!(
            "content\ncontent\nnew\ntouch: /seen/x: Read-only file system\n/made/here\n{}\n",
            victim.display()
        );
        assert_eq!(output, expected);
        assert_eq!(
            fs::read_dir(&victim).unwrap().count(),
            0,
            "the link led outside"
        );
        assert_eq!(fs::read_to_string(volume.join("y")).unwrap(), "new\n");
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_directory_on_a_file_is_explained() {
    in_lab("privileged_a_directory_on_a_file_is_explained", || {
        for (source, target) in [("root", "/etc/passwd"), ("root/etc/passwd", "/etc")] {
            let mut container = TestContainer::new(&["/bin/true"]);
            let source = container.directory.path().join(source);
            container.bind(&source, target, &["rbind"]);
            let error = container.failure();
            assert_eq!(error.kind(), Some(ReportKind::MountKind), "{error}");
            assert!(error.to_string().ends_with("not a directory"), "{error}");
            assert!(
                error
                    .hint()
                    .unwrap()
                    .starts_with("Are you trying to mount a directory")
            );
        }
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_proc_cannot_be_replaced() {
    in_lab("privileged_proc_cannot_be_replaced", || {
        let container = TestContainer::new(&["/bin/true"]);
        fs::remove_dir(container.image("proc")).unwrap();
        symlink("tmp", container.image("proc")).unwrap();
        let error = container.failure().to_string();
        assert!(
            error.contains("/proc of the image is not a directory"),
            "{error}"
        );

        let mut container = TestContainer::new(&["/bin/true"]);
        symlink("/proc/self", container.image("innocent")).unwrap();
        let volume = container.directory.path().join("upper");
        container.bind(&volume, "/innocent/attr", &["rbind"]);
        let error = container.failure().to_string();
        assert!(error.contains("/proc: refused"), "{error}");
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_masks_come_from_the_real_null_device() {
    in_lab("privileged_masks_come_from_the_real_null_device", || {
        let container =
            TestContainer::shell("head -c 1 /proc/interrupts | wc -c; cat /proc/keys; echo ok");
        fs::write(container.image("dev/null"), "not a device").unwrap();
        assert_eq!(container.output(), "0\nok\n");
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_working_directory_is_made_and_lies_inside() {
    in_lab(
        "privileged_the_working_directory_is_made_and_lies_inside",
        || {
            let mut container = TestContainer::shell("pwd; stat -c '%a %u' .");
            container.process().set_cwd("/a/b".into());
            container.user("web");
            assert_eq!(container.output(), "/a/b\n755 0\n");
            container.process().set_cwd("/etc/passwd".into());
            let error = container.failure();
            assert_eq!(
                error.to_string(),
                "chdir to cwd (\"/etc/passwd\") set in config.json failed: not a directory"
            );
            for number in 0..30 {
                container
                    .process()
                    .set_cwd(format!("/proc/self/fd/{number}").into());
                container.request.user = None;
                match container.start() {
                    Err(error) => {
                        assert_eq!(error.kind(), Some(ReportKind::WorkingDirectory), "{error}")
                    }
                    Ok(running) => panic!("{number}: {:?}", running.finish()),
                }
            }
        },
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_the_image_cannot_reach_rboxs_own_file() {
    in_lab("privileged_the_image_cannot_reach_rboxs_own_file", || {
        let container = TestContainer::new(&["/bin/self"]);
        let path = container.image("bin/self");
        fs::write(&path, "#!/proc/self/exe\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        // The trampoline does not know these arguments.
        assert_eq!(container.run().exit, Exit::Code(121));
        let container = TestContainer::new(&["/proc/self/exe", "a", "b", "c", "d", "e"]);
        assert_eq!(container.run().exit, Exit::Code(121));
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_init_forwards_and_reaps() {
    in_lab("privileged_init_forwards_and_reaps", || {
        let script = "trap 'echo got; exit 5' TERM; (sleep 0.1 &) ; cat /proc/1/cmdline | tr '\\0' ' '; \
                      echo; printf \"ready\\n\"; while true; do sleep 0.1; done";
        let mut container = TestContainer::shell(script);
        container.request.init = true;
        let mut running = container.start().unwrap();
        running.wait_for("ready\n");
        assert!(
            running
                .exec_output("readlink /proc/1/exe")
                .contains("/docker-init")
        );
        sys::process::send_signal(running.child.pidfd(), 15).unwrap();
        let output = running.finish();
        assert_eq!(output.exit, Exit::Code(5));
        assert_eq!(output.out, "got\n", "after the line that was waited for");
        let mut container = TestContainer::shell("kill -9 $$");
        container.request.init = true;
        assert_eq!(container.run().exit, Exit::Code(137));
        let mut container = TestContainer::new(&["nosuchcmd"]);
        container.request.init = true;
        assert_eq!(container.failure().exit_code(), 127);
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_limits_hold_or_say_why() {
    in_lab("privileged_limits_hold_or_say_why", || {
        let limit = |soft, hard| {
            PosixRlimitBuilder::default()
                .typ(PosixRlimitType::RlimitNofile)
                .soft(soft)
                .hard(hard)
                .build()
                .unwrap()
        };
        let mut container = TestContainer::shell("ulimit -n; ulimit -Hn");
        container
            .process()
            .set_rlimits(Some(vec![limit(100u64, 200u64)]));
        assert_eq!(container.output(), "100\n200\n");
        container
            .process()
            .set_rlimits(Some(vec![limit(1u64 << 40, 1u64 << 40)]));
        let error = container.failure();
        // Beyond the kernel's own ceiling nobody gets.
        assert_eq!(error.kind(), Some(ReportKind::Limit), "{error}");
        assert!(error.to_string().contains("nofile"), "{error}");
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_many_layers_with_long_paths() {
    in_lab("privileged_many_layers_with_long_paths", || {
        let mut container = TestContainer::shell("cat /layers/* | wc -l; cat /top");
        let long = "x".repeat(200);
        let Root::Overlay(overlay) = container.request.root.clone() else {
            panic!("not an overlay");
        };
        let mut overlay = overlay;
        for number in 0..200 {
            let layer = container
                .directory
                .path()
                .join(&long)
                .join(&long)
                .join(number.to_string());
            fs::create_dir_all(layer.join("layers")).unwrap();
            fs::write(layer.join("layers").join(number.to_string()), "line\n").unwrap();
            fs::write(layer.join("top"), format!("{number}\n")).unwrap();
            overlay.lowers.insert(0, layer);
        }
        container.request.root = Root::Overlay(overlay);
        assert_eq!(container.output(), "200\n199\n");
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_read_only_root_is() {
    in_lab("privileged_a_read_only_root_is", || {
        let mut container = TestContainer::shell("touch /x 2>&1; touch /dev/shm/y && echo shm");
        let mut root = oci_spec::runtime::Root::default();
        root.set_readonly(Some(true));
        container.spec().set_root(Some(root));
        assert_eq!(
            container.output(),
            "touch: /x: Read-only file system\nshm\n"
        );
    });
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_profile_is_obeyed_with_no_new_privileges() {
    in_lab(
        "privileged_a_profile_is_obeyed_with_no_new_privileges",
        || {
            let json = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
            {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":71}]}"#;
            let profile = runtime::seccomp::Profile::parse(json).unwrap();
            let facts = runtime::Facts::read().unwrap();
            let filter =
                runtime::seccomp::select(&profile, container::default_caps(), &facts).unwrap();
            for privileges in [true, false] {
                let mut container =
                    TestContainer::shell("mkdir /x 2>&1; grep NoNew /proc/self/status");
                container.request.filter = Some(filter.clone());
                container.process().set_no_new_privileges(Some(privileges));
                let expected = format!(
                    "mkdir: can't create directory '/x': Protocol error\nNoNewPrivs:\t{}\n",
                    u8::from(privileges)
                );
                assert_eq!(container.output(), expected);
            }
            let _ = strings(&[]);
        },
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_a_volatile_root_starts_again() {
    in_lab("privileged_a_volatile_root_starts_again", || {
        let mut container = TestContainer::shell("cat /kept 2>/dev/null; echo line >> /kept");
        if let Root::Overlay(overlay) = &mut container.request.root {
            overlay.options.push("volatile".to_owned());
        }
        assert_eq!(container.output(), "");
        assert_eq!(container.output(), "line\n");
    });
}

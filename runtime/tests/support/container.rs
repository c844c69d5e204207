//! A container of a test: a busybox root, a specification that can be changed, and its end.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Mount, MountBuilder, Process, Spec};
use plan::{Faults, Run};
use runtime::cgroup::Cgroup;
use runtime::{
    Child, ExecRequest, Facts, Host, Plan, Request, Root, StartError, Started, Stdio, UserRequest,
};
use sys::caps::CapSet;
use sys::mount::Overlay;
use sys::process::Exit;

const APPLETS: &str = "sh true false ls cat id mount ps env hostname sleep echo stat grep wc dd find \
    readlink kill touch mknod mkdir rm ln pwd tty stty test trap head sync setsid umount chroot nc \
    printf seq sort tr od unshare";

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    pub out: String,
    pub err: String,
    pub exit: Exit,
}

pub struct TestContainer {
    pub directory: tempfile::TempDir,
    pub request: Request,
    pub faults: Faults,
}

/// A container that runs; it ends with this value.
pub struct Running {
    pub plan: Plan,
    pub child: Child,
    pub started: Started,
    pub out: OwnedFd,
    pub err: OwnedFd,
}

pub fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub fn default_caps() -> CapSet {
    crate::support::CAPABILITIES
        .iter()
        .map(|name| name.parse().unwrap())
        .collect()
}

impl TestContainer {
    /// A container that runs these arguments.
    pub fn new(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        for name in [
            "bin", "etc", "proc", "sys", "dev", "tmp", "root", "sbin", "srv",
        ] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        for name in ["upper", "work"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("the Debian package busybox-static is missing");
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for name in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/srv:/bin/sh\n";
        fs::write(root.join("etc/passwd"), passwd).unwrap();
        fs::write(
            root.join("etc/group"),
            "root:x:0:\nweb:x:34:\nlog:x:40:web\n",
        )
        .unwrap();
        let id = directory.path().file_name().unwrap().to_str().unwrap();
        let id = format!("test-{}{id}", std::process::id());
        let request = Request {
            spec: crate::support::spec(&id, strings(arguments)).unwrap(),
            root: Root::Overlay(Overlay {
                lowers: vec![root],
                upper: Some(directory.path().join("upper")),
                work: Some(directory.path().join("work")),
                options: Vec::new(),
            }),
            user: None,
            filter: Some(runtime::seccomp::default_profile(default_caps())),
            init: false,
        };
        Self {
            directory,
            request,
            faults: Faults::none(),
        }
    }

    /// The same with a shell command.
    pub fn shell(command: &str) -> Self {
        Self::new(&["/bin/sh", "-c", command])
    }

    /// A path of the image.
    pub fn image(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path)
    }

    pub fn process(&mut self) -> &mut Process {
        let process: &mut Option<Process> = self.request.spec.process_mut();
        process.as_mut().unwrap()
    }

    pub fn linux(&mut self) -> &mut Linux {
        let linux: &mut Option<Linux> = self.request.spec.linux_mut();
        linux.as_mut().unwrap()
    }

    pub fn spec(&mut self) -> &mut Spec {
        &mut self.request.spec
    }

    pub fn user(&mut self, user: &str) {
        self.request.user = Some(UserRequest {
            user: user.to_owned(),
            groups: Vec::new(),
        });
    }

    pub fn bind(&mut self, source: &Path, target: &str, options: &[&str]) {
        let mount = MountBuilder::default()
            .destination(target)
            .source(source)
            .typ("bind")
            .options(strings(options))
            .build()
            .unwrap();
        let mounts: &mut Option<Vec<Mount>> = self.request.spec.mounts_mut();
        mounts.get_or_insert_default().push(mount);
    }

    pub fn plan(&self) -> Plan {
        runtime::plan(&self.request, &Facts::read().unwrap()).unwrap()
    }

    /// Starts it with pipes for output; nothing is left behind when it does not start.
    pub fn start(&self) -> Result<Running, StartError> {
        let (out, out_end) = pipe();
        let (err, err_end) = pipe();
        let stdio = Stdio::Descriptors {
            stdin: None,
            stdout: Some(out_end),
            stderr: Some(err_end),
        };
        self.start_with(stdio, out, err)
    }

    pub fn start_with(
        &self,
        stdio: Stdio,
        out: OwnedFd,
        err: OwnedFd,
    ) -> Result<Running, StartError> {
        let plan = self.plan();
        let mut run = Run::new(self.faults.clone(), false);
        run.apply(&plan.host, &mut Host::default()).unwrap();
        let mut child = runtime::spawn(&plan, &stdio, &self.faults).unwrap();
        drop(stdio);
        // A child that failed already is told nothing and asked why below.
        let _ = child.release_network_ready();
        match child.wait_exec() {
            Ok(started) => Ok(Running {
                plan,
                child,
                started,
                out,
                err,
            }),
            Err(error) => {
                sys::process::wait_pidfd(child.pidfd(), true).unwrap();
                end(&plan);
                Err(error)
            }
        }
    }

    /// Runs it to its end.
    pub fn run(&self) -> Output {
        self.start().unwrap().finish()
    }

    /// Runs it and gives what it printed; it must end well.
    pub fn output(&self) -> String {
        let output = self.run();
        assert_eq!(output.exit, Exit::Code(0), "{output:?}");
        assert_eq!(output.err, "");
        output.out
    }

    /// Why it does not start.
    pub fn failure(&self) -> StartError {
        match self.start() {
            Ok(running) => panic!("it started: {:?}", running.finish()),
            Err(error) => error,
        }
    }
}

fn end(plan: &Plan) {
    let errors = plan::undo_all(&plan.host, &mut Host::default());
    assert!(errors.is_empty(), "{errors:?}");
    for group in plan.cgroup.iter().flat_map(Cgroup::groups) {
        assert!(!group.path.exists(), "{:?} is left", group.path);
    }
}

impl Running {
    pub fn finish(self) -> Output {
        let exit = sys::process::wait_pidfd(self.child.pidfd(), true)
            .unwrap()
            .unwrap();
        end(&self.plan);
        Output {
            out: read(self.out),
            err: read(self.err),
            exit,
        }
    }

    pub fn cgroup(&self) -> &Cgroup {
        self.plan.cgroup.as_ref().unwrap()
    }

    /// Waits for a line of its output.
    pub fn wait_for(&mut self, word: &str) {
        let mut seen = Vec::new();
        let mut byte = [0u8; 1];
        while !String::from_utf8_lossy(&seen).contains(word) {
            let count = sys_read(&self.out, &mut byte);
            assert!(
                count > 0,
                "it ended after {:?}",
                String::from_utf8_lossy(&seen)
            );
            seen.push(byte[0]);
        }
    }

    /// Runs one more process in it.
    pub fn exec(
        &self,
        arguments: &[&str],
        change: impl FnOnce(&mut ExecRequest),
    ) -> Result<Output, StartError> {
        let mut process = crate::support::spec("exec", strings(arguments))
            .unwrap()
            .process()
            .clone()
            .unwrap();
        process.set_terminal(Some(false));
        let mut request = ExecRequest {
            init: self.child.pid(),
            process,
            user: None,
            filter: Some(runtime::seccomp::default_profile(default_caps())),
        };
        change(&mut request);
        let plan = runtime::plan_exec(&request, self.cgroup().clone(), &Facts::read().unwrap());
        let (out, out_end) = pipe();
        let (err, err_end) = pipe();
        let stdio = Stdio::Descriptors {
            stdin: None,
            stdout: Some(out_end),
            stderr: Some(err_end),
        };
        let mut child = runtime::spawn_exec(&plan.unwrap(), &stdio, &Faults::none()).unwrap();
        drop(stdio);
        let _ = child.release_network_ready();
        let started = child.wait_exec();
        sys::process::wait_pidfd(child.pidfd(), true).unwrap();
        let started = started?;
        assert_ne!(started.pid, child.pid());
        let process = sys::process::pidfd_open(started.pid).unwrap();
        let exit = sys::process::wait_pidfd(process.as_fd(), true)
            .unwrap()
            .unwrap();
        Ok(Output {
            out: read(out),
            err: read(err),
            exit,
        })
    }

    pub fn exec_output(&self, command: &str) -> String {
        let output = self.exec(&["/bin/sh", "-c", command], |_| {}).unwrap();
        assert_eq!(output.exit, Exit::Code(0), "{output:?}");
        output.out
    }
}

pub fn pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    (reader.into(), writer.into())
}

fn sys_read(file: &OwnedFd, buffer: &mut [u8]) -> usize {
    fs::File::from(file.try_clone().unwrap())
        .read(buffer)
        .unwrap()
}

fn read(end: OwnedFd) -> String {
    let mut text = String::new();
    fs::File::from(end).read_to_string(&mut text).unwrap();
    text
}

//! A union whose server runs in the foreground, so that a test can look into it and end it.

use std::path::{Path, PathBuf};

use lab::{Lab, Running, rings, until};
use rustix::fs::statfs;
use rustix::mount::{UnmountFlags, unmount};

const FUSE: u64 = 0x6573_5546;

/// A union at `m` of a directory, and its server.
pub(crate) struct Served<'a> {
    lab: &'a Lab,
    mount: PathBuf,
    server: Running,
}

impl<'a> Served<'a> {
    /// Mounts; relative branches are those of the directory.
    #[track_caller]
    pub(crate) fn new(lab: &'a Lab, directory: &Path, options: &str) -> Self {
        let transport = std::env::var(rings::TRANSPORT).unwrap_or_default();
        let start = |options: &str| {
            let words = ["union", "mount", "-f", "-o", options, "m"];
            let mut served = Self {
                lab,
                mount: directory.join("m"),
                server: lab.rbox(words).directory(directory).spawn(),
            };
            served.wait();
            served
        };
        match transport.as_str() {
            "" => start(options),
            _ if options.contains("recover") => start(options), // it has one transport only
            "ring" => rings::switched(true, || start(&format!("{options},transport=ring"))),
            other => start(&format!("{options},transport={other}")),
        }
    }

    #[track_caller]
    fn wait(&mut self) {
        let up = until(std::time::Duration::from_secs(30), || {
            let ended = self.server.ended();
            let mount = &self.mount;
            let is = self.lab.enter(|| statfs(mount)).map(|stat| stat.f_type);
            let up = is.is_ok_and(|kind| kind.cast_unsigned() == FUSE);
            (up || ended.is_some()).then_some(up)
        });
        if up != Some(true) {
            panic!(
                "{} is not mounted: {}",
                self.mount.display(),
                self.server.complaints()
            );
        }
    }

    /// The server's process.
    pub(crate) fn server(&self) -> i32 {
        self.server.pid()
    }

    /// The server's process where the union was mounted with `recover`: the child of its holder.
    #[track_caller]
    pub(crate) fn held_server(&self) -> i32 {
        let holder = self.server.pid();
        let children = format!("/proc/{holder}/task/{holder}/children");
        let children = std::fs::read_to_string(children).unwrap();
        children.trim().parse().unwrap()
    }

    /// Kills a server that another one takes over from.
    #[track_caller]
    pub(crate) fn kill_held(&self) {
        let server = nix::unistd::Pid::from_raw(self.held_server());
        nix::sys::signal::kill(server, nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    /// Does something with the mounted union.
    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce(&Path) -> T + Send) -> T {
        let mount = &self.mount;
        self.lab.enter(|| work(mount))
    }

    /// Asks the server something that the kernel cannot answer.
    pub(crate) fn ask(&self) {
        let _ = self.enter(|mount| statfs(mount));
    }

    /// Waits for the end of a server that was killed; its dead mount stays.
    #[track_caller]
    pub(crate) fn end(self) {
        let output = self.server.finish();
        assert!(output.signal().is_some(), "{}", output.errors());
    }

    /// Kills the server; its dead mount stays.
    pub(crate) fn kill(self) {
        self.server.signal(nix::sys::signal::Signal::SIGKILL);
        self.end();
    }

    /// Unmounts; the server must end well.
    #[track_caller]
    pub(crate) fn unmount(self) {
        let mount = &self.mount;
        self.lab
            .enter(|| unmount(mount, UnmountFlags::DETACH))
            .unwrap();
        self.server.finish().success();
    }
}

//! A lab with a union in it, for the tests of unions.
#![allow(dead_code, reason = "not every file of tests needs all of it")]

use std::path::Path;

use lab::{Lab, rings};

pub(crate) mod prepare;
pub(crate) mod served;
pub(crate) mod view;

/// A lab with the directories `a`, `b`, `c` to be branches and `m` to be the mount point.
pub(crate) struct Union {
    /// The host.
    pub(crate) lab: Lab,
}

impl Union {
    /// Runs `prepare` among the directories, then mounts.
    #[track_caller]
    pub(crate) fn new(prepare: &str, options: &str) -> Self {
        let union = Self { lab: Lab::new() };
        union.sh("mkdir a b c m");
        union.sh(prepare);
        union.mount(options);
        union
    }

    #[track_caller]
    pub(crate) fn mount(&self, options: &str) {
        mount(&self.lab, options);
    }

    /// Unmounts, waits for the server's end, and mounts anew, perhaps with other branches.
    #[track_caller]
    pub(crate) fn again(&self, options: &str) {
        self.sh("umount m");
        lab::eventually("the server is gone", || {
            self.sh("pgrep -c rbox || :") == "0"
        });
        self.mount(options);
    }

    pub(crate) fn rbox(&self, words: &[&str]) -> lab::Cmd {
        self.lab
            .rbox(["union"])
            .args(words)
            .directory(self.lab.directory())
    }

    /// A script among the directories; it must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let place = self.lab.directory().display();
        self.lab.sh(&format!("cd {place}\n{script}"))
    }

    pub(crate) fn enter<T: Send>(&self, work: impl FnOnce(&Path) -> T + Send) -> T {
        self.lab.enter(|| work(self.lab.directory()))
    }

    /// What the union says of itself.
    pub(crate) fn status(&self) -> serde_json::Value {
        status(&self.lab)
    }
}

fn status(lab: &Lab) -> serde_json::Value {
    let ls = lab.rbox(["union", "ls", "--json", "m"]);
    let value = ls.directory(lab.directory()).run().success().json();
    value["status"].clone()
}

/// Mounts a union at `m` of a lab's directory; it talks with the kernel as `LAB_UNION_TRANSPORT` says.
#[track_caller]
pub(crate) fn mount(lab: &Lab, options: &str) {
    let transport = std::env::var(rings::TRANSPORT).unwrap_or_default();
    let run = |options: &str| {
        let mount = lab.rbox(["union", "mount", "-o", options, "m"]);
        mount.directory(lab.directory()).run().success();
    };
    match transport.as_str() {
        "" => run(options),
        _ if options.contains("recover") => run(options), // it has one transport only
        "ring" => {
            rings::switched(true, || run(&format!("{options},transport=ring")));
            let status = status(lab);
            assert!(status["ring_requests"].as_u64() > Some(0), "{status}");
        }
        other => run(&format!("{options},transport={other}")),
    }
}

//! A lab with a union in it, for the tests of unions.

use std::path::Path;

use lab::Lab;

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
        self.rbox(&["mount", "-o", options, "m"]).run().success();
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
        let value = self.rbox(&["ls", "--json", "m"]).run().success().json();
        value["status"].clone()
    }
}

//! The other engines: how each is made to run the same root file system, and where.

use anyhow::{Context, Result};
use lab::Lab;
use serde_json::{Value, json};

use crate::packages::in_path;
use crate::stopwatch::{Stopwatch, UNIFIED};

/// Where a contestant runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ground {
    /// In the bench's lab.
    Lab,
    /// There, but shown version 1 of cgroups alone where the host is a hybrid.
    Version1,
    /// In a lab with a daemon of Docker: its chains would make rbox take the iptables hand.
    Docker,
}

/// The labs and the stopwatches in them.
pub(crate) struct Grounds<'a> {
    lab: &'a Lab,
    watch: &'a mut Stopwatch,
    /// Only on a hybrid host.
    version1: Option<Stopwatch>,
    docker: Option<(Lab, Stopwatch)>,
}

impl Grounds<'_> {
    /// Measures in the right place.
    pub(crate) fn watch(&mut self, ground: Ground) -> &mut Stopwatch {
        match (ground, &mut self.version1, &mut self.docker) {
            (Ground::Version1, Some(watch), _) | (Ground::Docker, _, Some((_, watch))) => watch,
            _ => self.watch,
        }
    }

    /// Milliseconds of processor time that has been used there; not a number where nobody counts.
    pub(crate) fn used(&self, ground: Ground) -> f64 {
        let lab = match (ground, &self.docker) {
            (Ground::Docker, Some((lab, _))) => lab,
            _ => self.lab,
        };
        let time = lab.cgroup().processor_time();
        time.map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
    }

    /// Whether [`Ground::Version1`] is another place than [`Ground::Lab`].
    pub(crate) fn hybrid(&self) -> bool {
        self.version1.is_some()
    }
}

/// One way to run a container: a name and the words of the command.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) words: Vec<String>,
    pub(crate) ground: Ground,
}

pub(crate) fn contestant(name: &str, line: &str) -> Contestant {
    Contestant {
        name: name.to_owned(),
        words: line.split(' ').map(str::to_owned).collect(),
        ground: Ground::Lab,
    }
}

impl Contestant {
    /// The same elsewhere.
    pub(crate) fn on(mut self, ground: Ground) -> Self {
        self.ground = ground;
        self
    }
}

/// The first contestant: what all others are compared with.
pub(crate) const REFERENCE: &str = "crun run";

/// All engines that are installed, `crun` first.
pub(crate) fn all<'a>(
    lab: &'a Lab,
    watch: &'a mut Stopwatch,
) -> Result<(Vec<Contestant>, Grounds<'a>)> {
    let tree = lab.directory().join("bundle/rootfs");
    lab::fixture::busybox_tree(&tree);
    let bundle = lab.directory().join("bundle").display().to_string();
    bundle_config(lab).context("the bundle of crun and runc")?;
    let mut all = Vec::new();
    for engine in ["crun", "runc"] {
        if in_path(engine) {
            let line = format!("{engine} --root /run/{engine} run --bundle {bundle} bench");
            // crun refuses to run where both versions of cgroups are mounted.
            all.push(contestant(&format!("{engine} run"), &line).on(Ground::Version1));
        }
    }
    let hybrid = !lab
        .sh(&format!("ls -d {UNIFIED} 2> /dev/null || :"))
        .is_empty();
    let mut grounds = Grounds {
        lab,
        watch,
        version1: hybrid
            .then(|| Stopwatch::without_unified(lab))
            .transpose()?,
        docker: None,
    };
    if in_path("dockerd") && in_path("docker") {
        let lab = Lab::new();
        match docker(&lab) {
            Ok(more) => {
                all.extend(more.into_iter().map(|one| one.on(Ground::Docker)));
                let watch = Stopwatch::new(&lab)?;
                grounds.docker = Some((lab, watch));
            }
            Err(why) => println!("docker is left out: {why:#}"),
        }
    }
    if in_path("podman") {
        match podman(lab) {
            Ok(more) => all.extend(more),
            Err(why) => println!("podman is left out: {why:#}"),
        }
    }
    Ok((all, grounds))
}

/// The configuration that `runc spec` writes, with `true` as its program and no terminal.
fn bundle_config(lab: &Lab) -> Result<()> {
    let path = lab.directory().join("bundle/config.json");
    let tool = if in_path("runc") { "runc" } else { "crun" };
    lab.sh(&format!("cd bundle && {tool} spec"));
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/true"]);
    config["root"]["readonly"] = json!(false);
    std::fs::write(&path, config.to_string())?;
    Ok(())
}

/// A daemon of Docker that lives in the lab and ends with it.
fn docker(lab: &Lab) -> Result<Vec<Contestant>> {
    let archive = lab::fixture::busybox_tar();
    lab::reference::dockerd(lab).map_err(anyhow::Error::msg)?;
    lab.command("docker")
        .args(["import", &archive.display().to_string(), "busybox"])
        .run()
        .success();
    Ok(vec![
        contestant(
            "docker run --network none",
            "docker run --rm --network none busybox true",
        ),
        contestant("docker run", "docker run --rm busybox true"),
        contestant("docker run -p", "docker run --rm -p 8090:80 busybox true"),
    ])
}

fn podman(lab: &Lab) -> Result<Vec<Contestant>> {
    let archive = lab::fixture::busybox_tar();
    let output = lab
        .command("podman")
        .args([
            "import",
            "--quiet",
            &archive.display().to_string(),
            "busybox",
        ])
        .run();
    anyhow::ensure!(output.status.success(), "{}", output.errors());
    Ok(vec![
        contestant(
            "podman run --network none",
            "podman run --rm --network none busybox true",
        ),
        contestant("podman run", "podman run --rm busybox true"),
        contestant("podman run -p", "podman run --rm -p 8091:80 busybox true"),
    ])
}

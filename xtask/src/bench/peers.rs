//! The other engines: how each is made to run the same root file system.

use anyhow::{Context, Result};
use lab::Lab;
use serde_json::{Value, json};

use crate::packages::in_path;

/// One way to run a container: a name and the words of the command.
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) words: Vec<String>,
}

pub(crate) fn contestant(name: &str, line: &str) -> Contestant {
    Contestant {
        name: name.to_owned(),
        words: line.split(' ').map(str::to_owned).collect(),
    }
}

/// The first contestant: what all others are compared with.
pub(crate) const REFERENCE: &str = "crun run";

/// All engines that are installed, `crun` first.
pub(crate) fn all(lab: &Lab) -> Result<Vec<Contestant>> {
    // crun refuses to run where both versions of cgroups are mounted.
    lab.sh("umount /sys/fs/cgroup/unified 2> /dev/null || :");
    let tree = lab.directory().join("bundle/rootfs");
    lab::fixture::busybox_tree(&tree);
    let bundle = lab.directory().join("bundle").display().to_string();
    bundle_config(lab).context("the bundle of crun and runc")?;
    let mut all = Vec::new();
    for engine in ["crun", "runc"] {
        if in_path(engine) {
            let line = format!("{engine} --root /run/{engine} run --bundle {bundle} bench");
            all.push(contestant(&format!("{engine} run"), &line));
        }
    }
    if in_path("dockerd") && in_path("docker") {
        match docker(lab) {
            Ok(more) => all.extend(more),
            Err(why) => println!("docker is left out: {why:#}"),
        }
    }
    if in_path("podman") {
        match podman(lab) {
            Ok(more) => all.extend(more),
            Err(why) => println!("podman is left out: {why:#}"),
        }
    }
    Ok(all)
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

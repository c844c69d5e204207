//! `rbox info`: what there is and what it runs on.

use std::io::{self, Write as _};

use clap::Args;
use engine::Engine;
use engine::store::Status;
use serde_json::{Value, json};

use crate::app::{Count, Leaf, Verb};
use crate::command::{FORMAT_OBJECT, version};
use crate::context::Context;
use crate::error::Result;
use crate::output::{document, size};

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<InfoArgs>(
    "[OPTIONS]",
    "Display system-wide information",
    &["system info", "info"],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    #[arg(short, long, value_name = "string", help = FORMAT_OBJECT)]
    format: Option<String>,
}

impl Verb for InfoArgs {
    fn run(self, context: &Context, _plain: Vec<String>) -> Result<()> {
        let info = gather(&context.engine()?)?;
        let mut out = io::stdout().lock();
        match self.format.as_deref().filter(|format| !format.is_empty()) {
            Some(format) => writeln!(out, "{}", document::format(&info, format, 64)?)?,
            None => out.write_all(plain(&info).as_bytes())?,
        }
        Ok(())
    }
}

fn gather(engine: &Engine) -> Result<Value> {
    let (mut running, mut paused, mut stopped) = (0, 0, 0);
    let containers = engine.store().load_all()?;
    for container in &containers {
        match container.status()?.0 {
            Status::Paused => paused += 1,
            status if status.is_running() => running += 1,
            _ => stopped += 1,
        }
    }
    let options = engine.options();
    Ok(json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": engine.images().ids()?.len(),
        "Driver": "overlay",
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": cgroup_version(),
        "KernelVersion": version::kernel(),
        "OperatingSystem": operating_system(),
        "OSType": "linux",
        "Architecture": std::env::consts::ARCH,
        "NCPU": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "MemTotal": memory(),
        "DockerRootDir": options.root,
        "StateDir": options.state,
        "Name": host_name(),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
        "DefaultRuntime": "rbox",
        "BridgeName": options.bridge,
    }))
}

fn plain(info: &Value) -> String {
    let text = |key: &str| match &info[key] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let memory = size::binary(info["MemTotal"].as_u64().unwrap_or(0));
    format!(
        "Containers: {}\n Running: {}\n Paused: {}\n Stopped: {}\nImages: {}\nServer Version: {} (rbox, no daemon)\nStorage Driver: {}\nLogging Driver: {}\nCgroup Driver: {}\nCgroup Version: {}\nDefault Runtime: {}\nDefault Bridge: {}\nKernel Version: {}\nOperating System: {}\nOSType: {}\nArchitecture: {}\nCPUs: {}\nTotal Memory: {memory}\nName: {}\nRoot Dir: {}\nState Dir: {}\n",
        text("Containers"),
        text("ContainersRunning"),
        text("ContainersPaused"),
        text("ContainersStopped"),
        text("Images"),
        text("ServerVersion"),
        text("Driver"),
        text("LoggingDriver"),
        text("CgroupDriver"),
        text("CgroupVersion"),
        text("DefaultRuntime"),
        text("BridgeName"),
        text("KernelVersion"),
        text("OperatingSystem"),
        text("OSType"),
        text("Architecture"),
        text("NCPU"),
        text("Name"),
        text("DockerRootDir"),
        text("StateDir"),
    )
}

/// `2` where the one hierarchy has all controllers, else `1`.
fn cgroup_version() -> &'static str {
    if std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        "2"
    } else {
        "1"
    }
}

fn operating_system() -> String {
    let text = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .unwrap_or_default()
}

fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches(" kB")
                .trim()
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0)
        * 1024
}

fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .unwrap_or_default()
}

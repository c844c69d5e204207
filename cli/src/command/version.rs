//! `rbox version`.

use std::io::{self, Write as _};

use clap::Args;
use serde_json::{Value, json};

use crate::app::{Count, Leaf, Verb};
use crate::command::FORMAT_OBJECT;
use crate::context::Context;
use crate::error::Result;
use crate::output::document;

/// The version of Docker's interface whose behaviour rbox follows.
const API: &str = "1.41";

/// The command.
pub(crate) static LEAF: Leaf = Leaf::new::<VersionArgs>(
    "[OPTIONS]",
    "Show the rbox version information",
    &[],
    Count::None,
);

/// Its flags.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    #[arg(short, long, value_name = "string", help = FORMAT_OBJECT)]
    format: Option<String>,
}

impl Verb for VersionArgs {
    fn run(self, _context: &Context, _plain: Vec<String>) -> Result<()> {
        let version = version();
        let mut out = io::stdout().lock();
        if let Some(format) = self.format.as_deref().filter(|format| !format.is_empty()) {
            let text = document::format(&version, format, 64)?;
            writeln!(out, "{text}")?;
            return Ok(());
        }
        let server = &version["Server"];
        writeln!(
            out,
            "rbox:\n Version:           {}\n API version:       {API} (Docker's, without a socket)\n OS/Arch:           {}/{}\n Kernel version:    {}",
            text(&server["Version"]),
            text(&server["Os"]),
            text(&server["Arch"]),
            text(&server["KernelVersion"]),
        )?;
        Ok(())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Docker's name for this processor.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The kernel's release.
pub(crate) fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|release| release.trim().to_owned())
        .unwrap_or_default()
}

/// Command and engine are one program: both halves say the same.
fn version() -> Value {
    let half = json!({
        "Platform": {"Name": "rbox"},
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API,
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel(),
    });
    json!({"Client": half, "Server": half})
}

/// `rbox --version`.
pub(crate) fn print_short() -> Result<()> {
    writeln!(io::stdout(), "rbox version {}", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}

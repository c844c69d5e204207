//! Building with cargo, and where the results lie.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The top of the source tree.
pub(crate) fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned)
}

/// The cargo that runs us.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(top());
    // What cargo told us about this program would confuse the next cargo.
    for (key, _) in std::env::vars_os() {
        let name = key.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(key);
        }
    }
    command
}

/// Where programs of a profile lie (`debug`, `dist`).
pub(crate) fn directory(profile: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from);
    target.join("x86_64-unknown-linux-gnu").join(profile)
}

/// Builds one package's program in a profile (`dev`, `dist`) and returns where it is.
pub(crate) fn program(package: &str, name: &str, profile: &str) -> Result<PathBuf> {
    let status = cargo()
        .args([
            "build",
            "--quiet",
            "--package",
            package,
            "--profile",
            profile,
        ])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("{package} does not build");
    }
    let folder = if profile == "dev" { "debug" } else { profile };
    let path = directory(folder).join(name);
    if !path.is_file() {
        bail!("{} was not built", path.display());
    }
    Ok(path)
}

//! Running the examples: each is a script that does what its README says, in a lab of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::command::Output;
use crate::fixture::cache;
use crate::lab::Lab;
use crate::outside::Outside;

/// What the examples' root file system is made of: one for all of them.
const PACKAGES: &str =
    "erlang-base,redis-server,haproxy,etcd-server,etcd-client,iputils-ping,curl,nodejs";

const SUITE: &str = "bookworm";

/// Where the examples are.
pub fn directory() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    path.canonicalize().unwrap_or(path)
}

/// The names of all examples.
///
/// # Panics
/// When their directory cannot be read.
pub fn all() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory())
        .expect("the examples are part of the source")
        .flatten()
        .filter(|entry| entry.path().join("run").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Runs one example in a new lab, with a second host beside it.
///
/// # Panics
/// When the lab or the image cannot be made.
pub fn run(name: &str) -> Output {
    let script = directory().join(name).join("run");
    // Read the script: only those that ask for the root file system wait for it.
    let text = std::fs::read_to_string(&script)
        .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
    let lab = Lab::new();
    let outside = Outside::new(&lab);
    let server = crate::lab::rbox_binary().with_file_name("echo-static");
    let programs = server.parent().unwrap_or(Path::new("/"));
    let mut command = lab
        .command("bash")
        .arg(script.display().to_string())
        .env("LAB_OUTSIDE", outside.name())
        .env("LAB_ADDRESS", outside.lab.to_string())
        .env("ECHO", server.display().to_string())
        .env("PROGRAMS", programs.display().to_string())
        .limit(Duration::from_secs(600));
    if text.contains("ROOTFS") {
        command = command.env("ROOTFS", debian_tar().display().to_string());
    }
    command.run()
}

/// The examples' root file system as a tar archive: made of Debian packages once per list.
///
/// # Panics
/// When it cannot be made.
pub fn debian_tar() -> PathBuf {
    let cache = cache();
    let list: String = Sha256::digest(format!("1 {SUITE} {PACKAGES}"))
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = cache.join(format!("debian-{list}.tar"));
    let lock = File::create(cache.join("debian.lock")).expect("the target directory is writable");
    lock.lock().expect("a lock can be waited for");
    if path.is_file() {
        return path;
    }
    let aside = path.with_extension("new");
    let options = ["man", "locale", "doc"].map(|part| {
        let path = format!("path-exclude=/usr/share/{part}/*");
        format!("--dpkgopt={path}")
    });
    let output = Command::new("unshare")
        .args([
            "--mount",
            "--propagation",
            "private",
            "mmdebstrap",
            "--quiet",
        ])
        .args(["--variant=essential", "--format=tar"])
        .arg(format!("--include={PACKAGES}"))
        .args(options)
        .arg(SUITE)
        .arg(&aside)
        .stdin(Stdio::null())
        .output()
        .expect("unshare is part of util-linux");
    assert!(
        output.status.success(),
        "mmdebstrap cannot make the examples' root file system:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::rename(&aside, &path).expect("the target directory is writable");
    path
}

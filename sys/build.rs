//! Builds the trampoline: a static program without the standard library or the C library.

// Cargo is spoken to on standard output.
#![allow(clippy::print_stdout)]

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=trampoline/main.rs");
    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let output = PathBuf::from(variable("OUT_DIR")).join("trampoline");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["trampoline/main.rs", "--crate-name", "trampoline"]);
    rustc.args(["--edition", "2024", "--target", &variable("TARGET")]);
    rustc.args([
        "-C",
        "panic=abort",
        "-C",
        "opt-level=s",
        "-C",
        "strip=symbols",
    ]);
    rustc.args(["-C", "relocation-model=static", "-C", "codegen-units=1"]);
    for argument in [
        "-nostartfiles",
        "-nostdlib",
        "-static",
        "-Wl,--build-id=none",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,norelro",
    ] {
        rustc.args(["-C", &format!("link-arg={argument}")]);
    }
    rustc.arg("-o").arg(&output);
    let status = rustc
        .status()
        .expect("the compiler that runs us can be run");
    assert!(status.success(), "the trampoline does not compile");
}

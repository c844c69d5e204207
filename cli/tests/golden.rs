//! Compares help and refusals with those that Docker's command line (28.2.2) gives.
//!
//! `golden/help/*.txt` and `golden/errors.txt` are Docker's own output, untouched. Where rbox's
//! wording must differ, the difference is listed here.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn rbox(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rbox"))
        .args(arguments)
        .env_remove("RBOX_ROOT")
        .env_remove("RBOX_STATE")
        .output()
        .unwrap()
}

/// Flags that only rbox has, each after the line of Docker's that it follows.
const OWN: [(&str, &str); 1] = [(
    "                                         anonymous volumes when it exits\n",
    "      --rootfs-union string              Use directories as one root
                                         filesystem, above the image
                                         (PATH=rw:PATH=ro[,OPTION...])\n",
)];

/// Docker's text in rbox's name.
fn ours(text: &str) -> String {
    let mut text = text.replace("docker ", "rbox ").replace("'docker", "'rbox");
    for (theirs, ours) in [
        ("docker:", "rbox:"),
        ("Show the Docker version", "Show the rbox version"),
        ("Show rbox disk", "Show rbox disk"),
        (
            "information on Docker objects",
            "information on rbox objects",
        ),
        // a slip of the pen in Docker
        ("SRun '", "Run '"),
    ] {
        text = text.replace(theirs, ours);
    }
    for (before, own) in OWN {
        text = text.replace(before, &format!("{before}{own}"));
    }
    text
}

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn every_help_is_docker_s() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/help");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in fs::read_dir(folder).unwrap() {
        let file = file.unwrap().file_name().into_string().unwrap();
        let command = file.trim_end_matches(".txt").replace('-', " ");
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let output = rbox(&arguments);
        let got = String::from_utf8(output.stdout).unwrap();
        let want = ours(&golden(&format!("help/{file}")));
        seen += 1;
        if got != want {
            wrong.push(format!("--- {command}\nwant:\n{want}\ngot:\n{got}"));
        }
    }
    assert!(seen > 0, "no golden files");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_refusal_is_docker_s() {
    let text = golden("errors.txt");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for case in text.split("\n$ ") {
        let case = case.trim_start_matches("$ ");
        let (line, rest) = case.split_once('\n').unwrap();
        let (want, code) = rest.trim_end().rsplit_once('[').unwrap();
        let code: i32 = code.trim_end_matches(']').parse().unwrap();
        let arguments: Vec<&str> = line.split(' ').skip(1).collect();
        let output = rbox(&arguments);
        let got = String::from_utf8(output.stderr).unwrap();
        // hints are ours
        let got: String = got
            .split_inclusive('\n')
            .filter(|line| !line.starts_with("hint: ") && !line.starts_with("cause: "))
            .collect();
        let want = ours(want);
        seen += 1;
        if got != want || output.status.code() != Some(code) {
            wrong.push(format!(
                "$ {line}\nwant [{code}]:\n{want}\ngot {:?}:\n{got}",
                output.status.code()
            ));
        }
    }
    assert!(seen > 5, "too few golden cases: {seen}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

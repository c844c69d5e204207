//! Independent suites over unions: pjdfstest beside the branch's own file system, and fsx while
//! branches come and go.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::Lab;

mod unions;

const PJDFSTEST: (&str, &str) = ("pjdfstest", "0.2.2");
const FSX: (&str, &str) = ("fsx", "0.3.2");

/// A program from crates.io, installed below the build directory at its first use.
fn tool((name, version): (&str, &str)) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let program = root.join("bin").join(name);
    if !program.is_file() {
        let done = Command::new(env!("CARGO"))
            .args([
                "install",
                "--quiet",
                "--locked",
                name,
                "--version",
                version,
                "--root",
            ])
            .arg(&root)
            .status()
            .unwrap();
        assert!(done.success(), "{name} {version} cannot be installed");
    }
    program.canonicalize().unwrap()
}

/// The names of the cases that fail in a directory.
fn failures(lab: &Lab, directory: &str) -> BTreeSet<String> {
    let configuration = lab.file(
        "pjdfstest.toml",
        "[features]\nposix_fallocate = {}\nutimensat = {}\nutime_now = {}\nrename_ctime = {}\n\
         [settings]\nnaptime = 0.02\nallow_remount = false\nexpected_failures = []\n\
         [dummy_auth]\nentries = [[\"nobody\", \"nogroup\"], [\"daemon\", \"daemon\"]]\n",
    );
    let second = lab.directory().join("second");
    let output = lab
        .command(tool(PJDFSTEST).to_str().unwrap())
        .args([
            "-c",
            &configuration,
            "-p",
            directory,
            "-s",
            second.to_str().unwrap(),
        ])
        .limit(Duration::from_secs(300))
        .run();
    let text = output.text();
    let summary = text.lines().find(|line| line.starts_with("Summary: "));
    let passed = summary.and_then(|line| {
        line.split(", ")
            .find_map(|part| part.strip_suffix(" passed"))
    });
    let passed: u32 = passed
        .unwrap_or_else(|| panic!("no summary: {text}"))
        .parse()
        .unwrap();
    assert!(passed > 300, "{}", summary.unwrap());
    text.lines()
        .filter_map(|line| line.strip_suffix("FAILED"))
        .map(|line| line.trim().to_owned())
        .collect()
}

/// A file system of its own with the branches, so that nothing but the union differs, and a larger
/// one for what goes by size.
fn lab_with_branches() -> Lab {
    let lab = Lab::new();
    lab.sh(&format!(
        "cd {}; mkdir second m e f; truncate -s 600M image; mkfs.ext4 -q image; mount -o loop image e
         truncate -s 900M large; mkfs.ext4 -q large; mount -o loop large f
         chmod 755 .; mkdir -p e/native e/a e/b/t e/c f/a; chmod 777 e/native e/b/t",
        lab.directory().display()
    ));
    lab
}

/// Every case that the branch's own file system passes must pass on the union, in every way to
/// serve it.
#[track_caller]
fn no_worse_than_the_branch(branches: &str) {
    let lab = lab_with_branches();
    let at = |name: &str| lab.directory().join(name).display().to_string();
    let native = failures(&lab, &at("e/native"));
    for passthrough in ["safe", "all", "off"] {
        for changes in ["reval", "notify"] {
            let options = format!("{branches},passthrough={passthrough},udba={changes}");
            unions::mount(&lab, &options);
            lab.sh(&format!("mkdir -p {0}/t; chmod 777 {0}/t", at("m")));
            let union = failures(&lab, &at("m/t"));
            lab.sh(&format!("umount {}", at("m")));
            let more: Vec<&String> = union.difference(&native).collect();
            assert!(
                more.is_empty(),
                "{options}: the branch's own file system passes {more:?}"
            );
        }
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_passes_pjdfstest_with_one_branch() {
    no_worse_than_the_branch("dirs=e/a=rw");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_passes_pjdfstest_above_a_read_only_branch() {
    no_worse_than_the_branch("dirs=e/a=rw:e/b=ro");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_passes_pjdfstest_with_three_branches_in_turn() {
    no_worse_than_the_branch("dirs=e/a=rw:e/b=rw:e/c=rw,create=rr");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_passes_pjdfstest_by_free_space() {
    no_worse_than_the_branch("dirs=e/a=rw:f/a=rw:e/b=ro,create=mfs:0");
}

/// Overlayfs takes a device 0/0 for its mark and refuses to make one: what fails there for it may fail
/// in a union of such marks, and nothing else.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_passes_pjdfstest_with_overlayfs_marks() {
    let lab = lab_with_branches();
    let at = |name: &str| lab.directory().join(name).display().to_string();
    let native = failures(&lab, &at("e/native"));
    lab.sh(&format!(
        "cd {}; mkdir -p e/u e/w; mount -t overlay none -o lowerdir=e/b,upperdir=e/u,workdir=e/w m; chmod 777 m/t",
        lab.directory().display()
    ));
    let overlay = failures(&lab, &at("m/t"));
    lab.sh(&format!("umount {}", at("m")));
    assert!(
        overlay.iter().any(|case| case.contains("char")),
        "{overlay:?}"
    );
    for options in [
        "dirs=e/a=rw:e/b=ro,passthrough=safe,udba=reval",
        "dirs=e/a=rw:e/c=rw:e/b=ro,create=rr,passthrough=all,udba=notify",
    ] {
        unions::mount(&lab, &format!("{options},whform=overlay"));
        lab.sh(&format!("mkdir -p {0}/t; chmod 777 {0}/t", at("m")));
        let union = failures(&lab, &at("m/t"));
        lab.sh(&format!("umount {}", at("m")));
        let more: Vec<&String> = union
            .iter()
            .filter(|case| !native.contains(*case) && !overlay.contains(*case))
            .collect();
        assert!(more.is_empty(), "{options}: overlayfs passes {more:?}");
    }
}

/// How long fsx goes on, with new seeds: once through unless `RBOX_FSX_SECONDS` says more.
fn fsx_time() -> Duration {
    let seconds = std::env::var("RBOX_FSX_SECONDS").ok();
    Duration::from_secs(seconds.map_or(0, |text| text.parse().unwrap()))
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_passes_fsx_while_branches_come_and_go() {
    let program = tool(FSX);
    for (mode, changes, form) in [
        ("safe", "reval", "aufs"),
        ("all", "notify", "overlay"),
        ("off", "none", "aufs"),
    ] {
        let lab = Lab::new();
        lab.sh(&format!(
            "cd {}; mkdir a b c m; head -c 100000 /dev/zero > b/low",
            lab.directory().display()
        ));
        let options = format!("dirs=a=rw:b=ro,passthrough={mode},udba={changes},whform={form}");
        let run = |words: &[&str]| {
            lab.rbox(["union"])
                .args(words)
                .directory(lab.directory())
                .run()
        };
        unions::mount(&lab, &options);
        let fsx = |file: &str, seed: u32| {
            lab.command(program.to_str().unwrap())
                .args([
                    "-q",
                    "-N",
                    "20000",
                    "-S",
                    &seed.to_string(),
                    "-P",
                    ".",
                    file,
                ])
                .directory(lab.directory())
                .limit(Duration::from_secs(300))
                .spawn()
        };
        let (start, mut seed, mut added) = (Instant::now(), 1, 0);
        loop {
            let mut runs: Vec<_> = ["m/new", "m/low", "m/third"]
                .iter()
                .zip(seed..)
                .map(|(file, seed)| fsx(file, seed))
                .collect();
            while runs.iter_mut().any(|run| run.ended().is_none()) {
                run(&["add", "m", "c=ro"]).success();
                run(&["del", "m", "c"]).success();
                added += 1;
            }
            for run in runs {
                run.finish().success();
            }
            if start.elapsed() >= fsx_time() / 3 {
                break;
            }
            lab.sh(&format!(
                "cd {}; rm m/*; rm -f a/.wh.low; find a -type c -delete",
                lab.directory().display()
            ));
            seed += 3;
        }
        assert!(added > 2, "{mode}: the branches were changed meanwhile");
        println!(
            "{options}: {} runs of fsx, {added} branches added",
            seed + 2
        );
    }
}

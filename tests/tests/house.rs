//! The rules of the house, held by tests: what every file, crate and document must look like.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All Rust files of the house, with their paths from its top.
fn sources() -> Vec<(String, String)> {
    fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    walk(&path, found);
                }
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    let top = top();
    let mut paths = Vec::new();
    walk(&top, &mut paths);
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path.strip_prefix(&top).unwrap().display().to_string();
            (name, std::fs::read_to_string(&path).unwrap())
        })
        .collect()
}

/// The files for which a rule finds something wrong must be none.
#[track_caller]
fn each_source(rule: &str, wrong: impl Fn(&str, &str) -> Option<String>) {
    let sources = sources();
    assert!(sources.len() > 30, "the sources were not found");
    let faults: Vec<String> = sources
        .iter()
        .filter_map(|(name, text)| wrong(name, text).map(|what| format!("{name}: {what}")))
        .collect();
    assert!(faults.is_empty(), "{rule}:\n{}", faults.join("\n"));
}

/// The text without comments and without the contents of strings on one line.
fn code(text: &str) -> String {
    text.lines()
        .map(|line| {
            let mut plain = String::new();
            let mut quoted = false;
            let mut characters = line.chars().peekable();
            while let Some(character) = characters.next() {
                match character {
                    '\\' if quoted => {
                        characters.next();
                    }
                    '"' => quoted = !quoted,
                    '/' if !quoted && characters.peek() == Some(&'/') => break,
                    _ if !quoted => plain.push(character),
                    _ => {}
                }
            }
            plain.push('\n');
            plain
        })
        .collect()
}

#[test]
fn every_file_says_what_it_is_for() {
    each_source("each file opens with //!", |_, text| {
        (!text.starts_with("//! ")).then(|| "has no opening sentence".to_owned())
    });
}

#[test]
fn no_file_is_longer_than_600_lines() {
    each_source("at most 600 lines", |_, text| {
        let lines = text.lines().count();
        (lines > 600).then(|| format!("{lines} lines"))
    });
}

#[test]
fn unsafe_code_is_in_sys_alone() {
    each_source("unsafe code only in sys", |name, text| {
        let code = code(text);
        let found = code
            .split(|character: char| !character.is_alphanumeric() && character != '_')
            .any(|word| word == "unsafe");
        (found && !name.starts_with("sys/")).then(|| "has unsafe code".to_owned())
    });
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = [["todo", "!"], ["unimplemented", "!"], ["dbg", "!"]].map(|parts| parts.concat());
    each_source("finish it or leave it out", |_, text| {
        let code = code(text);
        marks.iter().find(|mark| code.contains(*mark)).cloned()
    });
}

#[test]
fn privileged_tests_are_marked_and_only_they() {
    each_source(
        "privileged_* and #[ignore = \"needs root: …\"] go together",
        |name, text| {
            if name.ends_with("house.rs") {
                return None;
            }
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (number, line) in lines.iter().enumerate() {
                if !line.starts_with("fn ") {
                    continue;
                }
                let attributes: Vec<&&str> = lines[..number]
                    .iter()
                    .rev()
                    .take_while(|line| line.starts_with("#[") || line.starts_with("///"))
                    .collect();
                let test = attributes.iter().any(|line| **line == "#[test]");
                let ignored = attributes.iter().any(|line| line.starts_with("#[ignore"));
                let reason = attributes
                    .iter()
                    .any(|line| **line == "#[ignore = \"needs root: run by cargo xtask test\"]");
                let privileged = line.starts_with("fn privileged_");
                // Elsewhere the word may mean the option.
                let ours = name.starts_with("tests/");
                let misnamed = reason && !privileged || ours && test && privileged != reason;
                if misnamed || ignored != reason {
                    return Some(format!("line {}: {line}", number + 1));
                }
            }
            None
        },
    );
}

/// `cargo metadata` of the workspace alone.
fn metadata() -> serde_json::Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(top())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The arrows that docs/architecture.md draws: from a crate to those it may know.
fn drawn() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(top().join("docs/architecture.md")).unwrap();
    let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut trunk: Vec<(usize, String)> = Vec::new();
    for line in text.lines().filter(|line| line.contains("─►")) {
        let characters: Vec<char> = line.chars().collect();
        let mut words: Vec<(usize, String)> = Vec::new();
        for (column, character) in characters.iter().enumerate() {
            let letter = character.is_ascii_lowercase();
            if letter && column > 0 && characters[column - 1].is_ascii_lowercase() {
                words.last_mut().unwrap().1.push(*character);
            } else if letter {
                words.push((column, character.to_string()));
            }
        }
        match characters.iter().position(|one| matches!(one, '├' | '└')) {
            None => trunk.clone_from(&words),
            Some(branch) => {
                let from = trunk
                    .iter()
                    .find(|(column, word)| (*column..column + word.len()).contains(&branch))
                    .expect("a branch hangs below a crate")
                    .clone();
                words.insert(0, from);
            }
        }
        for pair in words.windows(2) {
            arrows
                .entry(pair[0].1.clone())
                .or_default()
                .insert(pair[1].1.clone());
        }
    }
    arrows
}

fn reachable(arrows: &BTreeMap<String, BTreeSet<String>>, from: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![from.to_owned()];
    while let Some(one) = open.pop() {
        for next in arrows.get(&one).into_iter().flatten() {
            if found.insert(next.clone()) {
                open.push(next.clone());
            }
        }
    }
    found
}

#[test]
fn arrows_between_crates_are_those_of_the_map() {
    let arrows = drawn();
    assert!(
        arrows["engine"].contains("netns"),
        "the map was not understood: {arrows:?}"
    );
    let metadata = metadata();
    let short = |name: &str| name.strip_prefix("rbox-").unwrap_or(name).to_owned();
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().unwrap() {
        let manifest = package["manifest_path"].as_str().unwrap();
        let folder = Path::new(manifest).parent().unwrap();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        // What tests and builds the house may know all of it.
        if ["tests", "xtask", "echo-static", "search-engine"].contains(&name.as_str()) {
            continue;
        }
        let allowed = reachable(&arrows, &name);
        assert!(
            name == "sys" || !allowed.is_empty(),
            "{name} is not on the map"
        );
        seen.insert(name.clone());
        for dependency in package["dependencies"].as_array().unwrap() {
            // Ours have a path; a crate's tests may use what they like.
            if dependency["path"].is_null() || dependency["kind"] == "dev" {
                continue;
            }
            let other = short(dependency["name"].as_str().unwrap());
            assert!(
                allowed.contains(&other),
                "{name} uses {other}, but docs/architecture.md draws no way from one to the other"
            );
        }
    }
    let mut drawn: BTreeSet<String> = reachable(&arrows, "cli");
    drawn.insert("cli".to_owned());
    assert_eq!(
        seen, drawn,
        "the map and the workspace name different crates"
    );
}

#[test]
fn every_test_file_is_built() {
    let metadata = metadata();
    let built: BTreeSet<PathBuf> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|package| package["targets"].as_array().unwrap())
        .filter(|target| target["kind"][0] == "test")
        .map(|target| PathBuf::from(target["src_path"].as_str().unwrap()))
        .collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|one| one == "rs") {
            assert!(built.contains(&path), "{path:?} is not built by cargo");
        }
    }
}

#[test]
fn the_changelog_keeps_its_form() {
    let text = std::fs::read_to_string(top().join("CHANGELOG.md")).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("# Changelog"));
    let kinds = [
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    ];
    let (mut release, mut kind) = (false, false);
    for line in lines {
        if let Some(title) = line.strip_prefix("## ") {
            let dated = title
                .split_once("] - ")
                .is_some_and(|(_, date)| date.len() == 10);
            assert!(
                title == "[Unreleased]" || (title.starts_with('[') && dated),
                "{line}"
            );
            (release, kind) = (true, false);
        } else if let Some(title) = line.strip_prefix("### ") {
            assert!(release && kinds.contains(&title), "{line}");
            kind = true;
        } else if line.starts_with("- ") {
            assert!(kind, "an entry without a heading: {line}");
        } else {
            let part_of_entry = line.is_empty() || line.starts_with("  ") || !release;
            assert!(part_of_entry || line.starts_with('['), "{line}");
        }
    }
    assert!(release, "no release and no [Unreleased]");
}

#[test]
fn every_example_can_be_read_and_run() {
    use std::os::unix::fs::PermissionsExt;

    let mut count = 0;
    for entry in std::fs::read_dir(top().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert!(
                path.join("README.md").is_file(),
                "{path:?} has no README.md"
            );
            let run = std::fs::metadata(path.join("run"))
                .unwrap_or_else(|_| panic!("{path:?} has no script named run"));
            assert!(
                run.permissions().mode() & 0o111 != 0,
                "{path:?}/run is not executable"
            );
            count += 1;
        }
    }
    assert!(count >= 2, "the examples were not found");
}

#[test]
fn the_program_asks_no_host_library_at_run_time() {
    let binary = lab::lab::rbox_binary();
    let output = Command::new("nm")
        .arg(&binary)
        .output()
        .expect("binutils come with the compiler");
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.lines().count() > 100,
        "{binary:?} has no symbols to look at"
    );
    let symbols: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    // A static glibc loads the host's plugins for these, which crashes where the versions differ.
    for name in [
        "getaddrinfo",
        "getpwnam_r",
        "getgrnam_r",
        "getpwuid_r",
        "openpty",
    ] {
        assert!(!symbols.contains(name), "{name} is linked into {binary:?}");
    }
}

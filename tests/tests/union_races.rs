//! A file of a lower branch that is changed by several at the same time, or after it was removed.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Barrier;

mod unions;

use unions::Union;

const ROUNDS: usize = 300;

fn files(place: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let dir = place.join("m");
    (1..=ROUNDS).map(move |round| dir.join(round.to_string()))
}

/// Appends to each of the files by opening it, and at the same moment does the other thing to it.
fn against_opens(
    other: impl Fn(&Path) + Sync,
    check: impl Fn(&Path, bool) -> Result<(), String> + Sync,
) {
    let lower = format!("for i in $(seq {ROUNDS}); do echo lower > b/$i; done");
    let union = Union::new(&lower, "dirs=a=rw:b=ro");
    let both = Barrier::new(2);
    // One that has entered the lab can start no other thread.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            union.enter(|place| {
                for file in files(place) {
                    both.wait();
                    other(&file);
                    both.wait();
                }
            });
        });
        union.enter(|place| {
            let mut wrong = Vec::new();
            for file in files(place) {
                both.wait();
                let opened = File::options().append(true).open(&file);
                let opened = opened.and_then(|mut file| file.write_all(b"more\n"));
                both.wait();
                wrong.extend(match opened {
                    Err(error) if error.kind() != ErrorKind::NotFound => Some(error.to_string()),
                    _ => check(&file, opened.is_ok()).err(),
                });
            }
            assert!(wrong.is_empty(), "{wrong:?}");
        });
    });
}

fn is_gone(file: &Path) -> Result<(), String> {
    match fs::symlink_metadata(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => Err(format!("{}: {other:?}", file.display())),
    }
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_what_is_removed_while_it_is_opened_stays_away() {
    let remove = |file: &Path| drop(fs::remove_file(file));
    against_opens(remove, |file, _| is_gone(file));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_what_is_renamed_while_it_is_opened_keeps_what_is_written() {
    let new = |file: &Path| file.with_extension("new");
    let rename = |file: &Path| drop(fs::rename(file, new(file)));
    against_opens(rename, |file, opened| {
        is_gone(file)?;
        let content = fs::read_to_string(new(file)).map_err(|error| error.to_string())?;
        let expected = if opened { "lower\nmore\n" } else { "lower\n" };
        (content == expected).then_some(()).ok_or(content)
    });
}

/// By a descriptor that was opened for reading a file is changed and even opened for writing, though
/// it lost its last name meanwhile and lies where nothing is written.
#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_a_removed_lower_file_is_changed_by_its_descriptors() {
    for passthrough in ["safe", "off"] {
        let options = format!("dirs=a=rw:b=ro,passthrough={passthrough}");
        let union = Union::new("mkdir b/d; echo lower > b/d/f", &options);
        let seen = union.sh("exec 3< m/d/f; old=$(stat -c %i m/d/f); rm -r m/d
             chmod 600 /proc/self/fd/3; echo more >> /proc/self/fd/3
             [ $(stat -L -c %i /proc/self/fd/3) = $old ] && stat -L -c '%h %a %s' /proc/self/fd/3
             cat <&3");
        assert_eq!(seen, "0 600 11\nlower\nmore", "{passthrough}");
        let left = union.sh("ls -A m; cat b/d/f; stat -c %a b/d/f; find a -type f -size +0");
        assert_eq!(left, "lower\n644", "{passthrough}");
    }
}

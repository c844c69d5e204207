//! Overlay mounts that use a directory, in whichever mount namespace, as `/proc` tells.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A directory's device and inode number.
type Key = (u64, u64);

fn key(path: &Path) -> Option<Key> {
    let about = fs::metadata(path).ok()?;
    Some((about.dev(), about.ino()))
}

/// A directory and all above it.
fn keys(path: &Path) -> Vec<Key> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    path.ancestors().filter_map(key).collect()
}

/// Where an overlay is mounted that has the directory, one in it or one above it as a layer.
pub(super) fn overlay_on(path: &Path) -> Option<PathBuf> {
    let own = keys(path);
    let is_used = |layer: &Path| {
        let Some(it) = key(layer) else { return false };
        // A layer in the directory is found by walking up from it: its path is another namespace's.
        own.contains(&it) || own.first().is_some_and(|own| above(layer).contains(own))
    };
    let mut seen = HashSet::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let process = process.path();
        let namespace = fs::read_link(process.join("ns/mnt"));
        if !namespace.is_ok_and(|namespace| seen.insert(namespace)) {
            continue;
        }
        let table = fs::read(process.join("mountinfo")).unwrap_or_default();
        let root = process.join("root");
        for line in table.split(|byte| *byte == b'\n') {
            let Some((place, layers)) = overlay(line) else {
                continue;
            };
            let within = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
            if layers.iter().any(|layer| is_used(&within(layer))) {
                return Some(place);
            }
        }
    }
    None
}

/// The directories above one that is reached by a process's root, by `..` from it.
fn above(path: &Path) -> Vec<Key> {
    let mut found: Vec<Key> = Vec::new();
    let mut here = path.to_owned();
    while let Some(next) = key(&here) {
        if found.last() == Some(&next) {
            break; // the root is its own parent
        }
        found.push(next);
        here.push("..");
    }
    found
}

/// A line of `mountinfo`: the place and the layers, if it is an overlay.
fn overlay(line: &[u8]) -> Option<(PathBuf, Vec<PathBuf>)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let place = plain(fields.nth(4)?);
    let mut fields = fields.skip_while(|field| *field != b"-").skip(1);
    if fields.next()? != b"overlay" {
        return None;
    }
    let options = plain(fields.nth(1)?);
    let mut layers = Vec::new();
    for option in split(&options, b',') {
        let Some(at) = option.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let (name, value) = (&option[..at], &option[at + 1..]);
        match name {
            b"lowerdir" => layers.extend(split(value, b':').into_iter().map(unescaped)),
            b"upperdir" | b"workdir" | b"lowerdir+" | b"datadir+" => layers.push(unescaped(value)),
            _ => {}
        }
    }
    layers.retain(|layer| layer.is_absolute());
    Some((PathBuf::from(OsStr::from_bytes(&place)), layers))
}

/// Splits where no backslash precedes.
fn split(text: &[u8], at: u8) -> Vec<&[u8]> {
    let mut parts = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (index, &byte) in text.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if byte == b'\\' {
            escaped = true;
        } else if byte == at {
            parts.push(&text[start..index]);
            start = index + 1;
        }
    }
    parts.push(&text[start..]);
    parts
}

fn unescaped(text: &[u8]) -> PathBuf {
    let mut plain = Vec::new();
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(match byte {
            b'\\' => *bytes.next().unwrap_or(&byte),
            byte => byte,
        });
    }
    PathBuf::from(OsStr::from_bytes(&plain))
}

/// Without the octal escapes of the table.
fn plain(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < field.len() {
        let digits = field.get(at + 1..at + 4).filter(|_| field[at] == b'\\');
        let code = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        out.push(code.unwrap_or(field[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_overlays() {
        for (line, expected) in [
            (
                "30 21 0:5 / /a\\040b rw shared:1 - overlay none rw,lowerdir=/l1:/l\\1342::/x,upperdir=/u,workdir=/w",
                Some("/a b /l1 /l2 /x /u /w"),
            ),
            (
                "30 21 0:5 / /m rw - overlay o ro,lowerdir+=/a,lowerdir+=/b,redirect_dir=on",
                Some("/m /a /b"),
            ),
            (
                "30 21 0:5 / /m rw - overlay o ro,lowerdir=a:/c\\134:d,uuid=null",
                Some("/m /c:d"),
            ),
            ("30 21 0:5 / /m rw - tmpfs none rw,lowerdir=/a", None),
            ("", None),
        ] {
            let found = overlay(line.as_bytes()).map(|(place, layers)| {
                let all: Vec<String> = std::iter::once(&place)
                    .chain(&layers)
                    .map(|path| path.display().to_string())
                    .collect();
                all.join(" ")
            });
            assert_eq!(found.as_deref(), expected, "{line}");
        }
    }
}

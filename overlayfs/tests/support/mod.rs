//! What the tests of layers share: archives by hand, pictures of trees, a mount namespace.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

pub(crate) mod stage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use overlayfs::tar::{Kind, Member, Writer};
use sys::fs::{Dir, Follow, Timestamp};

/// An archive that is made by hand.
pub(crate) struct Tar(Writer<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }

    pub(crate) fn member(mut self, mut member: Member, content: &[u8]) -> Self {
        if member.kind == Kind::File {
            member.size = content.len() as u64;
        }
        self.0.append(&member, content).unwrap();
        self
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.member(named(path, Kind::File), content.as_bytes())
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        let mut member = named(path, Kind::Directory);
        member.mode = 0o755;
        self.member(member, b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        let mut member = named(path, Kind::Symlink);
        member.link = target.as_bytes().to_vec();
        self.member(member, b"")
    }

    pub(crate) fn link(self, path: &str, target: &str) -> Self {
        let mut member = named(path, Kind::HardLink);
        member.link = target.as_bytes().to_vec();
        self.member(member, b"")
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

pub(crate) fn named(path: &str, kind: Kind) -> Member {
    Member {
        path: path.as_bytes().to_vec(),
        kind,
        mtime: Timestamp {
            seconds: 1_000_000_000,
            nanoseconds: 123_456_789,
        },
        ..Member::default()
    }
}

/// Everything that can be seen of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: sys::fs::Kind,
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) mtime: Timestamp,
    pub(crate) device: (u32, u32),
    pub(crate) content: Vec<u8>,
    pub(crate) xattrs: Vec<(String, Vec<u8>)>,
    /// The first name of the same file.
    pub(crate) linked: Option<PathBuf>,
}

/// A picture of everything beneath a directory, and of the directory itself under the empty name.
pub(crate) fn picture(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let top = Dir::open(root.parent().unwrap()).unwrap();
    let name = Path::new(root.file_name().unwrap());
    let mut seen = BTreeMap::new();
    let mut links: BTreeMap<(u64, u64), PathBuf> = BTreeMap::new();
    look(&top, name, Path::new(""), &mut seen, &mut links);
    // A count of names says nothing where only one of them can be seen.
    let mut firsts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for first in seen.values().filter_map(|seen| seen.linked.clone()) {
        *firsts.entry(first).or_default() += 1;
    }
    for one in seen.values_mut() {
        one.linked.take_if(|first| firsts[first] == 1);
    }
    seen
}

fn look(
    dir: &Dir,
    name: &Path,
    path: &Path,
    seen: &mut BTreeMap<PathBuf, Seen>,
    links: &mut BTreeMap<(u64, u64), PathBuf>,
) {
    let stat = dir.stat(name).unwrap();
    let content = match stat.kind {
        sys::fs::Kind::File => {
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut dir.read(name).unwrap(), &mut content).unwrap();
            content
        }
        sys::fs::Kind::Symlink => dir.read_link(name).unwrap().into_encoded_bytes(),
        _ => Vec::new(),
    };
    let xattrs = dir.xattrs(name).unwrap();
    let linked = (stat.links > 1 && stat.kind != sys::fs::Kind::Directory).then(|| {
        links
            .entry(stat.inode)
            .or_insert_with(|| path.to_owned())
            .clone()
    });
    let look_of = Seen {
        kind: stat.kind,
        mode: stat.mode,
        owner: (stat.uid, stat.gid),
        mtime: stat.mtime,
        device: stat.device,
        content,
        xattrs: xattrs
            .into_iter()
            .map(|(key, value)| (key.into_string().unwrap(), value))
            .collect(),
        linked,
    };
    seen.insert(path.to_owned(), look_of);
    if stat.kind == sys::fs::Kind::Directory {
        let inside = dir.enter(name, Follow::Never).unwrap();
        for entry in inside.entries().unwrap() {
            look(
                &inside,
                Path::new(&entry.name),
                &path.join(&entry.name),
                seen,
                links,
            );
        }
    }
}

/// Says where two pictures differ instead of printing both.
#[track_caller]
pub(crate) fn same_pictures(left: &BTreeMap<PathBuf, Seen>, right: &BTreeMap<PathBuf, Seen>) {
    for (path, seen) in left {
        match right.get(path) {
            None => panic!("{path:?} is only in the first"),
            Some(other) => assert_eq!(seen, other, "{path:?}"),
        }
    }
    for path in right.keys() {
        assert!(left.contains_key(path), "{path:?} is only in the second");
    }
}

/// Runs a shell command that must succeed.
#[track_caller]
pub(crate) fn shell(directory: &Path, command: &str) -> String {
    let output = Command::new("bash")
        .args(["-e", "-c", command])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Runs a test again in a process with a mount namespace of its own.
pub(crate) fn with_own_mounts(name: &str, test: impl FnOnce()) {
    const INSIDE: &str = "RBOX_OWN_MOUNTS";
    if std::env::var_os(INSIDE).is_some() {
        return test();
    }
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare of util-linux is needed");
    assert!(status.success(), "{name} failed in its mount namespace");
}

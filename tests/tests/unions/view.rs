//! What a tree shows, as a value: of a union to be compared with itself, of a branch to be compared
//! with what it was.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, Dir, Mode, OFlags, lgetxattr, llistxattr, openat};

/// Files that a test prepares were last changed at this time; what is changed later is newer.
pub(crate) const LONG_AGO: i64 = 1_000_000_000;

/// One object.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// A file's data, a link's target, a device's number.
    pub(crate) content: Vec<u8>,
    /// If it was not changed since it was prepared; of directories never.
    pub(crate) changed: Option<(i64, i64)>,
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The name that an object of this number had when the numbers were taken.
    pub(crate) was: Option<String>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = String::from_utf8_lossy(&self.content[..self.content.len().min(20)]);
        write!(
            out,
            "{:o} {:?} {} bytes {content:?} changed {:?} was {:?}",
            self.mode,
            self.owner,
            self.content.len(),
            self.changed,
            self.was
        )?;
        for (name, value) in &self.attributes {
            let name = String::from_utf8_lossy(name);
            write!(out, " {name}={}", String::from_utf8_lossy(value))?;
        }
        Ok(())
    }
}

/// All objects of a tree by their paths.
pub(crate) type View = BTreeMap<String, Shown>;

/// Inode numbers and the first path of each.
pub(crate) type Numbers = BTreeMap<u64, String>;

/// The paths below a directory in order, each with its attributes, without touching access times.
pub(crate) fn walk(top: &Path) -> Vec<(String, fs::Metadata)> {
    fn into(top: &Path, below: &str, found: &mut Vec<(String, fs::Metadata)>) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOATIME | OFlags::CLOEXEC;
        let here = openat(CWD, top.join(below), flags, Mode::empty()).unwrap();
        let mut names: Vec<String> = Dir::read_from(&here)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort();
        for name in names {
            let path = format!("{below}{name}");
            let stat = fs::symlink_metadata(top.join(&path))
                .unwrap_or_else(|error| panic!("{path} is listed but: {error}"));
            let is_dir = stat.is_dir();
            found.push((path.clone(), stat));
            if is_dir {
                into(top, &format!("{path}/"), found);
            }
        }
    }
    let mut found = Vec::new();
    into(top, "", &mut found);
    found
}

/// Which number is whose.
pub(crate) fn numbers(top: &Path) -> Numbers {
    let mut numbers = Numbers::new();
    for (path, stat) in walk(top) {
        numbers.entry(stat.ino()).or_insert(path);
    }
    numbers
}

/// What a tree shows.
pub(crate) fn view(top: &Path, numbers: &Numbers) -> View {
    let shown = |(path, stat): (String, fs::Metadata)| {
        let object = top.join(&path);
        let old = !stat.is_dir() && stat.mtime() <= LONG_AGO;
        let shown = Shown {
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            content: content(&object, &stat),
            changed: old.then(|| (stat.mtime(), stat.mtime_nsec())),
            attributes: attributes(&object),
            was: numbers.get(&stat.ino()).cloned(),
        };
        (path, shown)
    };
    walk(top).into_iter().map(shown).collect()
}

pub(crate) fn content(path: &Path, stat: &fs::Metadata) -> Vec<u8> {
    let kind = stat.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(path).unwrap();
        return target.into_os_string().into_encoded_bytes();
    }
    if kind.is_char_device() || kind.is_block_device() {
        return stat.rdev().to_string().into_bytes();
    }
    let mut data = Vec::new();
    if kind.is_file() {
        let flags = OFlags::NOATIME.bits().cast_signed();
        let file = File::options().read(true).custom_flags(flags).open(path);
        file.unwrap().read_to_end(&mut data).unwrap();
    }
    data
}

fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 4096];
    let length = llistxattr(path, &mut names[..]).unwrap();
    let listed = names[..length].split(|&byte| byte == 0);
    let mut found = BTreeMap::new();
    for name in listed.filter(|name| !name.is_empty()) {
        let mut value = vec![0; 4096];
        let length = lgetxattr(path, name, &mut value[..]).unwrap();
        found.insert(name.to_owned(), value[..length].to_owned());
    }
    found
}

/// How two views differ, a line for each path; nothing if they do not.
pub(crate) fn differences(is: &View, should_be: &View) -> Vec<String> {
    let mut lines = Vec::new();
    for (path, shown) in is {
        match should_be.get(path) {
            None => lines.push(format!("{path}: {shown:?}, and should not be")),
            Some(other) if other != shown => {
                lines.push(format!("{path}: {shown:?}, should be {other:?}"));
            }
            Some(_) => {}
        }
    }
    let lost = should_be.iter().filter(|(path, _)| !is.contains_key(*path));
    lines.extend(lost.map(|(path, shown)| format!("{path}: lost, was {shown:?}")));
    lines
}

/// All that can be seen of a branch that is never written: its times too.
pub(crate) fn untouched(top: &Path) -> Vec<String> {
    let line = |(path, stat): (String, fs::Metadata)| {
        let times = [stat.atime_nsec(), stat.mtime_nsec(), stat.ctime_nsec()];
        let data = match stat.is_symlink() {
            true => Vec::new(), // reading it is a touch
            false => content(&top.join(&path), &stat),
        };
        let (inode, links, mode) = (stat.ino(), stat.nlink(), stat.mode());
        format!(
            "{path} {inode} {links} {mode:o} {} {times:?} {data:?}",
            stat.atime()
        )
    };
    walk(top).into_iter().map(line).collect()
}

//! Union mounts: every operation on every kind of object, beside a plain directory that looks the
//! same. Results, error numbers, what is seen afterwards and what was copied up must agree.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use lab::Lab;
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags, chmod,
    linkat, mkdirat, mknodat, open, readlinkat, renameat_with, rmdir, setxattr, symlinkat,
    unlinkat, utimensat,
};
use rustix::io::{Errno, read, write};

/// An object by where it lies: upper case letters mean the writable branch, lower case ones the
/// read-only one below.
const KINDS: &[&str] = &[
    "-",    // nothing
    "f",    // a file
    "F",    // a file above
    "Ff",   // a file above another
    "Wf",   // a whited-out file
    "Wd",   // a whited-out directory
    "d",    // an empty directory
    "D",    // an empty directory above
    "Dd",   // two empty ones that merge
    "dx",   // a directory with an entry
    "DX",   // the same above
    "Ddx",  // merged, with an entry below
    "DXdx", // merged, an entry in both
    "DHdx", // merged, the entry is whited out
    "DOdx", // an opaque one above one with an entry
    "l",    // a symbolic link to a file
    "L",    // the same above
    "k",    // a symbolic link to nothing
    "e",    // a symbolic link to a directory
];

/// Marks a name as hidden, in the form that the union's options name.
fn white_out(overlay: bool, at: &Path, name: &str) {
    fs::create_dir_all(at).unwrap();
    if overlay {
        let kind = FileType::CharacterDevice;
        mknodat(CWD, at.join(name), kind, Mode::empty(), 0).unwrap();
    } else {
        fs::write(at.join(format!(".wh.{name}")), "").unwrap();
    }
}

/// Marks a directory as merging with none below.
fn make_opaque(overlay: bool, at: &Path) {
    fs::create_dir_all(at).unwrap();
    if overlay {
        setxattr(at, "trusted.overlay.opaque", b"y", XattrFlags::empty()).unwrap();
    } else {
        fs::write(at.join(".wh..wh.opq"), "").unwrap();
    }
}

/// Makes an object in the branches and what it looks like in the plain directory.
fn build(overlay: bool, (kind, name): (&str, &str), [above, below, plain]: [&Path; 3]) {
    let dir = |at: &Path| fs::create_dir_all(at.join(name)).unwrap();
    let file = |at: &Path, name: &str, text: &str| {
        fs::create_dir_all(at.join(name).parent().unwrap()).unwrap();
        fs::write(at.join(name), text).unwrap();
    };
    let inner = |entry: &str| format!("{name}/{entry}");
    let link = |at: &Path, to: &str| symlink(format!("{to}-{name}"), at.join(name)).unwrap();
    for letter in kind.chars() {
        match letter {
            'f' => file(below, name, "low\n"),
            'F' => file(above, name, "high\n"),
            'W' => white_out(overlay, above, name),
            'd' => dir(below),
            'D' => dir(above),
            'x' => file(below, &inner("low"), "low\n"),
            'X' => file(above, &inner("high"), "high\n"),
            'H' => white_out(overlay, &above.join(name), "low"),
            'O' => make_opaque(overlay, &above.join(name)),
            'l' | 'L' | 'k' | 'e' => {
                let at = if letter == 'L' { above } else { below };
                fs::create_dir_all(at).unwrap();
                match letter {
                    'k' => {}
                    'e' => fs::create_dir(below.join(format!("to-{name}"))).unwrap(),
                    _ => file(below, &format!("to-{name}"), "target\n"),
                }
                link(at, "to");
            }
            _ => {}
        }
    }
    let has = |letter| kind.contains(letter);
    match kind {
        "-" | "Wf" | "Wd" => {}
        "F" | "Ff" => file(plain, name, "high\n"),
        "f" => file(plain, name, "low\n"),
        "l" | "L" => {
            file(plain, &format!("to-{name}"), "target\n");
            link(plain, "to");
        }
        "e" => {
            fs::create_dir(plain.join(format!("to-{name}"))).unwrap();
            link(plain, "to");
        }
        "k" => link(plain, "to"),
        _ => {
            dir(plain);
            if has('x') && !has('H') && !has('O') {
                file(plain, &inner("low"), "low\n");
            }
            if has('X') {
                file(plain, &inner("high"), "high\n");
            }
        }
    }
}

/// What can be done to `one`, and to `two` beside it.
#[derive(Debug, Clone, Copy)]
enum Act {
    Open(OFlags),
    List,
    ReadLink,
    MakeDir,
    MakeLink,
    MakeFifo,
    RemoveDir,
    Unlink,
    Truncate,
    Mode,
    Times,
    Attribute,
    Link,
    Rename(RenameFlags),
}

impl Act {
    fn has_two(self) -> bool {
        matches!(self, Self::Link | Self::Rename(_))
    }

    fn only_looks(self) -> bool {
        match self {
            Self::Open(flags) => {
                flags & OFlags::RWMODE == OFlags::RDONLY
                    && !flags.intersects(OFlags::CREATE | OFlags::TRUNC)
            }
            act => matches!(act, Self::List | Self::ReadLink),
        }
    }

    fn carry_out(self, at: &Path) -> Result<String, Errno> {
        let (one, two) = (at.join("one"), at.join("two"));
        let mode = Mode::from_raw_mode(0o640);
        let done = match self {
            Self::Open(flags) => return open_and_use(&one, flags),
            Self::List => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY;
                let mut names: Vec<String> = rustix::fs::Dir::new(open(&one, flags, mode)?)?
                    .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
                    .collect();
                names.sort();
                return Ok(names.join(" "));
            }
            Self::ReadLink => {
                return readlinkat(CWD, &one, Vec::new())
                    .map(|target| target.into_string().unwrap());
            }
            Self::MakeDir => mkdirat(CWD, &one, mode),
            Self::MakeLink => symlinkat("new", CWD, &one),
            Self::MakeFifo => mknodat(CWD, &one, FileType::Fifo, mode, 0),
            Self::RemoveDir => rmdir(&one),
            Self::Unlink => unlinkat(CWD, &one, AtFlags::empty()),
            Self::Truncate => fs::metadata(&one)
                .and_then(|about| match about.is_dir() {
                    true => Err(std::io::Error::from(Errno::ISDIR)),
                    false => fs::OpenOptions::new().write(true).open(&one)?.set_len(1),
                })
                .map_err(|error| Errno::from_io_error(&error).unwrap()),
            Self::Mode => chmod(&one, Mode::from_raw_mode(0o700)),
            Self::Times => {
                let time = Timespec {
                    tv_sec: 1_000_000_000,
                    tv_nsec: 123_456_789,
                };
                let times = Timestamps {
                    last_access: time,
                    last_modification: time,
                };
                utimensat(CWD, &one, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
            Self::Attribute => setxattr(&one, "trusted.table", b"x", XattrFlags::CREATE),
            Self::Link => linkat(CWD, &one, CWD, &two, AtFlags::empty()),
            Self::Rename(flags) => renameat_with(CWD, &one, CWD, &two, flags),
        };
        done.map(|()| String::new())
    }
}

/// Opens, writes or reads, and looks at what is there then.
fn open_and_use(path: &Path, flags: OFlags) -> Result<String, Errno> {
    let file = open(path, flags, Mode::from_raw_mode(0o640))?;
    if flags & OFlags::RWMODE == OFlags::RDONLY {
        let mut buffer = [0; 64];
        return match read(&file, &mut buffer) {
            Ok(length) => Ok(String::from_utf8_lossy(&buffer[..length]).into_owned()),
            Err(Errno::ISDIR) => Ok("a directory".into()),
            Err(errno) => Err(errno),
        };
    }
    write(&file, b"W")?;
    let size = rustix::fs::fstat(&file)?.st_size;
    Ok(size.to_string())
}

fn acts() -> Vec<Act> {
    let mut acts = vec![
        Act::List,
        Act::ReadLink,
        Act::MakeDir,
        Act::MakeLink,
        Act::MakeFifo,
        Act::RemoveDir,
        Act::Unlink,
        Act::Truncate,
        Act::Mode,
        Act::Times,
        Act::Attribute,
        Act::Link,
        Act::Rename(RenameFlags::empty()),
        Act::Rename(RenameFlags::NOREPLACE),
        Act::Rename(RenameFlags::EXCHANGE),
    ];
    let further = [
        OFlags::empty(),
        OFlags::TRUNC,
        OFlags::APPEND,
        OFlags::CREATE,
        OFlags::CREATE.union(OFlags::TRUNC),
        OFlags::CREATE.union(OFlags::APPEND),
        OFlags::CREATE.union(OFlags::EXCL),
        OFlags::CREATE.union(OFlags::EXCL).union(OFlags::TRUNC),
        OFlags::NOFOLLOW,
        OFlags::DIRECTORY,
    ];
    for access in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
        acts.extend(further.map(|more| Act::Open(access | more)));
    }
    acts
}

/// A tree as it is seen: kind, mode, content or target; with `times` modification times too.
fn tree(at: &Path, times: bool) -> BTreeMap<PathBuf, String> {
    fn walk(top: &Path, at: &Path, times: bool, found: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(at).into_iter().flatten() {
            let path = entry.unwrap().path();
            let about = fs::symlink_metadata(&path).unwrap();
            let kind = about.file_type();
            let text = if kind.is_symlink() {
                fs::read_link(&path).unwrap().display().to_string()
            } else if kind.is_file() {
                fs::read_to_string(&path).unwrap()
            } else {
                String::new()
            };
            let when = if times { about.mtime_nsec() } else { 0 };
            let seen = format!("{:o} {text:?} {when}", about.mode());
            found.insert(path.strip_prefix(top).unwrap().to_owned(), seen);
            if kind.is_dir() {
                walk(top, &path, times, found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(at, at, times, &mut found);
    found
}

#[derive(Debug)]
struct Case {
    one: &'static str,
    two: &'static str,
    act: Act,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for act in acts() {
        for one in KINDS {
            let second = if act.has_two() { KINDS } else { &["-"] };
            cases.extend(second.iter().map(|two| Case { one, two, act }));
        }
    }
    cases
}

/// A directory that lies below, or merges with one there, is not renamed but copied by `mv`.
fn is_tree_to_copy(case: &Case) -> bool {
    let lies_below = |kind: &str| kind.contains('d') && !kind.contains('W');
    match case.act {
        Act::Rename(RenameFlags::EXCHANGE) => lies_below(case.one) || lies_below(case.two),
        Act::Rename(_) => lies_below(case.one) && case.one != "DOdx",
        _ => false,
    }
}

fn judge(case: &Case, at: &Path, number: usize) -> Result<(), String> {
    let place = |top: &str| at.join(top).join(number.to_string());
    let (union, plain, above) = (place("m"), place("plain"), place("a"));
    let before = (tree(&union, false), tree(&above, true));
    if before.0 != tree(&plain, false) {
        return Err(format!("looks different from the start: {:?}", before.0));
    }
    let wanted = case.act.carry_out(&plain);
    let got = case.act.carry_out(&union);
    if wanted.is_ok() && got == Err(Errno::XDEV) && is_tree_to_copy(case) {
        let after = (tree(&union, false), tree(&above, true));
        return match after == before {
            true => Ok(()),
            false => Err("changed something although it was refused".into()),
        };
    }
    if got != wanted {
        return Err(format!("{got:?}, a plain directory {wanted:?}"));
    }
    let (seen, should) = (tree(&union, false), tree(&plain, false));
    if seen != should {
        return Err(format!("shows {seen:?}, a plain directory {should:?}"));
    }
    let after = tree(&above, true);
    if case.act.only_looks() && after != before.1 {
        return Err(format!("looking copied something up: {after:?}"));
    }
    Ok(())
}

#[track_caller]
fn as_a_plain_directory(options: &str) {
    let cases = cases();
    let lab = Lab::new();
    let place = lab.directory().to_owned();
    lab.sh(&format!("cd {}; mkdir a b m plain", place.display()));
    let enter = |work: &(dyn Fn(&Path) -> Vec<String> + Sync)| lab.enter(|| work(&place));
    enter(&|at| {
        for (number, case) in cases.iter().enumerate() {
            let [above, below, plain] =
                ["a", "b", "plain"].map(|top| at.join(top).join(number.to_string()));
            fs::create_dir(&below).unwrap();
            fs::create_dir(&plain).unwrap();
            let places = [above.as_path(), below.as_path(), plain.as_path()];
            let overlay = options.contains("whform=overlay");
            build(overlay, (case.one, "one"), places);
            build(overlay, (case.two, "two"), places);
        }
        Vec::new()
    });
    let options = format!("dirs=a=rw:b=ro,{options}");
    let mount = lab.rbox(["union", "mount", "-o", &options, "m"]);
    mount.directory(&place).run().success();
    let failed = enter(&|at| {
        let below = tree(&at.join("b"), true);
        let failed: Vec<String> = cases
            .iter()
            .enumerate()
            .filter_map(|(number, case)| {
                let error = judge(case, at, number).err()?;
                Some(format!("{} {} {:?}: {error}", case.one, case.two, case.act))
            })
            .collect();
        assert!(
            below == tree(&at.join("b"), true),
            "the read-only branch was written"
        );
        failed
    });
    assert!(
        failed.is_empty(),
        "{options}: {} of {} cases:\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n")
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_does_everything_as_a_plain_directory_does() {
    as_a_plain_directory("udba=reval");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_does_everything_as_a_plain_directory_does_when_names_are_kept() {
    as_a_plain_directory("udba=notify,passthrough=all");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_does_everything_as_a_plain_directory_does_with_overlayfs_marks() {
    as_a_plain_directory("whform=overlay,udba=reval");
    as_a_plain_directory("whform=overlay,udba=notify,passthrough=all");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_does_everything_as_a_plain_directory_does_with_marks_of_both_forms() {
    as_a_plain_directory("whform=auto");
}

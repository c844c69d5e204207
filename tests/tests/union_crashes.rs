//! Union mounts: the server dies, or is told of an error, at every system call of an operation that
//! changes branches. Afterwards the union shows what it showed before or all of what was asked for.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]
#![cfg(target_arch = "x86_64")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use lab::tracer::Fate;
use lab::{Lab, Tracer};
use rustix::fs::lgetxattr;
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

mod crashes;
mod unions;
use crashes::{
    COPY_UPS, CREATIONS, Case, DIRECTORY_RENAMES, HARD_LINKS, MOVES, REDIRECTS, REMOVALS, RENAMES,
};
use unions::prepare::{OPAQUE, in_overlay_form, prepare};
use unions::served::Served;
use unions::view::{Numbers, View, differences, numbers, untouched, view, walk};

/// What an ordinary write call may be answered with by a branch's file system.
const ERRORS: [Errno; 4] = [Errno::IO, Errno::NOSPC, Errno::DQUOT, Errno::ROFS];

/// Where copies are kept that show several names.
const PSEUDO_LINKS: &str = ".wh..wh.plnk";

/// Where a case is tried: a file system in memory, anew for each try.
struct Ground<'a> {
    lab: &'a Lab,
    at: PathBuf,
}

impl<'a> Ground<'a> {
    fn new(lab: &'a Lab) -> Self {
        let at = lab.directory().join("ground");
        fs::create_dir(&at).unwrap();
        Self { lab, at }
    }

    /// Branches as the case wants them.
    fn fresh(&self, case: &Case) {
        let at = &self.at;
        self.lab.enter(|| {
            let memory = |at: &Path, size| {
                mount("none", at, "tmpfs", MountFlags::empty(), Some(size)).unwrap();
            };
            memory(at, c"size=64m");
            for name in ["a", "b", "c", "m", "s"] {
                fs::create_dir(at.join(name)).unwrap();
            }
            if case.branches.contains("s=") {
                memory(&at.join("s"), c"size=256k");
            }
            match has_overlay_form(case) {
                true => prepare(at, &in_overlay_form(case.tree)),
                false => prepare(at, case.tree),
            }
        });
    }

    fn clear(&self) {
        self.lab
            .enter(|| unmount(&self.at, UnmountFlags::DETACH))
            .unwrap();
    }

    fn serve(&self, case: &Case) -> Served<'a> {
        Served::new(self.lab, &self.at, case.branches)
    }
}

/// What lies in the writable branches apart from data: marks, unfinished work, empty directories.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    marks: BTreeSet<String>,
    /// Marks beside the names that they hide below, which those do by themselves.
    idle: BTreeSet<String>,
    work: Vec<String>,
    directories: BTreeSet<String>,
    empty: BTreeSet<String>,
}

fn has_overlay_form(case: &Case) -> bool {
    case.branches.ends_with(",whform=overlay")
}

fn is_writable(case: &Case, name: &str) -> bool {
    case.branches.contains(&format!("{name}=rw"))
}

fn kept(case: &Case, at: &Path) -> Kept {
    let mut kept = Kept {
        marks: BTreeSet::new(),
        idle: BTreeSet::new(),
        work: Vec::new(),
        directories: BTreeSet::new(),
        empty: BTreeSet::new(),
    };
    let branches = ["a", "b", "s"].into_iter();
    for branch in branches.filter(|name| is_writable(case, name)) {
        for (path, stat) in walk(&at.join(branch)) {
            let full = format!("{branch}/{path}");
            let name = path.rsplit('/').next().unwrap();
            let opaque = lgetxattr(at.join(&full), OPAQUE, &mut [0; 1][..]);
            if opaque.is_ok() {
                kept.marks.insert(format!("{full}/.wh..wh.opq"));
            }
            if full.contains(PSEUDO_LINKS) {
                continue; // what is left there is looked at after all was removed
            }
            if stat.file_type().is_char_device() && stat.rdev() == 0 {
                kept.marks.insert(full);
            } else if name.starts_with(".wh..wh.tmp.") {
                kept.work.push(full);
            } else if name.starts_with(".wh.") && name != ".wh..wh.aufs" {
                if at.join(full.replacen(".wh.", "", 1)).exists() {
                    kept.idle.insert(full.clone());
                }
                kept.marks.insert(full);
            } else if stat.is_dir() {
                if walk(&at.join(&full)).is_empty() {
                    kept.empty.insert(full.clone());
                }
                kept.directories.insert(full);
            }
        }
    }
    kept
}

/// What the case does when nothing goes wrong.
struct Known {
    before: (View, Kept),
    after: (View, Kept),
    calls: Vec<&'static str>,
}

fn known(ground: &Ground<'_>, case: &Case) -> Known {
    ground.fresh(case);
    let union = ground.serve(case);
    assert_eq!(union.enter(case.first), Ok(()), "{}", case.what);
    let before = look(&union, case, &union.enter(numbers));
    let kept_before = ground.lab.enter(|| kept(case, &ground.at));
    union.unmount();
    let union = ground.serve(case);
    let (calls, done, numbers) = suffer(&union, case, Fate::Lives);
    assert_eq!(done, Ok(()), "{}", case.what);
    let after = look(&union, case, &numbers);
    let kept_after = ground.lab.enter(|| kept(case, &ground.at));
    union.kill();
    let union = ground.serve(case);
    let again = look(&union, case, &numbers);
    assert_eq!(
        differences(&again, &after),
        [""; 0],
        "{}: mounted again",
        case.what
    );
    assert_ne!(before, after, "{} does nothing", case.what);
    union.unmount();
    ground.clear();
    Known {
        before: (before, kept_before),
        after: (after, kept_after),
        calls,
    }
}

/// What the union shows.
fn look(union: &Served<'_>, case: &Case, numbers: &Numbers) -> View {
    let mut view = union.enter(|m| view(m, numbers));
    if case.branches.contains("moveonenospc") {
        // A write that finds no room changes this time as well.
        view.values_mut().for_each(|shown| shown.changed = None);
    }
    view
}

/// Carries the case out while its server suffers something.
fn suffer(
    union: &Served<'_>,
    case: &Case,
    fate: Fate,
) -> (Vec<&'static str>, Result<(), Errno>, Numbers) {
    let numbers = union.enter(numbers);
    let tracer = Tracer::attach(union.server(), fate);
    let done = union.enter(case.act);
    let calls = tracer.finish(|| union.ask());
    (calls, done, numbers)
}

/// Kills the server, mounts again, and looks.
fn dies(ground: &Ground<'_>, case: &Case, known: &Known, fate: Fate) -> Vec<String> {
    ground.fresh(case);
    let below = |at: &Path| {
        untouched(&at.join(if case.branches.contains(":c=ro") {
            "c"
        } else {
            "b"
        }))
    };
    let lower = ground.lab.enter(|| below(&ground.at));
    let union = ground.serve(case);
    assert_eq!(union.enter(case.first), Ok(()), "{}", case.what);
    let (calls, _, numbers) = suffer(&union, case, fate);
    let (Fate::DiesBefore(at) | Fate::DiesAfter(at)) = fate else {
        panic!("{fate:?} is no death");
    };
    assert_eq!(calls.len(), at, "{}: {fate:?}, but {calls:?}", case.what);
    union.end();
    let union = ground.serve(case);
    let now = look(&union, case, &numbers);
    let mut wrong = neither(&now, known);
    if case.branches.contains("=ro") && ground.lab.enter(|| below(&ground.at)) != lower {
        wrong.push("the read-only branch was touched".into());
    }
    wrong.extend(remove_all(ground, case, &union, &known.before.0));
    union.unmount();
    ground.clear();
    wrong
}

/// Kills a server that another one takes over from, and looks at the union as it goes on.
fn goes_on(ground: &Ground<'_>, case: &Case, known: &Known, fate: Fate) -> Vec<String> {
    ground.fresh(case);
    let branches = format!("{},recover", case.branches);
    let union = Served::new(ground.lab, &ground.at, &branches);
    assert_eq!(union.enter(case.first), Ok(()), "{}", case.what);
    let status = || {
        let ls = ground.lab.rbox(["union", "ls", "--json", "m"]);
        ls.directory(&ground.at).run().success().json()["status"].clone()
    };
    let numbers = union.enter(numbers);
    let tracer = Tracer::attach(union.held_server(), fate);
    let done = union.enter(case.act);
    let calls = tracer.finish(|| union.ask());
    let (Fate::DiesBefore(at) | Fate::DiesAfter(at)) = fate else {
        panic!("{fate:?} is no death");
    };
    assert_eq!(calls.len(), at, "{}: {fate:?}, but {calls:?}", case.what);
    let now = look(&union, case, &numbers);
    let mut wrong = neither(&now, known);
    if done.is_ok() && !differences(&now, &known.after.0).is_empty() {
        wrong.push("it was said to be done".into());
    }
    // What a move had left behind may be in the way of the next.
    let is_full = done == Err(Errno::NOSPC) && case.branches.contains("moveonenospc");
    if !matches!(done, Ok(()) | Err(Errno::IO)) && !is_full {
        wrong.push(format!("it answered {done:?}"));
    }
    if status()["restarts"] != 1 {
        wrong.push(format!("{}", status()));
    }
    wrong.extend(remove_all(ground, case, &union, &known.before.0));
    union.unmount();
    ground.clear();
    wrong
}

fn neither(now: &View, known: &Known) -> Vec<String> {
    let (old, new) = (
        differences(now, &known.before.0),
        differences(now, &known.after.0),
    );
    if old.is_empty() || new.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["not as before:".to_owned()];
    lines.extend(old);
    lines.push("and not as it should be afterwards:".to_owned());
    lines.extend(new);
    lines
}

/// Everything can be removed, leftovers with it, and nothing comes to light by that.
fn remove_all(ground: &Ground<'_>, case: &Case, union: &Served<'_>, before: &View) -> Vec<String> {
    let mut wrong = union.enter(|m| {
        let mut wrong = Vec::new();
        for entry in fs::read_dir(m).unwrap() {
            let entry = entry.unwrap();
            let done = if entry.file_type().unwrap().is_dir() {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
            if let Err(error) = done {
                wrong.push(format!("{:?} cannot be removed: {error}", entry.path()));
            }
        }
        for name in before.keys().filter(|name| !name.contains('/')) {
            let made = fs::create_dir(m.join(name));
            let shown = walk(&m.join(name)).len();
            if made.is_err() || shown > 0 || fs::remove_dir(m.join(name)).is_err() {
                wrong.push(format!("{name}, made anew: {made:?}, {shown} entries"));
            }
        }
        wrong.extend(
            walk(m)
                .iter()
                .map(|(path, _)| format!("{path} is still there")),
        );
        wrong
    });
    if case.tree.contains('~') {
        // A crash may have left a count that is too high.
        let flush = ground.lab.rbox(["union", "flush-links", "m"]);
        flush.directory(&ground.at).run().success();
    }
    // What is hidden in lower branches stays there.
    let top = &case.branches["dirs=".len()..][..1];
    for (path, _) in ground.lab.enter(|| walk(&ground.at.join(top))) {
        let is_mark = path.starts_with(".wh.") || has_overlay_form(case);
        if path.contains('/') || !is_mark {
            wrong.push(format!("left in the branch: {top}/{path}"));
        }
    }
    wrong
}

fn unnumbered(view: &View) -> View {
    let mut view = view.clone();
    view.values_mut().for_each(|shown| shown.was = None);
    view
}

/// Whether a directory was made opaque that held marks, not all of which are there any more.
fn stands_for_others(mark: &str, before: &BTreeSet<String>) -> bool {
    let directory = mark.strip_suffix(".wh..wh.opq");
    directory.is_some_and(|it| before.iter().any(|other| other.starts_with(it)))
}

/// Answers one call with an error, and looks: at the union that goes on, and at its branches.
fn is_told(
    ground: &Ground<'_>,
    case: &Case,
    known: &Known,
    at: usize,
    error: Errno,
) -> Vec<String> {
    ground.fresh(case);
    let union = ground.serve(case);
    assert_eq!(union.enter(case.first), Ok(()), "{}", case.what);
    let (calls, done, numbers) = suffer(&union, case, Fate::IsTold(at, error.raw_os_error()));
    assert!(calls.len() >= at, "{}: {at}, but {calls:?}", case.what);
    let now = look(&union, case, &numbers);
    let kept = ground.lab.enter(|| kept(case, &ground.at));
    union.kill();
    let union = ground.serve(case);
    let again = look(&union, case, &numbers);
    union.unmount();
    ground.clear();
    let (old, new) = (&known.before, &known.after);
    let should_be = if done.is_ok() { new } else { old };
    let mut wrong = differences(&now, &should_be.0);
    // Which number a copy keeps cannot be written down where attributes cannot be written.
    let again = differences(&unnumbered(&again), &unnumbered(&should_be.0));
    wrong.extend(again.iter().map(|line| format!("mounted again, {line}")));
    let marks = kept.marks.difference(&old.1.marks);
    let fits = |mark| new.1.marks.contains(mark) || kept.idle.contains(mark);
    let marks = marks.filter(|mark| !(done.is_ok() && fits(*mark)));
    let stray = marks.filter(|mark| !stands_for_others(mark, &old.1.marks));
    wrong.extend(stray.map(|mark| format!("stray mark: {mark}")));
    wrong.extend(kept.work.iter().map(|path| format!("left: {path}")));
    let empty = kept.empty.difference(&old.1.directories);
    let made = empty.filter(|path| !new.1.directories.contains(*path));
    wrong.extend(made.map(|path| format!("left, and empty: {path}")));
    if !wrong.is_empty() {
        wrong.insert(0, format!("it answered {done:?}"));
    }
    wrong
}

/// The same with marks in overlayfs's form; here what goes wrong is one error's matter.
fn examine_in_overlay_form(cases: &[Case]) {
    let with = |case: &Case| {
        let branches = format!("{},whform=overlay", case.branches);
        let branches: &'static str = Box::leak(branches.into_boxed_str());
        Case { branches, ..*case }
    };
    examine(&cases.iter().map(with).collect::<Vec<_>>(), &ERRORS[..1]);
}

fn examine(cases: &[Case], errors: &[Errno]) {
    let lab = Lab::new();
    let ground = Ground::new(&lab);
    let mut wrong = Vec::new();
    for case in cases {
        let known = known(&ground, case);
        let count = known.calls.len();
        let mut tell = |fate: &str, at: usize, lines: Vec<String>| {
            if !lines.is_empty() {
                let call = known.calls[at - 1];
                let text = lines.join("\n    ");
                wrong.push(format!(
                    "{}: {fate} call {at}, {call}:\n    {text}",
                    case.what
                ));
            }
        };
        for at in 1..=count {
            tell(
                "killed before",
                at,
                dies(&ground, case, &known, Fate::DiesBefore(at)),
            );
            for &error in errors {
                tell(
                    &format!("{error:?} of"),
                    at,
                    is_told(&ground, case, &known, at, error),
                );
            }
        }
        tell(
            "killed after",
            count,
            dies(&ground, case, &known, Fate::DiesAfter(count)),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same with `recover`: the server dies at every call, and its mount goes on.
fn examine_recovery(cases: &[Case]) {
    let lab = Lab::new();
    let ground = Ground::new(&lab);
    let mut wrong = Vec::new();
    for case in cases {
        let known = known(&ground, case);
        let count = known.calls.len();
        let deaths = (1..=count).map(Fate::DiesBefore);
        for fate in deaths.chain([Fate::DiesAfter(count)]) {
            let lines = goes_on(&ground, case, &known, fate);
            if !lines.is_empty() {
                let text = lines.join("\n    ");
                wrong.push(format!("{}: {fate:?}:\n    {text}", case.what));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_with_recover_in_copies_and_moves() {
    examine_recovery(COPY_UPS);
    examine_recovery(MOVES);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_with_recover_in_renames() {
    examine_recovery(RENAMES);
    examine_recovery(DIRECTORY_RENAMES);
    examine_recovery(REDIRECTS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_with_recover_in_other_changes() {
    examine_recovery(REMOVALS);
    examine_recovery(CREATIONS);
    examine_recovery(HARD_LINKS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_copies() {
    examine(COPY_UPS, &ERRORS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_renames() {
    examine(RENAMES, &ERRORS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_renames_of_directories() {
    examine(DIRECTORY_RENAMES, &ERRORS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_removals() {
    examine(REMOVALS, &ERRORS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_creations() {
    examine(CREATIONS, &ERRORS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_moves() {
    examine(MOVES, &ERRORS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_renames_over_devices() {
    examine_in_overlay_form(RENAMES);
    examine_in_overlay_form(DIRECTORY_RENAMES);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_other_changes_of_devices() {
    examine_in_overlay_form(REMOVALS);
    examine_in_overlay_form(CREATIONS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_among_hard_links() {
    examine(HARD_LINKS, &ERRORS[..2]);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_crashes_in_redirects() {
    examine(REDIRECTS, &ERRORS[..2]);
    examine_in_overlay_form(REDIRECTS);
}

//! Union mounts: chance does what it likes, through the union and in its branches, kills the server
//! now and then, and the union is always what a model of its rules says.
//!
//! `RBOX_ORACLE_STEPS` says how long, `RBOX_ORACLE_SEED` does again what a failure named.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use lab::{Lab, eventually};
use rustix::fs::lgetxattr;
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

mod oracle;
mod unions;
use oracle::model::{Branch, Model, Object};
use oracle::{ATTRIBUTE, Act, Chance, Edit, OPAQUE, nowhere, whiteout};
use unions::served::Served;
use unions::view::{content, untouched, walk};

/// What a tree holds, in words, by path.
type Text = BTreeMap<String, String>;

fn words(mode: u32, links: u64, data: &str) -> String {
    format!("file {mode:o}, {links} names, {data:?}")
}

/// What lies at a place on disk; marks are told as marks if it is a branch.
fn on_disk(top: &Path, is_branch: bool) -> Text {
    let mut text = Text::new();
    for (path, stat) in walk(top) {
        let name = path.rsplit('/').next().unwrap();
        if is_branch && name == ".wh..wh.aufs" {
            continue;
        }
        if is_branch
            && stat.is_dir()
            && lgetxattr(top.join(&path), ATTRIBUTE, &mut [0; 1][..]).is_ok()
        {
            text.insert(format!("{path}/{OPAQUE}"), "mark".to_owned());
        }
        if is_branch && stat.file_type().is_char_device() {
            text.insert(whiteout(&path), "mark".to_owned());
            continue;
        }
        if is_branch && name.starts_with(".wh.") {
            text.insert(path, "mark".to_owned());
            continue;
        }
        let mode = stat.mode() & 0o7777;
        let data = String::from_utf8(content(&top.join(&path), &stat)).unwrap();
        let said = match () {
            () if stat.is_dir() => format!("directory {mode:o}"),
            () if stat.is_symlink() => format!("link to {data}"),
            () => words(mode, stat.nlink(), &data),
        };
        text.insert(path, said);
    }
    text
}

fn told(model: &Model, at: usize, object: Object) -> String {
    match object {
        Object::Dir(mode) => format!("directory {mode:o}"),
        Object::Link(number) => format!("link to {}", nowhere(number)),
        Object::File(file) => {
            let (file, names) = (&model.files[file], model.names(at, file));
            words(file.mode, names as u64, &file.data)
        }
    }
}

/// What a branch of the model holds.
fn thought(model: &Model, at: usize) -> Text {
    let branch = &model.branches[at];
    let mark = |path: String| (path, "mark".to_owned());
    let objects = branch.tree.iter();
    let mut text: Text = objects
        .map(|(path, object)| (path.clone(), told(model, at, *object)))
        .collect();
    text.extend(branch.whiteouts.iter().map(|path| mark(whiteout(path))));
    let opaque = branch.opaque.iter();
    text.extend(opaque.map(|path| mark(format!("{path}/{OPAQUE}"))));
    text
}

/// What the model shows.
fn shown(model: &Model) -> Text {
    let mut text = Text::new();
    let mut left = vec![String::new()];
    while let Some(dir) = left.pop() {
        for path in model.list(&dir) {
            let (at, object) = model.look(&path).unwrap().top.unwrap();
            text.insert(path.clone(), told(model, at, object));
            if matches!(object, Object::Dir(_)) {
                left.push(path);
            }
        }
    }
    text
}

fn compare(what: &str, is: &Text, should_be: &Text, wrong: &mut Vec<String>) {
    for (path, said) in is {
        match should_be.get(path) {
            Some(other) if other == said => {}
            other => wrong.push(format!("{what}: {path} is {said}, should be {other:?}")),
        }
    }
    let lost = should_be.iter().filter(|(path, _)| !is.contains_key(*path));
    wrong.extend(lost.map(|(path, said)| format!("{what}: {path} is not there: {said}")));
}

/// A union, its model, and what was done to both.
struct Trial {
    top: PathBuf,
    /// Names of the branches, and of those that are never written what they looked like.
    names: Vec<String>,
    lower: Vec<Vec<String>>,
    model: Model,
    chance: Chance,
    number: usize,
    done: Vec<String>,
    wrong: Vec<String>,
}

impl Trial {
    fn new(top: &Path, branches: &str, seed: u64) -> Self {
        let mut trial = Self {
            top: top.to_owned(),
            names: Vec::new(),
            lower: Vec::new(),
            model: Model::default(),
            chance: Chance::new(seed),
            number: 0,
            done: Vec::new(),
            wrong: Vec::new(),
        };
        for branch in branches.split(':') {
            let (name, permission) = branch.split_once('=').unwrap();
            fs::create_dir(top.join(name)).unwrap();
            trial.names.push(name.to_owned());
            trial.model.branches.push(Branch {
                writable: permission == "rw",
                marks: permission != "ro",
                ..Branch::default()
            });
        }
        fs::create_dir(top.join("m")).unwrap();
        trial
    }

    /// Edits branches directly.
    fn edit(&mut self, count: usize) {
        for _ in 0..count {
            self.number += 1;
            let at = self.chance.below(self.names.len());
            let edit = Edit::by(&mut self.chance, self.number);
            if edit.think(&mut self.model, at) {
                self.done.push(format!("in {}: {edit:?}", self.names[at]));
                let (branch, aside) = (self.top.join(&self.names[at]), self.top.join("aside"));
                edit.carry_out(&branch, &aside, self.model.in_place);
            }
        }
    }

    /// Waits until the union has been told of all edits: what is told last comes last.
    fn is_told(&self) {
        let seen = self.top.join("m/last");
        for name in &self.names {
            assert!(
                !seen.exists(),
                "and the union remembers that it is not there"
            );
            let last = self.top.join(name).join("last");
            fs::write(&last, "").unwrap();
            eventually("a new file in a branch is seen", || seen.exists());
            fs::remove_file(&last).unwrap();
            eventually("that it is gone is seen", || !seen.exists());
        }
    }

    fn never_written(&self) -> Vec<Vec<String>> {
        let branches = self.names.iter().zip(&self.model.branches);
        let lower = branches.filter(|(_, branch)| !branch.writable);
        lower
            .map(|(name, _)| untouched(&self.top.join(name)))
            .collect()
    }

    /// Does things through the union.
    fn act(&mut self, count: usize) {
        let mount = self.top.join("m");
        for _ in 0..count {
            self.number += 1;
            let act = Act::by(&mut self.chance, self.number);
            let number = |path: &str| fs::symlink_metadata(mount.join(path)).unwrap().ino();
            let same = act.keeps_number(&self.model);
            let before = same.map(number);
            let should_be = act.think(&mut self.model);
            let mut is = act.carry_out(&mount);
            if let (Act::Rename(from, to, _), Err(Errno::STALE)) = (&act, is) {
                // The kernel itself refuses to learn within a rename that a directory was moved.
                let _ = [from, to].map(|path| fs::symlink_metadata(mount.join(path)));
                is = act.carry_out(&mount);
            }
            self.done.push(format!(
                "{act:?}: {}",
                is.map_or_else(|it| it.to_string(), |()| "done".to_owned())
            ));
            if is != should_be {
                self.wrong
                    .push(format!("{act:?}: {is:?}, should be {should_be:?}"));
                return;
            }
            if let (Some(path), Some(before)) = (same, before)
                && number(path) != before
            {
                self.wrong
                    .push(format!("{act:?}: {path} has another number"));
            }
        }
    }

    /// Looks at all that the union shows, and into its branches.
    fn look(&mut self) {
        let wrong = &mut self.wrong;
        let is = on_disk(&self.top.join("m"), false);
        compare("the union", &is, &shown(&self.model), wrong);
        let mut known = BTreeMap::new();
        for (path, stat) in walk(&self.top.join("m")) {
            let top = self.model.look(&path).ok().and_then(|look| look.top);
            let alone = matches!(top, Some((_, Object::Dir(_))));
            let (first, other) = known.entry(stat.ino()).or_insert((path.clone(), top));
            if *first != path && (alone || *other != top) {
                wrong.push(format!("{first} and {path} have one number"));
            }
        }
        for (at, name) in self.names.iter().enumerate() {
            let is = on_disk(&self.top.join(name), true);
            compare(name, &is, &thought(&self.model, at), wrong);
        }
        if self.lower != self.never_written() {
            self.wrong
                .push("a branch that is not writable was touched".to_owned());
        }
    }

    fn fail_if_wrong(&self, seed: u64) {
        assert!(
            self.wrong.is_empty(),
            "RBOX_ORACLE_SEED={seed}, after {} steps, the last of them\n  {}\n{}",
            self.number,
            self.done[self.done.len().saturating_sub(25)..].join("\n  "),
            self.wrong.join("\n")
        );
    }
}

fn number_of(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap())
}

#[expect(clippy::print_stdout, reason = "shown with whatever goes wrong")]
fn agrees(branches: &str, options: &str) {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    let seed = number_of("RBOX_ORACLE_SEED").unwrap_or(u64::from(now.subsec_nanos()));
    let steps = number_of("RBOX_ORACLE_STEPS").unwrap_or(1500);
    println!("RBOX_ORACLE_SEED={seed}");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let lab = Lab::new();
    let top = lab.directory().join("ground");
    fs::create_dir(&top).unwrap();
    let mut trial = lab.enter(|| {
        mount(
            "none",
            &top,
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=64m"),
        )
        .unwrap();
        let mut trial = Trial::new(&top, branches, seed);
        trial.model.in_place = options.contains("whform=overlay");
        trial.edit(60);
        trial
    });
    let serve = || Served::new(&lab, &top, &format!("dirs={branches}{options}"));
    let mut union = serve();
    let mut deaths = 0;
    while (trial.number as u64) < steps {
        union.enter(|_| {
            trial.edit(5);
            if options.contains("notify") {
                trial.is_told();
            }
            trial.lower = trial.never_written();
            trial.act(30);
            trial.look();
        });
        trial.fail_if_wrong(seed);
        let dies = trial.chance.below(6) == 0;
        if dies && options.contains("recover") {
            deaths += 1;
            if deaths < 10 {
                trial
                    .done
                    .push("kill -9 of the server, which comes back".to_owned());
                union.kill_held();
            }
        } else if dies {
            trial.done.push("kill -9 of the server".to_owned());
            union.kill();
            union = serve();
        }
    }
    union.unmount();
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_agrees_with_its_model_of_two_branches() {
    agrees("a=rw:b=ro", "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_agrees_with_its_model_of_two_writable_branches() {
    agrees("a=rw:b=rw:c=ro", ",passthrough=all");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_agrees_with_its_model_of_branches_with_whiteouts() {
    agrees("a=rw:b=ro+wh:c=ro", ",passthrough=off");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_agrees_with_its_model_of_a_read_only_top() {
    agrees("a=ro:b=rw:c=ro+wh:d=rw", "");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_agrees_with_its_model_while_it_is_notified() {
    agrees("a=rw:b=rw:c=ro+wh", ",udba=notify");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_agrees_with_its_model_while_servers_take_over() {
    agrees("a=rw:b=rw:c=ro+wh", ",recover");
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_union_agrees_with_its_model_of_devices() {
    agrees("a=rw:b=rw:c=ro+wh:d=ro", ",whform=overlay");
}

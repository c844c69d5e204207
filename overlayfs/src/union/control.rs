//! Asking and changing a mounted union: through extended attributes that only root can name.
//!
//! ```text
//! getxattr(MOUNT, trusted.rbox.union.status)    branches, settings and counters as JSON
//! getxattr(PATH,  trusted.rbox.union.where)     the branches that have it, a path per line
//! getxattr(MOUNT, trusted.rbox.union.say.N.TEXT)  a part of options as after -o remount
//! getxattr(MOUNT, trusted.rbox.union.do.N.)     carries out what was said under the number N
//! getxattr(MOUNT, trusted.rbox.union.done)      EAGAIN until the kernel has forgotten what was before
//! getxattr(MOUNT, trusted.rbox.union.error)     why the last change was refused
//! getxattr(MOUNT, trusted.rbox.union.flush)     begins flush-links: a number
//! getxattr(DIR,   trusted.rbox.union.flush.dir) flushes one directory: how many files are left
//! getxattr(MOUNT, trusted.rbox.union.flush.end.N) ends what began with N: how many stay
//! ```
//!
//! A change is asked for, not set: a read-only mount lets no attribute be set, and while one is set
//! the kernel holds the lock that it needs to forget names of the root.

use std::ffi::CStr;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::union::branch::{Branch, Members, check_overlap, lock};
use crate::union::lasting::Word;
use crate::union::node::{Node, ROOT};
use crate::union::options::{BranchArg, Change, DirectChanges, Options, Permission, Settings};
use crate::union::tree::Union;
use crate::union::{Res, UnionError};

pub(crate) const STATUS: &CStr = c"trusted.rbox.union.status";
pub(crate) const WHERE: &CStr = c"trusted.rbox.union.where";
pub(crate) const SAY: &CStr = c"trusted.rbox.union.say";
pub(crate) const DO: &CStr = c"trusted.rbox.union.do";
pub(crate) const DONE: &CStr = c"trusted.rbox.union.done";
pub(crate) const ERROR: &CStr = c"trusted.rbox.union.error";
pub(crate) const FLUSH: &CStr = c"trusted.rbox.union.flush";
pub(crate) const FLUSH_DIR: &CStr = c"trusted.rbox.union.flush.dir";
pub(crate) const FLUSH_END: &CStr = c"trusted.rbox.union.flush.end";

/// Parts of changes that were said but not yet carried out, by the number of who said them.
#[derive(Debug, Default)]
pub(crate) struct Said(Mutex<Vec<(Vec<u8>, Vec<u8>)>>);

/// More than so many bytes are no list of options.
const MAX_SAID: usize = 1 << 20;

impl Said {
    fn add(&self, number: &[u8], text: &[u8]) -> Res<()> {
        let mut said = lock(&self.0);
        let at = match said.iter().position(|(other, _)| other == number) {
            Some(at) => at,
            None => {
                if said.len() >= 8 {
                    said.remove(0); // left behind by somebody who was killed
                }
                said.push((number.to_vec(), Vec::new()));
                said.len() - 1
            }
        };
        if said[at].1.len() + text.len() > MAX_SAID {
            return Err(Errno::TOOBIG);
        }
        said[at].1.extend_from_slice(text);
        Ok(())
    }

    fn take(&self, number: &[u8]) -> Option<Vec<u8>> {
        let mut said = lock(&self.0);
        let at = said.iter().position(|(other, _)| other == number)?;
        Some(said.remove(at).1)
    }
}

/// The number and the text behind a word.
fn spoken<'a>(name: &'a CStr, word: &CStr) -> Option<(&'a [u8], &'a [u8])> {
    let rest = name
        .to_bytes()
        .strip_prefix(word.to_bytes())?
        .strip_prefix(b".")?;
    let end = rest.iter().position(|&byte| byte == b'.')?;
    Some((&rest[..end], &rest[end + 1..]))
}

/// A mounted union as it is now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The branches, top first.
    pub branches: Vec<BranchStatus>,
    /// The form of the marks, as an option's value.
    #[serde(default)]
    pub form: String,
    /// Where new objects go, as an option's value.
    pub create: String,
    /// Where copies go.
    pub copy_up: String,
    /// How direct changes are seen.
    pub direct_changes: String,
    /// Of several files of one name the newest is shown.
    #[serde(default)]
    pub newest: bool,
    /// With `notify`: how many directories are watched.
    #[serde(default)]
    pub watched: usize,
    /// With `notify`: why nothing is watched, so that every look-up is verified.
    #[serde(default)]
    pub unwatched: String,
    /// Nodes that the kernel knows.
    pub nodes: usize,
    /// Files and directories that are open.
    pub open: usize,
    /// How the kernel and the server talk: `ring` or `device`.
    pub transport: String,
    /// Requests served.
    pub requests: u64,
    /// Those of them that came by a ring.
    pub ring_requests: u64,
    /// Objects copied up.
    pub copy_ups: u64,
    /// Bytes copied up.
    pub copied_bytes: u64,
    /// Files that left a full branch.
    #[serde(default)]
    pub moves: u64,
    /// Copied files that have names where they came from, which show the copy.
    #[serde(default)]
    pub pseudo_links: usize,
    /// Opens served by the kernel alone.
    pub passed_opens: u64,
    /// Opens served by the server.
    pub cached_opens: u64,
    /// Changes that others made in watched directories of branches.
    pub changes_seen: u64,
    /// Inode numbers are shown in 32 bits.
    #[serde(default)]
    pub inode32: bool,
    /// The server's process.
    pub server: u32,
    /// Another server takes over when this one dies.
    #[serde(default)]
    pub recovers: bool,
    /// How often one has.
    #[serde(default)]
    pub restarts: u64,
}

/// One branch of a mounted union.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BranchStatus {
    /// Its directory.
    pub path: String,
    /// Its permission, as written in options.
    pub permission: String,
    /// Bytes available.
    pub free: u64,
    /// Files of it that are open.
    pub open: usize,
}

impl Union {
    /// Answers a question put as an extended attribute.
    pub(crate) fn answer(
        &self,
        members: &Members,
        node: &Arc<Node>,
        name: &CStr,
    ) -> Option<Res<Vec<u8>>> {
        if name == WHERE {
            return Some(self.where_is(members, node).map(|places| {
                let paths: Vec<String> = places
                    .iter()
                    .map(|&at| members.branch(at).path.display().to_string())
                    .collect();
                paths.join("\n").into_bytes()
            }));
        }
        let number = |count: usize| count.to_string().into_bytes();
        if name == FLUSH_DIR && node.is_dir() {
            return Some(self.flush_dir(members, node).map(number));
        }
        if node.id != ROOT {
            return None;
        }
        if name == FLUSH {
            return Some(Ok(self.flush_begin().to_string().into_bytes()));
        }
        if let Some(before) = name.to_bytes().strip_prefix(FLUSH_END.to_bytes()) {
            return Some(self.flush_end(members, before).map(number));
        }
        if name == STATUS {
            let status = self.status(members);
            return Some(serde_json::to_vec(&status).map_err(|_| Errno::IO));
        }
        if let Some((number, text)) = spoken(name, SAY) {
            return Some(self.said.add(number, text).map(|()| Vec::new()));
        }
        if let Some((number, _)) = spoken(name, DO) {
            return Some(self.carry_out_said(number).map(|()| Vec::new()));
        }
        if name == DONE {
            return Some(match self.forgetting.load(Ordering::Acquire) {
                true => Err(Errno::AGAIN),
                false => Ok(Vec::new()),
            });
        }
        (name == ERROR).then(|| Ok(lock(&self.last_error).clone().into_bytes()))
    }

    fn carry_out_said(&self, number: &[u8]) -> Res<()> {
        // Nobody waits here: a change needs what other requests hold until they are served.
        let Ok(_changing) = self.changing.try_lock() else {
            return Err(Errno::AGAIN);
        };
        if self.forgetting.load(Ordering::Acquire) {
            return Err(Errno::AGAIN);
        }
        let text = self.said.take(number).ok_or(Errno::INVAL)?;
        self.change(&text)
    }

    fn status(&self, members: &Members) -> Status {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let watches = match members.settings.direct_changes {
            DirectChanges::Notify => self.watches(members),
            DirectChanges::Reval | DirectChanges::None => Ok(0),
        };
        Status {
            watched: *watches.as_ref().unwrap_or(&0),
            unwatched: watches.err().unwrap_or_default(),
            branches: members
                .branches
                .iter()
                .map(|branch| BranchStatus {
                    path: branch.path.display().to_string(),
                    permission: branch.permission.to_string(),
                    free: branch.space(0).free,
                    open: branch.opens.load(Ordering::Relaxed),
                })
                .collect(),
            form: members.settings.form.to_string(),
            create: members.settings.create.to_string(),
            copy_up: members.settings.copy_up.to_string(),
            direct_changes: members.settings.direct_changes.to_string(),
            newest: members.settings.newest,
            nodes: self.table.len(),
            open: self.handles.len(),
            transport: match self.has_rings.load(Ordering::Relaxed) {
                true => "ring".to_owned(),
                false => "device".to_owned(),
            },
            requests: count(&self.counters.requests),
            ring_requests: count(&self.counters.ring_requests),
            copy_ups: count(&self.counters.copy_ups),
            copied_bytes: count(&self.counters.copied_bytes),
            moves: count(&self.counters.moves),
            pseudo_links: self.links.len(),
            passed_opens: count(&self.counters.passed_opens),
            cached_opens: count(&self.counters.cached_opens),
            changes_seen: count(&self.counters.changes_seen),
            inode32: members.settings.small_numbers,
            server: std::process::id(),
            recovers: self.lasting.is_some(),
            restarts: self.lasting.as_ref().map_or(0, |it| it.get(Word::Restarts)),
        }
    }

    /// Carries out options given as text; what is wrong can be asked for afterwards.
    fn change(&self, text: &[u8]) -> Res<()> {
        let done = std::str::from_utf8(text)
            .map_err(|_| UnionError::Refused("the options are no text".into(), libc::EINVAL))
            .and_then(|text| Ok(Options::parse(text)?))
            .and_then(|options| self.apply(&options));
        match done {
            Ok(()) => {
                lock(&self.last_error).clear();
                Ok(())
            }
            Err(error) => {
                let errno = error.errno();
                *lock(&self.last_error) = error.to_string();
                Err(Errno::from_raw_os_error(errno))
            }
        }
    }

    /// Refuses what stays as it was when the union was mounted.
    fn check_fixed(&self, options: &Options, now: &Settings) -> Result<(), UnionError> {
        let text = if options.transport.is_some_and(|to| to != self.transport) {
            "transport= is for union mount: a mounted union keeps the one it has".to_owned()
        } else if let Some(form) = options.form.filter(|form| *form != now.form) {
            format!(
                "whform={form} is for union mount: this union's branches hold marks in the form {}",
                now.form
            )
        } else if options
            .small_numbers
            .is_some_and(|it| it != now.small_numbers)
        {
            "inode32 and inode64 are for union mount: programs know files by the numbers that they \
             have now"
                .to_owned()
        } else {
            return Ok(());
        };
        Err(UnionError::Refused(text, libc::EINVAL))
    }

    fn apply(&self, options: &Options) -> Result<(), UnionError> {
        let old = self.members();
        self.check_fixed(options, &old.settings)?;
        self.check_recovery(options)?;
        let mut branches = old.branches.clone();
        let writable = options.read_only != Some(true);
        for change in &options.changes {
            apply_one(&mut branches, change, writable)?;
        }
        if branches.is_empty() {
            return Err(UnionError::Refused(
                "a union needs a branch".into(),
                libc::EINVAL,
            ));
        }
        check_overlap(&branches, &self.target)?;
        self.check_open_dirs(&old, &branches)?;
        let mut settings = old.settings.clone();
        settings.update(options);
        let new = Members::new(old.epoch + 1, branches, settings);
        new.check()?;
        if let Some(branch) = self.needed_for_links(&old, &new) {
            let text = "names of files that are hard-linked are shown by their copy: rbox union \
                        flush-links makes them names of the copy first";
            return Err(busy(&branch.path, text));
        }
        self.keep_members(&new, &options.named)?;
        self.file_systems.add(&new.branches);
        self.load_links(&new);
        let kept_something = old.keep_something();
        self.start_watching(&new);
        self.set_members(new);
        self.dirs.clear();
        self.forget_links(&self.members());
        self.end_watches();
        if kept_something {
            self.forget_aside(old);
        }
        Ok(())
    }

    /// Makes the kernel forget everything, on a thread of its own: what it must lock for that may be
    /// held by somebody whose request waits for the thread that serves this one.
    fn forget_aside(&self, old: Arc<Members>) {
        let Some(union) = self.myself() else {
            return;
        };
        self.forgetting.store(true, Ordering::Release);
        let forget = move || {
            await_others(&old);
            union.forget_all();
            union.forgetting.store(false, Ordering::Release);
        };
        let started = std::thread::Builder::new().name("union-forget".into());
        if started.spawn(forget).is_err() {
            self.forgetting.store(false, Ordering::Release);
        }
    }

    /// A directory that is open keeps its branch, unless another branch has it too.
    fn check_open_dirs(&self, old: &Members, new: &[Arc<Branch>]) -> Result<(), UnionError> {
        let stays = |at: &u16| new.iter().any(|it| it.path == old.branch(*at).path);
        for dir in self.handles.dirs() {
            let Ok(places) = self.places(old, &dir) else {
                continue; // removed meanwhile
            };
            if !places.at.iter().any(stays)
                && let Some(&at) = places.at.first()
            {
                return Err(busy(&old.branch(at).path, "directories of it are open"));
            }
        }
        Ok(())
    }
}

/// Waits until the requests that began with the old branches are served, so that none of their
/// answers is kept; a copy that takes long answers with no name.
fn await_others(old: &Arc<Members>) {
    let start = std::time::Instant::now();
    while Arc::strong_count(old) > 1 && start.elapsed() < std::time::Duration::from_secs(1) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

fn busy(path: &Path, what: &str) -> UnionError {
    UnionError::Refused(format!("branch {}: {what}", path.display()), libc::EBUSY)
}

fn position(branches: &[Arc<Branch>], path: &Path) -> Result<usize, UnionError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    branches
        .iter()
        .position(|branch| branch.path == path)
        .ok_or_else(|| {
            UnionError::Refused(
                format!("{} is no branch of this union", path.display()),
                libc::ENOENT,
            )
        })
}

/// `writable` says whether a branch at the top is `rw` by default.
fn apply_one(
    branches: &mut Vec<Arc<Branch>>,
    change: &Change,
    writable: bool,
) -> Result<(), UnionError> {
    match change {
        Change::Insert(index, arg) => {
            let at = if *index == usize::MAX {
                branches.len()
            } else {
                *index
            };
            if at > branches.len() {
                let text = format!("index {at} is beyond the last branch");
                return Err(UnionError::Refused(text, libc::EINVAL));
            }
            branches.insert(at, Arc::new(Branch::open(arg, at == 0 && writable)?));
        }
        Change::Delete(path) => {
            let at = position(branches, path)?;
            if branches[at].opens.load(Ordering::Relaxed) > 0 {
                return Err(busy(path, "files of it are open"));
            }
            branches.remove(at);
        }
        Change::Modify(path, permission) => {
            let at = position(branches, path)?;
            branches[at] = modified(&branches[at], *permission)?;
        }
        Change::Replace(list) => {
            let old = std::mem::take(branches);
            for (at, arg) in list.iter().enumerate() {
                branches.push(replaced(&old, arg, at == 0 && writable)?);
            }
            for gone in old
                .iter()
                .filter(|old| !branches.iter().any(|kept| kept.path == old.path))
            {
                if gone.opens.load(Ordering::Relaxed) > 0 {
                    return Err(busy(&gone.path, "files of it are open"));
                }
            }
        }
    }
    Ok(())
}

fn modified(branch: &Arc<Branch>, permission: Permission) -> Result<Arc<Branch>, UnionError> {
    let loses_writing = branch.is_writable() && !permission.is_writable();
    if loses_writing && branch.writers.load(Ordering::Relaxed) > 0 {
        return Err(busy(&branch.path, "files of it are open for writing"));
    }
    Ok(Arc::new(branch.with_permission(permission)?))
}

fn replaced(old: &[Arc<Branch>], arg: &BranchArg, first: bool) -> Result<Arc<Branch>, UnionError> {
    let path = std::path::absolute(&arg.path).unwrap_or_else(|_| arg.path.clone());
    match old.iter().find(|branch| branch.path == path) {
        Some(branch) => match arg.permission {
            Some(permission) if permission != branch.permission => modified(branch, permission),
            _ => Ok(Arc::clone(branch)),
        },
        None => Ok(Arc::new(Branch::open(arg, first)?)),
    }
}

//! `udba=notify`: directories of branches are watched, so that the kernel may keep names.
//!
//! A directory is watched in every branch that has it from its first look-up on until the kernel
//! forgets it. Events tell who changed what: the server's own changes are passed over. Where a
//! directory cannot be watched its names are not kept, as with `udba=reval`.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;
use sys::fanotify::{DirKey, Event, Watcher};

use crate::union::Res;
use crate::union::branch::{Members, lock};
use crate::union::marks::Told;
use crate::union::node::{Node, Places};
use crate::union::options::{Access, DirectChanges};
use crate::union::tree::Union;

/// Each watched directory keeps the kernel's inode of it in memory.
const ROOM: usize = 200_000;
/// Events of this long are taken together: a file that is written all the time counts once.
const PAUSE: Duration = Duration::from_millis(10);

/// File systems that others change without this kernel's knowing, by their magic numbers:
/// NFS, SMB, 9P, Ceph, FUSE.
const REMOTE: &[u64] = &[
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x0102_1997,
    0x00c3_6400,
    0x6573_5546,
];

/// The watched directories of a union.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Watcher,
    dirs: Mutex<HashMap<DirKey, Vec<u64>>>,
}

/// What a node remembers of being watched.
#[derive(Debug)]
pub(crate) struct Watched {
    epoch: u32,
    places: Arc<Places>,
    keys: Vec<(u32, DirKey)>,
}

/// The union's watch, from the time that it is asked for.
#[derive(Debug, Default)]
pub(crate) struct Watching {
    me: OnceLock<Weak<Union>>,
    watch: OnceLock<Result<Arc<Watch>, String>>,
}

impl Node {
    /// Whether all its directories are watched.
    pub(crate) fn is_watched(&self, members: &Members) -> bool {
        let state = self.state();
        let (Some(watched), Some(places)) = (&state.watched, &state.places) else {
            return false;
        };
        watched.epoch == members.epoch
            && state.epoch == members.epoch
            && (Arc::ptr_eq(places, &watched.places) || *places == watched.places)
    }
}

impl Watch {
    fn nodes(&self, key: &DirKey) -> Vec<u64> {
        lock(&self.dirs).get(key).cloned().unwrap_or_default()
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.dirs).len()
    }

    fn drop_node(&self, members: &Members, node: u64, watched: &Watched) {
        for (branch, key) in &watched.keys {
            let mut dirs = lock(&self.dirs);
            let Some(nodes) = dirs.get_mut(key) else {
                continue;
            };
            nodes.retain(|&other| other != node);
            if !nodes.is_empty() {
                continue;
            }
            dirs.remove(key);
            drop(dirs);
            let Some(branch) = members.branches.iter().find(|it| it.id == *branch) else {
                continue;
            };
            // A directory that is gone took its watch along.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let _ = openat(&branch.root, c".", flags, Mode::empty())
                .and_then(|anchor| key.open(anchor.as_fd()))
                .and_then(|dir| self.watcher.remove(dir.as_fd()));
        }
    }
}

impl Members {
    /// Why the branches cannot be watched, if so.
    pub(crate) fn unwatchable(&self) -> Option<String> {
        if self.settings.newest {
            return Some("search=newest looks at the files of all branches".to_owned());
        }
        self.branches
            .iter()
            .filter(|branch| branch.permission.access != Access::RealReadOnly)
            .find(|branch| {
                rustix::fs::fstatfs(&branch.root)
                    .is_ok_and(|vfs| REMOTE.contains(&vfs.f_type.cast_unsigned()))
            })
            .map(|branch| {
                format!(
                    "branch {} is on a file system that is changed from elsewhere",
                    branch.path.display()
                )
            })
    }
}

impl Union {
    /// Lets the union start watching by itself when it is told to.
    pub(crate) fn may_watch(self: &Arc<Self>) {
        let _ = self.watching.me.set(Arc::downgrade(self));
        self.start_watching(&self.members());
    }

    /// The union as its threads share it.
    pub(crate) fn myself(&self) -> Option<Arc<Self>> {
        self.watching.me.get()?.upgrade()
    }

    /// Starts the thread that waits for events, if the settings want it.
    pub(crate) fn start_watching(&self, members: &Members) {
        let wanted = members.settings.direct_changes == DirectChanges::Notify;
        if let (true, Some(me)) = (wanted, self.watching.me.get()) {
            self.watching
                .watch
                .get_or_init(|| start(Weak::clone(me)).map_err(|error| error.to_string()));
        }
    }

    fn watcher(&self, members: &Members) -> Option<&Arc<Watch>> {
        if members.settings.direct_changes != DirectChanges::Notify || members.unwatched {
            return None;
        }
        self.watching.watch.get()?.as_ref().ok()
    }

    /// How many directories are watched, or why none is.
    pub(crate) fn watches(&self, members: &Members) -> Result<usize, String> {
        if let Some(reason) = members.unwatchable() {
            return Err(reason);
        }
        match self.watching.watch.get() {
            Some(Ok(watch)) => Ok(watch.len()),
            Some(Err(reason)) => Err(reason.clone()),
            None => Err("nothing is to be watched".into()),
        }
    }

    /// Ends all watches: the branches are other ones now.
    pub(crate) fn end_watches(&self) {
        if let Some(Ok(watch)) = self.watching.watch.get() {
            lock(&watch.dirs).clear();
            watch.watcher.clear();
        }
    }

    /// Watches a directory in all branches that have it; false where that is not possible.
    pub(crate) fn watch(&self, members: &Members, dir: &Arc<Node>) -> bool {
        let Some(watch) = self.watcher(members) else {
            return false;
        };
        // What was found before the watch began may be another now: twice the same is true.
        for _ in 0..4 {
            if dir.is_watched(members) {
                return true;
            }
            if self.watch_once(watch, members, dir).is_err() {
                return false;
            }
        }
        false
    }

    fn watch_once(&self, watch: &Watch, members: &Members, dir: &Arc<Node>) -> Res<()> {
        let places = self.places(members, dir)?;
        let mut keys = Vec::new();
        for &at in &places.at {
            let branch = members.branch(at);
            if branch.permission.access == Access::RealReadOnly {
                continue;
            }
            let fd = self.dir_fd(members, dir, at)?;
            if watch.len() >= ROOM {
                return Err(Errno::NOSPC);
            }
            if !branch.is_passed_over.swap(true, Ordering::Relaxed) {
                // Writes that the kernel passes through by our own clone of the mount; it knows of
                // them. Where that is refused, each of them is told of and does no harm.
                let _ = watch.watcher.pass_over(branch.root.as_fd());
            }
            watch.watcher.add(fd.as_fd())?;
            let key = DirKey::of(fd.as_fd())?;
            let mut dirs = lock(&watch.dirs);
            let nodes = dirs.entry(key.clone()).or_default();
            if !nodes.contains(&dir.id) {
                nodes.push(dir.id);
            }
            drop(dirs);
            keys.push((branch.id, key));
        }
        let (parent, name) = {
            let state = dir.state();
            (state.parent.clone(), state.name.clone())
        };
        let now = match parent {
            Some(parent) => self.look(members, &parent, &name, true)?.places(),
            None => Some(Places::clone(&places)),
        };
        let mut state = dir.state();
        if now.is_some_and(|now| now == *places) {
            state.watched = Some(Box::new(Watched {
                epoch: members.epoch,
                places,
                keys,
            }));
        } else {
            state.epoch = members.epoch.wrapping_sub(1); // looked up anew at the next use
        }
        Ok(())
    }

    /// Takes look-ups of a node back; with the last one its watches end.
    pub(crate) fn forget(&self, id: u64, count: u64) {
        let Some(node) = self.table.forget(id, count) else {
            return;
        };
        if !node.is_dir() {
            return;
        }
        self.missing.take(id);
        let watched = node.state().watched.take();
        if let (Some(watched), Some(Ok(watch))) = (watched, self.watching.watch.get()) {
            watch.drop_node(&self.members(), id, &watched);
        }
    }

    /// Makes the kernel forget what an event says is not so any more.
    fn changed(&self, watch: &Watch, event: &Event<'_>) {
        let Some(key) = &event.dir else {
            if event.happened.overflow() {
                self.forget_all();
            }
            return;
        };
        for dir in watch
            .nodes(key)
            .into_iter()
            .filter_map(|id| self.table.get(id))
        {
            let members = self.members();
            if event.happened.names() {
                self.name_changed(&members, &dir, event.name, event.happened.to_directory());
            }
            if event.happened.attributes() {
                self.attributes_changed(&members, &dir, event.name);
            }
        }
    }

    fn name_changed(&self, members: &Members, dir: &Arc<Node>, name: &CStr, is_dir: bool) {
        let (name, may_merge) = match members.marks().told(name) {
            Told::Nothing => return,
            Told::Merging => return self.merging_changed(members, dir),
            Told::Name(name) => (name, is_dir),
            Told::Hiding(name) => (name, true),
        };
        self.forget_name(dir.id, &name);
        self.forget_attributes(dir.id);
        if may_merge {
            self.check_merging(members, dir, &name);
        }
    }

    /// A directory that stays the same one may merge with others now.
    fn check_merging(&self, members: &Members, dir: &Arc<Node>, name: &CStr) {
        let Ok(look) = self.look(members, dir, name, true) else {
            return;
        };
        if let Some(node) = self.node_of(members, dir, name, &look)
            && node.is_dir()
            && node.state().places.as_deref() != look.places().as_ref()
        {
            self.merging_changed(members, &node);
        }
    }

    fn merging_changed(&self, members: &Members, dir: &Arc<Node>) {
        let (parent, name) = {
            let mut state = dir.state();
            state.epoch = members.epoch.wrapping_sub(1); // looked up anew at the next use
            (state.parent.clone(), state.name.clone())
        };
        if let Some(parent) = parent {
            self.forget_name(parent.id, &name);
        }
        self.forget_attributes(dir.id);
        self.forget_below(dir);
    }

    fn attributes_changed(&self, members: &Members, dir: &Arc<Node>, name: &CStr) {
        if name == c"." {
            self.forget_attributes(dir.id);
            let (parent, name) = {
                let state = dir.state();
                (state.parent.clone(), state.name.clone())
            };
            if let (Some(parent), true) = (parent, members.marks().are_attributes()) {
                self.check_merging(members, &parent, &name);
            }
            return;
        }
        if let Ok(look) = self.look(members, dir, name, false)
            && let Some(node) = self.node_of(members, dir, name, &look)
        {
            self.forget_attributes(node.id);
            if node.is_dir() && members.marks().are_attributes() {
                self.check_merging(members, dir, name);
            }
        }
    }
}

fn start(union: Weak<Union>) -> Result<Arc<Watch>, sys::SysError> {
    let watch = Arc::new(Watch {
        watcher: Watcher::open()?,
        dirs: Mutex::default(),
    });
    let ours = Arc::clone(&watch);
    std::thread::Builder::new()
        .name("union-watch".into())
        .spawn(move || wait(&union, &ours))
        .map_err(|error| sys::SysError::from_io("clone(thread)", error))?;
    Ok(watch)
}

/// Waits for events until the union is gone.
fn wait(union: &Weak<Union>, watch: &Watch) {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let each = |event: Event<'_>| {
            if let (true, Some(union)) = (event.process != own, union.upgrade()) {
                let seen = &union.counters.changes_seen;
                seen.fetch_add(1, Ordering::Relaxed);
                union.changed(watch, &event);
            }
        };
        match watch.watcher.wait(&mut buffer, each) {
            Ok(()) => std::thread::sleep(PAUSE),
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

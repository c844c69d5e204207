//! The union as one tree: which branch serves which name.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use rustix::fs::{AtFlags, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;
use sys::fuse::Device;

use crate::union::Res;
use crate::union::branch::{Branch, Members, device_of, lock};
use crate::union::control::Said;
use crate::union::dircache::DirCache;
use crate::union::handle::Handles;
use crate::union::kept::Missing;
use crate::union::lasting::Lasting;
use crate::union::links::{Link, Linked, Links};
use crate::union::marks::Entry;
use crate::union::marks::redirect::Merging;
use crate::union::moved::Route;
use crate::union::node::{Node, NumberMap, Places, ROOT, Real, Seen, Table};
use crate::union::options::Transport;
use crate::union::origins::FileSystems;
use crate::union::small_numbers::SmallNumbers;
use crate::union::watch::Watching;

/// The served file system.
#[derive(Debug)]
pub(crate) struct Union {
    members: RwLock<Arc<Members>>,
    pub(crate) changing: Mutex<()>,
    pub(crate) said: Said,
    pub(crate) forgetting: AtomicBool,
    pub(crate) table: Table,
    pub(crate) dirs: DirCache,
    pub(crate) handles: Handles,
    pub(crate) missing: Missing,
    pub(crate) watching: Watching,
    pub(crate) links: Links,
    pub(crate) file_systems: FileSystems,
    pub(crate) small_numbers: SmallNumbers,
    /// Copies on branches that cannot keep the origin themselves.
    pub(crate) origins: Mutex<NumberMap<u64, u64>>,
    pub(crate) turn: AtomicU64,
    pub(crate) counters: Counters,
    pub(crate) target: PathBuf,
    pub(crate) last_error: Mutex<String>,
    pub(crate) device: Arc<Device>,
    pub(crate) transport: Transport,
    pub(crate) has_rings: AtomicBool,
    pub(crate) can_pass: AtomicBool,
    pub(crate) extended_setxattr: AtomicBool,
    /// Directories whose rest a thread reads, or is about to.
    pub(crate) reading_ahead: AtomicUsize,
    /// What outlives the server, if anything does.
    pub(crate) lasting: Option<Arc<Lasting>>,
}

/// What was done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) requests: AtomicU64,
    /// Those of them that came by a ring.
    pub(crate) ring_requests: AtomicU64,
    pub(crate) copy_ups: AtomicU64,
    pub(crate) copied_bytes: AtomicU64,
    pub(crate) moves: AtomicU64,
    pub(crate) passed_opens: AtomicU64,
    pub(crate) cached_opens: AtomicU64,
    pub(crate) changes_seen: AtomicU64,
}

/// What a name is in a directory of the union.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) top: Option<(u16, Statx)>,
    /// For a directory, all branches that have it, with its inode number there.
    pub(crate) dirs: Vec<(u16, u64)>,
    pub(crate) bound: u16,
    /// The branch that hides the name by a whiteout, if no branch above has it.
    pub(crate) whiteout: Option<u16>,
    /// For a directory, where branches have it elsewhere than by this name.
    pub(crate) routes: Vec<Route>,
    /// The state of the pseudo-links before it was looked, where that matters.
    pub(crate) links: Option<u64>,
}

/// How to reach an object.
#[derive(Debug)]
pub(crate) enum Reach {
    /// By a descriptor of the object itself.
    Fd(Arc<OwnedFd>),
    /// By a name in a directory.
    Name(Arc<OwnedFd>, CString),
}

pub(crate) const STAT: StatxFlags = StatxFlags::BASIC_STATS.union(StatxFlags::BTIME);

/// The attributes of a name, never through a symbolic link.
pub(crate) fn stat_at(dir: impl AsFd, name: &CStr) -> Res<Statx> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    statx(dir, name, flags, STAT)
}

/// The attributes of what a descriptor is open on.
pub(crate) fn stat_fd(fd: impl AsFd) -> Res<Statx> {
    statx(fd, c"", AtFlags::EMPTY_PATH, STAT)
}

pub(crate) fn kind_of(stat: &Statx) -> u32 {
    u32::from(stat.stx_mode) & libc::S_IFMT
}

impl Union {
    pub(crate) fn new(
        members: Members,
        device: Arc<Device>,
        target: PathBuf,
        limit: u64,
        transport: Transport,
        lasting: Option<Arc<Lasting>>,
    ) -> Res<Self> {
        let top = members.branches.first().ok_or(Errno::INVAL)?;
        let stat = stat_fd(&top.root)?;
        let file_systems = FileSystems::new(&members.branches, lasting.clone());
        let root = Seen {
            ino: ROOT,
            kind: libc::S_IFDIR,
            real: Real::of(&stat),
            epoch: 0,
            at: 0,
            places: None,
            link: None,
        };
        let room = usize::try_from(limit / 4).unwrap_or(256).min(4096);
        let union = Self {
            members: RwLock::new(Arc::new(members)),
            changing: Mutex::new(()),
            said: Said::default(),
            forgetting: AtomicBool::new(false),
            table: Table::new(root, lasting.clone()),
            dirs: DirCache::new(room),
            handles: Handles::new(lasting.clone()),
            missing: Missing::default(),
            watching: Watching::default(),
            links: Links::default(),
            file_systems,
            small_numbers: SmallNumbers::default(),
            origins: Mutex::default(),
            turn: AtomicU64::new(0),
            counters: Counters::default(),
            target,
            last_error: Mutex::default(),
            device,
            transport,
            has_rings: AtomicBool::new(false),
            can_pass: AtomicBool::new(false),
            extended_setxattr: AtomicBool::new(false),
            reading_ahead: AtomicUsize::new(0),
            lasting,
        };
        union.load_links(&union.members());
        Ok(union)
    }

    /// The branches as they are now.
    pub(crate) fn members(&self) -> Arc<Members> {
        Arc::clone(
            &self
                .members
                .read()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        )
    }

    pub(crate) fn set_members(&self, members: Members) {
        *self
            .members
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Arc::new(members);
    }

    pub(crate) fn node(&self, id: u64) -> Res<Arc<Node>> {
        self.table.get(id).ok_or(Errno::STALE)
    }

    /// The branches that have a directory.
    pub(crate) fn places(&self, members: &Members, node: &Arc<Node>) -> Res<Arc<Places>> {
        let (parent, name) = {
            let state = node.state();
            if state.epoch == members.epoch
                && let Some(places) = &state.places
            {
                return Ok(Arc::clone(places));
            }
            (state.parent.clone(), state.name.clone())
        };
        let (at, real, places) = match parent {
            None => {
                let at: Vec<u16> = (0..=members.last()).collect();
                let stat = stat_fd(&members.branch(0).root)?;
                (
                    0,
                    Real::of(&stat),
                    Places {
                        at,
                        bound: members.last(),
                        routes: Vec::new(),
                    },
                )
            }
            Some(parent) => {
                if node.state().gone {
                    return Err(Errno::NOENT);
                }
                let look = self.look(members, &parent, &name, true)?;
                let (at, stat) = look.top.as_ref().ok_or(Errno::NOENT)?;
                self.still_means(members, node, &look)?;
                (*at, Real::of(stat), look.places().ok_or(Errno::STALE)?)
            }
        };
        let places = Arc::new(places);
        let mut state = node.state();
        state.epoch = members.epoch;
        state.at = at;
        state.real = real;
        state.places = Some(Arc::clone(&places));
        Ok(places)
    }

    /// A directory of one branch, as a descriptor to reach names by.
    pub(crate) fn dir_fd(&self, members: &Members, node: &Arc<Node>, at: u16) -> Res<Arc<OwnedFd>> {
        let branch = members.branch(at);
        let mut names = Vec::new();
        let mut here = Arc::clone(node);
        let mut fd = loop {
            if here.id == ROOT {
                break Arc::clone(&branch.root);
            }
            if let Some(fd) = self.dirs.get(here.id, branch.id) {
                break fd;
            }
            if let Some(fd) = self.moved_fd(members, &here, at)? {
                break fd;
            }
            let state = here.state();
            if state.gone {
                return Err(Errno::NOENT);
            }
            names.push(state.name.clone());
            let parent = state.parent.clone().ok_or(Errno::STALE)?;
            drop(state);
            here = parent;
        };
        if names.is_empty() {
            return Ok(fd);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for name in names.iter().rev() {
            fd = Arc::new(openat(&fd, name, flags, Mode::empty())?);
        }
        let stat = stat_fd(&fd)?;
        let state = node.state();
        if state.epoch == members.epoch && state.at == at && state.real != Real::of(&stat) {
            return Err(Errno::STALE);
        }
        drop(state);
        self.dirs.put(node.id, branch.id, &fd, stat.stx_ino);
        Ok(fd)
    }

    /// Looks a name up, top-down. `full` also finds whiteouts that hide nothing now but would
    /// hide what were made in a branch below.
    pub(crate) fn look(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        name: &CStr,
        full: bool,
    ) -> Res<Look> {
        let places = self.places(members, dir)?;
        let marks = members.marks();
        let mut look = Look {
            top: None,
            dirs: Vec::new(),
            bound: places.bound,
            whiteout: None,
            routes: Vec::new(),
            links: Some(self.links.state()),
        };
        for (step, &at) in places.at.iter().enumerate() {
            let fd = match self.dir_fd(members, dir, at) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                other => other?,
            };
            let has_marks = members.branch(at).permission.whiteouts && at < places.bound;
            let matters = full || step + 1 < places.at.len();
            match marks.entry(&fd, name, has_marks && matters)? {
                Entry::Object(stat) if kind_of(&stat) == libc::S_IFDIR => {
                    look.dirs.push((at, stat.stx_ino));
                    if look.top.is_none() {
                        look.top = Some((at, stat));
                    }
                    match self.merging(members, (&fd, name), at, places.bound)? {
                        Merging::Name => {}
                        Merging::Ends => {
                            look.bound = at;
                            break;
                        }
                        moved => {
                            self.follow(members, dir, (&mut look, at), moved)?;
                            break;
                        }
                    }
                }
                Entry::Object(stat) => {
                    if look.top.is_none() {
                        let newest = members.settings.newest;
                        look.top = Some(match newest {
                            true => self.newest(members, (dir, name), &places, (at, stat))?,
                            false => (at, stat),
                        });
                    } else {
                        look.bound = at.saturating_sub(1);
                    }
                    break;
                }
                Entry::Whiteout if members.branch(at).permission.whiteouts => {
                    look.bound = at;
                    if look.top.is_none() {
                        look.whiteout = Some(at);
                    }
                    break;
                }
                Entry::Whiteout | Entry::Missing => {}
            }
        }
        Ok(look)
    }

    /// Whether a branch below `at` would show the name, were there nothing at `at` and above.
    pub(crate) fn is_below(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        name: &CStr,
        at: u16,
    ) -> Res<bool> {
        let places = self.places(members, dir)?;
        for &lower in places.at.iter().filter(|&&place| place > at) {
            let fd = match self.dir_fd(members, dir, lower) {
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                other => other?,
            };
            let counts = members.branch(lower).permission.whiteouts;
            match members.marks().entry(&fd, name, counts)? {
                Entry::Object(_) => return Ok(true),
                Entry::Whiteout if counts => return Ok(false),
                Entry::Whiteout | Entry::Missing => {}
            }
        }
        Ok(false)
    }

    /// The number that an object is known by in the union.
    pub(crate) fn ino(&self, branch: &Branch, fd: impl AsFd, name: &CStr, stat: &Statx) -> u64 {
        let plain = self.plain_ino(device_of(stat), stat.stx_ino);
        if branch.has_copies.load(Ordering::Relaxed) {
            if let Some(origin) = self.noted_number(fd, name, stat.stx_ino) {
                return origin;
            }
            if let Some(&origin) = lock(&self.origins).get(&plain) {
                return origin;
            }
        }
        plain
    }

    /// The origin of a copy that is remembered in memory.
    pub(crate) fn remembered_origin(&self, stat: &Statx) -> Option<u64> {
        let plain = self.plain_ino(device_of(stat), stat.stx_ino);
        lock(&self.origins).get(&plain).copied()
    }

    /// Remembers a copy's origin in memory.
    pub(crate) fn remember_origin(&self, stat: &Statx, origin: u64) {
        let plain = self.plain_ino(device_of(stat), stat.stx_ino);
        lock(&self.origins).insert(plain, origin);
    }

    /// How the object of a node can be reached now.
    pub(crate) fn reach(&self, members: &Members, node: &Arc<Node>) -> Res<(Reach, u16)> {
        if node.is_dir() {
            let state = node.state();
            if let Some(pin) = &state.pin {
                return Ok((Reach::Fd(Arc::clone(pin)), state.at));
            }
            drop(state);
            let places = self.places(members, node)?;
            let at = *places.at.first().ok_or(Errno::STALE)?;
            return Ok((Reach::Fd(self.dir_fd(members, node, at)?), at));
        }
        let (parent, name, epoch, at, link) = {
            let state = node.state();
            if let Some(opened) = &state.opened {
                return Ok((Reach::Fd(Arc::clone(&opened.file)), state.at));
            }
            if let Some(pin) = &state.pin {
                return Ok((Reach::Fd(Arc::clone(pin)), state.at));
            }
            if state.gone {
                return Err(Errno::STALE);
            }
            let parent = state.parent.clone().ok_or(Errno::STALE)?;
            let link = state.link.clone().filter(|link| !link.is_settled());
            (parent, state.name.clone(), state.epoch, state.at, link)
        };
        let (at, link) = if epoch == members.epoch {
            (at, link)
        } else {
            self.relocate(members, node, &parent, &name)?
        };
        if let Some(link) = link {
            return Ok((link.reach(members.branch(at))?, at));
        }
        Ok((Reach::Name(self.dir_fd(members, &parent, at)?, name), at))
    }

    /// Finds a node again after the branches have changed.
    pub(crate) fn relocate(
        &self,
        members: &Members,
        node: &Arc<Node>,
        parent: &Arc<Node>,
        name: &CStr,
    ) -> Res<(u16, Option<Arc<Link>>)> {
        let look = self.look(members, parent, name, false)?;
        let linked = self.linked_of(members, &look)?;
        let (at, stat, link) = match linked {
            Some(Linked { link, at, stat }) => (at, stat, Some(link)),
            None => {
                let (at, stat) = look.top.ok_or(Errno::STALE)?;
                (at, stat, None)
            }
        };
        let mut state = node.state();
        if Real::of(&stat) != state.real {
            return Err(Errno::STALE);
        }
        state.epoch = members.epoch;
        state.at = at;
        state.link.clone_from(&link);
        Ok((at, link))
    }

    /// The attributes of a node, checked to be those of its object and of no other.
    pub(crate) fn stat(&self, members: &Members, node: &Arc<Node>) -> Res<Statx> {
        let (reach, _) = self.reach(members, node)?;
        let stat = reach.stat().map_err(|errno| self.moved(node, errno))?;
        if matches!(reach, Reach::Name(..)) && node.state().real != Real::of(&stat) {
            return Err(Errno::STALE);
        }
        Ok(stat)
    }

    /// The link count to show: of a merged directory, exact where one branch has all the
    /// subdirectories, else the 1 that means "not counted".
    pub(crate) fn nlink(&self, members: &Members, node: &Arc<Node>, stat: &Statx) -> u32 {
        if !node.is_dir() {
            return self.names(stat);
        }
        let Ok(places) = self.places(members, node) else {
            return stat.stx_nlink;
        };
        if places.at.len() < 2 {
            return stat.stx_nlink;
        }
        let counts: Vec<u32> = places
            .at
            .iter()
            .filter_map(|&at| stat_fd(&self.dir_fd(members, node, at).ok()?).ok())
            .map(|stat| stat.stx_nlink)
            .filter(|&count| count > 2)
            .collect();
        match counts.as_slice() {
            [] => 2,
            [only] => *only,
            _ => 1,
        }
    }
}

impl Look {
    /// Where a directory is, if it is one.
    pub(crate) fn places(&self) -> Option<Places> {
        (!self.dirs.is_empty()).then(|| Places {
            at: self.dirs.iter().map(|dir| dir.0).collect(),
            bound: self.bound,
            routes: self.routes.clone(),
        })
    }
}

impl Reach {
    pub(crate) fn stat(&self) -> Res<Statx> {
        match self {
            Self::Fd(fd) => stat_fd(fd),
            Self::Name(dir, name) => stat_at(dir, name),
        }
    }

    /// A descriptor of the object itself, opened for naming only.
    pub(crate) fn handle(&self) -> Res<Arc<OwnedFd>> {
        match self {
            Self::Fd(fd) => Ok(Arc::clone(fd)),
            Self::Name(dir, name) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                Ok(Arc::new(openat(dir, name, flags, Mode::empty())?))
            }
        }
    }

    /// A path that leads to the object and follows nothing but itself, for calls that want one.
    pub(crate) fn path(&self) -> Vec<u8> {
        match self {
            Self::Fd(fd) => fd_path(fd).into_bytes(),
            Self::Name(dir, name) => name_path(dir, name),
        }
    }

    pub(crate) fn is_fd(&self) -> bool {
        matches!(self, Self::Fd(_))
    }
}

/// The name of a descriptor's object in `/proc`.
pub(crate) fn fd_path(fd: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The name of an entry of a directory given by descriptor.
pub(crate) fn name_path(dir: impl AsFd, name: &CStr) -> Vec<u8> {
    let mut path = fd_path(dir).into_bytes();
    path.push(b'/');
    path.extend_from_slice(name.to_bytes());
    path
}

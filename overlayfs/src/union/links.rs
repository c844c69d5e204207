//! Pseudo-links while a union is mounted: which files are shown by a copy elsewhere.
//!
//! A file is found by its number, whatever name led to it; its copy is then reached by the link that
//! [`crate::union::plink`] keeps. Where nothing was copied this costs one look at a flag.
//!
//! The names of a copy are those that its branch has, and those of the origin that were neither
//! taken over nor hidden since. A count that is wrong after a crash is too high: the link on disk
//! stays longer then, and no name falls back to the old content.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::{AtFlags, Statx, unlinkat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::{Branch, Members, device_of, lock};
use crate::union::node::{Node, NumberMap, Real};
use crate::union::plink::{Counts, Key, born, for_each_name};
use crate::union::tree::{Look, Reach, Union, kind_of, stat_at};

/// One file that is shown by its copy.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) name: CString,
    /// The number that it is known by in the union.
    pub(crate) ino: u64,
    /// Grows from one to the next.
    pub(crate) number: u64,
    key: Key,
    origin: Identity,
    /// The branch that has the copy.
    pub(crate) holder: u64,
    copy: Real,
    counts: Mutex<Counts>,
    /// The link on disk is gone: the copy is a file like others.
    settled: AtomicBool,
    /// A name could not be given to the copy.
    pub(crate) stuck: AtomicBool,
}

/// All that are known.
#[derive(Debug, Default)]
pub(crate) struct Links {
    any: AtomicBool,
    next: AtomicU64,
    /// How many have ended.
    ended: AtomicU64,
    known: RwLock<Known>,
}

type Identity = (u64, u64);

#[derive(Debug, Default)]
struct Known {
    by_origin: NumberMap<Identity, Arc<Link>>,
    by_copy: NumberMap<Identity, Arc<Link>>,
}

/// The copy that shows a file: by which link, in which branch, and its attributes.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) link: Arc<Link>,
    pub(crate) at: u16,
    pub(crate) stat: Statx,
}

fn identity(stat: &Statx) -> Identity {
    (device_of(stat), stat.stx_ino)
}

impl Link {
    pub(crate) fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Acquire)
    }

    fn below(&self) -> u32 {
        lock(&self.counts).below
    }

    /// How its object is reached in the branch `at`, which has it.
    pub(crate) fn reach(&self, branch: &Branch) -> Res<Reach> {
        Ok(Reach::Name(branch.links_dir()?, self.name.clone()))
    }

    fn change(&self, branch: &Branch, change: impl FnOnce(&mut Counts)) -> Res<()> {
        let mut counts = lock(&self.counts);
        let mut new = *counts;
        change(&mut new);
        if new != *counts {
            new.write(self.reach(branch)?.handle()?)?;
            *counts = new;
        }
        Ok(())
    }
}

impl Links {
    /// Whether there is none, which is what nearly all unions have.
    pub(crate) fn is_empty(&self) -> bool {
        !self.any.load(Ordering::Acquire)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_origin(&self, stat: &Statx) -> Option<Arc<Link>> {
        let link = self.read().by_origin.get(&identity(stat)).cloned()?;
        (link.key.born == born(stat)).then_some(link)
    }

    /// The one that keeps a copy, found by a name of its own.
    pub(crate) fn by_copy(&self, stat: &Statx) -> Option<Arc<Link>> {
        if self.is_empty() {
            return None;
        }
        let link = self.read().by_copy.get(&identity(stat)).cloned()?;
        (link.copy == Real::of(stat)).then_some(link)
    }

    /// The number that the object of an entry of a listing is known by, if it is shown by a copy.
    pub(crate) fn ino(&self, device: u64, ino: u64) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let known = self.read();
        known.by_origin.get(&(device, ino)).map(|link| link.ino)
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Link>> {
        self.read().by_copy.values().cloned().collect()
    }

    /// How many files are shown by copies under names that the copies do not have themselves.
    pub(crate) fn len(&self) -> usize {
        let known = self.read();
        let used = known.by_copy.values().filter(|link| link.below() > 0);
        used.count()
    }

    fn add(&self, link: Link) -> Arc<Link> {
        let mut known = self.write();
        let copy = (link.copy.device, link.copy.ino);
        if let Some(same) = known.by_copy.get(&copy)
            && (same.copy, same.holder, same.key) == (link.copy, link.holder, link.key)
        {
            return Arc::clone(same);
        }
        let link = Arc::new(link);
        known.by_copy.insert(copy, Arc::clone(&link));
        known.by_origin.insert(link.origin, Arc::clone(&link));
        self.any.store(true, Ordering::Release);
        link
    }

    /// Changes whenever one ends, by which a name found before may have got its own object.
    pub(crate) fn state(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// The number that the next one will have.
    pub(crate) fn next(&self) -> u64 {
        self.next.load(Ordering::Acquire)
    }

    fn drop_where(&self, is_over: impl Fn(&Link) -> bool) {
        let mut known = self.write();
        self.ended.fetch_add(1, Ordering::AcqRel);
        let stays = |_: &Identity, link: &mut Arc<Link>| {
            let over = is_over(link);
            if over {
                link.settled.store(true, Ordering::Release);
            }
            !over
        };
        known.by_copy.retain(stays);
        known.by_origin.retain(|_, link| !link.is_settled());
        self.any.store(!known.by_copy.is_empty(), Ordering::Release);
    }
}

impl Members {
    /// Where the branch is that is told by a place, if its marks count.
    fn holder(&self, place: u64) -> Option<u16> {
        let found = self
            .branches
            .iter()
            .position(|it| it.place == Some(place) && it.permission.whiteouts);
        found.and_then(|at| u16::try_from(at).ok())
    }

    /// Whether that branch may be changed.
    pub(crate) fn writes(&self, place: u64) -> bool {
        let at = self.holder(place);
        at.is_some_and(|at| self.branch(at).is_writable())
    }

    fn has_place(&self, place: u64) -> bool {
        self.branches.iter().any(|it| it.place == Some(place))
    }

    /// The key of a file that is to be copied; nothing where it could not be found again.
    pub(crate) fn key_of(&self, at: u16, stat: &Statx) -> Option<Key> {
        let own = std::iter::once(self.branch(at));
        let branch = own
            .chain(&self.branches)
            .find(|it| it.device == device_of(stat))?;
        let place = branch.place?;
        // A copy of a whole file system has the same places.
        let same = |it: &&Arc<Branch>| it.place == Some(place);
        (self.branches.iter().filter(same).count() == 1).then_some(Key {
            ino: stat.stx_ino,
            born: born(stat),
            place,
        })
    }
}

impl Union {
    /// The copy that shows what a look-up found, if it is shown by one.
    pub(crate) fn linked_of(&self, members: &Members, look: &Look) -> Res<Option<Linked>> {
        let Some((_, stat)) = &look.top else {
            return Ok(None);
        };
        if kind_of(stat) == libc::S_IFDIR {
            return Ok(None);
        }
        let linked = self.linked(members, stat)?;
        if linked.is_none() && look.links.is_some_and(|state| state != self.links.state()) {
            return Err(Errno::STALE); // the name may have a copy of its own by now
        }
        Ok(linked)
    }

    /// The copy that shows an object found by some name, if there is one.
    pub(crate) fn linked(&self, members: &Members, found: &Statx) -> Res<Option<Linked>> {
        if self.links.is_empty() {
            return Ok(None);
        }
        let mut last: Option<Linked> = None;
        // A copy may have been copied further up, but not in a ring.
        for _ in 0..members.branches.len() {
            let from = last.as_ref().map_or(found, |linked| &linked.stat);
            let Some(link) = self.links.by_origin(from) else {
                break;
            };
            let Some(at) = members.holder(link.holder) else {
                break;
            };
            let branch = members.branch(at);
            let stat = match link.reach(branch).and_then(|reach| reach.stat()) {
                Ok(stat) if Real::of(&stat) == link.copy => stat,
                _ if link.is_settled() => return Err(Errno::STALE),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => {
                    // Removed directly: the copy shows itself only.
                    self.links.drop_where(|other| other.number == link.number);
                    break;
                }
                Err(errno) => return Err(errno),
            };
            let more = from.stx_nlink;
            if more > lock(&link.counts).seen && branch.is_writable() {
                link.change(branch, |counts| {
                    counts.below = counts.below.saturating_add(more - counts.seen);
                    counts.seen = more;
                })?;
            }
            last = Some(Linked { link, at, stat });
        }
        Ok(last)
    }

    /// Whether a node has a copy that may have further names.
    pub(crate) fn is_linked(&self, node: &Node) -> bool {
        !self.links.is_empty() && node.state().link.is_some()
    }

    /// What to answer when a node's object could not be reached. It has lost the name by which it was
    /// known and may have others: whoever asks by a path is led there by another look-up, which tells
    /// as well if there is none.
    pub(crate) fn moved(&self, node: &Node, errno: Errno) -> Errno {
        if errno != Errno::NOENT {
            return errno;
        }
        if let Some(gone) = node.state().link.take() {
            self.links.drop_where(|link| link.number == gone.number);
        }
        Errno::STALE
    }

    /// How many names of an object the union has: all links, but not the one that is kept aside.
    pub(crate) fn names(&self, stat: &Statx) -> u32 {
        match self.links.by_copy(stat) {
            Some(link) => stat.stx_nlink.saturating_sub(1) + link.below(),
            None => stat.stx_nlink,
        }
    }

    /// Takes note that an object, found as it is described, has lost a name; returns how many names
    /// are left.
    pub(crate) fn name_gone(&self, members: &Members, found: &Statx) -> Res<u32> {
        if self.links.is_empty() {
            return Ok(found.stx_nlink.saturating_sub(1));
        }
        match self.linked(members, found)? {
            Some(linked) => self.taken(members, &linked.link),
            None => match self.links.by_copy(found) {
                Some(link) => self.settle(members, &link),
                None => Ok(found.stx_nlink.saturating_sub(1)),
            },
        }
    }

    /// One name of the origin is hidden, or a name of the copy; returns how many names are left.
    pub(crate) fn taken(&self, members: &Members, link: &Arc<Link>) -> Res<u32> {
        let at = members.holder(link.holder).ok_or(Errno::STALE)?;
        if members.branch(at).is_writable() {
            link.change(members.branch(at), |counts| {
                counts.below = counts.below.saturating_sub(1);
            })?;
        }
        self.settle(members, link)
    }

    /// Takes the link on disk away once no name of the origin needs it; returns how many names the
    /// copy has.
    fn settle(&self, members: &Members, link: &Arc<Link>) -> Res<u32> {
        let at = members.holder(link.holder).ok_or(Errno::STALE)?;
        let stat = link.reach(members.branch(at))?.stat()?;
        let left = stat.stx_nlink.saturating_sub(1) + link.below();
        if link.below() == 0 && members.writes(link.holder) {
            self.unlink_kept(members, link)?;
        }
        Ok(left)
    }

    /// Takes the link on disk away, and that of the origin if this is a copy itself.
    pub(crate) fn unlink_kept(&self, members: &Members, link: &Arc<Link>) -> Res<()> {
        let at = members.holder(link.holder).ok_or(Errno::STALE)?;
        let dir = members.branch(at).links_dir()?;
        match unlinkat(&dir, &link.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno),
        }
        self.links.drop_where(|other| other.number == link.number);
        let origin = self.links.read().by_copy.get(&link.origin).cloned();
        match origin {
            Some(origin) if members.writes(origin.holder) => self.unlink_kept(members, &origin),
            _ => Ok(()),
        }
    }

    /// Makes a link known that is on disk in the branch `at`; nothing if its origin is in no branch.
    pub(crate) fn know(&self, members: &Members, at: u16, name: &CStr) -> Res<Option<Arc<Link>>> {
        let branch = members.branch(at);
        let (Some(key), Some(holder)) = (Key::parse(name), branch.place) else {
            return Ok(None);
        };
        let origin = members
            .branches
            .iter()
            .find(|it| it.place == Some(key.place));
        let Some(origin) = origin else {
            return Ok(None);
        };
        let dir = branch.links_dir()?;
        let stat = stat_at(&dir, name)?;
        let ino = self.number_of((&dir, name), &stat, (origin.device, key.ino));
        branch.has_copies.store(true, Ordering::Relaxed);
        let link = Link {
            name: name.to_owned(),
            ino,
            number: self.links.next.fetch_add(1, Ordering::Relaxed),
            key,
            origin: (origin.device, key.ino),
            holder,
            copy: Real::of(&stat),
            counts: Mutex::new(Counts::read(&dir, name)),
            settled: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
        };
        Ok(Some(self.links.add(link)))
    }

    /// The number that a copy is known by: the one that its origin has, or had.
    fn number_of(&self, (dir, name): (&OwnedFd, &CStr), copy: &Statx, origin: Identity) -> u64 {
        let noted = self.noted_number(dir, name, copy.stx_ino);
        let noted = noted.or_else(|| self.remembered_origin(copy));
        noted.unwrap_or_else(|| {
            let above = self.links.read().by_copy.get(&origin).cloned();
            above.map_or_else(|| self.plain_ino(origin.0, origin.1), |link| link.ino)
        })
    }

    /// Forgets one that is not on disk any more.
    pub(crate) fn forget_link(&self, members: &Members, at: u16, name: &CStr) {
        let holder = members.branch(at).place;
        self.links
            .drop_where(|link| Some(link.holder) == holder && link.name.as_c_str() == name);
    }

    /// Makes all links known that are on disk in branches whose marks count.
    pub(crate) fn load_links(&self, members: &Members) {
        for at in (0..=members.last()).rev() {
            if !members.branch(at).permission.whiteouts {
                continue;
            }
            let Ok(dir) = members.branch(at).links_dir() else {
                continue;
            };
            let mut names = Vec::new();
            let read = for_each_name(&dir, |name| names.push(name.to_owned()));
            if read.is_err() {
                continue;
            }
            for name in names {
                // One that went meanwhile is none.
                let _ = self.know(members, at, &name);
            }
        }
    }

    /// Forgets those of branches that are not there any more.
    pub(crate) fn forget_links(&self, members: &Members) {
        self.links.drop_where(|link| {
            members.holder(link.holder).is_none() || !members.has_place(link.key.place)
        });
    }

    /// A branch that names need to show their copy, or that has such copies, and that would be gone
    /// or not count with these members.
    pub(crate) fn needed_for_links(&self, old: &Members, new: &Members) -> Option<Arc<Branch>> {
        let all = self.links.all();
        let used = all.iter().filter(|link| link.below() > 0);
        let place = used.into_iter().find_map(|link| {
            if !new.has_place(link.holder) {
                return None; // the copy itself goes
            }
            if new.holder(link.holder).is_none() {
                return Some(link.holder);
            }
            (!new.has_place(link.key.place)).then_some(link.key.place)
        })?;
        let found = old.branches.iter().find(|it| it.place == Some(place));
        found.cloned()
    }
}

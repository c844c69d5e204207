//! Files that are open: passed through to the kernel where possible, else served here.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{CWD, Mode, OFlags, ftruncate, openat};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::attrs::kill_privileges;
use crate::union::branch::{Branch, Members, lock};
use crate::union::handle::{Backing, Handle, Opened};
use crate::union::marks::Entry;
use crate::union::node::{Node, Real};
use crate::union::options::Passthrough;
use crate::union::tree::{Reach, Union, fd_path, stat_fd};
use crate::union::wire::fopen;

/// The kernel's answer to an open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) handle: u64,
    pub(crate) flags: u32,
    pub(crate) backing: i32,
}

/// The kernel's mark on opens for `execve`.
const EXECUTES: OFlags = OFlags::from_bits_retain(0x20);

pub(crate) fn writes(flags: OFlags) -> bool {
    flags.intersects(OFlags::WRONLY | OFlags::RDWR | OFlags::TRUNC)
}

fn open_object(reach: &Reach, flags: OFlags) -> Res<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
    match reach {
        // The path is a link of `/proc` itself; that the name was none is known.
        Reach::Fd(fd) => openat(CWD, fd_path(fd), flags - OFlags::NOFOLLOW, Mode::empty()),
        Reach::Name(dir, name) => openat(dir, name, flags | OFlags::NOFOLLOW, Mode::empty()),
    }
}

/// For writing without O_APPEND, which forbids copying ranges, unless the file insists on it.
fn open_writer(reach: &Reach, flags: OFlags) -> Res<OwnedFd> {
    let plain = OFlags::RDWR | (flags & (OFlags::TRUNC | OFlags::NOATIME));
    match open_object(reach, plain) {
        Err(Errno::PERM) => open_object(reach, plain | (flags & OFlags::APPEND)),
        other => other,
    }
}

impl Union {
    /// Opens a node's file.
    pub(crate) fn open(
        &self,
        members: &Members,
        node: &Arc<Node>,
        flags: OFlags,
        kill: bool,
    ) -> Res<Answer> {
        self.open_now(members, node, flags, kill)
            .map_err(|errno| self.moved(node, errno))
    }

    fn open_now(
        &self,
        members: &Members,
        node: &Arc<Node>,
        flags: OFlags,
        kill: bool,
    ) -> Res<Answer> {
        let _busy = lock(&node.busy);
        let wants_write = writes(flags);
        let truncates_only =
            flags.contains(OFlags::TRUNC) && flags & OFlags::RWMODE == OFlags::RDONLY;
        if truncates_only && self.handles.is_executed(node) {
            // The kernel sees to it for those that write, for these after the fact.
            return Err(Errno::TXTBSY);
        }
        let mut flags = flags;
        if wants_write {
            let (_, source) = self.reach(members, node)?;
            let at = self.writable_locked(members, node, flags.contains(OFlags::TRUNC))?;
            if at != source {
                flags -= OFlags::TRUNC; // copied without its data
            }
        }
        let (reach, at) = self.reach(members, node)?;
        let branch = members.branch(at);
        let (backing, has_cached) = match &node.state().opened {
            Some(opened) => (opened.backing.clone(), opened.backing.is_none()),
            None => (None, false),
        };
        let answer = if let Some(backing) = backing {
            if wants_write {
                self.add_writer(&backing, flags)?;
            }
            self.passed(node, branch, backing, flags)
        } else if !has_cached && self.may_pass(members, at) {
            match self.open_passed(node, &reach, flags)? {
                (file, Ok(backing)) => {
                    drop(file);
                    self.passed(node, branch, Arc::new(backing), flags)
                }
                (file, Err(errno)) => {
                    if matches!(
                        errno,
                        Errno::OPNOTSUPP | Errno::LOOP | Errno::INVAL | Errno::PERM
                    ) {
                        branch.refuses_passthrough.store(true, Ordering::Relaxed);
                    }
                    self.cached(node, branch, file, flags)
                }
            }
        } else {
            let file = if wants_write {
                open_object(
                    &reach,
                    (flags - (OFlags::DIRECT | OFlags::WRONLY)) | OFlags::RDWR,
                )
                .or_else(|_| open_object(&reach, flags - OFlags::DIRECT))
            } else {
                open_object(&reach, OFlags::RDONLY | (flags & OFlags::NOATIME))
            }?;
            self.check(node, &reach, &file)?;
            self.cached(node, branch, Arc::new(file), flags)
        };
        if kill && wants_write {
            kill_privileges(self.object(members, node)?)?;
        }
        Ok(answer)
    }

    /// Whether files of a branch are passed through.
    fn may_pass(&self, members: &Members, at: u16) -> bool {
        let branch = members.branch(at);
        if !self.can_pass.load(Ordering::Relaxed)
            || branch.refuses_passthrough.load(Ordering::Relaxed)
            || members.is_nearly_full(branch)
        {
            return false;
        }
        match members.settings.passthrough {
            Passthrough::Off => false,
            Passthrough::All => true,
            Passthrough::Safe => !members.can_copy_up(at),
        }
    }

    /// An object opened by name must be the node's own.
    fn check(&self, node: &Arc<Node>, reach: &Reach, file: &OwnedFd) -> Res<()> {
        if !reach.is_fd() && node.state().real != Real::of(&stat_fd(file)?) {
            return Err(Errno::STALE);
        }
        Ok(())
    }

    fn open_passed(
        &self,
        node: &Arc<Node>,
        reach: &Reach,
        flags: OFlags,
    ) -> Res<(Arc<OwnedFd>, Res<Backing>)> {
        let wants_write = writes(flags);
        let file = if wants_write {
            open_writer(reach, flags - OFlags::TRUNC)?
        } else {
            open_object(reach, OFlags::RDONLY)?
        };
        self.check(node, reach, &file)?;
        if flags.contains(OFlags::TRUNC) {
            ftruncate(&file, 0)?;
        }
        let file = Arc::new(file);
        let backing = Backing::register(&self.device, Arc::clone(&file), wants_write);
        Ok((file, backing))
    }

    fn add_writer(&self, backing: &Backing, flags: OFlags) -> Res<()> {
        if backing.writer.get().is_none() {
            let file = open_writer(
                &Reach::Fd(Arc::clone(&backing.reader)),
                flags - OFlags::TRUNC,
            )?;
            let _ = backing.writer.set(Arc::new(file));
        }
        if let (true, Some(writer)) = (flags.contains(OFlags::TRUNC), backing.writer.get()) {
            ftruncate(writer, 0)?;
        }
        Ok(())
    }

    fn handle(
        &self,
        node: &Arc<Node>,
        branch: &Arc<Branch>,
        file: Arc<OwnedFd>,
        flags: OFlags,
    ) -> Arc<Handle> {
        let executes = flags.contains(EXECUTES);
        Arc::new(Handle::new(node, branch, file, writes(flags), executes))
    }

    fn passed(
        &self,
        node: &Arc<Node>,
        branch: &Arc<Branch>,
        backing: Arc<Backing>,
        flags: OFlags,
    ) -> Answer {
        self.counters.passed_opens.fetch_add(1, Ordering::Relaxed);
        let file = match backing.writer.get() {
            Some(writer) if writes(flags) => Arc::clone(writer),
            _ => Arc::clone(&backing.reader),
        };
        let handle = self.handle(node, branch, file, flags);
        let id = backing.id.0;
        let mut state = node.state();
        match &mut state.opened {
            Some(opened) => opened.count += 1,
            None => {
                let file = Arc::clone(&backing.reader);
                let cached = Vec::new();
                state.opened = Some(Box::new(Opened {
                    count: 1,
                    backing: Some(backing),
                    cached,
                    file,
                }));
            }
        }
        drop(state);
        Answer {
            handle: self.handles.add_file(handle),
            flags: fopen::PASSTHROUGH | fopen::NOFLUSH,
            backing: id,
        }
    }

    fn cached(
        &self,
        node: &Arc<Node>,
        branch: &Arc<Branch>,
        file: Arc<OwnedFd>,
        flags: OFlags,
    ) -> Answer {
        self.counters.cached_opens.fetch_add(1, Ordering::Relaxed);
        let handle = self.handle(node, branch, Arc::clone(&file), flags);
        let weak = Arc::downgrade(&handle);
        let mut state = node.state();
        match &mut state.opened {
            Some(opened) => {
                opened.count += 1;
                opened.cached.retain(|handle| handle.strong_count() > 0);
                opened.cached.push(weak);
            }
            None => {
                let cached = vec![weak];
                state.opened = Some(Box::new(Opened {
                    count: 1,
                    backing: None,
                    cached,
                    file,
                }));
            }
        }
        drop(state);
        Answer {
            handle: self.handles.add_file(handle),
            flags: fopen::KEEP_CACHE | fopen::NOFLUSH | fopen::PARALLEL_DIRECT_WRITES,
            backing: 0,
        }
    }

    /// Opens a file that was just made and is open already.
    pub(crate) fn open_made(
        &self,
        members: &Members,
        node: &Arc<Node>,
        at: u16,
        file: OwnedFd,
    ) -> Answer {
        let _busy = lock(&node.busy);
        let file = Arc::new(file);
        let branch = members.branch(at);
        if self.may_pass(members, at) {
            match Backing::register(&self.device, Arc::clone(&file), true) {
                Ok(backing) => return self.passed(node, branch, Arc::new(backing), OFlags::RDWR),
                Err(Errno::NFILE | Errno::MFILE | Errno::NOMEM) => {}
                Err(_) => branch.refuses_passthrough.store(true, Ordering::Relaxed),
            }
        }
        self.cached(node, branch, file, OFlags::RDWR)
    }

    /// Ends one open.
    pub(crate) fn release(&self, number: u64) {
        let Some(handle) = self.handles.remove(number) else {
            return;
        };
        let mut state = handle.node.state();
        let Some(opened) = &mut state.opened else {
            return;
        };
        opened.count -= 1;
        if opened.count > 0 {
            return;
        }
        let last = state.opened.take();
        if state.gone
            && let Some(opened) = &last
        {
            state.pin = Some(Arc::clone(&opened.file));
        }
        drop(state);
        drop(last);
    }

    /// The open file that is asked for by handle.
    pub(crate) fn handle_of(&self, number: u64) -> Res<Arc<Handle>> {
        let lost = match self.lasting {
            Some(_) => Errno::IO, // it went with a server
            None => Errno::BADF,
        };
        self.handles.file(number).ok_or(lost)
    }

    /// Where a path of the union lies: each branch that has it, visible or hidden.
    pub(crate) fn where_is(&self, members: &Members, node: &Arc<Node>) -> Res<Vec<u16>> {
        if node.is_dir() {
            return Ok(self.places(members, node)?.at.clone());
        }
        let (parent, name, at, link) = {
            let state = node.state();
            let parent = state.parent.clone().ok_or(Errno::STALE)?;
            (parent, state.name.clone(), state.at, state.link.is_some())
        };
        let places = self.places(members, &parent)?;
        let has = |&at: &u16| self.has(members, &parent, &name, at);
        let mut found: Vec<u16> = places.at.iter().copied().filter(has).collect();
        if members.settings.newest && found.contains(&at) {
            found.retain(|&place| place != at);
            found.insert(0, at);
        }
        if link && !found.contains(&at) {
            found.insert(0, at); // it has the copy, under another name
        }
        Ok(found)
    }

    fn has(&self, members: &Members, dir: &Arc<Node>, name: &CStr, at: u16) -> bool {
        self.dir_fd(members, dir, at)
            .and_then(|fd| members.marks().entry(&fd, name, false))
            .is_ok_and(|entry| matches!(entry, Entry::Object(_)))
    }
}

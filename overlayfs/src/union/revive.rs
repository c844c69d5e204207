//! A server that goes on where another one died: with its descriptors, as far as they are what they
//! are said to be, and with the nodes and opens that the kernel knows.

use std::collections::HashMap;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use sys::fuse::{BackingId, Device, Inherited};

use crate::union::branch::{Branch, Members};
use crate::union::copyup::{Made, Placed};
use crate::union::handle::{self, Backing, DirHandle, Handle, Opened};
use crate::union::lasting::{Kept, Lasting, LastingFile, LastingNode, OpenRecord, Word};
use crate::union::mount::{Plan, refused};
use crate::union::node::{INHERITED, Node, NumberMap, Real};
use crate::union::options::{Options, Permission, Settings, Transport};
use crate::union::server::{agree, notification};
use crate::union::transport::Serving;
use crate::union::tree::{Look, Union, kind_of, stat_fd};
use crate::union::wire::notify;
use crate::union::{Res, UnionError};

/// Takes a union over and serves it.
pub(crate) fn revive(
    plan: &Plan<'_>,
    lasting: &Arc<Lasting>,
    mut inherited: Inherited,
) -> Result<Serving, UnionError> {
    sys::fuse::block_signals()?;
    let limit = sys::fuse::raise_descriptor_limit();
    let device = i32::try_from(lasting.get(Word::Device)).ok();
    let device = device.and_then(|number| inherited.take(number));
    let device = Arc::new(Device::inherited(device.ok_or_else(lost)?));
    let members = inherited_members(&plan.options.settings, lasting, &mut inherited)?;
    let lasting = Arc::clone(lasting);
    let agreed = lasting.get(Word::Agreed);
    let target = plan.target.to_owned();
    let transport = Transport::Device;
    let failed = |errno| refused(plan.target, errno);
    let union = Union::new(members, device, target, limit, transport, Some(lasting));
    let union = union.map_err(failed)?;
    agree(&union, agreed);
    union.inherit(&mut inherited);
    drop(inherited);
    notification(&union.device, notify::RESEND, &[]).map_err(failed)?;
    Serving::start(&Arc::new(union))
}

fn lost() -> UnionError {
    let text = "what the server had open is lost";
    UnionError::Refused(text.into(), libc::EBADF)
}

/// The branches and settings as they were when the server died.
fn inherited_members(
    settings: &Settings,
    lasting: &Lasting,
    inherited: &mut Inherited,
) -> Result<Members, UnionError> {
    let kept = lasting.members().ok_or_else(lost)?;
    let mut branches = Vec::new();
    for branch in &kept.branches {
        let root = inherited.take(branch.root).ok_or_else(lost)?;
        let permission = Permission::parse(&branch.permission);
        let permission = permission.map_err(|reason| UnionError::Branch {
            path: branch.path.clone(),
            reason,
        })?;
        let held = Branch::of_root(&branch.path, permission, root)?;
        branches.push(Arc::new(held.inherited(branch.lineage)));
    }
    let mut settings = settings.clone();
    settings.update(&Options::parse(&kept.words.join(","))?);
    Ok(Members::new(kept.epoch, branches, settings))
}

/// Descriptors that were taken: several opens may have one.
#[derive(Default)]
struct Taken(HashMap<i32, Arc<OwnedFd>>);

impl Taken {
    /// A descriptor, if it is open on the object that it is said to be open on.
    fn take(&mut self, inherited: &mut Inherited, number: i32, real: Real) -> Option<Arc<OwnedFd>> {
        let file = match self.0.get(&number) {
            Some(file) => Arc::clone(file),
            None => {
                let file = Arc::new(inherited.take(number)?);
                self.0.insert(number, Arc::clone(&file));
                file
            }
        };
        let stat = stat_fd(&file).ok()?;
        (Real::of(&stat) == real).then_some(file)
    }
}

/// An open with its number.
type Open = (u64, Arc<Handle>);

/// The opens of each node.
type Opens = NumberMap<u64, Vec<Open>>;

impl Union {
    /// Takes over nodes and opens.
    fn inherit(&self, inherited: &mut Inherited) {
        let Some(lasting) = &self.lasting else { return };
        let nodes = lasting.nodes();
        self.table.inherit(lasting, &nodes);
        let mut taken = Taken::default();
        let members = self.members();
        let opens = self.inherit_opens(&members, lasting, (inherited, &mut taken));
        let mut open = Vec::new();
        for kept in &nodes {
            let Some(node) = self.table.get(kept.id) else {
                continue;
            };
            let file = kept
                .pin
                .and_then(|pin| taken.take(inherited, pin, kept.real));
            let opens = opens.get(&kept.id).map_or(&[][..], Vec::as_slice);
            self.inherit_node(&members, &node, kept, (opens, file));
            if !opens.is_empty() {
                open.push((node, opens));
            }
        }
        for (node, opens) in open {
            self.find_again(&members, &node, opens);
        }
    }

    fn inherit_opens(
        &self,
        members: &Members,
        lasting: &Arc<Lasting>,
        (inherited, taken): (&mut Inherited, &mut Taken),
    ) -> Opens {
        let mut opens = Opens::default();
        for kept in lasting.opens() {
            let record = OpenRecord::at(lasting, kept.slot);
            let Some(node) = self.table.get(kept.node) else {
                continue;
            };
            let file = match kept.what {
                Kept::File(file) => file,
                Kept::Dir(opened) => {
                    node.state().listed.inherit();
                    let dir = handle::Inherited::Dir(DirHandle::new(node, Some(opened)));
                    self.handles.inherit(&kept, record, dir);
                    continue;
                }
            };
            let handle = taken
                .take(inherited, file.descriptor, file.real)
                .and_then(|fd| inherited_handle(members, &node, &file, fd));
            if let Some(handle) = handle {
                let list = opens.entry(kept.node).or_default();
                list.push((kept.number, Arc::clone(&handle)));
                self.handles
                    .inherit(&kept, record, handle::Inherited::File(handle));
            }
        }
        opens
    }

    /// Gives a node what it had open.
    fn inherit_node(
        &self,
        members: &Members,
        node: &Arc<Node>,
        kept: &LastingNode,
        (opens, pin): (&[Open], Option<Arc<OwnedFd>>),
    ) {
        let opened = opens.first().map(|(_, first)| {
            let writer = opens.iter().find(|(_, handle)| handle.writes);
            let reader = opens.iter().find(|(_, handle)| !handle.writes);
            let reader = reader.map_or_else(|| first.file(), |(_, handle)| handle.file());
            let backing = kept.backing.map(|id| {
                let writer = writer.map(|(_, handle)| handle.file());
                let reader = Arc::clone(&reader);
                Arc::new(Backing::inherited(&self.device, id, reader, writer))
            });
            let weak = opens.iter().map(|(_, handle)| Arc::downgrade(handle));
            Box::new(Opened {
                count: opens.len(),
                cached: if backing.is_some() {
                    Vec::new()
                } else {
                    weak.collect()
                },
                backing,
                file: reader,
            })
        });
        if opened.is_none()
            && let Some(id) = kept.backing
        {
            self.device.backing_close(BackingId(id)); // none of its opens was answered
        }
        let mut state = node.state();
        state.at = state.at.min(members.last());
        if opened.is_none() {
            state.pin = pin;
        }
        state.opened = opened;
    }

    /// Looks whether the name of an open file is still its own, or that of its copy, which it goes on
    /// with. If it is neither, the kernel finds what has the name now by looking it up, and nothing
    /// is written any more to what that hides: nobody would find it again.
    fn find_again(&self, members: &Members, node: &Arc<Node>, opens: &[Open]) {
        let (parent, name, passed) = {
            let state = node.state();
            if state.gone {
                return;
            }
            let opened = state.opened.as_ref();
            let passed = opened.is_some_and(|opened| opened.backing.is_some());
            (state.parent.clone(), state.name.clone(), passed)
        };
        let Some(parent) = parent else { return };
        if self.relocate(members, node, &parent, &name).is_ok() {
            return;
        }
        let is_hidden = match self.find_copy(members, node, (&parent, &name)) {
            Ok(true) => return,
            Ok(false) => true,
            Err(errno) => !matches!(errno, Errno::NOENT | Errno::NOTDIR),
        };
        self.table.bury(node, None);
        node.state().lost = true;
        if is_hidden && !passed {
            let hidden = opens.iter().filter(|(_, handle)| handle.writes);
            hidden.for_each(|(number, _)| self.release(*number));
        }
    }

    /// Goes on with the copy of a file that has its name: the server died after it was put in place.
    fn find_copy(
        &self,
        members: &Members,
        node: &Arc<Node>,
        (parent, name): (&Arc<Node>, &CStr),
    ) -> Res<bool> {
        let look = self.look(members, parent, name, false)?;
        let (at, now) = look.top.ok_or(Errno::NOENT)?;
        let dir = self.dir_fd(members, parent, at)?;
        let branch = Arc::clone(members.branch(at));
        let is_other =
            kind_of(&now) != node.kind || self.ino(&branch, &dir, name, &now) != node.ino;
        if is_other || self.linked_of(members, &look)?.is_some() {
            return Ok(false);
        }
        let placed = Placed {
            dir,
            branch,
            now,
            made: Made::default(),
            separated: false,
            link: self.links.by_copy(&now),
        };
        let bound = self.rebind(node, name, (at, members.epoch), &placed);
        Ok(bound.is_ok())
    }

    /// Whether what is found by the name of a directory is the one that it named when another server
    /// died: one of those that it is made of now.
    pub(crate) fn still_means(&self, members: &Members, node: &Node, look: &Look) -> Res<()> {
        let state = node.state();
        if state.epoch != INHERITED {
            return Ok(());
        }
        let Real { device, ino, .. } = state.real;
        let is_it = |&(at, found): &(u16, u64)| found == ino && members.branch(at).device == device;
        match look.dirs.iter().any(is_it) {
            true => Ok(()),
            false => Err(Errno::STALE),
        }
    }
}

fn inherited_handle(
    members: &Members,
    node: &Arc<Node>,
    kept: &LastingFile,
    file: Arc<OwnedFd>,
) -> Option<Arc<Handle>> {
    let mut branches = members.branches.iter();
    let branch = branches.find(|branch| branch.lineage == kept.lineage)?;
    let (writes, executes) = (kept.writes, kept.executes);
    Some(Arc::new(Handle::new(node, branch, file, writes, executes)))
}

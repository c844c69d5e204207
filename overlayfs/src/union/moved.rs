//! Directories whose lower parts lie elsewhere, since they were renamed (`dirren`).
//!
//! Such a directory has in the branches below the redirect a path of its own: it is looked for there
//! as the union would, in those branches alone.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::union::Res;
use crate::union::branch::Members;
use crate::union::marks::Entry;
use crate::union::marks::redirect::Merging;
use crate::union::node::{Node, Places, ROOT};
use crate::union::tree::{Look, Union, kind_of, stat_fd};

const DIR: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory of a branch.
struct Part {
    at: u16,
    dir: Arc<OwnedFd>,
}

/// From the branch after this one on, the branches have a directory at this path: it is what their
/// union would show there, were there none above.
pub(crate) type Route = (u16, Vec<CString>);

/// What lower branches show at a path, and where it went on elsewhere.
#[derive(Default)]
struct Walked {
    parts: Vec<Part>,
    routes: Vec<Route>,
}

/// What one name of a way leads to.
enum Step {
    /// These, and in branches below what was found before.
    On(Vec<Part>),
    /// These alone.
    End(Vec<Part>),
    /// These, and in branches below that of the last one what lies at this path.
    Elsewhere(Vec<Part>, Route),
}

impl Places {
    /// The directory's path in the branches below `at`, where that is not its name in the union.
    pub(crate) fn below(&self, at: u16) -> Option<&[CString]> {
        let last = self.routes.iter().rev().find(|(above, _)| *above <= at);
        last.map(|(_, path)| path.as_slice())
    }

    /// Its path in a branch, where that is not its name in the union.
    pub(crate) fn path_in(&self, at: u16) -> Option<&[CString]> {
        self.below(at.checked_sub(1)?)
    }

    /// Whether the directory can be made in a branch that does not have it: below a redirect it would
    /// be another.
    pub(crate) fn can_have(&self, at: u16) -> bool {
        self.routes.first().is_none_or(|(above, _)| at <= *above)
    }
}

/// Opens a directory by its path in a branch.
pub(crate) fn open_beneath(root: &OwnedFd, path: &[CString]) -> Res<OwnedFd> {
    let bytes: Vec<&[u8]> = path.iter().map(|name| name.to_bytes()).collect();
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    openat2(root, bytes.join(&b'/'), DIR, Mode::empty(), resolve)
}

impl Union {
    /// Where the directory of a node begins to have a path of its own in a branch.
    pub(crate) fn moved_fd(
        &self,
        members: &Members,
        node: &Arc<Node>,
        at: u16,
    ) -> Res<Option<Arc<OwnedFd>>> {
        if !members.follows_moves() {
            return Ok(None);
        }
        let places = self.places(members, node)?;
        let Some(path) = places.path_in(at) else {
            return Ok(None);
        };
        let branch = members.branch(at);
        let fd = Arc::new(open_beneath(&branch.root, path)?);
        self.dirs
            .put(node.id, branch.id, &fd, stat_fd(&fd)?.stx_ino);
        Ok(Some(fd))
    }

    /// The path at which the branches below `at` have a node's directory.
    fn path_below(&self, members: &Members, node: &Arc<Node>, at: u16) -> Res<Vec<CString>> {
        let mut names = Vec::new();
        let mut here = Arc::clone(node);
        while here.id != ROOT {
            if let Some(path) = self.places(members, &here)?.below(at) {
                names.extend(path.iter().rev().cloned());
                break;
            }
            let (name, parent) = {
                let state = here.state();
                (state.name.clone(), state.parent.clone())
            };
            names.push(name);
            here = parent.ok_or(Errno::STALE)?;
        }
        names.reverse();
        Ok(names)
    }

    /// How a directory of the branch `at` merges, whose parent shows nothing new below `bound`.
    pub(crate) fn merging(
        &self,
        members: &Members,
        (dir, name): (&OwnedFd, &CStr),
        at: u16,
        bound: u16,
    ) -> Res<Merging> {
        let marks = members.marks();
        if !members.branch(at).permission.whiteouts {
            return Ok(Merging::Name);
        }
        // Where a renamed directory is says nothing of where its lower parts are.
        if members.follows_moves() && at < members.last() {
            return marks.merging(dir, name);
        }
        Ok(match at < bound && marks.ends_merging(dir, name)? {
            true => Merging::Ends,
            false => Merging::Name,
        })
    }

    /// Goes on with a look-up below the directory of `look` in the branch `at`, which says where its
    /// lower parts are.
    pub(crate) fn follow(
        &self,
        members: &Members,
        dir: &Arc<Node>,
        (look, at): (&mut Look, u16),
        merging: Merging,
    ) -> Res<()> {
        let path = match merging {
            Merging::Moved(path) => path,
            Merging::Renamed(name) => {
                let mut path = self.path_below(members, dir, at)?;
                path.push(name);
                path
            }
            Merging::Ends | Merging::Name => return Ok(()),
        };
        let walked = self.walk(members, at + 1, &path)?;
        look.bound = at;
        for part in walked.parts {
            look.dirs.push((part.at, stat_fd(&part.dir)?.stx_ino));
            look.bound = part.at;
        }
        look.routes = vec![(at, path)];
        look.routes.extend(walked.routes);
        Ok(())
    }

    /// What the branches from `first` on show at a path, were there none above.
    fn walk(&self, members: &Members, first: u16, path: &[CString]) -> Res<Walked> {
        let root = |at| Part {
            at,
            dir: Arc::clone(&members.branch(at).root),
        };
        let mut parts: Vec<Part> = (first..=members.last()).map(root).collect();
        let mut below = Walked::default();
        for (depth, name) in path.iter().enumerate() {
            match self.step(members, parts, (&path[..depth], name))? {
                Step::On(next) => parts = next,
                Step::End(next) => {
                    parts = next;
                    below = Walked::default();
                }
                Step::Elsewhere(next, (at, mut elsewhere)) => {
                    parts = next;
                    elsewhere.extend_from_slice(&path[depth + 1..]);
                    below = self.walk(members, at + 1, &elsewhere)?;
                    below.routes.insert(0, (at, elsewhere));
                }
            }
        }
        parts.append(&mut below.parts);
        let routes = below.routes;
        Ok(Walked { parts, routes })
    }

    /// One name of the way, after those of `way`.
    fn step(
        &self,
        members: &Members,
        parts: Vec<Part>,
        (way, name): (&[CString], &CStr),
    ) -> Res<Step> {
        let marks = members.marks();
        let mut next = Vec::new();
        for Part { at, dir } in parts {
            let counts = members.branch(at).permission.whiteouts;
            match marks.entry(&dir, name, counts)? {
                Entry::Object(stat) if kind_of(&stat) == libc::S_IFDIR => {
                    let merging = match counts {
                        true => marks.merging(&dir, name)?,
                        false => Merging::Name,
                    };
                    let dir = Arc::new(openat(&dir, name, DIR, Mode::empty())?);
                    next.push(Part { at, dir });
                    match merging {
                        Merging::Name => {}
                        Merging::Ends => return Ok(Step::End(next)),
                        Merging::Moved(path) => return Ok(Step::Elsewhere(next, (at, path))),
                        Merging::Renamed(name) => {
                            let path = way.iter().cloned().chain([name]).collect();
                            return Ok(Step::Elsewhere(next, (at, path)));
                        }
                    }
                }
                Entry::Object(_) => return Ok(Step::End(next)),
                Entry::Whiteout if counts => return Ok(Step::End(next)),
                Entry::Whiteout | Entry::Missing => {}
            }
        }
        Ok(Step::On(next))
    }

    /// Prepares the directory that `look` found as `name` for being renamed in the branch `at`, where
    /// it is then: its lower parts stay where they are.
    pub(crate) fn detach(
        &self,
        members: &Members,
        node: &Arc<Node>,
        look: &Look,
        at: u16,
    ) -> Res<()> {
        if look.dirs.iter().all(|(place, _)| *place <= at) {
            return Ok(());
        }
        let path = self.path_below(members, node, at)?;
        let branch = members.branch(at);
        let dir = self.dir_fd(members, node, at)?;
        branch.has_moves.store(true, Ordering::Relaxed);
        members.marks().redirect(&branch.root, &dir, &path)
    }
}

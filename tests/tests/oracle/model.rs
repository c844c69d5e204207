//! A union as its rules say it is: branches as maps, every operation on them in a few lines, and no
//! system call. It follows `docs/union.md`; that the union's own code says the same is what is tested.

use std::collections::{BTreeMap, BTreeSet};

use rustix::io::Errno;

/// What a name of a branch is; a file is known by its number, which its further names share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Dir(u32),
    File(usize),
    Link(usize),
}

/// A file: its permissions and its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) mode: u32,
    pub(crate) data: String,
}

/// One branch: what it holds by path, and its marks by the path that they are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Branch {
    pub(crate) writable: bool,
    /// Its whiteouts count.
    pub(crate) marks: bool,
    pub(crate) tree: BTreeMap<String, Object>,
    pub(crate) whiteouts: BTreeSet<String>,
    pub(crate) opaque: BTreeSet<String>,
}

/// What a path is in the union.
#[derive(Debug, Clone, Default)]
pub(crate) struct Look {
    /// The branch that serves it.
    pub(crate) top: Option<(usize, Object)>,
    /// Of a directory, all branches that have it.
    pub(crate) dirs: Vec<usize>,
    pub(crate) bound: usize,
    pub(crate) whiteout: Option<usize>,
}

/// The union.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) branches: Vec<Branch>,
    pub(crate) files: Vec<File>,
    /// A whiteout has the place of what it hides, as in overlayfs's form, and is not beside it.
    pub(crate) in_place: bool,
}

pub(crate) type Res<T> = Result<T, Errno>;

pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub(crate) fn is_below(path: &str, above: &str) -> bool {
    let rest = path.strip_prefix(above);
    above.is_empty() || rest.is_some_and(|rest| rest.starts_with('/'))
}

/// How a rename treats what is at the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    Replace,
    Nothing,
    Exchange,
}

impl Branch {
    /// Moves an object with all below it, marks too.
    pub(crate) fn transfer(&mut self, from: &str, to: &str) {
        let at = |path: &str| path == from || is_below(path, from);
        let new = |path: &str| format!("{to}{}", &path[from.len()..]);
        let moved: Vec<_> = self.tree.extract_if(.., |path, _| at(path)).collect();
        self.tree
            .extend(moved.iter().map(|(path, it)| (new(path), *it)));
        for (marks, own) in [(&mut self.whiteouts, false), (&mut self.opaque, true)] {
            let old: Vec<String> = marks
                .iter()
                .filter(|path| is_below(path, from))
                .cloned()
                .collect();
            let old: Vec<String> = old
                .into_iter()
                .chain((own && marks.contains(from)).then(|| from.to_owned()))
                .collect();
            for path in old {
                marks.remove(&path);
                marks.insert(new(&path));
            }
        }
    }

    /// Removes an object with all below it, marks too.
    pub(crate) fn remove(&mut self, path: &str) {
        self.tree
            .retain(|other, _| other != path && !is_below(other, path));
        self.whiteouts.retain(|other| !is_below(other, path));
        self.opaque
            .retain(|other| other != path && !is_below(other, path));
    }
}

/// Looking.
impl Model {
    /// The branches that a directory of the union consists of, and the last in which it may grow.
    fn places(&self, dir: &str) -> Res<(Vec<usize>, usize)> {
        if dir.is_empty() {
            return Ok(((0..self.branches.len()).collect(), self.branches.len() - 1));
        }
        let look = self.look(dir)?;
        match look.top {
            Some((_, Object::Dir(_))) => Ok((look.dirs, look.bound)),
            Some((_, Object::File(_))) => Err(Errno::NOTDIR),
            // Links lead nowhere.
            Some((_, Object::Link(_))) | None => Err(Errno::NOENT),
        }
    }

    pub(crate) fn look(&self, path: &str) -> Res<Look> {
        let (places, bound) = self.places(parent(path))?;
        let mut look = Look {
            bound,
            ..Look::default()
        };
        for at in places {
            let branch = &self.branches[at];
            // Where nothing lies below, nobody looks for marks that are not in the way.
            let marks = branch.marks && at < bound;
            let counts = marks || branch.marks && self.in_place;
            let whited_out = counts && branch.whiteouts.contains(path);
            match branch.tree.get(path) {
                Some(object @ Object::Dir(_)) => {
                    look.dirs.push(at);
                    look.top.get_or_insert((at, *object));
                    if marks && (whited_out || branch.opaque.contains(path)) {
                        look.bound = look.bound.min(at);
                        break;
                    }
                }
                Some(object) => {
                    if look.top.is_some() {
                        look.bound = look.bound.min(at.saturating_sub(1));
                    }
                    look.top.get_or_insert((at, *object));
                    break;
                }
                None if whited_out => {
                    look.bound = look.bound.min(at);
                    if look.top.is_none() {
                        look.whiteout = Some(at);
                    }
                    break;
                }
                None => {}
            }
        }
        Ok(look)
    }

    pub(crate) fn found(&self, path: &str) -> Res<(Look, usize, Object)> {
        let look = self.look(path)?;
        let (at, object) = look.top.ok_or(Errno::NOENT)?;
        Ok((look, at, object))
    }

    /// Whether a branch below would show a path if those down to `at` did not.
    pub(crate) fn shows_below(&self, path: &str, at: usize) -> bool {
        let (places, _) = self.places(parent(path)).unwrap_or_default();
        for lower in places.into_iter().filter(|&place| place > at) {
            let branch = &self.branches[lower];
            if branch.tree.contains_key(path) {
                return true;
            }
            if branch.marks && branch.whiteouts.contains(path) {
                return false;
            }
        }
        false
    }

    /// The names that a directory shows.
    pub(crate) fn list(&self, dir: &str) -> BTreeSet<String> {
        let (places, _) = self.places(dir).unwrap_or_default();
        let mut names = BTreeSet::new();
        for at in places {
            let entries = self.branches[at].tree.keys();
            names.extend(
                entries
                    .filter(|path| parent(path) == dir && !path.is_empty())
                    .cloned(),
            );
        }
        names.retain(|path| self.look(path).is_ok_and(|look| look.top.is_some()));
        names
    }

    /// How many names a file has in its branch, hidden ones too.
    pub(crate) fn names(&self, at: usize, file: usize) -> usize {
        let objects = self.branches[at].tree.values();
        objects
            .filter(|object| **object == Object::File(file))
            .count()
    }
}

/// Changing.
impl Model {
    /// Top-down parent: where a new object goes.
    fn place(&self, dir: &str, bound: usize) -> Res<usize> {
        let (places, most) = self.places(dir)?;
        let (bound, last) = (bound.min(most), self.branches.len() - 1);
        let may = |at: &usize| self.branches[*at].writable && *at <= bound;
        if bound < last {
            return (0..=bound).rev().find(may).ok_or(Errno::ROFS);
        }
        let top = places[0];
        let here = Some(top).filter(may);
        here.or((0..top).rev().find(may))
            .or(places.iter().copied().find(may))
            .or((top..=last).find(may))
            .ok_or(Errno::ROFS)
    }

    /// Top-down parent: where a copy of something at `source` goes.
    pub(crate) fn copy_place(&self, dir: &str, source: usize) -> Res<usize> {
        let (places, _) = self.places(dir)?;
        let above = || (0..source).filter(|&at| self.branches[at].writable);
        let with_parent = above().find(|at| places.contains(at));
        with_parent.or(above().next_back()).ok_or(Errno::ROFS)
    }

    /// Makes a directory of the union in a branch, with those above it.
    pub(crate) fn ensure(&mut self, dir: &str, at: usize) -> Res<()> {
        let (places, _) = self.places(dir)?;
        if places.contains(&at) {
            return Ok(());
        }
        self.ensure(parent(dir), at)?;
        let object = self.branches[places[0]].tree[dir];
        match self.branches[at].tree.get(dir) {
            Some(Object::Dir(_)) => {}
            Some(_) => return Err(Errno::NOTDIR),
            None => {
                let branch = &mut self.branches[at];
                branch.tree.insert(dir.to_owned(), object);
                if self.in_place && branch.whiteouts.remove(dir) {
                    branch.opaque.insert(dir.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Copies a non-directory to a branch.
    pub(crate) fn copy(&mut self, path: &str, object: Object, at: usize) -> Res<()> {
        self.ensure(parent(path), at)?;
        let copy = match object {
            Object::File(file) => {
                self.files.push(self.files[file].clone());
                Object::File(self.files.len() - 1)
            }
            other => other,
        };
        self.branches[at].tree.insert(path.to_owned(), copy);
        Ok(())
    }

    /// Brings an object to a branch where it may be changed.
    fn own(&mut self, path: &str) -> Res<(usize, Object)> {
        let (_, at, object) = self.found(path)?;
        if self.branches[at].writable {
            return Ok((at, object));
        }
        let target = self.copy_place(parent(path), at)?;
        match object {
            Object::Dir(_) => self.ensure(path, target)?,
            _ => self.copy(path, object, target)?,
        }
        Ok((target, self.branches[target].tree[path]))
    }

    /// Makes an object.
    pub(crate) fn make(&mut self, path: &str, object: Object) -> Res<()> {
        let look = self.look(path)?;
        if look.top.is_some() {
            return Err(Errno::EXIST);
        }
        let at = self.place(parent(path), look.bound)?;
        let over = look.whiteout == Some(at);
        let opaque = over && matches!(object, Object::Dir(_)) && self.shows_below(path, at);
        self.ensure(parent(path), at)?;
        let branch = &mut self.branches[at];
        branch.tree.insert(path.to_owned(), object);
        if opaque {
            branch.opaque.insert(path.to_owned());
        }
        if over {
            branch.whiteouts.remove(path);
        }
        Ok(())
    }

    /// Changes a file's data.
    pub(crate) fn write(&mut self, path: &str, change: impl FnOnce(&mut String)) -> Res<()> {
        match self.found(path)?.2 {
            Object::Dir(_) => return Err(Errno::ISDIR),
            Object::Link(_) => return Err(Errno::LOOP),
            Object::File(_) => {}
        }
        if let (_, Object::File(file)) = self.own(path)? {
            change(&mut self.files[file].data);
        }
        Ok(())
    }

    pub(crate) fn chmod(&mut self, path: &str, mode: u32) -> Res<()> {
        if matches!(self.found(path)?.2, Object::Link(_)) {
            return Err(Errno::NOENT);
        }
        match self.own(path)? {
            (_, Object::File(file)) => self.files[file].mode = mode,
            (at, _) => {
                self.branches[at]
                    .tree
                    .insert(path.to_owned(), Object::Dir(mode));
            }
        }
        Ok(())
    }

    /// Takes a name away where it is, or hides it from above.
    fn take(&mut self, path: &str, at: usize) -> Res<()> {
        if self.branches[at].writable {
            let hides = self.shows_below(path, at);
            self.branches[at].remove(path);
            if hides {
                self.branches[at].whiteouts.insert(path.to_owned());
            }
            return Ok(());
        }
        let target = self.copy_place(parent(path), at)?;
        self.ensure(parent(path), target)?;
        self.branches[target].whiteouts.insert(path.to_owned());
        Ok(())
    }

    pub(crate) fn unlink(&mut self, path: &str) -> Res<()> {
        match self.found(path)? {
            (_, _, Object::Dir(_)) => Err(Errno::ISDIR),
            (_, at, _) => self.take(path, at),
        }
    }

    pub(crate) fn rmdir(&mut self, path: &str) -> Res<()> {
        let (_, at, object) = self.found(path)?;
        if !matches!(object, Object::Dir(_)) {
            return Err(Errno::NOTDIR);
        }
        if !self.list(path).is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        self.take(path, at)
    }

    pub(crate) fn link(&mut self, old: &str, new: &str) -> Res<()> {
        let (_, _, object) = self.found(old)?;
        if self.look(new)?.top.is_some() {
            return Err(Errno::EXIST);
        }
        if matches!(object, Object::Dir(_)) {
            return Err(Errno::PERM);
        }
        let (at, object) = self.own(old)?;
        let look = self.look(new)?;
        if at > look.bound {
            return Err(Errno::XDEV);
        }
        self.ensure(parent(new), at)?;
        self.branches[at].tree.insert(new.to_owned(), object);
        if look.whiteout == Some(at) {
            self.branches[at].whiteouts.remove(new);
        }
        Ok(())
    }
}

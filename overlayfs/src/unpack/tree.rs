//! The tree that an archive becomes, member by member.

mod link;

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::SysError;
use sys::fs::{self, Dir, Follow, Node, Timestamp, errno};

use super::UnpackError;
use super::contents::Contents;
use super::lower::Lower;
use super::name::{Meaning, clean, meaning};
use super::sparse::write_parts;
use crate::tar::{Kind, Member, Reader, TarError};

/// Marks a directory whose lower content is gone.
pub(crate) const OPAQUE: &CStr = c"trusted.overlay.opaque";
/// What overlayfs keeps its own marks under.
pub(super) const OVERLAY: &[u8] = b"trusted.overlay.";
/// How overlayfs shows such an attribute of a layer to those above.
const ESCAPED: &[u8] = b"trusted.overlay.overlay.";
/// Free space is asked for anew after this much was written.
const RECKON: u64 = 64 << 20;

/// Whether `.wh.` names are marks or files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marks {
    /// Names of deleted files become overlayfs's marks.
    Layer,
    /// All names are names.
    Plain,
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes of all files' content.
    pub size: u64,
    /// The tree holds something of the layers below, or would be another with layers below.
    pub depends_on_lower: bool,
    /// Attributes that the file system does not keep.
    pub dropped_attributes: Vec<String>,
}

/// A tree that is being filled.
pub struct Tree<'a> {
    pub(super) root: Dir,
    marks: Marks,
    pub(super) lower: &'a dyn Lower,
    /// The parent of the last member: most members share it with the one before.
    pub(super) parent: Option<Parent>,
    /// Directories whose times and attributes are set when nothing more is put into them.
    pub(super) directories: Vec<Finish>,
    pub(super) result: Unpacked,
    /// Where replaced files go that the archive's records still need.
    kept: Option<Dir>,
    kept_count: u64,
    base: PathBuf,
    owner: Option<(u32, u32)>,
    kinds_stay: bool,
    free: u64,
    reckoned: u64,
}

impl std::fmt::Debug for Tree<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tree")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// A directory of the tree that is held open.
pub(super) struct Parent {
    /// Where the archive says it is.
    named: PathBuf,
    /// Where it is: differs where the archive names it through a symbolic link.
    real: PathBuf,
    dir: Dir,
}

pub(super) struct Finish {
    pub(super) path: PathBuf,
    pub(super) inode: (u64, u64),
    pub(super) atime: Timestamp,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<'a> Tree<'a> {
    /// Starts to fill a directory.
    ///
    /// # Errors
    /// Those of asking for the free space.
    pub fn new(root: Dir, marks: Marks, lower: &'a dyn Lower) -> sys::Result<Self> {
        let free = fs::available(&root)?;
        Ok(Self {
            root,
            marks,
            lower,
            parent: None,
            directories: Vec::new(),
            result: Unpacked::default(),
            kept: None,
            kept_count: 0,
            base: PathBuf::new(),
            owner: None,
            kinds_stay: false,
            free,
            reckoned: 0,
        })
    }

    /// Puts all members beneath a path of the tree; links on the way lead where they lead from the
    /// tree's root.
    #[must_use]
    pub fn beneath(mut self, base: PathBuf) -> Self {
        self.base = base;
        self
    }

    /// Gives everything to one owner instead of those that the archive names.
    #[must_use]
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// Refuses to put a directory where something else is, and the other way round.
    #[must_use]
    pub fn with_kinds_as_they_are(mut self) -> Self {
        self.kinds_stay = true;
        self
    }

    /// Moves what later members replace into a directory instead of removing it.
    pub(crate) fn keep_replaced(&mut self, kept: Dir) {
        self.kept = Some(kept);
    }

    /// Unpacks all members of a stream.
    ///
    /// # Errors
    /// [`UnpackError`]; the tree is then left as far as it came.
    pub fn fill(mut self, stream: impl BufRead) -> Result<Unpacked, UnpackError> {
        let mut reader = Reader::new(stream);
        while let Some(member) = reader.next()? {
            self.add(&member, &mut reader)?;
        }
        self.finish()
    }

    /// Unpacks one member.
    pub(crate) fn add<R: BufRead, O: Contents>(
        &mut self,
        member: &Member,
        reader: &mut Reader<R, O>,
    ) -> Result<(), UnpackError> {
        let path = self.placed(&member.path)?;
        let meaning = match self.marks {
            Marks::Layer => meaning(&path)?,
            Marks::Plain => Meaning::Plain,
        };
        let step = |source| UnpackError::Step {
            name: path.to_string_lossy().into_owned(),
            source,
        };
        match meaning {
            Meaning::Bookkeeping => Ok(()),
            Meaning::Opaque => self.opaque(parent_of(&path)).map_err(step),
            Meaning::Whiteout(hidden) => self.whiteout(parent_of(&path), hidden).map_err(step),
            Meaning::Plain => {
                if path == self.base {
                    return self.root_attributes(member).map_err(step);
                }
                let name = path.file_name().unwrap_or_default();
                match self.owner {
                    Some((uid, gid)) => {
                        let mut member = member.clone();
                        (member.uid, member.gid) = (uid, gid);
                        self.plain(&member, &path, name, reader)
                    }
                    None => self.plain(member, &path, name, reader),
                }
            }
        }
    }

    /// Where a name of the archive lies in the tree.
    fn placed(&self, name: &[u8]) -> Result<PathBuf, UnpackError> {
        let path = clean(name)?;
        Ok(match path.as_os_str().is_empty() {
            true => self.base.clone(),
            false => self.base.join(path),
        })
    }

    /// Sets what was put off, deepest directories first.
    pub(crate) fn finish(mut self) -> Result<Unpacked, UnpackError> {
        self.parent = None;
        for finish in std::mem::take(&mut self.directories).iter().rev() {
            self.finish_directory(finish)
                .map_err(|source| UnpackError::Step {
                    name: finish.path.to_string_lossy().into_owned(),
                    source,
                })?;
        }
        Ok(self.result)
    }

    fn plain<R: BufRead, O: Contents>(
        &mut self,
        member: &Member,
        path: &Path,
        name: &OsStr,
        reader: &mut Reader<R, O>,
    ) -> Result<(), UnpackError> {
        let step = |source| UnpackError::Step {
            name: path.to_string_lossy().into_owned(),
            source,
        };
        self.make_room(member, path)?;
        self.enter_parent(parent_of(path)).map_err(step)?;
        if member.kind == Kind::HardLink {
            return self.hard_link(member, path, name, reader.observer());
        }
        self.check_kinds(member.kind, path, name)?;
        let path = &self.real(name);
        let hid_lower = self
            .clear(member.kind, path, name, reader.observer())
            .map_err(step)?;
        match member.kind {
            Kind::File => return self.file(member, path, name, reader),
            Kind::Directory => self
                .directory(member, path, name, hid_lower)
                .map_err(step)?,
            Kind::Symlink => self
                .dir()
                .make_symlink(name, OsStr::from_bytes(&member.link))
                .map_err(step)?,
            Kind::Fifo => self.node(name, Node::Fifo).map_err(step)?,
            Kind::Char(major, minor) => self.node(name, Node::Char(major, minor)).map_err(step)?,
            Kind::Block(major, minor) => {
                self.node(name, Node::Block(major, minor)).map_err(step)?;
            }
            Kind::HardLink => {}
        }
        self.name_attributes(member, name).map_err(step)
    }

    fn check_kinds(&self, kind: Kind, path: &Path, name: &OsStr) -> Result<(), UnpackError> {
        if !self.kinds_stay {
            return Ok(());
        }
        let there = self.dir().find(name).map_err(|source| UnpackError::Step {
            name: path.to_string_lossy().into_owned(),
            source,
        })?;
        let Some(there) = there else {
            return Ok(());
        };
        let (old, new) = (there.kind == fs::Kind::Directory, kind == Kind::Directory);
        let path = Path::new("/").join(path);
        match (old, new) {
            (true, false) => Err(UnpackError::OverDirectory(path)),
            (false, true) => Err(UnpackError::OverOther(path)),
            _ => Ok(()),
        }
    }

    pub(super) fn dir(&self) -> &Dir {
        self.parent
            .as_ref()
            .map_or(&self.root, |parent| &parent.dir)
    }

    /// Where a name of the open directory is, whichever links the archive went through: what is
    /// noted of a file must still be true when a link was replaced, or the file through another.
    pub(super) fn real(&self, name: &OsStr) -> PathBuf {
        let parent = self.parent.as_ref();
        parent.map_or_else(|| name.into(), |parent| parent.real.join(name))
    }

    fn node(&self, name: &OsStr, node: Node) -> sys::Result<()> {
        self.dir().make_node(name, node, 0o600)
    }

    /// Refuses what cannot fit, before the disk is full of a part of it.
    fn make_room(&mut self, member: &Member, path: &Path) -> Result<(), UnpackError> {
        let needed = match &member.parts {
            Some(parts) => parts.iter().map(|(_, length)| length).sum(),
            None => member.size,
        };
        self.reckoned = self.reckoned.saturating_add(needed);
        if self.reckoned > RECKON {
            self.free = fs::available(&self.root).map_err(|source| UnpackError::Step {
                name: path.to_string_lossy().into_owned(),
                source,
            })?;
            self.reckoned = needed;
        }
        if self.reckoned > self.free {
            return Err(UnpackError::NoSpace {
                name: path.to_string_lossy().into_owned(),
                needed,
                available: self.free.saturating_sub(self.reckoned - needed),
            });
        }
        self.result.size = self.result.size.saturating_add(member.size);
        Ok(())
    }

    /// Opens the directory that a member lies in; makes what the archive left out of the way.
    pub(super) fn enter_parent(&mut self, path: &Path) -> sys::Result<()> {
        // One that was found through a link is looked up again: the link may be another by now.
        if let Some(open) = &self.parent
            && open.named == path
            && open.real == path
        {
            return Ok(());
        }
        self.parent = None;
        let dir = match self.root.enter(path, Follow::Never) {
            Ok(dir) => {
                self.open_parent(path, path.to_owned(), dir);
                return Ok(());
            }
            Err(error) if matches!(error.errno(), errno::ENOENT | errno::ELOOP) => {
                self.make_parent(path)
            }
            Err(error) => Err(error),
        };
        let dir = match dir {
            // A whiteout may stand where a directory is needed.
            Err(error) if error.errno() == errno::ENOTDIR && self.marks == Marks::Layer => {
                self.remove_whiteouts_on(path)?;
                self.root.enter_or_make(path, 0o755, &mut |_, _| Ok(()))?
            }
            other => other?,
        };
        let real = dir.path_beneath(&self.root)?;
        self.open_parent(path, real, dir);
        Ok(())
    }

    fn open_parent(&mut self, path: &Path, real: PathBuf, dir: Dir) {
        let named = path.to_owned();
        self.parent = Some(Parent { named, real, dir });
    }

    fn make_parent(&mut self, path: &Path) -> sys::Result<Dir> {
        let mut made = Vec::new();
        let dir = self.root.enter_or_make(path, 0o755, &mut |path, dir| {
            made.push((path.to_owned(), dir.duplicate()?));
            Ok(())
        });
        for (path, dir) in made {
            self.left_out(&path, &dir)?;
        }
        dir
    }

    /// Takes away what has the name already; tells whether that was a whiteout.
    fn clear(
        &mut self,
        kind: Kind,
        path: &Path,
        name: &OsStr,
        contents: &mut impl Contents,
    ) -> sys::Result<bool> {
        let Some(stat) = self.dir().find(name)? else {
            return Ok(false);
        };
        if stat.kind == fs::Kind::Directory && kind == Kind::Directory {
            return Ok(false);
        }
        if self.marks == Marks::Layer && stat.is_whiteout() {
            self.dir().unlink(name)?;
            return Ok(true);
        }
        match &self.kept {
            Some(kept) => {
                let number = self.kept_count.to_string();
                self.dir().rename(name, kept, &number)?;
                contents.moved(path, &format!("kept/{number}"));
                self.kept_count += 1;
            }
            None if stat.kind == fs::Kind::Directory => self.dir().remove_tree(name)?,
            None => self.dir().unlink(name)?,
        }
        Ok(false)
    }

    fn file<R: BufRead, O: Contents>(
        &mut self,
        member: &Member,
        path: &Path,
        name: &OsStr,
        reader: &mut Reader<R, O>,
    ) -> Result<(), UnpackError> {
        let what = path.display();
        let step = |source| UnpackError::Step {
            name: what.to_string(),
            source,
        };
        let file = self.dir().create(name, 0o600).map_err(step)?;
        let write = |error| step(SysError::from_io(format!("write({what:?})"), error));
        match &member.parts {
            None => {
                if member.size > 0 {
                    let heard = reader.observer().content(path, member.size);
                    heard.map_err(|error| UnpackError::Archive(TarError::Observe(error)))?;
                }
                reader.content(|piece| (&file).write_all(piece).map_err(write))?;
            }
            // What is stored of a sparse file is told to the observer: holes are not.
            Some(parts) => write_parts(&file, parts, member.size, reader, &write)?,
        }
        self.file_attributes(member, &file, &what.to_string())
            .map_err(step)
    }

    fn file_attributes(&mut self, member: &Member, file: &File, what: &str) -> sys::Result<()> {
        fs::set_owner_of(file, member.uid, member.gid, what)?;
        fs::set_mode_of(file, member.mode, what)?;
        for (key, value) in &member.xattrs {
            let key = attribute_name(key);
            let set = fs::set_xattr_of(file, &key, value, what);
            self.forgive(&key, set)?;
        }
        let atime = member.atime.unwrap_or(member.mtime);
        fs::set_times_of(file, atime, member.mtime, what)
    }

    fn directory(
        &mut self,
        member: &Member,
        path: &Path,
        name: &OsStr,
        hid_lower: bool,
    ) -> sys::Result<()> {
        match self.dir().make_dir(name, 0o700) {
            Err(error) if error.errno() == errno::EEXIST => {}
            other => other?,
        }
        if hid_lower {
            self.dir().set_xattr(name, OPAQUE, b"y")?;
        }
        let inode = self.dir().stat(name)?.inode;
        self.directories.push(Finish {
            path: path.to_owned(),
            inode,
            atime: member.atime.unwrap_or(member.mtime),
            mtime: member.mtime,
            xattrs: member.xattrs.clone(),
        });
        Ok(())
    }

    /// Owner, mode, and for what is no directory attributes and times.
    fn name_attributes(&mut self, member: &Member, name: &OsStr) -> sys::Result<()> {
        self.dir().chown(name, member.uid, member.gid)?;
        if member.kind != Kind::Symlink {
            self.dir().chmod(name, member.mode)?;
        }
        if member.kind == Kind::Directory {
            return Ok(());
        }
        for (key, value) in &member.xattrs {
            let key = attribute_name(key);
            let set = self.dir().set_xattr(name, &key, value);
            self.forgive(&key, set)?;
        }
        let atime = member.atime.unwrap_or(member.mtime);
        self.dir().set_times(name, atime, member.mtime)
    }

    fn root_attributes(&mut self, member: &Member) -> sys::Result<()> {
        if member.kind != Kind::Directory {
            return Err(SysError::new("open(\"/\")", errno::EEXIST));
        }
        let dir = self.root.enter(&self.base, Follow::InRoot)?;
        let (uid, gid) = self.owner.unwrap_or((member.uid, member.gid));
        fs::set_owner_of(&dir, uid, gid, dir.path().display())?;
        fs::set_mode_of(&dir, member.mode, dir.path().display())?;
        self.directories.push(Finish {
            path: self.base.clone(),
            inode: dir.stat_self()?.inode,
            atime: member.atime.unwrap_or(member.mtime),
            mtime: member.mtime,
            xattrs: member.xattrs.clone(),
        });
        Ok(())
    }

    fn finish_directory(&mut self, finish: &Finish) -> sys::Result<()> {
        let dir = match self.root.enter(&finish.path, Follow::InRoot) {
            Ok(dir) => dir,
            // A later member replaced it.
            Err(error)
                if matches!(error.errno(), errno::ENOENT | errno::ENOTDIR | errno::ELOOP) =>
            {
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if dir.stat_self()?.inode != finish.inode {
            return Ok(());
        }
        let what = finish.path.display();
        for (key, value) in &finish.xattrs {
            let key = attribute_name(key);
            let set = fs::set_xattr_of(&dir, &key, value, &what);
            self.forgive(&key, set)?;
        }
        fs::set_times_of(&dir, finish.atime, finish.mtime, &what)
    }

    /// A file system without such attributes is no reason to refuse the archive, unless they are
    /// what a program's rights hang on.
    fn forgive(&mut self, key: &CStr, set: sys::Result<()>) -> sys::Result<()> {
        match set {
            Err(error) if error.errno() == errno::EOPNOTSUPP && key != c"security.capability" => {
                let key = key.to_string_lossy().into_owned();
                if !self.result.dropped_attributes.contains(&key) {
                    self.result.dropped_attributes.push(key);
                }
                Ok(())
            }
            other => other,
        }
    }
}

/// The attribute to set for one that an archive names: overlayfs's own marks are kept apart, since
/// an archive must not direct the kernel to files of other layers.
fn attribute_name(key: &[u8]) -> CString {
    let key = match key.strip_prefix(OVERLAY) {
        Some(rest) => [ESCAPED, rest].concat(),
        None => key.to_vec(),
    };
    CString::new(key.split(|byte| *byte == 0).next().unwrap_or_default()).unwrap_or_default()
}

pub(super) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

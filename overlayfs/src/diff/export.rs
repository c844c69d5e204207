//! Trees as archives, in a fixed order: equal trees make equal bytes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::SysError;
use sys::fs::{self, Dir, Follow, Stat};

use super::change::{Extent, MountPoints, same};
use crate::copy::is_overlay_mark;
use crate::stack::{Merged, Stack};
use crate::tar::{Kind, Member, Writer, is_scattered};

/// A tree that cannot be written as an archive.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The tree cannot be read.
    #[error("cannot read the tree")]
    Tree(#[from] SysError),
    /// A file became shorter while it was read, or the output failed.
    #[error("cannot write the archive")]
    Output(#[from] io::Error),
    /// A file changed its length while it was read.
    #[error("{0:?} changed while it was read")]
    Changed(PathBuf),
    /// A name that would be a mark.
    #[error(
        "{0:?} cannot be in a layer, where names that begin with \".wh.\" are marks: rename or remove it"
    )]
    Reserved(PathBuf),
    /// A file of the kernel's that does not end.
    #[error("{0:?} is no file but a view of the kernel, and has more than 64 MiB")]
    Endless(PathBuf),
}

type Result<T> = std::result::Result<T, ExportError>;

/// How names of marks begin in a layer.
const WHITEOUT: &[u8] = b".wh.";

/// Writes the layer that a writable directory, or a whole tree, makes above some layers: what is new or different,
/// and `.wh.` names for what is gone. What was only made to be mounted on is left out.
///
/// # Errors
/// [`ExportError`]; the output is then cut off.
pub fn export_layer<W: Write>(
    upper: &Dir,
    extent: Extent,
    lower: &Stack,
    mounts: &MountPoints,
    output: W,
) -> Result<W> {
    let mut export = Export::new(output);
    let mut layer = LayerWalk {
        upper,
        extent,
        mounts,
        export: &mut export,
    };
    layer.directory(Path::new(""), Some(lower.root()?), &mut Vec::new())?;
    export.finish()
}

/// How a tree or a name of one is written.
#[derive(Debug, Clone, Copy)]
pub struct Form<'a> {
    /// What it is called in the archive.
    pub name: &'a Path,
    /// Sparse files are written without their holes: for a reader that is known to be ours.
    pub holes: bool,
}

impl<'a> Form<'a> {
    /// Under this name, for every reader.
    pub fn plain(name: &'a Path) -> Self {
        Self { name, holes: false }
    }
}

/// Writes everything beneath a directory, with the form's name before every other; the directory
/// itself is written too, under that name, where it is not empty. What is mounted below and holds
/// no files but views of the kernel, such as `/proc`, is written as an empty directory.
///
/// # Errors
/// [`ExportError`]; the output is then cut off.
pub fn export_tree<W: Write>(root: &Dir, form: Form<'_>, output: W) -> Result<W> {
    let mut export = Export::new(output);
    export.holes = form.holes;
    export.tree(root, form.name)?;
    export.finish()
}

/// Writes one name of a directory, under another name, with everything beneath it.
///
/// # Errors
/// [`ExportError`]; the output is then cut off.
pub fn export_name<W: Write>(dir: &Dir, name: &Path, form: Form<'_>, output: W) -> Result<W> {
    let mut export = Export::new(output);
    export.holes = form.holes;
    let stat = dir.stat(name)?;
    match stat.kind {
        fs::Kind::Directory => export.tree(&dir.enter(name, Follow::Never)?, form.name)?,
        fs::Kind::File if fs::is_kernel_view(dir)? => {
            export.view(dir, name, form.name, &stat)?;
        }
        _ => export.renamed(dir, name, form.name, &stat)?,
    }
    export.finish()
}

/// Writes some layers as the one tree that they make together.
///
/// # Errors
/// [`ExportError`]; the output is then cut off.
pub fn export_stack<W: Write>(stack: &Stack, output: W) -> Result<W> {
    let mut export = Export::new(output);
    merged(&mut export, &stack.root()?, Path::new(""))?;
    export.finish()
}

fn merged<W: Write>(export: &mut Export<W>, directory: &Merged, path: &Path) -> Result<()> {
    let mut below = Vec::new();
    for (entry, part) in directory.entries()? {
        let here = path.join(&entry.name);
        let Some(stat) = part.find(&entry.name)? else {
            continue;
        };
        export.name(part, &here, &stat)?;
        if stat.kind == fs::Kind::Directory
            && let Some(inner) = directory.directory(entry.name.as_ref())?
        {
            below.push((inner, here));
        }
    }
    for (inner, here) in below {
        merged(export, &inner, &here)?;
    }
    Ok(())
}

struct LayerWalk<'a, W: Write> {
    upper: &'a Dir,
    extent: Extent,
    mounts: &'a MountPoints,
    export: &'a mut Export<W>,
}

impl<W: Write> LayerWalk<'_, W> {
    /// Writes what changed in a directory. `owed` are the directories on the way that are written
    /// only if something beneath them is.
    fn directory(
        &mut self,
        path: &Path,
        lower: Option<Merged>,
        owed: &mut Vec<PathBuf>,
    ) -> Result<()> {
        let upper = self.upper.enter(path, Follow::Never)?;
        if self.extent.hides(&upper)?
            && let Some(lower) = &lower
        {
            for (entry, _) in lower.entries()? {
                if upper.find(&entry.name)?.is_none() {
                    self.pay(owed)?;
                    self.export.whiteout(&path.join(&entry.name))?;
                }
            }
        }
        for entry in upper.entries()? {
            let Some(stat) = upper.find(&entry.name)? else {
                continue;
            };
            let here = path.join(&entry.name);
            let below = match &lower {
                Some(lower) => lower.find(entry.name.as_ref())?,
                None => None,
            };
            if stat.is_whiteout() {
                if below.is_some() {
                    self.pay(owed)?;
                    self.export.whiteout(&here)?;
                }
                continue;
            }
            if below.is_none() && self.mounts.hide(&upper, &here, &stat)? {
                continue;
            }
            let unchanged = match &below {
                Some((parent, old)) => same(&upper, parent, entry.name.as_ref(), &stat, old)?,
                None => false,
            };
            if !unchanged && entry.name.as_bytes().starts_with(WHITEOUT) {
                return Err(ExportError::Reserved(here));
            }
            if stat.kind == fs::Kind::Directory {
                let inner = match (&lower, &below) {
                    (Some(lower), Some((_, old))) if old.kind == fs::Kind::Directory => {
                        lower.directory(entry.name.as_ref())?
                    }
                    _ => None,
                };
                owed.push(here.clone());
                if !unchanged {
                    self.pay(owed)?;
                }
                self.directory(&here, inner, owed)?;
                owed.pop_if(|last| *last == here);
            } else if !unchanged {
                self.pay(owed)?;
                self.export.name(&upper, &here, &stat)?;
            }
        }
        Ok(())
    }

    fn pay(&mut self, owed: &mut Vec<PathBuf>) -> Result<()> {
        for path in owed.drain(..) {
            let parent = path.parent().unwrap_or(Path::new(""));
            let dir = self.upper.enter(parent, Follow::Never)?;
            let stat = dir.stat(path.file_name().unwrap_or_default())?;
            self.export.name(&dir, &path, &stat)?;
        }
        Ok(())
    }
}

struct Export<W: Write> {
    writer: Writer<BufWriter<W>>,
    /// Files with several names: the first that was written.
    names: HashMap<(u64, u64), Vec<u8>>,
    /// Holes are left out.
    holes: bool,
}

impl<W: Write> Export<W> {
    fn new(output: W) -> Self {
        Self {
            writer: Writer::new(BufWriter::with_capacity(1 << 20, output)),
            names: HashMap::new(),
            holes: false,
        }
    }

    fn finish(self) -> Result<W> {
        let buffered = self.writer.finish()?;
        buffered
            .into_inner()
            .map_err(|error| ExportError::Output(error.into_error()))
    }

    fn whiteout(&mut self, path: &Path) -> Result<()> {
        let name = path.file_name().unwrap_or_default();
        let marked = [WHITEOUT, name.as_bytes()].concat();
        let member = Member {
            path: path
                .with_file_name(std::ffi::OsStr::from_bytes(&marked))
                .into_os_string()
                .into_encoded_bytes(),
            mode: 0o600,
            ..Member::default()
        };
        Ok(self.writer.append_bare(&member)?)
    }

    fn directory_itself(&mut self, dir: &Dir, path: &Path) -> Result<()> {
        let stat = dir.stat_self()?;
        let mut member = describe(path, &stat, Kind::Directory);
        member.xattrs = attributes(dir.xattrs_self()?);
        Ok(self.writer.append_bare(&member)?)
    }

    fn tree(&mut self, root: &Dir, prefix: &Path) -> Result<()> {
        if !prefix.as_os_str().is_empty() {
            self.directory_itself(root, prefix)?;
        }
        let mut waiting = vec![(PathBuf::new(), None)];
        while let Some((path, device)) = waiting.pop() {
            let dir = match root.enter(&path, Follow::Never) {
                Err(error) if is_gone(&error) && path != Path::new("") => continue,
                other => other?,
            };
            let own = dir.stat_self()?.inode.0;
            if device != Some(own) && fs::is_kernel_view(&dir)? {
                continue;
            }
            let mut below = Vec::new();
            for entry in dir.entries()? {
                let here = path.join(&entry.name);
                let Some(stat) = dir.find(&entry.name)? else {
                    continue;
                };
                self.name(&dir, &prefix.join(&here), &stat)?;
                if stat.kind == fs::Kind::Directory {
                    below.push((here, Some(own)));
                }
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }

    /// Writes one name of a directory; what has gone since it was listed is left out, as if it had
    /// gone before.
    fn name(&mut self, dir: &Dir, path: &Path, stat: &Stat) -> Result<()> {
        let name = Path::new(path.file_name().unwrap_or_default());
        match self.renamed(dir, name, path, stat) {
            Err(ExportError::Tree(error)) if error.errno() == fs::errno::ENOENT => {
                if stat.links > 1 {
                    self.names.remove(&stat.inode);
                }
                Ok(())
            }
            other => other,
        }
    }

    /// A file's content, without its holes where that is wanted and there are any.
    fn content(&mut self, member: &Member, file: &File) -> Result<io::Result<()>> {
        if self.holes {
            let what = String::from_utf8_lossy(&member.path);
            let parts = fs::data_parts(file, member.size, what)?;
            let stored = parts.iter().map(|(_, length)| length).sum::<u64>();
            if stored < member.size && !is_scattered(&parts) {
                return Ok(self.writer.append_parts(member, &parts, file));
            }
            rewind(file)?;
        }
        Ok(self.writer.append(member, file))
    }

    /// A file that the kernel makes up: it has the length of what can be read of it.
    fn view(&mut self, dir: &Dir, name: &Path, path: &Path, stat: &Stat) -> Result<()> {
        let mut content = Vec::new();
        let file = dir.read(name)?;
        let read = file.take(VIEW_LIMIT + 1).read_to_end(&mut content);
        read.map_err(|error| SysError::from_io(format!("read({path:?})"), error))?;
        let mut member = describe(path, stat, Kind::File);
        member.size = content.len() as u64;
        if member.size > VIEW_LIMIT {
            return Err(ExportError::Endless(path.to_owned()));
        }
        Ok(self.writer.append(&member, content.as_slice())?)
    }

    /// Writes one name of a directory under another name. Sockets are left out.
    fn renamed(&mut self, dir: &Dir, name: &Path, path: &Path, stat: &Stat) -> Result<()> {
        let kind = match stat.kind {
            fs::Kind::Socket => return Ok(()),
            fs::Kind::File => Kind::File,
            fs::Kind::Directory => Kind::Directory,
            fs::Kind::Symlink => Kind::Symlink,
            fs::Kind::Fifo => Kind::Fifo,
            fs::Kind::CharDevice => Kind::Char(stat.device.0, stat.device.1),
            fs::Kind::BlockDevice => Kind::Block(stat.device.0, stat.device.1),
        };
        let mut member = describe(path, stat, kind);
        if stat.links > 1 && kind != Kind::Directory {
            if let Some(first) = self.names.get(&stat.inode) {
                member.kind = Kind::HardLink;
                member.link.clone_from(first);
                return Ok(self.writer.append_bare(&member)?);
            }
            self.names.insert(stat.inode, member.path.clone());
        }
        member.xattrs = attributes(dir.xattrs(name)?);
        match kind {
            Kind::File => {
                let file = dir.read(name)?;
                // What was opened counts: the name may have another file by now.
                member.size = Stat::of(&file)?.size;
                let written = self.content(&member, &file)?;
                written.map_err(|error| match error.kind() {
                    io::ErrorKind::UnexpectedEof => ExportError::Changed(path.to_owned()),
                    _ => ExportError::Output(error),
                })
            }
            Kind::Symlink => {
                member.link = dir.read_link(name)?.into_encoded_bytes();
                Ok(self.writer.append_bare(&member)?)
            }
            _ => Ok(self.writer.append_bare(&member)?),
        }
    }
}

/// More than any of the kernel's texts has.
const VIEW_LIMIT: u64 = 64 << 20;

/// A directory that was listed is none any more: somebody works in the tree.
fn is_gone(error: &SysError) -> bool {
    matches!(
        error.errno(),
        fs::errno::ENOENT | fs::errno::ENOTDIR | fs::errno::ELOOP
    )
}

fn rewind(mut file: &File) -> io::Result<()> {
    file.rewind()
}

fn describe(path: &Path, stat: &Stat, kind: Kind) -> Member {
    let mut name = path.as_os_str().as_bytes().to_vec();
    if kind == Kind::Directory {
        name.push(b'/');
    }
    Member {
        path: name,
        kind,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        size: stat.size,
        mtime: stat.mtime,
        ..Member::default()
    }
}

/// Attributes as archives have them: overlayfs's own left out, those it kept for others put back.
fn attributes(all: Vec<(std::ffi::CString, Vec<u8>)>) -> Vec<(Vec<u8>, Vec<u8>)> {
    all.into_iter()
        .filter_map(|(key, value)| {
            let bytes = key.as_bytes();
            match bytes.strip_prefix(b"trusted.overlay.overlay.") {
                Some(rest) => Some(([b"trusted.overlay.", rest].concat(), value)),
                None if is_overlay_mark(&key) => None,
                None => Some((key.into_bytes(), value)),
            }
        })
        .collect()
}

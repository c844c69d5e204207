//! Steps by chance, for a union and for its model alike.

pub(crate) mod model;
mod rename;

use std::ffi::CStr;
use std::fmt;
use std::fs;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RenameFlags, XattrFlags, linkat, mkdir, mknodat, open,
    removexattr, renameat_with, rmdir, setxattr, symlinkat, unlink,
};
use rustix::io::write;

use model::{File, Model, Object, Over, Res, is_below, parent};

/// Chance that can be had again: xorshift.
#[derive(Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % limit
    }

    /// A path of up to three parts; there are not many, so that they meet.
    fn path(&mut self) -> String {
        let parts = [1, 2, 2, 3][self.below(4)];
        let part = |chance: &mut Self| ["x", "y", "z"][chance.below(3)];
        (0..parts).map(|_| part(self)).collect::<Vec<_>>().join("/")
    }
}

/// Something done through the union.
#[derive(Clone)]
pub(crate) enum Act {
    Create(String),
    Mkdir(String),
    Symlink(String, usize),
    Append(String, String),
    Truncate(String, usize),
    Chmod(String, u32),
    Unlink(String),
    Rmdir(String),
    Link(String, String),
    Rename(String, String, Over),
}

/// Something done in a branch directly.
#[derive(Clone)]
pub(crate) enum Edit {
    Put(String, String),
    Dir(String),
    Remove(String),
    Hide(String),
    Show(String),
    Opaque(String),
    Merge(String),
    Move(String, String),
}

impl fmt::Debug for Act {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(path) => write!(out, "create {path}"),
            Self::Mkdir(path) => write!(out, "mkdir {path}"),
            Self::Symlink(path, _) => write!(out, "symlink {path}"),
            Self::Append(path, text) => write!(out, "append {text} to {path}"),
            Self::Truncate(path, size) => write!(out, "truncate {path} to {size}"),
            Self::Chmod(path, mode) => write!(out, "chmod {mode:o} {path}"),
            Self::Unlink(path) => write!(out, "unlink {path}"),
            Self::Rmdir(path) => write!(out, "rmdir {path}"),
            Self::Link(old, new) => write!(out, "link {old} {new}"),
            Self::Rename(from, to, over) => write!(out, "rename {from} {to} {over:?}"),
        }
    }
}

impl fmt::Debug for Edit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(path, text) => write!(out, "put {text} to {path}"),
            Self::Dir(path) => write!(out, "mkdir {path}"),
            Self::Remove(path) => write!(out, "rm -r {path}"),
            Self::Hide(path) => write!(out, "white out {path}"),
            Self::Show(path) => write!(out, "remove the whiteout of {path}"),
            Self::Opaque(path) => write!(out, "make {path} opaque"),
            Self::Merge(path) => write!(out, "remove the opaque mark of {path}"),
            Self::Move(from, to) => write!(out, "mv {from} {to}"),
        }
    }
}

impl Act {
    pub(crate) fn by(chance: &mut Chance, number: usize) -> Self {
        let path = chance.path();
        match chance.below(20) {
            0..3 => Self::Create(path),
            3..6 => Self::Mkdir(path),
            6 => Self::Symlink(path, number),
            7..9 => Self::Append(path, format!("{number} ")),
            9 => Self::Truncate(path, chance.below(8)),
            10..12 => Self::Chmod(path, [0o700, 0o711, 0o640][chance.below(3)]),
            12..14 => Self::Unlink(path),
            14..16 => Self::Rmdir(path),
            16 => Self::Link(path, chance.path()),
            17 => Self::Rename(path, chance.path(), Over::Exchange),
            18 => Self::Rename(path, chance.path(), Over::Nothing),
            _ => Self::Rename(path, chance.path(), Over::Replace),
        }
    }

    pub(crate) fn think(&self, model: &mut Model) -> Res<()> {
        match self {
            Self::Create(path) => {
                let data = String::new();
                model.files.push(File { mode: 0o644, data });
                model.make(path, Object::File(model.files.len() - 1))
            }
            Self::Mkdir(path) => model.make(path, Object::Dir(0o755)),
            Self::Symlink(path, number) => model.make(path, Object::Link(*number)),
            Self::Append(path, text) => model.write(path, |data| data.push_str(text)),
            Self::Truncate(path, size) => model.write(path, |data| {
                data.truncate(*size);
                let lacking = size - data.len();
                data.push_str(&"\0".repeat(lacking));
            }),
            Self::Chmod(path, mode) => model.chmod(path, *mode),
            Self::Unlink(path) => model.unlink(path),
            Self::Rmdir(path) => model.rmdir(path),
            Self::Link(old, new) => model.link(old, new),
            Self::Rename(from, to, over) => model.rename(from, to, *over),
        }
    }

    pub(crate) fn carry_out(&self, top: &Path) -> Res<()> {
        let at = |path: &str| top.join(path);
        let mode = Mode::from_raw_mode;
        match self {
            Self::Create(path) => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                open(at(path), flags, mode(0o644)).map(drop)
            }
            Self::Mkdir(path) => mkdir(at(path), mode(0o755)),
            Self::Symlink(path, number) => symlinkat(nowhere(*number), CWD, at(path)),
            Self::Append(path, text) => {
                let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW;
                let file = open(at(path), flags, mode(0))?;
                write(file, text.as_bytes()).map(drop)
            }
            Self::Truncate(path, size) => {
                let flags = OFlags::WRONLY | OFlags::NOFOLLOW;
                let file = open(at(path), flags, mode(0))?;
                rustix::fs::ftruncate(file, *size as u64)
            }
            Self::Chmod(path, bits) => rustix::fs::chmod(at(path), mode(*bits)),
            Self::Unlink(path) => unlink(at(path)),
            Self::Rmdir(path) => rmdir(at(path)),
            Self::Link(old, new) => linkat(CWD, at(old), CWD, at(new), AtFlags::empty()),
            Self::Rename(from, to, over) => {
                let flags = match over {
                    Over::Replace => RenameFlags::empty(),
                    Over::Nothing => RenameFlags::NOREPLACE,
                    Over::Exchange => RenameFlags::EXCHANGE,
                };
                renameat_with(CWD, at(from), CWD, at(to), flags)
            }
        }
    }

    /// The object whose number stays whatever is copied for this.
    pub(crate) fn keeps_number<'a>(&'a self, model: &Model) -> Option<&'a str> {
        let (Self::Append(path, _) | Self::Chmod(path, _) | Self::Truncate(path, _)) = self else {
            return None;
        };
        let (at, object) = model.look(path).ok()?.top?;
        let single = !matches!(object, Object::File(file) if model.names(at, file) > 1);
        single.then_some(path)
    }
}

/// Where a link leads.
pub(crate) fn nowhere(number: usize) -> String {
    format!("nowhere-{number}")
}

impl Edit {
    pub(crate) fn by(chance: &mut Chance, number: usize) -> Self {
        let path = chance.path();
        match chance.below(12) {
            0..3 => Self::Put(path, format!("{number} ")),
            3..6 => Self::Dir(path),
            6 => Self::Remove(path),
            7..9 => Self::Hide(path),
            9 => Self::Show(path),
            10 => match chance.below(2) {
                0 => Self::Opaque(path),
                _ => Self::Merge(path),
            },
            _ => Self::Move(path, chance.path()),
        }
    }

    /// Does it to a branch of the model; false where it cannot be.
    pub(crate) fn think(&self, model: &mut Model, at: usize) -> bool {
        let branch = &model.branches[at];
        let is_dir =
            |path: &str| path.is_empty() || matches!(branch.tree.get(path), Some(Object::Dir(_)));
        let in_the_way = |path: &str| model.in_place && branch.whiteouts.contains(path);
        let has = |path: &str| branch.tree.contains_key(path) || in_the_way(path);
        let fits = match self {
            Self::Put(path, _) => is_dir(parent(path)) && !is_dir(path) && !in_the_way(path),
            Self::Dir(path) => is_dir(parent(path)) && !has(path),
            Self::Remove(path) => branch.tree.contains_key(path),
            Self::Hide(path) => {
                let hidden = branch.whiteouts.contains(path);
                is_dir(parent(path)) && !(hidden || model.in_place && has(path))
            }
            Self::Show(path) => branch.whiteouts.contains(path),
            Self::Opaque(path) => is_dir(path) && !branch.opaque.contains(path),
            Self::Merge(path) => branch.opaque.contains(path),
            Self::Move(from, to) => {
                let there = branch.tree.contains_key(from);
                there && is_dir(parent(to)) && !has(to) && !is_below(to, from)
            }
        };
        if !fits {
            return false;
        }
        if let Self::Put(_, text) = self {
            let data = text.clone();
            model.files.push(File { mode: 0o644, data });
        }
        let new = Object::File(model.files.len().saturating_sub(1));
        let branch = &mut model.branches[at];
        match self {
            Self::Put(path, _) => drop(branch.tree.insert(path.clone(), new)),
            Self::Dir(path) => drop(branch.tree.insert(path.clone(), Object::Dir(0o755))),
            Self::Remove(path) => branch.remove(path),
            Self::Hide(path) => drop(branch.whiteouts.insert(path.clone())),
            Self::Show(path) => drop(branch.whiteouts.remove(path)),
            Self::Opaque(path) => drop(branch.opaque.insert(path.clone())),
            Self::Merge(path) => drop(branch.opaque.remove(path)),
            Self::Move(from, to) => branch.transfer(from, to),
        }
        true
    }

    /// Does it to a branch; `aside` is a name on its file system. In overlayfs's form if `in_place`.
    pub(crate) fn carry_out(&self, branch: &Path, aside: &Path, in_place: bool) {
        let at = |path: &str| branch.join(path);
        match self {
            Self::Hide(path) if in_place => {
                mknodat(CWD, at(path), FileType::CharacterDevice, Mode::empty(), 0).unwrap();
            }
            Self::Show(path) if in_place => fs::remove_file(at(path)).unwrap(),
            Self::Opaque(path) if in_place => {
                setxattr(at(path), ATTRIBUTE, b"y", XattrFlags::empty()).unwrap();
            }
            Self::Merge(path) if in_place => removexattr(at(path), ATTRIBUTE).unwrap(),
            Self::Put(path, text) => {
                fs::write(aside, text).unwrap();
                fs::rename(aside, at(path)).unwrap();
            }
            Self::Dir(path) => fs::create_dir(at(path)).unwrap(),
            Self::Remove(path) => match fs::symlink_metadata(at(path)).unwrap().is_dir() {
                true => fs::remove_dir_all(at(path)).unwrap(),
                false => fs::remove_file(at(path)).unwrap(),
            },
            Self::Hide(path) => fs::write(at(&whiteout(path)), "").unwrap(),
            Self::Show(path) => fs::remove_file(at(&whiteout(path))).unwrap(),
            Self::Opaque(path) => fs::write(at(path).join(OPAQUE), "").unwrap(),
            Self::Merge(path) => fs::remove_file(at(path).join(OPAQUE)).unwrap(),
            Self::Move(from, to) => fs::rename(at(from), at(to)).unwrap(),
        }
    }
}

pub(crate) const OPAQUE: &str = ".wh..wh.opq";
/// Overlayfs's.
pub(crate) const ATTRIBUTE: &CStr = c"trusted.overlay.opaque";

pub(crate) fn whiteout(path: &str) -> String {
    match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    }
}

//! Branches while a union is mounted: held by descriptor, measured, listed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatVfsMountFlags, Statx, StatxFlags, fstatvfs, statx};

use sys::usage::Usage;

use crate::union::marks::redirect::MOVES;
use crate::union::options::{Access, BranchArg, Permission, Settings};
use crate::union::plink::place_of;
use crate::union::policy::View;
use crate::union::tree::fd_path;
use crate::union::{UnionError, convert};

/// Ways to use a directory that exclude each other.
pub(crate) const AS_BRANCH: u8 = 1;
pub(crate) const IN_CONVERSION: u8 = 2;

/// The number of the next branch.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// Says, on a branch's root, that copies in it remember where they come from.
pub(crate) const COPIES: &std::ffi::CStr = c"trusted.rbox.copies";

/// One directory of the union.
#[derive(Debug)]
pub(crate) struct Branch {
    pub(crate) id: u32,
    /// The same for a branch and its successor after `mod`.
    pub(crate) lineage: u32,
    pub(crate) path: PathBuf,
    pub(crate) permission: Permission,
    pub(crate) root: Arc<OwnedFd>,
    pub(crate) device: u64,
    /// Files opened through the union; shared by a branch and its successor after `mod`.
    pub(crate) opens: Arc<AtomicUsize>,
    pub(crate) writers: Arc<AtomicUsize>,
    pub(crate) has_copies: AtomicBool,
    /// It has directories that were renamed, whose lower parts are elsewhere.
    pub(crate) has_moves: AtomicBool,
    pub(crate) refuses_passthrough: AtomicBool,
    /// The watch, if there is one, was told to pass over what is written through our clone.
    pub(crate) is_passed_over: AtomicBool,
    space: Mutex<Option<(Instant, Space)>>,
    _usage: Option<Usage>,
    /// Tells it from other branches whatever it is called; see [`crate::union::plink`].
    pub(crate) place: Option<u64>,
    /// The directory of its pseudo-links, once it was used.
    pub(crate) links: Mutex<Option<Arc<OwnedFd>>>,
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Space {
    pub(crate) size: u64,
    pub(crate) free: u64,
    pub(crate) used: u64,
}

/// The branches and settings as they are at one time; a change makes a new one.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) epoch: u32,
    pub(crate) branches: Vec<Arc<Branch>>,
    pub(crate) settings: Settings,
    /// What is shown changes without this kernel's telling: watching would miss it.
    pub(crate) unwatched: bool,
}

/// A device number of statx as one number.
pub(crate) fn device_of(stat: &rustix::fs::Statx) -> u64 {
    (u64::from(stat.stx_dev_major) << 32) | u64::from(stat.stx_dev_minor)
}

pub(crate) const READ_ONLY_TYPES: &[u64] = &[0x7371_7368, 0x9660, 0x28cd_3d45, 0x7275, 0xe0f5_e1e2];

impl Branch {
    /// Takes hold of a branch; `first_writable` says whether `rw` is the default.
    pub(crate) fn open(arg: &BranchArg, first_writable: bool) -> Result<Self, UnionError> {
        let path = std::path::absolute(&arg.path).unwrap_or_else(|_| arg.path.clone());
        let fail = |reason: String| UnionError::Branch {
            path: path.clone(),
            reason,
        };
        let permission = match arg.permission {
            Some(permission) => permission,
            None => default_permission(&path, first_writable).map_err(&fail)?,
        };
        Self::hold(&path, permission)
    }

    /// Takes hold of a branch whose permission is known.
    pub(crate) fn hold(path: &Path, permission: Permission) -> Result<Self, UnionError> {
        let stat = statx(
            rustix::fs::CWD,
            path,
            AtFlags::empty(),
            StatxFlags::BASIC_STATS,
        );
        let is_dir = |stat: &Statx| u32::from(stat.stx_mode) & libc::S_IFMT == libc::S_IFDIR;
        let refused = |reason| UnionError::Branch {
            path: path.to_owned(),
            reason,
        };
        match stat {
            Err(errno) => Err(refused(sys::error::reason(&errno.into()))),
            Ok(stat) if !is_dir(&stat) => Err(refused("not a directory".into())),
            Ok(_) => {
                let root = sys::fuse::branch_clone(path, permission.is_writable())?;
                Self::of_root(path, permission, root)
            }
        }
    }

    /// Takes hold of a branch by its root, which is a detached mount.
    pub(crate) fn of_root(
        path: &Path,
        permission: Permission,
        root: OwnedFd,
    ) -> Result<Self, UnionError> {
        let fail = |reason: String| UnionError::Branch {
            path: path.to_owned(),
            reason,
        };
        let words =
            |errno: rustix::io::Errno| fail(sys::error::reason(&std::io::Error::from(errno)));
        let stat = statx(&root, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS);
        let stat = stat.map_err(words)?;
        let read_only = fstatvfs(&root)
            .map_err(words)?
            .f_flag
            .contains(StatVfsMountFlags::RDONLY);
        if permission.is_writable() && read_only {
            return Err(fail(
                "its file system is read-only, the branch cannot be rw".into(),
            ));
        }
        let usage = claim(&root).map_err(fail)?;
        let device = device_of(&stat);
        let has = |note: &std::ffi::CStr| {
            rustix::fs::getxattr(fd_path(&root), note, &mut [0_u8; 8][..]).is_ok()
        };
        let (has_copies, has_moves) = (has(COPIES), has(MOVES));
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            id,
            lineage: id,
            path: path.to_owned(),
            permission,
            place: place_of(&root),
            root: Arc::new(root),
            device,
            opens: Arc::default(),
            writers: Arc::default(),
            has_copies: AtomicBool::new(has_copies),
            has_moves: AtomicBool::new(has_moves),
            refuses_passthrough: AtomicBool::new(false),
            is_passed_over: AtomicBool::new(false),
            space: Mutex::new(None),
            _usage: usage,
            links: Mutex::default(),
        })
    }

    /// The same branch with another permission; files open through it are counted on.
    pub(crate) fn with_permission(&self, permission: Permission) -> Result<Self, UnionError> {
        let mut branch = Self::hold(&self.path, permission)?;
        branch.lineage = self.lineage;
        branch.opens = Arc::clone(&self.opens);
        branch.writers = Arc::clone(&self.writers);
        Ok(branch)
    }

    /// The same branch as a dead server had it.
    pub(crate) fn inherited(mut self, lineage: u32) -> Self {
        self.lineage = lineage;
        NEXT.fetch_max(lineage.wrapping_add(1), Ordering::Relaxed);
        self
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.permission.is_writable()
    }

    pub(crate) fn is_creatable(&self) -> bool {
        self.permission.access == Access::ReadWrite
    }

    /// Its directory was removed: nothing can be put there any more.
    pub(crate) fn has_vanished(&self) -> bool {
        rustix::fs::fstat(&self.root).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// Free and used bytes, at most so many seconds old.
    pub(crate) fn space(&self, seconds: u64) -> Space {
        let mut kept = lock(&self.space);
        if let Some((at, space)) = *kept
            && at.elapsed() < Duration::from_secs(seconds)
        {
            return space;
        }
        let space = fstatvfs(&self.root).map_or(Space::default(), |vfs| Space {
            size: vfs.f_blocks.saturating_mul(vfs.f_frsize),
            free: vfs.f_bavail.saturating_mul(vfs.f_frsize),
            used: vfs
                .f_blocks
                .saturating_sub(vfs.f_bfree)
                .saturating_mul(vfs.f_frsize),
        });
        *kept = Some((Instant::now(), space));
        space
    }
}

/// Lets others know that a branch is in use; refuses one whose marks are being converted.
fn claim(root: &OwnedFd) -> Result<Option<Usage>, String> {
    // A file system without such locks lets nobody know.
    let usage = Usage::note(root, AS_BRANCH).ok();
    let conversion = usage.as_ref().map(|usage| usage.has_other(IN_CONVERSION));
    if matches!(conversion, Some(Ok(true))) {
        return Err("its marks are being converted".into());
    }
    match convert::interrupted(root) {
        Some(form) => Err(format!(
            "a conversion of its marks was interrupted: rbox union convert --to {form} goes on"
        )),
        None => Ok(usage),
    }
}

/// Locks what no thread leaves half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn default_permission(path: &Path, first_writable: bool) -> Result<Permission, String> {
    let words = |errno: rustix::io::Errno| sys::error::reason(&std::io::Error::from(errno));
    let kind = rustix::fs::statfs(path)
        .map_err(words)?
        .f_type
        .cast_unsigned();
    if READ_ONLY_TYPES.contains(&kind) {
        return Ok(Permission::of(Access::RealReadOnly));
    }
    let read_only = rustix::fs::statvfs(path)
        .map_err(words)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY);
    Ok(Permission::of(if first_writable && !read_only {
        Access::ReadWrite
    } else {
        Access::ReadOnly
    }))
}

impl Members {
    /// Refuses settings that the branches do not allow.
    pub(crate) fn check(&self) -> Result<(), UnionError> {
        for branch in self.branches.iter().filter(|branch| branch.is_writable()) {
            if let Err(lacking) = self.marks().try_on(branch) {
                return Err(UnionError::Branch {
                    path: branch.path.clone(),
                    reason: format!(
                        "it cannot be written with whform={}: its file system {lacking}",
                        self.settings.form
                    ),
                });
            }
        }
        let writable = self.branches.iter().find(|branch| branch.is_writable());
        let Some(branch) = writable else {
            return Ok(());
        };
        let (word, what) = if self.settings.show_marks {
            ("shwh", "marks are shown")
        } else if self.settings.newest {
            ("search=newest", "the newest file is shown")
        } else {
            return Ok(());
        };
        let path = branch.path.display();
        let text = format!("option \"{word}\": {what} where no branch is writable, and {path} is");
        Err(UnionError::Refused(text, libc::EINVAL))
    }

    pub(crate) fn new(epoch: u32, branches: Vec<Arc<Branch>>, settings: Settings) -> Self {
        let mut members = Self {
            epoch,
            branches,
            settings,
            unwatched: false,
        };
        members.unwatched = members.unwatchable().is_some();
        members
    }

    /// What the policies need to know; space is only measured when `with_space`.
    pub(crate) fn views(&self, has_parent: &[u16], with_space: bool) -> Vec<View> {
        let seconds = self.settings.free_seconds();
        self.branches
            .iter()
            .enumerate()
            .map(|(at, branch)| {
                let space = if with_space {
                    branch.space(seconds)
                } else {
                    Space::default()
                };
                let own = branch.permission.reserve.of(space.size);
                View {
                    creatable: branch.is_creatable(),
                    has_parent: has_parent.iter().any(|&place| usize::from(place) == at),
                    size: space.size,
                    free: space.free,
                    used: space.used,
                    reserve: own.max(self.settings.reserve.of(space.size)),
                }
            })
            .collect()
    }

    /// Whether what says where a renamed directory's lower parts are is looked for.
    pub(crate) fn follows_moves(&self) -> bool {
        let has_moves = |branch: &Arc<Branch>| branch.has_moves.load(Ordering::Relaxed);
        self.settings.renames_dirs || self.branches.iter().any(has_moves)
    }

    pub(crate) fn branch(&self, at: u16) -> &Arc<Branch> {
        &self.branches[usize::from(at)]
    }

    pub(crate) fn last(&self) -> u16 {
        u16::try_from(self.branches.len().saturating_sub(1)).unwrap_or(u16::MAX)
    }

    /// Whether anything could be copied up from this branch.
    pub(crate) fn can_copy_up(&self, at: u16) -> bool {
        !self.branch(at).is_writable()
            && self.branches[..usize::from(at)]
                .iter()
                .any(|branch| branch.is_creatable())
    }
}

/// Refuses branches that lie in one another, and branches inside the mount point.
pub(crate) fn check_overlap(branches: &[Arc<Branch>], target: &Path) -> Result<(), UnionError> {
    let of = |path: &Path| statx(rustix::fs::CWD, path, AtFlags::empty(), StatxFlags::INO).ok();
    let key = |path: &Path| of(path).map(|stat| (device_of(&stat), stat.stx_ino));
    let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    let target_key = key(&target);
    let own: Vec<_> = branches
        .iter()
        .map(|branch| {
            statx(
                branch.root.as_fd(),
                c"",
                AtFlags::EMPTY_PATH,
                StatxFlags::INO,
            )
            .ok()
            .map(|stat| (device_of(&stat), stat.stx_ino))
        })
        .collect();
    for (at, branch) in branches.iter().enumerate() {
        let real = std::fs::canonicalize(&branch.path).unwrap_or_else(|_| branch.path.clone());
        for (depth, ancestor) in real.ancestors().enumerate() {
            let found = key(ancestor);
            if found.is_some() && found == target_key {
                return Err(UnionError::Branch {
                    path: branch.path.clone(),
                    reason: format!(
                        "it is the mount point {} or lies inside it",
                        target.display()
                    ),
                });
            }
            for (other, other_key) in own.iter().enumerate() {
                if other != at && found.is_some() && found == *other_key {
                    let how = if depth == 0 {
                        "the same directory as"
                    } else {
                        "inside"
                    };
                    return Err(UnionError::Branch {
                        path: branch.path.clone(),
                        reason: format!("it is {how} branch {}", branches[other].path.display()),
                    });
                }
            }
        }
    }
    Ok(())
}

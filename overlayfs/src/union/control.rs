//! Asking and changing a mounted union: through extended attributes that only root can name.
//!
//! ```text
//! getxattr(MOUNT, trusted.rbox.union.status)    branches, settings and counters as JSON
//! getxattr(PATH,  trusted.rbox.union.where)     the branches that have it, a path per line
//! setxattr(MOUNT, trusted.rbox.union.change)    options as after -o remount
//! getxattr(MOUNT, trusted.rbox.union.error)     why the last change was refused
//! ```

use std::ffi::CStr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::union::branch::{Branch, Members, check_overlap, lock};
use crate::union::node::{Node, ROOT};
use crate::union::options::{BranchArg, Change, Options, Permission};
use crate::union::tree::Union;
use crate::union::{Res, UnionError};

pub(crate) const STATUS: &CStr = c"trusted.rbox.union.status";
pub(crate) const WHERE: &CStr = c"trusted.rbox.union.where";
pub(crate) const CHANGE: &CStr = c"trusted.rbox.union.change";
pub(crate) const ERROR: &CStr = c"trusted.rbox.union.error";

/// A mounted union as it is now.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// The branches, top first.
    pub branches: Vec<BranchStatus>,
    /// Where new objects go, as an option's value.
    pub create: String,
    /// Where copies go.
    pub copy_up: String,
    /// How direct changes are seen.
    pub direct_changes: String,
    /// Nodes that the kernel knows.
    pub nodes: usize,
    /// Files and directories that are open.
    pub open: usize,
    /// Requests served.
    pub requests: u64,
    /// Objects copied up.
    pub copy_ups: u64,
    /// Bytes copied up.
    pub copied_bytes: u64,
    /// Opens served by the kernel alone.
    pub passed_opens: u64,
    /// Opens served by the server.
    pub cached_opens: u64,
    /// The server's process.
    pub server: u32,
}

/// One branch of a mounted union.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BranchStatus {
    /// Its directory.
    pub path: String,
    /// Its permission, as written in options.
    pub permission: String,
    /// Bytes available.
    pub free: u64,
    /// Files of it that are open.
    pub open: usize,
}

impl Union {
    /// Answers a question put as an extended attribute.
    pub(crate) fn answer(
        &self,
        members: &Members,
        node: &Arc<Node>,
        name: &CStr,
    ) -> Option<Res<Vec<u8>>> {
        if name == WHERE {
            return Some(self.where_is(members, node).map(|places| {
                let paths: Vec<String> = places
                    .iter()
                    .map(|&at| members.branch(at).path.display().to_string())
                    .collect();
                paths.join("\n").into_bytes()
            }));
        }
        if node.id != ROOT {
            return None;
        }
        if name == STATUS {
            let status = self.status(members);
            return Some(serde_json::to_vec(&status).map_err(|_| Errno::IO));
        }
        (name == ERROR).then(|| Ok(lock(&self.last_error).clone().into_bytes()))
    }

    fn status(&self, members: &Members) -> Status {
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Status {
            branches: members
                .branches
                .iter()
                .map(|branch| BranchStatus {
                    path: branch.path.display().to_string(),
                    permission: branch.permission.to_string(),
                    free: branch.space(0).free,
                    open: branch.opens.load(Ordering::Relaxed),
                })
                .collect(),
            create: format!("{:?}", members.settings.create),
            copy_up: format!("{:?}", members.settings.copy_up),
            direct_changes: format!("{:?}", members.settings.direct_changes),
            nodes: self.table.len(),
            open: self.handles.len(),
            requests: count(&self.counters.requests),
            copy_ups: count(&self.counters.copy_ups),
            copied_bytes: count(&self.counters.copied_bytes),
            passed_opens: count(&self.counters.passed_opens),
            cached_opens: count(&self.counters.cached_opens),
            server: std::process::id(),
        }
    }

    /// Carries out options given as text; what is wrong can be asked for afterwards.
    pub(crate) fn change(&self, text: &[u8]) -> Res<()> {
        let _changing = lock(&self.changing);
        let done = std::str::from_utf8(text)
            .map_err(|_| UnionError::Refused("the options are no text".into(), libc::EINVAL))
            .and_then(|text| Ok(Options::parse(text)?))
            .and_then(|options| self.apply(&options));
        match done {
            Ok(()) => {
                lock(&self.last_error).clear();
                Ok(())
            }
            Err(error) => {
                let errno = error.errno();
                *lock(&self.last_error) = error.to_string();
                Err(Errno::from_raw_os_error(errno))
            }
        }
    }

    fn apply(&self, options: &Options) -> Result<(), UnionError> {
        let old = self.members();
        let mut branches = old.branches.clone();
        for change in &options.changes {
            apply_one(&mut branches, change)?;
        }
        if branches.is_empty() {
            return Err(UnionError::Refused(
                "a union needs a branch".into(),
                libc::EINVAL,
            ));
        }
        check_overlap(&branches, &self.target)?;
        let mut settings = old.settings.clone();
        settings.update(options);
        let epoch = old.epoch + 1;
        self.set_members(Members {
            epoch,
            branches,
            settings,
        });
        self.dirs.clear();
        crate::union::server::forget_names(&self.device);
        Ok(())
    }
}

fn busy(path: &Path, what: &str) -> UnionError {
    UnionError::Refused(format!("branch {}: {what}", path.display()), libc::EBUSY)
}

fn position(branches: &[Arc<Branch>], path: &Path) -> Result<usize, UnionError> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    branches
        .iter()
        .position(|branch| branch.path == path)
        .ok_or_else(|| {
            UnionError::Refused(
                format!("{} is no branch of this union", path.display()),
                libc::ENOENT,
            )
        })
}

fn apply_one(branches: &mut Vec<Arc<Branch>>, change: &Change) -> Result<(), UnionError> {
    match change {
        Change::Insert(index, arg) => {
            let at = if *index == usize::MAX {
                branches.len()
            } else {
                *index
            };
            if at > branches.len() {
                let text = format!("index {at} is beyond the last branch");
                return Err(UnionError::Refused(text, libc::EINVAL));
            }
            branches.insert(at, Arc::new(Branch::open(arg, at == 0)?));
        }
        Change::Delete(path) => {
            let at = position(branches, path)?;
            if branches[at].opens.load(Ordering::Relaxed) > 0 {
                return Err(busy(path, "files of it are open"));
            }
            branches.remove(at);
        }
        Change::Modify(path, permission) => {
            let at = position(branches, path)?;
            branches[at] = modified(&branches[at], *permission)?;
        }
        Change::Replace(list) => {
            let old = std::mem::take(branches);
            for (at, arg) in list.iter().enumerate() {
                branches.push(replaced(&old, arg, at == 0)?);
            }
            for gone in old
                .iter()
                .filter(|old| !branches.iter().any(|kept| kept.path == old.path))
            {
                if gone.opens.load(Ordering::Relaxed) > 0 {
                    return Err(busy(&gone.path, "files of it are open"));
                }
            }
        }
    }
    Ok(())
}

fn modified(branch: &Arc<Branch>, permission: Permission) -> Result<Arc<Branch>, UnionError> {
    let loses_writing = branch.is_writable() && !permission.is_writable();
    if loses_writing && branch.writers.load(Ordering::Relaxed) > 0 {
        return Err(busy(&branch.path, "files of it are open for writing"));
    }
    Ok(Arc::new(branch.with_permission(permission)?))
}

fn replaced(old: &[Arc<Branch>], arg: &BranchArg, first: bool) -> Result<Arc<Branch>, UnionError> {
    let path = std::path::absolute(&arg.path).unwrap_or_else(|_| arg.path.clone());
    match old.iter().find(|branch| branch.path == path) {
        Some(branch) => match arg.permission {
            Some(permission) if permission != branch.permission => modified(branch, permission),
            _ => Ok(Arc::clone(branch)),
        },
        None => Ok(Arc::new(Branch::open(arg, first)?)),
    }
}

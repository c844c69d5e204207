//! Open files and directories: what the kernel names by handle.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::time::Duration;

use sys::fuse::{BackingId, Device};

use crate::union::Res;
use crate::union::branch::{Branch, lock};
use crate::union::lasting::{Kept, Lasting, LastingFile, LastingOpen, OpenRecord, Word};
use crate::union::listed::since_epoch;
use crate::union::listing::Listing;
use crate::union::node::{Node, NumberMap};
use crate::union::tree::stat_fd;

/// A file of a branch that the kernel reads and writes by itself.
#[derive(Debug)]
pub(crate) struct Backing {
    pub(crate) id: BackingId,
    pub(crate) reader: Arc<OwnedFd>,
    pub(crate) writer: OnceLock<Arc<OwnedFd>>,
    device: Arc<Device>,
}

impl Backing {
    /// Registers an open file with the kernel.
    pub(crate) fn register(device: &Arc<Device>, file: Arc<OwnedFd>, writes: bool) -> Res<Self> {
        let id = device.backing_open(file.as_fd())?;
        let writer = OnceLock::new();
        if writes {
            let _ = writer.set(Arc::clone(&file));
        }
        Ok(Self {
            id,
            reader: file,
            writer,
            device: Arc::clone(device),
        })
    }

    /// What another server has registered.
    pub(crate) fn inherited(
        device: &Arc<Device>,
        id: i32,
        reader: Arc<OwnedFd>,
        written: Option<Arc<OwnedFd>>,
    ) -> Self {
        let writer = OnceLock::new();
        if let Some(file) = written {
            let _ = writer.set(file);
        }
        Self {
            id: BackingId(id),
            reader,
            writer,
            device: Arc::clone(device),
        }
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        self.device.backing_close(self.id);
    }
}

/// What a node is open as; all opens of a node agree on passthrough.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) count: usize,
    pub(crate) backing: Option<Arc<Backing>>,
    pub(crate) cached: Vec<Weak<Handle>>,
    /// Any descriptor of the object, for what is asked of the node.
    pub(crate) file: Arc<OwnedFd>,
}

/// One open of a file.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) node: Arc<Node>,
    served: RwLock<Served>,
    pub(crate) writes: bool,
    /// A running program is read from it.
    pub(crate) executes: bool,
    /// Where it is written down, if it outlives the server.
    record: OnceLock<OpenRecord>,
}

/// What serves an open, counted in its branch while it does.
#[derive(Debug)]
struct Served {
    file: Arc<OwnedFd>,
    branch: Arc<Branch>,
    writes: bool,
}

impl Served {
    fn new(branch: &Arc<Branch>, file: Arc<OwnedFd>, writes: bool) -> Self {
        branch.opens.fetch_add(1, Ordering::Relaxed);
        if writes {
            branch.writers.fetch_add(1, Ordering::Relaxed);
        }
        Self {
            file,
            branch: Arc::clone(branch),
            writes,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.branch.opens.fetch_sub(1, Ordering::Relaxed);
        if self.writes {
            self.branch.writers.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Handle {
    /// An open of a node's file in a branch.
    pub(crate) fn new(
        node: &Arc<Node>,
        branch: &Arc<Branch>,
        file: Arc<OwnedFd>,
        writes: bool,
        executes: bool,
    ) -> Self {
        Self {
            node: Arc::clone(node),
            served: RwLock::new(Served::new(branch, file, writes)),
            writes,
            executes,
            record: OnceLock::new(),
        }
    }

    /// What serves it, to be written down; an object that cannot be asked is not believed later.
    fn lasting(&self, served: &Served) -> Option<LastingFile> {
        let stat = stat_fd(&served.file).ok()?;
        let how = (self.writes, self.executes);
        Some(LastingFile::new(
            &*served.file,
            &stat,
            served.branch.lineage,
            how,
        ))
    }

    /// Writes it down as the answer to a request.
    fn keep(&self, record: OpenRecord, number: u64, unique: u64) {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = self.lasting(&served) {
            record.write(number, self.node.id, unique, Kept::File(file));
            let _ = self.record.set(record);
        }
    }

    /// The descriptor that serves this open now.
    pub(crate) fn file(&self) -> Arc<OwnedFd> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&served.file)
    }

    /// Serves this open from a file of another branch from now on.
    pub(crate) fn redirect(&self, branch: &Arc<Branch>, file: Arc<OwnedFd>) {
        let now = Served::new(branch, file, self.writes);
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = self.record.get()
            && let Some(file) = self.lasting(&now)
        {
            record.write_file(file);
        }
        *served = now;
    }
}

/// One open of a directory, with the listing taken at its first read.
#[derive(Debug)]
pub(crate) struct DirHandle {
    pub(crate) node: Arc<Node>,
    pub(crate) listing: Mutex<Option<Arc<Listing>>>,
    /// When another server opened it, which may have listed a part of it.
    pub(crate) inherited: Option<Duration>,
    record: OnceLock<OpenRecord>,
}

impl DirHandle {
    pub(crate) fn new(node: Arc<Node>, inherited: Option<Duration>) -> Self {
        Self {
            node,
            listing: Mutex::new(None),
            inherited,
            record: OnceLock::new(),
        }
    }
}

impl Drop for DirHandle {
    fn drop(&mut self) {
        self.node.state().listed.close();
    }
}

/// An open of a dead server, to be gone on with.
#[derive(Debug)]
pub(crate) enum Inherited {
    File(Arc<Handle>),
    Dir(DirHandle),
}

#[derive(Debug, Clone)]
enum Open {
    File(Arc<Handle>),
    Dir(Arc<DirHandle>),
}

/// All handles.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    /// Where they are written down, if they outlive the server.
    lasting: Option<Arc<Lasting>>,
    /// What a dead server opened, by the requests that it may not have answered.
    inherited: Mutex<NumberMap<u64, u64>>,
    next: AtomicU64,
    open: Mutex<NumberMap<u64, Open>>,
}

impl Handles {
    pub(crate) fn new(lasting: Option<Arc<Lasting>>) -> Self {
        let next = lasting.as_ref().map_or(0, |it| it.get(Word::NextOpen));
        Self {
            lasting,
            next: AtomicU64::new(next),
            ..Self::default()
        }
    }

    fn add(&self, open: Open) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed) + 1;
        lock(&self.open).insert(number, open);
        number
    }

    /// Writes an open down that is about to answer a request.
    pub(crate) fn keep(&self, number: u64, unique: u64) {
        let Some(lasting) = &self.lasting else { return };
        lasting.raise(Word::NextOpen, number);
        let open = lock(&self.open).get(&number).cloned();
        let Some((open, record)) = open.zip(OpenRecord::new(lasting)) else {
            return;
        };
        match open {
            Open::File(handle) => handle.keep(record, number, unique),
            Open::Dir(handle) => {
                let what = Kept::Dir(since_epoch());
                record.write(number, handle.node.id, unique, what);
                let _ = handle.record.set(record);
            }
        }
    }

    /// Takes over an open that another server has written down.
    pub(crate) fn inherit(&self, kept: &LastingOpen, record: OpenRecord, handle: Inherited) {
        let open = match handle {
            Inherited::File(handle) => {
                let _ = handle.record.set(record);
                Open::File(handle)
            }
            Inherited::Dir(handle) => {
                let _ = handle.record.set(record);
                Open::Dir(Arc::new(handle))
            }
        };
        lock(&self.open).insert(kept.number, open);
        lock(&self.inherited).insert(kept.unique, kept.number);
    }

    /// What a request opened that was carried out and never answered.
    pub(crate) fn unanswered(&self, unique: u64) -> Option<u64> {
        lock(&self.inherited).remove(&unique)
    }

    pub(crate) fn add_file(&self, handle: Arc<Handle>) -> u64 {
        self.add(Open::File(handle))
    }

    pub(crate) fn add_dir(&self, handle: DirHandle) -> u64 {
        self.add(Open::Dir(Arc::new(handle)))
    }

    pub(crate) fn file(&self, number: u64) -> Option<Arc<Handle>> {
        match lock(&self.open).get(&number) {
            Some(Open::File(handle)) => Some(Arc::clone(handle)),
            _ => None,
        }
    }

    pub(crate) fn dir(&self, number: u64) -> Option<Arc<DirHandle>> {
        match lock(&self.open).get(&number) {
            Some(Open::Dir(handle)) => Some(Arc::clone(handle)),
            _ => None,
        }
    }

    /// Whether a program runs from a node.
    pub(crate) fn is_executed(&self, node: &Arc<Node>) -> bool {
        lock(&self.open).values().any(|open| match open {
            Open::File(handle) => handle.executes && Arc::ptr_eq(&handle.node, node),
            Open::Dir(_) => false,
        })
    }

    /// The directories that are open.
    pub(crate) fn dirs(&self) -> Vec<Arc<Node>> {
        let open = lock(&self.open);
        let dirs = open.values().filter_map(|open| match open {
            Open::Dir(handle) => Some(Arc::clone(&handle.node)),
            Open::File(_) => None,
        });
        dirs.collect()
    }

    /// Ends a handle and returns it if it was a file's.
    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Handle>> {
        match lock(&self.open).remove(&number) {
            Some(Open::File(handle)) => Some(handle),
            _ => None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        lock(&self.open).len()
    }
}

//! Descriptors of directories of branches that were used lately; their number is bounded.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use crate::union::branch::lock;
use crate::union::node::NumberMap;

const SHARDS: usize = 16;

#[derive(Debug)]
struct Slot {
    fd: Arc<OwnedFd>,
    ino: u64,
    used: bool,
}

/// A cache from (node, branch) to an open directory.
#[derive(Debug)]
pub(crate) struct DirCache {
    shards: Vec<Mutex<NumberMap<(u64, u32), Slot>>>,
    room: usize,
}

impl DirCache {
    /// A cache that keeps at most about `limit` descriptors.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            room: (limit / SHARDS).max(2),
        }
    }

    fn shard(&self, node: u64) -> &Mutex<NumberMap<(u64, u32), Slot>> {
        &self.shards[usize::try_from(node).unwrap_or(0) % SHARDS]
    }

    pub(crate) fn get(&self, node: u64, branch: u32) -> Option<Arc<OwnedFd>> {
        let mut shard = lock(self.shard(node));
        let slot = shard.get_mut(&(node, branch))?;
        slot.used = true;
        Some(Arc::clone(&slot.fd))
    }

    pub(crate) fn put(&self, node: u64, branch: u32, fd: &Arc<OwnedFd>, ino: u64) {
        let mut shard = lock(self.shard(node));
        if shard.len() >= self.room {
            shard.retain(|_, slot| std::mem::take(&mut slot.used));
            if shard.len() >= self.room {
                shard.clear();
            }
        }
        let fd = Arc::clone(fd);
        shard.insert(
            (node, branch),
            Slot {
                fd,
                ino,
                used: true,
            },
        );
    }

    /// Drops what is kept for a directory that was found to be another one.
    pub(crate) fn check(&self, node: u64, branch: u32, ino: u64) {
        let mut shard = lock(self.shard(node));
        if shard
            .get(&(node, branch))
            .is_some_and(|slot| slot.ino != ino)
        {
            shard.remove(&(node, branch));
        }
    }

    /// Drops all that is kept for a directory.
    pub(crate) fn drop_node(&self, node: u64) {
        lock(self.shard(node)).retain(|key, _| key.0 != node);
    }

    pub(crate) fn clear(&self) {
        for shard in &self.shards {
            lock(shard).clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_its_bound() {
        let cache = DirCache::new(64);
        let fd = Arc::new(OwnedFd::from(std::fs::File::open("/").unwrap()));
        for node in 0..10_000 {
            cache.put(node, 1, &fd, 2);
        }
        assert!(Arc::strong_count(&fd) <= 65);
        cache.put(7, 1, &fd, 2);
        cache.check(7, 1, 2);
        assert!(cache.get(7, 1).is_some());
        cache.check(7, 1, 3);
        assert!(cache.get(7, 1).is_none());
    }
}

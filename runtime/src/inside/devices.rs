//! Device nodes and the links of /dev.

use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid};
use rustix::io::Errno;
use sys::SysResultExt;

use super::{Inside, InsideError, Outcome, beneath};
use crate::steps::DeviceNode;

/// Link and target, as runc and Docker have them.
const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

impl Inside<'_> {
    pub(super) fn make_devices(&mut self, nodes: &[DeviceNode], links: bool) -> Outcome {
        let root = self.root()?;
        let dev = beneath::directory(root, Path::new("/dev"))?;
        for node in nodes {
            let parent = node.path.parent().unwrap_or(Path::new("/"));
            if parent == Path::new("/dev") {
                make_device(&dev, node)?;
            } else {
                make_device(&beneath::directory(root, parent)?, node)?;
            }
        }
        if !links {
            return Ok(());
        }
        for (link, target) in LINKS {
            let name = link.trim_start_matches("/dev/");
            match rustix::fs::symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => Err(errno).call(|| format!("symlinkat({target:?}, {link:?})"))?,
            }
        }
        Ok(())
    }
}

fn make_device(parent: impl AsFd, node: &DeviceNode) -> Result<(), InsideError> {
    let path = &node.path;
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    let kind = match node.kind {
        'b' => FileType::BlockDevice,
        'p' => FileType::Fifo,
        _ => FileType::CharacterDevice,
    };
    let mode = Mode::from_raw_mode(node.mode);
    let number = rustix::fs::makedev(node.major, node.minor);
    match rustix::fs::mknodat(parent.as_fd(), name, kind, mode, number) {
        Ok(()) => {}
        // A node that is there may be anything: it is replaced.
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(parent.as_fd(), name, AtFlags::empty())
                .call(|| format!("unlinkat({path:?})"))?;
            rustix::fs::mknodat(parent.as_fd(), name, kind, mode, number)
                .call(|| format!("mknodat({path:?})"))?;
        }
        Err(errno) => Err(errno).call(|| format!("mknodat({path:?})"))?,
    }
    if (node.user, node.group) != (0, 0) {
        let user = Some(Uid::from_raw(node.user));
        let group = Some(Gid::from_raw(node.group));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::chownat(parent.as_fd(), name, user, group, flags)
            .call(|| format!("fchownat({path:?})"))?;
    }
    Ok(())
}

//! Paths of the container, resolved beneath its root by the kernel and handed on as descriptors.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use sys::{Result, SysError, SysResultExt};

/// Symlinks stay beneath the root, procfs's magic ones lead nowhere.
const RESOLVE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// The root of a process that is in the container already.
pub(super) fn open_root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, "/", flags, Mode::empty()).call(|| "open(\"/\", O_PATH)")
}

/// Opens a path of the container.
pub(super) fn open(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    open_with(root, path, flags, RESOLVE)
}

/// The same with other rules of resolution.
pub(super) fn open_with(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    // EAGAIN: something was renamed meanwhile, somewhere; the kernel asks to try again.
    let mut attempts = 0;
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN) if attempts < 128 => attempts += 1,
            other => return other.call(|| format!("openat2(root, {path:?})")),
        }
    }
}

/// Links to what does not exist yet are followed so far.
const MOST_LINKS: u8 = 40;

/// A directory of the container that may be missing: then it is made, root's, mode 0755.
pub(super) fn directory(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make(root, path, Make::Directory, MOST_LINKS)
}

/// A file of the container that may be missing: then it is made, empty, mode 0755 as Docker's.
pub(super) fn file(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    make(root, path, Make::File, MOST_LINKS)
}

#[derive(Clone, Copy, PartialEq)]
enum Make {
    Directory,
    File,
}

fn make(root: BorrowedFd<'_>, path: &Path, what: Make, links: u8) -> Result<OwnedFd> {
    let flags = match what {
        Make::Directory => OFlags::PATH | OFlags::DIRECTORY,
        Make::File => OFlags::PATH,
    };
    match open(root, path, flags) {
        Err(error) if error.errno() == Errno::NOENT.raw_os_error() => {}
        other => return other,
    }
    let missing = || SysError::new(format!("{path:?} has no name"), Errno::NOENT.raw_os_error());
    let name = path.file_name().ok_or_else(missing)?;
    let above = path.parent().ok_or_else(missing)?;
    let parent = make(root, above, Make::Directory, links)?;
    match create(&parent, name, what) {
        // Links in /proc are no paths: what they lead to was found missing above.
        Err(Errno::EXIST) if is_proc(&parent) => {
            Err(Errno::NOENT).call(|| format!("openat2(root, {path:?})"))
        }
        // A link into nothing, or somebody else was faster.
        Err(Errno::EXIST) => match rustix::fs::readlinkat(&parent, name, Vec::new()) {
            Ok(target) if links > 0 => {
                let target = OsStr::from_bytes(target.to_bytes());
                make(root, &above.join(target), what, links - 1)
            }
            Ok(_) => Err(Errno::LOOP).call(|| format!("openat2(root, {path:?})")),
            Err(_) => open(root, path, flags),
        },
        // Made beneath this descriptor; opened by it, so that nothing can be put in its place.
        Ok(()) => open(parent.as_fd(), Path::new(name), flags | OFlags::NOFOLLOW),
        Err(errno) => Err(errno).call(|| format!("mkdirat(root, {path:?})")),
    }
}

fn is_proc(directory: &OwnedFd) -> bool {
    rustix::fs::fstatfs(directory).is_ok_and(|found| found.f_type == super::mounts::PROC_MAGIC)
}

fn create(parent: &OwnedFd, name: &OsStr, what: Make) -> rustix::io::Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    match what {
        Make::Directory => rustix::fs::mkdirat(parent, name, mode),
        Make::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::WRONLY;
            rustix::fs::openat(parent, name, flags, mode).map(drop)
        }
    }
}

/// Reads a small regular file of the container; a missing one is empty.
pub(super) fn read(root: BorrowedFd<'_>, path: &Path) -> Result<String> {
    use std::io::Read;
    const LARGEST: u64 = 16 << 20;
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open(root, path, flags) {
        Err(error)
            if [Errno::NOENT, Errno::NOTDIR]
                .iter()
                .any(|errno| errno.raw_os_error() == error.errno()) =>
        {
            return Ok(String::new());
        }
        other => other?,
    };
    let status = rustix::fs::fstat(file.as_fd()).call(|| format!("fstat({path:?})"))?;
    if rustix::fs::FileType::from_raw_mode(status.st_mode) != rustix::fs::FileType::RegularFile {
        return Ok(String::new());
    }
    let mut content = Vec::new();
    std::fs::File::from(file)
        .take(LARGEST)
        .read_to_end(&mut content)
        .call(|| format!("read({path:?})"))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

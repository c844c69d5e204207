//! Mounting a union: checks, the server's process, its threads and its end; asking it by path.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::mount::MountFlags;
use sys::fuse::{Device, SUBTYPE, Side};

use crate::union::branch::{Branch, Members, check_overlap};
use crate::union::control::{DO, DONE, ERROR, SAY, STATUS, Status, WHERE};
use crate::union::lasting::Lasting;
use crate::union::options::{Change, Options, Transport};
use crate::union::transport::Serving;
use crate::union::tree::Union;
use crate::union::{UnionError, recover, server};

/// A union to be mounted.
#[derive(Debug, Clone)]
pub struct MountRequest {
    /// Branches and settings.
    pub options: Options,
    /// Where.
    pub target: PathBuf,
    /// What the mount table shows as source.
    pub source: String,
    /// The calling process serves, and returns when the mount is gone.
    pub foreground: bool,
}

/// A mounted union; the mount stays when this is dropped.
#[derive(Debug, Clone)]
pub struct Mounted {
    /// Where it is.
    pub target: PathBuf,
    /// The server's process.
    pub server: u32,
}

impl Mounted {
    /// Unmounts it.
    pub fn unmount(&self, lazy: bool) -> Result<(), UnionError> {
        unmount(&self.target, lazy)
    }
}

/// The line of a mount helper: `mount.TYPE SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Helper {
    /// Shown in the mount table.
    pub source: String,
    /// Where.
    pub target: PathBuf,
    /// Everything after `-o`.
    pub options: Options,
    /// The same as text.
    pub text: String,
    /// `-f`: everything but the mount itself.
    pub dry: bool,
}

impl Helper {
    /// Reads the arguments that follow the helper's name.
    pub fn parse<S: AsRef<str>>(arguments: &[S]) -> Result<Self, UnionError> {
        let mut words = Vec::new();
        let mut options = Options::default();
        let mut dry = false;
        let mut lists: Vec<&str> = Vec::new();
        let mut rest = arguments.iter().map(AsRef::as_ref);
        while let Some(word) = rest.next() {
            match word {
                "-o" => lists.push(rest.next().unwrap_or_default()),
                "-t" | "-N" => drop(rest.next()),
                _ if word.starts_with("-o") => lists.push(&word[2..]),
                _ if word.starts_with('-') && word.len() > 1 => {
                    if let Some(unknown) =
                        word[1..].chars().find(|letter| !"sfnvrw".contains(*letter))
                    {
                        let text = format!("unknown option \"-{unknown}\"");
                        return Err(UnionError::Refused(text, libc::EINVAL));
                    }
                    dry |= word.contains('f');
                    if word.contains('r') {
                        lists.push("ro");
                    }
                }
                _ => words.push(word),
            }
        }
        for list in &lists {
            options.add(list)?;
        }
        match words.as_slice() {
            [source, target] => Ok(Self {
                text: lists.join(","),
                source: (*source).to_owned(),
                target: PathBuf::from(target),
                options,
                dry,
            }),
            _ => {
                let text = "a source and a mount point must be given".to_owned();
                Err(UnionError::Refused(text, libc::EINVAL))
            }
        }
    }
}

/// Mounts a union; returns when it can be used. The calling process must have one thread only.
pub fn mount(request: &MountRequest) -> Result<Mounted, UnionError> {
    let target = absolute(&request.target);
    clear_dead(&target);
    let mut options = request.options.clone();
    for branch in &mut options.branches {
        // The server's working directory is not the caller's.
        branch.path = std::path::absolute(&branch.path).unwrap_or_else(|_| branch.path.clone());
    }
    if options.recover == Some(true) {
        recover::check(&options)?;
    }
    let branches = members(&options, &target)?;
    let flags = flags(&options, &branches);
    let dir = rustix::fs::stat(&target).map_err(|errno| refused(&target, errno))?;
    if rustix::fs::FileType::from_raw_mode(dir.st_mode) != rustix::fs::FileType::Directory {
        return Err(refused(&target, Errno::NOTDIR));
    }
    if request.foreground {
        let mounted = Mounted {
            target: target.clone(),
            server: std::process::id(),
        };
        if options.recover == Some(true) {
            drop(branches);
            recover::hold(None, &plan(request, &options, &target, flags))?;
            return Ok(mounted);
        }
        let serving = start(&plan(request, &options, &target, flags), branches, None)?;
        wait(&serving, &target);
        return Ok(mounted);
    }
    // The server opens them itself: it gets no descriptor of ours.
    drop(branches);
    match sys::fuse::detach()? {
        Side::Caller(answer) => mounted(&target, &answer),
        Side::Server(ready) if options.recover == Some(true) => {
            let _ = recover::hold(Some(ready), &plan(request, &options, &target, flags));
            sys::fuse::leave()
        }
        Side::Server(ready) => {
            let serving = members(&options, &target).and_then(|branches| {
                start(&plan(request, &options, &target, flags), branches, None)
            });
            match serving {
                Ok(serving) => {
                    ready.answer(format!("ok {}", std::process::id()).as_bytes());
                    wait(&serving, &target);
                }
                Err(error) => ready.answer(sys::error::with_causes(&error).as_bytes()),
            }
            sys::fuse::leave()
        }
    }
}

/// Looks whether these branches could be mounted together at this place, and mounts nothing.
///
/// # Errors
/// Those of [`mount`] about options and branches.
pub fn check(options: &Options, target: &Path) -> Result<(), UnionError> {
    members(options, target).map(drop)
}

fn mounted(target: &Path, answer: &[u8]) -> Result<Mounted, UnionError> {
    let text = String::from_utf8_lossy(answer);
    match text
        .strip_prefix("ok ")
        .and_then(|server| server.parse().ok())
    {
        Some(server) => Ok(Mounted {
            target: target.to_owned(),
            server,
        }),
        None if text.is_empty() => Err(UnionError::Refused(
            "the server ended before it was ready".into(),
            libc::EIO,
        )),
        None => Err(UnionError::Refused(text.into_owned(), libc::EIO)),
    }
}

pub(crate) fn absolute(path: &Path) -> PathBuf {
    // Not canonical when what is mounted there is dead.
    std::fs::canonicalize(path)
        .or_else(|_| std::path::absolute(path))
        .unwrap_or_else(|_| path.to_owned())
}

pub(crate) fn refused(target: &Path, errno: Errno) -> UnionError {
    let reason = sys::error::reason(&std::io::Error::from(errno));
    UnionError::Refused(
        format!("mount point {}: {reason}", target.display()),
        errno.raw_os_error(),
    )
}

/// A mount whose server was killed gives way to a new one.
fn clear_dead(target: &Path) {
    // Not by stat: for a moment the kernel answers that one by itself. Rings that end cancel.
    let answer = rustix::fs::statfs(target).map(drop);
    let dead = matches!(
        answer,
        Err(Errno::NOTCONN | Errno::CONNABORTED | Errno::CANCELED)
    );
    if dead && is_ours(target) {
        let _ = sys::fuse::unmount(target, true);
    }
}

pub(crate) fn members(options: &Options, target: &Path) -> Result<Members, UnionError> {
    let einval = |text: &str| UnionError::Refused(text.into(), libc::EINVAL);
    if options.branches.is_empty() {
        return Err(einval("no branch was given: dirs=PATH=rw:PATH=ro"));
    }
    let is_list = |change: &Change| matches!(change, Change::Replace(_));
    if !options.changes.iter().all(is_list) {
        return Err(einval(
            "add, ins, append, prepend, del and mod change a mounted union: name all branches by \
             dirs=, or remount",
        ));
    }
    if options.branches.len() > 1024 {
        return Err(einval("more than 1024 branches"));
    }
    let first_writable = options.read_only != Some(true);
    let mut branches = Vec::new();
    for (at, arg) in options.branches.iter().enumerate() {
        branches.push(Arc::new(Branch::open(arg, at == 0 && first_writable)?));
    }
    check_overlap(&branches, target)?;
    if options.create_named && !branches.iter().any(|branch| branch.is_creatable()) {
        return Err(einval("create= was given, but no branch is writable"));
    }
    let members = Members::new(1, branches, options.settings.clone());
    members.check()?;
    Ok(members)
}

fn flags(options: &Options, members: &Members) -> MountFlags {
    let mut flags = MountFlags::empty();
    let writable = members.branches.iter().any(|branch| branch.is_writable());
    if options.read_only == Some(true) || !writable && options.read_only != Some(false) {
        flags |= MountFlags::RDONLY;
    }
    for word in &options.generic {
        flags |= match word.as_str() {
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            "strictatime" => MountFlags::STRICTATIME,
            "dirsync" => MountFlags::DIRSYNC,
            _ => MountFlags::SYNCHRONOUS,
        };
    }
    flags
}

const NO_RINGS: &str = "option \"transport=ring\": the kernel does not offer FUSE over io_uring; \
    Linux 6.14 and later do after echo Y > /sys/module/fuse/parameters/enable_uring";

/// What is mounted, and where.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    source: &'a str,
    /// With the whole paths of the branches.
    pub(crate) options: &'a Options,
    pub(crate) target: &'a Path,
    flags: MountFlags,
}

fn plan<'a>(
    request: &'a MountRequest,
    options: &'a Options,
    target: &'a Path,
    flags: MountFlags,
) -> Plan<'a> {
    Plan {
        source: &request.source,
        options,
        target,
        flags,
    }
}

/// Mounts and begins to serve.
pub(crate) fn start(
    plan: &Plan<'_>,
    members: Members,
    lasting: Option<Arc<Lasting>>,
) -> Result<Serving, UnionError> {
    sys::fuse::block_signals()?;
    let target = plan.target;
    let limit = sys::fuse::raise_descriptor_limit();
    let device = Arc::new(Device::open()?);
    sys::fuse::mount(&device, plan.source, target, plan.flags)?;
    let transport = match &lasting {
        Some(lasting) => {
            lasting.set_descriptor(&*device);
            Transport::Device
        }
        None => plan.options.transport.unwrap_or(Transport::Auto),
    };
    let recovers = lasting.is_some();
    let serving = || {
        let target = target.to_owned();
        let union = Union::new(
            members,
            Arc::clone(&device),
            target.clone(),
            limit,
            transport,
            lasting,
        )
        .map_err(|errno| refused(&target, errno))?;
        union.keep_members(&union.members(), &[])?;
        server::initialise(&union).map_err(|errno| match errno {
            Errno::NOSYS if recovers => recover::not_offered(),
            errno => refused(&target, errno),
        })?;
        if transport == Transport::Ring && !union.has_rings.load(Ordering::Relaxed) {
            return Err(UnionError::Refused(NO_RINGS.into(), libc::EOPNOTSUPP));
        }
        Serving::start(&Arc::new(union))
    };
    let started = serving();
    if started.is_err() {
        let _ = sys::fuse::unmount(target, true);
    }
    started
}

/// Waits for the end of the mount; a request to end unmounts.
pub(crate) fn wait(serving: &Serving, target: &Path) {
    while serving.is_alive() {
        if sys::fuse::wait_signal() {
            let _ = sys::fuse::unmount(target, true);
        }
    }
}

/// Unmounts the union at `target`.
pub fn unmount(target: &Path, lazy: bool) -> Result<(), UnionError> {
    let target = absolute(target);
    if !is_ours(&target) {
        return Err(UnionError::NotUnion(target));
    }
    Ok(sys::fuse::unmount(&target, lazy)?)
}

/// Where unions are mounted, as this process sees them.
pub fn mounts() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let kind = format!("fuse.{SUBTYPE}");
    table
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            let (_, target, found) = (words.next()?, words.next()?, words.next()?);
            (found == kind).then(|| PathBuf::from(unescape(target)))
        })
        .collect()
}

/// The mount table's `\040` and the like.
fn unescape(text: &str) -> String {
    let mut plain = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let octal = text
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(octal.unwrap_or(bytes[at]));
        at += if octal.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&plain).into_owned()
}

pub(crate) fn is_ours(target: &Path) -> bool {
    mounts().iter().any(|mount| mount == target)
}

/// Has a change carried out: told in parts, since names of extended attributes are short.
fn tell(target: &Path, text: &str) -> Result<(), Errno> {
    let id = std::process::id();
    let send = |word: &CStr, part: &[u8]| {
        let mut name = word.to_bytes().to_vec();
        name.extend_from_slice(format!(".{id}.").as_bytes());
        name.extend_from_slice(part);
        rustix::fs::lgetxattr(target, name, &mut [0_u8; 0][..]).map(drop)
    };
    for part in text.as_bytes().chunks(200) {
        send(SAY, part)?;
    }
    // Somebody else's change is being carried out; then ours is.
    patiently(|| send(DO, b""))?;
    patiently(|| rustix::fs::lgetxattr(target, DONE, &mut [0_u8; 0][..]).map(drop))
}

fn patiently(ask: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
    loop {
        match ask() {
            Err(Errno::AGAIN) => std::thread::sleep(std::time::Duration::from_millis(2)),
            other => return other,
        }
    }
}

pub(crate) fn ask(path: &Path, name: &CStr) -> Result<Vec<u8>, UnionError> {
    let mut value = vec![0; 64 << 10];
    match rustix::fs::lgetxattr(path, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(value)
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Err(UnionError::NotUnion(path.to_owned())),
        Err(errno) => Err(sys::SysError::new(
            format!("getxattr({path:?}, {name:?})"),
            errno.raw_os_error(),
        )
        .into()),
    }
}

/// What a mounted union is now.
pub fn list(target: &Path) -> Result<Status, UnionError> {
    let text = ask(&absolute(target), STATUS)?;
    serde_json::from_slice(&text).map_err(|_| UnionError::NotUnion(target.to_owned()))
}

/// The branches that have what a path of a union shows; the first serves it.
pub fn where_is(path: &Path) -> Result<Vec<PathBuf>, UnionError> {
    let text = ask(path, WHERE)?;
    Ok(String::from_utf8_lossy(&text)
        .lines()
        .map(PathBuf::from)
        .collect())
}

/// Changes a mounted union: options as after `remount`, applied together or not at all.
pub fn change(target: &Path, options: &str) -> Result<(), UnionError> {
    let target = absolute(target);
    let parsed = Options::parse(options)?;
    if !is_ours(&target) {
        return Err(UnionError::NotUnion(target));
    }
    if parsed.read_only == Some(false) {
        set_read_only(&target, false)?;
    }
    let now = rustix::fs::statvfs(&target).map_err(|errno| refused(&target, errno))?;
    let read_only = now.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
    // Which permission an added branch gets hangs on it, and the server cannot know.
    let word = if read_only { "ro," } else { "rw," };
    let text = format!("{word}{}", with_absolute_paths(options));
    if let Err(errno) = tell(&target, &text) {
        let reason = ask(&target, ERROR).unwrap_or_default();
        let reason = String::from_utf8_lossy(&reason).into_owned();
        let reason = if reason.is_empty() {
            sys::error::reason(&std::io::Error::from(errno))
        } else {
            reason
        };
        return Err(UnionError::Refused(reason, errno.raw_os_error()));
    }
    match parsed.read_only {
        Some(true) => set_read_only(&target, true),
        Some(false) | None => Ok(()),
    }
}

/// Makes the whole mount read-only or not, and leaves its other flags as they are.
fn set_read_only(target: &Path, read_only: bool) -> Result<(), UnionError> {
    use rustix::fs::StatVfsMountFlags as Now;
    let now = rustix::fs::statvfs(target)
        .map_err(|errno| refused(target, errno))?
        .f_flag;
    if now.contains(Now::RDONLY) == read_only {
        return Ok(());
    }
    let mut flags = if read_only {
        MountFlags::RDONLY
    } else {
        MountFlags::empty()
    };
    for (is, set) in [
        (Now::NOSUID, MountFlags::NOSUID),
        (Now::NODEV, MountFlags::NODEV),
        (Now::NOEXEC, MountFlags::NOEXEC),
        (Now::SYNCHRONOUS, MountFlags::SYNCHRONOUS),
        (Now::NOATIME, MountFlags::NOATIME),
        (Now::NODIRATIME, MountFlags::NODIRATIME),
        (Now::RELATIME, MountFlags::RELATIME),
    ] {
        if now.contains(is) {
            flags |= set;
        }
    }
    Ok(sys::fuse::remount(target, flags)?)
}

/// The server's working directory is not the caller's.
fn with_absolute_paths(options: &str) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    crate::union::branch_words::absolute(options, &here.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_helpers_line() {
        let line = [
            "none",
            "/m",
            "-v",
            "-o",
            "rw,dirs=./a=rw:./b=ro",
            "-t",
            "aufs",
        ];
        let helper = Helper::parse(&line).unwrap();
        assert_eq!(helper.source, "none");
        assert_eq!(helper.target, Path::new("/m"));
        assert_eq!(helper.options.branches.len(), 2);
        assert!(!helper.dry);
        assert!(Helper::parse(&["none", "/m", "-fs"]).unwrap().dry);
        let again = Helper::parse(&["none", "/m", "-o", "remount,rw,user_id=0,add:1:/x"]).unwrap();
        assert!(again.options.remount);
    }

    #[test]
    fn refuses_a_wrong_helpers_line() {
        for (line, want) in [
            (&["none"][..], "a source and a mount point must be given"),
            (&["none", "/m", "-x"][..], "unknown option \"-x\""),
            (&["none", "/m", "-o", "frob"][..], "unknown option \"frob\""),
        ] {
            assert_eq!(Helper::parse(line).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn reads_the_mount_tables_escapes() {
        assert_eq!(unescape("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescape("/plain"), "/plain");
    }
}

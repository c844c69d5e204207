//! `recover`: a union whose server dies is served on by another one, which a holder starts.
//!
//! What the dead server had read and not answered is asked for again. What only looks, or does the
//! same when it is done twice, is done then. What may have been done, and would do more the second
//! time, is answered with an I/O error and left alone: whoever asked is told that it is not known.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::io::Errno;
use sys::fuse::{End, Holder, Inherited, Ready};

use crate::union::branch::Members;
use crate::union::handle::DirHandle;
use crate::union::lasting::{Lasting, LastingBranch, LastingMembers, Word};
use crate::union::mount::{Plan, members, start, wait};
use crate::union::options::{DirectChanges, Options, Transport};
use crate::union::request::Request;
use crate::union::tree::{Union, stat_fd};
use crate::union::wire::{Header, op};
use crate::union::{Res, UnionError, revive};

/// More deaths than this within the time are no accident: the union is left dead.
const MOST_DEATHS: usize = 10;
const WITHIN: Duration = Duration::from_secs(60);

/// When servers died.
#[derive(Debug, Default)]
struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// Notes one more; whether another server is to be started.
    fn may_go_on(&mut self, now: Instant) -> bool {
        self.0.push_back(now);
        while self
            .0
            .front()
            .is_some_and(|&first| now.duration_since(first) > WITHIN)
        {
            self.0.pop_front();
        }
        self.0.len() <= MOST_DEATHS
    }
}

fn refuse(text: &str) -> UnionError {
    UnionError::Refused(format!("option \"recover\": {text}"), libc::EINVAL)
}

/// What the kernel keeps by itself, another server could not take back.
const NEEDS_REVAL: &str = "it goes with udba=reval only";

/// Refuses options that `recover` does not go with.
pub(crate) fn check(options: &Options) -> Result<(), UnionError> {
    if options.transport == Some(Transport::Ring) {
        return Err(refuse("it goes with transport=device only"));
    }
    if options.settings.direct_changes != DirectChanges::Reval {
        return Err(refuse(NEEDS_REVAL));
    }
    if options.settings.small_numbers {
        return Err(refuse("which number inode32 shows would go with a server"));
    }
    Ok(())
}

/// The kernel cannot send requests again.
pub(crate) fn not_offered() -> UnionError {
    let text = "option \"recover\": the kernel sends no request twice; Linux 6.9 and later do";
    UnionError::Refused(text.into(), libc::EOPNOTSUPP)
}

/// Holds a union until its mount is gone, or its servers die too often.
pub(crate) fn hold(ready: Option<Ready>, plan: &Plan<'_>) -> Result<(), UnionError> {
    let lasting = Lasting::new()?;
    let mut holder = Holder::new(ready)?;
    let mut deaths = Deaths::default();
    loop {
        let end = holder.run(|inherited| serve(plan, &lasting, inherited))?;
        if end == End::Left {
            return Ok(());
        }
        if lasting.get(Word::Begun) == 0 {
            let why = lasting.complaint();
            holder.refuse(&why);
            return Err(UnionError::Refused(why, libc::EIO));
        }
        if !deaths.may_go_on(Instant::now()) {
            let text = format!(
                "union {}: its servers died {MOST_DEATHS} times within {} seconds",
                plan.target.display(),
                WITHIN.as_secs()
            );
            return Err(UnionError::Refused(text, libc::EIO));
        }
        lasting.set(Word::Restarts, lasting.get(Word::Restarts) + 1);
    }
}

/// The server's process: the first one mounts, every other goes on.
fn serve(plan: &Plan<'_>, lasting: &Arc<Lasting>, inherited: Inherited) -> i32 {
    let has_begun = lasting.get(Word::Begun) > 0;
    let serving = if has_begun {
        revive::revive(plan, lasting, inherited)
    } else {
        drop(inherited);
        members(plan.options, plan.target)
            .and_then(|members| start(plan, members, Some(Arc::clone(lasting))))
    };
    match serving {
        Ok(serving) => {
            lasting.set(Word::Begun, 1);
            sys::fuse::tell_holder();
            wait(&serving, plan.target);
            0
        }
        Err(error) => {
            if !has_begun {
                lasting.complain(&sys::error::with_causes(&error));
            }
            1
        }
    }
}

impl Union {
    /// Refuses a change that would end, begin or break recovery.
    pub(crate) fn check_recovery(&self, options: &Options) -> Result<(), UnionError> {
        let recovers = self.lasting.is_some();
        if options.recover.is_some_and(|wanted| wanted != recovers) {
            return Err(refuse(
                "it is for union mount: a mounted union stays as it is",
            ));
        }
        let mut settings = self.members().settings.clone();
        settings.update(options);
        match recovers && settings.direct_changes != DirectChanges::Reval {
            true => Err(refuse(NEEDS_REVAL)),
            false => Ok(()),
        }
    }

    /// Writes down the branches as they are about to be, and the settings that were named.
    pub(crate) fn keep_members(&self, new: &Members, named: &[String]) -> Result<(), UnionError> {
        use std::os::fd::AsRawFd;
        let Some(lasting) = &self.lasting else {
            return Ok(());
        };
        let mut words = lasting.members().unwrap_or_default().words;
        words.extend_from_slice(named);
        let branches = new.branches.iter().map(|branch| LastingBranch {
            path: branch.path.clone(),
            permission: branch.permission.to_string(),
            root: branch.root.as_raw_fd(),
            lineage: branch.lineage,
        });
        let kept = LastingMembers {
            epoch: new.epoch,
            branches: branches.collect(),
            words,
        };
        match lasting.keep_members(&kept) {
            true => Ok(()),
            false => Err(refuse(
                "the branches and options have no room in its memory",
            )),
        }
    }
}

impl Request<'_> {
    /// Whether a listing can be gone on with that a dead server began: not where an entry could be
    /// left out or come twice.
    pub(crate) fn lists_on(&self, handle: &DirHandle) -> bool {
        let as_at = |opened| self.union.lists_as_at(self.members, &handle.node, opened);
        handle.inherited.is_none_or(as_at)
    }
}

/// Meets a request that another server has read: what it opened is closed; an error where nothing
/// may be done any more.
pub(crate) fn meet_again(union: &Union, header: &Header) -> Res<()> {
    if let Some(handle) = union.handles.unanswered(header.first_unique()) {
        union.release(handle);
    }
    match header.opcode {
        op::SYMLINK
        | op::MKNOD
        | op::MKDIR
        | op::CREATE
        | op::TMPFILE
        | op::LINK
        | op::UNLINK
        | op::RMDIR
        | op::RENAME
        | op::RENAME2
        | op::SETXATTR
        | op::REMOVEXATTR
        | op::IOCTL
        | op::COPY_FILE_RANGE
        | op::COPY_FILE_RANGE_64 => Err(Errno::IO),
        _ => Ok(()),
    }
}

/// How much of a write another server has appended. Elsewhere than at a file's end it is done once
/// more; where the end holds something else it is an I/O error.
pub(crate) fn appended(file: impl AsFd, bytes: &[u8], offset: u64) -> Res<usize> {
    if !rustix::fs::fcntl_getfl(&file)?.contains(OFlags::APPEND) {
        return Ok(0);
    }
    let size = stat_fd(&file)?.stx_size;
    let more = size.checked_sub(offset).ok_or(Errno::IO)?;
    let more = usize::try_from(more).unwrap_or(usize::MAX).min(bytes.len());
    let mut there = vec![0; more];
    let mut read = 0;
    while read < more {
        match rustix::io::pread(&file, &mut there[read..], offset + read as u64) {
            Ok(count) if count > 0 => read += count,
            _ => return Err(Errno::IO),
        }
    }
    match there == bytes[..more] && (more == bytes.len() || offset + more as u64 == size) {
        true => Ok(more),
        false => Err(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deaths_in_a_row_come_to_an_end() {
        let start = Instant::now();
        let mut deaths = Deaths::default();
        for second in 0..MOST_DEATHS as u64 {
            assert!(deaths.may_go_on(start + Duration::from_secs(second)));
        }
        assert!(!deaths.may_go_on(start + Duration::from_secs(59)));
        let mut deaths = Deaths::default();
        for minute in 0..100 {
            assert!(deaths.may_go_on(start + Duration::from_secs(minute * 10)));
        }
    }

    #[test]
    fn refuses_what_it_does_not_go_with() {
        for (words, want) in [
            ("recover", ""),
            ("recover,transport=auto", ""),
            ("recover,transport=device", ""),
            ("recover,transport=ring", "transport=device"),
            ("recover,udba=notify", "udba=reval"),
            ("recover,udba=none", "udba=reval"),
            ("recover,inode32", "inode32"),
            ("recover,inode64", ""),
        ] {
            let done = check(&Options::parse(words).unwrap());
            let said = done.err().map(|error| error.to_string());
            assert!(said.unwrap_or_default().contains(want), "{words}");
            assert_eq!(
                check(&Options::parse(words).unwrap()).is_ok(),
                want.is_empty()
            );
        }
    }

    #[test]
    fn an_append_is_not_done_twice() {
        use std::io::Write;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"old,new").unwrap();
        let again = |file: &std::fs::File, bytes: &[u8], offset| appended(file, bytes, offset);
        assert_eq!(again(file.as_file(), b"else", 0), Ok(0), "no append");
        let mut options = std::fs::OpenOptions::new();
        let options = options.read(true).append(true);
        let file = options.open(file.path()).unwrap();
        for (bytes, offset, done) in [
            ("anything", 7, Ok(0)),
            ("newer", 4, Ok(3)),
            ("new", 4, Ok(3)),
            ("old", 0, Ok(3)), // and others have appended since
            ("ne", 4, Ok(2)),
            ("other", 4, Err(Errno::IO)),
            ("far", 8, Err(Errno::IO)),
        ] {
            assert_eq!(again(&file, bytes.as_bytes(), offset), done, "{bytes}");
        }
    }
}

//! The container's own terminal, its session and its standard streams.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::pty::OpenptFlags;
use sys::SysResultExt;
use sys::pty::WindowSize;

use super::{Inside, InsideError, Outcome, beneath};
use crate::error::ReportKind;
use crate::request::Stdio;

const DEVPTS_MAGIC: i64 = 0x1cd1;

impl Inside<'_> {
    /// Opens a pair in the container's own devpts and sends the master up.
    ///
    /// The slave is reached through the master's descriptor, never by its name: nothing that
    /// happens in /dev meanwhile can put another file in its place.
    pub(super) fn open_console(&mut self, rows: u16, columns: u16) -> Outcome {
        let pts = self.devpts()?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let master = rustix::fs::openat(&pts, "ptmx", flags, Mode::empty())
            .call(|| "openat(devpts, \"ptmx\")")?;
        rustix::pty::unlockpt(&master).call(|| "ioctl(TIOCSPTLCK)")?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).call(|| "ioctl(TIOCGPTPEER)")?;
        if rows > 0 || columns > 0 {
            sys::pty::set_window_size(&master, WindowSize { rows, columns })?;
        }
        if self.container.is_none() {
            self.show_console(&pts, &master, &slave)?;
        }
        crate::sync::send_terminal(self.sync, master.as_fd())?;
        self.terminal = Some(slave);
        Ok(())
    }

    fn devpts(&self) -> Result<OwnedFd, InsideError> {
        if let Some(pts) = &self.devpts {
            return Ok(pts.try_clone().call(|| "dup(devpts)")?);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let pts = beneath::open(self.root()?, Path::new("/dev/pts"), flags)?;
        let found = rustix::fs::fstatfs(&pts).call(|| "fstatfs(\"/dev/pts\")")?;
        if found.f_type == DEVPTS_MAGIC {
            Ok(pts)
        } else {
            Err(InsideError::text(
                ReportKind::Call,
                "a terminal needs a devpts mounted on /dev/pts",
            ))
        }
    }

    fn show_console(&self, pts: &OwnedFd, master: &OwnedFd, slave: &OwnedFd) -> Outcome {
        let name = rustix::pty::ptsname(master, Vec::new()).call(|| "ioctl(TIOCGPTN)")?;
        let number = name.to_str().ok().and_then(|name| name.rsplit('/').next());
        let number = number.unwrap_or("0");
        let file = rustix::fs::openat(pts, number, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty())
            .call(|| format!("openat(devpts, {number:?})"))?;
        let device = |file: BorrowedFd<'_>| -> Result<u64, InsideError> {
            Ok(rustix::fs::fstat(file).call(|| "fstat(terminal)")?.st_rdev)
        };
        if device(file.as_fd())? != device(slave.as_fd())? {
            return Err(InsideError::text(
                ReportKind::Call,
                "the terminal's name leads to another device",
            ));
        }
        let shown = sys::mount::bind_attached(file.as_fd(), false)?;
        let target = beneath::file(self.root()?, Path::new("/dev/console"))?;
        Ok(sys::mount::attach(&shown, target.as_fd())?)
    }

    pub(super) fn begin_session(&mut self, terminal: bool) -> Outcome {
        sys::process::join_session_keyring()?;
        // For an exec the trampoline does this in the process that stays.
        let is_last = self.container.is_none();
        if is_last {
            sys::process::new_session()?;
        }
        let streams = self.streams(terminal)?;
        if terminal && is_last {
            rustix::process::ioctl_tiocsctty(&streams[0]).call(|| "ioctl(TIOCSCTTY)")?;
        }
        let user = self.identity.user;
        for stream in &streams {
            // The program may open its streams anew by name (/dev/stdout): they are to be its own.
            if user != 0 && !is_null(stream) {
                let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(user)), None);
            }
        }
        rustix::stdio::dup2_stdin(&streams[0]).call(|| "dup2(0)")?;
        rustix::stdio::dup2_stdout(&streams[1]).call(|| "dup2(1)")?;
        rustix::stdio::dup2_stderr(&streams[2]).call(|| "dup2(2)")?;
        Ok(())
    }

    /// The three streams, each with a number above 2 so that putting one in place harms no other.
    fn streams(&self, terminal: bool) -> Result<[OwnedFd; 3], InsideError> {
        let copy = |stream: BorrowedFd<'_>| -> Result<OwnedFd, InsideError> {
            Ok(rustix::io::fcntl_dupfd_cloexec(stream, 3).call(|| "fcntl(F_DUPFD_CLOEXEC, 3)")?)
        };
        let one = |stream: Option<BorrowedFd<'_>>| match stream {
            Some(stream) => copy(stream),
            None => copy(self.open_null()?.as_fd()),
        };
        match (self.stdio, &self.terminal, terminal) {
            (_, Some(slave), true) => {
                let slave = slave.as_fd();
                Ok([copy(slave)?, copy(slave)?, copy(slave)?])
            }
            (
                Stdio::Descriptors {
                    stdin,
                    stdout,
                    stderr,
                },
                _,
                false,
            ) => Ok([
                one(stdin.as_ref().map(AsFd::as_fd))?,
                one(stdout.as_ref().map(AsFd::as_fd))?,
                one(stderr.as_ref().map(AsFd::as_fd))?,
            ]),
            (Stdio::Terminal, _, false) | (_, None, true) => Err(InsideError::text(
                ReportKind::Call,
                "the specification and the caller disagree about a terminal",
            )),
        }
    }

    /// The container's /dev/null, if it is the null device.
    fn open_null(&self) -> Result<OwnedFd, InsideError> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
        if let Ok(root) = self.root()
            && let Ok(null) = beneath::open(root, Path::new("/dev/null"), flags)
            && is_null(&null)
        {
            return Ok(null);
        }
        // Without one: a pipe whose other end is closed reads as empty.
        let (reader, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .call(|| "pipe2(O_CLOEXEC)")?;
        Ok(reader)
    }
}

fn is_null(file: &OwnedFd) -> bool {
    rustix::fs::fstat(file).is_ok_and(|status| {
        let number = (
            rustix::fs::major(status.st_rdev),
            rustix::fs::minor(status.st_rdev),
        );
        let kind = rustix::fs::FileType::from_raw_mode(status.st_mode);
        kind == rustix::fs::FileType::CharacterDevice && number == (1, 3)
    })
}

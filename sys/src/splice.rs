//! Moving bytes between descriptors: without a copy where it can be, and without ever waiting.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, SpliceFlags};

use crate::epoll::{Interest, poll};
use crate::error::{Result, SysResultExt};

/// What a pipe takes at once when it is writable at all.
const PIPE_BUF: usize = 4096;

/// A pipe: what is written to the second end comes out of the first. Close-on-exec, blocking.
///
/// # Errors
/// Only when descriptors have run out.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(PipeFlags::CLOEXEC).call(|| "pipe2(O_CLOEXEC)")
}

/// Sets how many bytes a pipe holds; returns what the kernel made of it.
///
/// # Errors
/// `EPERM` above the limit for users, `EBUSY` when more lies in it.
pub fn set_pipe_size(pipe: impl AsFd, size: usize) -> Result<usize> {
    rustix::pipe::fcntl_setpipe_size(pipe, size).call(|| format!("fcntl(F_SETPIPE_SZ, {size})"))
}

/// Moves up to `length` bytes; one side must be a pipe. 0 is the end; `EAGAIN` tells that one side
/// is not ready.
///
/// # Errors
/// `EINVAL` when neither side is a pipe or the file cannot do it, `EPIPE` when nobody reads.
pub fn splice(from: impl AsFd, to: impl AsFd, length: usize) -> Result<usize> {
    rustix::pipe::splice(
        from,
        None,
        to,
        None,
        length,
        SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
    )
    .call(|| "splice")
}

/// Copies up to `length` bytes from one pipe to another and leaves them in the first.
///
/// # Errors
/// `EINVAL` when a side is no pipe, `EAGAIN` when one is not ready.
pub fn tee(from: impl AsFd, to: impl AsFd, length: usize) -> Result<usize> {
    rustix::pipe::tee(from, to, length, SpliceFlags::NONBLOCK).call(|| "tee")
}

/// Makes reads and writes return at once. Only for a description that nobody else shares: the
/// flag belongs to the open file, not to the descriptor.
///
/// # Errors
/// Only for a broken descriptor.
pub fn set_nonblocking(fd: impl AsFd) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, true).call(|| "ioctl(FIONBIO, 1)")
}

/// What became of a write that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes, at least one.
    Some(usize),
    /// None now: wait until it is writable.
    Full,
    /// None ever again: nobody reads.
    Gone,
}

/// A descriptor of somebody else that is written to without ever waiting, and without changing the
/// flags of the open file that others may share.
#[derive(Debug)]
pub struct Sink {
    fd: OwnedFd,
    way: Way,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Files and the like: a write ends soon.
    Direct,
    /// A pipe or terminal that was opened anew with its own non-blocking description.
    Own,
    /// A socket: each call says that it does not wait.
    Socket,
    /// Asked first, then given no more than fits for sure.
    Careful,
}

impl Sink {
    /// Takes the descriptor and finds the way to write to it.
    pub fn new(fd: OwnedFd) -> Self {
        let way = match rustix::fs::fstat(&fd) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Fifo => Way::Own,
                FileType::Socket => Way::Socket,
                FileType::CharacterDevice => match rustix::fs::major(stat.st_rdev) {
                    1 => Way::Direct,
                    4 | 136..=143 => Way::Own,
                    _ => Way::Careful,
                },
                _ => Way::Direct,
            },
            Err(_) => Way::Careful,
        };
        if way != Way::Own {
            return Self { fd, way };
        }
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(own) => Self { fd: own, way },
            Err(_) => Self {
                fd,
                way: Way::Careful,
            },
        }
    }

    /// Writes what can be written now.
    pub fn write(&self, content: &[u8]) -> Taken {
        if content.is_empty() {
            return Taken::Some(0);
        }
        loop {
            let answer = match self.way {
                Way::Direct | Way::Own => rustix::io::write(&self.fd, content),
                Way::Socket => {
                    rustix::net::send(&self.fd, content, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
                }
                Way::Careful => self.write_careful(content),
            };
            return match answer {
                Ok(length) => Taken::Some(length),
                Err(rustix::io::Errno::INTR) => continue,
                Err(rustix::io::Errno::AGAIN) => Taken::Full,
                Err(_) => Taken::Gone,
            };
        }
    }

    fn write_careful(&self, content: &[u8]) -> rustix::io::Result<usize> {
        let ready = poll(
            &[(self.fd.as_fd(), Interest::Write)],
            Some(std::time::Duration::ZERO),
        );
        match ready.as_deref() {
            Ok([ready]) if ready.write => {
                rustix::io::write(&self.fd, &content[..content.len().min(PIPE_BUF)])
            }
            Ok([ready]) if ready.hang_up => Err(rustix::io::Errno::PIPE),
            _ => Err(rustix::io::Errno::AGAIN),
        }
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Writes what a non-blocking descriptor takes now.
pub fn write_now(fd: impl AsFd, content: &[u8]) -> Taken {
    loop {
        return match rustix::io::write(&fd, content) {
            Ok(length) => Taken::Some(length),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => Taken::Full,
            Err(_) => Taken::Gone,
        };
    }
}

/// What became of a read that must not wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// So many bytes, at least one.
    Some(usize),
    /// None now.
    Nothing,
    /// None ever again: the end was reached.
    End,
}

/// Reads what is there from a non-blocking descriptor. The end of a terminal (`EIO`) and a broken
/// descriptor count as the end.
pub fn read_now(fd: impl AsFd, buffer: &mut [u8]) -> Given {
    loop {
        return match rustix::io::read(&fd, &mut *buffer) {
            Ok(0) => Given::End,
            Ok(length) => Given::Some(length),
            Err(rustix::io::Errno::INTR) => continue,
            Err(rustix::io::Errno::AGAIN) => Given::Nothing,
            Err(_) => Given::End,
        };
    }
}

/// Reads from a descriptor that may be shared and blocking, after it was reported readable.
///
/// # Errors
/// What the kernel says; 0 is the end.
pub fn read(fd: impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::io::read(&fd, &mut *buffer) {
            Err(rustix::io::Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    fn is_nonblocking(fd: impl AsFd) -> bool {
        rustix::fs::fcntl_getfl(fd)
            .unwrap()
            .contains(OFlags::NONBLOCK)
    }

    /// A sink over a copy of the descriptor, as it arrives from a client.
    fn sink(fd: impl AsFd) -> Sink {
        Sink::new(fd.as_fd().try_clone_to_owned().unwrap())
    }

    fn fill(sink: &Sink) -> usize {
        let mut total = 0;
        loop {
            match sink.write(&[b'x'; 10_000]) {
                Taken::Some(length) => total += length,
                Taken::Full => return total,
                Taken::Gone => panic!("gone"),
            }
        }
    }

    #[test]
    fn a_full_pipe_is_told_and_the_callers_flags_stay() {
        let (reader, writer) = pipe().unwrap();
        let own = sink(&writer);
        assert_eq!(own.way, Way::Own);
        assert!((60_000..=65536).contains(&fill(&own)));
        assert!(!is_nonblocking(&writer));
        drop(reader);
        assert_eq!(own.write(b"x"), Taken::Gone);
    }

    #[test]
    fn a_pipe_that_cannot_be_opened_anew_never_blocks_either() {
        let (reader, writer) = pipe().unwrap();
        let careful = Sink {
            fd: writer.try_clone().unwrap(),
            way: Way::Careful,
        };
        assert!((60_000..=65536).contains(&fill(&careful)));
        assert!(!is_nonblocking(&writer));
        drop(reader);
        assert_eq!(careful.write(b"x"), Taken::Gone);
    }

    #[test]
    fn sockets_terminals_and_files() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let socket = sink(&one);
        assert!(fill(&socket) > 0);
        assert!(!is_nonblocking(&one));
        drop(other);
        assert_eq!(socket.write(b"x"), Taken::Gone);

        let (master, slave) = crate::pty::open_pair().unwrap();
        let terminal = sink(&slave);
        assert_eq!(terminal.way, Way::Own);
        assert!(fill(&terminal) > 0);
        assert!(!is_nonblocking(&slave));
        assert_eq!(sink(&master).way, Way::Careful);

        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"before ").unwrap();
        assert_eq!(sink(&file).write(b"after"), Taken::Some(5));
        file.write_all(b" end").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before after end", "the offset is shared");
    }

    #[test]
    fn reads_do_not_wait() {
        let (reader, writer) = pipe().unwrap();
        set_nonblocking(&reader).unwrap();
        assert!(!is_nonblocking(&writer));
        let mut buffer = [0; 8];
        assert_eq!(read_now(&reader, &mut buffer), Given::Nothing);
        rustix::io::write(&writer, b"abc").unwrap();
        assert_eq!(read_now(&reader, &mut buffer), Given::Some(3));
        drop(writer);
        assert_eq!(read_now(&reader, &mut buffer), Given::End);
    }

    #[test]
    fn bytes_move_and_stay() {
        let (first, to_first) = pipe().unwrap();
        let (second, to_second) = pipe().unwrap();
        std::fs::File::from(to_first).write_all(b"hello").unwrap();
        assert_eq!(tee(&first, &to_second, 2).unwrap(), 2);
        assert_eq!(splice(&first, &to_second, 100).unwrap(), 5);
        assert_eq!(splice(&first, &to_second, 100).unwrap(), 0);
        drop(to_second);
        let mut text = String::new();
        std::fs::File::from(second)
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(text, "hehello");
    }
}

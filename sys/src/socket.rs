//! Unix sockets that keep messages apart: pairs, listeners, descriptors and credentials.
//!
//! All are of type SEQPACKET: one `send` is one message, received whole or not at all, so that no
//! framing is needed and a message and its descriptors cannot part.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::error::{Result, SysError, SysResultExt};

/// How many descriptors one message may carry.
pub const DESCRIPTORS: usize = 4;

/// A socket whose messages stay whole.
#[derive(Debug)]
pub struct MessageSocket(OwnedFd);

/// A received message.
#[derive(Debug, Default)]
pub struct Received {
    /// How many bytes of the buffer it filled; 0 is the end of the conversation.
    pub length: usize,
    /// The descriptors it carried.
    pub descriptors: Vec<OwnedFd>,
    /// The buffer was too small: the rest is lost.
    pub truncated: bool,
}

impl MessageSocket {
    /// Two sockets joined to each other.
    ///
    /// # Errors
    /// Only when descriptors have run out.
    pub fn pair() -> Result<(Self, Self)> {
        rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map(|(one, other)| (Self(one), Self(other)))
        .call(|| "socketpair(AF_UNIX, SOCK_SEQPACKET|SOCK_CLOEXEC)")
    }

    /// Joins the listener of this name in a directory.
    ///
    /// # Errors
    /// `ENOENT` when there is none, `ECONNREFUSED` when nobody listens any more.
    pub fn connect(directory: &Path, name: &str) -> Result<Self> {
        let call = || format!("connect({:?})", directory.join(name));
        let (folder, address) = address(directory, name)?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .call(call)?;
        rustix::net::connect(&socket, &address).call(call)?;
        drop(folder);
        Ok(Self(socket))
    }

    /// Sends one message; waits while the other side's queue is full.
    ///
    /// # Errors
    /// `EPIPE` or `ECONNRESET` when the other side is gone.
    pub fn send(&self, content: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_with(content, descriptors, SendFlags::NOSIGNAL)
    }

    /// Sends one message if there is room for it now.
    ///
    /// # Errors
    /// `EAGAIN` when the other side's queue is full, `EPIPE` when it is gone.
    pub fn try_send(&self, content: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        self.send_with(
            content,
            descriptors,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        )
    }

    fn send_with(
        &self,
        content: &[u8],
        descriptors: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> Result<()> {
        let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors))
        {
            return Err(SysError::new("sendmsg(SCM_RIGHTS)", libc::E2BIG));
        }
        let pieces = [IoSlice::new(content)];
        loop {
            match rustix::net::sendmsg(&self.0, &pieces, &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => return other.map(drop).call(|| "sendmsg"),
            }
        }
    }

    /// Receives one message; waits for it.
    ///
    /// # Errors
    /// `ECONNRESET` when the other side died.
    pub fn receive(&self, buffer: &mut [u8]) -> Result<Received> {
        self.receive_with(buffer, RecvFlags::CMSG_CLOEXEC)
    }

    /// Receives one message if one is there.
    ///
    /// # Errors
    /// `EAGAIN` when none is, `ECONNRESET` when the other side died.
    pub fn try_receive(&self, buffer: &mut [u8]) -> Result<Received> {
        self.receive_with(buffer, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
    }

    fn receive_with(&self, buffer: &mut [u8], flags: RecvFlags) -> Result<Received> {
        let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let answer = loop {
            let mut pieces = [IoSliceMut::new(buffer)];
            match rustix::net::recvmsg(&self.0, &mut pieces, &mut ancillary, flags) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.call(|| "recvmsg")?,
            }
        };
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        Ok(Received {
            length: answer.bytes,
            descriptors,
            truncated: answer
                .flags
                .intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC),
        })
    }

    /// The user of the process on the other side, when the conversation began.
    ///
    /// # Errors
    /// Only for a socket that is not joined.
    pub fn peer_user(&self) -> Result<u32> {
        rustix::net::sockopt::socket_peercred(&self.0)
            .map(|peer| peer.uid.as_raw())
            .call(|| "getsockopt(SO_PEERCRED)")
    }
}

impl AsFd for MessageSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A socket that others join by its name in a directory.
#[derive(Debug)]
pub struct MessageListener(OwnedFd);

impl MessageListener {
    /// Makes the name (mode 0600) and listens; a name that is left from before is replaced.
    ///
    /// # Errors
    /// When the directory is missing or cannot be written.
    pub fn bind(directory: &Path, name: &str) -> Result<Self> {
        let call = || format!("bind({:?})", directory.join(name));
        let (folder, address) = address(directory, name)?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .call(call)?;
        match rustix::fs::unlinkat(&folder, name, rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno).call(call),
        }
        // The name takes its mode from the socket's own, so that it is never open to others.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600)).call(call)?;
        rustix::net::bind(&socket, &address).call(call)?;
        rustix::net::listen(&socket, 16).call(call)?;
        Ok(Self(socket))
    }

    /// The next one who joined, when there is one.
    ///
    /// # Errors
    /// `EAGAIN` when nobody waits.
    pub fn accept(&self) -> Result<MessageSocket> {
        rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC)
            .map(MessageSocket)
            .call(|| "accept4")
    }
}

impl AsFd for MessageListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A name in a directory as a socket address, however long the directory's path: through the
/// descriptor of the directory, which must stay open until the address was used.
fn address(directory: &Path, name: &str) -> Result<(OwnedFd, SocketAddrUnix)> {
    let folder = rustix::fs::open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .call(|| format!("open({directory:?}, O_PATH|O_DIRECTORY)"))?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
        .call(|| format!("the socket address {name:?}"))?;
    Ok((folder, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn messages_stay_whole_and_carry_descriptors() {
        let (one, other) = MessageSocket::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        one.send(b"first", &[writer.as_fd()]).unwrap();
        one.send(b"second", &[]).unwrap();
        drop(writer);
        let mut buffer = [0; 64];
        let mut received = other.receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"first");
        let mut file = std::fs::File::from(received.descriptors.pop().unwrap());
        file.write_all(b"through").unwrap();
        drop(file);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "through");
        let received = other.receive(&mut buffer).unwrap();
        assert_eq!(&buffer[..received.length], b"second");
        drop(one);
        assert_eq!(other.receive(&mut buffer).unwrap().length, 0);
        assert_eq!(
            other.send(b"x", &[]).unwrap_err().errno(),
            libc::EPIPE,
            "no SIGPIPE either"
        );
    }

    #[test]
    fn a_full_queue_does_not_wait() {
        let (one, _other) = MessageSocket::pair().unwrap();
        let error = loop {
            if let Err(error) = one.try_send(&[0; 4096], &[]) {
                break error;
            }
        };
        assert_eq!(error.errno(), libc::EAGAIN);
    }

    #[test]
    fn a_listener_below_a_long_path() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("d".repeat(120));
        std::fs::create_dir(&long).unwrap();
        let listener = MessageListener::bind(&long, "attach.sock").unwrap();
        let mode = long
            .join("attach.sock")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(listener.accept().unwrap_err().errno(), libc::EAGAIN);
        let client = MessageSocket::connect(&long, "attach.sock").unwrap();
        let server = listener.accept().unwrap();
        client.send(b"hello", &[]).unwrap();
        let mut buffer = [0; 3];
        let received = server.receive(&mut buffer).unwrap();
        assert!(received.truncated);
        assert_eq!(
            server.peer_user().unwrap(),
            rustix::process::getuid().as_raw()
        );
        drop((server, listener));
        let error = MessageSocket::connect(&long, "attach.sock").unwrap_err();
        assert_eq!(error.errno(), libc::ECONNREFUSED);
        MessageListener::bind(&long, "attach.sock").unwrap();
    }
}

//! Requests beside the usual ones: flags of inodes, handed on to the branch.

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use sys::fs::FlagsRequest;

use crate::union::Res;
use crate::union::request::Request;
use crate::union::tree::fd_path;
use crate::union::wire::Put;

impl Request<'_> {
    /// Asks for or sets an inode's flags; the kernel has checked who may.
    pub(crate) fn ioctl(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let args = &mut self.args;
        args.bytes(12)?; // the handle, and whether it is a directory's
        let number = args.u32()?;
        args.bytes(8)?; // the address of the caller's argument
        let (given, wanted) = (args.u32()? as usize, args.u32()? as usize);
        let request = FlagsRequest::of(number).ok_or(Errno::NOTTY)?;
        let mut bytes = if request.changes() {
            args.bytes(given)?.to_vec()
        } else {
            vec![0; wanted.min(64)]
        };
        let node = self.node()?;
        if request.changes() {
            self.union.writable(self.members, &node, false)?;
        }
        let object = self.union.object(self.members, &node)?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(CWD, fd_path(&object), flags, Mode::empty())?;
        request.carry_out(&file, &mut bytes)?;
        out.zeros(16);
        if !request.changes() {
            out.extend(bytes);
        }
        Ok(())
    }
}

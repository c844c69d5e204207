//! Requests on open files: reading, writing, synchronising, copying ranges.

use rustix::fs::{
    FallocateFlags, OFlags, SeekFrom, copy_file_range, fallocate, fdatasync, fsync, seek,
};
use rustix::io::Errno;

use crate::union::attrs::kill_privileges;
use crate::union::request::Request;
use crate::union::wire::{Put, op};
use crate::union::{Res, recover};

const WRITE_KILL_SUIDGID: u32 = 4;
const OPEN_KILL_SUIDGID: u32 = 1;

impl Request<'_> {
    /// Opens a file or does something with one that is open.
    pub(crate) fn file(&mut self, out: &mut Vec<u8>) -> Res<()> {
        let args = &mut self.args;
        if self.header.opcode == op::OPEN {
            let flags = OFlags::from_bits_retain(args.u32()?);
            let kill = args.u32()? & OPEN_KILL_SUIDGID != 0;
            let node = self.node()?;
            let answer = self.union.open(self.members, &node, flags, kill)?;
            self.opened(out, answer);
            return Ok(());
        }
        let handle = self.union.handle_of(args.u64()?)?;
        let file = handle.file();
        let (union, members) = (self.union, self.members);
        match self.header.opcode {
            op::READ => {
                let (offset, size) = (args.u64()?, args.u32()? as usize);
                out.resize(size, 0);
                let mut done = 0;
                while done < size {
                    match rustix::io::pread(&file, &mut out[done..], offset + done as u64)? {
                        0 => break,
                        count => done += count,
                    }
                }
                out.truncate(done);
            }
            op::WRITE => {
                let (offset, size, flags) = (args.u64()?, args.u32()? as usize, args.u32()?);
                args.bytes(16)?;
                let bytes = args.bytes(size)?;
                let done = match self.header.is_resent() {
                    true => recover::appended(&file, bytes, offset)?,
                    false => 0,
                };
                let (rest, at) = (&bytes[done..], offset + done as u64);
                let count = union.with_room(members, &handle, rest.len() as u64, |file| {
                    rustix::io::pwrite(file, rest, at)
                })? + done;
                if flags & WRITE_KILL_SUIDGID != 0 {
                    kill_privileges(handle.file())?;
                }
                out.u32(u32::try_from(count).unwrap_or(0));
                out.u32(0);
            }
            op::FSYNC if self.members.settings.volatile => {}
            op::FSYNC if args.u32()? & 1 != 0 => fdatasync(&file)?,
            op::FSYNC => fsync(&file)?,
            op::FALLOCATE => {
                let (offset, length) = (args.u64()?, args.u64()?);
                let flags = FallocateFlags::from_bits_retain(args.u32()?);
                union.with_room(members, &handle, length, |file| {
                    fallocate(file, flags, offset, length)
                })?;
            }
            op::LSEEK => {
                let offset = args.u64()?;
                let to = match args.u32()?.cast_signed() {
                    libc::SEEK_DATA => SeekFrom::Data(offset),
                    libc::SEEK_HOLE => SeekFrom::Hole(offset),
                    _ => return Err(Errno::INVAL),
                };
                out.u64(seek(&file, to)?);
            }
            _ => {
                let mut from = args.u64()?;
                args.u64()?;
                let target = union.handle_of(args.u64()?)?;
                let (mut to, length) = (args.u64()?, args.u64()?);
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(1 << 30);
                let count = union.with_room(members, &target, length as u64, |target| {
                    copy_file_range(&file, Some(&mut from), target, Some(&mut to), length)
                })?;
                if self.header.opcode == op::COPY_FILE_RANGE_64 {
                    out.u64(count as u64);
                } else {
                    out.u32(u32::try_from(count).unwrap_or(0));
                    out.u32(0);
                }
            }
        }
        Ok(())
    }
}

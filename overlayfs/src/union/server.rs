//! The server: agrees with the kernel on the protocol and carries requests out.
//!
//! How they come and how the replies go is the transport's matter.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use sys::fuse::{Device, Identity, Ring};

use crate::union::branch::Members;
use crate::union::lasting::Word;
use crate::union::options::Transport;
use crate::union::request::Request;
use crate::union::transport::{BUFFER, next_request, reply};
use crate::union::tree::Union;
use crate::union::wire::{Args, Header, OUT_HEADER, Put, cap, op};
use crate::union::{Res, recover};

/// The most data in one request or reply.
pub(crate) const MAX_WRITE: u32 = 1 << 20;
const MAX_MINOR: u32 = 45;

/// Agrees with the kernel on the protocol; the mount is usable afterwards.
pub(crate) fn initialise(union: &Union) -> Res<()> {
    let mut buffer = vec![0; BUFFER];
    let length = next_request(&union.device, &mut buffer).ok_or(Errno::NODEV)?;
    let (header, mut args) = Args::split(&buffer[..length])?;
    if header.opcode != op::INIT {
        return Err(Errno::PROTO);
    }
    let (major, minor, readahead, low) = (args.u32()?, args.u32()?, args.u32()?, args.u32()?);
    if major != 7 || minor < 31 {
        reply(&union.device, header.unique, Err(Errno::PROTO), &[]);
        return Err(Errno::PROTO);
    }
    let mut offered = u64::from(low);
    if offered & cap::INIT_EXT != 0 {
        offered |= u64::from(args.u32()?) << 32;
    }
    let mut wanted = cap::ASYNC_READ
        | cap::ATOMIC_O_TRUNC
        | cap::EXPORT_SUPPORT
        | cap::BIG_WRITES
        | cap::DONT_MASK
        | cap::IOCTL_DIR
        | cap::AUTO_INVAL_DATA
        | cap::ASYNC_DIO
        | cap::PARALLEL_DIROPS
        | cap::POSIX_ACL
        | cap::MAX_PAGES
        | cap::HANDLE_KILLPRIV_V2
        | cap::SETXATTR_EXT
        | cap::INIT_EXT
        | cap::PASSTHROUGH
        | cap::ALLOW_IDMAP;
    if union.members().keep_something() {
        wanted |= cap::DO_READDIRPLUS | cap::READDIRPLUS_AUTO | cap::CACHE_SYMLINKS;
    }
    if union.transport != Transport::Device && Ring::probe().is_ok() {
        wanted |= cap::OVER_IO_URING;
    }
    if union.lasting.is_some() && offered & cap::HAS_RESEND == 0 {
        reply(&union.device, header.unique, Err(Errno::PROTO), &[]);
        return Err(Errno::NOSYS);
    }
    let agreed = offered & wanted;
    agree(union, agreed);
    let mut out = Vec::new();
    out.u32(7);
    out.u32(minor.min(MAX_MINOR));
    out.u32(readahead.max(1 << 20));
    out.u32((agreed & 0xffff_ffff) as u32);
    out.u16(128); // requests in the background
    out.u16(96);
    out.u32(MAX_WRITE);
    out.u32(1); // time granularity, nanoseconds
    out.u16(u16::try_from(MAX_WRITE / 4096).unwrap_or(256));
    out.u16(0);
    out.u32((agreed >> 32) as u32);
    out.u32(u32::from(agreed & cap::PASSTHROUGH != 0)); // stack depth
    out.zeros(24);
    reply(&union.device, header.unique, Ok(()), &out);
    Ok(())
}

/// Takes over what was agreed on with the kernel.
pub(crate) fn agree(union: &Union, agreed: u64) {
    if let Some(lasting) = &union.lasting {
        lasting.set(Word::Agreed, agreed);
    }
    union
        .has_rings
        .store(agreed & cap::OVER_IO_URING != 0, Ordering::Relaxed);
    union
        .can_pass
        .store(agreed & cap::PASSTHROUGH != 0, Ordering::Relaxed);
    union
        .extended_setxattr
        .store(agreed & cap::SETXATTR_EXT != 0, Ordering::Relaxed);
}

/// Carries one request out; nothing for those that want no reply.
pub(crate) fn answer(
    union: &Union,
    members: &mut Arc<Members>,
    identity: &Identity,
    header: Header,
    args: Args<'_>,
    out: &mut Vec<u8>,
) -> Option<Res<()>> {
    match header.opcode {
        op::FORGET => {
            let mut args = args;
            union.forget(header.node, args.u64().unwrap_or(0));
            return None;
        }
        op::BATCH_FORGET => {
            forget_many(union, args);
            return None;
        }
        _ if header.is_resent() => {
            if let Err(errno) = recover::meet_again(union, &header) {
                return Some(Err(errno));
            }
        }
        _ => {}
    }
    let mut request = Request {
        union,
        members,
        identity,
        header,
        args,
    };
    let first = request.carry_out(out);
    if first == Err(Errno::STALE) && request.is_repeatable() {
        // The branches have changed under the request: once more with what is true now.
        out.clear();
        *members = union.members();
        let mut again = Request {
            union,
            members,
            identity,
            header,
            args,
        };
        return Some(again.carry_out(out));
    }
    Some(first)
}

fn forget_many(union: &Union, mut args: Args<'_>) {
    let count = args.u32().unwrap_or(0);
    let _ = args.u32();
    for _ in 0..count {
        let (Ok(node), Ok(lookups)) = (args.u64(), args.u64()) else {
            return;
        };
        union.forget(node, lookups);
    }
}

/// Tells the kernel something that it did not ask for.
pub(crate) fn notification(device: &Device, code: i32, body: &[u8]) -> Res<()> {
    let mut header = Vec::with_capacity(OUT_HEADER);
    header.u32(u32::try_from(OUT_HEADER + body.len()).unwrap_or(0));
    header.u32(code.cast_unsigned());
    header.u64(0);
    device.write(&[IoSlice::new(&header), IoSlice::new(body)])
}

//! Whose files a server thread makes: file system user and group, and the umask, per thread.
#![allow(unsafe_code)] // setfsuid, setfsgid and umask per thread are raw system calls

use std::cell::Cell;
use std::marker::PhantomData;

use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, capabilities, set_capabilities};

use crate::error::{Result, SysResultExt};

/// What a server thread is by itself; made once per thread, before it serves.
#[derive(Debug)]
pub struct Identity {
    own: CapabilitySets,
    umask: Cell<u32>,
    of_one_thread: PhantomData<*const ()>,
}

/// A thread that makes files as somebody else, until dropped.
#[derive(Debug)]
pub struct Acting<'a> {
    identity: &'a Identity,
    uid: u32,
    gid: u32,
}

impl Identity {
    /// Gives the calling thread a umask of its own and remembers its capabilities.
    pub fn of_this_thread() -> Result<Self> {
        // SAFETY: only this thread's umask and working directory stop being shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::FS) }.call(|| "unshare(CLONE_FS)")?;
        let own = capabilities(None).call(|| "capget(0)")?;
        let identity = Self {
            own,
            umask: Cell::new(u32::MAX),
            of_one_thread: PhantomData,
        };
        identity.set_umask(0);
        Ok(identity)
    }

    /// Sets this thread's umask; costs nothing when it is that already.
    pub fn set_umask(&self, umask: u32) {
        if self.umask.replace(umask) != umask {
            // SAFETY: umask takes a plain number and cannot fail.
            let _ = unsafe { libc::umask(umask) };
        }
    }

    /// Makes what this thread creates belong to the caller, without losing its own powers.
    pub fn act_as(&self, uid: u32, gid: u32) -> Acting<'_> {
        if gid != 0 {
            set_fs_id(libc::SYS_setfsgid, gid);
        }
        if uid != 0 {
            set_fs_id(libc::SYS_setfsuid, uid);
            // Leaving user 0 takes the file capabilities; the kernel has checked the caller
            // already, against the union's attributes, so nothing may fail on the branch's.
            let _ = set_capabilities(None, self.own);
        }
        Acting {
            identity: self,
            uid,
            gid,
        }
    }

    /// Whether the thread may do what a union's server has to.
    pub fn is_privileged(&self) -> bool {
        self.own.effective.contains(CapabilitySet::SYS_ADMIN)
    }
}

impl Drop for Acting<'_> {
    fn drop(&mut self) {
        if self.uid != 0 {
            set_fs_id(libc::SYS_setfsuid, 0);
            let _ = set_capabilities(None, self.identity.own);
        }
        if self.gid != 0 {
            set_fs_id(libc::SYS_setfsgid, 0);
        }
    }
}

fn set_fs_id(call: libc::c_long, id: u32) {
    // SAFETY: setfsuid and setfsgid take a plain number and change the calling thread only.
    let _ = unsafe { libc::syscall(call, id) };
}

//! Seccomp filters and device programs: handing them to the kernel.

// Neither seccomp(2) nor bpf(2) has a safe wrapper.
#![allow(unsafe_code)]

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::error::{Result, SysError};
use crate::process::checked;

/// One instruction of classic BPF, laid out as the kernel's `sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(C)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// How many instructions to skip when the test holds.
    pub yes: u8,
    /// How many to skip when it does not.
    pub no: u8,
    /// The operand.
    pub k: u32,
}

/// Binds a seccomp filter to this process and all it will become.
///
/// # Errors
/// `EACCES` without `CAP_SYS_ADMIN` or no_new_privs, `EINVAL` for a program the kernel refuses.
pub fn load_seccomp(program: &[Instruction], flags: u64) -> Result<()> {
    let call = || {
        format!(
            "seccomp(SECCOMP_SET_MODE_FILTER, {flags:#x}, {})",
            program.len()
        )
    };
    let length = u16::try_from(program.len()).map_err(|_| SysError::new(call(), libc::E2BIG))?;
    let header = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the header and the program it points to outlive the call and are only read;
    // `Instruction` has the layout of `sock_filter`.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const header,
        )
    };
    checked(answer, call).map(drop)
}

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

/// The head of the kernel's `bpf_attr` for loading a program.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

/// The same for attaching and detaching.
#[repr(C)]
#[derive(Default)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
    replaced: u32,
}

/// The same for asking what is attached.
#[repr(C)]
#[derive(Default)]
struct QueryAttr {
    target: u32,
    kind: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct IdAttr {
    id: u32,
    next: u32,
    flags: u32,
}

fn bpf<T>(command: i32, attributes: &mut T, call: impl FnOnce() -> String) -> Result<i64> {
    // SAFETY: the attributes are plain numbers of the size that is passed along; what they point
    // to outlives the call, as each caller sees to.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    checked(answer, call)
}

fn adopt(descriptor: i64) -> OwnedFd {
    let number = i32::try_from(descriptor).unwrap_or(-1);
    // SAFETY: the kernel has just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// Loads a program (eBPF, one instruction per number) that judges accesses to devices.
///
/// # Errors
/// `EPERM` without `CAP_BPF` and `CAP_NET_ADMIN`, `EINVAL` or `ENOSYS` where the kernel has none.
pub fn load_device_program(instructions: &[u64]) -> Result<OwnedFd> {
    let count = u32::try_from(instructions.len()).unwrap_or(u32::MAX);
    let mut attributes = LoadAttr {
        kind: PROG_TYPE_CGROUP_DEVICE,
        count,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..LoadAttr::default()
    };
    bpf(PROG_LOAD, &mut attributes, || {
        format!("bpf(BPF_PROG_LOAD, CGROUP_DEVICE, {count})")
    })
    .map(adopt)
}

/// Attaches a device program to a cgroup v2 directory in place of those attached by us before.
///
/// # Errors
/// `EPERM`, `EBADF` for a directory of another file system.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let earlier = attached(cgroup)?;
    let mut attributes = AttachAttr {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replaced: 0,
    };
    if let [only] = earlier.as_slice() {
        attributes.flags |= REPLACE;
        attributes.replaced = only.as_raw_fd().cast_unsigned();
    }
    bpf(PROG_ATTACH, &mut attributes, || {
        "bpf(BPF_PROG_ATTACH, CGROUP_DEVICE)".to_owned()
    })?;
    if earlier.len() > 1 {
        for program in &earlier {
            detach(cgroup, program.as_fd())?;
        }
    }
    Ok(())
}

fn detach(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    let mut attributes = AttachAttr {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    bpf(PROG_DETACH, &mut attributes, || {
        "bpf(BPF_PROG_DETACH, CGROUP_DEVICE)".to_owned()
    })
    .map(drop)
}

/// The device programs attached to this cgroup itself.
fn attached(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 16];
    let mut query = QueryAttr {
        target: cgroup.as_raw_fd().cast_unsigned(),
        kind: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: 16,
        ..QueryAttr::default()
    };
    bpf(PROG_QUERY, &mut query, || {
        "bpf(BPF_PROG_QUERY, CGROUP_DEVICE)".to_owned()
    })?;
    let mut programs = Vec::new();
    for id in ids.iter().take(query.count as usize) {
        let mut attributes = IdAttr {
            id: *id,
            ..IdAttr::default()
        };
        let call = || format!("bpf(BPF_PROG_GET_FD_BY_ID, {id})");
        programs.push(adopt(bpf(PROG_GET_FD_BY_ID, &mut attributes, call)?));
    }
    Ok(programs)
}

/// Whether device programs can be asked for, and so attached, below this cgroup v2 directory.
pub fn has_device_programs(directory: &std::path::Path) -> bool {
    std::fs::File::open(directory).is_ok_and(|directory| attached(directory.as_fd()).is_ok())
}

//! Becoming another program, and the tiny program through which every container's is reached.
//!
//! The trampoline's source is `sys/trampoline/main.rs`; `build.rs` makes it a static executable of
//! a few kilobytes. A container's process executes it from a sealed memory file, never rbox itself,
//! so that `/proc/self/exe` inside can name nothing but that file.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::io::FdFlags;

use super::checked;
use crate::error::{Result, SysResultExt};

/// The trampoline and `--init` program, as built.
pub static TRAMPOLINE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/trampoline"));

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
    pointers.push(std::ptr::null());
    pointers
}

/// Executes the program behind a descriptor; returns only on failure.
pub fn execute_descriptor(
    program: BorrowedFd<'_>,
    arguments: &[CString],
    environment: &[CString],
) -> crate::error::SysError {
    execveat(
        program.as_raw_fd(),
        c"",
        arguments,
        environment,
        libc::AT_EMPTY_PATH,
    )
}

/// Executes a program by its path; returns only on failure.
pub fn execute_path(
    path: &CStr,
    arguments: &[CString],
    environment: &[CString],
) -> crate::error::SysError {
    execveat(libc::AT_FDCWD, path, arguments, environment, 0)
}

fn execveat(
    directory: i32,
    path: &CStr,
    arguments: &[CString],
    environment: &[CString],
    flags: i32,
) -> crate::error::SysError {
    let argv = pointers(arguments);
    let envp = pointers(environment);
    // SAFETY: path, both arrays and the strings they point to are terminated and outlive the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            directory,
            path.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            flags,
        )
    };
    let call = || format!("execve({:?})", arguments.first().map_or(path, |name| name));
    match checked(answer, call) {
        Err(error) => error,
        Ok(_) => crate::error::SysError::new(call(), 0),
    }
}

/// A memory file that holds this program and that nobody can change any more.
///
/// # Errors
/// Only when memory or descriptors have run out.
pub fn sealed_program(name: &str, content: &[u8]) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = rustix::fs::memfd_create(name, flags | MemfdFlags::EXEC)
        // Before Linux 6.3 every memory file is executable and the flag is unknown.
        .or_else(|_| rustix::fs::memfd_create(name, flags))
        .call(|| format!("memfd_create({name:?})"))?;
    let mut rest = content;
    while !rest.is_empty() {
        let count = rustix::io::write(&file, rest).call(|| format!("write({name:?})"))?;
        rest = &rest[count..];
    }
    rustix::fs::fcntl_add_seals(
        &file,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )
    .call(|| format!("fcntl({name:?}, F_ADD_SEALS)"))?;
    Ok(file)
}

/// Lets a descriptor outlive the next `exec`; gives its number for the program's arguments.
///
/// # Errors
/// None for an open descriptor.
pub fn keep_open(descriptor: impl AsFd) -> Result<i32> {
    let descriptor = descriptor.as_fd();
    rustix::io::fcntl_setfd(descriptor, FdFlags::empty()).call(|| "fcntl(F_SETFD, 0)")?;
    Ok(descriptor.as_raw_fd())
}

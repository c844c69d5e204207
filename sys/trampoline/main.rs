//! The last step into a container's program, and the init of `--init`: no library, no allocation.
//!
//!     trampoline exec FD PATH ARG0 [ARG...]   becomes PATH; a failure goes to FD as `E` + errno
//!     trampoline fork FD PATH ARG0 [ARG...]   the same in a child of its own parent, in a session
//!                                             of its own, whose pid goes to FD as `P` + pid
//!     trampoline term FD PATH ARG0 [ARG...]   the same, with its input as controlling terminal
//!     /sbin/docker-init -- COMMAND [ARG...]   runs COMMAND, forwards signals, reaps, ends with it
//!
//! It must hold nothing worth stealing: it can be seen and traced from inside the container.

#![no_std]
#![no_main]
#![allow(clippy::missing_safety_doc)]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
mod number {
    pub const WRITE: usize = 1;
    pub const IOCTL: usize = 16;
    pub const SIGPROCMASK: usize = 14;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const FCNTL: usize = 72;
    pub const SETPGID: usize = 109;
    pub const SETSID: usize = 112;
    pub const SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const WRITE: usize = 64;
    pub const IOCTL: usize = 29;
    pub const SIGPROCMASK: usize = 135;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
    pub const KILL: usize = 129;
    pub const FCNTL: usize = 25;
    pub const SETPGID: usize = 154;
    pub const SETSID: usize = 157;
    pub const SIGTIMEDWAIT: usize = 137;
    pub const EXIT_GROUP: usize = 94;
}

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".globl _start",
    "_start:",
    "xor ebp, ebp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {entry}",
    "ud2",
    entry = sym entry,
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".globl _start",
    "_start:",
    "mov x29, #0",
    "mov x0, sp",
    "bl {entry}",
    "brk #1",
    entry = sym entry,
);

#[cfg(target_arch = "x86_64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0usize,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    answer
}

#[cfg(target_arch = "aarch64")]
unsafe fn call(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let answer: isize;
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => answer,
            in("x1") b, in("x2") c, in("x3") d, in("x4") 0usize, options(nostack));
    }
    answer
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    exit(120)
}

fn exit(code: i32) -> ! {
    loop {
        unsafe { call(number::EXIT_GROUP, code as usize, 0, 0, 0) };
    }
}

type Text = *const u8;

const SIGCHLD: usize = 17;

unsafe extern "C" fn entry(stack: *const usize) -> ! {
    unsafe {
        let count = *stack;
        let arguments = stack.add(1) as *const Text;
        let environment = arguments.add(count + 1);
        if count >= 3 && is(*arguments.add(1), b"--\0") {
            init(arguments.add(2), environment);
        }
        if count >= 5 {
            let descriptor = parse(*arguments.add(2));
            let path = *arguments.add(3);
            if is(*arguments.add(1), b"exec\0") {
                become_program(descriptor, path, arguments.add(4), environment);
            }
            let terminal = is(*arguments.add(1), b"term\0");
            if terminal || is(*arguments.add(1), b"fork\0") {
                beside(descriptor, terminal, path, arguments.add(4), environment);
            }
        }
    }
    exit(121)
}

unsafe fn is(text: Text, wanted: &[u8]) -> bool {
    for (index, byte) in wanted.iter().enumerate() {
        if unsafe { *text.add(index) } != *byte {
            return false;
        }
    }
    true
}

unsafe fn parse(text: Text) -> usize {
    let mut value = 0usize;
    let mut at = text;
    unsafe {
        while *at >= b'0' && *at <= b'9' {
            value = value.wrapping_mul(10).wrapping_add((*at - b'0') as usize);
            at = at.add(1);
        }
    }
    value
}

unsafe fn tell(descriptor: usize, tag: u8, value: i32) {
    let bytes = value.to_le_bytes();
    let message = [tag, bytes[0], bytes[1], bytes[2], bytes[3]];
    unsafe { call(number::WRITE, descriptor, message.as_ptr() as usize, 5, 0) };
}

unsafe fn become_program(
    descriptor: usize,
    path: Text,
    arguments: *const Text,
    environment: *const Text,
) -> ! {
    const SETFD: usize = 2;
    const CLOEXEC: usize = 1;
    unsafe {
        let mut answer = call(number::FCNTL, descriptor, SETFD, CLOEXEC, 0);
        if answer == 0 {
            answer = call(
                number::EXECVE,
                path as usize,
                arguments as usize,
                environment as usize,
                0,
            );
        }
        tell(descriptor, b'E', -answer as i32);
    }
    exit(127)
}

/// The session is begun by the child: with a leader that ends, its terminal would hang up.
unsafe fn beside(
    descriptor: usize,
    terminal: bool,
    path: Text,
    arguments: *const Text,
    environment: *const Text,
) -> ! {
    const PARENT: usize = 0x8000;
    const TIOCSCTTY: usize = 0x540e;
    unsafe {
        let child = call(number::CLONE, PARENT | SIGCHLD, 0, 0, 0);
        if child == 0 {
            let mut answer = call(number::SETSID, 0, 0, 0, 0);
            if answer >= 0 && terminal {
                answer = call(number::IOCTL, 0, TIOCSCTTY, 0, 0);
            }
            if answer < 0 {
                tell(descriptor, b'E', -answer as i32);
                exit(127);
            }
            become_program(descriptor, path, arguments, environment);
        }
        if child < 0 {
            tell(descriptor, b'E', -child as i32);
            exit(127);
        }
        tell(descriptor, b'P', child as i32);
    }
    exit(0)
}

unsafe fn mask(how: usize, set: u64) {
    unsafe { call(number::SIGPROCMASK, how, &raw const set as usize, 0, 8) };
}

unsafe fn init(command: *const Text, environment: *const Text) -> ! {
    const SETMASK: usize = 2;
    unsafe {
        mask(SETMASK, u64::MAX);
        let child = call(number::CLONE, SIGCHLD, 0, 0, 0);
        if child == 0 {
            run_command(command, environment);
        }
        if child < 0 {
            exit(125);
        }
        loop {
            let all = u64::MAX;
            let signal = call(number::SIGTIMEDWAIT, &raw const all as usize, 0, 0, 8);
            if signal == SIGCHLD as isize {
                reap(child);
            } else if signal > 0 {
                call(number::KILL, child as usize, signal as usize, 0, 0);
            }
        }
    }
}

unsafe fn reap(child: isize) {
    const NOHANG: usize = 1;
    let mut code = -1;
    loop {
        let mut status: i32 = 0;
        let status_at = &raw mut status;
        let ended = unsafe {
            call(number::WAIT4, usize::MAX, status_at as usize, NOHANG, 0)
        };
        if ended <= 0 {
            break;
        }
        if ended == child {
            let status = unsafe { core::ptr::read_volatile(status_at) };
            let signal = status & 0x7f;
            code = if signal == 0 { (status >> 8) & 0xff } else { 128 + signal };
        }
    }
    if code >= 0 {
        exit(code);
    }
}

unsafe fn run_command(command: *const Text, environment: *const Text) -> ! {
    const SETMASK: usize = 2;
    const TIOCSPGRP: usize = 0x5410;
    unsafe {
        call(number::SETPGID, 0, 0, 0, 0);
        // All signals are blocked: giving ourselves the terminal cannot stop us.
        let own = call(number::GETPID, 0, 0, 0, 0) as i32;
        call(number::IOCTL, 0, TIOCSPGRP, &raw const own as usize, 0);
        mask(SETMASK, 0);
        let name = *command;
        let error = if contains_slash(name) {
            call(number::EXECVE, name as usize, command as usize, environment as usize, 0)
        } else {
            search(name, command, environment)
        };
        exit(if error == -2 { 127 } else { 126 })
    }
}

unsafe fn contains_slash(text: Text) -> bool {
    let mut at = text;
    unsafe {
        while *at != 0 {
            if *at == b'/' {
                return true;
            }
            at = at.add(1);
        }
    }
    false
}

/// Tries the name in every directory of `PATH`.
unsafe fn search(name: Text, command: *const Text, environment: *const Text) -> isize {
    const DEFAULT: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\0";
    let mut directories = DEFAULT.as_ptr();
    let mut variable = environment;
    let mut worst = -2;
    let mut path = [0u8; 4096];
    let start = path.as_mut_ptr();
    unsafe {
        while !(*variable).is_null() {
            if is(*variable, b"PATH=") {
                directories = (*variable).add(5);
            }
            variable = variable.add(1);
        }
        loop {
            let mut length = 0;
            while *directories != 0 && *directories != b':' {
                if length < 2048 {
                    *start.add(length) = *directories;
                    length += 1;
                }
                directories = directories.add(1);
            }
            if length == 0 {
                *start = b'.';
                length = 1;
            }
            *start.add(length) = b'/';
            length += 1;
            let mut at = name;
            while *at != 0 && length < 4095 {
                *start.add(length) = *at;
                length += 1;
                at = at.add(1);
            }
            *start.add(length) = 0;
            let error = call(number::EXECVE, start as usize, command as usize, environment as usize, 0);
            if error != -2 && error != -20 {
                worst = error;
            }
            if *directories == 0 {
                return worst;
            }
            directories = directories.add(1);
        }
    }
}

/// The compiler asks for this where it clears memory.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(start: *mut u8, value: i32, count: usize) -> *mut u8 {
    let mut index = 0;
    while index < count {
        unsafe { core::ptr::write_volatile(start.add(index), value as u8) };
        index += 1;
    }
    start
}

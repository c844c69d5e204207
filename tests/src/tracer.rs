//! A program's system calls that change files, one by one: counted, and at a chosen one the program
//! is killed or told of an error. For programs of 64-bit x86, where the calls' numbers are known.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// What becomes of the program; calls are counted from one, over all its threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing: its calls are counted.
    Lives,
    /// It is killed instead of its n-th call.
    DiesBefore(usize),
    /// It is killed when the n-th call is done.
    DiesAfter(usize),
    /// The n-th call does nothing and answers with this error number.
    IsTold(usize, i32),
}

/// A program that is held at each of its system calls; it goes on by itself when this has ended.
#[derive(Debug)]
pub struct Tracer {
    thread: JoinHandle<Vec<&'static str>>,
    over: Arc<AtomicBool>,
}

impl Tracer {
    /// Takes hold of a program, by its process id as this process sees it.
    ///
    /// # Panics
    /// When the machine does not allow it.
    #[track_caller]
    pub fn attach(program: i32, fate: Fate) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let (ready, is_ready) = channel();
        let thread = std::thread::spawn(move || {
            let mut watch = Watch::new(program, fate, seen);
            watch.seize();
            watch.go(&ready);
            watch.calls
        });
        is_ready
            .recv()
            .expect("a child of this process can be traced");
        Self { thread, over }
    }

    /// Waits for the end of a program that ends by itself or is killed; nobody else may wait for it
    /// before. Returns the names of the calls that were counted.
    ///
    /// # Panics
    /// When tracing failed.
    #[track_caller]
    pub fn end(self) -> Vec<&'static str> {
        self.thread.join().expect("the program was traced")
    }

    /// Lets the program go after its next system call, which the caller has to cause; returns the
    /// names of the calls that were counted.
    ///
    /// # Panics
    /// When tracing failed.
    #[track_caller]
    pub fn finish(self, cause: impl FnOnce()) -> Vec<&'static str> {
        self.over.store(true, Ordering::SeqCst);
        cause();
        self.thread.join().expect("the program was traced")
    }
}

/// Where a thread of the program is.
#[derive(Debug, Clone, Copy)]
enum Place {
    Outside,
    Inside,
    /// In the call that the program is killed after.
    Last,
    /// In the call that was not made, with the number that it answers.
    Refused(i32),
}

struct Watch {
    program: Pid,
    fate: Fate,
    over: Arc<AtomicBool>,
    threads: HashMap<Pid, Place>,
    waited: usize,
    calls: Vec<&'static str>,
}

impl Watch {
    fn new(program: i32, fate: Fate, over: Arc<AtomicBool>) -> Self {
        Self {
            program: Pid::from_raw(program),
            fate,
            over,
            threads: HashMap::new(),
            waited: 0,
            calls: Vec::new(),
        }
    }

    /// Takes hold of all threads; those that begin later come by themselves.
    fn seize(&mut self) {
        let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
        loop {
            let before = self.threads.len();
            let tasks = std::fs::read_dir(format!("/proc/{}/task", self.program));
            for task in tasks.expect("the program runs").flatten() {
                let name = task.file_name();
                let number = name.to_str().and_then(|name| name.parse().ok());
                let thread = Pid::from_raw(number.expect("threads have numbers"));
                if !self.threads.contains_key(&thread) && ptrace::seize(thread, options).is_ok() {
                    ptrace::interrupt(thread).expect("a seized thread can be stopped");
                    self.threads.insert(thread, Place::Outside);
                    self.waited += 1;
                }
            }
            if self.threads.len() == before {
                return;
            }
        }
    }

    /// Goes on until the program is dead or let go, which is when this thread ends.
    fn go(&mut self, ready: &Sender<()>) {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        let peek = flags | WaitPidFlag::WNOWAIT | WaitPidFlag::WEXITED | WaitPidFlag::WSTOPPED;
        loop {
            match waitid(Id::All, peek) {
                // Its end is for whoever started it.
                Ok(WaitStatus::Exited(program, _) | WaitStatus::Signaled(program, ..))
                    if program == self.program =>
                {
                    return;
                }
                _ => {}
            }
            let status = match waitpid(None, Some(flags)) {
                Err(Errno::ECHILD) => return,
                Err(_) => continue,
                Ok(status) => status,
            };
            let (thread, signal) = match status {
                WaitStatus::PtraceSyscall(thread) => {
                    if self.is_last(thread) {
                        return;
                    }
                    (thread, None)
                }
                WaitStatus::Stopped(thread, signal) => (thread, Some(signal)),
                WaitStatus::PtraceEvent(thread, ..) => {
                    if self.waited > 0 {
                        self.waited -= 1;
                        if self.waited == 0 {
                            let _ = ptrace::syscall(thread, None);
                            let _ = ready.send(());
                            continue;
                        }
                    }
                    (thread, None)
                }
                _ => continue,
            };
            if self.over.load(Ordering::SeqCst) {
                return;
            }
            let _ = ptrace::syscall(thread, signal);
        }
    }

    /// Looks at a thread that enters or leaves a system call; true when it was the program's last.
    fn is_last(&mut self, thread: Pid) -> bool {
        let place = self.threads.get(&thread).copied().unwrap_or(Place::Outside);
        let Ok(mut registers) = ptrace::getregs(thread) else {
            return false;
        };
        let mut next = Place::Outside;
        match place {
            Place::Outside => {
                next = Place::Inside;
                if let Some(name) = changing(&registers) {
                    self.calls.push(name);
                    let number = self.calls.len();
                    match self.fate {
                        Fate::DiesBefore(at) if at == number => return self.dies(),
                        Fate::DiesAfter(at) if at == number => next = Place::Last,
                        Fate::IsTold(at, errno) if at == number => {
                            registers.orig_rax = u64::MAX; // no call has this number
                            let _ = ptrace::setregs(thread, registers);
                            next = Place::Refused(errno);
                        }
                        _ => {}
                    }
                }
            }
            Place::Inside => {}
            Place::Last => return self.dies(),
            Place::Refused(errno) => {
                registers.rax = i64::from(-errno).cast_unsigned();
                let _ = ptrace::setregs(thread, registers);
            }
        }
        self.threads.insert(thread, next);
        false
    }

    fn dies(&self) -> bool {
        let _ = kill(self.program, Signal::SIGKILL);
        true
    }
}

const FICLONE: u64 = 0x4004_9409;

/// The name of a call that changes a file or a directory. Plain writes are none: by them a server
/// answers, and speaks to the machine.
fn changing(registers: &libc::user_regs_struct) -> Option<&'static str> {
    let flags = i32::try_from(registers.rdx).unwrap_or_default();
    let creates =
        flags & (libc::O_CREAT | libc::O_TRUNC) != 0 || flags & libc::O_TMPFILE == libc::O_TMPFILE;
    Some(match registers.orig_rax.cast_signed() {
        libc::SYS_openat if creates => "openat",
        libc::SYS_ioctl if registers.rsi == FICLONE => "ioctl(FICLONE)",
        libc::SYS_mkdirat => "mkdirat",
        libc::SYS_mknodat => "mknodat",
        libc::SYS_symlinkat => "symlinkat",
        libc::SYS_linkat => "linkat",
        libc::SYS_renameat | libc::SYS_renameat2 => "renameat",
        libc::SYS_unlinkat => "unlinkat",
        libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2 => "pwrite",
        libc::SYS_copy_file_range | libc::SYS_sendfile | libc::SYS_splice => "copy_file_range",
        libc::SYS_ftruncate | libc::SYS_truncate => "ftruncate",
        libc::SYS_fallocate => "fallocate",
        libc::SYS_fsync | libc::SYS_fdatasync => "fsync",
        libc::SYS_chmod | libc::SYS_fchmod | libc::SYS_fchmodat => "chmod",
        libc::SYS_chown | libc::SYS_fchown | libc::SYS_fchownat => "chown",
        libc::SYS_utimensat => "utimensat",
        libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => "setxattr",
        libc::SYS_removexattr | libc::SYS_lremovexattr | libc::SYS_fremovexattr => "removexattr",
        _ => return None,
    })
}

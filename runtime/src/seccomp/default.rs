//! rbox's own default profile: what Docker's default allows, as a list of calls and conditions.
//!
//! Everything that is not named fails with EPERM, also calls of kernels to come; `clone3` fails with
//! ENOSYS so that libraries fall back to `clone`, whose flags a filter can see. `io_uring_…` is not
//! named on purpose: it makes calls past the filter. Differences between architectures need no list:
//! a name counts where it exists.

use sys::caps::CapSet;

use super::{Action, Arch, Compare, Filter, Rule, Rules, Test};

/// Calls that every container may make.
const ALLOWED: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm arch_prctl arm_fadvise64_64 \
    arm_sync_file_range bind brk cachestat capget capset chdir chmod chown chown32 \
    clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime \
    clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect \
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_pwait \
    epoll_pwait2 epoll_wait eventfd eventfd2 execve execveat exit exit_group faccessat \
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 \
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr \
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat fstatat64 fstatfs \
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait \
    futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents \
    getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 \
    getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid \
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid \
    gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init \
    inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents \
    io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill \
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr \
    link linkat listen listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat \
    lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir \
    mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 modify_ldt mprotect mq_getsetattr \
    mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap \
    nanosleep newfstatat nice open openat openat2 pause pidfd_open pidfd_send_signal pipe \
    pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv \
    preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 ptrace pwrite64 pwritev \
    pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg remap_file_pages removexattr removexattrat rename renameat renameat2 \
    restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo \
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr \
    sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp \
    select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg \
    sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 \
    setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority \
    setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 \
    setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget \
    shutdown sigaction sigaltstack signalfd signalfd4 sigpending sigprocmask sigreturn \
    sigsuspend socketcall socketpair splice stat stat64 statfs statfs64 statx symlink \
    symlinkat sync sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times \
    tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uprobe uretprobe utime \
    utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev \
";

/// Calls that come with a capability.
const WITH_CAPABILITY: [(&str, &str); 12] = [
    ("DAC_READ_SEARCH", "open_by_handle_at name_to_handle_at"),
    (
        "SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie \
         lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount \
         name_to_handle_at open_tree open_tree_attr perf_event_open pivot_root quotactl \
         quotactl_fd setdomainname sethostname setns statmount swapoff swapon syslog umount \
         umount2 unshare",
    ),
    ("SYS_BOOT", "kexec_file_load kexec_load reboot"),
    ("SYS_CHROOT", "chroot"),
    ("SYS_MODULE", "delete_module finit_module init_module"),
    ("SYS_PACCT", "acct"),
    (
        "SYS_PTRACE",
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev",
    ),
    ("SYS_RAWIO", "ioperm iopl"),
    (
        "SYS_TIME",
        "clock_settime clock_settime64 settimeofday stime",
    ),
    ("SYS_TTY_CONFIG", "vhangup"),
    (
        "SYS_NICE",
        "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node",
    ),
    ("SYSLOG", "syslog"),
];

/// The namespace bits of `clone`: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACES: u64 = 0x7e02_0000;
const ENOSYS: u16 = 38;
const EPERM: u16 = 1;
const AF_VSOCK: u64 = 40;

/// The filter for a container with these capabilities.
///
/// For Docker's default capabilities, and all that unlock the same calls, it was compiled with rbox:
/// looking a thousand names up takes a third of a millisecond.
pub fn default_profile(caps: CapSet) -> Filter {
    #[cfg(target_arch = "x86_64")]
    if unlocked(caps) == ["SYS_CHROOT"] {
        return Filter::Ready(&super::ready::PROGRAM);
    }
    Filter::Rules(rules(caps))
}

/// The capabilities among these that unlock calls.
fn unlocked(caps: CapSet) -> Vec<&'static str> {
    let names = WITH_CAPABILITY.iter().map(|(name, _)| *name);
    names
        .chain(["BPF", "PERFMON"])
        .filter(|name| name.parse().is_ok_and(|cap| caps.contains(cap)))
        .collect()
}

fn rules(caps: CapSet) -> Rules {
    let arches = match Arch::NATIVE {
        Arch::Aarch64 => vec![Arch::Aarch64, Arch::Arm],
        _ => vec![Arch::X86_64, Arch::X86, Arch::X32],
    };
    let mut filter = Rules::new(Action::Errno(EPERM), arches);
    let has = |name: &str| name.parse().is_ok_and(|cap| caps.contains(cap));
    let allow = |tests: Vec<Test>| Rule {
        tests,
        action: Action::Allow,
    };
    let always = allow(Vec::new());
    for name in ALLOWED.split_ascii_whitespace() {
        filter.add(name, &always);
    }
    for (cap, names) in WITH_CAPABILITY {
        if has(cap) {
            for name in names.split_ascii_whitespace() {
                filter.add(name, &always);
            }
        }
    }
    if has("BPF") {
        filter.add("bpf", &always);
    }
    if has("PERFMON") {
        filter.add("perf_event_open", &always);
    }
    for domain in [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff] {
        filter.add("personality", &allow(vec![test(Compare::Equal, domain)]));
    }
    filter.add("socket", &allow(vec![test(Compare::NotEqual, AF_VSOCK)]));
    if !has("SYS_ADMIN") {
        let harmless = test(Compare::MaskedEqual(NAMESPACES), 0);
        filter.add("clone", &allow(vec![harmless]));
        let missing = Rule {
            tests: Vec::new(),
            action: Action::Errno(ENOSYS),
        };
        filter.add("clone3", &missing);
    }
    filter
}

fn test(compare: Compare, value: u64) -> Test {
    Test {
        index: 0,
        compare,
        value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::interpreter::run;
    use super::*;

    /// What the default filter for these capabilities answers to a call of x86-64.
    fn answer(caps: &str, name: &str, first: u64) -> u32 {
        let caps: CapSet = caps
            .split_whitespace()
            .map(|name| name.parse().unwrap())
            .collect();
        let program = default_profile(caps).program();
        let number = Arch::X86_64.number(name).unwrap();
        run(
            &program,
            Arch::X86_64.audit(),
            number,
            &[first, 0, 0, 0, 0, 0],
        )
        .unwrap()
    }

    const ALLOW: u32 = 0x7fff_0000;
    const DENY: u32 = 0x0005_0001;

    #[test]
    fn dangerous_calls_are_blocked() {
        let blocked = "acct add_key bpf clock_settime create_module delete_module fanotify_init \
            finit_module fsconfig fsmount fsopen fspick get_mempolicy init_module ioperm iopl kcmp \
            kexec_file_load kexec_load keyctl lookup_dcookie mbind migrate_pages mount \
            mount_setattr move_mount move_pages name_to_handle_at nfsservctl open_by_handle_at \
            open_tree perf_event_open pidfd_getfd pivot_root process_madvise process_vm_readv \
            process_vm_writev quotactl quotactl_fd reboot request_key set_mempolicy setdomainname \
            sethostname setns settimeofday swapoff swapon syslog umount2 unshare uselib \
            userfaultfd ustat vhangup io_uring_setup";
        for name in blocked.split_whitespace() {
            assert_eq!(answer("", name, 0), DENY, "{name}");
        }
        for name in [
            "read",
            "execve",
            "ptrace",
            "openat2",
            "futex",
            "capset",
            "memfd_create",
        ] {
            assert_eq!(answer("", name, 0), ALLOW, "{name}");
        }
    }

    #[test]
    fn arguments_and_capabilities_count() {
        assert_eq!(answer("", "clone", 0x11), ALLOW);
        assert_eq!(answer("", "clone", 0x1000_0011), DENY);
        assert_eq!(answer("SYS_ADMIN", "clone", 0x1000_0011), ALLOW);
        assert_eq!(answer("", "clone3", 0), 0x0005_0000 | 38);
        assert_eq!(answer("SYS_ADMIN", "clone3", 0), ALLOW);
        for domain in [0, 8, 0x20000, 0x20008, 0xffff_ffff] {
            assert_eq!(answer("", "personality", domain), ALLOW);
        }
        assert_eq!(answer("", "personality", 4), DENY);
        assert_eq!(answer("", "socket", 2), ALLOW);
        assert_eq!(answer("", "socket", 40), DENY);
        assert_eq!(answer("", "chroot", 0), DENY);
        assert_eq!(answer("SYS_CHROOT", "chroot", 0), ALLOW);
        assert_eq!(answer("SYS_PTRACE", "process_vm_readv", 0), ALLOW);
        assert_eq!(answer("BPF", "bpf", 0), ALLOW);
    }

    #[test]
    fn other_architectures_are_judged_too() {
        let program = default_profile(CapSet::EMPTY).program();
        let on = |arch: Arch, name: &str| {
            let number = arch.number(name).unwrap();
            run(&program, arch.audit(), number, &[0; 6]).unwrap()
        };
        assert_eq!(on(Arch::X86, "read"), ALLOW);
        assert_eq!(on(Arch::X86, "mount"), DENY);
        assert_eq!(on(Arch::X32, "readv"), ALLOW);
        assert_eq!(on(Arch::X32, "mount"), DENY);
        // An architecture that is not listed has no business here.
        let foreign = run(&program, Arch::Aarch64.audit(), 0, &[0; 6]).unwrap();
        assert_eq!(foreign, Action::KillProcess.value());
    }

    #[test]
    fn every_name_exists_somewhere() {
        let arches = [Arch::X86_64, Arch::X86, Arch::Aarch64, Arch::Arm];
        for name in ALLOWED.split_ascii_whitespace() {
            assert!(
                arches.iter().any(|arch| arch.number(name).is_some()),
                "{name} is no call"
            );
        }
    }

    /// Writes the file anew when `RBOX_BLESS` is set.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_was_compiled_is_what_would_be() {
        use std::fmt::Write;
        let program = super::super::compile(&rules(
            ["SYS_CHROOT".parse().unwrap()].into_iter().collect(),
        ));
        if std::env::var_os("RBOX_BLESS").is_some() {
            let mut text =
                "//! The default filter for Docker's default capabilities, made by the test \
                            in `default.rs`.\n\n#[rustfmt::skip]\n"
                    .to_owned();
            writeln!(
                text,
                "pub(super) static PROGRAM: [u64; {}] = [",
                program.len()
            )
            .unwrap();
            for line in program.chunks(4) {
                let numbers: Vec<String> = line
                    .iter()
                    .map(|one| {
                        let [yes, no] = [one.yes, one.no].map(u64::from);
                        let number =
                            u64::from(one.code) << 48 | yes << 40 | no << 32 | u64::from(one.k);
                        format!("{number:#018x},")
                    })
                    .collect();
                writeln!(text, "    {}", numbers.join(" ")).unwrap();
            }
            text.push_str("];\n");
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/seccomp/ready.rs");
            std::fs::write(path, text).unwrap();
        }
        assert!(
            Filter::Ready(&super::super::ready::PROGRAM).program() == program,
            "run this test again with RBOX_BLESS=1"
        );
    }

    #[test]
    fn the_program_is_short() {
        let length = default_profile(CapSet::EMPTY).program().len();
        assert!(length < 450, "{length} instructions");
    }
}

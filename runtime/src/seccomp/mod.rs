//! Seccomp: which system calls a container may make, from profile to filter.
//!
//! A profile (Docker's JSON, or the specification's list) becomes a [`Filter`] of rules per call;
//! the compiler lays the rules of each architecture out as ranges of call numbers and searches them
//! by halving, with argument tests as leaves. Short programs are quickly taken in by the kernel,
//! which runs them once for every call number.

mod compile;
mod default;
#[cfg(test)]
mod interpreter;
mod profile;
#[cfg(target_arch = "x86_64")]
mod ready;
mod spec;

pub use compile::{Program, compile};
pub use default::default_profile;
pub use profile::{Profile, ProfileError, select};
pub use spec::from_spec;

use std::collections::BTreeMap;

use sys::bpf::Instruction;

/// An architecture as the kernel tells filters apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit x86 with 32-bit pointers: the same number as [`Arch::X86_64`] to the kernel.
    X32,
    /// 32-bit x86.
    X86,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
}

/// Calls from here on are those of [`Arch::X32`].
pub const X32_BIT: u32 = 0x4000_0000;

impl Arch {
    /// The architecture this program was built for.
    pub const NATIVE: Arch = if cfg!(target_arch = "aarch64") {
        Arch::Aarch64
    } else {
        Arch::X86_64
    };

    /// Its `AUDIT_ARCH_…` number.
    pub fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
            Arch::Arm => 0x4000_0028,
        }
    }

    /// The specification's and Docker's name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Arch::X86_64),
            "SCMP_ARCH_X32" => Some(Arch::X32),
            "SCMP_ARCH_X86" => Some(Arch::X86),
            "SCMP_ARCH_AARCH64" => Some(Arch::Aarch64),
            "SCMP_ARCH_ARM" => Some(Arch::Arm),
            _ => None,
        }
    }

    /// The number of a call; `None` where this architecture has no such call.
    pub fn number(self, name: &str) -> Option<u32> {
        let number = match self {
            Arch::X86_64 => name.parse::<syscalls::x86_64::Sysno>().ok()?.id(),
            Arch::X32 => {
                let native = name.parse::<syscalls::x86_64::Sysno>().ok()?.id();
                return u32::try_from(native)
                    .ok()
                    .map(|number| x32(name, number) | X32_BIT);
            }
            Arch::X86 => name.parse::<syscalls::x86::Sysno>().ok()?.id(),
            Arch::Aarch64 => name.parse::<syscalls::aarch64::Sysno>().ok()?.id(),
            Arch::Arm => name.parse::<syscalls::arm::Sysno>().ok()?.id(),
        };
        u32::try_from(number).ok()
    }
}

/// Calls whose arguments hold pointers in memory have numbers of their own on x32.
fn x32(name: &str, native: u32) -> u32 {
    const OWN: [(&str, u32); 36] = [
        ("rt_sigaction", 512),
        ("rt_sigreturn", 513),
        ("ioctl", 514),
        ("readv", 515),
        ("writev", 516),
        ("recvfrom", 517),
        ("sendmsg", 518),
        ("recvmsg", 519),
        ("execve", 520),
        ("ptrace", 521),
        ("rt_sigpending", 522),
        ("rt_sigtimedwait", 523),
        ("rt_sigqueueinfo", 524),
        ("sigaltstack", 525),
        ("timer_create", 526),
        ("mq_notify", 527),
        ("kexec_load", 528),
        ("waitid", 529),
        ("set_robust_list", 530),
        ("get_robust_list", 531),
        ("vmsplice", 532),
        ("move_pages", 533),
        ("preadv", 534),
        ("pwritev", 535),
        ("rt_tgsigqueueinfo", 536),
        ("recvmmsg", 537),
        ("sendmmsg", 538),
        ("process_vm_readv", 539),
        ("process_vm_writev", 540),
        ("setsockopt", 541),
        ("getsockopt", 542),
        ("io_setup", 543),
        ("io_submit", 544),
        ("execveat", 545),
        ("preadv2", 546),
        ("pwritev2", 547),
    ];
    OWN.iter()
        .find(|(own, _)| *own == name)
        .map_or(native, |(_, number)| *number)
}

/// What happens to a call: the value a filter returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Allow,
    /// It is made and logged.
    Log,
    /// It fails with this error number.
    Errno(u16),
    /// A tracer decides; without one it fails with `ENOSYS`.
    Trace(u16),
    /// The thread gets SIGSYS.
    Trap,
    /// The thread is killed.
    KillThread,
    /// The process is killed.
    KillProcess,
}

impl Action {
    /// The kernel's number.
    pub fn value(self) -> u32 {
        match self {
            Action::Allow => 0x7fff_0000,
            Action::Log => 0x7ffc_0000,
            Action::Errno(number) => 0x0005_0000 | u32::from(number),
            Action::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Action::Trap => 0x0003_0000,
            Action::KillThread => 0,
            Action::KillProcess => 0x8000_0000,
        }
    }
}

/// How an argument is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compare {
    /// It is not the value.
    NotEqual,
    /// It is less than the value.
    Less,
    /// It is at most the value.
    LessOrEqual,
    /// It is the value.
    Equal,
    /// It is at least the value.
    GreaterOrEqual,
    /// It is more than the value.
    Greater,
    /// Under this mask it is the value.
    MaskedEqual(u64),
}

/// A test of one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Test {
    /// Which argument, 0 to 5.
    pub index: u8,
    /// How.
    pub compare: Compare,
    /// With what.
    pub value: u64,
}

impl Test {
    /// Whether an argument passes.
    pub fn holds(self, argument: u64) -> bool {
        match self.compare {
            Compare::NotEqual => argument != self.value,
            Compare::Less => argument < self.value,
            Compare::LessOrEqual => argument <= self.value,
            Compare::Equal => argument == self.value,
            Compare::GreaterOrEqual => argument >= self.value,
            Compare::Greater => argument > self.value,
            Compare::MaskedEqual(mask) => argument & mask == self.value,
        }
    }
}

/// One way in which a call may match: all tests hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// All must hold; none always does.
    pub tests: Vec<Test>,
    /// What then happens.
    pub action: Action,
}

/// What a container may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// To be compiled.
    Rules(Rules),
    /// Compiled when rbox was: instructions as numbers.
    Ready(&'static [u64]),
}

/// Rules by call number, for each architecture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// What happens to a call that no rule matches.
    pub default: Action,
    /// What happens to calls of an architecture that is not listed.
    pub foreign: Action,
    /// In each architecture the rules of each call; the first that matches decides.
    pub arches: BTreeMap<Arch, BTreeMap<u32, Vec<Rule>>>,
    /// `SECCOMP_FILTER_FLAG_…`.
    pub flags: u64,
}

impl Filter {
    /// The program for the kernel.
    pub fn program(&self) -> Program {
        match self {
            Filter::Rules(rules) => compile(rules),
            Filter::Ready(numbers) => numbers.iter().copied().map(unpack).collect(),
        }
    }

    /// `SECCOMP_FILTER_FLAG_…`.
    pub fn flags(&self) -> u64 {
        match self {
            Filter::Rules(rules) => rules.flags,
            Filter::Ready(_) => 0,
        }
    }
}

/// An instruction out of one number.
fn unpack(number: u64) -> Instruction {
    let [k0, k1, k2, k3, no, yes, code0, code1] = number.to_le_bytes();
    Instruction {
        code: u16::from_le_bytes([code0, code1]),
        yes,
        no,
        k: u32::from_le_bytes([k0, k1, k2, k3]),
    }
}

impl Rules {
    /// A filter without rules.
    pub fn new(default: Action, arches: impl IntoIterator<Item = Arch>) -> Self {
        Self {
            default,
            foreign: Action::KillProcess,
            arches: arches
                .into_iter()
                .map(|arch| (arch, BTreeMap::new()))
                .collect(),
            flags: 0,
        }
    }

    /// Adds a rule for a call by name in every architecture that has it; the result is whether any
    /// does.
    ///
    /// A rule with the default's own action decides nothing and is left out, as libseccomp has it;
    /// a rule without tests is put last, so that tested ones come first.
    pub fn add(&mut self, name: &str, rule: &Rule) -> bool {
        let mut known = false;
        for (arch, calls) in &mut self.arches {
            let Some(number) = arch.number(name) else {
                continue;
            };
            known = true;
            let rules = calls.entry(number).or_default();
            if rule.tests.is_empty() {
                // The first of several rules without tests is the one that counts.
                if rules.last().is_none_or(|last| !last.tests.is_empty()) {
                    rules.push(rule.clone());
                }
            } else {
                let at = rules
                    .iter()
                    .take_while(|rule| !rule.tests.is_empty())
                    .count();
                rules.insert(at, rule.clone());
            }
        }
        known
    }

    /// What the filter means, computed directly: the compiler is tested against it.
    pub fn judge(&self, audit: u32, number: u32, arguments: &[u64; 6]) -> Action {
        let arch = self.arches.keys().find(|arch| {
            arch.audit() == audit
                && match arch {
                    Arch::X86_64 => number < X32_BIT,
                    Arch::X32 => number >= X32_BIT,
                    _ => true,
                }
        });
        let Some(arch) = arch else {
            return self.foreign;
        };
        let rules = self.arches[arch].get(&number);
        rules
            .into_iter()
            .flatten()
            .find(|rule| {
                let holds = |test: &Test| test.holds(arguments[usize::from(test.index)]);
                rule.tests.iter().all(holds)
            })
            .map_or(self.default, |rule| rule.action)
    }
}

//! Docker's profile documents: JSON with groups that depend on capabilities, kernel, architecture.

use serde::Deserialize;
use sys::caps::{Cap, CapSet};

use super::{Action, Arch, Compare, Filter, Rule, Rules, Test};
use crate::facts::Facts;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not a profile.
    #[error("the seccomp profile cannot be understood")]
    Json(#[from] serde_json::Error),
    /// A word in it is unknown.
    #[error("the seccomp profile has an unknown {what}: {word:?}")]
    Unknown {
        /// `action`, `operator` …
        what: &'static str,
        /// The word.
        word: String,
    },
    /// Something rbox does not do.
    #[error("the seccomp profile asks for {0}, which rbox does not support")]
    Unsupported(String),
}

fn unknown(what: &'static str, word: &str) -> ProfileError {
    ProfileError::Unknown {
        what,
        word: word.to_owned(),
    }
}

/// A profile as Docker stores it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Profile {
    default_action: String,
    default_errno_ret: Option<u16>,
    arch_map: Vec<ArchMap>,
    architectures: Vec<String>,
    flags: Vec<String>,
    listener_path: String,
    syscalls: Vec<Group>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Group {
    name: String,
    names: Vec<String>,
    action: String,
    errno_ret: Option<u16>,
    args: Option<Vec<Argument>>,
    includes: Option<Condition>,
    excludes: Option<Condition>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Argument {
    index: u8,
    value: u64,
    value_two: u64,
    op: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

impl Condition {
    fn arches_name(&self, facts: &Facts) -> bool {
        let _ = facts;
        let native = match Arch::NATIVE {
            Arch::Aarch64 => "arm64",
            _ => "amd64",
        };
        self.arches.iter().any(|arch| arch == native)
    }

    fn old_enough(&self, facts: &Facts) -> bool {
        let Some(text) = &self.min_kernel else {
            return true;
        };
        let mut numbers = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
        facts.kernel >= (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
    }

    fn includes(&self, caps: CapSet, facts: &Facts) -> bool {
        let has = |name: &String| name.parse::<Cap>().is_ok_and(|cap| caps.contains(cap));
        (self.arches.is_empty() || self.arches_name(facts))
            && self.caps.iter().all(has)
            && self.old_enough(facts)
    }

    fn excludes(&self, caps: CapSet, facts: &Facts) -> bool {
        let has = |name: &String| name.parse::<Cap>().is_ok_and(|cap| caps.contains(cap));
        self.arches_name(facts)
            || self.caps.iter().any(has)
            || (self.min_kernel.is_some() && self.old_enough(facts))
    }
}

impl Profile {
    /// Reads a profile.
    ///
    /// # Errors
    /// [`ProfileError::Json`].
    pub fn parse(json: &str) -> Result<Self, ProfileError> {
        Ok(serde_json::from_str(json)?)
    }
}

/// The filter for a container with these capabilities on this host.
///
/// # Errors
/// [`ProfileError`] for words it does not know; an unknown name of a call is none: profiles name
/// calls of kernels to come.
pub fn select(profile: &Profile, caps: CapSet, facts: &Facts) -> Result<Filter, ProfileError> {
    if !profile.listener_path.is_empty() {
        return Err(ProfileError::Unsupported("a listener".to_owned()));
    }
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut filter = Rules::new(default, arches(profile));
    filter.flags = flags(profile.flags.iter().map(String::as_str))?;
    for group in &profile.syscalls {
        let included = group
            .includes
            .as_ref()
            .is_none_or(|c| c.includes(caps, facts));
        let excluded = group
            .excludes
            .as_ref()
            .is_some_and(|c| c.excludes(caps, facts));
        if !included || excluded {
            continue;
        }
        let action = action(&group.action, group.errno_ret)?;
        let tests = group
            .args
            .iter()
            .flatten()
            .map(|argument| {
                let op = argument.op.as_str();
                test(argument.index, op, argument.value, argument.value_two)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let single = (!group.name.is_empty()).then_some(&group.name);
        for name in single.into_iter().chain(&group.names) {
            add(&mut filter, name, &tests, action);
        }
    }
    Ok(Filter::Rules(filter))
}

/// Several tests of one argument are alternatives, tests of several arguments must all hold.
pub(super) fn add(filter: &mut Rules, name: &str, tests: &[Test], action: Action) {
    let repeated = tests.iter().enumerate().any(|(at, test)| {
        tests[..at]
            .iter()
            .any(|earlier| earlier.index == test.index)
    });
    if !repeated {
        let tests = tests.to_vec();
        filter.add(name, &Rule { tests, action });
        return;
    }
    for test in tests {
        let tests = vec![*test];
        filter.add(name, &Rule { tests, action });
    }
}

fn arches(profile: &Profile) -> Vec<Arch> {
    let mut all = vec![Arch::NATIVE];
    all.extend(
        profile
            .architectures
            .iter()
            .filter_map(|name| Arch::from_name(name)),
    );
    for map in &profile.arch_map {
        if Arch::from_name(&map.architecture) == Some(Arch::NATIVE) {
            let subs = map.sub_architectures.iter().flatten();
            all.extend(subs.filter_map(|name| Arch::from_name(name)));
        }
    }
    all
}

pub(super) fn action(name: &str, errno: Option<u16>) -> Result<Action, ProfileError> {
    const EPERM: u16 = 1;
    let number = errno.unwrap_or(EPERM);
    match name {
        "SCMP_ACT_ALLOW" => Ok(Action::Allow),
        "SCMP_ACT_LOG" => Ok(Action::Log),
        "SCMP_ACT_ERRNO" => Ok(Action::Errno(number)),
        "SCMP_ACT_TRACE" => Ok(Action::Trace(number)),
        "SCMP_ACT_TRAP" => Ok(Action::Trap),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Ok(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Ok(Action::KillProcess),
        "SCMP_ACT_NOTIFY" => Err(ProfileError::Unsupported(name.to_owned())),
        _ => Err(unknown("action", name)),
    }
}

pub(super) fn test(index: u8, op: &str, value: u64, two: u64) -> Result<Test, ProfileError> {
    if index > 5 {
        return Err(unknown("argument", &index.to_string()));
    }
    let (compare, value) = match op {
        "SCMP_CMP_NE" => (Compare::NotEqual, value),
        "SCMP_CMP_LT" => (Compare::Less, value),
        "SCMP_CMP_LE" => (Compare::LessOrEqual, value),
        "SCMP_CMP_EQ" => (Compare::Equal, value),
        "SCMP_CMP_GE" => (Compare::GreaterOrEqual, value),
        "SCMP_CMP_GT" => (Compare::Greater, value),
        "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEqual(value), two),
        _ => return Err(unknown("operator", op)),
    };
    Ok(Test {
        index,
        compare,
        value,
    })
}

pub(super) fn flags<'a>(names: impl Iterator<Item = &'a str>) -> Result<u64, ProfileError> {
    let mut all = 0;
    for name in names {
        all |= match name {
            "SECCOMP_FILTER_FLAG_LOG" => 2,
            "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => 4,
            // One thread: there is nobody to synchronise with.
            "SECCOMP_FILTER_FLAG_TSYNC" => 0,
            other => return Err(unknown("flag", other)),
        };
    }
    Ok(all)
}

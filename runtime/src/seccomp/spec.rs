//! The specification's list of calls → filter.

use oci_spec::runtime::{Arch as SpecArch, LinuxSeccomp, LinuxSeccompFilterFlag};

use super::profile::{ProfileError, action, add, flags, test};
use super::{Arch, Filter, Rules};

/// The filter that the specification describes; nothing in it depends on capabilities any more.
///
/// # Errors
/// [`ProfileError`] for what rbox does not do.
pub fn from_spec(seccomp: &LinuxSeccomp) -> Result<Filter, ProfileError> {
    if seccomp.listener_path().is_some() {
        return Err(ProfileError::Unsupported("a listener".to_owned()));
    }
    let errno = |number: Option<u32>| number.and_then(|number| u16::try_from(number).ok());
    let default = action(
        &word(&seccomp.default_action()),
        errno(seccomp.default_errno_ret()),
    )?;
    let mut arches = vec![Arch::NATIVE];
    for arch in seccomp.architectures().iter().flatten() {
        arches.extend(known(*arch));
    }
    let mut filter = Rules::new(default, arches);
    let names = seccomp.flags().iter().flatten().map(|flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => "SECCOMP_FILTER_FLAG_LOG",
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => "SECCOMP_FILTER_FLAG_TSYNC",
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        _ => "an unknown flag",
    });
    filter.flags = flags(names)?;
    for call in seccomp.syscalls().iter().flatten() {
        let action = action(&word(&call.action()), errno(call.errno_ret()))?;
        let mut tests = Vec::new();
        for argument in call.args().iter().flatten() {
            let index = u8::try_from(argument.index()).unwrap_or(u8::MAX);
            let two = argument.value_two().unwrap_or(0);
            tests.push(test(index, &word(&argument.op()), argument.value(), two)?);
        }
        for name in call.names() {
            add(&mut filter, name, &tests, action);
        }
    }
    Ok(Filter::Rules(filter))
}

/// The specification's word for a value.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn known(arch: SpecArch) -> Option<Arch> {
    Arch::from_name(&word(&arch))
}

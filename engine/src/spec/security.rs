//! `--security-opt`: what is known, what is refused.

use crate::config::HostConfig;
use crate::error::{Error, Result};

/// Which seccomp filter a container gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seccomp<'a> {
    /// Docker's default profile.
    #[default]
    Default,
    /// None at all.
    Unconfined,
    /// The user's profile, its JSON text.
    Profile(&'a str),
}

/// What `--security-opt` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Security<'a> {
    /// Executing cannot give more rights.
    pub no_new_privileges: bool,
    /// Nothing is masked or read-only.
    pub open_system_paths: bool,
    /// Which filter.
    pub seccomp: Seccomp<'a>,
}

impl<'a> Security<'a> {
    /// Reads the options of a container.
    ///
    /// # Errors
    /// `Invalid --security-opt: "foo"`, `invalid --security-opt 2: "foo=bar"`.
    pub fn read(host: &'a HostConfig) -> Result<Self> {
        let mut security = Self::default();
        if host.privileged {
            security.seccomp = Seccomp::Unconfined;
        }
        for option in host.security_opt.iter().flatten() {
            if option == "no-new-privileges" {
                security.no_new_privileges = true;
                continue;
            }
            // the colon is the older form
            let (key, value) = option
                .split_once('=')
                .or_else(|| option.split_once(':'))
                .ok_or_else(|| Error::invalid(format!("Invalid --security-opt: {option:?}")))?;
            security.set(key, value, option)?;
        }
        Ok(security)
    }

    fn set(&mut self, key: &str, value: &'a str, option: &str) -> Result<()> {
        match key {
            "no-new-privileges" => {
                self.no_new_privileges = value
                    .parse()
                    .map_err(|_| Error::invalid(format!("invalid --security-opt 2: {option:?}")))?;
            }
            "seccomp" if value == "unconfined" => self.seccomp = Seccomp::Unconfined,
            "seccomp" => self.seccomp = Seccomp::Profile(value),
            "systempaths" if value == "unconfined" => self.open_system_paths = true,
            // there is no label and no AppArmor profile to take away
            "label" | "apparmor" => {}
            _ => {
                return Err(Error::invalid(format!(
                    "invalid --security-opt 2: {option:?}"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(options: &[&str], privileged: bool) -> HostConfig {
        HostConfig {
            security_opt: Some(options.iter().map(|&text| text.to_owned()).collect()),
            privileged,
            ..HostConfig::default()
        }
    }

    #[test]
    fn what_is_known() {
        for (options, privileged, no_new, open, seccomp) in [
            (&[][..], false, false, false, Seccomp::Default),
            (&[], true, false, false, Seccomp::Unconfined),
            (&["no-new-privileges"], false, true, false, Seccomp::Default),
            (
                &["no-new-privileges:true"],
                false,
                true,
                false,
                Seccomp::Default,
            ),
            (
                &["no-new-privileges=false"],
                false,
                false,
                false,
                Seccomp::Default,
            ),
            (
                &["seccomp=unconfined"],
                false,
                false,
                false,
                Seccomp::Unconfined,
            ),
            (
                &["seccomp={\"a\":1}"],
                true,
                false,
                false,
                Seccomp::Profile("{\"a\":1}"),
            ),
            (
                &["systempaths=unconfined", "label=disable"],
                false,
                false,
                true,
                Seccomp::Default,
            ),
        ] {
            let host = host(options, privileged);
            let expected = Security {
                no_new_privileges: no_new,
                open_system_paths: open,
                seccomp,
            };
            assert_eq!(Security::read(&host).unwrap(), expected, "{options:?}");
        }
    }

    #[test]
    fn what_is_refused_in_dockers_words() {
        for (option, text) in [
            ("foo", "Invalid --security-opt: \"foo\""),
            ("foo=bar", "invalid --security-opt 2: \"foo=bar\""),
        ] {
            assert_eq!(
                Security::read(&host(&[option], false))
                    .unwrap_err()
                    .to_string(),
                text
            );
        }
    }
}

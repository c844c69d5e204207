//! Fault points: a place before and after every step where a test can make rbox fail or die.
//!
//! The variable `RBOX_FAULT` holds `STEP:before|after:ACTION`, where ACTION is `error`, `kill`
//! (SIGKILL to the process itself), `kill-parent` or `list:PATH`. With `*` as the step and
//! `list:PATH` every point that is passed is appended to the file, which is how a test enumerates
//! them. Without the variable a point costs one comparison.

use std::io::Write;

/// Where in relation to a step a fault point lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Just before the step is applied.
    Before,
    /// Just after it was applied.
    After,
}

impl Moment {
    fn word(self) -> &'static str {
        match self {
            Moment::Before => "before",
            Moment::After => "after",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    Error,
    Kill,
    KillParent,
    List(String),
}

/// The faults asked for through the environment; usually none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults {
    armed: Option<(String, Option<Moment>, Action)>,
}

/// The error that the action `error` makes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fault injected {moment} step {step}")]
pub struct Injected {
    step: String,
    moment: &'static str,
}

impl Faults {
    /// No fault anywhere.
    pub const fn none() -> Self {
        Self { armed: None }
    }

    /// Reads `RBOX_FAULT`; an unreadable value counts as none.
    pub fn from_environment() -> Self {
        match std::env::var("RBOX_FAULT") {
            Ok(text) => Self::parse(&text).unwrap_or_default(),
            Err(_) => Self::none(),
        }
    }

    /// Reads `STEP:before|after|any:ACTION`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ':');
        let step = parts.next()?.to_owned();
        let moment = match parts.next()? {
            "before" => Some(Moment::Before),
            "after" => Some(Moment::After),
            "any" => None,
            _ => return None,
        };
        let action = match parts.next()? {
            "error" => Action::Error,
            "kill" => Action::Kill,
            "kill-parent" => Action::KillParent,
            other => Action::List(other.strip_prefix("list:")?.to_owned()),
        };
        Some(Self {
            armed: Some((step, moment, action)),
        })
    }

    /// Whether points are only listed: for a process that cannot reach the list, another passes
    /// its points in its place.
    pub fn is_listing(&self) -> bool {
        matches!(&self.armed, Some((_, _, Action::List(_))))
    }

    /// Passes a fault point.
    ///
    /// # Errors
    /// [`Injected`] when the point is armed with `error`; with `kill` it does not return.
    #[inline]
    pub fn point(&self, step: &str, moment: Moment) -> Result<(), Injected> {
        match &self.armed {
            None => Ok(()),
            Some(armed) => Self::passed(armed, step, moment),
        }
    }

    #[cold]
    fn passed(
        (armed, when, action): &(String, Option<Moment>, Action),
        step: &str,
        moment: Moment,
    ) -> Result<(), Injected> {
        if (armed != "*" && armed != step) || when.is_some_and(|when| when != moment) {
            return Ok(());
        }
        match action {
            Action::Error => {
                return Err(Injected {
                    step: step.to_owned(),
                    moment: moment.word(),
                });
            }
            Action::Kill => sys::process::kill_self(),
            Action::KillParent => sys::process::kill_parent(),
            Action::List(path) => {
                // A list that cannot be written shows as a missing line in the test that reads it.
                if let Ok(mut file) = std::fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(path)
                {
                    let _ = file.write_all(format!("{step}:{}\n", moment.word()).as_bytes());
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_variable() {
        assert_eq!(Faults::parse("nonsense"), None);
        assert_eq!(Faults::parse("veth:sometimes:error"), None);
        let faults = Faults::parse("veth-create:after:error").unwrap();
        assert!(faults.point("veth-create", Moment::Before).is_ok());
        assert!(faults.point("other", Moment::After).is_ok());
        let injected = faults.point("veth-create", Moment::After).unwrap_err();
        assert_eq!(
            injected.to_string(),
            "fault injected after step veth-create"
        );
    }

    #[test]
    fn lists_every_point_that_is_passed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("points");
        let faults = Faults::parse(&format!("*:any:list:{}", path.display())).unwrap();
        faults.point("one", Moment::Before).unwrap();
        faults.point("one", Moment::After).unwrap();
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "one:before\none:after\n"
        );
    }
}

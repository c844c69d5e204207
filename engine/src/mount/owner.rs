//! `idmap`: files of one owner on the host are another's inside.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Fault;

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostOwner {
    /// User.
    pub user: u32,
    /// Group.
    pub group: u32,
}

impl fmt::Display for HostOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

/// Reads `UID` or `UID:GID`; without a group it has the user's number. In the words of `-v`, where a
/// colon parts the fields, a dot may stand for it.
impl FromStr for HostOwner {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self, Fault> {
        let number = |part: &str| -> Result<u32, Fault> {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            // The last two numbers mean nobody to the kernel.
            let number = part
                .parse()
                .ok()
                .filter(|number| digits && *number < u32::MAX - 1);
            number.ok_or_else(|| Fault::Owner(text.to_owned()))
        };
        let (user, group) = text.split_once([':', '.']).unwrap_or((text, text));
        Ok(Self {
            user: number(user)?,
            group: number(group)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_by_number() {
        let read = |text: &str| {
            text.parse::<HostOwner>()
                .ok()
                .map(|owner| owner.to_string())
        };
        for (text, expected) in [
            ("1000:100", Some("1000:100")),
            ("1000.100", Some("1000:100")),
            ("1000", Some("1000:1000")),
            ("0", Some("0:0")),
            ("", None),
            ("me", None),
            ("1:", None),
            ("+1", None),
            ("1:2:3", None),
            ("4294967295", None),
        ] {
            assert_eq!(read(text).as_deref(), expected, "{text}");
        }
    }
}

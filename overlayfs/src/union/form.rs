//! In which form a union's marks are kept in its branches, as the option language says it.

use std::fmt;

/// The form of whiteouts and opaque directories (`whform=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Files whose names begin with `.wh.`.
    Aufs,
    /// Devices 0/0 and extended attributes, as the kernel's overlayfs has them.
    Overlay,
    /// Both forms count; marks are written in the first.
    Auto,
}

impl Form {
    /// Reads an option's value.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "aufs" => Some(Self::Aufs),
            "overlay" | "overlayfs" => Some(Self::Overlay),
            "auto" => Some(Self::Auto),
            _ => None,
        }
    }

    /// Whether files named `.wh.` are marks.
    pub(crate) fn has_names(self) -> bool {
        self != Self::Overlay
    }

    /// Whether devices 0/0 and overlayfs's attributes are marks.
    pub(crate) fn has_devices(self) -> bool {
        self != Self::Aufs
    }
}

impl fmt::Display for Form {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Aufs => "aufs",
            Self::Overlay => "overlay",
            Self::Auto => "auto",
        })
    }
}

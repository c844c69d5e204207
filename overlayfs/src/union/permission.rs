//! What may be done to a branch, as the option language says it.

/// What may be done to a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read and written.
    ReadWrite,
    /// Existing objects are changed in place; nothing new is placed here.
    NoCreate,
    /// Never written.
    ReadOnly,
    /// Never written, and promised not to change by itself.
    RealReadOnly,
}

/// A branch's permission with its attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// What may be done.
    pub access: Access,
    /// Whiteouts of a read-only branch count.
    pub whiteouts: bool,
    /// Whiteouts are files of their own, not links to one.
    pub separate_whiteouts: bool,
    /// Bytes to leave free when placing new objects.
    pub reserve: u64,
    /// Errors in copying extended attributes to this branch are ignored.
    pub ignore_xattr_errors: bool,
}

impl Permission {
    /// A permission without attributes.
    pub fn of(access: Access) -> Self {
        Self {
            access,
            whiteouts: matches!(access, Access::ReadWrite | Access::NoCreate),
            separate_whiteouts: false,
            reserve: 0,
            ignore_xattr_errors: false,
        }
    }

    /// The same, with the whiteouts of a read-only branch counting.
    pub fn with_whiteouts(mut self) -> Self {
        self.whiteouts = true;
        self
    }

    /// Whether existing objects may be changed.
    pub fn is_writable(&self) -> bool {
        matches!(self.access, Access::ReadWrite | Access::NoCreate)
    }

    /// Reads `rw`, `ro+wh` and the like; says which word is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut words = text.split('+');
        let base = words.next().unwrap_or_default();
        let mut permission = Self::of(match base {
            "rw" => Access::ReadWrite,
            "nc" | "NC" => Access::NoCreate,
            "ro" => Access::ReadOnly,
            "rr" => Access::RealReadOnly,
            _ => return Err(format!("unknown permission {base:?}")),
        });
        let writable = permission.is_writable();
        for word in words {
            match word {
                "wh" if !writable => permission.whiteouts = true,
                "nolwh" if writable => permission.separate_whiteouts = true,
                "wh" | "nolwh" => {
                    return Err(format!(
                        "attribute {word:?} does not fit permission {base:?}"
                    ));
                }
                "icex" | "icexsec" | "icexsys" | "icextr" | "icexusr" | "icexoth" => {
                    permission.ignore_xattr_errors = true;
                }
                "fhsm" | "unpin" => {}
                _ => match word.strip_prefix("min=") {
                    Some(value) => {
                        permission.reserve = bytes(value).ok_or(format!("bad size {value:?}"))?;
                    }
                    None => return Err(format!("unknown attribute {word:?}")),
                },
            }
        }
        Ok(permission)
    }
}

impl std::fmt::Display for Permission {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self.access {
            Access::ReadWrite => "rw",
            Access::NoCreate => "nc",
            Access::ReadOnly => "ro",
            Access::RealReadOnly => "rr",
        })?;
        if self.whiteouts && !self.is_writable() {
            out.write_str("+wh")?;
        }
        if self.separate_whiteouts {
            out.write_str("+nolwh")?;
        }
        if self.reserve > 0 {
            write!(out, "+min={}", self.reserve)?;
        }
        Ok(())
    }
}

/// A size with an optional suffix: powers of 1024.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 10),
        (at, 'm' | 'M') => (&text[..at], 20),
        (at, 'g' | 'G') => (&text[..at], 30),
        (at, 't' | 'T') => (&text[..at], 40),
        _ => (text, 0),
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

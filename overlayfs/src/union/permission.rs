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
    /// What to leave free when placing new objects.
    pub reserve: Amount,
    /// Classes of extended attributes that need not be copied to this branch: a failure is ignored.
    pub ignored_xattrs: XattrClasses,
}

/// Bytes, or a part of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// So many bytes.
    Bytes(u64),
    /// So many hundredths of the file system's size.
    Percent(u8),
}

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self::Bytes(0);

    /// The bytes on a file system of a size.
    pub(crate) fn of(self, size: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                size / 100 * u64::from(percent) + size % 100 * u64::from(percent) / 100
            }
        }
    }

    /// Reads `4096`, `10M`, `5%`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(number) => match number.parse() {
                Ok(percent @ 0..=100) => Some(Self::Percent(percent)),
                _ => None,
            },
            None => bytes(text).map(Self::Bytes),
        }
    }
}

impl std::fmt::Display for Amount {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(out, "{bytes}"),
            Self::Percent(percent) => write!(out, "{percent}%"),
        }
    }
}

/// A set of classes of extended attributes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XattrClasses(u8);

/// The words for classes, and how their names begin.
const CLASSES: &[(&str, &str)] = &[
    ("icexsec", "security."),
    ("icexsys", "system."),
    ("icextr", "trusted."),
    ("icexusr", "user."),
    ("icexoth", ""),
];

impl XattrClasses {
    fn add(&mut self, word: &str) -> bool {
        if word == "icex" {
            self.0 = (1 << CLASSES.len()) - 1;
            return true;
        }
        let at = CLASSES.iter().position(|(known, _)| *known == word);
        self.0 |= at.map_or(0, |at| 1 << at);
        at.is_some()
    }

    /// Whether an attribute is of one of the classes.
    pub(crate) fn has(self, name: &[u8]) -> bool {
        let class = CLASSES
            .iter()
            .position(|(_, prefix)| name.starts_with(prefix.as_bytes()));
        class.is_some_and(|at| self.0 & 1 << at != 0)
    }

    fn words(self) -> impl Iterator<Item = &'static str> {
        let all = usize::from(self.0) == (1 << CLASSES.len()) - 1;
        let whole = all.then_some("icex").into_iter();
        let each = CLASSES.iter().enumerate();
        whole.chain(
            each.filter_map(move |(at, (word, _))| {
                (!all && self.0 & 1 << at != 0).then_some(*word)
            }),
        )
    }
}

impl Permission {
    /// A permission without attributes.
    pub fn of(access: Access) -> Self {
        Self {
            access,
            whiteouts: matches!(access, Access::ReadWrite | Access::NoCreate),
            separate_whiteouts: false,
            reserve: Amount::ZERO,
            ignored_xattrs: XattrClasses::default(),
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
                "fhsm" | "unpin" => {}
                "moo" | "coo_reg" | "coo_all" => {
                    return Err(format!(
                        "attribute {word:?} of aufs is not there: files are copied up when they are first changed"
                    ));
                }
                _ if permission.ignored_xattrs.add(word) => {}
                _ => match word.strip_prefix("min=") {
                    Some(value) => {
                        permission.reserve =
                            Amount::parse(value).ok_or(format!("bad size {value:?}"))?;
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
        for word in self.ignored_xattrs.words() {
            write!(out, "+{word}")?;
        }
        if self.reserve != Amount::ZERO {
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

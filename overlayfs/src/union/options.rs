//! The option language of a union: aufs's words in both spellings, and a few of mergerfs's.
//!
//! Pure: knows no path's existence and no mount.

use std::path::PathBuf;

use crate::union::branch_words::{branches, one_branch, split, unescape};
pub use crate::union::form::Form;
use crate::union::habits::is_habit;
pub use crate::union::permission::{Access, Amount, Permission};
use crate::union::policy::{CopyUp, Create};
use crate::union::policy_words::{copy_up, create};

/// Why an option was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such option.
    #[error("unknown option {0:?}")]
    Unknown(String),
    /// An option that needs a value has none, or the value says nothing.
    #[error("option {option:?}: {reason}")]
    Value {
        /// The option as it was written.
        option: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// One branch as it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchArg {
    /// Its directory.
    pub path: PathBuf,
    /// Its permission, if one was given.
    pub permission: Option<Permission>,
}

/// How changes made directly in a branch become visible (`udba=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DirectChanges {
    /// Every look-up is verified.
    Reval,
    /// The branches are watched; what nobody touched is kept.
    Notify,
    /// Promised not to happen.
    None,
}

impl std::fmt::Display for DirectChanges {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::Reval => "reval",
            Self::Notify => "notify",
            Self::None => "none",
        })
    }
}

/// Whether a file moves to another branch when its own runs full (`moveonenospc`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveWhenFull {
    /// The write fails.
    Never,
    /// It moves where `create=` would put a new one.
    AsCreate,
    /// It moves where this policy would put a new one.
    By(Create),
}

/// Which branches do not count for free space (`statfs_ignore=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uncounted {
    /// All count.
    None,
    /// Those that are not written do not.
    ReadOnly,
    /// Those that take nothing new do not.
    NoCreate,
}

/// Which files the kernel reads and writes by itself (`passthrough=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passthrough {
    /// Those that cannot be copied up while they are open.
    Safe,
    /// All; a reader from before a copy-up keeps the old content.
    All,
    /// None.
    Off,
}

/// How the kernel and the server talk (`transport=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// By rings where the kernel offers them, else through the device.
    Auto,
    /// By rings of io_uring, or not at all.
    Ring,
    /// Through the device.
    Device,
}

/// What can be changed while the union is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where new objects go.
    pub create: Create,
    /// Where copies go.
    pub copy_up: CopyUp,
    /// How direct changes are seen.
    pub direct_changes: DirectChanges,
    /// `statfs` adds the branches up.
    pub sum: bool,
    /// Every new directory is marked opaque.
    pub always_opaque: bool,
    /// Which files are passed through.
    pub passthrough: Passthrough,
    /// What to leave free in every branch.
    pub reserve: Amount,
    /// What becomes of a file whose branch runs full while it is written.
    pub move_when_full: MoveWhenFull,
    /// With less room than this files are not passed through, so that they can be moved.
    pub move_guard: Option<Amount>,
    /// Branches that `statfs` leaves out when it adds up.
    pub uncounted: Uncounted,
    /// The form of the marks; it stays while the union is mounted.
    pub form: Form,
    /// Inode numbers are shown in 32 bits; that stays, too.
    pub small_numbers: bool,
    /// Marks are listed, in unions that nobody writes.
    pub show_marks: bool,
    /// Of several files of one name the one changed last is shown, in unions that nobody writes.
    pub newest: bool,
    /// Nothing is synchronised: for unions that are thrown away.
    pub volatile: bool,
    /// Whether the names of one file show its copy all together, if said.
    pub plink: Option<bool>,
    /// Directories that lower branches have too can be renamed.
    pub renames_dirs: bool,
}

/// A change of a mounted union.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Puts a branch at an index; `usize::MAX` is the end.
    Insert(usize, BranchArg),
    /// Takes a branch out.
    Delete(PathBuf),
    /// Changes a branch's permission.
    Modify(PathBuf, Permission),
    /// Replaces the whole list.
    Replace(Vec<BranchArg>),
}

/// Everything that a list of options says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The branches, top first.
    pub branches: Vec<BranchArg>,
    /// The settings, defaults where nothing was said.
    pub settings: Settings,
    /// Settings that were named, as written: what a remount changes.
    pub named: Vec<String>,
    /// Whether `create=` was given.
    pub create_named: bool,
    /// Changes, in the order given.
    pub changes: Vec<Change>,
    /// `remount` was among the options.
    pub remount: bool,
    /// Whether another server takes over when one dies, if said; not to be changed later.
    pub recover: Option<bool>,
    /// How the kernel and the server talk, if said; not to be changed later.
    pub transport: Option<Transport>,
    /// The form of the marks, if said; not to be changed later.
    pub form: Option<Form>,
    /// Whether inode numbers are shown in 32 bits, if said; not to be changed later.
    pub small_numbers: Option<bool>,
    /// Read-only, or not, if said.
    pub read_only: Option<bool>,
    /// Words for the kernel: `nosuid nodev noexec noatime relatime sync dirsync`.
    pub generic: Vec<String>,
    overlay_upper: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            branches: Vec::new(),
            settings: Settings {
                create: Create::TopDownParent,
                copy_up: CopyUp::TopDownParent,
                direct_changes: DirectChanges::Reval,
                sum: false,
                always_opaque: false,
                passthrough: Passthrough::Safe,
                reserve: Amount::ZERO,
                move_when_full: MoveWhenFull::Never,
                move_guard: None,
                uncounted: Uncounted::None,
                form: Form::Aufs,
                small_numbers: false,
                show_marks: false,
                newest: false,
                volatile: false,
                plink: None,
                renames_dirs: false,
            },
            named: Vec::new(),
            create_named: false,
            changes: Vec::new(),
            remount: false,
            recover: None,
            transport: None,
            form: None,
            small_numbers: None,
            read_only: None,
            generic: Vec::new(),
            overlay_upper: None,
        }
    }
}

impl Options {
    /// Reads one list, as it follows `-o`.
    pub fn parse(text: &str) -> Result<Self, OptionError> {
        let mut options = Self::default();
        options.add(text)?;
        Ok(options)
    }

    /// Reads a further list; later words win.
    pub fn add(&mut self, text: &str) -> Result<(), OptionError> {
        for word in split(text, ',') {
            if !word.is_empty() {
                self.word(word)?;
            }
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), OptionError> {
        let (key, value) = match word.find([':', '=']) {
            Some(at) => (&word[..at], Some(&word[at + 1..])),
            None => (word, None),
        };
        if key.starts_with("x-") || is_habit(key) {
            return Ok(());
        }
        if self.branch_word(word, key, value)? || self.plain_word(word) {
            return Ok(());
        }
        self.setting(word, key, value)
    }

    fn branch_word(
        &mut self,
        word: &str,
        key: &str,
        value: Option<&str>,
    ) -> Result<bool, OptionError> {
        let need = || {
            value
                .filter(|text| !text.is_empty())
                .ok_or_else(|| bad(word, "a branch must follow"))
        };
        match key {
            "dirs" | "br" => {
                let list = branches(word, need()?)?;
                self.changes.push(Change::Replace(list.clone()));
                self.branches = list;
            }
            "add" | "ins" => {
                let (index, rest) = need()?
                    .split_once(':')
                    .ok_or_else(|| bad(word, "an index and a branch must follow"))?;
                let index = index
                    .parse()
                    .map_err(|_| bad(word, "the index is no number"))?;
                self.changes
                    .push(Change::Insert(index, one_branch(word, rest)?));
            }
            "append" => self
                .changes
                .push(Change::Insert(usize::MAX, one_branch(word, need()?)?)),
            "prepend" => self
                .changes
                .push(Change::Insert(0, one_branch(word, need()?)?)),
            "del" => self.changes.push(Change::Delete(unescape(need()?).into())),
            "mod" => {
                let arg = one_branch(word, need()?)?;
                let permission = arg
                    .permission
                    .ok_or_else(|| bad(word, "PATH=PERMISSION must follow"))?;
                self.changes.push(Change::Modify(arg.path, permission));
            }
            "lowerdir" => {
                self.overlay_marks();
                for path in split(need()?, ':') {
                    let permission = Some(Permission::of(Access::ReadOnly).with_whiteouts());
                    self.branches.push(BranchArg {
                        path: unescape(path).into(),
                        permission,
                    });
                }
                self.place_upper();
            }
            "upperdir" => {
                self.overlay_marks();
                self.overlay_upper = Some(unescape(need()?).into());
                self.place_upper();
            }
            "workdir" => {}
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Who names branches as overlayfs does has its marks in them.
    fn overlay_marks(&mut self) {
        self.settings.form = self.form.unwrap_or(Form::Overlay);
    }

    fn place_upper(&mut self) {
        if let Some(path) = self.overlay_upper.take_if(|_| !self.branches.is_empty()) {
            let permission = Some(Permission::of(Access::ReadWrite));
            self.branches.insert(0, BranchArg { path, permission });
        }
    }

    fn plain_word(&mut self, word: &str) -> bool {
        match word {
            "remount" => self.remount = true,
            "ro" => self.read_only = Some(true),
            "rw" => self.read_only = Some(false),
            "inode32" | "inode64" => {
                self.small_numbers = Some(word == "inode32");
                self.settings.small_numbers = word == "inode32";
            }
            "recover" => self.recover = Some(true),
            "norecover" => self.recover = Some(false),
            "nosuid" | "nodev" | "noexec" | "noatime" | "relatime" | "sync" | "dirsync"
            | "nodiratime" | "strictatime" => self.generic.push(word.to_owned()),
            _ => return false,
        }
        true
    }

    fn setting(&mut self, word: &str, key: &str, value: Option<&str>) -> Result<(), OptionError> {
        let settings = &mut self.settings;
        let text = value.unwrap_or_default();
        match (key, value) {
            ("create" | "create_policy", Some(_)) => {
                settings.create = create(word, text)?;
                self.create_named = true;
            }
            ("cpup" | "copyup" | "copyup_policy", Some(_)) => {
                settings.copy_up = copy_up(word, text)?
            }
            ("udba", Some(_)) => {
                settings.direct_changes = match text {
                    "reval" => DirectChanges::Reval,
                    "notify" | "fsnotify" | "inotify" => DirectChanges::Notify,
                    "none" => DirectChanges::None,
                    _ => return Err(bad(word, "reval, notify or none must follow")),
                }
            }
            ("diropq", Some(_)) => {
                settings.always_opaque = match text {
                    "a" | "always" => true,
                    "w" | "whiteouted" => false,
                    _ => return Err(bad(word, "always or whiteouted must follow")),
                }
            }
            ("passthrough", Some(_)) => {
                settings.passthrough = match text {
                    "safe" => Passthrough::Safe,
                    "all" => Passthrough::All,
                    "off" => Passthrough::Off,
                    _ => return Err(bad(word, "safe, all or off must follow")),
                }
            }
            ("transport", Some(_)) => {
                self.transport = Some(match text {
                    "auto" => Transport::Auto,
                    "ring" => Transport::Ring,
                    "device" => Transport::Device,
                    _ => return Err(bad(word, "auto, ring or device must follow")),
                });
                return Ok(());
            }
            ("whform", Some(_)) => {
                let form = Form::parse(text);
                self.form =
                    Some(form.ok_or_else(|| bad(word, "aufs, overlay or auto must follow"))?);
                settings.form = self.form.unwrap_or(settings.form);
                return Ok(());
            }
            ("minfreespace", Some(_)) => settings.reserve = size(word, text)?,
            ("moveonenospc", None | Some("true")) => {
                settings.move_when_full = MoveWhenFull::AsCreate;
            }
            ("nomoveonenospc", None) | ("moveonenospc", Some("false")) => {
                settings.move_when_full = MoveWhenFull::Never;
            }
            ("moveonenospc", Some(_)) => {
                settings.move_when_full = MoveWhenFull::By(create(word, text)?);
            }
            ("moveonenospc_guard", Some(_)) => settings.move_guard = Some(size(word, text)?),
            ("search", Some(_)) => {
                settings.newest = match text {
                    "ff" | "first" => false,
                    "newest" => true,
                    _ => return Err(bad(word, "ff or newest must follow")),
                }
            }
            ("statfs_ignore", Some(_)) => {
                settings.uncounted = match text {
                    "none" => Uncounted::None,
                    "ro" => Uncounted::ReadOnly,
                    "nc" => Uncounted::NoCreate,
                    _ => return Err(bad(word, "none, ro or nc must follow")),
                }
            }
            _ if settings.switch(key, value) => {}
            _ => return Err(OptionError::Unknown(word.to_owned())),
        }
        self.named.push(word.to_owned());
        Ok(())
    }
}

pub(crate) fn bad(option: &str, reason: impl Into<String>) -> OptionError {
    OptionError::Value {
        option: option.to_owned(),
        reason: reason.into(),
    }
}

pub(crate) fn size(word: &str, text: &str) -> Result<Amount, OptionError> {
    Amount::parse(text).ok_or_else(|| bad(word, format!("{text:?} is no size")))
}

impl Settings {
    /// Takes a word that switches something on or off; false if it is none.
    fn switch(&mut self, key: &str, value: Option<&str>) -> bool {
        match (key, value) {
            ("sum", None) => self.sum = true,
            ("nosum", None) => self.sum = false,
            ("shwh", None) => self.show_marks = true,
            ("noshwh", None) => self.show_marks = false,
            ("volatile", None) => self.volatile = true,
            ("novolatile", None) => self.volatile = false,
            ("plink", None) | ("index", Some("on")) => self.plink = Some(true),
            ("noplink", None) | ("index", Some("off")) => self.plink = Some(false),
            ("dirren", None) | ("redirect_dir", Some("on")) => self.renames_dirs = true,
            ("nodirren", None) | ("redirect_dir", Some("off")) => self.renames_dirs = false,
            _ => return false,
        }
        true
    }

    /// Takes over the settings that were named in `options`.
    pub fn update(&mut self, options: &Options) {
        let mut merged = Options {
            settings: self.clone(),
            ..Options::default()
        };
        for word in &options.named {
            // Every word was accepted once already.
            let _ = merged.word(word);
        }
        *self = merged.settings;
    }

    /// Whether the names of one file show its copy all together. A layer for overlayfs cannot say so.
    pub(crate) fn links_names(&self) -> bool {
        self.plink.unwrap_or(self.form != Form::Overlay)
    }

    /// How long an answer about free space is kept, in seconds.
    pub(crate) fn free_seconds(&self) -> u64 {
        match self.create {
            Create::MostFreeSpace(sec)
            | Create::MostFreeSpaceOrRoundRobin(_, sec)
            | Create::ParentMostFreeSpace(sec)
            | Create::ParentMostFreeSpaceOrRoundRobin(_, sec)
            | Create::TopDownMostFreeSpace(_, sec) => sec,
            _ => 1,
        }
    }
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;

//! A member of an archive, as a value.

use sys::fs::Timestamp;

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A further name of a member that came before.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A character device with its numbers.
    Char(u32, u32),
    /// A block device with its numbers.
    Block(u32, u32),
}

/// One member of an archive; its content, if any, is the reader's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name as written.
    pub path: Vec<u8>,
    /// What a link leads to, as written.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length of the file, holes included.
    pub size: u64,
    /// Last written.
    pub mtime: Timestamp,
    /// Last read, where the archive says.
    pub atime: Option<Timestamp>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Which parts of a sparse file are stored.
    pub parts: Option<Vec<(u64, u64)>>,
}

impl Default for Member {
    fn default() -> Self {
        Self {
            path: Vec::new(),
            link: Vec::new(),
            kind: Kind::File,
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Timestamp::default(),
            atime: None,
            xattrs: Vec::new(),
            parts: None,
        }
    }
}

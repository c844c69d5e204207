//! Where an archive's files are read from: a tar file by position, or a directory.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use overlayfs::compression::{self, Compression};
use overlayfs::tar::{Kind, Reader};
use overlayfs::unpack::clean;
use sys::SysError;
use sys::fs::{Dir, Follow, Stat};

use crate::digest::Digest;
use crate::layout::LayoutError;

/// Larger documents are hostile.
const DOCUMENT_LIMIT: u64 = 16 << 20;
/// Old archives link equal layers to one another; real chains have one link.
const LINK_LIMIT: usize = 8;

type Result<T> = std::result::Result<T, LayoutError>;

/// The files of an archive of images.
#[derive(Debug)]
pub(crate) enum Source {
    /// A tar file, and where in it the files lie.
    Archive {
        file: File,
        index: HashMap<PathBuf, Item>,
    },
    /// A layout directory.
    Directory(Dir),
}

/// A member of a tar file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Content { position: u64, size: u64 },
    Link(PathBuf),
}

impl Source {
    /// Reads an archive from a stream, by way of a file that vanishes with the process.
    pub(crate) fn spool(stream: impl Read + Send, beside: &Path) -> Result<Self> {
        let mut file = unnamed_file(beside).map_err(LayoutError::Spool)?;
        let (_, mut plain) = compression::decoder(stream).map_err(LayoutError::Read)?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            let length = match plain.read(&mut buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other.map_err(LayoutError::Read)?,
            };
            io::Write::write_all(&mut file, &buffer[..length])
                .map_err(|error| LayoutError::Spool(SysError::from_io("write()", error)))?;
        }
        drop(plain);
        Self::index(file)
    }

    /// Reads an archive that is a file already; a compressed one, or a pipe, is spooled.
    pub(crate) fn file(file: File, beside: &Path) -> Result<Self> {
        let regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let mut start = [0; 6];
        if !regular {
            return Self::spool(file, beside);
        }
        let at = (&file).stream_position().map_err(LayoutError::Read)?;
        let length = file.read_at(&mut start, at).map_err(LayoutError::Read)?;
        let plain = Compression::detect(&start[..length]);
        if at != 0 || plain != Compression::None {
            return Self::spool(file, beside);
        }
        Self::index(file)
    }

    fn index(mut file: File) -> Result<Self> {
        file.seek(SeekFrom::Start(0)).map_err(LayoutError::Read)?;
        let mut index = HashMap::new();
        let mut reader = Reader::new(BufReader::with_capacity(1 << 20, &file));
        while let Some(member) = reader.next()? {
            let Ok(path) = clean(&member.path) else {
                continue;
            };
            let item = match member.kind {
                Kind::File if member.parts.is_none() => Item::Content {
                    position: reader.position(),
                    size: reader.stored(),
                },
                Kind::HardLink => match clean(&member.link) {
                    Ok(target) => Item::Link(target),
                    Err(_) => continue,
                },
                Kind::Symlink => {
                    let parent = path.parent().unwrap_or(Path::new(""));
                    let target = [
                        parent.as_os_str().as_encoded_bytes(),
                        b"/",
                        member.link.as_slice(),
                    ]
                    .concat();
                    match clean(&target) {
                        Ok(target) => Item::Link(target),
                        Err(_) => continue,
                    }
                }
                _ => continue,
            };
            index.insert(path, item);
        }
        drop(reader);
        Ok(Self::Archive { file, index })
    }

    /// Whether there is such a file.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }

    /// Opens a file, and tells its size.
    pub(crate) fn open(&self, name: &str) -> Result<(Box<dyn Read + Send + '_>, u64)> {
        let missing = || LayoutError::Missing(name.to_owned());
        let mut path = clean(name.as_bytes()).map_err(|_| missing())?;
        match self {
            Self::Archive { file, index } => {
                for _ in 0..LINK_LIMIT {
                    match index.get(&path).ok_or_else(missing)? {
                        Item::Content { position, size } => {
                            let part = Part {
                                file,
                                at: *position,
                                end: position + size,
                            };
                            return Ok((Box::new(BufReader::with_capacity(1 << 18, part)), *size));
                        }
                        Item::Link(target) => path.clone_from(target),
                    }
                }
                Err(missing())
            }
            Self::Directory(dir) => {
                let file = dir
                    .open_file(&path, Follow::InRoot)
                    .map_err(|_| missing())?;
                let stat = Stat::of(&file).map_err(|_| missing())?;
                if stat.kind != sys::fs::Kind::File {
                    return Err(missing());
                }
                Ok((Box::new(file), stat.size))
            }
        }
    }

    /// Reads a document.
    pub(crate) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let (reader, size) = self.open(name)?;
        if size > DOCUMENT_LIMIT {
            return Err(LayoutError::TooLarge(name.to_owned()));
        }
        let mut text = Vec::new();
        reader
            .take(DOCUMENT_LIMIT)
            .read_to_end(&mut text)
            .map_err(LayoutError::Read)?;
        Ok(text)
    }

    /// Reads a document whose digest is known.
    pub(crate) fn verified(&self, name: &str, expected: Digest) -> Result<Vec<u8>> {
        let text = self.document(name)?;
        let found = Digest::of(&text);
        if found != expected {
            return Err(LayoutError::WrongDigest {
                name: name.to_owned(),
                expected,
                found,
            });
        }
        Ok(text)
    }
}

/// A file without a name: whatever happens, it is gone with the process.
fn unnamed_file(beside: &Path) -> sys::Result<File> {
    let dir = Dir::ensure(beside, 0o700)?;
    let name = format!(".spool-{}", std::process::id());
    if dir.find(&name)?.is_some() {
        dir.unlink(&name)?;
    }
    let file = dir.create(&name, 0o600)?;
    dir.unlink(&name)?;
    Ok(file)
}

/// A part of a file, read by position so that several may be read at once.
struct Part<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let length = self.file.read_at(&mut buffer[..wanted], self.at)?;
        if length == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += length as u64;
        Ok(length)
    }
}

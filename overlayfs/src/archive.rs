//! What of an archive is not in the tree it became: enough to write the same archive again.
//!
//! ```text
//!   archive    zstd of records:  0 LENGTH BYTES   bytes of the archive: headers, padding
//!                                1 LENGTH         content of the next file of `contents`
//!   contents   the files' paths, in the order of the records, each ended by a zero
//! ```
//!
//! Lengths have eight bytes, the least significant first. The bytes are verified against the
//! layer's digest whenever they are written out.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use sys::fs::{Dir, Follow};

use crate::id::{DiffId, Digest};
use crate::tar::Observer;

const RAW: u8 = 0;
const CONTENT: u8 = 1;
const ARCHIVE: &str = "archive";
const CONTENTS: &str = "contents";

/// Writes the records while an archive is unpacked.
pub(crate) struct Recorder {
    stream: zstd::Encoder<'static, std::fs::File>,
    pending: Vec<u8>,
    contents: Vec<Vec<u8>>,
}

impl Recorder {
    /// Starts the records in a layer's directory.
    pub(crate) fn create(layer: &Dir) -> io::Result<Self> {
        let file = layer.create(ARCHIVE, 0o600).map_err(io::Error::other)?;
        Ok(Self {
            stream: zstd::Encoder::new(file, 1)?,
            pending: Vec::new(),
            contents: Vec::new(),
        })
    }

    /// Notes that the content of a file comes next.
    pub(crate) fn content(&mut self, path: &[u8], length: u64) -> io::Result<()> {
        self.flush_raw()?;
        self.stream.write_all(&[CONTENT])?;
        self.stream.write_all(&length.to_le_bytes())?;
        self.contents.push(path.to_vec());
        Ok(())
    }

    /// Notes that what lay at a path, or beneath it, was moved.
    pub(crate) fn moved(&mut self, from: &[u8], to: &[u8]) {
        for path in &mut self.contents {
            let beneath = path.strip_prefix(from);
            if let Some(rest) = beneath
                && (rest.is_empty() || rest[0] == b'/')
            {
                *path = [to, rest].concat();
            }
        }
    }

    /// Ends the records.
    pub(crate) fn finish(mut self, layer: &Dir) -> io::Result<()> {
        self.flush_raw()?;
        self.stream.finish()?;
        let mut file = layer.create(CONTENTS, 0o600).map_err(io::Error::other)?;
        let mut text = self.contents.join(&0);
        if !text.is_empty() {
            text.push(0);
        }
        file.write_all(&text)
    }

    fn flush_raw(&mut self) -> io::Result<()> {
        if !self.pending.is_empty() {
            self.stream.write_all(&[RAW])?;
            self.stream
                .write_all(&(self.pending.len() as u64).to_le_bytes())?;
            self.stream.write_all(&self.pending)?;
            self.pending.clear();
        }
        Ok(())
    }
}

impl Observer for Recorder {
    fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(bytes);
        if self.pending.len() >= 1 << 16 {
            self.flush_raw()?;
        }
        Ok(())
    }
}

/// An archive that cannot be written again.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The layer's files cannot be read, or the output cannot be written.
    #[error("cannot write layer {layer} out")]
    Copy {
        /// The layer.
        layer: DiffId,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The files are not what they were when the layer was unpacked.
    #[error("layer {0} is damaged: its files no longer make up the archive it came from")]
    Damaged(DiffId),
}

/// Writes the archive that a layer came from, byte for byte, and verifies it on the way.
pub(crate) fn write_again(
    layer: &Dir,
    diff_id: DiffId,
    output: &mut dyn Write,
) -> Result<u64, ArchiveError> {
    let mut output = Hashed {
        output,
        hash: Sha256::new(),
        size: 0,
    };
    copy_records(layer, &mut output).map_err(|source| {
        if source.kind() == io::ErrorKind::InvalidData {
            ArchiveError::Damaged(diff_id)
        } else {
            ArchiveError::Copy {
                layer: diff_id,
                source,
            }
        }
    })?;
    if Digest::from_bytes(output.hash.finalize().into()) != diff_id.0 {
        return Err(ArchiveError::Damaged(diff_id));
    }
    Ok(output.size)
}

fn copy_records(layer: &Dir, output: &mut impl Write) -> io::Result<()> {
    let file = layer.read(ARCHIVE).map_err(io::Error::other)?;
    let mut records = BufReader::new(zstd::Decoder::new(file)?);
    let mut contents = BufReader::new(layer.read(CONTENTS).map_err(io::Error::other)?);
    while !records.fill_buf()?.is_empty() {
        let mut head = [0; 9];
        records.read_exact(&mut head)?;
        let mut length = [0; 8];
        length.copy_from_slice(&head[1..]);
        let length = u64::from_le_bytes(length);
        let copied = match head[0] {
            RAW => io::copy(&mut records.by_ref().take(length), output)?,
            CONTENT => {
                let mut path = Vec::new();
                contents.read_until(0, &mut path)?;
                path.pop();
                copy_content(layer, &path, length, output)?
            }
            _ => 0,
        };
        if copied != length || head[0] > CONTENT {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}

fn copy_content(layer: &Dir, path: &[u8], length: u64, output: &mut impl Write) -> io::Result<u64> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let gone = |_| io::Error::from(io::ErrorKind::InvalidData);
    // The parents were resolved in the tree when it was unpacked, so they are now.
    let (Some(name), Ok(inside)) = (path.file_name(), path.strip_prefix("diff")) else {
        let kept = layer
            .enter(path.parent().unwrap_or(Path::new("")), Follow::Never)
            .map_err(gone)?;
        let file = kept
            .read(path.file_name().unwrap_or_default())
            .map_err(gone)?;
        return io::copy(&mut file.take(length), output);
    };
    let parent = layer
        .enter("diff", Follow::Never)
        .and_then(|tree| tree.enter(inside.parent().unwrap_or(Path::new("")), Follow::InRoot))
        .map_err(gone)?;
    let file = parent.read(name).map_err(gone)?;
    io::copy(&mut file.take(length), output)
}

struct Hashed<'a> {
    output: &'a mut dyn Write,
    hash: Sha256,
    size: u64,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.output.write(bytes)?;
        self.hash.update(&bytes[..length]);
        self.size += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

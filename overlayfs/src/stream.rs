//! A stream that is read, decompressed and hashed by a thread of its own.
//!
//! ```text
//!   source ─► hash ─► decompress ─► hash ─► pieces ─► whoever unpacks
//!   └────────────── this thread ──────────┘
//! ```
//!
//! The pieces go back to the thread when they were used, so the memory is bounded and reused.
//! Never used where a container is started: that path has one thread.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sha2::{Digest as _, Sha256};

use crate::compression::{self, Compression};
use crate::id::Digest;

const PIECE: usize = 1 << 19;
const PIECES: usize = 6;

/// What was found out about a stream when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Of the stream as it came.
    pub stored: Digest,
    /// Of what was in it.
    pub plain: Digest,
    /// Length of the stream as it came.
    pub stored_size: u64,
    /// Length of what was in it.
    pub plain_size: u64,
    /// How it was compressed.
    pub compression: Compression,
}

type Piece = io::Result<Vec<u8>>;

/// The reading side: what was in the stream.
#[derive(Debug)]
pub struct Plain {
    full: Receiver<Piece>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    at: usize,
}

/// Reads a stream in a thread of its own while `work` uses what is in it.
///
/// All of the stream is read, also what `work` left, unless `work` fails.
///
/// # Errors
/// Those of `work`, and those of reading, made into the same error by `wrap`.
pub fn digested<T, E>(
    source: impl Read + Send,
    work: impl FnOnce(&mut Plain) -> Result<T, E>,
    wrap: impl Fn(io::Error) -> E,
) -> Result<(T, Digests), E> {
    std::thread::scope(|scope| {
        let (give_full, full) = sync_channel(PIECES);
        let (empty, take_empty) = sync_channel(PIECES);
        for _ in 0..PIECES {
            // The channel was just made with room for all of them.
            let _ = empty.send(Vec::new());
        }
        let pump = scope.spawn(move || pump(source, &give_full, &take_empty));
        let mut plain = Plain {
            full,
            empty,
            current: Vec::new(),
            at: 0,
        };
        let worked = work(&mut plain).and_then(|result| {
            io::copy(&mut plain, &mut io::sink()).map_err(&wrap)?;
            Ok(result)
        });
        drop(plain);
        let digests = pump
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the reading thread panicked")));
        let result = worked?;
        Ok((result, digests.map_err(wrap)?))
    })
}

fn pump(
    source: impl Read + Send,
    full: &SyncSender<Piece>,
    empty: &Receiver<Vec<u8>>,
) -> io::Result<Digests> {
    let mut stored = Hashing::new(source);
    let mut hash = Sha256::new();
    let mut plain_size = 0;
    let mut compression = Compression::None;
    let mut wanted = true;
    let mut run = || -> io::Result<()> {
        let (kind, mut decoder) = compression::decoder(&mut stored)?;
        compression = kind;
        // The receiver hangs up when its work failed: nobody wants the rest.
        loop {
            let Ok(mut piece) = empty.recv() else {
                wanted = false;
                break;
            };
            piece.resize(PIECE, 0);
            let length = read_full(&mut decoder, &mut piece)?;
            if length == 0 {
                break;
            }
            piece.truncate(length);
            hash.update(&piece);
            plain_size += length as u64;
            if full.send(Ok(piece)).is_err() {
                wanted = false;
                break;
            }
        }
        Ok(())
    };
    let mut ran = run();
    if wanted && ran.is_ok() {
        ran = io::copy(&mut stored, &mut io::sink()).map(drop);
    }
    if let Err(error) = &ran {
        let _ = full.send(Err(clone_error(error)));
    }
    ran?;
    Ok(Digests {
        stored: Digest::from_bytes(stored.hash.finalize().into()),
        plain: Digest::from_bytes(hash.finalize().into()),
        stored_size: stored.size,
        plain_size,
        compression,
    })
}

fn read_full(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(got) => length += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

fn clone_error(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

struct Hashing<R> {
    source: R,
    hash: Sha256,
    size: u64,
}

impl<R> Hashing<R> {
    fn new(source: R) -> Self {
        Self {
            source,
            hash: Sha256::new(),
            size: 0,
        }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.hash.update(&buffer[..length]);
        self.size += length as u64;
        Ok(length)
    }
}

impl BufRead for Plain {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.current.len() {
            let used = std::mem::take(&mut self.current);
            self.at = 0;
            if used.capacity() > 0 {
                let _ = self.empty.send(used);
            }
            match self.full.recv() {
                Ok(Ok(piece)) => self.current = piece,
                Ok(Err(error)) => return Err(error),
                // The thread ended: so did the stream.
                Err(_) => {}
            }
        }
        Ok(&self.current[self.at..])
    }

    fn consume(&mut self, length: usize) {
        self.at += length;
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let piece = self.fill_buf()?;
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn content() -> Vec<u8> {
        (0..3_000_000_u32)
            .map(|n| (n.wrapping_mul(n) >> 7) as u8)
            .collect()
    }

    fn read_all(stored: &[u8]) -> io::Result<(Vec<u8>, Digests)> {
        let work = |plain: &mut Plain| {
            let mut got = Vec::new();
            plain.read_to_end(&mut got).map(|_| got)
        };
        digested(stored, work, |error| error)
    }

    fn xz(bytes: &[u8]) -> Vec<u8> {
        let options = lzma_rust2::XzOptions::with_preset(1);
        let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn hashes_both_sides_of_every_compression() {
        let content = content();
        let (first, second) = content.split_at(1_000_000);
        let zstd = zstd::encode_all(&content[..], 1).unwrap();
        let twice = [xz(first), xz(second)].concat();
        for (stored, compression) in [
            (xz(&content), Compression::Xz),
            (twice, Compression::Xz),
            (bzip2(&content), Compression::Bzip2),
            (content.clone(), Compression::None),
            (gzip(&content), Compression::Gzip),
            ([gzip(first), gzip(second)].concat(), Compression::Gzip),
            (zstd, Compression::Zstd),
            (Vec::new(), Compression::None),
        ] {
            let expected = if stored.is_empty() {
                &[][..]
            } else {
                &content[..]
            };
            let (got, digests) = read_all(&stored).unwrap();
            assert!(got == expected);
            assert_eq!(digests.stored, Digest::of(&stored));
            assert_eq!(digests.plain, Digest::of(expected));
            assert_eq!(digests.stored_size, stored.len() as u64);
            assert_eq!(digests.plain_size, expected.len() as u64);
            assert_eq!(digests.compression, compression);
        }
    }

    #[test]
    fn a_cut_or_damaged_stream_is_an_error() {
        let mut packed = gzip(&content());
        assert!(read_all(&packed[..packed.len() - 9]).is_err());
        assert!(read_all(&zstd::encode_all(&content()[..], 1).unwrap()[..5000]).is_err());
        let middle = packed.len() / 2;
        packed[middle] ^= 0xff;
        assert!(read_all(&packed).is_err());
    }

    #[test]
    fn work_that_fails_ends_the_thread() {
        let failed: io::Result<((), _)> =
            digested(io::repeat(7), |_| Err(io::Error::other("enough")), |e| e);
        assert_eq!(failed.unwrap_err().to_string(), "enough");
    }

    #[test]
    fn what_the_work_leaves_is_hashed_as_well() {
        let content = content();
        let ((), digests) = digested(&content[..], |_| Ok::<_, io::Error>(()), |e| e).unwrap();
        assert_eq!(digests.plain, Digest::of(&content));
    }
}

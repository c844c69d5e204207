//! Which compression a stream has, told by its first bytes, and how to undo it.

use std::io::{self, BufRead, BufReader, Read};

use lzma_rust2::XzReader;

/// KiB that an xz stream may ask for: enough for the highest setting of xz itself.
const XZ_MEMORY: u32 = 80 << 10;

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, one member or several.
    Gzip,
    /// Zstandard.
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

impl Compression {
    /// Tells the compression by a stream's first bytes.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// Gives what is in a stream, whichever way it is compressed.
///
/// # Errors
/// Those of the stream.
pub fn decoder<'a>(
    stream: impl Read + Send + 'a,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut stream = BufReader::with_capacity(1 << 18, stream);
    let mut start = [0; 6];
    let mut length = 0;
    // A pipe may give its first bytes one by one.
    while length < start.len() {
        match stream.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(got) => length += got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let compression = Compression::detect(&start[..length]);
    let stream = io::Cursor::new(start).take(length as u64).chain(stream);
    let decoder: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(stream),
        Compression::Gzip => Box::new(Gzip::new(stream)),
        Compression::Zstd => Box::new(zstd::Decoder::with_buffer(stream)?),
        Compression::Xz => Box::new(XzReader::new_mem_limit(stream, true, XZ_MEMORY)),
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(stream)),
    };
    Ok((compression, decoder))
}

/// gzip members one after the other; zeros after the last are padding.
struct Gzip<R: BufRead> {
    member: Option<flate2::bufread::GzDecoder<R>>,
}

impl<R: BufRead> Gzip<R> {
    fn new(stream: R) -> Self {
        Self {
            member: Some(flate2::bufread::GzDecoder::new(stream)),
        }
    }
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(member) = &mut self.member {
            let length = member.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            let Some(mut stream) = self.member.take().map(|member| member.into_inner()) else {
                break;
            };
            if stream.fill_buf()?.starts_with(&[0x1f]) {
                self.member = Some(flate2::bufread::GzDecoder::new(stream));
            }
        }
        Ok(0)
    }
}

//! Writing a sparse file: what is stored goes where the map says, the rest stays a hole.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;

use super::UnpackError;
use super::contents::Contents;
use crate::tar::Reader;

/// Writes the parts that a map names; the map was checked to hold just what is stored.
pub(super) fn write_parts<R: BufRead, O: Contents>(
    file: &File,
    parts: &[(u64, u64)],
    size: u64,
    reader: &mut Reader<R, O>,
    write: &dyn Fn(io::Error) -> UnpackError,
) -> Result<(), UnpackError> {
    file.set_len(size).map_err(write)?;
    let mut parts = parts.iter().copied();
    let (mut offset, mut left) = parts.next().unwrap_or_default();
    reader.observed_content(|mut piece| {
        while !piece.is_empty() {
            while left == 0 {
                // The map was checked to hold just what is stored.
                let Some(part) = parts.next() else {
                    return Ok(());
                };
                (offset, left) = part;
            }
            let length = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            file.write_all_at(&piece[..length], offset).map_err(write)?;
            offset += length as u64;
            left -= length as u64;
            piece = &piece[length..];
        }
        Ok(())
    })
}

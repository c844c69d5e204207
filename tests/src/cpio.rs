//! A directory tree as the archive that a kernel unpacks when it starts (cpio, form "newc").

use std::fs;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

/// Writes everything below a directory; all of it belongs to root.
///
/// # Errors
/// When something cannot be read or written.
pub fn write(tree: &Path, to: &mut impl Write) -> io::Result<()> {
    let mut number = 1;
    entries(tree, tree, to, &mut number)?;
    // The console must exist before anything can be mounted.
    entry(to, number, b"dev/console", 0o20_600, (5, 1), b"")?;
    entry(to, 0, b"TRAILER!!!", 0, (0, 0), b"")
}

fn entries(top: &Path, directory: &Path, to: &mut impl Write, number: &mut u32) -> io::Result<()> {
    let mut paths: Vec<_> = fs::read_dir(directory)?
        .map(|one| one.map(|one| one.path()))
        .collect::<io::Result<_>>()?;
    paths.sort();
    for path in paths {
        let about = fs::symlink_metadata(&path)?;
        let name = path
            .strip_prefix(top)
            .unwrap_or(&path)
            .as_os_str()
            .as_bytes();
        let content = if about.is_symlink() {
            fs::read_link(&path)?.as_os_str().as_bytes().to_owned()
        } else if about.is_file() {
            fs::read(&path)?
        } else {
            Vec::new()
        };
        *number += 1;
        let kind = about.mode() & 0o170_000;
        entry(
            to,
            *number,
            name,
            kind | about.permissions().mode() & 0o7777,
            (0, 0),
            &content,
        )?;
        if about.is_dir() {
            entries(top, &path, to, number)?;
        }
    }
    Ok(())
}

fn entry(
    to: &mut impl Write,
    number: u32,
    name: &[u8],
    mode: u32,
    device: (u32, u32),
    content: &[u8],
) -> io::Result<()> {
    let fields = [
        number,
        mode,
        0,
        0,
        1,
        0,
        u32::try_from(content.len()).map_err(io::Error::other)?,
        0,
        0,
        device.0,
        device.1,
        u32::try_from(name.len() + 1).map_err(io::Error::other)?,
        0,
    ];
    to.write_all(b"070701")?;
    for field in fields {
        write!(to, "{field:08X}")?;
    }
    to.write_all(name)?;
    to.write_all(b"\0")?;
    pad(to, 110 + name.len() + 1)?;
    to.write_all(content)?;
    pad(to, content.len())
}

fn pad(to: &mut impl Write, written: usize) -> io::Result<()> {
    to.write_all(&[0; 3][..written.next_multiple_of(4) - written])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_padded_to_four_bytes() {
        let tree = tempfile::tempdir().unwrap();
        fs::write(tree.path().join("file"), "12345").unwrap();
        let mut archive = Vec::new();
        write(tree.path(), &mut archive).unwrap();
        assert!(archive.starts_with(b"070701"));
        assert_eq!(archive.len() % 4, 0);
        let at = archive
            .windows(5)
            .position(|part| part == b"12345")
            .unwrap();
        assert_eq!(at % 4, 0);
        assert!(archive.windows(11).any(|part| part == b"TRAILER!!!\0"));
    }
}

//! Copying the content of a file: shared where the file system can, holes kept.

use std::fmt::Display;
use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{self as rfs, SeekFrom};
use rustix::io::Errno;

use crate::error::{Result, SysResultExt};

/// Copies all content of one open file to an empty one.
///
/// A file system that shares blocks shares them; elsewhere the kernel copies what is not a hole.
/// `what` names the files in messages.
///
/// # Errors
/// Those of fstat, lseek, copy_file_range and ftruncate.
pub fn copy_data(from: &File, to: &File, what: impl Display) -> Result<u64> {
    let size = from.metadata().call(|| format!("fstat({what})"))?.len();
    if size == 0 || rfs::ioctl_ficlone(to, from).is_ok() {
        return Ok(size);
    }
    rfs::ftruncate(to, size).call(|| format!("ftruncate({what}, {size})"))?;
    each_part(from, size, &what, |start, end| {
        copy_range(from, to, start, end, &what)
    })?;
    Ok(size)
}

/// The parts of an open file that are no holes, as offset and length; all of it where the file
/// system does not tell. Moves the file's offset. `what` names the file in messages.
///
/// # Errors
/// Those of lseek.
pub fn data_parts(file: &File, size: u64, what: impl Display) -> Result<Vec<(u64, u64)>> {
    let mut parts = Vec::new();
    each_part(file, size, &what, |start, end| {
        parts.push((start, end - start));
        Ok(())
    })?;
    Ok(parts)
}

fn each_part(
    file: &File,
    size: u64,
    what: &impl Display,
    mut work: impl FnMut(u64, u64) -> Result<()>,
) -> Result<()> {
    let mut at = 0;
    while at < size {
        let start = match rfs::seek(file, SeekFrom::Data(at)) {
            // It has grown meanwhile.
            Ok(start) if start >= size => break,
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(errno) => return Err(errno).call(|| format!("lseek({what}, {at}, SEEK_DATA)")),
        };
        let end = rfs::seek(file, SeekFrom::Hole(start))
            .unwrap_or(size)
            .min(size);
        work(start, end)?;
        at = end.max(start + 1);
    }
    Ok(())
}

fn copy_range(from: &File, to: &File, start: u64, end: u64, what: &impl Display) -> Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let wanted = usize::try_from(end - read_at).unwrap_or(usize::MAX);
        let copied = rfs::copy_file_range(
            from,
            Some(&mut read_at),
            to,
            Some(&mut write_at),
            wanted.min(1 << 30),
        );
        match copied {
            // The file was made shorter meanwhile.
            Ok(0) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::XDEV | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {
                return copy_by_hand(from, to, read_at, end, what);
            }
            Err(errno) => return Err(errno).call(|| format!("copy_file_range({what})")),
        }
    }
    Ok(())
}

fn copy_by_hand(
    from: impl AsFd,
    to: impl AsFd,
    mut at: u64,
    end: u64,
    what: &impl Display,
) -> Result<()> {
    let mut buffer = vec![0; 1 << 18];
    while at < end {
        let wanted = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let got = rustix::io::retry_on_intr(|| rustix::io::pread(&from, &mut buffer[..wanted], at))
            .call(|| format!("pread({what})"))?;
        if got == 0 {
            return Ok(());
        }
        let mut written = 0;
        while written < got {
            let offset = at + written as u64;
            written += rustix::io::retry_on_intr(|| {
                rustix::io::pwrite(&to, &buffer[written..got], offset)
            })
            .call(|| format!("pwrite({what})"))?;
        }
        at += got as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, Write};
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn copies_content_and_keeps_holes() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let mut from = File::create_new(path("from")).unwrap();
        from.seek(std::io::SeekFrom::Start(8 << 20)).unwrap();
        from.write_all(b"middle").unwrap();
        from.set_len(16 << 20).unwrap();
        let from = File::open(path("from")).unwrap();
        let to = File::create_new(path("to")).unwrap();
        assert_eq!(copy_data(&from, &to, "x").unwrap(), 16 << 20);
        assert!(std::fs::read(path("from")).unwrap() == std::fs::read(path("to")).unwrap());
        assert!(to.metadata().unwrap().blocks() < 1000);
        let parts = data_parts(&from, 16 << 20, "x").unwrap();
        let [(start, length)] = parts[..] else {
            panic!("{parts:?}");
        };
        assert!(
            start <= 8 << 20 && start + length >= (8 << 20) + 6,
            "{parts:?}"
        );
    }

    #[test]
    fn copies_by_hand_where_the_kernel_will_not() {
        let root = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..700_000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(root.path().join("from"), &content).unwrap();
        let from = File::open(root.path().join("from")).unwrap();
        let to = File::create_new(root.path().join("to")).unwrap();
        copy_by_hand(&from, &to, 0, content.len() as u64, &"x").unwrap();
        assert!(std::fs::read(root.path().join("to")).unwrap() == content);
    }
}

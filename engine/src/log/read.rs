//! Reading a log: from the end, between two times, and on while it grows.
//!
//! Only what is asked for is read: `--tail` looks for its beginning from the end of the newest
//! file backwards. A reader keeps the file open that it reads, so that nothing is missed when it
//! is put aside meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::encode::Entry;
use super::json_file::numbered;

/// How much is read at once.
const BLOCK: usize = 64 * 1024;

/// The reader of one container's log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    /// What is still to be read: oldest first, the last is the one being written.
    files: VecDeque<File>,
    /// The beginning of a line whose end is not written yet.
    line: Vec<u8>,
}

impl LogReader {
    /// Opens the log. With `tail` the reader stands before the last so many lines, which may reach
    /// back into older files. A log that does not exist is empty.
    ///
    /// # Errors
    /// When a file is there and cannot be read.
    pub fn open(path: &Path, max_file: u32, tail: Option<u64>) -> io::Result<Self> {
        let mut files = VecDeque::new();
        let mut wanted = tail;
        for number in 0..max_file.max(1) {
            if wanted == Some(0) && number > 0 {
                break;
            }
            let mut file = match File::open(numbered(path, number)) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(error),
            };
            if let Some(lines) = wanted {
                let (position, found) = seek_tail(&file, lines)?;
                file.seek(SeekFrom::Start(position))?;
                wanted = Some(lines - found);
            }
            files.push_front(file);
        }
        Ok(Self {
            path: path.to_owned(),
            files,
            line: Vec::new(),
        })
    }

    /// Hands over every whole line that is there now, in order. `false` from `take` ends it.
    ///
    /// A line that is no entry (the machine lost power while it was written) is passed over.
    ///
    /// # Errors
    /// When the file cannot be read, or what `take` says.
    pub fn read(&mut self, take: &mut dyn FnMut(Entry) -> io::Result<bool>) -> io::Result<bool> {
        let mut block = vec![0; BLOCK];
        loop {
            let Some(file) = self.files.front_mut() else {
                if !self.open_current()? {
                    return Ok(true);
                }
                continue;
            };
            let length = file.read(&mut block)?;
            if length > 0 {
                if !self.lines(&block[..length], take)? {
                    return Ok(false);
                }
                continue;
            }
            if self.files.len() > 1 {
                self.line.clear();
                self.files.pop_front();
            } else if self.is_put_aside()? {
                // Its last lines may have come after the end was met: read it once more, then on.
                if !self.open_current()? {
                    return Ok(true);
                }
            } else {
                return Ok(true);
            }
        }
    }

    fn lines(
        &mut self,
        mut block: &[u8],
        take: &mut dyn FnMut(Entry) -> io::Result<bool>,
    ) -> io::Result<bool> {
        while let Some(at) = block.iter().position(|byte| *byte == b'\n') {
            let entry = if self.line.is_empty() {
                serde_json::from_slice(&block[..at])
            } else {
                self.line.extend_from_slice(&block[..at]);
                let entry = serde_json::from_slice(&self.line);
                self.line.clear();
                entry
            };
            block = &block[at + 1..];
            if let Ok(entry) = entry
                && !take(entry)?
            {
                return Ok(false);
            }
        }
        self.line.extend_from_slice(block);
        Ok(true)
    }

    /// Whether the only open file is no longer the one being written.
    fn is_put_aside(&self) -> io::Result<bool> {
        let Some(file) = self.files.front() else {
            return Ok(false);
        };
        let own = file.metadata()?;
        match std::fs::metadata(&self.path) {
            Ok(now) => Ok((now.dev(), now.ino()) != (own.dev(), own.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn open_current(&mut self) -> io::Result<bool> {
        match File::open(&self.path) {
            Ok(file) => {
                self.files.push_back(file);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Where the last `wanted` lines of a file begin, and how many they are.
fn seek_tail(file: &File, wanted: u64) -> io::Result<(u64, u64)> {
    let mut end = file.metadata()?.len();
    if wanted == 0 {
        return Ok((end, 0));
    }
    let (mut block, mut found, mut last) = (vec![0; BLOCK], 0_u64, true);
    while end > 0 {
        let length = usize::try_from(end).unwrap_or(BLOCK).min(BLOCK);
        let begin = end - length as u64;
        file.read_exact_at(&mut block[..length], begin)?;
        for at in (0..length).rev() {
            if block[at] != b'\n' {
                last = false;
                continue;
            }
            // The line feed at the very end closes the last line and begins none.
            if !last {
                found += 1;
                if found == wanted {
                    return Ok((begin + at as u64 + 1, found));
                }
            }
            last = false;
        }
        end = begin;
    }
    // The first line has no line feed before it.
    Ok((0, found + u64::from(!last)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{JsonFile, LogOptions, Stream};

    fn all(reader: &mut LogReader) -> Vec<String> {
        let mut texts = Vec::new();
        reader
            .read(&mut |entry| {
                texts.push(entry.log.trim_end().to_owned());
                Ok(true)
            })
            .unwrap();
        texts
    }

    fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
        range.map(|number| format!("line {number}")).collect()
    }

    fn written(options: LogOptions, lines: u32) -> (tempfile::TempDir, PathBuf, JsonFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("json.log");
        let mut log = JsonFile::new(&path, options);
        for number in 0..lines {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), "T");
        }
        (directory, path, log)
    }

    #[test]
    fn the_tail_of_a_log() {
        let (_directory, path, _log) = written(LogOptions::default(), 3000);
        for tail in [0, 1, 2, 1000, 2999, 3000, 5000] {
            let mut reader = LogReader::open(&path, 1, Some(tail)).unwrap();
            let from = 3000 - u32::try_from(tail.min(3000)).unwrap();
            assert_eq!(all(&mut reader), numbers(from..3000), "{tail}");
        }
        assert_eq!(
            all(&mut LogReader::open(&path, 1, None).unwrap()).len(),
            3000
        );
    }

    #[test]
    fn a_tail_reaches_into_older_files() {
        let options = LogOptions {
            max_size: Some(1000),
            max_file: 4,
        };
        let (_directory, path, _log) = written(options, 60);
        let mut reader = LogReader::open(&path, 4, Some(30)).unwrap();
        assert_eq!(all(&mut reader), numbers(30..60));
    }

    #[test]
    fn a_log_that_is_not_there_is_empty_and_may_appear() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("json.log");
        let mut reader = LogReader::open(&path, 1, Some(5)).unwrap();
        assert!(all(&mut reader).is_empty());
        let mut log = JsonFile::new(&path, LogOptions::default());
        log.write(Stream::Stdout, b"hello\n", "T");
        assert_eq!(all(&mut reader), ["hello"]);
        assert!(all(&mut reader).is_empty());
    }

    #[test]
    fn a_reader_follows_over_files_put_aside() {
        let options = LogOptions {
            max_size: Some(300),
            max_file: 2,
        };
        let (_directory, path, mut log) = written(options, 0);
        let mut reader = LogReader::open(&path, 2, None).unwrap();
        let mut seen = Vec::new();
        for number in 0..100 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), "T");
            seen.extend(all(&mut reader));
        }
        assert_eq!(seen, numbers(0..100));
    }

    #[test]
    fn half_a_line_waits_for_its_end_and_rubbish_is_passed_over() {
        use std::io::Write;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("json.log");
        let mut file = File::create(&path).unwrap();
        let mut reader = LogReader::open(&path, 1, None).unwrap();
        file.write_all(b"{\"log\":\"a\\n\",\"stream\":\"std")
            .unwrap();
        assert!(all(&mut reader).is_empty());
        file.write_all(b"out\",\"time\":\"T\"}\n\0\0rubbish\n")
            .unwrap();
        assert_eq!(all(&mut reader), ["a"]);
        file.write_all(b"{\"log\":\"b\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n")
            .unwrap();
        assert_eq!(all(&mut reader), ["b"]);
    }
}

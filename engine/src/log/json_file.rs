//! The driver `json-file`: cuts the streams into lines, writes them, puts full files aside.
//!
//! `json.log` is the file being written, `json.log.1` the one before it, and so on. A line longer
//! than 16 KiB is written in parts of which only the last ends with a line feed. A part is also
//! written when the stream ends. A file that cannot be written (a full disk) does not stop the
//! container: the loss is counted and said in the log itself once there is room again.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::Stream;
use super::encode;
use super::options::LogOptions;

/// The longest part of a line.
const PART: usize = 16 * 1024;

/// When so much is encoded it is written, although more could be.
const BATCH: usize = 128 * 1024;

/// The writer of one container's log.
#[derive(Debug)]
pub struct JsonFile {
    path: PathBuf,
    options: LogOptions,
    /// The same in every entry.
    attributes: Vec<u8>,
    /// Opened with the first line: most containers of a test or a script never write one.
    file: Option<File>,
    size: u64,
    /// What has not met its line feed yet, per stream.
    parts: [Vec<u8>; 2],
    out: Vec<u8>,
    /// Bytes of entries that could not be written.
    lost: u64,
}

impl JsonFile {
    /// The writer of this file, which is made (mode 0640) or appended to with the first line.
    pub fn new(path: &Path, options: LogOptions) -> Self {
        Self {
            path: path.to_owned(),
            options,
            attributes: Vec::new(),
            file: None,
            size: 0,
            parts: [Vec::new(), Vec::new()],
            out: Vec::new(),
            lost: 0,
        }
    }

    /// Puts these beside every entry.
    #[must_use]
    pub fn with_attributes(mut self, attributes: &BTreeMap<String, String>) -> Self {
        self.attributes = encode::attributes(attributes);
        self
    }

    /// Takes what came out of a stream at this time.
    pub fn write(&mut self, stream: Stream, mut bytes: &[u8], time: &str) {
        let mut part = std::mem::take(&mut self.parts[stream as usize]);
        while !bytes.is_empty() {
            let room = PART - part.len();
            let window = &bytes[..bytes.len().min(room)];
            let take = match window.iter().position(|byte| *byte == b'\n') {
                Some(at) => at + 1,
                None if window.len() < room => {
                    part.extend_from_slice(window);
                    break;
                }
                None => whole_characters(&part, window),
            };
            if part.is_empty() {
                self.entry(&bytes[..take], stream, time);
            } else {
                part.extend_from_slice(&bytes[..take]);
                self.entry(&part, stream, time);
                part.clear();
            }
            bytes = &bytes[take..];
        }
        self.parts[stream as usize] = part;
        self.flush();
    }

    /// The stream ended: what is left of a line is written.
    pub fn end(&mut self, stream: Stream, time: &str) {
        let part = std::mem::take(&mut self.parts[stream as usize]);
        if !part.is_empty() {
            self.entry(&part, stream, time);
            self.flush();
        }
    }

    fn entry(&mut self, text: &[u8], stream: Stream, time: &str) {
        encode::entry(&mut self.out, text, stream, &self.attributes, time);
        let full = self
            .options
            .max_size
            .is_some_and(|max| self.size + self.out.len() as u64 >= max);
        if full || self.out.len() >= BATCH {
            self.flush();
        }
        if full {
            // A log that cannot be put aside goes on in the same file.
            let _ = self.rotate();
        }
    }

    fn flush(&mut self) {
        if self.out.is_empty() {
            return;
        }
        match self.append_batch() {
            Ok(()) => self.size += self.out.len() as u64,
            Err(_) => self.forget(),
        }
        self.out.clear();
        if self.out.capacity() > 4096 {
            // A quiet container's monitor stays small.
            self.out = Vec::new();
        }
    }

    fn append_batch(&mut self) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = append(&self.path)?;
                self.size = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        file.write_all(&self.out)
    }

    /// The batch could not be written whole: cuts off what half of it there is.
    fn forget(&mut self) {
        self.lost += self.out.len() as u64;
        if let Some(file) = &self.file {
            let _ = file.set_len(self.size);
        }
    }

    /// Bytes of entries that could not be written so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.options.max_file > 1 {
            for number in (1..self.options.max_file).rev() {
                let from = numbered(&self.path, number - 1);
                match fs::rename(&from, numbered(&self.path, number)) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        } else {
            fs::remove_file(&self.path)?;
        }
        self.file = Some(append(&self.path)?);
        self.size = 0;
        Ok(())
    }
}

/// The file of this number: 0 is the one being written.
pub(super) fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    PathBuf::from(name)
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .open(path)
}

/// How much of the window to take so that no character of UTF-8 is cut, where that can be.
fn whole_characters(part: &[u8], window: &[u8]) -> usize {
    let length = window.len();
    for back in 1..=3.min(length.saturating_sub(1)) {
        let lead = window[length - back];
        if lead & 0xc0 == 0x80 {
            continue;
        }
        let needs = match lead {
            0xc0..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf7 => 4,
            _ => 1,
        };
        if needs > back && part.len() + length - back > 0 {
            return length - back;
        }
        break;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::encode::Entry;

    fn entries(path: &Path) -> Vec<Entry> {
        fs::read_to_string(path)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn log(options: LogOptions) -> (tempfile::TempDir, PathBuf, JsonFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("json.log");
        let log = JsonFile::new(&path, options);
        (directory, path, log)
    }

    #[test]
    fn lines_are_lines_however_they_arrive() {
        let (_directory, path, mut log) = log(LogOptions::default());
        for piece in ["on", "e\ntwo\nth", "", "ree"] {
            log.write(Stream::Stdout, piece.as_bytes(), "T1");
        }
        log.write(Stream::Stderr, b"problem\n", "T2");
        log.end(Stream::Stdout, "T3");
        log.end(Stream::Stderr, "T3");
        let texts: Vec<_> = entries(&path)
            .into_iter()
            .map(|entry| (entry.log, entry.stream, entry.time))
            .collect();
        let expected = [
            ("one\n", "stdout", "T1"),
            ("two\n", "stdout", "T1"),
            ("problem\n", "stderr", "T2"),
            ("three", "stdout", "T3"),
        ];
        assert_eq!(
            texts,
            expected.map(|(a, b, c)| (a.to_owned(), b.to_owned(), c.to_owned()))
        );
    }

    #[test]
    fn long_lines_are_cut_into_parts_between_characters() {
        let (_directory, path, mut log) = log(LogOptions::default());
        let mut long = "x".repeat(PART - 1);
        long.push('ü');
        long.push_str(&"🦀".repeat(PART / 4));
        long.push('\n');
        for piece in long.as_bytes().chunks(1000) {
            log.write(Stream::Stdout, piece, "T");
        }
        let entries = entries(&path);
        assert!(entries.len() == 3 && entries.iter().all(|entry| entry.log.len() <= PART));
        let whole: String = entries.into_iter().map(|entry| entry.log).collect();
        assert_eq!(whole, long);
    }

    #[test]
    fn an_exact_part_ends_with_its_line_feed() {
        let (_directory, path, mut log) = log(LogOptions::default());
        let line = format!("{}\n", "x".repeat(PART));
        log.write(Stream::Stdout, line.as_bytes(), "T");
        let texts: Vec<_> = entries(&path)
            .into_iter()
            .map(|entry| entry.log.len())
            .collect();
        assert_eq!(texts, [PART, 1]);
    }

    #[test]
    fn full_files_are_put_aside_and_the_oldest_goes() {
        let (directory, path, mut log) = log(LogOptions {
            max_size: Some(500),
            max_file: 3,
        });
        for number in 0..100 {
            log.write(Stream::Stdout, format!("line {number}\n").as_bytes(), "T");
        }
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["json.log", "json.log.1", "json.log.2"]);
        let all: Vec<_> = [2, 1, 0]
            .into_iter()
            .flat_map(|number| entries(&numbered(&path, number)))
            .map(|entry| entry.log)
            .collect();
        let expected: Vec<_> = (100 - all.len()..100)
            .map(|number| format!("line {number}\n"))
            .collect();
        assert_eq!(all, expected);
        assert!(fs::metadata(numbered(&path, 1)).unwrap().len() < 600);
    }

    #[test]
    fn one_file_only_begins_anew() {
        let (_directory, path, mut log) = log(LogOptions {
            max_size: Some(100),
            max_file: 1,
        });
        for _ in 0..50 {
            log.write(Stream::Stdout, b"some text\n", "T");
        }
        assert!(fs::metadata(&path).unwrap().len() < 200);
        assert!(!numbered(&path, 1).exists());
    }

    #[test]
    fn a_full_disk_is_survived() {
        let mut log = JsonFile::new(Path::new("/dev/full"), LogOptions::default());
        log.write(Stream::Stdout, b"text\n", "T");
        assert!(log.lost() > 0);
    }
}

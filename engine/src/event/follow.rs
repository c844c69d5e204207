//! Events as they come: the files are read on, over their rotation, whenever one is written.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use sys::epoll::{DirectoryWatch, Interest, poll};

use super::{Event, EventLog};
use crate::error::{Error, Result};
use crate::time::Time;

/// Which events are told, by their time in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Also the past from here on; `None` begins now.
    pub since: Option<i128>,
    /// None later; in the past it ends at once what is told.
    pub until: Option<i128>,
}

impl EventLog {
    /// Tells the events of a span, those to come as they come. `tell` may end it by an error.
    ///
    /// # Errors
    /// That of `tell`; when the files cannot be read or watched.
    pub fn follow<E: From<Error>>(
        &self,
        span: Span,
        mut tell: impl FnMut(&Event) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut reader = Reader::new(self, span.since.is_some())?;
        let wanted = |event: &Event| {
            let time = i128::from(event.time_nano);
            span.since.is_none_or(|since| time >= since)
                && span.until.is_none_or(|until| time <= until)
        };
        loop {
            // The look at the clock comes first: what is written until then is read below.
            let left = span.until.map(|until| until - Time::now().as_nanosecond());
            for event in reader.read()? {
                if wanted(&event) {
                    tell(&event)?;
                }
            }
            let patience = match left {
                Some(left) if left <= 0 => return Ok(()),
                Some(left) => Some(Duration::from_nanos(
                    u64::try_from(left).unwrap_or(u64::MAX),
                )),
                None => None,
            };
            reader.wait(patience)?;
        }
    }
}

struct Reader<'a> {
    log: &'a EventLog,
    watch: DirectoryWatch,
    /// Still to be read before the present file.
    old: bool,
    file: Option<File>,
    rest: Vec<u8>,
}

impl<'a> Reader<'a> {
    /// At the end of what is there, or with `past` at its beginning. Watched from before the look.
    fn new(log: &'a EventLog, past: bool) -> Result<Self> {
        let directory = log.path.parent().unwrap_or(&log.path);
        fs::create_dir_all(directory)
            .map_err(|error| Error::file("make the directory", directory, error))?;
        let watch = DirectoryWatch::new(directory)
            .map_err(|error| Error::system(format!("cannot watch {directory:?}"), error))?;
        let mut reader = Self {
            log,
            watch,
            old: past,
            file: None,
            rest: Vec::new(),
        };
        if !past && let Some(mut file) = reader.open()? {
            file.seek(SeekFrom::End(0))
                .map_err(|error| reader.failed(error))?;
            reader.file = Some(file);
        }
        Ok(reader)
    }

    fn failed(&self, error: io::Error) -> Error {
        Error::file("read", &self.log.path, error)
    }

    fn open(&self) -> Result<Option<File>> {
        match File::open(&self.log.path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// All events that were written since the last time.
    fn read(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        if std::mem::take(&mut self.old) {
            self.file = self.open()?;
            self.read_old(&mut events)?;
        }
        loop {
            if let Some(file) = &mut self.file {
                let mut content = Vec::new();
                let read = file.read_to_end(&mut content);
                read.map_err(|error| self.failed(error))?;
                self.take(&content, &mut events);
            }
            // Put aside meanwhile: the next one is read from its beginning.
            let next = self.open()?;
            if same(self.file.as_ref(), next.as_ref()) {
                return Ok(events);
            }
            self.file = next;
            self.rest.clear();
        }
    }

    /// The file before, unless the present one was just put aside in its place.
    fn read_old(&mut self, events: &mut Vec<Event>) -> Result<()> {
        let path = self.log.old();
        let fault = |error| Error::file("read", &path, error);
        let mut old = match File::open(&path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fault(error)),
        };
        if self.file.is_some() && same(Some(&old), self.file.as_ref()) {
            return Ok(());
        }
        let mut content = Vec::new();
        old.read_to_end(&mut content).map_err(fault)?;
        self.take(&content, events);
        self.rest.clear();
        Ok(())
    }

    /// Whole lines become events; the rest waits for its end.
    fn take(&mut self, content: &[u8], events: &mut Vec<Event>) {
        self.rest.extend_from_slice(content);
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            return;
        };
        let whole: Vec<u8> = self.rest.drain(..=end).collect();
        let lines = whole.split(|byte| *byte == b'\n');
        events.extend(lines.filter_map(|line| serde_json::from_slice(line).ok()));
    }

    fn wait(&self, patience: Option<Duration>) -> Result<()> {
        poll(&[(self.watch.as_fd(), Interest::Read)], patience)
            .map_err(|error| Error::system("cannot wait for events", error))?;
        self.watch.clear();
        Ok(())
    }
}

fn same(one: Option<&File>, other: Option<&File>) -> bool {
    let inode = |file: &File| file.metadata().ok().map(|found| (found.dev(), found.ino()));
    match (one, other) {
        (Some(one), Some(other)) => inode(one) == inode(other),
        // Gone: nothing more is written until there is another.
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(log: &EventLog, id: &str) {
        log.append(&Event::new("volume", "create", id, &[]))
            .unwrap();
    }

    #[derive(Debug)]
    struct Enough;

    impl From<Error> for Enough {
        fn from(error: Error) -> Self {
            panic!("{error}")
        }
    }

    #[test]
    fn the_past_ends_with_the_span() {
        let directory = tempfile::tempdir().unwrap();
        let log = EventLog::at(&directory.path().join("state"));
        for id in ["aa", "bb"] {
            note(&log, id);
        }
        let now = Time::now().as_nanosecond();
        let told = |since, until| {
            let mut ids = Vec::new();
            let span = Span { since, until };
            log.follow(span, |event| {
                ids.push(event.actor.id.clone());
                Ok::<(), Error>(())
            })
            .unwrap();
            ids
        };
        assert_eq!(told(Some(0), Some(now)), ["aa", "bb"]);
        assert!(told(None, Some(now)).is_empty());
        assert!(told(Some(now + 1), Some(now + 2)).is_empty());
        assert!(told(Some(0), Some(1)).is_empty());
    }

    #[test]
    fn what_comes_is_told_over_rotations() {
        let directory = tempfile::tempdir().unwrap();
        let mut log = EventLog::at(directory.path());
        log.limit = 1500;
        note(&log, "before");
        let ready = Time::now();
        let mut ids = Vec::new();
        std::thread::scope(|scope| {
            let writer = log.clone();
            scope.spawn(move || {
                for number in 0..100 {
                    note(&writer, &number.to_string());
                    // Slower than a reader: what is put aside twice is gone for good.
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let span = Span {
                since: Some(ready.as_nanosecond()),
                until: None,
            };
            let ended = log.follow(span, |event| {
                ids.push(event.actor.id.clone());
                match event.actor.id == "99" {
                    true => Err(Enough),
                    false => Ok(()),
                }
            });
            ended.unwrap_err();
        });
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(ids, expected);
    }
}

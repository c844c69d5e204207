//! Works on files and says how long it took: the program that the bench of unions starts in its lab.
//!
//! One line `WORK DIRECTORY COUNT` comes in, one line of nanoseconds per operation goes out for each.
//! Names are given relative to the directory, as by `tar`, `rm` and `ls`: a path's way to the
//! directory is not part of the measurement.

use std::fs::File;
use std::io::{BufRead, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lab::{Lab, Running};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat, unlinkat};

const BLOCK: usize = 1 << 20;
const PAGE: usize = 4096;

/// The file that data is read from and written to.
const DATA: &str = "data";

/// Serves until the input ends.
pub(crate) fn serve() -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let [work, directory, count] = words[..] else {
            bail!("WORK DIRECTORY COUNT");
        };
        let directory = Path::new(directory);
        let count = count.parse()?;
        match carry_out(work, directory, count) {
            Ok(took) => writeln!(stdout, "{}", took.as_nanos() as f64 / count as f64)?,
            Err(error) => writeln!(stdout, "{error:#}")?,
        }
        stdout.flush()?;
    }
    Ok(true)
}

/// The other end: a worker in a lab.
pub(crate) struct FileWork {
    running: Running,
}

impl FileWork {
    /// Starts one; it is this program again.
    pub(crate) fn new(lab: &Lab) -> Result<Self> {
        let own = std::env::current_exe().context("/proc is not mounted")?;
        let running = lab
            .command(&own.display().to_string())
            .arg("filework")
            .spawn();
        Ok(Self { running })
    }

    /// Nanoseconds that each of `count` operations took.
    pub(crate) fn time(&mut self, work: &str, directory: &str, count: usize) -> Result<f64> {
        self.running.send(format!("{work} {directory} {count}\n"));
        let line = self.running.line();
        line.parse()
            .with_context(|| format!("{work} in {directory}: {line}"))
    }
}

fn carry_out(work: &str, directory: &Path, count: usize) -> Result<Duration> {
    match work {
        "write" => data(directory, true, |file, buffer| {
            for block in 0..count {
                file.write_all_at(&buffer[..BLOCK], (block * BLOCK) as u64)?;
            }
            Ok(())
        }),
        "read" => data(directory, false, |file, buffer| {
            for block in 0..count {
                file.read_exact_at(&mut buffer[..BLOCK], (block * BLOCK) as u64)?;
            }
            Ok(())
        }),
        "read-4k" => data(directory, false, |file, buffer| {
            let pages = file.metadata()?.len() / PAGE as u64;
            let mut number = 1_u64;
            for _ in 0..count {
                number = next(number);
                file.read_exact_at(&mut buffer[..PAGE], number % pages * PAGE as u64)?;
            }
            Ok(())
        }),
        "overwrite-4k" => data(directory, true, |file, buffer| {
            let pages = file.metadata()?.len() / PAGE as u64;
            for page in 0..count as u64 {
                file.write_all_at(&buffer[..PAGE], page % pages * PAGE as u64)?;
            }
            Ok(())
        }),
        "create-4" => four(directory, count, create),
        "unlink-4" => four(directory, count, unlink),
        "create" => names(directory, count, create),
        "unlink" => names(directory, count, unlink),
        "stat" => names(directory, count, |place, name| {
            statat(place, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(())
        }),
        "open" => names(directory, count, |place, name| {
            let file = File::from(openat(place, name, OFlags::RDONLY, Mode::empty())?);
            file.read_at(&mut [0; PAGE], 0)?;
            Ok(())
        }),
        "list" => {
            let begin = Instant::now();
            // By the C library's readdir, as nearly all programs: 32 KiB of entries at a time.
            let found = std::fs::read_dir(directory)?.count();
            let took = begin.elapsed();
            ensure!(found == count, "{found} entries");
            Ok(took)
        }
        _ => bail!("no such work"),
    }
}

/// A number that looks like chance; the same ones every time.
fn next(number: u64) -> u64 {
    let mut number = number ^ (number << 13);
    number ^= number >> 7;
    number ^ (number << 17)
}

fn data(
    directory: &Path,
    writes: bool,
    work: impl FnOnce(&File, &mut [u8]) -> Result<()>,
) -> Result<Duration> {
    let mut options = File::options();
    let file = options.read(true).write(writes).create(writes);
    let file = file.open(directory.join(DATA))?;
    let mut buffer = vec![7; BLOCK];
    let begin = Instant::now();
    work(&file, &mut buffer)?;
    Ok(begin.elapsed())
}

fn create(place: &OwnedFd, name: &str) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    openat(place, name, flags, Mode::from_raw_mode(0o644))?;
    Ok(())
}

fn unlink(place: &OwnedFd, name: &str) -> Result<()> {
    unlinkat(place, name, AtFlags::empty())?;
    Ok(())
}

/// Does something to each of the files `f0`, `f1`, ….
fn names(
    directory: &Path,
    count: usize,
    work: impl Fn(&OwnedFd, &str) -> Result<()>,
) -> Result<Duration> {
    let names: Vec<String> = (0..count).map(|number| format!("f{number}")).collect();
    let place = openat(CWD, directory, OFlags::PATH, Mode::empty())?;
    let begin = Instant::now();
    for name in &names {
        work(&place, name)?;
    }
    Ok(begin.elapsed())
}

/// The same by four at once, each in a directory of its own and with a quarter of the files.
fn four(
    directory: &Path,
    count: usize,
    work: impl Fn(&OwnedFd, &str) -> Result<()> + Copy + Send,
) -> Result<Duration> {
    for number in 0..4 {
        std::fs::create_dir_all(directory.join(number.to_string()))?;
    }
    let begin = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|number| {
                let own = directory.join(number.to_string());
                scope.spawn(move || names(&own, count / 4, work).map(drop))
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(|_| bail!("a worker has died")))
    })?;
    Ok(begin.elapsed())
}

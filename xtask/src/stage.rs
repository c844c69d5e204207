//! One part of a run of the tests: a command whose output is shown and whose results are counted.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// How a part ended.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Its name.
    pub(crate) name: String,
    /// What passed: tests where the part has tests, else the part itself.
    pub(crate) passed: usize,
    /// What failed.
    pub(crate) failed: usize,
    /// Whether tests were counted, and not the part as a whole.
    pub(crate) counted: bool,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Runs a command to its end, showing what it writes.
///
/// # Errors
/// When it cannot be started.
pub(crate) fn run(name: &str, command: &mut Command) -> Result<Outcome> {
    println!("== {name}");
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {:?}", command.get_program()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let errors = std::thread::spawn(move || show(stderr));
    let mut tally = show(stdout);
    let more = errors.join().unwrap_or_default();
    let status = child.wait().context("cannot wait for a child")?;
    tally.add(&more);
    let counted = tally.passed + tally.failed > 0;
    if !status.success() && tally.failed == 0 {
        tally.failed = 1;
    }
    if tally.passed + tally.failed == 0 {
        tally.passed = 1;
    }
    Ok(Outcome {
        name: name.to_owned(),
        passed: tally.passed,
        failed: tally.failed,
        took: begin.elapsed(),
        counted,
    })
}

/// Prints a stream line by line and counts the results in it.
fn show(stream: Option<impl Read>) -> Tally {
    let mut tally = Tally::default();
    if let Some(stream) = stream {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while stream
            .read_until(b'\n', &mut line)
            .is_ok_and(|count| count > 0)
        {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            tally.add(&Tally::read(&text));
            line.clear();
        }
    }
    tally
}

/// Counted results.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: usize,
}

impl Tally {
    fn add(&mut self, other: &Tally) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// Reads the summary lines of cargo's own runner and of nextest; other lines count nothing.
    fn read(line: &str) -> Self {
        // nextest shows the output of what failed indented: those summaries are counted in its own.
        let counted =
            line.starts_with("test result:") || line.trim_start().starts_with("Summary [");
        if !counted {
            return Self::default();
        }
        let words: Vec<&str> = line
            .split([' ', ',', ';', '(', '\n'])
            .filter(|word| !word.is_empty())
            .collect();
        let number = |what: &str| -> usize {
            words
                .windows(2)
                .filter(|pair| pair[1] == what)
                .filter_map(|pair| pair[0].parse::<usize>().ok())
                .sum()
        };
        Self {
            passed: number("passed"),
            failed: number("failed") + number("timed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_are_read() {
        let cases = [
            (
                "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; finished in 0.51s",
                3,
                2,
            ),
            (
                "     Summary [   0.512s] 12 tests run: 11 passed (1 slow), 1 failed, 5 skipped",
                11,
                1,
            ),
            (
                "     Summary [ 180.1s] 3 tests run: 1 passed, 1 failed, 1 timed out, 0 skipped",
                1,
                2,
            ),
            ("4 passed, 1 failed", 0, 0),
            (
                "    test result: FAILED. 0 passed; 1 failed; 0 ignored",
                0,
                0,
            ),
        ];
        for (line, passed, failed) in cases {
            assert_eq!(Tally::read(line), Tally { passed, failed }, "{line}");
        }
    }
}

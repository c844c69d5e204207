//! Commands that run in a host of a lab: what they are given, what they answer, how long they may
//! take.

use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::Host;
use crate::terminal::Terminal;
use crate::wait::until;

/// Moves itself into the lab's cgroups, then becomes the command.
const ENTER: &str = r#"n=$1; shift
while [ "$n" -gt 0 ]; do echo 0 > "$1"; shift; n=$((n - 1)); done
exec "$@""#;

/// A command to be run in a host of a lab.
#[derive(Debug, Clone)]
pub struct Cmd {
    host: Host,
    words: Vec<String>,
    environment: Vec<(String, Option<String>)>,
    directory: Option<PathBuf>,
    input: Vec<u8>,
    limit: Duration,
}

impl Cmd {
    pub(crate) fn new(host: Host, program: &str) -> Self {
        Self {
            host,
            words: vec![program.to_owned()],
            environment: Vec::new(),
            directory: None,
            input: Vec::new(),
            limit: Duration::from_secs(60),
        }
    }

    /// One more argument.
    pub fn arg(mut self, argument: impl AsRef<str>) -> Self {
        self.words.push(argument.as_ref().to_owned());
        self
    }

    /// More arguments.
    pub fn args<I: IntoIterator<Item = S>, S: AsRef<str>>(mut self, arguments: I) -> Self {
        let more = arguments.into_iter().map(|one| one.as_ref().to_owned());
        self.words.extend(more);
        self
    }

    /// A variable of the command's environment.
    pub fn env(mut self, key: &str, value: impl AsRef<str>) -> Self {
        self.environment
            .push((key.to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// A variable that the command must not inherit.
    pub fn without(mut self, key: &str) -> Self {
        self.environment.push((key.to_owned(), None));
        self
    }

    /// Where the command starts; the lab's directory unless given.
    pub fn directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.directory = Some(path.into());
        self
    }

    /// What the command reads; without it, the end of file at once.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// How long the command may take; sixty seconds unless given.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The command as it would be typed.
    pub fn line(&self) -> String {
        self.words.join(" ")
    }

    /// The `Command` that enters the lab's cgroups and becomes this command.
    fn prepare(&self) -> Command {
        let place = &self.host.place;
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", ENTER, "sh", &place.entrances.len().to_string()])
            .args(&place.entrances)
            .args(&self.words)
            .env("PATH", &place.path)
            .env("TMPDIR", &place.directory)
            .env_remove("RBOX_FAULT")
            .env_remove("RBOX_TIMINGS")
            .current_dir(self.directory.as_ref().unwrap_or(&place.directory));
        for (key, value) in &self.environment {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }

    /// Starts the command and lets the test talk to it.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn spawn(&self) -> Running {
        let mut child = self.host.enter(|| {
            self.prepare()
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", self.line()))
        });
        Running {
            line: self.line(),
            stdin: child.stdin.take(),
            stdout: Reader::new(child.stdout.take()),
            stderr: Reader::new(child.stderr.take()),
            child,
            limit: self.limit,
            ended: false,
        }
    }

    /// Starts the command on a new pseudo-terminal of the given size.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn terminal(&self, rows: u16, columns: u16) -> Terminal {
        Terminal::start(&self.host, self.prepare(), self.line(), (rows, columns))
    }

    /// Runs the command to its end.
    ///
    /// # Panics
    /// When it cannot be started, takes too long, or leaves a process that holds its output.
    #[track_caller]
    pub fn run(&self) -> Output {
        let mut running = self.spawn();
        let stdin = running.stdin.take();
        let input = self.input.clone();
        let writer = std::thread::spawn(move || {
            if let Some(mut stdin) = stdin {
                // A command that does not read all of its input is no error here.
                let _ = stdin.write_all(&input);
            }
        });
        let output = running.finish();
        let _ = writer.join();
        output
    }
}

/// A stream that is read in the background.
#[derive(Debug)]
struct Reader {
    chunks: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    closed: bool,
}

impl Reader {
    fn new(stream: Option<impl Read + Send + 'static>) -> Self {
        let (sender, chunks) = channel();
        if let Some(mut stream) = stream {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 65536];
                while let Ok(count) = stream.read(&mut buffer) {
                    if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                        break;
                    }
                }
            });
        }
        Self {
            chunks,
            seen: Vec::new(),
            closed: false,
        }
    }

    /// Takes what has come, waiting at most until `end`; false when the time is over.
    fn more(&mut self, end: Instant) -> bool {
        let left = end.saturating_duration_since(Instant::now());
        match self.chunks.recv_timeout(left) {
            Ok(chunk) => {
                self.seen.extend(chunk);
                true
            }
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => false,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                self.closed = true;
                false
            }
        }
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Reader,
    stderr: Reader,
    limit: Duration,
    ended: bool,
}

impl Running {
    /// The process id as the machine sees it.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("process ids are small")
    }

    /// Sends bytes to the command.
    ///
    /// # Panics
    /// When it does not take them.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let stdin = self.stdin.as_mut().expect("its input was not closed yet");
        stdin
            .write_all(bytes.as_ref())
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|error| panic!("{} does not read: {error}", self.line));
    }

    /// Closes the command's input.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// All that the command has written so far.
    pub fn seen(&mut self) -> String {
        while self.stdout.more(Instant::now()) {}
        String::from_utf8_lossy(&self.stdout.seen).into_owned()
    }

    /// All that the command has written as errors so far.
    pub fn complaints(&mut self) -> String {
        while self.stderr.more(Instant::now()) {}
        String::from_utf8_lossy(&self.stderr.seen).into_owned()
    }

    /// Waits until the command has written this text; returns all it wrote so far.
    ///
    /// # Panics
    /// When it does not within thirty seconds.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let seen = String::from_utf8_lossy(&self.stdout.seen).into_owned();
            if seen.contains(text) {
                return seen;
            }
            if !self.stdout.more(end) {
                let _ = self
                    .stderr
                    .more(Instant::now() + Duration::from_millis(200));
                panic!(
                    "{} did not write {text:?} but\n{seen}\nand as errors\n{}",
                    self.line,
                    String::from_utf8_lossy(&self.stderr.seen)
                );
            }
        }
    }

    /// The next line that the command writes, without its end.
    ///
    /// # Panics
    /// When none comes within sixty seconds.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            if let Some(at) = self.stdout.seen.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.stdout.seen.drain(..=at).collect();
                return trimmed(&line);
            }
            assert!(self.stdout.more(end), "{} writes no more lines", self.line);
        }
    }

    /// Sends a signal to the command itself.
    ///
    /// # Panics
    /// When it has ended already.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal)
            .unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.line));
    }

    /// The exit status if the command has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Closes the input and waits for the end.
    ///
    /// # Panics
    /// When it takes too long, or a process that is left holds the output.
    #[track_caller]
    pub fn finish(mut self) -> Output {
        self.stdin = None;
        let begin = Instant::now();
        let status = until(self.limit, || {
            // Drain, so that a chatty command never stands still.
            while self.stdout.more(Instant::now()) {}
            while self.stderr.more(Instant::now()) {}
            self.child.try_wait().ok().flatten()
        });
        let Some(status) = status else {
            let _ = self.child.kill();
            panic!(
                "{} did not end within {:?}; it wrote\n{}\n{}",
                self.line,
                self.limit,
                String::from_utf8_lossy(&self.stdout.seen),
                String::from_utf8_lossy(&self.stderr.seen)
            );
        };
        self.ended = true;
        let took = begin.elapsed();
        let end = Instant::now() + Duration::from_secs(5);
        while self.stdout.more(end) {}
        while self.stderr.more(end) {}
        assert!(
            self.stdout.closed && self.stderr.closed,
            "{} has ended but something it started still holds its output",
            self.line
        );
        Output {
            line: std::mem::take(&mut self.line),
            status,
            stdout: std::mem::take(&mut self.stdout.seen),
            stderr: std::mem::take(&mut self.stderr.seen),
            took,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a command answered.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command as it would be typed.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it wrote as errors.
    pub stderr: Vec<u8>,
    /// How long it took.
    pub took: Duration,
}

impl Output {
    /// The command must have ended with 0.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// The command must have ended with this code.
    ///
    /// # Panics
    /// When it did not.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert!(
            self.status.code() == Some(code),
            "{}\nended with {} instead of {code}\nstdout: {}\nstderr: {}",
            self.line,
            self.status,
            String::from_utf8_lossy(&self.stdout),
            String::from_utf8_lossy(&self.stderr)
        );
        self
    }

    /// The signal that ended the command, if one did.
    pub fn signal(&self) -> Option<i32> {
        self.status.signal()
    }

    /// What it wrote, without the last line's end.
    pub fn text(&self) -> String {
        trimmed(&self.stdout)
    }

    /// What it wrote as errors, without the last line's end.
    pub fn errors(&self) -> String {
        trimmed(&self.stderr)
    }

    /// What it wrote, in lines.
    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// What it wrote, read as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout)
            .unwrap_or_else(|error| panic!("{}: {error}\n{}", self.line, self.text()))
    }

    /// Its errors must contain this text.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(
            self.errors().contains(text),
            "{}\ndoes not say {text:?} but\n{}",
            self.line,
            self.errors()
        );
        self
    }
}

fn trimmed(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .trim_end_matches('\n')
        .to_owned()
}

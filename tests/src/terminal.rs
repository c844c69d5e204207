//! A command on a pseudo-terminal whose other end the test holds.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::host::Host;
use crate::wait::until;

/// A command on a pseudo-terminal.
#[derive(Debug)]
pub struct Terminal {
    line: String,
    child: Child,
    master: File,
    chunks: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    searched: usize,
}

impl Terminal {
    #[track_caller]
    pub(crate) fn start(host: &Host, mut command: Command, line: String, size: (u16, u16)) -> Self {
        let (master, child) = host.enter(|| {
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .expect("the lab has pseudo-terminals");
            unlockpt(&master).expect("a new pseudo-terminal can be unlocked");
            let slave = ioctl_tiocgptpeer(
                &master,
                OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
            )
            .expect("a pseudo-terminal has two ends");
            resize(&master, size);
            let end = || Stdio::from(slave.try_clone().expect("descriptors are left"));
            // A session of its own whose terminal this is, as a login would make it.
            let mut session = Command::new("setsid");
            session.arg("--ctty");
            session.arg(command.get_program()).args(command.get_args());
            for (key, value) in command.get_envs() {
                match value {
                    Some(value) => session.env(key, value),
                    None => session.env_remove(key),
                };
            }
            if let Some(directory) = command.get_current_dir() {
                session.current_dir(directory);
            }
            command = session;
            let child = command
                .stdin(end())
                .stdout(end())
                .stderr(end())
                .spawn()
                .unwrap_or_else(|error| panic!("{line}: {error}"));
            (master, child)
        });
        let master = File::from(master);
        let chunks = read_in_background(master.try_clone().expect("descriptors are left"));
        Self {
            line,
            child,
            master,
            chunks,
            seen: Vec::new(),
            searched: 0,
        }
    }

    /// Types something.
    ///
    /// # Panics
    /// When the terminal has gone.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.master
            .write_all(bytes.as_ref())
            .unwrap_or_else(|error| panic!("{}: cannot type: {error}", self.line));
    }

    /// Waits for this text after all that was waited for before; returns what came up to its end.
    ///
    /// # Panics
    /// When it does not come within thirty seconds.
    #[track_caller]
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let rest = &self.seen[self.searched..];
            if let Some(at) = find(rest, text.as_bytes()) {
                let upto = at + text.len();
                let found = String::from_utf8_lossy(&rest[..upto]).into_owned();
                self.searched += upto;
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.seen.extend(chunk),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!(
                        "{} does not show {text:?} but\n{}",
                        self.line,
                        self.screen()
                    )
                }
            }
        }
    }

    /// All that was shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Changes the size of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        resize(&self.master, (rows, columns));
    }

    /// The settings of the line: whether it is raw, echoes and so on.
    ///
    /// # Panics
    /// When the terminal has gone.
    #[track_caller]
    pub fn settings(&self) -> Termios {
        tcgetattr(&self.master).expect("a terminal has settings")
    }

    /// The process id of the command itself as the machine sees it.
    pub fn pid(&self) -> i32 {
        // setsid and the shell that enters the cgroups have become the command.
        i32::try_from(self.child.id()).expect("process ids are small")
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

    /// Waits for the end; returns the status and all that was shown.
    ///
    /// # Panics
    /// When it does not end within thirty seconds.
    #[track_caller]
    pub fn finish(&mut self) -> (ExitStatus, String) {
        let status = until(Duration::from_secs(30), || {
            while let Ok(chunk) = self.chunks.try_recv() {
                self.seen.extend(chunk);
            }
            self.child.try_wait().ok().flatten()
        });
        let status = status.unwrap_or_else(|| {
            let _ = self.child.kill();
            panic!("{} did not end; it showed\n{}", self.line, self.screen())
        });
        let end = Instant::now() + Duration::from_secs(2);
        while let Ok(chunk) = self
            .chunks
            .recv_timeout(end.saturating_duration_since(Instant::now()))
        {
            self.seen.extend(chunk);
        }
        (status, self.screen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn resize(master: impl AsFd, (rows, columns): (u16, u16)) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(master, size).expect("a terminal takes a size");
}

fn read_in_background(mut master: File) -> Receiver<Vec<u8>> {
    let (sender, chunks) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        // The read fails when the last process has closed the other end.
        while let Ok(count) = master.read(&mut buffer) {
            if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                break;
            }
        }
    });
    chunks
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|part| part == needle)
}

//! Measures commands from inside of a lab: the program that a bench starts there.
//!
//! One JSON array of words per line comes in, one line `MICROSECONDS STATUS` goes out for each. The
//! commands' output goes nowhere; the time is from before the start until after the wait.

use std::io::{BufRead, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::{Lab, Running};

/// Serves until the input ends.
pub(crate) fn serve() -> Result<bool> {
    let mut stdout = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let words: Vec<String> = serde_json::from_str(&line?)?;
        let Some((program, arguments)) = words.split_first() else {
            bail!("nothing to measure");
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let begin = Instant::now();
        let code = command.status().ok().and_then(|status| status.code());
        let took = begin.elapsed();
        writeln!(stdout, "{} {}", took.as_micros(), code.unwrap_or(-1))?;
        stdout.flush()?;
    }
    Ok(true)
}

/// Where hybrid hosts show the version 2 tree of cgroups beside the controllers of version 1.
pub(crate) const UNIFIED: &str = "/sys/fs/cgroup/unified";

/// The other end: a stopwatch in a lab.
pub(crate) struct Stopwatch {
    running: Running,
}

impl Stopwatch {
    /// Starts one; it is this program again.
    pub(crate) fn new(lab: &Lab) -> Result<Self> {
        let own = own_path()?;
        let running = lab.command(&own).arg("stopwatch").spawn();
        Ok(Self { running })
    }

    /// Starts one whose commands see the lab as a host that has version 1 of cgroups alone.
    pub(crate) fn without_unified(lab: &Lab) -> Result<Self> {
        let script = format!("umount {UNIFIED} && exec {} stopwatch", own_path()?);
        let words = ["-m", "--propagation", "private", "sh", "-c", &script];
        let running = lab.command("unshare").args(words).spawn();
        Ok(Self { running })
    }

    /// Runs a command and says how long it took; it must succeed.
    pub(crate) fn time(&mut self, words: &[String]) -> Result<Duration> {
        self.running.send(serde_json::to_string(words)? + "\n");
        let line = self.running.line();
        let (micros, code) = line.split_once(' ').context("the stopwatch has stopped")?;
        if code != "0" {
            bail!("{} ended with {code}", words.join(" "));
        }
        Ok(Duration::from_micros(micros.parse()?))
    }
}

/// The running program.
fn own_path() -> Result<String> {
    let own = std::env::current_exe().context("/proc is not mounted")?;
    Ok(own.display().to_string())
}

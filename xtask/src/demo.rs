//! `cargo xtask demo`: a server in a container behind a published port, shown at work.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lab::{Host, Lab, Outside};
use tempfile::TempDir;

use crate::{build, packages};

const NAME: &str = "rbox-demo";
const IMAGE: &str = "rbox-demo-echo";

/// Where the demonstration takes place.
enum Place {
    /// A throw-away host, with another one joined to it.
    Lab(Box<(Lab, Outside)>),
    /// This machine.
    Here { scratch: TempDir, path: String },
}

/// Shows it; true when every answer was right.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    let here = match words {
        [] => false,
        ["--here"] => true,
        _ => bail!("cargo xtask demo knows --here and nothing else"),
    };
    packages::root("the demo")?;
    packages::provide(packages::LAB)?;
    println!("Building rbox and the echo server (the first time takes a minute or two) …");
    let rbox = build::program("rbox", "rbox", "dev")?;
    let server = build::program("echo-static", "echo-static", "dev")?;
    let place = Place::new(here, &rbox)?;
    let outcome = show(&place, &server);
    // Whatever happened, nothing stays.
    println!("\nClean up:");
    place.command(&format!("rbox rm -f {NAME}"))?;
    place.command(&format!("rbox rmi {IMAGE}"))?;
    outcome?;
    println!("\nThat was a real container behind a real port.");
    if !here {
        println!(
            "It ran in a throw-away host of its own; `cargo xtask demo --here` uses this machine."
        );
    }
    Ok(true)
}

fn show(place: &Place, server: &Path) -> Result<()> {
    println!("\nAn image that holds one file:");
    let image = place.scratch().join("image");
    std::fs::create_dir(&image).context("cannot make a directory")?;
    std::fs::copy(server, image.join("echo")).context("cannot copy the echo server")?;
    place.must(&format!(
        "tar -C image -cf - . | rbox import -c 'ENTRYPOINT [\"/echo\"]' -c 'EXPOSE 2345' - {IMAGE}"
    ))?;
    place.must("rbox images")?;
    println!("\nA server from it, behind port 2345:");
    place.must(&format!("rbox run -d --name {NAME} -p 2345:2345 {IMAGE}"))?;
    place.must("rbox ps")?;
    place.must(&format!("rbox port {NAME}"))?;
    let template = "{{.NetworkSettings.IPAddress}}";
    let address = place.must(&format!("rbox inspect -f '{template}' {NAME}"))?;
    println!("\nTalk to it:");
    let address: IpAddr = address.trim().parse().context("inspect names no address")?;
    for (from, to) in [
        ("this host", IpAddr::from([127, 0, 0, 1])),
        ("this host", IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1])),
        ("this host", address),
    ] {
        conversation(place.host(), from, to)?;
    }
    if let Place::Lab(both) = place {
        conversation(Some(&both.1), "another host", both.1.lab.into())?;
    }
    println!("\nWhat the server saw:");
    place.must(&format!("rbox logs {NAME}"))?;
    Ok(())
}

/// Sends a line, wants it back, shows both.
fn conversation(host: Option<&Host>, from: &str, to: IpAddr) -> Result<()> {
    let line = format!("hello from {from}, for {to}\n");
    let talk = || -> std::io::Result<(String, Duration)> {
        let begin = Instant::now();
        let limit = Duration::from_secs(5);
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to, 2345), limit)?;
        stream.set_read_timeout(Some(limit))?;
        stream.write_all(line.as_bytes())?;
        let mut answer = vec![0; line.len()];
        stream.read_exact(&mut answer)?;
        Ok((
            String::from_utf8_lossy(&answer).into_owned(),
            begin.elapsed(),
        ))
    };
    let to = SocketAddr::new(to, 2345);
    let mut last = None;
    // The container's program may need a moment until it listens.
    let answered = lab::until(Duration::from_secs(5), || {
        let answer = match host {
            Some(host) => host.enter(talk),
            None => talk(),
        };
        answer.map_err(|error| last = Some(error)).ok()
    });
    let Some((answer, took)) = answered else {
        bail!(
            "no answer from {to}: {}",
            last.map_or_else(String::new, |error| error.to_string())
        );
    };
    print!("  {from} → {to}   {line}");
    print!("  {from} ← {to}   {answer}");
    println!("      {} µs", took.as_micros());
    if answer != line {
        bail!("the answer is not what was sent");
    }
    Ok(())
}

impl Place {
    fn new(here: bool, rbox: &Path) -> Result<Self> {
        if here {
            let folder = rbox.parent().map_or_else(PathBuf::new, Path::to_owned);
            let path = std::env::var("PATH").unwrap_or_default();
            return Ok(Place::Here {
                scratch: tempfile::tempdir().context("cannot make a scratch directory")?,
                path: format!("{}:{path}:/usr/sbin:/sbin", folder.display()),
            });
        }
        let lab = Lab::with_program(rbox);
        let outside = Outside::new(&lab);
        Ok(Place::Lab(Box::new((lab, outside))))
    }

    fn scratch(&self) -> &Path {
        match self {
            Place::Lab(both) => both.0.directory(),
            Place::Here { scratch, .. } => scratch.path(),
        }
    }

    fn host(&self) -> Option<&Host> {
        match self {
            Place::Lab(both) => Some(&both.0),
            Place::Here { .. } => None,
        }
    }

    /// Runs a line of shell, shown with what it prints; whether it succeeded and its output.
    fn command(&self, line: &str) -> Result<(bool, String)> {
        println!("  $ {line}");
        let (good, stdout, stderr) = match self {
            Place::Lab(both) => {
                let output = both.0.command("sh").args(["-c", line]).run();
                (output.status.success(), output.text(), output.errors())
            }
            Place::Here { scratch, path } => {
                let output = Command::new("sh")
                    .args(["-c", line])
                    .env("PATH", path)
                    .current_dir(scratch.path())
                    .output()
                    .context("cannot start a shell")?;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
                (
                    output.status.success(),
                    text(&output.stdout),
                    text(&output.stderr),
                )
            }
        };
        for text in stdout.lines().chain(stderr.lines()) {
            println!("    {text}");
        }
        Ok((good, stdout))
    }

    fn must(&self, line: &str) -> Result<String> {
        let (good, stdout) = self.command(line)?;
        if !good {
            bail!("{line:?} failed");
        }
        Ok(stdout)
    }
}

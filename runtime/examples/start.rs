//! Starts a program in a directory as a container with Docker's defaults: the runtime alone, for
//! measuring. `start ROOT [-n TIMES] PROGRAM [ARGUMENT...]`; with `-t` the times of the
//! steps, with `-d` what is written is kept.

// An example prints and ends with the program's code.
#![allow(clippy::print_stderr, clippy::exit)]

use std::error::Error;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use plan::{Faults, Run, Timing};
use runtime::{Facts, Host, Request, Root, Stdio};
use sys::caps::CapSet;
use sys::mount::Overlay;

#[path = "../tests/support/mod.rs"]
mod support;

fn once(root: &Root, id: &str, arguments: &[String], timed: bool) -> Result<i32, Box<dyn Error>> {
    let facts = Facts::read()?;
    let caps = support::CAPABILITIES
        .iter()
        .map(|name| name.parse())
        .collect::<Result<CapSet, _>>()?;
    let request = Request {
        spec: support::spec(id, arguments.to_vec())?,
        root: root.clone(),
        user: None,
        filter: Some(runtime::seccomp::default_profile(caps)),
        init: false,
    };
    let mut plan = runtime::plan(&request, &facts)?;
    plan.timed = timed;
    let mut host = Host::default();
    let mut run = Run::new(Faults::none(), timed);
    run.apply(&plan.host, &mut host)?;
    let stdio = Stdio::Descriptors {
        stdin: Some(std::io::stdin().as_fd().try_clone_to_owned()?),
        stdout: Some(std::io::stdout().as_fd().try_clone_to_owned()?),
        stderr: Some(std::io::stderr().as_fd().try_clone_to_owned()?),
    };
    let begin = Instant::now();
    let started = runtime::spawn(&plan, &stdio, &Faults::none()).map_err(Into::into);
    let outcome = started.and_then(|mut child| -> Result<i32, Box<dyn Error>> {
        let cloned = begin.elapsed();
        child.release_network_ready()?;
        let outcome = child.wait_exec();
        let executed = begin.elapsed();
        let exit = sys::process::wait_pidfd(child.pidfd(), true)?;
        if timed {
            let times = [run.timings(), child.beside()].concat();
            report(&times, &outcome, [cloned, executed, begin.elapsed()]);
        }
        outcome?;
        Ok(exit.map_or(255, sys::process::Exit::shell_code))
    });
    for error in plan::undo_all(&plan.host, &mut host) {
        eprintln!("{error}");
    }
    outcome
}

fn report(
    host: &[Timing],
    outcome: &Result<runtime::Started, runtime::StartError>,
    [cloned, executed, ended]: [Duration; 3],
) {
    for time in host {
        eprintln!(
            "{:>20} {:>6} µs (host)",
            time.step,
            time.duration.as_micros()
        );
    }
    for time in outcome.iter().flat_map(|started| &started.times) {
        eprintln!(
            "{:>20} {:>6} µs at {}",
            time.step, time.duration, time.begin
        );
    }
    eprintln!("cloned {cloned:?}, executed {executed:?}, ended {ended:?}");
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let root = PathBuf::from(arguments.remove(0));
    let mut times = 1;
    let mut timed = false;
    let mut durable = false;
    loop {
        match arguments.first().map(String::as_str) {
            Some("-n") => {
                arguments.remove(0);
                times = arguments.remove(0).parse()?;
            }
            Some("-d") => {
                arguments.remove(0);
                durable = true;
            }
            Some("-t") => {
                arguments.remove(0);
                timed = true;
            }
            _ => break,
        }
    }
    let scratch = std::env::temp_dir().join(format!("start-{}", std::process::id()));
    for name in ["upper", "work"] {
        std::fs::create_dir_all(scratch.join(name))?;
    }
    let root = Root::Overlay(Overlay {
        lowers: vec![root],
        upper: Some(scratch.join("upper")),
        work: Some(scratch.join("work")),
        // What is written is thrown away: without this the end waits for the disk.
        options: if durable {
            Vec::new()
        } else {
            vec!["volatile".to_owned()]
        },
    });
    let mut code = 0;
    for number in 0..times {
        let begin = Instant::now();
        let id = format!("start-{}-{number}", std::process::id());
        code = once(&root, &id, &arguments, timed)?;
        if times > 1 {
            eprintln!("{} µs", begin.elapsed().as_micros());
        }
    }
    std::fs::remove_dir_all(&scratch)?;
    std::process::exit(code)
}

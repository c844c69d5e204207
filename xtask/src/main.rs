//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! Each command is a module. None knows how rbox works; they build it and start it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "these are programs for a terminal"
)]

mod bench;
mod build;
mod demo;
mod examples;
mod filework;
mod machine;
mod packages;
mod stage;
mod stopwatch;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
Usage: cargo xtask COMMAND

  test [--quick] [--only NAME]  all tests; --quick leaves out the slow ones (virtual machine, examples,
                                faults), --only runs the tests whose names contain NAME
  demo [--here]                 a server in a container behind a published port, shown at work;
                                in a throw-away host, or with --here on this machine
  examples [NAME]               the examples, in throw-away hosts
  bench [NAME]                  times and sizes beside other engines
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.split_first() {
        Some((&"test", rest)) => test::run(rest),
        Some((&"demo", rest)) => demo::run(rest),
        Some((&"examples", rest)) => examples::run(rest),
        Some((&"bench", rest)) => bench::run(rest),
        Some((&"stopwatch", [])) => stopwatch::serve(),
        Some((&"filework", [])) => filework::serve(),
        Some((&("help" | "-h" | "--help"), _)) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

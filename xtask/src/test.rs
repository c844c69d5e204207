//! `cargo xtask test`: everything that tells whether rbox works, in one command.

use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};

use crate::build;
use crate::machine::{self, Machine};
use crate::packages;
use crate::stage::{self, Outcome};

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    quick: bool,
    only: Option<String>,
}

fn parse(words: &[&str]) -> Result<Options> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--quick" => options.quick = true,
            "--only" => match words.next() {
                Some(name) => options.only = Some((*name).to_owned()),
                None => bail!("--only needs a name"),
            },
            other => bail!("cargo xtask test does not know {other:?}: --quick, --only NAME"),
        }
    }
    Ok(options)
}

/// Runs the tests; true when all passed.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    let options = parse(words)?;
    let begin = Instant::now();
    let root = nix::unistd::geteuid().is_root();
    let mut not_run = Vec::new();
    if root {
        packages::provide(packages::LAB)?;
        packages::provide(packages::TESTS)?;
    } else {
        not_run.push("privileged tests: they need root".to_owned());
    }
    // Of runs that were killed.
    lab::cgroup::sweep();
    let mark = mark();
    let before = Machine::look();
    let mut outcomes = Vec::new();
    if options.only.is_none() {
        outcomes.push(format()?);
        outcomes.push(clippy()?);
    }
    let built = building()?;
    let buildable = built.failed == 0;
    outcomes.push(built);
    if buildable {
        outcomes.extend(tests(&options, root, &mark)?);
    }
    if root {
        outcomes.push(left(&before, &mark));
        lab::cgroup::sweep();
    }
    if root && !lab::rings::exist() {
        not_run.push("unions over io_uring: Linux 6.14 and later have it for FUSE".to_owned());
    }
    if options.quick {
        not_run.push("slow tests: left out by --quick".to_owned());
    }
    Ok(summary(&outcomes, &not_run, begin))
}

fn mark() -> String {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!("{}-{}", std::process::id(), since.as_nanos())
}

fn format() -> Result<Outcome> {
    stage::run("format", build::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<Outcome> {
    let mut command = build::cargo();
    command.args([
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ]);
    stage::run("clippy", &mut command)
}

fn building() -> Result<Outcome> {
    let mut command = build::cargo();
    command.args(["build", "--quiet", "--workspace"]);
    stage::run("build", &mut command)
}

/// Names of tests that `--quick` leaves out: those that take minutes.
const SLOW: [&str; 5] = [
    "privileged_vm_",
    "privileged_example_",
    "privileged_fault_",
    "privileged_union_passes_",
    "privileged_union_crashes_",
];

fn tests(options: &Options, root: bool, mark: &str) -> Result<Vec<Outcome>> {
    let nextest = Command::new("cargo-nextest")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    let mut command = if nextest {
        with_nextest(options, root)
    } else {
        with_cargo(options, root)
    };
    command
        .env(machine::MARK, mark)
        .env("RBOX_BIN", build::directory("debug").join("rbox"));
    let mut outcome = stage::run("tests", &mut command)?;
    if !outcome.counted {
        println!("no test ran");
        (outcome.passed, outcome.failed) = (0, outcome.failed.max(1));
    }
    let mut outcomes = vec![outcome];
    if root && lab::rings::exist() {
        outcomes.push(over_rings(options, nextest, mark)?);
    }
    if nextest && options.only.is_none() {
        // Examples in the documentation are not nextest's business.
        let mut command = build::cargo();
        command.args(["test", "--quiet", "--workspace", "--doc"]);
        outcomes.push(stage::run("documentation tests", &mut command)?);
    }
    Ok(outcomes)
}

/// The tests of unions once more, with io_uring between the kernel and the server; not those that end
/// the server, which take minutes and do not ask what brought the request.
fn over_rings(options: &Options, nextest: bool, mark: &str) -> Result<Outcome> {
    let mut command = build::cargo();
    if nextest {
        command.args(["nextest", "run", "--package", "rbox-tests"]);
        command.args(["--no-fail-fast", "--run-ignored", "all", "--no-tests=pass"]);
        let unions = ["binary(/^union/)", "not test(~privileged_union_crashes_)"];
        command.args(["-E", &filter(options, &unions)]);
    } else {
        command.args(["test", "--package", "rbox-tests", "--test", "union*"]);
        command.args(["--no-fail-fast", "--", "--include-ignored"]);
        command.args(["--skip", "privileged_union_crashes_"]);
        skip(&mut command, options);
    }
    command
        .env(machine::MARK, mark)
        .env("RBOX_BIN", build::directory("debug").join("rbox"))
        .env(lab::rings::TRANSPORT, "ring");
    stage::run("tests of unions over io_uring", &mut command)
}

/// What nextest shall run, as an expression; empty for everything.
fn filter(options: &Options, and: &[&str]) -> String {
    let mut filters: Vec<String> = and.iter().map(|one| (*one).to_owned()).collect();
    if options.quick {
        filters.extend(SLOW.iter().map(|name| format!("not test(~{name})")));
    }
    if let Some(name) = &options.only {
        filters.push(format!("(test(~{name}) or binary(~{name}))"));
    }
    filters.join(" and ")
}

fn skip(command: &mut Command, options: &Options) {
    if options.quick {
        for name in SLOW {
            command.args(["--skip", name]);
        }
    }
}

fn with_nextest(options: &Options, root: bool) -> Command {
    let mut command = build::cargo();
    command.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
    if root {
        command.args(["--run-ignored", "all"]);
    }
    let filter = filter(options, &[]);
    if !filter.is_empty() {
        command.args(["-E", &filter]);
    }
    command
}

fn with_cargo(options: &Options, root: bool) -> Command {
    let mut command = build::cargo();
    let file = options.only.as_deref().filter(|name| {
        let path = format!("tests/tests/{name}.rs");
        build::top().join(path).is_file()
    });
    match file {
        Some(name) => command.args(["test", "--package", "rbox-tests", "--test", name, "--"]),
        None => command.args(["test", "--workspace", "--no-fail-fast", "--"]),
    };
    if root {
        command.arg("--include-ignored");
    }
    skip(&mut command, options);
    if let (Some(name), None) = (&options.only, file) {
        command.arg(name);
    }
    command
}

/// What the run has left on the machine.
fn left(before: &Machine, mark: &str) -> Outcome {
    println!("== the machine afterwards");
    let begin = Instant::now();
    let mut changes = Vec::new();
    // A process that was killed a moment ago may take one to vanish.
    for _ in 0..50 {
        changes = Machine::look().changes_since(before);
        changes.extend(machine::processes(mark));
        if changes.is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    for change in &changes {
        println!("the tests changed this machine: {change}");
    }
    Outcome {
        name: "machine left as it was".to_owned(),
        passed: usize::from(changes.is_empty()),
        failed: usize::from(!changes.is_empty()),
        took: begin.elapsed(),
        counted: true,
    }
}

fn summary(outcomes: &[Outcome], not_run: &[String], begin: Instant) -> bool {
    println!("== summary");
    for one in outcomes {
        let verdict = if one.failed == 0 { "ok" } else { "FAILED" };
        println!(
            "{:<24} {verdict:<6} {:>4} passed {:>3} failed {:>6.1} s",
            one.name,
            one.passed,
            one.failed,
            one.took.as_secs_f64()
        );
    }
    for one in not_run {
        println!("not run: {one}");
    }
    println!("took {:.0} s", begin.elapsed().as_secs_f64());
    let passed: usize = outcomes.iter().map(|one| one.passed).sum();
    let failed: usize = outcomes.iter().map(|one| one.failed).sum();
    println!("{passed} passed, {failed} failed");
    failed == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        assert_eq!(parse(&[]).unwrap(), Options::default());
        let options = parse(&["--quick", "--only", "network"]).unwrap();
        assert!(options.quick);
        assert_eq!(options.only.as_deref(), Some("network"));
        assert!(parse(&["--only"]).is_err());
        assert!(parse(&["--fast"]).is_err());
    }
}

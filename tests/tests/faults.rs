//! Every fault point of every way to start and end a container: whatever dies there, the next
//! command finds a consistent state and clears up.
#![allow(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use lab::{Lab, Snapshot, until};

const ACTIONS: [&str; 3] = ["error", "kill", "kill-parent"];

/// A way to use rbox, with what must be there before.
#[derive(Clone, Copy)]
struct Scenario {
    name: &'static str,
    /// Commands that prepare it, without faults.
    before: &'static [&'static [&'static str]],
    /// The command in which the fault happens.
    words: &'static [&'static str],
}

const RUN_NONE: Scenario = Scenario {
    name: "run --network none",
    before: &[],
    words: &[
        "run",
        "--rm",
        "--network",
        "none",
        "--name",
        "it",
        "busybox",
        "true",
    ],
};

const RUN_BRIDGE: Scenario = Scenario {
    name: "run",
    before: &[],
    words: &["run", "--rm", "--name", "it", "busybox", "true"],
};

const RUN_NAMED: Scenario = Scenario {
    name: "run --network un1",
    before: &[],
    words: &[
        "run",
        "--rm",
        "--network",
        "un1",
        "--network-alias",
        "web",
        "--name",
        "it",
        "busybox",
        "true",
    ],
};

const RUN_BOTH: Scenario = Scenario {
    name: "run --network shut --network un1 -p",
    before: &[],
    words: &[
        "run",
        "--rm",
        "--network",
        "shut",
        "--network",
        "un1",
        "-p",
        "8080:80",
        "--name",
        "it",
        "busybox",
        "true",
    ],
};

const RUN_PORT: Scenario = Scenario {
    name: "run -d -p",
    before: &[],
    words: &[
        "run",
        "-d",
        "--name",
        "it",
        "-p",
        "8080:80",
        "-p",
        "8081:81/udp",
        "busybox",
        "sleep",
        "1000",
    ],
};

const CREATE: Scenario = Scenario {
    name: "create",
    before: &[],
    words: &["create", "--name", "it", "-p", "8080:80", "busybox", "true"],
};

const START: Scenario = Scenario {
    name: "start",
    before: &[&[
        "create", "--name", "it", "-p", "8080:80", "busybox", "sleep", "1000",
    ]],
    words: &["start", "it"],
};

const STOP: Scenario = Scenario {
    name: "stop",
    before: &[&[
        "run", "-d", "--name", "it", "-p", "8080:80", "busybox", "sleep", "1000",
    ]],
    words: &["stop", "-t", "0", "it"],
};

const RM: Scenario = Scenario {
    name: "rm -f",
    before: &[&[
        "run", "-d", "--name", "it", "-p", "8080:80", "busybox", "sleep", "1000",
    ]],
    words: &["rm", "-f", "it"],
};

const EXEC: Scenario = Scenario {
    name: "exec",
    before: &[&["run", "-d", "--name", "it", "busybox", "sleep", "1000"]],
    words: &["exec", "it", "true"],
};

const RUN_UNIONS: Scenario = Scenario {
    name: "run -v union:/data --rootfs-union",
    before: &[],
    words: &[
        "run",
        "--rm",
        "--network",
        "none",
        "--name",
        "it",
        "--rootfs-union",
        "/run/top=rw:/run/low=ro",
        "-v",
        "shared:/data",
        "-v",
        "/run/top=ro:/run/low=ro:/own",
        "busybox",
        "true",
    ],
};

const START_UNIONS: Scenario = Scenario {
    name: "start with unions",
    before: &[&[
        "create",
        "--network",
        "none",
        "--name",
        "it",
        "--rootfs-union",
        "/run/top=rw:/run/low=ro",
        "-v",
        "shared:/data",
        "busybox",
        "sleep",
        "1000",
    ]],
    words: &["start", "it"],
};

const EXPORT_UNION: Scenario = Scenario {
    name: "export of a root that is a union",
    before: &[&[
        "create",
        "--network",
        "none",
        "--name",
        "it",
        "--rootfs-union",
        "/run/top=rw:/run/low=ro",
        "busybox",
        "true",
    ]],
    words: &["export", "-o", "/run/exported", "it"],
};

/// A lab at rest with branches and a volume of them.
fn lab_with_unions() -> (Lab, Snapshot) {
    let lab = Lab::with_busybox();
    lab.sh("mkdir /run/top /run/low; echo low > /run/low/file
         rbox volume create -d union -o dirs=/run/top=rw:/run/low=ro shared");
    at_rest(lab, &["none"])
}

/// All that a clean engine leaves: taken after a warm-up, so that the shared bridge is there.
fn lab_at_rest() -> (Lab, Snapshot) {
    at_rest(Lab::with_busybox(), &["bridge", "none"])
}

fn at_rest(lab: Lab, networks: &[&str]) -> (Lab, Snapshot) {
    for network in networks {
        lab.rbox(["run", "--rm", "--network", *network, "busybox", "true"])
            .run()
            .success();
    }
    let rest = Snapshot::take(&lab);
    (lab, rest)
}

/// The fault points that a scenario passes, in the command itself and in its monitor.
#[track_caller]
fn points(lab: &Lab, scenario: Scenario) -> BTreeSet<String> {
    let list = lab.directory().join("points").display().to_string();
    let fault = format!("*:any:list:{list}");
    for words in scenario.before {
        // The monitor that is started here is the one that ends later.
        lab.rbox(*words).env("RBOX_FAULT", &fault).run().success();
    }
    let started = lab.read(&list).unwrap_or_default().lines().count();
    lab.rbox(scenario.words)
        .env("RBOX_FAULT", &fault)
        .run()
        .success();
    lab.rbox(["rm", "-f", "it"]).env("RBOX_FAULT", &fault).run();
    let text = lab.read(&list).unwrap_or_default();
    lab.sh(&format!("rm -f {list}"));
    let skip = if scenario.before.is_empty() {
        0
    } else {
        started
    };
    text.lines().skip(skip).map(str::to_owned).collect()
}

/// Whether what `ps -a` and `inspect` say is true of every container, and it can be worked with.
fn states(lab: &Lab) -> Result<Vec<String>, String> {
    let format = "{{.ID}} {{.State}} {{.Names}}";
    let output = lab
        .rbox(["ps", "-a", "--no-trunc", "--format", format])
        .run();
    if !output.status.success() {
        return Err(format!("ps -a: {}", output.errors()));
    }
    let mut ids = Vec::new();
    for line in output.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [id, state, "it"] = words[..] else {
            return Err(format!("ps -a shows {line:?}"));
        };
        let pid = lab.rbox(["inspect", "-f", "{{.State.Pid}}", id]).run();
        if !pid.status.success() {
            return Err(format!("{line}: inspect: {}", pid.errors()));
        }
        let pid = pid.text();
        let process = format!("/proc/{pid}");
        let lives = pid != "0"
            && lab
                .command("test")
                .args(["-d", &process])
                .run()
                .status
                .success();
        if lives != (state == "running") || !["created", "running", "exited"].contains(&state) {
            return Err(format!("{line}, process {pid} lives: {lives}"));
        }
        if state == "running" {
            let output = lab.rbox(["exec", id, "true"]).run();
            if !output.status.success() {
                return Err(format!("{line}: exec: {}", output.errors()));
            }
        }
        ids.push(id.to_owned());
    }
    Ok(ids)
}

/// What must hold after a fault: every container is listed in a state that is true, none runs
/// without a monitor, and after removing them nothing is left.
fn consistent(lab: &Lab, rest: &Snapshot, what: &str) -> Result<(), String> {
    let limit = Duration::from_secs(5);
    // A monitor whose command has died goes on by itself: what it says must become true.
    let mut last = String::new();
    let ids = until(limit, || states(lab).map_err(|why| last = why).ok());
    let ids = ids.ok_or_else(|| format!("{what}: {last}"))?;
    for id in ids {
        let output = lab.rbox(["rm", "-f", &id]).run();
        if !output.status.success() {
            return Err(format!("{what}: rm -f: {}", output.errors()));
        }
    }
    let mut left = String::new();
    let clean = until(limit, || {
        // A monitor may die after its command has returned: any command clears up after it.
        lab.rbox(["ps", "-aq"]).run();
        left = Snapshot::take(lab).difference(rest);
        left.is_empty().then_some(())
    });
    clean.ok_or_else(|| format!("{what}: left behind or lost:\n{left}"))
}

/// One fault, and what holds afterwards.
fn one(lab: &Lab, rest: &Snapshot, scenario: Scenario, fault: &str) -> Result<(), String> {
    let what = format!("{} with {fault}", scenario.name);
    let run = |words: &[&str]| -> Result<bool, String> {
        // What the monitor passes at its end it must meet too: the fault is there from the start.
        let command = lab
            .rbox(words)
            .env("RBOX_FAULT", fault)
            .limit(Duration::from_secs(20));
        let output = catch_unwind(AssertUnwindSafe(|| command.run()))
            .map_err(|panic| format!("{what}: {}", text_of(&panic)))?;
        let errors = output.errors();
        if errors.contains("panicked") {
            return Err(format!("{what}: {errors}"));
        }
        if output.status.code().is_some_and(|code| code != 0)
            && errors.is_empty()
            && words[0] != "exec"
        {
            return Err(format!("{what}: fails without a word"));
        }
        Ok(output.status.success())
    };
    for words in scenario.before {
        if !run(words)? {
            return consistent(lab, rest, &what);
        }
    }
    run(scenario.words)?;
    consistent(lab, rest, &what)
}

fn text_of(panic: &Box<dyn std::any::Any + Send>) -> String {
    let text = panic.downcast_ref::<String>();
    text.map_or_else(
        || "panicked".to_owned(),
        |text| text.lines().take(3).collect::<Vec<_>>().join(" "),
    )
}

/// Each point, each action.
fn every_fault(scenario: Scenario) {
    every_fault_in(lab_at_rest(), scenario);
}

fn every_fault_in((lab, rest): (Lab, Snapshot), scenario: Scenario) {
    let points = points(&lab, scenario);
    assert!(
        points.len() >= 2,
        "{}: no fault points were passed: {points:?}",
        scenario.name
    );
    consistent(&lab, &rest, "listing the points").unwrap();
    let mut failures = Vec::new();
    for point in &points {
        for action in ACTIONS {
            if let Err(why) = one(&lab, &rest, scenario, &format!("{point}:{action}")) {
                failures.push(why);
                // The rest of the points deserve a clean start, if there is one to be had.
                lab.sh("rbox rm -f $(rbox ps -aq) > /dev/null 2>&1 || :");
            }
        }
        if failures.len() >= 10 {
            break;
        }
    }
    let count = points.len() * ACTIONS.len();
    assert!(
        failures.is_empty(),
        "{} of {count} faults:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_run_without_network() {
    every_fault(RUN_NONE);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_run_on_the_bridge() {
    every_fault(RUN_BRIDGE);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_run_on_two_networks() {
    let lab = Lab::with_busybox();
    for words in [
        "un1",
        "-o com.docker.network.bridge.enable_icc=false --ipv6 shut",
    ] {
        let create = lab.rbox(["network", "create"]).args(words.split(' '));
        create.run().success();
    }
    every_fault_in(at_rest(lab, &["bridge", "un1", "shut"]), RUN_BOTH);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_run_with_names() {
    let lab = Lab::with_busybox();
    lab.rbox(["network", "create", "un1"]).run().success();
    every_fault_in(at_rest(lab, &["bridge", "un1"]), RUN_NAMED);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_run_with_ports() {
    every_fault(RUN_PORT);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_start() {
    every_fault(START);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_run_with_unions() {
    every_fault_in(lab_with_unions(), RUN_UNIONS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_start_with_unions() {
    every_fault_in(lab_with_unions(), START_UNIONS);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_export_of_a_union() {
    every_fault_in(lab_with_unions(), EXPORT_UNION);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_stop() {
    every_fault(STOP);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_rm() {
    every_fault(RM);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_exec() {
    every_fault(EXEC);
}

#[test]
#[ignore = "needs root: run by cargo xtask test"]
fn privileged_fault_kill_at_random_moments() {
    // Not only at the points: the command is killed after a growing pause, wherever it then is.
    let (lab, rest) = lab_at_rest();
    for pause in 0..60 {
        for scenario in [RUN_BRIDGE, RUN_PORT, CREATE] {
            let running = lab.rbox(scenario.words).spawn();
            std::thread::sleep(Duration::from_micros(pause * 500));
            drop(running);
            let what = format!("{} killed after {} µs", scenario.name, pause * 500);
            // A monitor that was started goes on to the end of what it does.
            let mut why = String::new();
            let good = until(Duration::from_secs(5), || {
                consistent(&lab, &rest, &what)
                    .map_err(|error| why = error)
                    .ok()
            });
            assert!(good.is_some(), "{why}");
        }
    }
}

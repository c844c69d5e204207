//! How long a container takes from the command's start to its end, and where that time goes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::peers::{self, Contestant, Ground, REFERENCE, contestant};
use super::{Bench, PAUSE, Table, median};

/// The three starts that people make every day.
fn ours() -> Vec<Contestant> {
    vec![
        contestant(
            "rbox run --network none",
            "rbox run --rm --network none busybox true",
        ),
        contestant("rbox run", "rbox run --rm busybox true"),
        contestant("rbox run -p", "rbox run --rm -p 8080:80 busybox true"),
    ]
}

/// Wall time of whole commands, interleaved: each round runs every contestant once. What each cost
/// in processor time is read after the pause, when its helpers and daemons have come to rest.
pub(crate) fn whole(bench: &mut Bench) -> Result<Table> {
    let (mut all, mut grounds) = peers::all(&bench.lab, &mut bench.watch)?;
    all.extend(ours());
    if grounds.hybrid() {
        all.extend(ours().into_iter().map(|mut one| {
            one.name += ", cgroup v1";
            one.on(Ground::Version1)
        }));
    }
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    let mut costs: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    std::thread::sleep(PAUSE);
    // The first round warms up and is not counted.
    for round in 0..=bench.rounds {
        for (index, one) in all.iter().enumerate() {
            let before = grounds.used(one.ground);
            let took = grounds.watch(one.ground).time(&one.words)?;
            std::thread::sleep(PAUSE);
            if round > 0 {
                times[index].push(took.as_secs_f64() * 1000.0);
                costs[index].push(grounds.used(one.ground) - before);
            }
        }
    }
    let reference = all.iter().position(|one| one.name == REFERENCE);
    let rows = all
        .iter()
        .zip(times.iter().zip(&costs))
        .map(|(one, (own, cost))| {
            let ratio = reference.map_or(f64::NAN, |index| {
                let pairs = own.iter().zip(&times[index]);
                median(
                    &pairs
                        .map(|(ours, theirs)| ours / theirs)
                        .collect::<Vec<_>>(),
                )
            });
            let least = own.iter().copied().fold(f64::INFINITY, f64::min);
            (
                one.name.clone(),
                vec![median(own), least, ratio, median(cost)],
            )
        })
        .collect();
    Ok(Table {
        title: format!(
            "run --rm IMAGE true: wall time in ms, {} rounds interleaved; the ratio is the median of \
             pairs with {REFERENCE:?}; cpu is the processor time of all processes in ms",
            bench.rounds
        ),
        columns: vec!["median", "least", "ratio", "cpu"],
        rows,
    })
}

/// The time of every step of a start with one published port, from `RBOX_TIMINGS`.
pub(crate) fn steps(bench: &mut Bench) -> Result<Table> {
    let path = bench.lab.directory().join("timings");
    // In order of first appearance: lane and step → begins and durations in µs.
    let mut order: Vec<String> = Vec::new();
    let mut times: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for _ in 0..bench.rounds {
        std::thread::sleep(PAUSE);
        let _ = std::fs::remove_file(&path);
        let variable = format!("RBOX_TIMINGS={}", path.display());
        let mut words = vec!["env".to_owned(), variable];
        words.extend(ours().pop().map(|one| one.words).unwrap_or_default());
        bench.watch.time(&words)?;
        let text = std::fs::read_to_string(&path).context("rbox has written no times")?;
        for line in text.lines() {
            let line: Value = serde_json::from_str(line)?;
            let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| line[key].as_f64().unwrap_or(f64::NAN);
            let name = format!("{:<8} {}", word("lane"), word("step"));
            if !times.contains_key(&name) {
                order.push(name.clone());
            }
            let (begins, durations) = times.entry(name).or_default();
            begins.push(number("begin_us"));
            durations.push(number("us"));
        }
    }
    let rows = order
        .into_iter()
        .map(|name| {
            let (begins, durations) = &times[&name];
            let row = vec![median(begins).round(), median(durations).round()];
            (name, row)
        })
        .collect();
    Ok(Table {
        title: "steps of rbox run --rm -p: medians in µs".to_owned(),
        columns: vec!["begin", "time"],
        rows,
    })
}

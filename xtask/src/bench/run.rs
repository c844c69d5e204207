//! How long a container takes from the command's start to its end, and where that time goes.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

use super::peers::{self, Contestant, REFERENCE, contestant};
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

/// Wall time of whole commands, interleaved: each round runs every contestant once.
pub(crate) fn whole(bench: &mut Bench) -> Result<Table> {
    let mut all = peers::all(&bench.lab)?;
    all.extend(ours());
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
    // The first round warms up and is not counted.
    for round in 0..=bench.rounds {
        for (index, one) in all.iter().enumerate() {
            std::thread::sleep(PAUSE);
            let took = bench.watch.time(&one.words)?.as_secs_f64() * 1000.0;
            if round > 0 {
                times[index].push(took);
            }
        }
    }
    let reference = all.iter().position(|one| one.name == REFERENCE);
    let rows = all
        .iter()
        .zip(&times)
        .map(|(one, own)| {
            let ratio = reference.map_or(f64::NAN, |index| {
                let pairs = own.iter().zip(&times[index]);
                median(
                    &pairs
                        .map(|(ours, theirs)| ours / theirs)
                        .collect::<Vec<_>>(),
                )
            });
            let least = own.iter().copied().fold(f64::INFINITY, f64::min);
            (one.name.clone(), vec![median(own), least, ratio])
        })
        .collect();
    Ok(Table {
        title: format!(
            "run --rm IMAGE true: wall time in ms, {} rounds interleaved; the ratio is the median of \
             pairs with {REFERENCE:?}",
            bench.rounds
        ),
        columns: vec!["median", "least", "ratio"],
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

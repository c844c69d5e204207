//! `cargo xtask bench`: times and sizes of rbox beside other engines, printed and never asserted.
//!
//! A bench is a function of [`Bench`] that returns a [`Table`]; add it to [`ALL`]. All tables are
//! printed and written to `target/bench.json`.

mod links;
mod names;
mod peers;
mod run;
mod size;
mod traffic;
mod union;
mod volumes;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::Lab;
use serde_json::{Map, Value, json};

use crate::stopwatch::Stopwatch;
use crate::{build, packages};

/// What a bench is given.
pub(crate) struct Bench {
    /// A throw-away host with the `dist` build of rbox and the image `busybox`.
    pub(crate) lab: Lab,
    /// Measures commands in it.
    pub(crate) watch: Stopwatch,
    /// The program that is measured.
    pub(crate) rbox: PathBuf,
    /// How often everything is repeated.
    pub(crate) rounds: usize,
}

/// What a bench has found.
pub(crate) struct Table {
    /// What was measured, and how.
    pub(crate) title: String,
    /// Names of the columns after the first.
    pub(crate) columns: Vec<&'static str>,
    /// The rows: a name and a value per column.
    pub(crate) rows: Vec<(String, Vec<f64>)>,
}

type Function = fn(&mut Bench) -> Result<Table>;

/// All benches, in the order in which they run.
const ALL: &[(&str, Function)] = &[
    ("run", run::whole),
    ("steps", run::steps),
    ("names", names::look_ups),
    ("links", links::dense),
    ("traffic", traffic::ways),
    ("size", size::sizes),
    ("copy-up", volumes::copy_up),
    ("volume-io", volumes::io),
    ("union", union::speed),
];

/// Between two measured runs: the kernel takes time to clear up a network namespace, and the next
/// one would pay for it.
pub(crate) const PAUSE: Duration = Duration::from_millis(60);

/// Runs all benches or the one named.
pub(crate) fn run(words: &[&str]) -> Result<bool> {
    packages::root("the bench")?;
    packages::provide(packages::LAB)?;
    packages::provide(packages::BENCH)?;
    let wanted: Vec<_> = match words {
        [] => ALL.iter().collect(),
        [name] => ALL.iter().filter(|(one, _)| one == name).collect(),
        _ => bail!("cargo xtask bench takes one name or none"),
    };
    if wanted.is_empty() {
        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        bail!("there is no such bench; there are: {}", names.join(", "));
    }
    println!("Building rbox as it is shipped (this takes minutes) …");
    let rbox = build::program("rbox", "rbox", "dist")?;
    let lab = Lab::with_program(&rbox);
    lab::fixture::busybox(&lab);
    let watch = Stopwatch::new(&lab)?;
    let mut bench = Bench {
        lab,
        watch,
        rbox,
        rounds: 20,
    };
    let mut document = Map::new();
    for (name, function) in wanted {
        let table = function(&mut bench).with_context(|| format!("bench {name}"))?;
        print!("{}", table.text());
        document.insert((*name).to_owned(), table.json());
    }
    let path = build::top().join("target/bench.json");
    let text = serde_json::to_string_pretty(&Value::Object(document))?;
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    println!("\nwritten to {}", path.display());
    Ok(true)
}

impl Table {
    fn text(&self) -> String {
        use std::fmt::Write as _;

        let first = self.rows.iter().map(|(name, _)| name.chars().count()).max();
        let first = first.unwrap_or(0).max(10);
        let mut text = format!("\n{}\n\n{:first$}", self.title, "");
        for column in &self.columns {
            let _ = write!(text, "{column:>15}");
        }
        text.push('\n');
        for (name, values) in &self.rows {
            let _ = write!(text, "{name:first$}");
            for value in values {
                let _ = match value {
                    value if value.is_nan() => write!(text, "{:>15}", "-"),
                    value if value.fract() == 0.0 => write!(text, "{value:>15.0}"),
                    value => write!(text, "{value:>15.2}"),
                };
            }
            text.push('\n');
        }
        text
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|(name, values)| {
                let mut row = Map::new();
                row.insert("name".to_owned(), json!(name));
                for (column, value) in self.columns.iter().zip(values) {
                    row.insert((*column).to_owned(), json!(value));
                }
                Value::Object(row)
            })
            .collect();
        json!({"title": self.title, "rows": rows})
    }
}

/// The value in the middle.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!(median(&[]).is_nan());
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn a_table_is_aligned() {
        let table = Table {
            title: "t".to_owned(),
            columns: vec!["a", "b"],
            rows: vec![("name".to_owned(), vec![1.0, 2.345])],
        };
        assert_eq!(
            table.text(),
            "\nt\n\n                        a              b\nname                    1           2.35\n"
        );
    }
}
